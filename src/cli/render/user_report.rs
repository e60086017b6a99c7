//! The answer of `who` in words: one line for each cohort, then what matters beside it.

use super::sample;
use crate::cli::output::{bold, count, counted, dim, green, yellow};
use crate::cli::suggested_command::SuggestedCommand;
use crate::foreign::escaped;
use crate::lookup::{
    Absence, CohortFacts, FoundAs, KnownOwner, MissingProfile, PendingApproval, PendingTrigger,
    RecordedIdentifier, RejectedRow, SourceRow, SourceRowOutcome, UserInCohort, UserReport, Verdict, verdict,
};
use crate::model::{Identifier, IdentifierKind, MemberStanding, RunId, reason_words, timestamp_text};
use crate::state::{OwnerEvidence, Transition};

/// A paragraph for each report.
pub(in crate::cli) fn paragraphs(reports: &[UserReport], in_full: bool) -> String {
    let all: Vec<String> = reports.iter().map(|report| user(report, in_full)).collect();
    all.join("\n\n")
}

/// Whether the source may explain why a user is not a member.
pub(in crate::cli) fn may_be_in_source(facts: &CohortFacts) -> bool {
    match verdict(facts) {
        Verdict::NotMember(absence) => !matches!(absence, Absence::Emptied),
        _ => false,
    }
}

/// The command that also reads the sources.
pub(in crate::cli) fn source_hint(again: &SuggestedCommand) -> String {
    format!(
        "The sources were not read. To look for rows of the user: {} IDENTIFIER --source",
        again.command("who")
    )
}

/// A line for each cohort, with what matters below it, then what the identity map knows.
fn user(report: &UserReport, in_full: bool) -> String {
    let width = report.cohorts.iter().map(|cohort| cohort.cohort.as_str().len()).max().unwrap_or(0);
    let mut lines = vec![bold(&escaped(&report.identifier))];
    for UserInCohort { cohort, is_declared, facts } in &report.cohorts {
        let (answer, mut more) = match facts {
            Ok(facts) => (answer_line(facts, in_full), notes(facts, in_full)),
            Err(error) => (format!("{} could not be read: {}", yellow("!"), escaped(error)), Vec::new()),
        };
        if !is_declared {
            more.push(warning("the cohort is orphaned: the config does not declare it"));
        }
        lines.push(format!("  {:width$}  {answer}", cohort.as_str()));
        lines.extend(more.into_iter().map(|note| format!("    {note}")));
    }
    if report.cohorts.is_empty() {
        lines.push("  the config and the state have no cohort".to_owned());
    }
    lines.extend(report.invalid.map(|why| {
        let why = reason_words(why.as_str(), 1);
        format!("  {}", warning(&format!("no row of a source can match this identifier: {why}")))
    }));
    lines.extend(report.owners.iter().map(|known| dim(&format!("  {}", owner_line(known, in_full)))));
    if report.handles > 0 {
        let entries = if report.handles == 1 { "entry" } else { "entries" };
        let number = count(report.handles);
        lines.push(dim(&format!(
            "  the identity map has {number} {entries} (devices, aliases, Braze ids) of this user"
        )));
    }
    lines.join("\n")
}

fn warning(text: &str) -> String {
    format!("{} {text}", yellow("!"))
}

fn answer_line(facts: &CohortFacts, in_full: bool) -> String {
    match verdict(facts) {
        Verdict::Member { .. } => green(&answer(facts, in_full)),
        _ => answer(facts, in_full),
    }
}

