//! What all parts of the leader work with: config, clients, state, status and clock. Only the leader replaces the config
//! and the clients; the parts read them.

use std::sync::Arc;

use super::environment::{ClientAccess, WatchEnvironment};
use super::status::WatchStatus;
use crate::apply::Interrupt;
use crate::config::{CohortConfig, Config, ExportConfig, SegmentConfig};
use crate::model::{Clock, CohortId, ExportId, SegmentId};
use crate::reconcile::BrazeClients;
use crate::retry::RetryPolicy;
use crate::state::StateWriter;

/// Shared by all parts of the leader.
pub(super) struct LeaderContext {
    pub(super) config: Arc<Config>,
    /// Addresses and secrets of the config.
    pub(super) access: Arc<ClientAccess>,
    pub(super) braze: BrazeClients,
    pub(super) environment: Arc<dyn WatchEnvironment>,
    pub(super) state: Arc<StateWriter>,
    pub(super) status: Arc<WatchStatus>,
    pub(super) clock: Clock,
    /// Set when the leader stops.
    pub(super) interrupt: Interrupt,
}

impl LeaderContext {
    pub(super) fn cohort(&self, id: &CohortId) -> Option<&CohortConfig> {
        self.config.cohorts.iter().find(|cohort| cohort.id == *id)
    }

    pub(super) fn export(&self, id: &ExportId) -> Option<&ExportConfig> {
        self.config.exports.iter().find(|export| export.id == *id)
    }

    pub(super) fn segment(&self, id: &SegmentId) -> Option<&SegmentConfig> {
        self.config.checked_segments().find(|segment| segment.id == *id)
    }

    /// The retries of failed runs, without an end.
    pub(super) fn retry(&self) -> RetryPolicy {
        let watch = &self.config.watch;
        RetryPolicy { attempts: u32::MAX, first_wait: watch.first_wait, longest_wait: watch.longest_wait }
    }

    /// A random number from 0 to 1, which spreads retries.
    #[allow(clippy::cast_precision_loss, reason = "a random number needs no precision")]
    pub(super) fn jitter(&self) -> f64 {
        (self.environment.random() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
