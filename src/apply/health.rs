//! Health of a workspace's endpoints: one cohort's failure stops the other cohorts of the same endpoint.

use std::sync::OnceLock;

use super::stop::ApplyStop;
use crate::connector::destination::DeliveryEndpoint;

/// The failed endpoints of a workspace. When requests of one cohort fail for a reason that applies to the whole
/// endpoint, the other cohorts of this endpoint stop too. Cohorts of other endpoints continue.
#[derive(Debug, Default)]
pub struct ConnectionHealth([OnceLock<ApplyStop>; 3]);

impl ConnectionHealth {
    /// Fails if the endpoint has failed.
    pub(super) fn check(&self, endpoint: DeliveryEndpoint) -> Result<(), ApplyStop> {
        self.0[endpoint as usize].get().map_or(Ok(()), |stop| Err(stop.clone()))
    }

    /// Marks the endpoint as failed if the reason applies to all of it. Returns the reason to stop.
    pub(super) fn report(&self, endpoint: DeliveryEndpoint, stop: ApplyStop) -> ApplyStop {
        match stop {
            ApplyStop::Unauthorized(_)
            | ApplyStop::Unavailable(_)
            | ApplyStop::RateLimited(_)
            | ApplyStop::Foreign(..)
            | ApplyStop::Unexpected(..) => self.0[endpoint as usize].get_or_init(|| stop).clone(),
            other => other,
        }
    }
}