/// The answer in words.
pub(in crate::cli) fn answer(facts: &CohortFacts, in_full: bool) -> String {
    match verdict(facts) {
        Verdict::Member { recorded, .. } => {
            let each: Vec<String> = recorded.iter().map(|found| since_as(found, in_full)).collect();
            format!("member {}", each.join("; and "))
        }
        Verdict::NoProfile(missing) => format!("not a member: {}", no_profile(missing)),
        Verdict::InDoubt { recorded, late_until, reject } => {
            let until = match (late_until, recorded.member.standing) {
                (Some(until), _) => {
                    format!("a late request may still change it until {}", timestamp_text(until))
                }
                (None, Some(MemberStanding::Disputed)) => format!(
                    "Braze rejected it, but an earlier request may have added it: {}",
                    message_of(reject)
                ),
                _ => "a request has no answer; a run in progress or the next run settles it".to_owned(),
            };
            format!("in doubt {}: {until}", since_as(recorded, in_full))
        }
        Verdict::RejectedByBraze { recorded, reject } => {
            let (since, message) = (since_as(recorded, in_full), message_of(reject));
            format!("not a member: Braze rejected it {since}: {message}")
        }
        Verdict::NotMember(absence) => format!("not a member: {}", why_absent(&absence, facts, in_full)),
    }
}

fn no_profile(missing: MissingProfile) -> String {
    let (since, asked) = (timestamp_text(missing.since), timestamp_text(missing.checked_at));
    match missing.exists_now {
        false => format!("Braze has no profile of the user since {since}, last asked {asked}"),
        true => format!(
            "Braze had no profile of the user when it was sent, but has one since {asked}; the next run sends \
             the user again"
        ),
    }
}

/// Braze's message about an identifier that it rejected.
fn message_of(reject: Option<&RejectedRow>) -> String {
    let message = reject.map(|reject| reject.detail.as_str()).filter(|detail| !detail.is_empty());
    escaped(message.unwrap_or("its message is no longer kept")).into_owned()
}

/// `since 2026-11-20T08:00:00Z (run …), as external_id`.
fn since_as(found: &RecordedIdentifier, in_full: bool) -> String {
    format!("{}, as {}", since(found.member.run.as_deref()), named(found, in_full))
}

fn since(run: Option<&str>) -> String {
    match run {
        Some(run) => {
            let began =
                RunId::named(run).began().map_or(String::new(), |at| format!("{} ", timestamp_text(at)));
            format!("since {began}(run {})", escaped(run))
        }
        None => "since an unknown run".to_owned(),
    }
}

/// The kind of the identifier, and its value unless it is the asked one.
fn named(found: &RecordedIdentifier, in_full: bool) -> String {
    match (found.found_as, Identifier::unpack(&found.packed)) {
        (FoundAs::Asked, Ok((Identifier { kind: IdentifierKind::Alias, label, .. }, _))) => {
            format!("alias {}", escaped(label))
        }
        (FoundAs::Asked, Ok((Identifier { kind, .. }, _))) => kind.as_str().to_owned(),
        _ => sample(&found.packed, in_full),
    }
}

fn why_absent(absence: &Absence<'_>, facts: &CohortFacts, in_full: bool) -> String {
    match absence {
        Absence::NotSent(row) if facts.block.adds => {
            format!("its row {} is in the source, and the guard blocks additions", place_of_row(row))
        }
        Absence::NotSent(row) => {
            format!(
                "its row {} is in the source and not sent yet; the next run adds the user",
                place_of_row(row)
            )
        }
        Absence::SourceRowRejected(SourceRow { file, line, outcome }) => {
            let (reason, column) = match outcome {
                SourceRowOutcome::Rejected { reason, column } => (*reason, column.as_str()),
                _ => ("", ""),
            };
            format!("its row is rejected: {}", rejected_at(reason, column, Some((file, *line))))
        }
        Absence::OtherUser(row) => {
            let other = match &row.outcome {
                SourceRowOutcome::OtherUser(packed) => sample(packed, in_full),
                _ => String::new(),
            };
            format!("its row {} belongs to another user: an earlier rule matches {other}", place_of_row(row))
        }
        Absence::RowRejected(reject) => {
            format!("its row was rejected {}: {}", in_run(&reject.run), reject_words(reject, in_full))
        }
        Absence::Removed(found) => {
            format!(
                "removed {}, as {}",
                in_run(found.member.run.as_deref().unwrap_or("")),
                named(found, in_full)
            )
        }
        Absence::Emptied => "the cohort was emptied, as `removed:` asked".to_owned(),
        Absence::NothingSent => "nothing was sent to the cohort yet".to_owned(),
        Absence::NotInSource => "not in the source".to_owned(),
        Absence::NotRecorded => "never recorded, and no reject names the user".to_owned(),
    }
}

