//! Results of segment checks as text, JSON, Markdown and GitHub annotations.

use serde_json::{Value, json};

use super::json::envelope;
use super::markdown::sentence;
use super::segment_remedies::steps;
use super::time::age_text;
use crate::cli::output::{bold, counted, counted_of, dim, red, yellow};
use crate::cli::segments::{NOT_CHECKED, SegmentLookup};
use crate::cli::suggested_command::SuggestedCommand;
use crate::config::{BrazeObject, Config, SegmentConfig, SizeLimits};
use crate::foreign::{escaped, markdown};
use crate::model::{SegmentId, Timestamp, timestamp_text};
use crate::segment_check::{CheckedSegment, ExpectedSegment, SegmentFinding};
use crate::state::{CheckLevel, CheckVerdict, SegmentCheck};

/// Checked segments, with the config that declares them.
#[derive(Clone, Copy)]
pub(in crate::cli) struct SegmentReport<'a> {
    pub(in crate::cli) looked: &'a [SegmentLookup<'a>],
    pub(in crate::cli) config: &'a Config,
    /// The commands of remedies.
    pub(in crate::cli) again: &'a SuggestedCommand,
}

impl SegmentReport<'_> {
    fn count(&self, wanted: CheckVerdict) -> u64 {
        self.looked.iter().filter(|looked| looked.word() == wanted.word()).count() as u64
    }

    /// The lines of each segment.
    pub(in crate::cli) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for looked in self.looked {
            self.one(looked, &mut lines);
        }
        lines
    }

    fn one(&self, looked: &SegmentLookup<'_>, lines: &mut Vec<String>) {
        let segment = looked.segment;
        let head =
            format!("{}  segment {} in {}", bold(segment.id.as_str()), named(segment), segment.connection);
        let checked = match &looked.outcome {
            Ok(checked) => checked,
            Err(not_checked) => {
                let word = match looked.could_not_be_checked() {
                    true => yellow("not checked"),
                    false => "not checked".to_owned(),
                };
                lines.push(format!("{head}: {word}: {}", escaped(&not_checked.why)));
                return;
            }
        };
        lines.push(format!("{head}: {}", verdict_line(looked, checked)));
        for finding in &checked.findings {
            lines.push(format!("  {} {}", mark(finding.what.level()), escaped(&finding.what.to_string())));
            lines.extend(since(finding).map(|since| dim(&format!("      {since}"))));
            let steps = steps(&finding.what, segment, self.config, self.again);
            lines.extend(steps.iter().map(|step| format!("      {}", escaped(step))));
        }
    }

    /// The summary of all segments. `None` if there are no segments.
    pub(in crate::cli) fn summary(&self) -> Option<String> {
        let all = self.looked.len() as u64;
        let (drifted, unknown) = (self.count(CheckVerdict::Drifted), self.count(CheckVerdict::Unknown));
        let not_found_yet = self.looked.iter().filter(|looked| looked.is_not_found_yet()).count() as u64;
        let mut parts = Vec::new();
        if drifted > not_found_yet {
            parts.push(format!("{} drifted", counted_of(drifted - not_found_yet, all, "segment")));
        }
        if not_found_yet > 0 {
            parts.push(format!("{} not found yet", counted_of(not_found_yet, all, "segment")));
        }
        if unknown > 0 {
            parts.push(format!("{} unknown", counted_of(unknown, all, "segment")));
        }
        let not_checked = self.not_checked();
        if not_checked > 0 {
            parts.push(format!("{} not checked", counted_of(not_checked, all, "segment")));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// How many segments could not be checked.
    fn not_checked(&self) -> u64 {
        self.looked.iter().filter(|looked| looked.could_not_be_checked()).count() as u64
    }

    /// Whether a segment has drifted. Otherwise the problems in the summary are missing evidence.
    pub(in crate::cli) fn has_drift(&self) -> bool {
        self.count(CheckVerdict::Drifted) > 0
    }

    /// The complete text of `check`.
    pub(in crate::cli) fn human(&self) -> String {
        if self.looked.is_empty() {
            return "The config declares no segments to check: add them under `segments:`.".to_owned();
        }
        let mut lines = self.lines();
        lines.push(String::new());
        lines.push(match (self.summary(), self.count(CheckVerdict::InSync)) {
            (Some(problems), _) if self.has_drift() => format!("Not in sync: {problems}."),
            (Some(problems), _) => format!("Incomplete: {problems}."),
            (None, 0) => format!("Not checked: {}.", counted(self.looked.len() as u64, "segment")),
            (None, in_sync) => format!("In sync: {}.", counted(in_sync, "segment")),
        });
        lines.join("\n")
    }

    /// Each segment as JSON.
    pub(in crate::cli) fn to_json(self) -> Vec<Value> {
        self.looked.iter().map(|looked| self.one_json(looked)).collect()
    }

    /// The complete JSON of `check`.
    pub(in crate::cli) fn json(&self) -> String {
        let of = |verdict| self.count(verdict) > 0;
        let is_unknown = of(CheckVerdict::Unknown) || self.not_checked() > 0;
        let result = match (of(CheckVerdict::Drifted), is_unknown) {
            (true, _) => "drifted",
            (false, true) => "unknown",
            (false, false) => "in_sync",
        };
        envelope("check", result, &json!({ "segments": self.to_json() }))
    }

    fn one_json(&self, looked: &SegmentLookup<'_>) -> Value {
        let segment = looked.segment;
        let head = json!({
            "id": segment.id.as_str(),
            "connection": segment.connection.as_str(),
            "declared_at": segment.declared_at,
            "verdict": looked.word(),
        });
        let more = match &looked.outcome {
            Err(not_checked) => json!({ "not_checked": not_checked.why, "findings": [] }),
            Ok(CheckedSegment { check, findings, expected }) => json!({
                "since": timestamp_text(check.since.0),
                "in_sync_at": check.in_sync_at.map(|at| timestamp_text(at.0)),
                "braze": check.segment.as_ref().map(|seen| json!({ "id": seen.id, "name": seen.name, "updated_at": seen.updated_at })),
                "size": check.size.as_ref().map(|size| json!({ "day": size.day, "users": size.size })),
                "expected": expected.written_at.map(|_| json!({ "min": expected.min, "max": expected.max })),
                "findings": findings.iter().map(|finding| self.finding_json(finding, segment)).collect::<Vec<_>>(),
            }),
        };
        merged(head, more)
    }

    fn finding_json(&self, finding: &SegmentFinding, segment: &SegmentConfig) -> Value {
        json!({
            "code": finding.what.code(),
            "level": level_word(finding.what.level()),
            "about": finding.what.about(),
            "text": finding.what.to_string(),
            "since": timestamp_text(finding.since),
            "absent_at": finding.absent_at.map(timestamp_text),
            "steps": steps(&finding.what, segment, self.config, self.again),
        })
    }

    /// A Markdown table and the problems, for a pull request.
    pub(in crate::cli) fn markdown(&self) -> String {
        if self.looked.is_empty() {
            return String::new();
        }
        let mut text = String::from("\n| segment | | since |\n|---|---|---|\n");
        for looked in self.looked {
            let since =
                looked.outcome.as_ref().map_or(String::new(), |done| timestamp_text(done.check.since.0));
            let word = match looked.word() {
                "in_sync" => "in sync",
                NOT_CHECKED => "not checked",
                _ if looked.is_not_found_yet() => "**not found yet**",
                "drifted" => "**drifted**",
                _ => "**unknown**",
            };
            text.push_str(&format!("| {} | {word} | {since} |\n", markdown(looked.segment.id.as_str())));
        }
        for looked in self.looked {
            text.push_str(&self.notes(looked));
        }
        text
    }

    fn notes(&self, looked: &SegmentLookup<'_>) -> String {
        let id = markdown(looked.segment.id.as_str());
        let checked = match &looked.outcome {
            Ok(checked) => checked,
            Err(not_checked) => {
                return format!("\n- {id}: not checked: {}\n", sentence(&not_checked.why));
            }
        };
        let mut text = String::new();
        for finding in checked.findings.iter().filter(|finding| finding.what.level() > CheckLevel::Note) {
            text.push_str(&format!("\n- {id}: {}\n", sentence(&finding.what.to_string())));
            let remedies = steps(&finding.what, looked.segment, self.config, self.again);
            for remedy in remedies {
                text.push_str(&format!("  - {}\n", sentence(remedy.trim())));
            }
        }
        text
    }

    /// A GitHub annotation for each problem.
    pub(in crate::cli) fn github(&self) -> String {
        let mut lines = Vec::new();
        for looked in self.looked {
            let segment = looked.segment;
            let (file, line) = segment.declared_at.rsplit_once(':').unwrap_or((&segment.declared_at, "1"));
            let mut annotate = |kind: &str, text: &str| {
                let (file, title) = (property(file), property(&format!("segment {}", segment.id)));
                lines.push(format!("::{kind} file={file},line={line},title={title}::{}", data(text)));
            };
            let checked = match &looked.outcome {
                Ok(checked) => checked,
                Err(_) if !looked.could_not_be_checked() => continue,
                Err(not_checked) => {
                    annotate("warning", &format!("not checked: {}", escaped(&not_checked.why)));
                    continue;
                }
            };
            for finding in &checked.findings {
                let kind = match finding.what.level() {
                    CheckLevel::Drift => "error",
                    CheckLevel::Unknown => "warning",
                    CheckLevel::Note => continue,
                };
                let steps = steps(&finding.what, segment, self.config, self.again);
                let since = since(finding);
                let text = std::iter::once(finding.what.to_string()).chain(since).chain(steps);
                let text: Vec<String> = text.map(|line| escaped(&line).into_owned()).collect();
                annotate(kind, &text.join("\n"));
            }
        }
        lines.join("\n")
    }
}

/// Escapes text for GitHub runners: messages, and properties with further characters.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

fn merged(mut one: Value, more: Value) -> Value {
    if let (Value::Object(one), Value::Object(more)) = (&mut one, more) {
        one.extend(more);
    }
    one
}

fn level_word(level: CheckLevel) -> &'static str {
    match level {
        CheckLevel::Note => "note",
        CheckLevel::Unknown => "unknown",
        CheckLevel::Drift => "drift",
    }
}

