//! Log lines, to stderr.
//!
//! Of libraries only `warn` and up is logged, at any verbosity: lower levels may hold what travels over the wire.
//! What libraries log is foreign text, and is cleaned of secrets.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::error::CommandError;
use super::global_args::{Global, LogFormat};
use super::log_lines::{LogLineLayer, is_ours};
use super::{output, terminal};
use crate::foreign;

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
    // Spans are admitted at every verbosity, because they hold fields of the lines.
    let admits = move |meta: &Metadata<'_>| {
        (meta.is_span() && is_ours(meta.target())) || targets.would_enable(meta.target(), meta.level())
    };
    let filter = filter_fn(admits).with_max_level_hint(level.max(LevelFilter::DEBUG));
    let lines = LogLineLayer::new(global.log_format, write_line).with_filter(filter);
    let registry = tracing_subscriber::registry().with(super::spans::layer()).with(terminal::layer());
    // Started once; a second start would be a bug that only a test could make.
    let _ = registry.with(lines).try_init();
}

/// Writes to stderr, a whole line at once, what neither a terminal nor a CI runner acts on. A library may repeat a secret.
fn write_line(line: &str, is_foreign: bool) {
    let line = if is_foreign { foreign::without_secrets(line) } else { line.into() };
    let safe = match FOR_MACHINES.load(Ordering::Relaxed) {
        true => foreign::json(&line).into_owned(),
        false => foreign::terminal(&foreign::escaped(&line)).into_owned(),
    };
    // A failure to write to stderr cannot be reported.
    let _ = terminal::suspended(|| io::stderr().write_all(format!("{safe}\n").as_bytes()));
}

/// Prints a notice to stderr: as text, or as a JSON log line with `--log-format json`.
pub(super) fn notify(text: &str) {
    if FOR_MACHINES.load(Ordering::Relaxed) {
        tracing::warn!("{text}");
    } else {
        output::err(text);
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
    let hints = error.hints().join("\n");
    tracing::error!(exit_code = error.exit as u8, hints, "error: {}", error.message());
}
