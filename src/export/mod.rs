//! One run of an export: find, read, map, send, checkpoint.
//!
//! # Expected flow
//! One thread reads and maps; what it makes goes, batch by batch, to whoever sends, several requests at once. What
//! is settled is put on disk every five seconds and at the end. Then events that wait are gone through: those whose
//! person is known by now, and those that were over Heap's limit for one person.
//!
//! # Guarantees
//! At least once on the wire, and once in Heap, since each event has its key. After a crash, little is read again.
//! Nothing is lost in silence: whatever is not sent is counted with its reason, waits, or is a reject. Memory does
//! not grow with what there is to read.
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
mod files;
mod forget;
mod held_events;
mod intake;
mod ledger;
mod read_inbox;
mod replay;
mod report;
mod run;
mod stop;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub use dry_run::{ExportDryRun, has_work, survey};
pub use forget::{ErasureReport, forget};
pub use replay::{ReplayFilter, ReplayJob, ReplaySelection, pick};
pub use report::{EventCounts, ExportReport};
pub use run::{replay_again, run};
pub use stop::ExportStop;

use crate::apply::Interrupt;
use crate::config;
use crate::connector::currents::StorageAccess;
use crate::connector::heap::HeapClient;
use crate::connector::http::HttpError;
use crate::model::{Clock, ConnectionName, Day, RunId, Timestamp};
use crate::state::{IdentityMap, Journal, StateWriter};

/// Files of the inbox that are used before they are let go, and others can be.
pub const POSTED_AT_ONCE: usize = 4;

/// Whether a run waits until Heap has taken everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportPatience {
    /// It does.
    ToTheEnd,
    /// It hands back when only the limit of single persons is left to wait for.
    HandBack,
}

/// Where a Heap is, and which environment of it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapAccess {
    /// The base URL.
    pub base: String,
    /// The environment id.
    pub app_id: String,
}

/// Clients of the Heaps, with what they know of the limits: one for all runs.
pub type HeapClients = BTreeMap<ConnectionName, Arc<HeapClient>>;

/// Makes the clients of these Heaps. Nothing is sent yet.
///
/// # Errors
/// When there can be no HTTP client.
pub fn link(
    config: &config::Config,
    access: &BTreeMap<ConnectionName, HeapAccess>,
    clock: Clock,
) -> Result<HeapClients, HttpError> {
    let mut links = HeapClients::new();
    for (name, settings) in &config.heap {
        if let Some(HeapAccess { base, app_id }) = access.get(name) {
            links.insert(name.clone(), Arc::new(HeapClient::new(settings, base, app_id, clock)?));
        }
    }
    Ok(links)
}

/// Which files a run is about, by their days; those of other days are left to other runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Days {
    /// From then on.
    pub since: Option<Timestamp>,
    /// Before then.
    pub until: Option<Timestamp>,
}

impl Days {
    fn scope(self, again: bool) -> discover_files::Scope<'static> {
        let last =
            |until: Timestamp| Day::of(discover_files::before(until, std::time::Duration::from_millis(1)));
        let whole = self.since.is_some();
        discover_files::Scope {
            since: self.since.map(Day::of),
            until: self.until.map(last),
            again,
            whole,
            ..discover_files::Scope::default()
        }
    }
}

/// What a run works with.
#[derive(Clone)]
pub struct ExportContext {
    /// The store.
    pub state: Arc<StateWriter>,
    /// The Heap to write to.
    pub heap: Arc<HeapClient>,
    /// Its settings.
    pub settings: config::HeapConfig,
    /// Who is who; one for all exports of a process.
    pub identity: Arc<Mutex<IdentityMap>>,
    /// The run's journal.
    pub journal: Arc<Journal>,
    /// The run.
    pub run: RunId,
    /// The time.
    pub clock: Clock,
    /// Whether a person wants to stop.
    pub interrupt: Interrupt,
    /// Whether to wait to the end.
    pub patience: ExportPatience,
    /// How its files are reached.
    pub access: StorageAccess,
}
