//! Figures of many seeds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::faults::FaultKind;
use super::scenario::simulate;

/// What many seeds have shown.
#[derive(Debug, Default)]
pub(super) struct Figures {
    first: u64,
    seeds: u64,
    processes: u64,
    changes: u64,
    simulated: Duration,
    faults: BTreeMap<FaultKind, u64>,
    /// Violations by seed.
    pub(super) violations: BTreeMap<u64, Vec<String>>,
}

/// Simulates seeds from `first` on, in several threads, until the time is over.
pub(super) fn simulate_for(time: Duration, first: u64, threads: u32) -> Figures {
    let began = Instant::now();
    let (next, figures) = (AtomicU64::new(first), Mutex::new(Figures { first, ..Figures::default() }));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while began.elapsed() < time {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let outcome = simulate(seed, false);
                    let mut figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
                    figures.seeds += 1;
                    figures.processes += outcome.processes;
                    figures.changes += outcome.changes;
                    figures.simulated += outcome.simulated;
                    for (kind, count) in outcome.faults {
                        *figures.faults.entry(kind).or_default() += count;
                    }
                    if !outcome.violations.is_empty() {
                        eprintln!("seed {seed}: {:#?}", outcome.violations);
                        figures.violations.insert(seed, outcome.violations);
                    }
                }
            });
        }
    });
    figures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.simulated.as_secs() / 3600;
        writeln!(f, "seeds from {}: {}", self.first, self.seeds)?;
        writeln!(
            f,
            "processes: {}, changes of cohorts: {}, simulated hours: {hours}",
            self.processes, self.changes
        )?;
        for (kind, count) in &self.faults {
            writeln!(f, "  {kind:?}: {count}")?;
        }
        writeln!(f, "faults: {}", self.faults.values().sum::<u64>())?;
        write!(f, "seeds with violations: {}", self.violations.len())
    }
}
