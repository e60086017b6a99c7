//! Log lines, to stderr.
//!
//! Of libraries only `warn` and up is logged, at any verbosity: lower levels may hold what travels over the wire.
//! What libraries log is foreign text, and is cleaned of secrets. Lines that any client of an endpoint can cause are
//! limited in number.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata};
use tracing_subscriber::filter::FilterExt as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Filter, Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::error::CommandError;
use super::global_args::{Global, LogFormat};
use super::{environment, output, terminal};
use crate::{foreign, webhooks};

/// Whether stderr is read by a machine, which must not find anything but JSON there.
static FOR_MACHINES: AtomicBool = AtomicBool::new(false);

/// Starts logging with the options of the command line. A server logs at `info` by default.
pub(super) fn start(global: &Global, is_server: bool) {
    let level = match global.verbose + u8::from(is_server) {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    FOR_MACHINES.store(global.log_format == LogFormat::Json, Ordering::Relaxed);
    let targets = Targets::new().with_default(LevelFilter::WARN).with_target("syncline", level);
    let filter = targets.and(RateLimit::default());
    let layer =
        tracing_subscriber::fmt::layer().with_writer(EscapingWriter { is_foreign: false }).with_ansi(false);
    let registry = tracing_subscriber::registry().with(super::spans::layer()).with(terminal::layer());
    // Started once; a second start would be a bug that only a test could make.
    let _ = match global.log_format {
        LogFormat::Text => registry.with(layer.with_filter(filter)).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true).with_filter(filter)).try_init(),
    };
}

/// Prints a notice to stderr: as text, or as a JSON log line with `--log-format json`.
pub(super) fn notify(text: &str) {
    if FOR_MACHINES.load(Ordering::Relaxed) {
        tracing::warn!("{text}");
    } else {
        output::err(text);
    }
}

/// Lines of one target in a window of time; more are suppressed and counted.
const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Limits the lines of libraries and of the endpoints: any client can cause them, in any number.
#[derive(Debug, Default)]
struct RateLimit {
    targets: Mutex<HashMap<&'static str, WindowLines>>,
}

/// The lines of one target in the current window.
#[derive(Debug)]
struct WindowLines {
    began: Instant,
    count: u32,
    suppressed: u32,
}

impl RateLimit {
    /// Whether a line may be written, and how many were suppressed in the window that ends with it.
    fn count(&self, target: &'static str, now: Instant) -> (bool, u32) {
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

fn is_limited(target: &str) -> bool {
    !target.starts_with("syncline") || target.starts_with(webhooks::LOG_TARGET)
}

impl<S> Filter<S> for RateLimit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let target = event.metadata().target();
        if !is_limited(target) {
            return true;
        }
        let (may_log, suppressed) = self.count(target, environment::clock().monotonic());
        if suppressed > 0 {
            let text = format!("{suppressed} log lines of {target} were suppressed");
            // Not by an event, since one is just being filtered.
            output::err(&match FOR_MACHINES.load(Ordering::Relaxed) {
                true => json!({ "level": "WARN", "message": text, "target": "syncline::cli::logging" })
                    .to_string(),
                false => text,
            });
        }
        may_log
    }
}

/// Logs the error of a command.
pub(super) fn failed(error: &CommandError) {
    if !FOR_MACHINES.load(Ordering::Relaxed) {
        return output::err(&error.render());
    }
    for problem in error.problems() {
        tracing::error!("{problem}");
    }
    let hints = error.hints().join("; ");
    tracing::error!(exit_code = error.exit as u8, hints, "error: {}", error.message());
}

/// Writes to stderr, a whole line at once, what neither a terminal nor a CI runner acts on.
struct EscapingWriter {
    /// Whether the line is a library's, which may repeat a secret.
    is_foreign: bool,
}

impl MakeWriter<'_> for EscapingWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self { is_foreign: true }
    }

    fn make_writer_for(&self, meta: &tracing::Metadata<'_>) -> Self {
        Self { is_foreign: !meta.target().starts_with("syncline") }
    }
}

impl Write for EscapingWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(buffer);
        let text = if self.is_foreign { foreign::without_secrets(&text) } else { text };
        let is_json = FOR_MACHINES.load(Ordering::Relaxed);
        let line = text.trim_end_matches('\n');
        let line = if is_json { foreign::json(line) } else { foreign::escaped(line) };
        let safe = if is_json { line } else { foreign::terminal(&line).into_owned().into() };
        terminal::suspended(|| io::stderr().write_all(format!("{safe}\n").as_bytes()))?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_anybody_can_cause_are_limited_and_the_others_counted() {
        let (limit, now) = (RateLimit::default(), Instant::now());
        let logged = (0..1000).filter(|_| limit.count("h2::proto", now).0).count();
        assert_eq!(logged, 10);
        assert_eq!(limit.count("hyper", now), (true, 0), "each target by itself");
        assert_eq!(limit.count("h2::proto", now + WINDOW), (true, 990));
        assert_eq!(limit.count("h2::proto", now + 2 * WINDOW), (true, 0));
        assert!(is_limited("h2::proto") && is_limited("syncline::webhooks::endpoint"));
        assert!(!is_limited("syncline::watch::cohorts"));
    }
}
