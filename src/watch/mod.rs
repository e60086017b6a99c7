//! Keeps everything in sync for ever: one closed enum of things that wake it, one loop, one queue.
//!
//! # Expected flow
//! Whoever gets hold of the state leads; a second process stands by and takes over when the first lets go.
//! The leader looks at everything once, and then at whatever a change, a delivery, a schedule or an approval
//! is about. A look is a run of [`crate::reconcile`] over one cohort: why it was woken, it does not know.
//!
//! # Guarantees
//! A bad config changes nothing: the last good one stays, and that is told. A refusal or a failure of one
//! cohort keeps no other waiting. Nothing is sent after the state is lost to somebody else. A stop finishes
//! what is under way and records it.
//!
//! # Caveats
//! The state's place and the addresses are taken at the start; a change of them needs a restart, and is told.

mod admin;
mod check;
mod cohort_run;
mod endpoints;
mod exports;
mod files;
mod history;
mod identity;
mod leader;
mod metrics;
mod notify;
mod on_done;
mod queue;
mod reload;
mod schedule;
mod service;
mod settings;
mod sources;
mod standby;
mod status;
mod view_model;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::config::{Config, Secret, SourceAccess};
use crate::contained::contained_as_here;
use crate::dashboard::RemedyView;
use crate::export;
use crate::model::{Clock, ConnectionName, ExportId, RunId};
use crate::reconcile::{BrazeAccess, CohortReport, PlanError};
use crate::state::{Holder, Location, StateError};
use crate::webhooks::{Endpoints, ListenError, Listener, Listening, TlsError};

use admin::Admin;
pub use status::BlockedStatus;

use leader::{Leader, LeaderEnd};
use service::{Service, SignalListener};
use standby::{Standby, StandbyEnd};
use status::WatchStatus;

/// How long the admin address and the doors have at least to give the answers that are under way.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// What a future that a trait returns looks like.
pub type BoxedWork<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs work that blocks on a thread of its own, contained as its caller is. None: the runtime ends.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(contained_as_here(work)).await {
        Ok(done) => Some(done),
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => None,
        },
    }
}

/// How the vendors are reached, and what must stay secret.
#[derive(Clone, Debug, Default)]
pub struct ClientAccess {
    /// Where each Braze is, and its keys.
    pub access: BTreeMap<ConnectionName, BrazeAccess>,
    /// Where the REST side of each Braze is that has segments, and its key.
    pub rest: BTreeMap<ConnectionName, RestAccess>,
    /// What each Heap may sign with.
    pub webhooks: BTreeMap<ConnectionName, Vec<Secret>>,
    /// The secrets of databases.
    pub secrets: SourceAccess,
    /// Where each Heap is that exports send to, and which environment of it is meant.
    pub heaps: BTreeMap<ConnectionName, export::HeapAccess>,
    /// The tokens of the doors of exports.
    pub tokens: BTreeMap<ExportId, Vec<Secret>>,
    /// Settings of the clients of buckets that exports read.
    pub store_options: BTreeMap<ExportId, Vec<(String, String)>>,
    /// Whom to notify, in the order of the config.
    pub notify: Vec<Secret>,
}

/// Where a REST side is, and its key.
#[derive(Clone, Debug)]
pub struct RestAccess {
    /// The base URL.
    pub base: String,
    /// The key.
    pub key: Secret,
}

/// The machine and the command line, as the loop needs them. `cli` has the real ones.
pub trait WatchEnvironment: Send + Sync + 'static {
    /// Reads the config, and sees to it that its keys and secrets are there.
    ///
    /// # Errors
    /// Its problems, in words.
    fn config(&self) -> Result<Config, String>;
    /// Finds keys and secrets, and starts sandboxes.
    ///
    /// # Errors
    /// What is missing, in words.
    fn reach<'a>(&'a self, config: &'a Config) -> BoxedWork<'a, Result<ClientAccess, String>>;
    /// Where the state is.
    fn location(&self, config: &Config) -> Location;
    /// This process.
    fn holder(&self) -> Holder;
    /// The time.
    fn clock(&self) -> Clock;
    /// A name for a run that begins now.
    fn new_run(&self) -> RunId;
    /// A number nobody can guess.
    fn random(&self) -> u64;
    /// Why a cohort could not be planned, and the ways out.
    fn plan_error(&self, error: &PlanError) -> (String, Vec<RemedyView>);
    /// What the guard withheld of a cohort, and the ways out.
    fn refusals(&self, report: &CohortReport) -> BlockedStatus;
}

