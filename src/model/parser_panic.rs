//! Converts panics of a third-party parser on a damaged file into an error of that file.
//!
//! All other panics end the process; the state is made to survive that.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a parser. `None`: it panicked, and its input and output must be discarded.
#[must_use]
pub fn catch_parser_panic<T>(parse: impl FnOnce() -> T) -> Option<T> {
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(parse));
    GUARDED.set(before);
    done.ok()
}

/// Whether the panic on this thread comes from a guarded parser, and need not be reported.
#[must_use]
pub fn is_parser_panic() -> bool {
    GUARDED.get()
}
