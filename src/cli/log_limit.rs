//! Limits the number of log lines that any client of an endpoint can cause.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::webhooks;

/// Lines of one target in a window of time; more are suppressed and counted.
const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Limits the lines of libraries and of the endpoints: any client can cause them, in any number.
#[derive(Debug, Default)]
pub(super) struct LineLimit {
    targets: Mutex<HashMap<&'static str, WindowLines>>,
}

/// The lines of one target in the current window.
#[derive(Debug)]
struct WindowLines {
    began: Instant,
    count: u32,
    suppressed: u32,
}

impl LineLimit {
    /// Whether a line may be written, and how many were suppressed in the window that ends with it.
    pub(super) fn count(&self, target: &'static str, now: Instant) -> (bool, u32) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = targets.entry(target).or_insert(WindowLines { began: now, count: 0, suppressed: 0 });
        let mut suppressed = 0;
        if now.saturating_duration_since(lines.began) >= WINDOW {
            suppressed = lines.suppressed;
            *lines = WindowLines { began: now, count: 0, suppressed: 0 };
        }
        lines.count = lines.count.saturating_add(1);
        let may_log = lines.count <= LINES_MAX;
        lines.suppressed += u32::from(!may_log);
        (may_log, suppressed)
    }
}

/// Whether the lines of a target are limited in number.
pub(super) fn is_limited(target: &str) -> bool {
    !target.starts_with("syncline") || target.starts_with(webhooks::LOG_TARGET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_anybody_can_cause_are_limited_and_the_others_counted() {
        let (limit, now) = (LineLimit::default(), Instant::now());
        let logged = (0..1000).filter(|_| limit.count("h2::proto", now).0).count();
        assert_eq!(logged, 10);
        assert_eq!(limit.count("hyper", now), (true, 0), "each target by itself");
        assert_eq!(limit.count("h2::proto", now + WINDOW), (true, 990));
        assert_eq!(limit.count("h2::proto", now + 2 * WINDOW), (true, 0));
        assert!(is_limited("h2::proto") && is_limited("syncline::webhooks::endpoint"));
        assert!(!is_limited("syncline::watch::cohorts"));
    }
}
