//! Judgment of a segment: findings from the evidence and the expected size. Pure.

use super::expect::ExpectedSegment;
use super::finding::{CheckedObject, ComparedSize, EvidenceGap, MessagingTarget, SizeUnknown};
use super::gather::{LookupResult, MessagingUse, SeenObject, SegmentEvidence};
use crate::config::{BrazeObject, SegmentConfig};
use crate::connector::braze::rest::{MessagingDetails, RestError, SizeOfDay};
use crate::model::{Percentage, Timestamp};
use crate::state::{ExpectedUsers, SeenSize, SegmentCheck};

/// A cohort with the names that Braze's filter text may contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CohortName {
    pub(super) id: String,
    pub(super) name: String,
    /// Whether the segment should filter on it.
    pub(super) wanted: bool,
}

/// The input of a judgment besides the evidence.
pub(super) struct SegmentCase<'a> {
    pub(super) segment: &'a SegmentConfig,
    /// All cohorts of the workspace.
    pub(super) cohorts: &'a [CohortName],
    pub(super) expected: &'a ExpectedSegment,
    pub(super) last: Option<&'a SegmentCheck>,
    pub(super) now: Timestamp,
}

/// The result of a judgment.
pub(super) struct JudgedSegment {
    pub(super) findings: Vec<CheckedObject>,
    pub(super) named_all: bool,
    /// The newest size that Braze reports.
    pub(super) size: Option<SeenSize>,
}

pub(super) fn judge(case: &SegmentCase<'_>, evidence: &SegmentEvidence) -> JudgedSegment {
    let mut judged = JudgedSegment { findings: Vec::new(), named_all: false, size: None };
    match &evidence.segment {
        Ok(LookupResult::One(seen)) => judge_segment(case, seen, evidence, &mut judged),
        Ok(LookupResult::Absent) => {
            judged.findings.push(CheckedObject::SegmentMissing(case.segment.named.clone()));
        }
        Ok(LookupResult::Many(count)) => judged.findings.push(CheckedObject::SegmentAmbiguous {
            name: text_of(&case.segment.named).to_owned(),
            count: *count,
        }),
        Err(error) => judged.findings.push(not_reported("", error)),
    }
    for one in &evidence.uses {
        judge_use(case, one, &mut judged.findings);
    }
    let canaries = &case.segment.canaries;
    match &evidence.unknown {
        Ok(unknown) if !unknown.is_empty() => {
            judged.findings.push(CheckedObject::CanaryUnknown(unknown.clone()));
        }
        Err(error) if !canaries.is_empty() => judged.findings.push(not_reported("canaries", error)),
        _ => {}
    }
    if !case.expected.absent_canaries.is_empty() {
        judged.findings.push(CheckedObject::CanaryAbsent(case.expected.absent_canaries.clone()));
    }
    if !evidence.uses.is_empty() {
        judged.findings.push(CheckedObject::TargetUnchecked);
    }
    judged
}

pub(super) fn text_of(named: &BrazeObject) -> &str {
    match named {
        BrazeObject::Id(text) | BrazeObject::Name(text) => text,
    }
}

fn not_reported(about: &str, error: &RestError) -> CheckedObject {
    let is_key =
        matches!(error, RestError::Unauthorized(_) | RestError::OtherWorkspace | RestError::Forbidden { .. });
    let is_passing = matches!(error, RestError::Unavailable(_) | RestError::RateLimited(_));
    let is_other = *error == RestError::OtherWorkspace;
    let why = EvidenceGap { text: error.to_string(), is_key, is_other, is_passing };
    CheckedObject::NotReported { about: about.to_owned(), why }
}

fn judge_segment(
    case: &SegmentCase<'_>,
    seen: &SeenObject,
    evidence: &SegmentEvidence,
    judged: &mut JudgedSegment,
) {
    let last = case.last.and_then(|last| last.segment.as_ref()).filter(|last| last.id == seen.id);
    let name = seen.details.name.trim();
    let expected_name = match &case.segment.named {
        BrazeObject::Name(wanted) => Some(wanted.as_str()),
        BrazeObject::Id(_) => None,
    };
    if !seen.listed {
        judged.findings.push(CheckedObject::SegmentArchived(name.to_owned()));
    }
    if let Some(from) = expected_name.filter(|from| *from != name) {
        judged.findings.push(CheckedObject::SegmentRenamed { from: from.to_owned(), to: name.to_owned() });
    }
    let edited = last.filter(|last| last.updated_at != seen.details.updated_at);
    if let (Some(_), Some(at)) = (edited, &seen.details.updated_at) {
        judged.findings.push(CheckedObject::SegmentEdited(at.clone()));
    }
    let size = judge_size(case, seen, evidence, judged);
    judge_filters(case, &seen.details.description, last.is_some_and(|last| last.named_all), size, judged);
}

/// Whether the size confirms the segment, contradicts it, or is no evidence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CohortMention {
    For,
    Against,
    Not,
}

