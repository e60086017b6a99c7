//! Everything that talks to the outside: one folder per vendor or store.
//!
//! A connector speaks one protocol and decides nothing: `file` turns files into rows, `heap_connect` finds Heap's dumps, `currents` turns
//! Braze's files of events into records, `braze` and `heap` turn batches into requests and answers into
//! outcomes, `http` is the one HTTP client. What to read, send
//! or do about an answer is decided by those who call.

mod backoff;
pub mod braze;
mod cells;
mod columns;
pub mod currents;
pub mod file;
mod headers;
pub mod heap;
pub mod heap_connect;
pub mod http;
mod iso8601;
pub mod sql;

pub use backoff::{backoff, jitter};
