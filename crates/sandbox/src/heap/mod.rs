//! Simulator of Heap's server-side API: events, identities, properties, deletion.
//!
//! Source: Heap's API reference. It is as strict as the reference: caps, lengths, types; one bad element
//! rejects the request. Where the reference is silent, see [`HeapOptions`] and the submodule: `check` (texts of
//! a 400), `rate_limits`, `store` (idempotency, silent caps), `deletion`.

mod admin;
mod check;
mod deletion;
mod ingest;
mod options;
mod parse;
mod rate_limits;
mod serve;
mod store;

use std::collections::HashMap;
use std::time::Duration;

use super::memory::{FactLog, MemoryFolder};
use super::{SandboxError, SandboxOptions};

pub(super) use admin::routes;
pub use options::{HeapOptions, Lengths, OverLimit, Success};
use rate_limits::RollingLimits;
use store::{HeapFact, HeapStore};

/// Name of the log in the memory folder. It only grows, because events are permanent.
const LOG: &str = "heap.ndjson";

/// State of the simulated Heap.
#[derive(Debug)]
pub(super) struct Heap {
    options: HeapOptions,
    store: HeapStore,
    log: Option<FactLog>,
    limits: RollingLimits,
    counters: admin::HeapCounters,
    /// Tokens of the deletion API, with their expiry.
    tokens: HashMap<String, Duration>,
}

impl Heap {
    /// Opens Heap with the state from the memory folder, or empty without one.
    pub(super) fn open(
        options: &SandboxOptions,
        memory: Option<&MemoryFolder>,
    ) -> Result<Self, SandboxError> {
        let mut store = HeapStore::default();
        let log = match memory {
            Some(memory) => {
                memory.replay(LOG, |fact| store.apply(fact))?;
                Some(memory.open_log(LOG)?)
            }
            None => None,
        };
        // Counters start at zero in each run.
        (store.duplicates, store.identifies_ignored) = (0, 0);
        Ok(Self {
            options: options.heap.clone(),
            store,
            log,
            limits: RollingLimits::default(),
            counters: admin::HeapCounters::default(),
            tokens: HashMap::new(),
        })
    }

    /// Logs facts and applies them.
    fn record(&mut self, facts: Vec<HeapFact>) -> std::io::Result<()> {
        if let Some(log) = &mut self.log {
            log.append(&facts)?;
        }
        facts.into_iter().for_each(|fact| self.store.apply(fact));
        Ok(())
    }
}