/// Searches Braze's filter text for the names of cohorts. The text is undocumented, so a name counts as a filter on that
/// cohort. If the text has no known name, the size decides.
fn judge_filters(
    case: &SegmentCase<'_>,
    words: &str,
    before: bool,
    size: CohortMention,
    judged: &mut JudgedSegment,
) {
    let named = cohorts_in(words, case.cohorts);
    let (mut lacks, mut has) = (Vec::new(), Vec::new());
    for (cohort, is_named) in case.cohorts.iter().zip(&named) {
        match (cohort.wanted, is_named) {
            (true, false) => lacks.push(cohort.name.clone()),
            (false, true) => has.push(cohort.name.clone()),
            _ => {}
        }
    }
    judged.named_all = lacks.is_empty();
    let names_any = named.contains(&true);
    if !lacks.is_empty() && (names_any || before) {
        judged.findings.push(CheckedObject::FilterLacks { cohorts: lacks, before: before && !names_any });
    } else if !lacks.is_empty() {
        judged.findings.push(if size == CohortMention::For {
            CheckedObject::FilterBySize
        } else {
            CheckedObject::FilterUnreadable
        });
    }
    if !has.is_empty() {
        judged.findings.push(CheckedObject::FilterHas(has));
    }
}

/// The cohorts that a text names by name or id, as whole words. Longer names are searched first, so that "Free
/// customers" does not count as "Free" too.
fn cohorts_in(text: &str, cohorts: &[CohortName]) -> Vec<bool> {
    let mut rest = text.to_owned();
    let mut order: Vec<(usize, &str)> = cohorts
        .iter()
        .enumerate()
        .flat_map(|(at, cohort)| [(at, cohort.name.as_str()), (at, cohort.id.as_str())])
        .filter(|(_, word)| !word.is_empty())
        .collect();
    order.sort_by_key(|(_, word)| std::cmp::Reverse(word.len()));
    let mut named = vec![false; cohorts.len()];
    for (at, word) in order {
        while let Some(found) = find_word(&rest, word) {
            named[at] = true;
            rest.replace_range(found..found + word.len(), " \u{0} ");
        }
    }
    named
}

fn find_word(text: &str, word: &str) -> Option<usize> {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word).map(|(at, _)| at).find(|at| {
        !is_part(text[..*at].chars().next_back()) && !is_part(text[at + word.len()..].chars().next())
    })
}

fn judge_size(
    case: &SegmentCase<'_>,
    seen: &SeenObject,
    evidence: &SegmentEvidence,
    judged: &mut JudgedSegment,
) -> CohortMention {
    let sizes = match &evidence.sizes {
        None => return CohortMention::Not,
        Some(Err(error)) => {
            judged.findings.push(not_reported("its size", error));
            return CohortMention::Not;
        }
        Some(Ok(sizes)) => sizes,
    };
    let newest = sizes.iter().max_by(|a, b| a.time.cmp(&b.time));
    judged.size = newest.map(|newest| SeenSize { day: day_of(newest), size: newest.size });
    let not_reported = match (&judged.size, case.expected.written_at) {
        (_, None) => SizeUnknown::NothingSent,
        (_, _) if seen.tracking == Some(false) => SizeUnknown::NoTracking,
        (None, _) => SizeUnknown::NoSize,
        (Some(size), Some(written_at)) => {
            let compared = compared(case, size);
            let speaks = compare(case, &compared);
            match (speaks, is_older(case, size, written_at)) {
                (CohortMention::Against, true) => SizeUnknown::Older(compared),
                (CohortMention::Against, false) => {
                    let is_low = compared.seen.size < compared.least;
                    let what = if is_low {
                        CheckedObject::SizeLow(compared)
                    } else {
                        CheckedObject::SizeHigh(compared)
                    };
                    judged.findings.push(what);
                    return CohortMention::Against;
                }
                (speaks, _) => return speaks,
            }
        }
    };
    judged.findings.push(CheckedObject::SizeUnknown(not_reported));
    CohortMention::Not
}

/// The day of a size; Braze may append a time.
fn day_of(size: &SizeOfDay) -> String {
    size.time.get(..10).unwrap_or(&size.time).to_owned()
}

/// A size with the expected range around its day. Braze does not report the hour of a size.
fn compared(case: &SegmentCase<'_>, size: &SeenSize) -> ComparedSize {
    let ExpectedSegment { min: mut least, max: mut most, .. } = *case.expected;
    let known = case.last.map(|last| last.expectations.as_slice()).unwrap_or_default();
    for expectation in known.iter().filter(|known| is_around(&known.day, &size.day)) {
        least = least.min(expectation.min);
        most = most.max(expectation.max);
    }
    ComparedSize { seen: size.clone(), least, most }
}

/// Whether `day` is `of` or the day before.
fn is_around(day: &str, of: &str) -> bool {
    day == of || day_before(of).is_some_and(|before| before == day)
}

fn day_before(day: &str) -> Option<String> {
    day.parse::<jiff::civil::Date>().ok()?.yesterday().ok().map(|day| day.to_string())
}

