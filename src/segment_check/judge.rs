//! Evidence and expectation → findings. Pure: decides everything that a check decides.

use super::expect::ExpectedSegment;
use super::finding::{CheckedObject, ComparedSize, EvidenceGap, MessagingTarget, SizeUntold};
use super::gather::{LookupResult, MessagingUse, SeenObject, SegmentEvidence};
use crate::config::{BrazeObject, SegmentConfig};
use crate::connector::braze::rest::{MessagingDetails, RestError, SizeOfDay};
use crate::model::Timestamp;
use crate::state::{Expectation, SeenSize, SegmentCheck};

/// A cohort as Braze's words for filters may name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CohortName {
    pub(super) id: String,
    pub(super) name: String,
    /// Whether the segment is to filter on it.
    pub(super) wanted: bool,
}

/// What a verdict is made from.
pub(super) struct SegmentCase<'a> {
    pub(super) segment: &'a SegmentConfig,
    /// Every cohort of the workspace.
    pub(super) cohorts: &'a [CohortName],
    pub(super) expected: &'a ExpectedSegment,
    pub(super) last: Option<&'a SegmentCheck>,
    pub(super) now: Timestamp,
}

/// What the filters say, and whether they named everything.
pub(super) struct JudgedSegment {
    pub(super) findings: Vec<CheckedObject>,
    pub(super) named_all: bool,
    /// The newest size that Braze has told.
    pub(super) size: Option<SeenSize>,
}

pub(super) fn judge(case: &SegmentCase<'_>, evidence: &SegmentEvidence) -> JudgedSegment {
    let mut judged = JudgedSegment { findings: Vec::new(), named_all: false, size: None };
    match &evidence.segment {
        Ok(LookupResult::One(seen)) => judge_segment(case, seen, evidence, &mut judged),
        Ok(LookupResult::Absent) => {
            judged.findings.push(CheckedObject::SegmentMissing(case.segment.named.clone()))
        }
        Ok(LookupResult::Many(count)) => judged.findings.push(CheckedObject::SegmentAmbiguous {
            name: text_of(&case.segment.named).to_owned(),
            count: *count,
        }),
        Err(error) => judged.findings.push(untold("", error)),
    }
    for one in &evidence.uses {
        judge_use(case, one, &mut judged.findings);
    }
    let canaries = &case.segment.canaries;
    match &evidence.unknown {
        Ok(unknown) if !unknown.is_empty() => {
            judged.findings.push(CheckedObject::CanaryUnknown(unknown.clone()))
        }
        Err(error) if !canaries.is_empty() => judged.findings.push(untold("canaries", error)),
        _ => {}
    }
    if !case.expected.absent_canaries.is_empty() {
        judged.findings.push(CheckedObject::CanaryAbsent(case.expected.absent_canaries.clone()));
    }
    if !evidence.uses.is_empty() {
        judged.findings.push(CheckedObject::TargetUntold);
    }
    judged
}

pub(super) fn text_of(named: &BrazeObject) -> &str {
    match named {
        BrazeObject::Id(text) | BrazeObject::Name(text) => text,
    }
}

fn untold(about: &str, error: &RestError) -> CheckedObject {
    let is_key =
        matches!(error, RestError::Unauthorized(_) | RestError::OtherWorkspace | RestError::Forbidden { .. });
    let is_passing = matches!(error, RestError::Unavailable(_) | RestError::RateLimited(_));
    let is_other = *error == RestError::OtherWorkspace;
    let why = EvidenceGap { text: error.to_string(), is_key, is_other, is_passing };
    CheckedObject::Untold { about: about.to_owned(), why }
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

/// Whether a size speaks for the segment, against it, or not at all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CohortMention {
    For,
    Against,
    Not,
}