fn in_run(run: &str) -> String {
    if run.is_empty() { "in an earlier run".to_owned() } else { format!("in run {}", escaped(run)) }
}

fn place_of_row(row: &SourceRow) -> String {
    escaped(&format!("{}:{}", row.file, row.line)).into_owned()
}

fn reject_words(reject: &RejectedRow, in_full: bool) -> String {
    let place = reject.file.as_ref().zip(reject.line);
    let mut text = rejected_at(&reject.reason, &reject.column, place);
    if in_full && !reject.value.is_empty() {
        text.push_str(&format!(", value {}", escaped(&reject.value)));
    }
    text
}

fn rejected_at(reason: &str, column: &str, place: Option<(&String, u64)>) -> String {
    let mut details: Vec<String> = place.map(|(file, line)| format!("{file}:{line}")).into_iter().collect();
    details.extend((!column.is_empty()).then(|| format!("column {column}")));
    let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
    escaped(&format!("{}{details}", reason_words(reason, 1))).into_owned()
}

/// What matters beside the answer.
fn notes(facts: &CohortFacts, in_full: bool) -> Vec<String> {
    let (mut notes, answer) = (Vec::new(), verdict(facts));
    notes.extend(source_row(facts, &answer, in_full));
    if let Verdict::Member { leaving: Some(why), .. } = &answer {
        let then = match facts.block.removes {
            true => "the guard blocks the removal",
            false => "the next run removes the user",
        };
        notes.push(warning(&format!("{}: {then}", why_absent(why, facts, in_full))));
    }
    let mut warnings: Vec<String> = block_note(facts, &answer).into_iter().collect();
    warnings.extend(facts.block_error.as_ref().map(|error| {
        format!("unknown until the next run whether the guard blocks changes: {}", escaped(error))
    }));
    if let Verdict::Member { recorded, .. } = &answer {
        warnings.extend(recorded.iter().flat_map(|found| late_requests(found)));
        let others = facts.recorded.iter().filter_map(|found| other_standing(found, in_full));
        warnings.extend(others);
    }
    warnings.extend(rejects(facts, &answer, in_full));
    warnings.extend(facts.triggers.iter().map(trigger));
    warnings.extend(variants(facts, in_full));
    warnings.extend(match &facts.source {
        Some(Err(error)) => Some(format!("the source could not be read: {}", escaped(error))),
        Some(Ok(source)) if source.unreadable > 0 => Some(format!(
            "{} of the source cannot be read and may be the user's",
            counted(source.unreadable, "row")
        )),
        _ => None,
    });
    notes.extend(warnings.iter().map(|text| warning(text)));
    notes
}

/// The row of the user in the source, unless the answer has it.
fn source_row(facts: &CohortFacts, answer: &Verdict<'_>, in_full: bool) -> Option<String> {
    let source = facts.source.as_ref()?.as_ref().ok()?;
    let row = source.matched().filter(|_| !matches!(answer, Verdict::NotMember(_)))?;
    let SourceRowOutcome::Matched(packed) = &row.outcome else { return None };
    let of = if source.rows > 1 { format!(", the first of {}", count(source.rows)) } else { String::new() };
    let recorded = facts.recorded.iter().find(|found| found.packed == *packed);
    let name = recorded.map_or_else(|| sample(packed, in_full), |found| named(found, in_full));
    Some(format!("source row: {}{of}, as {name}", place_of_row(row)))
}

fn late_requests(found: &RecordedIdentifier) -> impl Iterator<Item = String> {
    found.member.late.iter().map(|(op, until)| {
        let (op, until) = (op.as_str(), timestamp_text(*until));
        format!("a request without an answer may still {op} the user until {until}")
    })
}

