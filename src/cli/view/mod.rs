//! Plans and reports in words, in JSON and in Markdown. Takes values, gives back text.

pub(super) mod json;
pub(super) mod markdown;
pub(super) mod plan;
pub(super) mod refusal;
pub(super) mod report;

use std::time::Duration;

use super::output::{count, counted};
use crate::model::Identifier;
use crate::model::Matched;
use crate::plan::Cost;

/// `3,412 people in 4,120 rows of 1 file; 702 duplicates`, and the like.
pub(super) fn matched_line(matched: &Matched, people: u64) -> String {
    let (rows, files) = (counted(matched.rows, "row"), counted(matched.files, "file"));
    let mut line = format!(
        "{} in {rows} of {files}",
        if people == 1 { "1 person".to_owned() } else { format!("{} people", count(people)) }
    );
    if matched.duplicates > 0 {
        line.push_str(&format!("; {}", counted(matched.duplicates, "duplicate")));
    }
    line
}

/// `3 placeholder, 1 too_long`.
pub(super) fn rejects_line(matched: &Matched) -> Option<String> {
    let reasons: Vec<String> =
        matched.rejects.iter().map(|(reason, number)| format!("{} {reason}", count(*number))).collect();
    (!reasons.is_empty()).then(|| reasons.join(", "))
}

/// How many rows name nobody.
pub(super) fn rejected(matched: &Matched) -> u64 {
    matched.rejects.values().sum()
}

/// `5 requests, 3,412 data points`, and the time if the rate limit makes it long.
pub(super) fn cost_line(cost: Cost) -> String {
    let mut line =
        format!("{}, {}", counted(cost.requests, "request"), counted(cost.data_points, "data point"));
    if cost.least_time > Duration::ZERO {
        line.push_str(&format!(", at least {} at the rate limit", hours(cost.least_time)));
    }
    line
}

fn hours(time: Duration) -> String {
    counted(time.as_secs() / 3600, "hour")
}

/// A sample: shortened, unless the person wants it in full.
pub(super) fn sample(packed: &[u8], in_full: bool) -> String {
    match Identifier::unpack(packed) {
        Ok((identifier, _)) if in_full => identifier.in_full(),
        Ok((identifier, _)) => identifier.shortened(),
        Err(_) => "?".to_owned(),
    }
}