fn mark(level: CheckLevel) -> String {
    match level {
        CheckLevel::Drift => red("!"),
        CheckLevel::Unknown => yellow("?"),
        CheckLevel::Note => dim("-"),
    }
}

/// The segment as the config names it.
fn named(segment: &SegmentConfig) -> String {
    match &segment.named {
        BrazeObject::Name(name) => format!("\"{}\"", escaped(name)),
        BrazeObject::Id(id) => id.clone(),
    }
}

fn verdict_line(looked: &SegmentLookup<'_>, checked: &CheckedSegment) -> String {
    let since = timestamp_text(checked.check.since.0);
    match (checked.verdict(), &checked.check.size) {
        (CheckVerdict::InSync, Some(size)) => {
            let difference = difference(size.size, &checked.expected, &looked.segment.size);
            format!("in sync, {} on {}{difference}", counted(size.size, "user"), size.day)
        }
        (CheckVerdict::Drifted, _) if looked.is_not_found_yet() => "not found yet".to_owned(),
        (CheckVerdict::InSync, None) => "in sync".to_owned(),
        (CheckVerdict::Drifted, _) => format!("drifted, since {since}"),
        (CheckVerdict::Unknown, _) => format!("unknown, since {since}"),
    }
}

/// The expected size, and why another one is accepted.
fn difference(size: u64, expected: &ExpectedSegment, limits: &SizeLimits) -> String {
    let ExpectedSegment { min, max, .. } = *expected;
    if !limits.compare || (min..=max).contains(&size) {
        return String::new();
    }
    let number = if min == max { min.to_string() } else { format!("{min} to {max}") };
    let is_in_share = (limits.min.of(min)..=limits.max.of(max)).contains(&size);
    let slack = if is_in_share { String::new() } else { format!(" (within `slack` {})", limits.slack) };
    format!(", expected {number}{slack}")
}

