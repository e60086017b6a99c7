//! What `watch` needs from its host: config, credentials, clock, randomness, and texts for operators.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use super::blocked::BlockedStatus;
use crate::blocking;
use crate::config::{Config, Secret, SourceAccess};
use crate::contained::contained_as_here;
use crate::dashboard::RemedyView;
use crate::export;
use crate::model::{Clock, CohortId, ConnectionName, ExportId, RunId};
use crate::reconcile::{BrazeAccess, CohortReport, PlanError};
use crate::state::{Holder, Location, RunOrigin, StateError};
use crate::webhooks::{ListenError, TlsError};

/// The future that a trait method returns.
pub type BoxedWork<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Addresses and secrets of all connections of a config.
#[derive(Clone, Debug, Default)]
pub struct ClientAccess {
    /// The address and keys of each Braze connection.
    pub braze: BTreeMap<ConnectionName, BrazeAccess>,
    /// The REST API of each Braze connection that has segments.
    pub braze_rest: BTreeMap<ConnectionName, RestAccess>,
    /// The secrets that each Heap connection may sign its webhook with.
    pub webhook_secrets: BTreeMap<ConnectionName, Vec<Secret>>,
    /// The secrets of databases and buckets.
    pub sources: SourceAccess,
    /// The address and the environment of each Heap connection that exports send to.
    pub heaps: BTreeMap<ConnectionName, export::HeapAccess>,
    /// The tokens of the endpoints of exports.
    pub export_tokens: BTreeMap<ExportId, Vec<Secret>>,
    /// Client settings of the buckets that exports read.
    pub store_options: BTreeMap<ExportId, Vec<(String, String)>>,
    /// The webhooks for notifications, in the order of the config.
    pub notify_urls: Vec<Secret>,
}

/// Why a config cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidConfig {
    /// The problems, one per line, with their positions.
    pub lines: Vec<String>,
    /// The problems as `syncline validate` prints them, without colors: with lines of the config, and what to do. Secrets
    /// are masked.
    pub text: String,
    /// The number of problems.
    pub problems: u64,
}

impl InvalidConfig {
    /// A single problem.
    #[must_use]
    pub fn one(problem: String) -> Self {
        Self { lines: vec![problem.clone()], text: problem, problems: 1 }
    }
}

/// Address and key of a Braze REST API.
#[derive(Clone, Debug)]
pub struct RestAccess {
    /// The base URL.
    pub base: String,
    /// The key.
    pub key: Secret,
}

/// The machine and the command line, as `watch` needs them. `cli` implements it.
pub trait WatchEnvironment: Send + Sync + 'static {
    /// Reads the config and checks that all keys and secrets exist.
    ///
    /// # Errors
    /// The problems.
    fn read_config(&self) -> Result<Config, InvalidConfig>;
    /// Resolves addresses, keys and secrets, and starts sandboxes.
    ///
    /// # Errors
    /// The missing keys and secrets, as text.
    fn client_access<'a>(&'a self, config: &'a Config) -> BoxedWork<'a, Result<ClientAccess, String>>;
    /// The location of the state.
    fn location(&self, config: &Config) -> Location;
    /// What this process works on, as plans name it: environment, Braze, state, config and revision, each with its label.
    /// `state` is the location in use.
    fn target(&self, config: &Config, state: &Location) -> Vec<(&'static str, String)>;
    /// This process, as holder of the lease.
    fn holder(&self) -> Holder;
    /// Wall time and monotonic time.
    fn clock(&self) -> Clock;
    /// The id of a run that starts now.
    fn new_run(&self) -> RunId;
    /// The origin of the runs of this process.
    fn origin(&self) -> RunOrigin;
    /// An unpredictable number.
    fn random(&self) -> u64;
    /// Why a cohort could not be planned, and the remedies.
    fn explain_plan_error(&self, error: &PlanError) -> (String, Vec<RemedyView>);
    /// The command that approves a plan, by its digest. None: this is no digest.
    fn approve_command(&self, cohort: &CohortId, plan: &str) -> Option<String>;
    /// Why the guard blocked a cohort, and the remedies.
    fn explain_blocked(&self, report: &CohortReport) -> BlockedStatus;
}

/// Why `watch` exits with an error.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// An address cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Keys or secrets are missing.
    #[error("{0}")]
    Access(String),
    /// A part of the program failed.
    #[error("{0}")]
    Failed(String),
}

/// Runs blocking work on its own thread, with the caller's panic containment. None: the runtime is shutting down.
pub(super) async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match blocking::on_thread(contained_as_here(work)).await {
        Ok(done) => Some(done),
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => None,
        },
    }
}