fn compare(case: &SegmentCase<'_>, ComparedSize { seen, least, most }: &ComparedSize) -> CohortMention {
    let size = &case.segment.size;
    let lowest = size.min.of(*least).min(least.saturating_sub(size.slack));
    let highest = size.max.of(*most).max(most.saturating_add(size.slack));
    // The slack is for estimates. No users at all is none, unless the config allows 0%.
    let is_emptied = seen.size == 0 && *least > 0 && size.min > Percentage::from_percent(0);
    if is_emptied || !(lowest..=highest).contains(&seen.size) {
        return CohortMention::Against;
    }
    // A size within the slack is no evidence for small cohorts.
    if *least > size.slack { CohortMention::For } else { CohortMention::Not }
}

/// Whether Braze's size may be older than the last change, without a recorded expectation for that time.
fn is_older(case: &SegmentCase<'_>, size: &SeenSize, written_at: Timestamp) -> bool {
    let known = case.last.map(|last| last.expectations.as_slice()).unwrap_or_default();
    let is_known = known.iter().any(|known| known.day < size.day);
    let written = written_at.strftime("%Y-%m-%d").to_string();
    let before = day_before(&size.day).unwrap_or_default();
    !is_known && written >= before
}

/// The expected sizes to keep: today's, merged with earlier ones of today, and those of recent days.
pub(super) fn expectations(case: &SegmentCase<'_>) -> Vec<ExpectedUsers> {
    let today = case.now.strftime("%Y-%m-%d").to_string();
    let known = case.last.map(|last| last.expectations.clone()).unwrap_or_default();
    if case.expected.written_at.is_none() {
        return known;
    }
    let ExpectedSegment { min: mut least, max: mut most, .. } = *case.expected;
    for earlier in known.iter().filter(|known| known.day == today) {
        (least, most) = (least.min(earlier.min), most.max(earlier.max));
    }
    let mut all: Vec<ExpectedUsers> = known.into_iter().filter(|known| known.day != today).collect();
    all.push(ExpectedUsers { day: today, min: least, max: most });
    all.sort_by(|a, b| a.day.cmp(&b.day));
    let past = all.len().saturating_sub(super::DAYS_KEPT);
    all.split_off(past)
}

fn judge_use(case: &SegmentCase<'_>, one: &MessagingUse, findings: &mut Vec<CheckedObject>) {
    let target = MessagingTarget { of: one.of, named: one.named.clone() };
    let (id, details) = match &one.found {
        Ok(LookupResult::One((id, details))) => (id, details),
        Ok(LookupResult::Absent) => return findings.push(CheckedObject::UseMissing(target)),
        Ok(LookupResult::Many(count)) => return findings.push(CheckedObject::UseAmbiguous(target, *count)),
        Err(error) => return findings.push(not_reported(&target.to_string(), error)),
    };
    let MessagingDetails { name, archived, draft, enabled, tags, updated_at } = details;
    if *archived {
        findings.push(CheckedObject::UseArchived(target.clone()));
    } else if *draft {
        findings.push(CheckedObject::UseDraft(target.clone()));
    } else if !enabled {
        findings.push(CheckedObject::UseStopped(target.clone(), updated_at.clone()));
    }
    if let Some(tag) = case.segment.tag.as_ref().filter(|tag| !tags.contains(tag)) {
        findings.push(CheckedObject::UseUntagged(target.clone(), tag.clone()));
    }
    if let BrazeObject::Name(wanted) = &one.named
        && wanted != name.trim()
    {
        findings.push(CheckedObject::UseRenamed(target.clone(), name.clone()));
    }
    let about = target.to_string();
    let last = case.last.and_then(|last| last.uses.iter().find(|last| last.about == about && last.id == *id));
    if let (Some(last), Some(at)) = (last, updated_at)
        && last.updated_at.as_ref() != Some(at)
    {
        findings.push(CheckedObject::UseEdited(target, at.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<bool> {
        let cohort =
            |id: &str, name: &str| CohortName { id: id.to_owned(), name: name.to_owned(), wanted: true };
        let cohorts = [
            cohort("free", "Free"),
            cohort("free_customers", "Free customers"),
            cohort("ümlaut", "Größe 1+"),
        ];
        cohorts_in(text, &cohorts)
    }

    #[test]
    fn cohorts_are_named_by_whole_words_and_the_longest_first() {
        assert_eq!(named("Heap Cohorts includes Free customers"), [false, true, false]);
        assert_eq!(named("Heap Cohorts includes Free customers OR Free"), [true, true, false]);
        assert_eq!(named("Freedom, Carefree, free_customers"), [false, true, false]);
        assert_eq!(named("\"Größe 1+\" or (Free)"), [true, false, true]);
        assert_eq!(named("Größe 1+2, a_free"), [false; 3]);
        assert_eq!(named(""), [false; 3]);
    }

    #[test]
    fn days_are_counted_by_the_calendar() {
        assert!(is_around("2026-02-28", "2026-03-01") && is_around("2026-03-01", "2026-03-01"));
        assert!(!is_around("2026-02-27", "2026-03-01") && !is_around("2026-03-02", "2026-03-01"));
        assert!(!is_around("x", "y"));
    }
}