/// Another identifier of a member, with which the user is not a member.
fn other_standing(found: &RecordedIdentifier, in_full: bool) -> Option<String> {
    let what = match (found.member.standing?, found.missing_profile) {
        (MemberStanding::Member, missing) => no_profile(missing?),
        (MemberStanding::InDoubt | MemberStanding::Disputed, _) => "in doubt".to_owned(),
        (MemberStanding::Rejected, _) => "rejected by Braze".to_owned(),
    };
    Some(format!("as {}: {what}", named(found, in_full)))
}

/// The newest reject of each kind that the answer does not have. Earlier rejects of Braze do not matter to a member.
fn rejects(facts: &CohortFacts, answer: &Verdict<'_>, in_full: bool) -> Vec<String> {
    let is_shown = matches!(answer, Verdict::NotMember(Absence::RowRejected(_)));
    let of_source = facts.rejects.iter().find(|reject| reject.is_of_source() && !is_shown);
    let of_source = of_source.map(|reject| {
        format!("a row was rejected {}: {}", in_run(&reject.run), reject_words(reject, in_full))
    });
    let of_trigger = facts.rejects.iter().find(|reject| reject.is_of_trigger());
    let of_trigger = of_trigger.map(|reject| {
        let (run, words) = (in_run(&reject.run), reason_words(&reject.reason, 1));
        format!("{words} {run}: {}", message_of(Some(reject)))
    });
    of_source.into_iter().chain(of_trigger).collect()
}

fn trigger(trigger: &PendingTrigger) -> String {
    let name = match trigger.transition {
        Transition::Enter => "on_enter",
        Transition::Exit => "on_exit",
    };
    let status = if trigger.is_in_flight { "was sent and has no answer" } else { "is pending" };
    format!("trigger `{name}` {status} since {}", timestamp_text(trigger.at))
}

/// Identifiers that a person would take for the asked one.
fn variants(facts: &CohortFacts, in_full: bool) -> Vec<String> {
    let differs = "which differs only by upper and lower case or invisible characters: another user to Braze";
    let of_state = facts.variants.iter().map(|found| {
        let since = since(found.member.run.as_deref());
        format!("a member {since} is {}, {differs}", sample(&found.packed, in_full))
    });
    let row = facts.source.as_ref().and_then(|source| source.as_ref().ok()?.variant.as_ref());
    let of_source = row.map(|row| format!("row {} has an identifier {differs}", place_of_row(row)));
    of_state.chain(of_source).collect()
}

/// The block of the changes that could concern the user: a member can be removed, and others can be added.
fn block_note(facts: &CohortFacts, answer: &Verdict<'_>) -> Option<String> {
    let start = facts.block.since.as_ref()?;
    let what = match answer {
        Verdict::Member { .. } => facts.block.removes.then_some("removals"),
        _ => facts.block.adds.then_some("additions"),
    };
    let approval = match facts.approval {
        None => String::new(),
        Some(PendingApproval::Missing) => "; its plan waits for an approval".to_owned(),
        Some(PendingApproval::Given { expires_at }) => {
            format!(
                "; its plan is approved until {}, and the next run applies it",
                timestamp_text(expires_at)
            )
        }
    };
    what.map(|what| {
        format!(
            "the guard blocks {what} of this cohort since {} (run {}){approval}",
            timestamp_text(start.at.0),
            escaped(&start.run)
        )
    })
}

fn owner_line(known: &KnownOwner, in_full: bool) -> String {
    let label = if known.label.is_empty() { String::new() } else { format!(" {}", known.label) };
    let what = format!("identity map: as {}{label}", known.kind.as_str());
    let line = match &known.evidence {
        OwnerEvidence::Gone => format!("{what} the user was deleted"),
        OwnerEvidence::Owner { owner, seen, is_contested } => {
            let owner = Identifier { kind: IdentifierKind::ExternalId, label: "", value: owner };
            let owner = if in_full { owner.in_full() } else { owner.shortened() };
            let other = if *is_contested { "; other evidence names another owner" } else { "" };
            format!("{what} it belongs to {owner}, seen {}{other}", timestamp_text(*seen))
        }
    };
    escaped(&line).into_owned()
}
