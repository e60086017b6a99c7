//! Clock of the sandbox. It simulates remote servers, so it does not share the program's clock.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

thread_local! {
    /// The time at which this thread answers a request of a simulation.
    static SIMULATED: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Time since the Unix epoch.
#[allow(
    clippy::disallowed_methods,
    reason = "the sandbox simulates a remote server, which has its own clock"
)]
pub(super) fn now() -> Duration {
    SIMULATED.get().unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Runs `work` at a simulated time.
pub(super) fn at<T>(time: Duration, work: impl FnOnce() -> T) -> T {
    let before = SIMULATED.replace(Some(time));
    let result = work();
    SIMULATED.set(before);
    result
}
