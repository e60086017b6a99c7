//! Explains each guard violation: the numbers, the limit, the setting that sets it, and the remedies.

use super::reasons;
use crate::cli::output::{count, counted, yellow};
use crate::cli::suggested_command::SuggestedCommand;
use crate::foreign::escaped;
use crate::model::{ChangeOp, CohortId};
use crate::plan::{ArrayFull, BlockCode, ChangeSide, Damage, GuardViolation, PlanDigest};
use crate::reconcile::CohortReport;

/// The text of one guard violation.
pub(in crate::cli) struct BlockedWords {
    /// Stable code of the violation, for scripts.
    pub(in crate::cli) code: BlockCode,
    /// The blocked side of the plan: `removals`, `additions`, `name` or `everything`.
    pub(in crate::cli) side: &'static str,
    pub(in crate::cli) reason: String,
    pub(in crate::cli) remedies: Vec<String>,
}

/// The cohort and the command that violations are about.
#[derive(Clone, Copy)]
pub(in crate::cli) struct BlockedSubject<'a> {
    pub(in crate::cli) id: &'a CohortId,
    /// Where the config declares the cohort.
    pub(in crate::cli) declared_at: &'a str,
    /// The command that reports the violations. Remedies repeat its options.
    pub(in crate::cli) again: &'a SuggestedCommand,
    /// Digest of the whole plan, for an approval.
    pub(in crate::cli) whole: PlanDigest,
}

/// The note about a share that would be blocked in a larger cohort.
pub(super) fn unchecked_share(from: u64) -> String {
    format!(
        "{} the share that leaves is not checked, because the cohort has fewer than {} members (`guard.from_members`)",
        yellow("!"),
        count(from)
    )
}

/// Explains the violations of one cohort.
pub(in crate::cli) fn words(violations: &[GuardViolation], about: BlockedSubject<'_>) -> Vec<BlockedWords> {
    let no_header =
        violations.iter().any(|violation| matches!(violation, GuardViolation::HeaderMissing { .. }));
    let mut all: Vec<BlockedWords> = violations.iter().map(|violation| in_words(violation, about)).collect();
    // A file without a header is a failed export, not an empty list: `allow_empty` would not help.
    for words in all.iter_mut().filter(|words| no_header && words.code == BlockCode::Emptied) {
        words.remedies.truncate(1);
    }
    // An approval is suggested only if nothing would stay blocked in spite of it.
    if violations.iter().all(GuardViolation::can_be_approved)
        && let Some(last) = all.last_mut()
    {
        last.remedies
            .push(format!("to approve exactly this plan: {}", about.again.approve(about.id, about.whole)));
    }
    all
}

/// The violations of a cohort without their remedies, for the journal.
pub(in crate::cli) fn reasons_of(cohort: &CohortReport, again: &SuggestedCommand) -> Vec<String> {
    let (id, declared_at, whole) = (&cohort.id, &cohort.declared_at, cohort.whole_digest);
    let words = words(&cohort.violations, BlockedSubject { id, declared_at, again, whole });
    words.into_iter().map(|words| format!("{} blocked: {}", words.side, words.reason)).collect()
}

/// The violations of one cohort as text, each with its remedies.
pub(super) fn lines(violations: &[GuardViolation], about: BlockedSubject<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for words in words(violations, about) {
        lines.push(format!("  {} {}", yellow(&format!("! {} blocked:", words.side)), words.reason));
        lines.extend(words.remedies.iter().map(|remedy| format!("      {remedy}")));
    }
    lines
}

fn in_words(violation: &GuardViolation, about: BlockedSubject<'_>) -> BlockedWords {
    let side = match violation.side() {
        ChangeSide::Removes => "removals",
        ChangeSide::Adds => "additions",
        ChangeSide::Naming => "name",
        ChangeSide::All => "everything",
    };
    let (reason, remedies) = explain(violation, about);
    let plain = |text: String| escaped(&text).into_owned();
    let remedies = remedies.into_iter().map(plain).collect();
    BlockedWords { code: violation.code(), side, reason: plain(reason), remedies }
}

