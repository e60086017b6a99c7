//! JSON scanner and writer for events, without a tree.
//!
//! The scanner borrows from the text, and the writer appends bytes. Neither knows about events.

mod compact;
mod scan;
mod split;
mod swar;
mod write;

pub(super) use compact::compact;
pub use scan::JsonError;
pub(super) use scan::{Scanner, ValueStart};
pub use split::{has_pieces, pieces};
pub(super) use write::{cut, float, integer, number, quoted, text, unsigned};
