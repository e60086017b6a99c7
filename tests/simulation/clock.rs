//! Time of a simulated process. Waits take no real time: the runtime of a process advances its own clock.

use std::cell::Cell;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use crate::model::{Clock, Timestamp};

/// The wall time at which every world begins: 2030-01-01, later than the times of the real files that sources are.
const START_SECONDS: i64 = 1_893_456_000;

thread_local! {
    /// When the process began, by the clock of its runtime and by the time of the world.
    static BEGAN: Cell<Option<(tokio::time::Instant, Duration)>> = const { Cell::new(None) };
    /// By how much the wall clock is wrong, in milliseconds.
    static ERROR: Cell<i64> = const { Cell::new(0) };
}

/// Starts the clock of the process on this thread.
pub(super) fn start(at: Duration) {
    BEGAN.set(Some((tokio::time::Instant::now(), at)));
    ERROR.set(0);
}

/// The time of the world, as far as this process has come.
pub(super) fn elapsed() -> Duration {
    BEGAN.get().map_or(Duration::ZERO, |(began, at)| at + began.elapsed())
}

/// Lets the time of this process pass without its taking part.
pub(super) fn skip_to(time: Duration) {
    let missed = time.saturating_sub(elapsed());
    if !missed.is_zero() {
        // The first poll advances the clock of the runtime.
        let _ = pin!(tokio::time::advance(missed)).as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
}

/// Sets the wall clock wrong.
pub(super) fn jump(milliseconds: i64) {
    ERROR.set(milliseconds);
}

/// A time of the world as a wall time.
pub(super) fn wall_time(world: Duration) -> Timestamp {
    Timestamp::from_second(START_SECONDS).unwrap() + world
}

/// A time of the world as the time since the Unix epoch.
pub(super) fn since_epoch(world: Duration) -> Duration {
    Duration::from_secs(START_SECONDS.unsigned_abs()) + world
}

/// The clock of the process on this thread.
pub(super) fn clock() -> Clock {
    fn wall() -> Timestamp {
        let error = jiff::SignedDuration::from_millis(ERROR.get());
        wall_time(elapsed()) + error
    }
    fn monotonic() -> Instant {
        tokio::time::Instant::now().into_std()
    }
    Clock::with_monotonic(wall, monotonic)
}
