//! Panics of a third-party parser on a damaged file become an error of that file. Every other panic ends the
//! process, for which the state is made.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a parser; nothing when it panicked. What it worked on is of no use then.
#[must_use]
pub fn guarded<T>(parse: impl FnOnce() -> T) -> Option<T> {
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(parse));
    GUARDED.set(before);
    done.ok()
}

/// Whether a panic on this thread is one of a guarded parser, which nobody else needs to hear of.
#[must_use]
pub fn is_guarded() -> bool {
    GUARDED.get()
}