/// Looks for the cohorts in Braze's words. They are not documented: what they name is taken for what they mean, and
/// if they name nothing known, the size must speak.
fn judge_filters(
    case: &SegmentCase<'_>,
    words: &str,
    before: bool,
    size: CohortMention,
    judged: &mut JudgedSegment,
) {
    let named = named_in(words, case.cohorts);
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
            CheckedObject::FilterUntold
        });
    }
    if !has.is_empty() {
        judged.findings.push(CheckedObject::FilterHas(has));
    }
}

/// Which cohorts a text names, by name or id, as whole words. A longer name that holds a shorter one is looked for
/// first, so that "Free customers" does not name "Free" as well.
fn named_in(text: &str, cohorts: &[CohortName]) -> Vec<bool> {
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
            judged.findings.push(untold("its size", error));
            return CohortMention::Not;
        }
        Some(Ok(sizes)) => sizes,
    };
    let newest = sizes.iter().max_by(|a, b| a.time.cmp(&b.time));
    judged.size = newest.map(|newest| SeenSize { day: day_of(newest), size: newest.size });
    let untold = match (&judged.size, case.expected.written_at) {
        (_, None) => SizeUntold::NothingSent,
        (_, _) if seen.tracking == Some(false) => SizeUntold::NoTracking,
        (None, _) => SizeUntold::NoSize,
        (Some(size), Some(written_at)) => {
            let compared = compared(case, size);
            let speaks = compare(case, &compared);
            match (speaks, is_older(case, size, written_at)) {
                (CohortMention::Against, true) => SizeUntold::Older(compared),
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
    judged.findings.push(CheckedObject::SizeUntold(untold));
    CohortMention::Not
}

/// The day of a size; Braze may write a time with it.
fn day_of(size: &SizeOfDay) -> String {
    size.time.get(..10).unwrap_or(&size.time).to_owned()
}

/// A size beside everything that was expected around its day: it may be of any hour of it.
fn compared(case: &SegmentCase<'_>, size: &SeenSize) -> ComparedSize {
    let ExpectedSegment { mut least, mut most, .. } = *case.expected;
    let known = case.last.map(|last| last.expectations.as_slice()).unwrap_or_default();
    for expectation in known.iter().filter(|known| is_around(&known.day, &size.day)) {
        least = least.min(expectation.least);
        most = most.max(expectation.most);
    }
    ComparedSize { seen: size.clone(), least, most }
}

/// The day itself, or the one before it.
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
    if !(lowest..=highest).contains(&seen.size) {
        return CohortMention::Against;
    }
    // Of a handful of people any segment may have as many.
    if *least > size.slack { CohortMention::For } else { CohortMention::Not }
}

/// Whether Braze's size may be of a time before what was sent last, and nothing tells what was there then.
fn is_older(case: &SegmentCase<'_>, size: &SeenSize, written_at: Timestamp) -> bool {
    let known = case.last.map(|last| last.expectations.as_slice()).unwrap_or_default();
    let is_known = known.iter().any(|known| known.day < size.day);
    let written = written_at.strftime("%Y-%m-%d").to_string();
    let before = day_before(&size.day).unwrap_or_default();
    !is_known && written >= before
}

/// What is remembered of what was expected: today with what there was before, and the days that may still matter.
pub(super) fn expectations(case: &SegmentCase<'_>) -> Vec<Expectation> {
    let today = case.now.strftime("%Y-%m-%d").to_string();
    let known = case.last.map(|last| last.expectations.clone()).unwrap_or_default();
    if case.expected.written_at.is_none() {
        return known;
    }
    let ExpectedSegment { mut least, mut most, .. } = *case.expected;
    for earlier in known.iter().filter(|known| known.day == today) {
        (least, most) = (least.min(earlier.least), most.max(earlier.most));
    }
    let mut all: Vec<Expectation> = known.into_iter().filter(|known| known.day != today).collect();
    all.push(Expectation { day: today, least, most });
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
        Err(error) => return findings.push(untold(&target.to_string(), error)),
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
        named_in(text, &cohorts)
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
