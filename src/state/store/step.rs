//! Fault injection: a test makes each step of a run that changes the state fail, by a full disk or a crash.
//!
//! Release builds do not contain it.

use std::io;

/// The fault at the chosen step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepFailure {
    /// The disk is full from this step on.
    Full,
    /// The process aborts, as by `kill -9`.
    Die,
    /// The thread panics at this step only.
    Panic,
}

/// Makes the step with this number, counted from 1, fail. Does nothing in a release build.
#[cfg(debug_assertions)]
pub fn fail_at(step: u64, failure: StepFailure) {
    use std::sync::atomic::Ordering::Relaxed;
    chosen::DIES.store(failure == StepFailure::Die, Relaxed);
    chosen::PANICS.store(failure == StepFailure::Panic, Relaxed);
    chosen::STEP.store(step, Relaxed);
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn fail_at(_: u64, _: StepFailure) {}

#[cfg(debug_assertions)]
mod chosen {
    use std::sync::atomic::{AtomicBool, AtomicU64};

    pub(super) static STEP: AtomicU64 = AtomicU64::new(0);
    pub(super) static TAKEN: AtomicU64 = AtomicU64::new(0);
    pub(super) static DIES: AtomicBool = AtomicBool::new(false);
    pub(super) static PANICS: AtomicBool = AtomicBool::new(false);
}

/// Called before each step that changes the state.
#[cfg(debug_assertions)]
pub(super) fn step() -> io::Result<()> {
    use std::sync::atomic::Ordering::Relaxed;
    let chosen = chosen::STEP.load(Relaxed);
    let taken = if chosen == 0 { return Ok(()) } else { chosen::TAKEN.fetch_add(1, Relaxed) + 1 };
    if taken < chosen {
        return Ok(());
    }
    if chosen::PANICS.load(Relaxed) {
        #[allow(clippy::panic, reason = "injected fault in debug builds")]
        match taken == chosen {
            true => panic!("injected fault"),
            false => return Ok(()),
        }
    }
    if chosen::DIES.load(Relaxed) {
        std::process::abort();
    }
    Err(io::ErrorKind::StorageFull.into())
}

#[cfg(not(debug_assertions))]
#[inline]
#[allow(clippy::unnecessary_wraps, reason = "a debug build can fail here")]
pub(super) fn step() -> io::Result<()> {
    Ok(())
}
