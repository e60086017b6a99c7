//! Braze as the workspace of a run: its delivery methods, its triggers and its profiles.

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::client::BrazeClient;
use super::keys::ImportKeys;
use super::wire;
use crate::config::Secret;
use crate::connector::destination::{
    DeliveryEndpoint, Destination, ProfileLookup, RequestFailure, RequestOutcome, TriggerEndpoint, Workspace,
};
use crate::connector::rate_limit::RateLimiter;
use crate::model::{ChangeOp, CohortId, DeliveryMethod, Identifier, Timestamp, timestamp_text};

impl Workspace for BrazeClient {
    fn destination<'a>(&'a self, delivery: &'a DeliveryMethod) -> Option<Box<dyn Destination + 'a>> {
        let keys = match delivery {
            DeliveryMethod::CohortImport => DeliveryKeys::CohortImport(self.keys.import.as_ref()?),
            DeliveryMethod::Array(_) | DeliveryMethod::Boolean(_) => {
                DeliveryKeys::Attribute(self.keys.rest.as_ref()?, delivery)
            }
        };
        Some(Box::new(BrazeDestination { client: self, keys }))
    }

    fn triggers(&self) -> &dyn TriggerEndpoint {
        self
    }

    fn profiles(&self) -> Option<&dyn ProfileLookup> {
        self.rest().map(|rest| rest as &dyn ProfileLookup)
    }
}

/// A delivery method of a workspace.
struct BrazeDestination<'a> {
    client: &'a BrazeClient,
    keys: DeliveryKeys<'a>,
}

/// The keys of a delivery method.
#[derive(Clone, Copy)]
enum DeliveryKeys<'a> {
    /// The partner's cohort import.
    CohortImport(&'a ImportKeys),
    /// An attribute of user profiles.
    Attribute(&'a Secret, &'a DeliveryMethod),
}

impl Destination for BrazeDestination<'_> {
    fn endpoint(&self) -> DeliveryEndpoint {
        match self.keys {
            DeliveryKeys::CohortImport(_) => DeliveryEndpoint::CohortImport,
            DeliveryKeys::Attribute(..) => DeliveryEndpoint::UserAttributes,
        }
    }

    fn rate_limiter(&self) -> &RateLimiter {
        match self.keys {
            DeliveryKeys::CohortImport(_) => &self.client.import_limiter,
            DeliveryKeys::Attribute(..) => &self.client.track_limiter,
        }
    }

    fn is_resend_free(&self) -> bool {
        self.endpoint() == DeliveryEndpoint::CohortImport
    }

    fn slots(&self) -> Option<&Semaphore> {
        Some(&self.client.slots)
    }

    /// An attribute has no cohort name, so nothing is sent for it.
    fn name_cohort<'a>(
        &'a self,
        cohort: &'a CohortId,
        name: &'a str,
        created_at: Timestamp,
    ) -> BoxFuture<'a, RequestOutcome> {
        Box::pin(async move {
            let DeliveryKeys::CohortImport(keys) = self.keys else {
                self.rate_limiter().release();
                return RequestOutcome::Failed(RequestFailure::BadRequest(
                    "an attribute has no cohort name".to_owned(),
                ));
            };
            self.client.post_cohort(wire::name(keys, cohort, name, &timestamp_text(created_at))).await.outcome
        })
    }

    fn change<'a>(
        &'a self,
        cohort: &'a CohortId,
        op: ChangeOp,
        members: &'a [Identifier<'a>],
    ) -> BoxFuture<'a, RequestOutcome> {
        Box::pin(async move {
            let outcome = match self.keys {
                DeliveryKeys::CohortImport(keys) => {
                    let (body, layout) = wire::change(keys, cohort, op, members);
                    self.client.post_cohort_users(body, &layout).await.outcome
                }
                DeliveryKeys::Attribute(key, delivery) => {
                    let (body, layout) = wire::attributes(delivery, cohort, op, members);
                    self.client.post_attributes(key, body, &layout).await.outcome
                }
            };
            outcome.without_users(members)
        })
    }
}
