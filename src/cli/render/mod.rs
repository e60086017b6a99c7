//! Renders plans and reports as text, JSON and Markdown.

pub(super) mod approval;
pub(super) mod export;
pub(super) mod guard_violation;
pub(super) mod heap_segments;
pub(super) mod json;
pub(super) mod markdown;
pub(super) mod plan;
mod pushdown;
pub(super) mod report;
pub(super) mod segment_remedies;
pub(super) mod segments;
pub(super) mod status;
mod table;
pub(super) mod target;
pub(super) mod time;
mod triggers;
mod user_json;
mod user_report;
pub(super) mod user_stream;

use std::collections::BTreeMap;
use std::time::Duration;

use super::output::{count, counted, counted_of, dim, yellow};
use super::suggested_command::SuggestedCommand;
use crate::config::Config;
use crate::foreign::escaped;
use crate::model::{CohortId, Identifier, MatchTally, reason_words};
use crate::plan::Cost;
use crate::reconcile::RunPlan;
use segments::SegmentReport;
use target::RunTarget;

/// How a plan is rendered, and what is reported with it.
pub(super) struct RenderOptions<'a> {
    /// What the plan is for.
    pub(super) target: &'a RunTarget,
    /// The command that produced the plan.
    pub(super) again: &'a SuggestedCommand,
    /// Show samples in full.
    pub(super) show_identifiers: bool,
    /// Ids under `removed:` that have no cohort in the state.
    pub(super) unknown: &'a [CohortId],
    /// Why `reconcile` would fail on this machine: each missing key with its connection.
    pub(super) missing_keys: &'a [String],
    /// The results of the segment checks.
    pub(super) segments: SegmentReport<'a>,
}

/// How the report of a run is rendered.
#[derive(Clone, Copy)]
pub(super) struct ReportOptions<'a> {
    /// What the run is for.
    pub(super) target: &'a RunTarget,
    /// The command that produced the report.
    pub(super) again: &'a SuggestedCommand,
}

/// Why an id under `removed:` changes nothing.
pub(super) fn unknown_line(id: &CohortId) -> String {
    format!("`{id}` is listed under `removed:`, and the state has no such cohort: is the id right?")
}

/// The number of entries that the patterns under `include:` skip, if any.
pub(super) fn skipped_line(config: &Config) -> Option<String> {
    let skipped = config.skipped_includes;
    (skipped > 0).then(|| {
        let entries = if skipped == 1 { "entry" } else { "entries" };
        format!("`include:` skips {} hidden or temporary {entries}", count(skipped))
    })
}

/// The members that Braze keeps of an orphaned cohort.
fn known_members(members: Option<u64>) -> String {
    members.map_or_else(|| "an unknown number of members".to_owned(), |members| counted(members, "member"))
}

/// The warnings about a config.
pub(super) fn warning_lines(config: &Config) -> Vec<String> {
    config.warnings().iter().map(|warning| format!("{} {}", yellow("!"), escaped(warning))).collect()
}

/// Problems for the summary: how many cohorts could not be planned, and how many the guard blocks.
pub(super) fn plan_problems(plan: &RunPlan) -> Vec<String> {
    let blocked = plan.cohorts.iter().filter(|cohort| !cohort.verdict.violations.is_empty()).count() as u64;
    problem_counts(plan.failed.len() as u64, blocked, (plan.cohorts.len() + plan.failed.len()) as u64)
}

/// [`plan_problems`] from counts.
pub(super) fn problem_counts(failed: u64, blocked: u64, all: u64) -> Vec<String> {
    let mut parts = Vec::new();
    if failed > 0 {
        parts.push(format!("{} could not be planned", counted_of(failed, all, "cohort")));
    }
    if blocked > 0 {
        parts.push(format!("the guard blocks changes of {}", counted_of(blocked, all, "cohort")));
    }
    parts
}

/// Shortened samples, each once: `us…7 (2 alike)`.
pub(super) fn distinct(samples: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<(String, u64)> = Vec::new();
    for sample in samples {
        match found.iter_mut().find(|(known, _)| *known == sample) {
            Some((_, number)) => *number += 1,
            None => found.push((sample, 1)),
        }
    }
    let text = |(sample, number)| if number > 1 { format!("{sample} ({number} alike)") } else { sample };
    found.into_iter().map(text).collect()
}