/// Since when a problem exists.
fn since(finding: &SegmentFinding) -> Option<String> {
    let SegmentFinding { what, since, absent_at } = finding;
    let since = timestamp_text(*since);
    (what.level() > CheckLevel::Note).then(|| match absent_at {
        Some(fine) => format!("found first at {since}; not so at {}", timestamp_text(*fine)),
        None => format!("found first at {since}, by the first check of it"),
    })
}

/// The results of the last checks, for `status`.
pub(in crate::cli) fn last_lines(last: &[(&SegmentId, Option<SegmentCheck>)], now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    for (id, check) in last {
        let Some(check) = check else {
            lines.push(format!("{}  a segment: not checked yet", bold(id.as_str())));
            continue;
        };
        let is_not_found_yet =
            check.segment.is_none() && check.findings.iter().any(|finding| finding.code == "segment_missing");
        let verdict = match check.verdict {
            CheckVerdict::InSync => "in sync".to_owned(),
            CheckVerdict::Drifted if is_not_found_yet => "not found yet".to_owned(),
            CheckVerdict::Drifted => format!("drifted, since {}", timestamp_text(check.since.0)),
            CheckVerdict::Unknown => format!("unknown, since {}", timestamp_text(check.since.0)),
        };
        lines.push(format!(
            "{}  a segment: {verdict}; checked {}",
            bold(id.as_str()),
            age_text(check.at.0, now)
        ));
        let problems = check.findings.iter().filter(|finding| finding.level > CheckLevel::Note);
        lines.extend(
            problems.map(|finding| format!("    {} {}", mark(finding.level), escaped(&finding.text))),
        );
    }
    lines
}

/// The results of the last checks as JSON.
pub(in crate::cli) fn last_json(last: &[(&SegmentId, Option<SegmentCheck>)]) -> Vec<Value> {
    let finding = |finding: &crate::state::CheckFinding| {
        json!({
            "code": finding.code,
            "level": level_word(finding.level),
            "about": finding.about,
            "text": finding.text,
            "since": timestamp_text(finding.since.0),
        })
    };
    let one = |(id, check): &(&SegmentId, Option<SegmentCheck>)| {
        json!({
            "id": id.as_str(),
            "verdict": check.as_ref().map(|check| check.verdict.word()),
            "since": check.as_ref().map(|check| timestamp_text(check.since.0)),
            "checked_at": check.as_ref().map(|check| timestamp_text(check.at.0)),
            "findings": check.iter().flat_map(|check| &check.findings).map(finding).collect::<Vec<_>>(),
        })
    };
    last.iter().map(one).collect()
}
