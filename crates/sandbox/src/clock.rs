//! System clock of the sandbox. It simulates remote servers, so it does not share the program's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since the Unix epoch.
#[allow(
    clippy::disallowed_methods,
    reason = "the sandbox simulates a remote server, which has its own clock"
)]
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
