//! The answer of `who` as JSON: one object for each identifier.

use serde_json::{Value, json};

use super::user_report::answer;
use crate::lookup::{
    CohortFacts, FoundAs, KnownOwner, PendingApproval, RecordedIdentifier, RejectedRow, SourceFinding,
    SourceRow, SourceRowOutcome, UserInCohort, UserReport, verdict,
};
use crate::model::{Identifier, IdentifierKind, MemberStanding, RunId, timestamp_text};
use crate::source::RejectReason;
use crate::state::{OwnerEvidence, Transition};

/// A report as JSON.
pub(in crate::cli) fn user(report: &UserReport, in_full: bool) -> Value {
    let cohorts: Vec<Value> = report.cohorts.iter().map(|cohort| in_cohort(cohort, in_full)).collect();
    let owners: Vec<Value> = report.owners.iter().map(|known| owner(known, in_full)).collect();
    json!({
        "identifier": report.identifier,
        "invalid": report.invalid.map(RejectReason::as_str),
        "cohorts": cohorts,
        "identity": { "owners": owners, "entries": report.handles },
    })
}

fn in_cohort(UserInCohort { cohort, is_declared, facts }: &UserInCohort, in_full: bool) -> Value {
    let mut value = match facts {
        Ok(facts) => of_facts(facts, in_full),
        Err(error) => json!({ "verdict": "unreadable", "text": format!("could not be read: {error}") }),
    };
    value["cohort"] = cohort.as_str().into();
    value["declared"] = (*is_declared).into();
    value
}

fn of_facts(facts: &CohortFacts, in_full: bool) -> Value {
    let triggers = facts.triggers.iter().map(|trigger| {
        let transition = match trigger.transition {
            Transition::Enter => "enter",
            Transition::Exit => "exit",
        };
        json!({ "transition": transition, "since": timestamp_text(trigger.at), "in_flight": trigger.is_in_flight })
    });
    let blocked = facts.block.since.as_ref().map(|start| {
        let since = timestamp_text(start.at.0);
        let (approval, approved_until) = match facts.approval {
            None => (None, None),
            Some(PendingApproval::Missing) => (Some("missing"), None),
            Some(PendingApproval::Given { expires_at }) => (Some("given"), Some(timestamp_text(expires_at))),
        };
        json!({
            "adds": facts.block.adds, "removes": facts.block.removes, "since": since, "run": start.run,
            "approval": approval, "approved_until": approved_until,
        })
    });
    let blocked = blocked.or_else(|| Some(json!({ "error": facts.block_error.as_ref()? })));
    let source = facts.source.as_ref().map(|source| match source {
        Ok(source) => source_json(source, in_full),
        Err(error) => json!({ "error": error }),
    });
    json!({
        "verdict": verdict(facts).code(),
        "text": answer(facts, in_full),
        "recorded": facts.recorded.iter().map(|found| recorded(found, in_full)).collect::<Vec<_>>(),
        "case_variants": facts.variants.iter().map(|found| recorded(found, in_full)).collect::<Vec<_>>(),
        "rejects": facts.rejects.iter().map(|row| reject(row, in_full)).collect::<Vec<_>>(),
        "triggers": triggers.collect::<Vec<_>>(),
        "blocked": blocked,
        "source": source,
    })
}

/// An identifier, shortened unless it is the asked one.
fn identifier(packed: &[u8], is_shown: bool) -> Value {
    let Ok((identifier, _)) = Identifier::unpack(packed) else { return Value::Null };
    let shown = if is_shown { identifier.in_full() } else { identifier.shortened() };
    let label = (identifier.kind == IdentifierKind::Alias).then_some(identifier.label);
    json!({ "kind": identifier.kind.as_str(), "label": label, "text": shown })
}

fn recorded(found: &RecordedIdentifier, in_full: bool) -> Value {
    let standing = match found.member.standing {
        Some(MemberStanding::Member) => "member",
        Some(MemberStanding::InDoubt) => "in_doubt",
        Some(MemberStanding::Rejected) => "rejected",
        Some(MemberStanding::Disputed) => "disputed",
        None => "removed",
    };
    let found_as = match found.found_as {
        FoundAs::Asked => "asked",
        FoundAs::Owner => "owner",
        FoundAs::Handle => "device_or_alias",
    };
    let late = found.member.late.iter();
    let late = late.map(|(op, until)| json!({ "operation": op.as_str(), "until": timestamp_text(*until) }));
    let missing = found.missing_profile.map(|missing| {
        let (since, checked_at) = (timestamp_text(missing.since), timestamp_text(missing.checked_at));
        json!({ "since": since, "checked_at": checked_at, "exists_now": missing.exists_now })
    });
    let run = found.member.run.as_deref();
    json!({
        "as": identifier(&found.packed, in_full || found.found_as == FoundAs::Asked),
        "found_as": found_as,
        "standing": standing,
        "run": run,
        "since": run.and_then(|run| RunId::named(run).began()).map(timestamp_text),
        "late": late.collect::<Vec<_>>(),
        "no_profile": missing,
    })
}

fn reject(row: &RejectedRow, in_full: bool) -> Value {
    let value = in_full.then_some(row.value.as_str());
    json!({
        "run": row.run, "reason": row.reason, "detail": row.detail, "file": row.file, "line": row.line,
        "column": row.column, "value": value,
    })
}

fn source_json(source: &SourceFinding, in_full: bool) -> Value {
    let sample = |SourceRow { file, line, outcome }: &SourceRow| {
        let (outcome, other, reason, column) = match outcome {
            SourceRowOutcome::Matched(packed) => ("matched", Some(packed), None, None),
            SourceRowOutcome::OtherUser(packed) => ("other_user", Some(packed), None, None),
            SourceRowOutcome::Rejected { reason, column } => ("rejected", None, Some(*reason), Some(column)),
        };
        let matched = other.map(|packed| identifier(packed, in_full));
        json!({
            "file": file, "line": line, "outcome": outcome, "as": matched, "reason": reason, "column": column,
        })
    };
    let samples: Vec<Value> = source.samples.iter().map(sample).collect();
    let variant = source.variant.as_ref().map(sample);
    json!({
        "rows": source.rows, "samples": samples, "case_variant": variant, "unreadable": source.unreadable,
    })
}

fn owner(known: &KnownOwner, in_full: bool) -> Value {
    let (external_id, seen, is_contested) = match &known.evidence {
        OwnerEvidence::Gone => (None, None, false),
        OwnerEvidence::Owner { owner, seen, is_contested } => {
            let owner = Identifier { kind: IdentifierKind::ExternalId, label: "", value: owner };
            let shown = if in_full { owner.in_full() } else { owner.shortened() };
            (Some(shown), Some(timestamp_text(*seen)), *is_contested)
        }
    };
    let label = Some(&known.label).filter(|label| !label.is_empty());
    json!({
        "kind": known.kind.as_str(), "label": label, "owner": external_id, "seen": seen,
        "ambiguous": is_contested, "deleted": known.evidence == OwnerEvidence::Gone,
    })
}
