//! Destination that writes members as an attribute of user profiles.

use futures_util::future::BoxFuture;
use tokio::sync::SemaphorePermit;

use super::client::BrazeClient;
use super::wire;
use crate::config::Secret;
use crate::connector::destination::{DeliveryEndpoint, Destination, RequestOutcome};
use crate::connector::rate_limit::RateLimiter;
use crate::model::{ChangeOp, CohortId, DeliveryMethod, Identifier, Timestamp};

/// An attribute of the profiles of a workspace.
pub(super) struct UserAttributes<'a> {
    pub(super) client: &'a BrazeClient,
    pub(super) key: &'a Secret,
    pub(super) delivery: &'a DeliveryMethod,
}

impl Destination for UserAttributes<'_> {
    fn endpoint(&self) -> DeliveryEndpoint {
        DeliveryEndpoint::UserAttributes
    }

    fn rate_limiter(&self) -> &RateLimiter {
        &self.client.track_limiter
    }

    fn is_resend_free(&self) -> bool {
        false
    }

    fn request_slot(&self) -> BoxFuture<'_, Option<SemaphorePermit<'_>>> {
        Box::pin(self.client.request_slot())
    }

    /// An attribute has no cohort name. Sends nothing.
    fn name_cohort<'a>(
        &'a self,
        _cohort: &'a CohortId,
        _name: &'a str,
        _created_at: Timestamp,
    ) -> BoxFuture<'a, RequestOutcome> {
        self.client.track_limiter.release();
        let outcome = RequestOutcome::BadRequest("an attribute has no cohort name".to_owned());
        Box::pin(std::future::ready(outcome))
    }

    fn change<'a>(
        &'a self,
        cohort: &'a CohortId,
        op: ChangeOp,
        members: &'a [Identifier<'a>],
    ) -> BoxFuture<'a, RequestOutcome> {
        let (body, layout) = wire::attributes(self.delivery, cohort, op, members);
        Box::pin(async move {
            self.client.post_attributes(self.key, body, &layout).await.outcome.without_users(members)
        })
    }
}
