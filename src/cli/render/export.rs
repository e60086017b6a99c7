//! Reports of exports: text and JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::reasons;
use crate::cli::output::{bold, count, counted, counted_as, counted_of, dim, green, red, yellow};
use crate::config::ExportConfig;
use crate::export::{ExportDryRun, ExportReport};
use crate::foreign::escaped;
use crate::model::timestamp_text;
use crate::state::ExportProgress;

/// Why events are held.
const HELD: &str = "held: the user is not identified yet, or Heap's rate limit is reached";

/// Maximum number of unknown types in the text.
const TYPES_SHOWN: usize = 3;

/// The lines of each export.
pub(in crate::cli) fn lines(reports: &[ExportReport]) -> Vec<String> {
    let mut lines = Vec::new();
    reports.iter().for_each(|report| one(report, &mut lines));
    lines
}

fn one(report: &ExportReport, lines: &mut Vec<String>) {
    let tally = &report.tally;
    lines.push(format!("{}  {}", bold(report.id.as_str()), what(report)));
    if !tally.ignored.is_empty() {
        let ignored = tally.ignored.values().sum();
        lines.push(dim(&format!("    {} ignored: {}", counted(ignored, "event"), reasons(&tally.ignored))));
    }
    let mut warn = |text: String| lines.push(format!("  {} {text}", yellow("!")));
    if !tally.unknown_types.is_empty() {
        let named: Vec<String> = tally
            .unknown_types
            .iter()
            .map(|(of, number)| format!("{} {}", count(*number), escaped(of)))
            .collect();
        let shown = &named[..named.len().min(TYPES_SHOWN)];
        let shown = super::and_more(shown, (named.len() - shown.len()) as u64);
        warn(format!("events of unknown types, forwarded like the others: {shown}"));
    }
    if tally.cut > 0 {
        warn(format!("{}; the next run reads the rest", incomplete(tally.cut)));
    }
    if report.waiting > 0 {
        warn(format!("{} {HELD}", counted(report.waiting, "event")));
    }
    if tally.rejected() > 0 {
        warn(format!("{} rejected: {}", counted(tally.rejected(), "event"), reasons(&tally.rejected)));
        lines.extend(
            report.rejects_file.iter().map(|file| dim(&format!("    {}", escaped(&file.to_string_lossy())))),
        );
    }
    for unread in &tally.unread {
        lines.push(format!("  {} {}", red("not read:"), escaped(unread)));
    }
    if let Some(stop) = &report.stop_reason {
        lines.push(match stop.is_requested() {
            true => format!("  {} {stop}", yellow("!")),
            false => format!("  {} {}", red("stopped:"), escaped(&stop.to_string())),
        });
    }
}

fn incomplete(files: u64) -> String {
    counted_as(files, "file is incomplete", "files are incomplete")
}

fn wait(events: u64) -> String {
    counted_as(events, "event waits", "events wait")
}

fn what(report: &ExportReport) -> String {
    let tally = &report.tally;
    if tally.events == 0 && !report.changed_anything() {
        return if report.is_complete() {
            "in sync, nothing new".to_owned()
        } else {
            "nothing was sent".to_owned()
        };
    }
    let mut parts = vec![format!("read {}", counted(tally.events, "event"))];
    if tally.files > 0 {
        parts[0].push_str(&format!(" in {}", counted(tally.files, "file")));
    }
    parts.push(format!("sent {}", green(&count(tally.sent))));
    if tally.profiles > 0 {
        parts.push(format!("updated {}", counted(tally.profiles, "user")));
    }
    parts.join(", ")
}

/// The summary of exports: `1 export, 2,731 events sent in 3 requests`.
pub(in crate::cli) fn in_short(reports: &[ExportReport]) -> String {
    let all = reports.len() as u64;
    let sent = reports.iter().map(|report| report.tally.sent + report.tally.profiles).sum();
    let requests = reports.iter().map(|report| report.tally.requests()).sum();
    let stopped = reports.iter().filter(|report| !report.is_complete()).count() as u64;
    let mut text = format!(
        "{}, {} to Heap in {}",
        counted(all, "export"),
        counted(sent, "event"),
        counted(requests, "request")
    );
    if stopped > 0 {
        text.push_str(&format!("; {} not finished", counted_of(stopped, all, "export")));
    }
    text
}