fn explain(violation: &GuardViolation, about: BlockedSubject<'_>) -> (String, Vec<String>) {
    match violation {
        GuardViolation::Share { op, changes, members, base, limit } => (
            format!(
                "{} of {} members would {} ({}), `guard.{}` allows {limit}",
                count(*changes),
                count(*members),
                side(*op, "leave", "enter"),
                share(*changes, *members, *base),
                side(*op, "max_removed", "max_added"),
            ),
            too_many(*op, *changes, side(*op, "max_removed", "max_added"), about),
        ),
        GuardViolation::Count { op, changes, limit } => (
            format!(
                "{} members would {}, `guard.{}` allows {}",
                count(*changes),
                side(*op, "leave", "enter"),
                side(*op, "max_removed_count", "max_added_count"),
                count(*limit),
            ),
            too_many(*op, *changes, side(*op, "max_removed_count", "max_added_count"), about),
        ),
        GuardViolation::Ceiling { op, changes, limit } => (
            format!(
                "{} members would {}, `--{}` allows {} in this run",
                count(*changes),
                side(*op, "leave", "enter"),
                side(*op, "max-removes", "max-adds"),
                count(*limit),
            ),
            vec![for_one_run(*op, *changes, about)],
        ),
        other => of_source(other, about.declared_at)
            .unwrap_or_else(|| of_cohort(other, about.id, about.declared_at)),
    }
}

/// Reason and remedies of a source that looks broken. `None`: the violation is of another kind.
fn of_source(violation: &GuardViolation, at: &str) -> Option<(String, Vec<String>)> {
    Some(match violation {
        GuardViolation::Exchanged { leaving, members, entering, desired } => (
            format!(
                "the source has mostly other users: {} of {} members would leave, and {} of {} in the source would \
                 enter",
                count(*leaving),
                count(*members),
                count(*entering),
                counted(*desired, "user"),
            ),
            vec![
                format!("look at the source, and at the columns under `match:` ({at})"),
                "if the audience really changed: allow the blocked side, and the other side follows"
                    .to_owned(),
            ],
        ),
        GuardViolation::Emptied { members } => (
            format!("the source has no members, and all {} recorded members would leave", count(*members)),
            vec![
                "if it should have members: export the source again".to_owned(),
                format!("if the cohort is empty on purpose: `guard: {{ allow_empty: true }}` ({at})"),
            ],
        ),
        GuardViolation::EmptyAtFirst => (
            "the source is empty, and the cohort has never had members".to_owned(),
            vec![
                "if it should have rows: export the source again".to_owned(),
                format!("if the cohort may be empty: `guard: {{ allow_empty: true }}` ({at})"),
            ],
        ),
        GuardViolation::NoneUsable { rows, rejects } => (
            format!(
                "the source has {}, and all of them were rejected: {}",
                counted(*rows, "row"),
                reasons(rejects)
            ),
            vec![
                "correct the rows, or the columns under `match:`; the plan shows the first rejected rows"
                    .to_owned(),
                format!("if the cohort may be empty: `guard: {{ allow_empty: true }}` ({at})"),
            ],
        ),
        GuardViolation::HeaderMissing { file } => (
            format!("{file} has no header row, so its export probably failed"),
            vec!["export it again; an empty list still has a header row".to_owned()],
        ),
        GuardViolation::Unreadable { rows, limit } => (
            format!(
                "{} could not be read and may be members, `guard.max_unreadable` allows {}",
                counted(*rows, "row"),
                count(*limit),
            ),
            vec![
                "correct the rows: `reconcile` writes each to the rejects file, with its file and line"
                    .to_owned(),
                format!("to ignore them: `guard: {{ max_unreadable: {rows} }}` ({at})"),
            ],
        ),
        GuardViolation::Damaged { damage, rows, of } => {
            (damaged(*damage, *rows, *of), id_remedies(violation.code(), at))
        }
        _ => return None,
    })
}

