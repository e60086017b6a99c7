//! The sandbox's clock: it stands for servers elsewhere, which have their own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since 1970 in UTC.
#[allow(
    clippy::disallowed_methods,
    reason = "the sandbox stands for a server elsewhere: it has its own clock"
)]
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
