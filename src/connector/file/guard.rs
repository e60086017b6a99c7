//! Panics of a parser that is not ours, met with a damaged file, become an error of that file. Every other panic
//! ends the process: the record is made for that, and for nothing that goes on after a bug.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a parser; nothing when it panicked. What it worked on is of no use then.
pub(super) fn guarded<T>(parse: impl FnOnce() -> T) -> Option<T> {
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
