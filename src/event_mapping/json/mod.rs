//! JSON, read piece by piece and written straight into bytes.
//!
//! Nothing here builds a tree of an event: the scanner lends what stands in the text, and the writer
//! appends. Neither knows what an event is.

mod compact;
mod scan;
mod split;
mod write;

pub(super) use compact::compact;
pub use scan::JsonError;
pub(super) use scan::{Scanner, ValueStart};
pub use split::{has_pieces, pieces};
pub(super) use write::{cut, float, integer, number, quoted, text, unsigned};