/// Samples of a longer list, with the number of omitted entries.
pub(super) fn and_more(shown: &[String], more: u64) -> String {
    let end = if more > 0 { format!(", … and {} more", count(more)) } else { String::new() };
    format!("{}{end}", shown.join(", "))
}

/// The first rejected rows, one per line.
pub(super) fn unused_lines(matched: &MatchTally, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        matched.samples.iter().map(|s| dim(&format!("{indent}{}", escaped(s)))).collect();
    let more = rejected(matched).saturating_sub(matched.samples.len() as u64);
    lines.extend((more > 0).then(|| dim(&format!("{indent}… and {} more", count(more)))));
    lines
}

/// `3,412 users in 4,120 rows of 1 file; 702 duplicates`.
pub(super) fn matched_line(matched: &MatchTally, users: u64) -> String {
    let users = counted(users, "user");
    let rows = counted(matched.rows, "row");
    let mut line = match matched.files {
        0 => format!("{users} in {rows}"),
        files => format!("{users} in {rows} of {}", counted(files, "file")),
    };
    if matched.duplicates > 0 {
        line.push_str(&format!("; {}", counted(matched.duplicates, "duplicate")));
    }
    if matched.rekeyed > 0 {
        line.push_str(&format!("; {} re-keyed to their owner", count(matched.rekeyed)));
    }
    if matched.ambiguous > 0 {
        line.push_str(&format!(", {} of them ambiguous", count(matched.ambiguous)));
    }
    if matched.skipped_files > 0 {
        let entries = if matched.skipped_files == 1 { "entry" } else { "entries" };
        line.push_str(&format!("; {} hidden or temporary {entries} skipped", count(matched.skipped_files)));
    }
    line
}

/// Counts members with similar identifiers and rows with invisible characters.
pub(super) fn spelled_line(matched: &MatchTally) -> Option<String> {
    let alike = matched.case_colliding.filter(|count| *count > 0).map(|members| {
        format!(
            "{} with the same id but for upper and lower case, invisible characters or Unicode composition: to Braze \
             they are different users",
            counted(members, "member")
        )
    });
    let invisible = (matched.shapes.invisible > 0).then(|| {
        format!(
            "{} with invisible characters in the identifier (zero-width, byte order mark, soft hyphen)",
            counted(matched.shapes.invisible, "row")
        )
    });
    let lines: Vec<String> = alike.into_iter().chain(invisible).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// `3 placeholders instead of an identifier, 1 too long identifier`.
pub(super) fn rejects_line(matched: &MatchTally) -> Option<String> {
    (!matched.rejects.is_empty()).then(|| reasons(&matched.rejects))
}

/// Counts by reason, in words.
pub(in crate::cli) fn reasons(numbers: &BTreeMap<impl AsRef<str>, u64>) -> String {
    let each = numbers
        .iter()
        .map(|(code, number)| format!("{} {}", count(*number), reason_words(code.as_ref(), *number)));
    each.collect::<Vec<_>>().join(", ")
}

/// The number of rejected rows.
pub(super) fn rejected(matched: &MatchTally) -> u64 {
    matched.rejects.values().sum()
}

/// `5 requests, 3,412 data points`, with the time if the rate limit extends it.
pub(super) fn cost_line(cost: Cost) -> String {
    let mut line =
        format!("{}, {}", counted(cost.requests, "request"), counted(cost.data_points, "data point"));
    if cost.min_time > Duration::ZERO {
        line.push_str(&format!(", at least {} at the rate limit", hours(cost.min_time)));
    }
    line
}

fn hours(time: Duration) -> String {
    counted(time.as_secs() / 3600, "hour")
}

/// A sample identifier, shortened unless `in_full`.
pub(super) fn sample(packed: &[u8], in_full: bool) -> String {
    let shown = match Identifier::unpack(packed) {
        Ok((identifier, _)) if in_full => identifier.in_full(),
        Ok((identifier, _)) => identifier.shortened(),
        Err(_) => "?".to_owned(),
    };
    escaped(&shown).into_owned()
}