/// Why `watch` ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// An address cannot be had.
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
    Reach(String),
    /// A part of the program failed.
    #[error("{0}")]
    Failed(String),
}

/// Where things are listened for, once they are.
#[derive(Clone, Debug)]
pub struct ListenAddresses {
    /// The doors, if there are any.
    pub doors: Option<std::net::SocketAddr>,
    /// Health, metrics and the dashboard.
    pub admin: std::net::SocketAddr,
}

/// Runs until it is told to stop. `started` is told where it listens.
///
/// # Errors
/// [`WatchError`] when it cannot start, or the state is damaged.
pub async fn run(
    config: Config,
    at: Arc<dyn WatchEnvironment>,
    started: impl FnOnce(&ListenAddresses),
) -> Result<(), WatchError> {
    let (bell, board) = (Arc::new(Notify::new()), Arc::new(WatchStatus::new(&config, at.clock())));
    let doors = Arc::new(Endpoints::new(config.watch.limits, at.clock(), Arc::clone(&bell)));
    let certificate = config.watch.tls.as_ref().map(crate::webhooks::Certificate::read).transpose()?;
    let admin = Listener::bind(config.watch.admin).await?;
    let admin_handler = Arc::new(Admin::new(Arc::clone(&board), Arc::clone(&doors), &config));
    let admin = admin.serve(admin_handler, settings::admin_limits(), None);
    let has_doors = config.has_doors();
    let listening = match has_doors {
        true => {
            let listener = Listener::bind(config.watch.listen).await?;
            Some(listener.serve(Arc::clone(&doors) as _, config.watch.limits, certificate.clone()))
        }
        false => None,
    };
    started(&ListenAddresses { doors: listening.as_ref().map(Listening::address), admin: admin.address() });
    let mut signals =
        SignalListener::new().map_err(|error| WatchError::Failed(format!("no signals: {error}")))?;
    let service = Service::new();
    let location = at.location(&config);
    let waiting = Standby { at: &*at, board: &board, service: &service, location: &location };
    let shared = leader::LeaderShared {
        board: Arc::clone(&board),
        doors,
        bell,
        certificate,
        location: location.clone(),
    };
    let mut followed = StandbyEnd::new(Arc::new(config));
    let (ended, grace_ends) = loop {
        let state = match waiting.wait(&mut followed, &mut signals).await {
            Ok(Some(state)) => Arc::new(state),
            Ok(None) => break (Ok(()), Instant::now()),
            Err(error) => break (Err(error.into()), Instant::now()),
        };
        let lead = Leader::new(&followed, Arc::clone(&at), state, shared.clone());
        let ended = lead.run(&mut signals, &service, &mut followed).await;
        board.let_go();
        match ended.how {
            Ok(LeaderEnd::Stopped) => break (Ok(()), ended.grace_ends),
            Ok(LeaderEnd::Lost) => tracing::warn!("the state is somebody else's now; this process stands by"),
            Err(WatchError::State(error)) if error.is_transient() => {
                tracing::warn!("the state cannot be used now; this process stands by: {error}");
            }
            Err(error) => break (Err(error), ended.grace_ends),
        }
    };
    board.stopping();
    service.stopping();
    if let Some(listening) = listening {
        listening.stop(grace_ends.saturating_duration_since(Instant::now()).max(LAST_ANSWERS)).await;
    }
    admin.stop(LAST_ANSWERS).await;
    ended
}
