//! Heap's server-side API: events, identities, properties, deletion.
//!
//! Source: Heap's API reference. It is as strict as that: caps, lengths, types, one bad element refuses the
//! request. Where it is silent, see [`HeapOptions`] and the part that does it: `check` (what a 400 says),
//! `rates` (limits), `store` (idempotency, caps that say nothing), `deletion`.

mod admin;
mod bodies;
mod check;
mod deletion;
mod ingest;
mod options;
mod rates;
mod serve;
mod store;

use std::collections::HashMap;
use std::time::Duration;

use super::memory::{Facts, Memory};
use super::{Options, SandboxError};

pub(super) use admin::routes;
pub use options::{HeapOptions, Lengths, OverLimit, Success};
use rates::Rates;
use store::{Fact, HeapStore};

/// The list of facts in the sandbox's memory. It only grows: an event is there for good.
const FACTS: &str = "heap.ndjson";

/// Heap's side of the sandbox.
#[derive(Debug)]
pub(super) struct Heap {
    options: HeapOptions,
    store: HeapStore,
    facts: Option<Facts>,
    rates: Rates,
    counters: admin::Counters,
    /// Tokens of the deletion API, and until when each is good.
    tokens: HashMap<String, Duration>,
}

impl Heap {
    /// Heap as it was, if there is a memory of it.
    pub(super) fn open(options: &Options, memory: Option<&Memory>) -> Result<Self, SandboxError> {
        let mut store = HeapStore::default();
        let facts = match memory {
            Some(memory) => {
                memory.recall(FACTS, |fact| store.learn(fact))?;
                Some(memory.append(FACTS)?)
            }
            None => None,
        };
        // What was a duplicate before is none of this run's.
        (store.duplicates, store.identifies_ignored) = (0, 0);
        Ok(Self {
            options: options.heap.clone(),
            store,
            facts,
            rates: Rates::default(),
            counters: admin::Counters::default(),
            tokens: HashMap::new(),
        })
    }

    /// Writes facts down and lets them happen.
    fn keep(&mut self, facts: Vec<Fact>) -> std::io::Result<()> {
        if let Some(list) = &mut self.facts {
            list.keep(&facts)?;
        }
        facts.into_iter().for_each(|fact| self.store.learn(fact));
        Ok(())
    }
}
