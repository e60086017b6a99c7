//! What a run works with: the inputs of a plan, the resources of an apply, and the Braze clients of the connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::apply::{ApplyContext, ConnectionHealth, Interrupt};
use crate::config::{Config, SourceAccess};
use crate::connector::braze::{BrazeClient, WorkspaceKeySet};
use crate::connector::destination::Workspace;
use crate::connector::http::HttpError;
use crate::model::{Ceilings, Clock, CohortId, ConnectionName, Progress, RunId};
use crate::retry::RetryPolicy;
use crate::source::{ReadAccess, SourceInputs};
use crate::state::{Journal, StateReader, StateWriter};

/// The inputs of a plan. Nothing in here can write.
#[derive(Clone, Copy)]
pub struct PlanInputs<'a> {
    /// The config.
    pub config: &'a Config,
    /// The state.
    pub state: &'a StateReader,
    /// The secrets of databases.
    pub secrets: &'a SourceAccess,
    /// The limits that you allowed for this run, by cohort.
    pub ceilings: &'a BTreeMap<CohortId, Ceilings>,
    /// The cohorts to plan; all of them if empty.
    pub only: &'a [CohortId],
    /// Whether identifiers that Braze rejected before are sent again.
    pub retry_rejected: bool,
    /// The id of the run.
    pub run: &'a RunId,
    /// The clock.
    pub clock: Clock,
    /// Receives progress.
    pub progress: &'a dyn Progress,
}

impl<'a> PlanInputs<'a> {
    pub(super) fn of_source(&self) -> SourceInputs<'a> {
        SourceInputs {
            access: ReadAccess { config: self.config, secrets: self.secrets },
            state: self.state,
            now: self.clock.now(),
        }
    }

    pub(super) fn includes(&self, cohort: &CohortId) -> bool {
        self.only.is_empty() || self.only.contains(cohort)
    }
}

/// The resources of an apply.
#[derive(Clone)]
pub struct ApplyResources {
    /// The state.
    pub state: Arc<StateWriter>,
    /// The clients of the connections that have keys.
    pub clients: BrazeClients,
    /// The id of the run.
    pub run: RunId,
    /// The journal of the run.
    pub journal: Arc<Journal>,
    /// The clock.
    pub clock: Clock,
    /// Receives progress.
    pub progress: Arc<dyn Progress>,
    /// Set when you want to stop.
    pub interrupt: Interrupt,
    /// The secrets of databases, for mirror tables.
    pub secrets: Arc<SourceAccess>,
}

/// The client of one workspace with its settings and its health, shared by all cohorts that are sent to it.
pub(super) struct WorkspaceClient {
    pub(super) workspace: Arc<dyn Workspace>,
    pub(super) health: ConnectionHealth,
    pub(super) retry: RetryPolicy,
    pub(super) settle_again_after: Duration,
}

impl WorkspaceClient {
    pub(super) fn apply_context<'a>(&'a self, resources: &'a ApplyResources) -> ApplyContext<'a> {
        ApplyContext {
            health: &self.health,
            retry: self.retry,
            settle_again_after: self.settle_again_after,
            state: &resources.state,
            journal: &resources.journal,
            run: &resources.run,
            clock: resources.clock,
            progress: &*resources.progress,
            interrupt: &resources.interrupt,
        }
    }
}

/// The URL and the keys of a connection.
#[derive(Clone, Debug)]
pub struct BrazeAccess {
    /// The base URL.
    pub base: String,
    /// The keys.
    pub keys: WorkspaceKeySet,
}

/// Braze clients by connection. They count requests for the rate limits, so all runs of a process share them.
pub type BrazeClients = BTreeMap<ConnectionName, Arc<BrazeClient>>;

/// Creates the clients of the connections that have access. Sends nothing.
///
/// # Errors
/// When the HTTP client cannot be created.
pub fn connect_braze(
    config: &Config,
    access: &BTreeMap<ConnectionName, BrazeAccess>,
    clock: Clock,
) -> Result<BrazeClients, HttpError> {
    let mut clients = BrazeClients::new();
    for (name, settings) in &config.braze {
        if let Some(BrazeAccess { base, keys }) = access.get(name) {
            clients.insert(name.clone(), Arc::new(BrazeClient::new(settings, base, keys.clone(), clock)?));
        }
    }
    Ok(clients)
}
