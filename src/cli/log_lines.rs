//! Formats log lines: text for people, JSON for machines, both from the same fields.
//!
//! A line has the fields of its event and of the spans around it, and always `run`: the id of the run, or of the process
//! for a line outside of a run. Lines within a request or the read of a source have `ms`, the time since its start.

use std::fmt::{self, Write as _};
use std::time::Instant;

use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::environment;
use super::global_args::LogFormat;
use super::log_limit::{LineLimit, is_limited};
use crate::model::Clock;
use crate::wait_log::{REQUEST_SPAN, WAIT_TARGET};

/// Spans that measure the time of their lines.
const TIMED_SPANS: [&str; 2] = [REQUEST_SPAN, "source"];

/// The field that says what to do: a hint on each of its lines. In JSON it is an array.
const HINTS: &str = "hints";

/// Writes a line. The flag says whether a library wrote it.
pub(super) type LineWriter = fn(&str, bool);

/// Passes every event that its filter admits to a writer, as one line.
pub(super) struct LogLineLayer {
    format: LogFormat,
    clock: Clock,
    write: LineWriter,
    limit: LineLimit,
}

impl LogLineLayer {
    pub(super) fn new(format: LogFormat, write: LineWriter) -> Self {
        Self { format, clock: environment::clock(), write, limit: LineLimit::default() }
    }
}

impl LogLineLayer {
    /// Counts a line of a target with a limit. Writes how many were suppressed in the window that ends with it.
    fn may_write(&self, target: &'static str) -> bool {
        if !is_limited(target) {
            return true;
        }
        let (may_write, suppressed) = self.limit.count(target, self.clock.monotonic());
        if suppressed > 0 {
            let mut fields = LineFields::default();
            fields.add("message", Value::from(format!("suppressed log lines of {target}: {suppressed}")));
            let line = LogLine { at: self.clock, level: Level::WARN, target: module_path!(), fields };
            (self.write)(&line.text(self.format), false);
        }
        may_write
    }
}

/// The fields of a span, and its start.
struct SpanFields {
    fields: LineFields,
    began: Instant,
}

impl<S> Layer<S> for LogLineLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = LineFields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(SpanFields { fields, began: self.clock.monotonic() });
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let meta = event.metadata();
        if !self.may_write(meta.target()) {
            return;
        }
        let mut fields = LineFields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<SpanFields>() {
                fields.add_all(&outer.fields);
                if TIMED_SPANS.contains(&span.name()) {
                    let ms = self.clock.monotonic().saturating_duration_since(outer.began).as_millis();
                    fields.add("ms", Value::from(u64::try_from(ms).unwrap_or(u64::MAX)));
                }
            }
        }
        let line = LogLine { at: self.clock, level: *meta.level(), target: meta.target(), fields };
        (self.write)(&line.text(self.format), !is_ours(meta.target()));
    }
}

/// Whether this program wrote a line, and not a library.
pub(super) fn is_ours(target: &str) -> bool {
    target.starts_with("syncline")
}

struct LogLine<'a> {
    at: Clock,
    level: Level,
    target: &'a str,
    fields: LineFields,
}

impl LogLine<'_> {
    fn text(mut self, format: LogFormat) -> String {
        let at = self.at.now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let message = self.fields.take("message").unwrap_or_default();
        let run = self.fields.take("run").unwrap_or_else(|| environment::process_run().as_str().into());
        match format {
            LogFormat::Json => self.json(&at, &message, &run),
            LogFormat::Text => self.human(&at, &message, &run),
        }
    }

    fn json(&self, at: &str, message: &Value, run: &Value) -> String {
        let mut line = format!("{{\"timestamp\":\"{at}\",\"level\":\"{}\",\"run\":{run}", self.level);
        let _ = write!(line, ",\"message\":{message}");
        for (name, value) in &self.fields.0 {
            let value = match *name {
                HINTS => json!(self.hints().collect::<Vec<_>>()),
                _ => value.clone(),
            };
            let _ = write!(line, ",\"{name}\":{value}");
        }
        let _ = write!(line, ",\"target\":{}}}", Value::from(self.target));
        line
    }

    fn human(&self, at: &str, message: &Value, run: &Value) -> String {
        let mut line = format!("{at} {:>5} {}", self.level.as_str(), plain(message));
        for hint in self.hints() {
            let _ = write!(line, "; {hint}");
        }
        for (name, value) in self.fields.0.iter().filter(|(name, _)| !self.is_in_message(name)) {
            let _ = write!(line, " {name}={}", quoted(value));
        }
        if !is_ours(self.target) {
            let _ = write!(line, " target={}", self.target);
        }
        let _ = write!(line, " run={}", plain(run));
        line
    }

    /// What to do.
    fn hints(&self) -> impl Iterator<Item = &str> {
        let hints = self.fields.0.iter().filter(|(name, _)| *name == HINTS);
        hints.filter_map(|(_, value)| value.as_str()).flat_map(str::lines)
    }

    /// Whether the text of the line has the field already.
    fn is_in_message(&self, name: &str) -> bool {
        let of_waits = ["vendor", "cause", "attempt", "attempts", "retries", "wait_ms"];
        name == HINTS || (self.target == WAIT_TARGET && of_waits.contains(&name))
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A value without spaces as it is, and others in quotes. Control characters are escaped when the line is written.
fn quoted(value: &Value) -> String {
    match value.as_str() {
        Some(text) if text.is_empty() || text.contains(|c: char| c.is_whitespace() || "\"=".contains(c)) => {
            format!("\"{}\"", text.replace('"', "\\\""))
        }
        _ => plain(value),
    }
}

/// The fields of a line, in order. Of two with one name the first one counts: it is nearer to the event.
#[derive(Default)]
struct LineFields(Vec<(&'static str, Value)>);

impl LineFields {
    fn add(&mut self, name: &'static str, value: Value) {
        if !self.0.iter().any(|(known, _)| *known == name) {
            self.0.push((name, value));
        }
    }

    fn add_all(&mut self, outer: &Self) {
        outer.0.iter().for_each(|(name, value)| self.add(name, value.clone()));
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(index).1)
    }
}

impl Visit for LineFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: &'static str, fields: &[(&'static str, Value)], format: LogFormat) -> String {
        let fields = LineFields(fields.to_vec());
        let line = LogLine { at: environment::clock(), level: Level::WARN, target, fields }.text(format);
        // The time and the run of this process.
        line.replace(environment::process_run().as_str(), "R").split_off(24)
    }

    #[test]
    fn a_line_has_the_same_fields_as_text_and_as_json() {
        let fields = [
            ("message", json!("retry \"x\"")),
            ("cause", json!("a b")),
            ("status", json!(503)),
            ("hints", json!("one\ntwo")),
        ];
        let text = line("syncline::x", &fields, LogFormat::Text);
        assert_eq!(text, "  WARN retry \"x\"; one; two cause=\"a b\" status=503 run=R");
        let json = line("syncline::x", &fields, LogFormat::Json);
        let parsed: Value = serde_json::from_str(&format!("{{{}", json.split_once(',').unwrap().1)).unwrap();
        let expected = json!({
            "level": "WARN", "run": "R", "message": "retry \"x\"", "cause": "a b", "status": 503,
            "hints": ["one", "two"], "target": "syncline::x",
        });
        assert_eq!(parsed, expected);
        let waits = line(WAIT_TARGET, &fields, LogFormat::Text);
        assert!(!waits.contains("cause="), "{waits}");
        assert!(line("h2", &fields, LogFormat::Text).ends_with(" target=h2 run=R"));
    }
}
