//! The reasons why a source yields no desired members.

use crate::connector::file::FileError;
use crate::connector::heap_connect::DumpError;
use crate::connector::rows::SinkStopped;
use crate::connector::sql::SqlError;
use crate::state::StateError;

/// Most segments that a message lists.
const LISTED_MAX: usize = 10;

/// The reason why a source yields no desired members.
#[derive(Debug, thiserror::Error)]
pub enum DesiredError {
    /// Files cannot be read in full.
    #[error(transparent)]
    File(#[from] FileError),
    /// The sink stopped the read. The sink keeps the reason.
    #[error("the read was stopped")]
    Stopped,
    /// A temporary file failed.
    #[error("a temporary file failed: {0}")]
    Scratch(#[from] std::io::Error),
    /// The database returned no rows, or not all of them.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// Heap Connect's dumps cannot be read in full.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Heap has not sent the segment.
    #[error("Heap has not sent segment {segment} yet{}", list_received(.received))]
    SegmentNotReceived {
        /// The segment.
        segment: u64,
        /// Segments that Heap has sent, with their names.
        received: Vec<(u64, String)>,
    },
}

impl From<SinkStopped> for DesiredError {
    fn from(_: SinkStopped) -> Self {
        Self::Stopped
    }
}

/// The segments that Heap has sent, for a message.
fn list_received(received: &[(u64, String)]) -> String {
    if received.is_empty() {
        return String::new();
    }
    let listed: Vec<String> =
        received.iter().take(LISTED_MAX).map(|(id, name)| format!("{id} \"{name}\"")).collect();
    let more = if received.len() > LISTED_MAX { ", …" } else { "" };
    format!("; it has sent {}{more}", listed.join(", "))
}
