//! Destination that sends members through the partner's cohort import.

use futures_util::future::BoxFuture;
use tokio::sync::SemaphorePermit;

use super::client::BrazeClient;
use super::keys::ImportKeys;
use super::wire;
use crate::connector::destination::{DeliveryEndpoint, Destination, RequestOutcome};
use crate::connector::rate_limit::RateLimiter;
use crate::model::{ChangeOp, CohortId, Identifier, Timestamp, timestamp_text};

/// The cohort import of a workspace.
pub(super) struct CohortImport<'a> {
    pub(super) client: &'a BrazeClient,
    pub(super) keys: &'a ImportKeys,
}

impl Destination for CohortImport<'_> {
    fn endpoint(&self) -> DeliveryEndpoint {
        DeliveryEndpoint::CohortImport
    }

    fn rate_limiter(&self) -> &RateLimiter {
        &self.client.import_limiter
    }

    fn is_resend_free(&self) -> bool {
        true
    }

    fn request_slot(&self) -> BoxFuture<'_, Option<SemaphorePermit<'_>>> {
        Box::pin(self.client.request_slot())
    }

    fn name_cohort<'a>(
        &'a self,
        cohort: &'a CohortId,
        name: &'a str,
        created_at: Timestamp,
    ) -> BoxFuture<'a, RequestOutcome> {
        let body = wire::name(self.keys, cohort, name, &timestamp_text(created_at));
        Box::pin(async move { self.client.post_cohort(body).await.outcome })
    }

    fn change<'a>(
        &'a self,
        cohort: &'a CohortId,
        op: ChangeOp,
        members: &'a [Identifier<'a>],
    ) -> BoxFuture<'a, RequestOutcome> {
        let (body, layout) = wire::change(self.keys, cohort, op, members);
        Box::pin(
            async move { self.client.post_cohort_users(body, &layout).await.outcome.without_users(members) },
        )
    }
}
