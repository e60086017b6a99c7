//! Failing on purpose: a test walks through every step of a run that changes the state, and lets the disk be
//! full, or the process die, at each of them.
//!
//! Release builds have none of this.

use std::io;

/// What happens at the chosen step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The disk is full, from here on.
    Full,
    /// The process dies, as by `kill -9`.
    Die,
    /// The thread panics, at this step alone.
    Panic,
}

/// Lets the step with this number, from 1, fail. Does nothing in a release build.
#[cfg(debug_assertions)]
pub fn fail_at(step: u64, failure: Failure) {
    use std::sync::atomic::Ordering::Relaxed;
    chosen::DIES.store(failure == Failure::Die, Relaxed);
    chosen::PANICS.store(failure == Failure::Panic, Relaxed);
    chosen::STEP.store(step, Relaxed);
}

/// Lets the step with this number, from 1, fail. Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn fail_at(_: u64, _: Failure) {}

#[cfg(debug_assertions)]
mod chosen {
    use std::sync::atomic::{AtomicBool, AtomicU64};

    pub(super) static STEP: AtomicU64 = AtomicU64::new(0);
    pub(super) static TAKEN: AtomicU64 = AtomicU64::new(0);
    pub(super) static DIES: AtomicBool = AtomicBool::new(false);
    pub(super) static PANICS: AtomicBool = AtomicBool::new(false);
}

/// One step that changes the state is about to be taken.
#[cfg(debug_assertions)]
pub(super) fn step() -> io::Result<()> {
    use std::sync::atomic::Ordering::Relaxed;
    let chosen = chosen::STEP.load(Relaxed);
    let taken = if chosen == 0 { return Ok(()) } else { chosen::TAKEN.fetch_add(1, Relaxed) + 1 };
    if taken < chosen {
        return Ok(());
    }
    if chosen::PANICS.load(Relaxed) {
        #[allow(clippy::panic, reason = "a bug on purpose, in debug builds")]
        match taken == chosen {
            true => panic!("on purpose"),
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