/// The JSON of export reports.
pub(in crate::cli) fn to_json(reports: &[ExportReport]) -> Vec<Value> {
    let one = |report: &ExportReport| {
        let tally = &report.tally;
        json!({
            "id": report.id.as_str(),
            "source": report.source,
            "connection": report.to.as_str(),
            "files": tally.files,
            "events": tally.events,
            "sent": tally.sent,
            "users_updated": tally.profiles,
            "ignored": tally.ignored,
            "rejected": tally.rejected,
            "held": tally.held,
            "waiting": report.waiting,
            "incomplete_files": tally.cut,
            "other_files": report.others,
            "unknown_types": tally.unknown_types,
            "requests": tally.requests(),
            "requests_by_outcome": tally.requests_by_outcome,
            "read_errors": tally.unread,
            "rejects_file": report.rejects_file,
            "error": report.stop_reason.as_ref().map(ToString::to_string),
        })
    };
    reports.iter().map(one).collect()
}

/// The input and minimum duration of a dry run. `limit` is the number of events per time window.
pub(in crate::cli) fn survey_line(
    survey: &ExportDryRun,
    batch_len: usize,
    limit: Option<(u64, Duration)>,
) -> String {
    if survey.files == 0 && survey.waiting == 0 {
        return "nothing new".to_owned();
    }
    let files = counted(survey.files, "file");
    let days = if survey.days > 0 { format!(" of {}", counted(survey.days, "day")) } else { String::new() };
    let more = if survey.more { ", and further files" } else { "" };
    let events = survey.events + survey.waiting;
    let mut line = format!(
        "{} in {files}{days} ({}){more}; at most {}",
        counted(survey.events, "event"),
        counted(survey.bytes, "byte"),
        counted(events.div_ceil(batch_len as u64), "request")
    );
    if survey.waiting > 0 {
        line.push_str(&format!("; {} from earlier runs", wait(survey.waiting)));
    }
    if survey.unreadable > 0 {
        line.push_str(&format!("; {} cannot be read to the end", counted(survey.unreadable, "file")));
    }
    if let Some(time) = min_time(events, limit).filter(|time| *time > Duration::ZERO) {
        line.push_str(&format!("; at least {} at the rate limit if all are sent", minutes(time)));
    }
    line
}

/// The duration of this number of events at the rate limit.
pub(in crate::cli) fn min_time(events: u64, limit: Option<(u64, Duration)>) -> Option<Duration> {
    let (number, window) = limit?;
    let windows = u32::try_from(events.saturating_sub(1) / number.max(1)).unwrap_or(u32::MAX);
    Some(window.saturating_mul(windows))
}

fn minutes(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => counted(seconds, "second"),
        seconds => counted(seconds / 60, "minute"),
    }
}

/// The progress of an export, from the state.
pub(super) fn status_lines(export: &ExportConfig, record: &ExportProgress) -> Vec<String> {
    let number = |what: &str| record.counts.get(what).copied().unwrap_or(0);
    let head = format!("{}  {} to {}", bold(export.id.as_str()), export.source.name(), export.to);
    if record.written_at.is_none() {
        return vec![format!("{head}: nothing read yet")];
    }
    let mut lines = vec![format!(
        "{head}: {} sent of {} read",
        counted(number("sent"), "event"),
        count(number("events"))
    )];
    let mut warn = |number: u64, text: &str| {
        if number > 0 {
            lines.push(format!("    {} {} {text}", yellow("!"), count(number)));
        }
    };
    warn(record.held_len(), HELD);
    warn(number("rejected"), "rejected so far; `syncline replay` sends them again");
    let cut = record.parts.values().filter(|part| part.truncated_since.is_some()).count() as u64;
    warn(cut, "files are incomplete; a later run reads the rest");
    lines
}

/// The progress of an export as JSON.
pub(super) fn status_json(export: &ExportConfig, record: &ExportProgress) -> Value {
    json!({
        "id": export.id.as_str(),
        "source": export.source.name(),
        "connection": export.to.as_str(),
        "version": record.number,
        "written_at": record.written_at.map(timestamp_text),
        "counts": record.counts,
        "waiting": record.held_len(),
        "incomplete_files": record.parts.values().filter(|part| part.truncated_since.is_some()).count(),
        "unknown_types": record.unknown_types,
    })
}
