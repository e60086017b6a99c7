//! The machine: environment variables, clock, host name, chance. The one lawful place for each of them.

use crate::model::{Clock, PassId, Timestamp};
use crate::state::Holder;

/// Looks up an environment variable; one that is not text is as good as unset.
#[allow(clippy::disallowed_methods, reason = "the one lawful place")]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The system's clock.
#[allow(clippy::disallowed_methods, reason = "the one lawful place")]
pub(super) fn clock() -> Clock {
    Clock::new(Timestamp::now)
}

/// This process, as a holder of a state.
pub(super) fn holder() -> Holder {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| variable("HOSTNAME"));
    let host = host.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    Holder {
        host: host.unwrap_or_else(|| "this machine".to_owned()),
        process: std::process::id(),
        since: clock().now(),
    }
}

/// A number nobody can guess. Without the system's chance, the clock must do: the number only keeps
/// things apart.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| clock().now().as_microsecond().unsigned_abs())
}

/// A name for a pass that begins now.
pub(super) fn new_pass() -> PassId {
    PassId::new(clock().now(), random())
}
