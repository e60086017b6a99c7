//! Log lines: to stderr, from syncline itself, without secrets.
//!
//! Libraries are heard from `warn` up only, at any verbosity: what they log at lower levels may hold
//! what travels over the wire.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::args::{Global, LogFormat};
use super::error::CommandError;
use super::output;

/// Whether stderr is read by a machine, which must not find anything but JSON there.
static FOR_MACHINES: AtomicBool = AtomicBool::new(false);

/// Starts logging as the command line says. A server has nobody who watches, so it logs more by itself.
pub(super) fn start(global: &Global, is_server: bool) {
    let level = match global.verbose + u8::from(is_server) {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    FOR_MACHINES.store(global.log_format == LogFormat::Json, Ordering::Relaxed);
    let targets = Targets::new().with_default(LevelFilter::WARN).with_target("syncline", level);
    let layer = tracing_subscriber::fmt::layer().with_writer(Redacting).with_ansi(false);
    let registry = tracing_subscriber::registry().with(super::spans::layer());
    // Started once; a second start would be a bug that only a test could make.
    let _ = match global.log_format {
        LogFormat::Text => registry.with(layer.with_filter(targets)).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true).with_filter(targets)).try_init(),
    };
}

/// Tells whoever watches: as a line of text, or as a log line where those are JSON.
pub(super) fn tell(text: &str) {
    if FOR_MACHINES.load(Ordering::Relaxed) {
        tracing::warn!("{text}");
    } else {
        output::err(text);
    }
}

/// Says why the command failed.
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

/// Writes to stderr what is left without secrets. A line is written at once, so none is cut in two.
struct Redacting;

impl MakeWriter<'_> for Redacting {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

impl Write for Redacting {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let text = output::redacted(&String::from_utf8_lossy(buffer));
        io::stderr().write_all(text.as_bytes())?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
