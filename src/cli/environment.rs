//! Access to the machine: environment variables, clock, host name and randomness. No other file may use them.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::model::{Clock, RunId, Timestamp};
use crate::state::Holder;

/// Looks up an environment variable. A value that is not UTF-8 counts as unset.
#[allow(clippy::disallowed_methods, reason = "the only file that may")]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The command line, with the name of the program.
#[allow(clippy::disallowed_methods, reason = "the only place that may")]
pub(super) fn arguments() -> std::env::ArgsOs {
    std::env::args_os()
}

/// The words of the command line, after the name of the program.
pub(super) fn words() -> Vec<String> {
    arguments().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Environment variables of the vendors' object stores.
#[allow(clippy::disallowed_methods, reason = "the only file that may")]
pub(super) fn store_options() -> Vec<(String, String)> {
    let vendors = ["AWS_", "GOOGLE_", "AZURE_"];
    std::env::vars().filter(|(name, _)| vendors.iter().any(|vendor| name.starts_with(vendor))).collect()
}

/// Search path of database drivers, in order.
pub(super) fn driver_folders() -> Vec<PathBuf> {
    let listed = variable("ADBC_DRIVER_PATH").unwrap_or_default();
    let listed: Vec<PathBuf> =
        std::env::split_paths(&listed).filter(|path| !path.as_os_str().is_empty()).collect();
    let home = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = home.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config")));
    let user = home.map(|home| home.join("adbc/drivers"));
    listed.into_iter().chain(user).chain([PathBuf::from("/etc/adbc/drivers")]).collect()
}

/// In a debug build, injects a failure at a step of writing the state: `12:full`, `12:die` or `12:panic`.
pub(super) fn inject_failure() {
    if !cfg!(debug_assertions) {
        return;
    }
    let setting = variable("SYNCLINE_FAIL_AT").unwrap_or_default();
    match setting.split_once(':').map(|(step, how)| (step.parse(), how)) {
        Some((Ok(step), "full")) => crate::state::fail_at(step, crate::state::StepFailure::Full),
        Some((Ok(step), "die")) => crate::state::fail_at(step, crate::state::StepFailure::Die),
        Some((Ok(step), "panic")) => crate::state::fail_at(step, crate::state::StepFailure::Panic),
        _ => {}
    }
}

/// The system's clock.
#[allow(clippy::disallowed_methods, reason = "the only file that may")]
pub(super) fn clock() -> Clock {
    Clock::new(Timestamp::now)
}

/// This process, as a holder of a state.
pub(super) fn holder() -> Holder {
    Holder { host: host(), process: std::process::id(), since: clock().now(), renewal: None }
}

/// The name of this machine: that of the environment, or that of the system.
pub(super) fn host() -> String {
    let system = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = ["HOSTNAME", "COMPUTERNAME"].into_iter().find_map(variable).or_else(system);
    let named = named.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    named.unwrap_or_else(|| "this machine".to_owned())
}

/// A random number. Falls back to the clock, because the number only has to be unique.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| clock().now().as_microsecond().unsigned_abs())
}

/// The id of this process, and of its run if it is a command with one run.
pub(super) fn process_run() -> &'static RunId {
    static RUN: OnceLock<RunId> = OnceLock::new();
    RUN.get_or_init(new_run)
}

/// The id of a run that starts now.
pub(super) fn new_run() -> RunId {
    RunId::new(clock().now(), random())
}
