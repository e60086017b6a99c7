//! Metrics of the process under the names that Prometheus clients share: `process_*`, read from `/proc`.

use std::fs;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::model::Timestamp;

/// Clock ticks per second in `/proc`, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// The metrics of this process. A value that `/proc` does not have is absent.
pub(super) fn registry(started: Timestamp) -> Registry {
    let mut registry = Registry::default();
    let start = Gauge::<f64, AtomicU64>::default();
    start.set(started.as_duration().as_secs_f64());
    registry.register_with_unit(
        "process_start_time",
        "Time of the start, in Unix time",
        Unit::Seconds,
        start,
    );
    if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_seconds) {
        let used = Counter::<f64, AtomicU64>::default();
        used.inc_by(seconds);
        registry.register_with_unit("process_cpu", "User and system CPU time", Unit::Seconds, used);
    }
    if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident_bytes) {
        let resident = Gauge::<i64>::default();
        resident.set(bytes);
        registry.register_with_unit("process_resident_memory", "Resident memory", Unit::Bytes, resident);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        let open = Gauge::<i64>::default();
        open.set(i64::try_from(files.count()).unwrap_or(i64::MAX));
        registry.register("process_open_fds", "Open file descriptors", open);
    }
    registry
}

/// The fields `utime` and `stime`, after the name of the program, which may contain spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<i64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_proc() {
        let stat = "17 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("17 (a) S 1"), None);
        assert_eq!(resident_bytes("Name:\ta\nVmRSS:\t    1500 kB\n"), Some(1_536_000));
        assert_eq!(resident_bytes("Name:\ta\n"), None);
    }
}
