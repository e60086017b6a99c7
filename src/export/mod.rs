//! One run of an export: discover files, read, map, deliver, checkpoint.
//!
//! # Expected flow
//! One thread reads and maps events into batches. The delivery sends several batches at once. Settled progress is
//! committed every five seconds and at the end. Then held events are released: events with an identified
//! user, and events that were over Heap's limit for one user.
//!
//! # Guarantees
//! Events are sent at least once and stored once, because each has an idempotency key. A run after a crash repeats
//! little. Every event that is not sent is held, rejected, or counted with its reason. Memory does not grow with the
//! input.
//!
//! # Late requests
//! Heap may handle a request without an answer late. Events have the same key each time and the first one counts, so the
//! order of requests does not matter. Properties of users have no key: the last write wins, so a late request may bring
//! an older value back until the next profile event of that user.

mod batch;
mod deliver;
mod discover_files;
mod dispatch;
mod dry_run;
mod held_events;
mod input;
mod ledger;
mod pipeline;
mod read_files;
mod read_inbox;
mod replay;
mod report;
mod run;
mod stop;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub use batch::user_in;
pub use dry_run::{ExportDryRun, has_work, survey};
pub use replay::{ReplayFilter, ReplayJob, ReplaySelection, pick};
pub use report::{EventCounts, ExportReport};
pub use run::{replay_again, run};
pub use stop::ExportStop;

use crate::apply::Interrupt;
use crate::config;
use crate::connector::currents::StorageAccess;
use crate::connector::heap::HeapClient;
use crate::connector::http::HttpError;
use crate::model::{Clock, ConnectionName, Day, Progress, RunId, Timestamp};
use crate::state::{IdentityMap, Journal, StateWriter};

/// The number of inbox files that are read before the settled ones are removed.
pub const POSTED_AT_ONCE: usize = 4;

/// Whether a run waits until Heap has taken everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportPatience {
    /// The run waits until Heap has accepted everything.
    UntilSent,
    /// The run ends when only limits of single users are left to wait for.
    EndAtUserLimits,
}

/// The address and the environment of a Heap connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapAccess {
    /// The base URL.
    pub base: String,
    /// The environment id.
    pub app_id: String,
}

/// The Heap clients by connection, with their rate limits. All runs of a process share them.
pub type HeapClients = BTreeMap<ConnectionName, Arc<HeapClient>>;

/// Makes the clients of the Heap connections in `access`. Sends nothing.
///
/// # Errors
/// When an HTTP client cannot be created.
pub fn link(
    config: &config::Config,
    access: &BTreeMap<ConnectionName, HeapAccess>,
    clock: Clock,
) -> Result<HeapClients, HttpError> {
    let mut clients = HeapClients::new();
    for (name, settings) in &config.heap {
        if let Some(HeapAccess { base, app_id }) = access.get(name) {
            clients.insert(name.clone(), Arc::new(HeapClient::new(settings, base, app_id, clock)?));
        }
    }
    Ok(clients)
}

/// The days of the files that a run reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Days {
    /// The first day.
    pub since: Option<Timestamp>,
    /// The end, exclusive.
    pub until: Option<Timestamp>,
}

impl Days {
    fn scope(self, again: bool) -> discover_files::DiscoveryScope<'static> {
        let last =
            |until: Timestamp| Day::of(discover_files::before(until, std::time::Duration::from_millis(1)));
        let whole = self.since.is_some();
        discover_files::DiscoveryScope {
            since: self.since.map(Day::of),
            until: self.until.map(last),
            again,
            whole,
            ..discover_files::DiscoveryScope::default()
        }
    }
}

/// What a run of an export works with.
#[derive(Clone)]
pub struct ExportContext {
    /// The store.
    pub state: Arc<StateWriter>,
    /// The Heap to write to.
    pub heap: Arc<HeapClient>,
    /// Its settings.
    pub settings: config::HeapConfig,
    /// The identity map, which all exports of a process share.
    pub identity: Arc<Mutex<IdentityMap>>,
    /// The run's journal.
    pub journal: Arc<Journal>,
    /// The run.
    pub run: RunId,
    /// The time.
    pub clock: Clock,
    /// Whether you asked to stop.
    pub interrupt: Interrupt,
    /// Whether to wait for limits of single users.
    pub patience: ExportPatience,
    /// The credentials of the source's files.
    pub access: StorageAccess,
    /// Receives the progress.
    pub progress: Arc<dyn Progress>,
}
