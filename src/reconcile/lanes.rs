//! Plans cohorts in parallel, so that a slow source delays no cohort of another source.
//!
//! Sources that are read from the same database or host, or from this machine, share a [`Lane`]. Each lane has its own
//! threads, and their number is bounded. Memory is reserved when rows arrive, see [`crate::state::MemoryBudget`], so a cohort
//! that waits for a database needs none.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::blocking;
use crate::config::{CohortConfig, Config, SqlConfig};
use crate::contained::contained_as_here;
use crate::model::ConnectionName;

/// Cohorts of a lane that are planned in parallel.
const REMOTE_AT_ONCE: usize = 32;
const LOCAL_AT_ONCE: usize = 16;

/// A database or a host that sources are read from. A slow one delays only its own cohorts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// A database.
    Database(ConnectionName),
    /// A database file. Its driver allows one connection at a time.
    DatabaseFile(ConnectionName),
    /// A web server or a bucket, by scheme and host.
    Host(String),
    /// This machine's files, and the state.
    Local,
}

impl Lane {
    /// The lane of a cohort.
    #[must_use]
    pub fn of(cohort: &CohortConfig, config: &Config) -> Self {
        match (cohort.source.database(), cohort.source.path()) {
            (Some(database), _) => Self::of_database(database, config),
            (None, Some(path)) => Self::of_path(path),
            (None, None) => Self::Local,
        }
    }

    fn of_database(name: &ConnectionName, config: &Config) -> Self {
        match config.sql.get(name) {
            Some(SqlConfig::Adbc(adbc)) if adbc.driver.contains("duckdb") => Self::DatabaseFile(name.clone()),
            _ => Self::Database(name.clone()),
        }
    }

    fn of_path(path: &str) -> Self {
        let Some((scheme, rest)) = path.split_once("://") else { return Self::Local };
        let host = rest.split('/').next().unwrap_or_default();
        Self::Host(format!("{scheme}://{host}"))
    }

    /// How many of its cohorts are planned in parallel.
    #[must_use]
    pub fn at_once(&self) -> usize {
        match self {
            Self::Database(_) | Self::Host(_) => REMOTE_AT_ONCE,
            Self::DatabaseFile(_) => 1,
            Self::Local => LOCAL_AT_ONCE,
        }
    }
}

/// Calls `plan` for every item on a thread of its lane. Returns the results in the order of the items.
pub(super) fn map_in_lanes<T: Sync, R: Send>(
    items: &[T],
    lane: impl Fn(&T) -> Lane,
    plan: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    if items.len() == 1 || blocking::is_single_threaded() {
        return items.iter().map(plan).collect();
    }
    let mut lanes: BTreeMap<Lane, Vec<usize>> = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        lanes.entry(lane(item)).or_default().push(at);
    }
    let done: Mutex<BTreeMap<usize, R>> = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for (lane, positions) in &lanes {
            let threads = lane.at_once().min(positions.len());
            let next = std::sync::Arc::new(Mutex::new(positions.iter()));
            for _ in 0..threads {
                let (next, done, plan) = (next.clone(), &done, &plan);
                scope.spawn(contained_as_here(move || {
                    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next().copied();
                    while let Some(at) = take() {
                        let planned = plan(&items[at]);
                        done.lock().unwrap_or_else(PoisonError::into_inner).insert(at, planned);
                    }
                }));
            }
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn lane(path: &str) -> Lane {
        Lane::of_path(path)
    }

    #[test]
    fn a_slow_host_delays_no_other_and_the_order_is_kept() {
        let paths = ["https://slow/a", "https://slow/b", "https://fast/a", "people.csv"];
        assert_eq!(lane(paths[0]), lane(paths[1]));
        // Each call waits until all four are running.
        let barrier = Barrier::new(paths.len());
        let planned = map_in_lanes(
            &paths,
            |path| lane(path),
            |path| {
                barrier.wait();
                (*path).to_owned()
            },
        );
        assert_eq!(planned, paths);
    }

    #[test]
    fn threads_are_bounded_and_everything_is_planned() {
        let (running, peak) = (Mutex::new(0), Mutex::new(0));
        let items: Vec<usize> = (0..5 * LOCAL_AT_ONCE).collect();
        let planned = map_in_lanes(
            &items,
            |_| Lane::Local,
            |item| {
                let now = {
                    *running
                        .lock()
                        .map(|mut now| {
                            *now += 1;
                            now
                        })
                        .unwrap()
                };
                let mut peak = peak.lock().unwrap();
                *peak = now.max(*peak);
                drop(peak);
                std::thread::yield_now();
                *running.lock().unwrap() -= 1;
                *item
            },
        );
        assert_eq!(planned, items);
        assert!(*peak.lock().unwrap() <= LOCAL_AT_ONCE);
    }
}