/// Reason and remedies of a rule about the cohort itself.
fn of_cohort(violation: &GuardViolation, id: &CohortId, at: &str) -> (String, Vec<String>) {
    match violation {
        GuardViolation::Protected { members } => (
            format!("the cohort is protected, and all {} would leave", count(*members)),
            vec![format!(
                "to empty it: declare it with `protect: false`, reconcile, then list it under `removed:` ({at})"
            )],
        ),
        GuardViolation::ArrayFull(ArrayFull { attribute, cohorts, limit }) => (
            format!(
                "the array attribute `{attribute}` would hold {} cohorts, and Braze cuts off elements beyond {}",
                count(*cohorts),
                count(*limit),
            ),
            vec![
                format!(
                    "use another array, or a boolean for this cohort: `attribute: {{ boolean: … }}` ({at})"
                ),
                "if Braze has raised the limit: `array_elements:` of the connection".to_owned(),
            ],
        ),
        GuardViolation::NameTaken { name, by } => (
            format!(
                "cohort `{by}` already has the name \"{name}\", and Braze's segment filter shows only names"
            ),
            vec![format!("give `{id}` another name ({at}), or empty `{by}` under `removed:`")],
        ),
        GuardViolation::WorkspaceChanged { from, to } => (
            format!("the recorded members are in {from}, and the config sends to {to}"),
            vec![
                "for another workspace, use another `state:`".to_owned(),
                "if the connection only has a new name: give it `formerly: [<the old name>]`".to_owned(),
                format!(
                    "to change the connection: empty the cohort in the old one first, or give it a new id ({at})"
                ),
            ],
        ),
        // Explained by the callers. They are listed so that a new violation cannot be left without a message.
        GuardViolation::Share { .. }
        | GuardViolation::Count { .. }
        | GuardViolation::Ceiling { .. }
        | GuardViolation::Exchanged { .. }
        | GuardViolation::Emptied { .. }
        | GuardViolation::EmptyAtFirst
        | GuardViolation::NoneUsable { .. }
        | GuardViolation::HeaderMissing { .. }
        | GuardViolation::Unreadable { .. }
        | GuardViolation::Damaged { .. } => (String::new(), Vec::new()),
    }
}

fn damaged(damage: Damage, rows: u64, of: u64) -> String {
    let (rows, of) = (count(rows), count(of));
    match damage {
        Damage::DecimalIds => format!(
            "{rows} of {of} identifiers end in `.0`: a data frame or spreadsheet probably stored whole numbers as \
             decimal numbers"
        ),
        Damage::ExponentIds => format!(
            "{rows} of {of} identifiers are in exponent notation, like 1.23E+11: a spreadsheet probably shortened long \
             numbers, and their last digits are lost"
        ),
        Damage::Duplicates => format!(
            "{rows} of {of} rows repeat an identifier: the identifiers were probably rounded, cut or overwritten with \
             one value"
        ),
    }
}

/// Remedies for damaged identifiers. `guard.allow` names them by their code.
fn id_remedies(code: BlockCode, at: &str) -> Vec<String> {
    vec![
        "export the identifiers again as text".to_owned(),
        format!("if they are correct: `guard: {{ allow: [{}] }}` ({at})", code.as_str()),
    ]
}

fn side(op: ChangeOp, remove: &'static str, add: &'static str) -> &'static str {
    match op {
        ChangeOp::Remove => remove,
        ChangeOp::Add => add,
    }
}

fn too_many(op: ChangeOp, changes: u64, setting: &str, about: BlockedSubject<'_>) -> Vec<String> {
    vec![
        for_one_run(op, changes, about),
        format!("for all runs: raise `guard.{setting}` ({})", about.declared_at),
    ]
}

fn for_one_run(op: ChangeOp, changes: u64, about: BlockedSubject<'_>) -> String {
    format!("for this run only: {}", about.again.allowing(op, about.id, changes))
}

/// The share of the members, or of the members at the first block.
fn share(changes: u64, members: u64, base: u64) -> String {
    let share = percent(changes, base);
    match base == members {
        true => share,
        false => format!("{share} of the {} when removals were first blocked", count(base)),
    }
}

fn percent(part: u64, whole: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "one decimal for people to read")]
    let share = part as f64 * 100.0 / whole.max(1) as f64;
    format!("{share:.1}%")
}
