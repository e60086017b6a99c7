//! A refusal in words: the numbers, the limit, the setting that sets it, and the way out.

use crate::cli::output::{count, counted};
use crate::cli::suggested_command::SuggestedCommand;
use crate::foreign::escaped;
use crate::model::{ChangeOp, CohortId};
use crate::plan::{ArrayFull, ChangeSide, Damage, GuardViolation, PlanDigest};

/// What a refusal says.
pub(in crate::cli) struct BlockedWords {
    /// A stable word for its kind.
    pub(in crate::cli) code: &'static str,
    /// What it withholds.
    pub(in crate::cli) withheld: &'static str,
    /// Why.
    pub(in crate::cli) why: String,
    /// The way out.
    pub(in crate::cli) way_out: Vec<String>,
}

/// What refusals are about.
#[derive(Clone, Copy)]
pub(in crate::cli) struct BlockedSubject<'a> {
    pub(in crate::cli) id: &'a CohortId,
    /// Where the config declares the cohort.
    pub(in crate::cli) declared_at: &'a str,
    /// The command that met them, for the ways out.
    pub(in crate::cli) again: &'a SuggestedCommand,
    /// All that the plan would send, for an approval.
    pub(in crate::cli) whole: PlanDigest,
}

/// Puts a cohort's refusals into words.
pub(in crate::cli) fn words(refusals: &[GuardViolation], about: BlockedSubject<'_>) -> Vec<BlockedWords> {
    let hollow = refusals.iter().any(|refusal| matches!(refusal, GuardViolation::Hollow { .. }));
    let mut all: Vec<BlockedWords> = refusals.iter().map(|refusal| in_words(refusal, about)).collect();
    // A file of nothing is no list of nobody: to allow an empty list would not help.
    for words in all.iter_mut().filter(|words| hollow && words.code == "emptied") {
        words.way_out.truncate(1);
    }
    // An approval lifts all of them or is of no use.
    if refusals.iter().all(GuardViolation::can_be_approved)
        && let Some(last) = all.last_mut()
    {
        last.way_out.push(format!(
            "exactly this plan, whoever applies it: {}",
            about.again.approve(about.id, about.whole)
        ));
    }
    all
}

fn in_words(refusal: &GuardViolation, about: BlockedSubject<'_>) -> BlockedWords {
    let withheld = match refusal.side() {
        ChangeSide::Removes => "removals",
        ChangeSide::Adds => "additions",
        ChangeSide::Naming => "name",
        ChangeSide::All => "everything",
    };
    let (code, why, way_out) = parts(refusal, about);
    let plain = |text: String| escaped(&text).into_owned();
    BlockedWords { code, withheld, why: plain(why), way_out: way_out.into_iter().map(plain).collect() }
}

fn parts(refusal: &GuardViolation, about: BlockedSubject<'_>) -> (&'static str, String, Vec<String>) {
    match refusal {
        GuardViolation::Share { op, changes, members, limit } => (
            side(*op, "removed_share", "added_share"),
            format!(
                "{} of {} members would {} ({}); `guard.{}` allows {limit}, that is {}",
                count(*changes),
                count(*members),
                side(*op, "leave", "enter"),
                percent(*changes, *members),
                side(*op, "max_removed", "max_added"),
                count(limit.of(*members)),
            ),
            too_many(*op, *changes, side(*op, "max_removed", "max_added"), about),
        ),
        GuardViolation::Count { op, changes, limit } => (
            side(*op, "removed_count", "added_count"),
            format!(
                "{} members would {}; `guard.{}` allows {}",
                count(*changes),
                side(*op, "leave", "enter"),
                side(*op, "max_removed_count", "max_added_count"),
                count(*limit),
            ),
            too_many(*op, *changes, side(*op, "max_removed_count", "max_added_count"), about),
        ),
        GuardViolation::Ceiling { op, changes, limit } => (
            side(*op, "removed_ceiling", "added_ceiling"),
            format!(
                "{} members would {}; `--{}` allows {} in this run",
                count(*changes),
                side(*op, "leave", "enter"),
                side(*op, "max-removes", "max-adds"),
                count(*limit),
            ),
            vec![this_once(*op, *changes, about)],
        ),
        other => of_source(other, about.declared_at)
            .unwrap_or_else(|| of_cohort(other, about.id, about.declared_at)),
    }
}

/// Code, reason and remedies of a source that looks broken. None: the refusal is of another kind.
fn of_source(refusal: &GuardViolation, at: &str) -> Option<(&'static str, String, Vec<String>)> {
    Some(match refusal {
        GuardViolation::Emptied { members } => (
            "emptied",
            format!("the source names nobody, and all {} would leave", count(*members)),
            vec![
                "export the source again, if it should name people".to_owned(),
                format!("if nobody is left in it: `guard: {{ allow_empty: true }}` ({at})"),
            ],
        ),
        GuardViolation::EmptyAtFirst => (
            "empty_source",
            "the source is empty, and the cohort was never filled".to_owned(),
            vec![
                "export the source again, if it should have rows".to_owned(),
                format!("if the cohort may be empty: `guard: {{ allow_empty: true }}` ({at})"),
            ],
        ),
        GuardViolation::NoneUsable { rows, rejects } => {
            let reasons: Vec<String> =
                rejects.iter().map(|(reason, number)| format!("{} {reason}", count(*number))).collect();
            (
                "none_usable",
                format!(
                    "{} of the source rejected, none is left: {}",
                    counted(*rows, "row"),
                    reasons.join(", ")
                ),
                vec![
                    "correct the rows, or the columns under `match:`; the plan shows the first of them"
                        .to_owned(),
                    format!("if the cohort may be empty: `guard: {{ allow_empty: true }}` ({at})"),
                ],
            )
        }
        GuardViolation::Hollow { file } => (
            "hollow",
            format!("{file} has not even a header row, so its export has failed"),
            vec!["export it again; a list of nobody still has its header row".to_owned()],
        ),
        GuardViolation::Unreadable { rows, limit } => (
            "unreadable",
            format!(
                "{} could not be read, and may be people who are members; `guard.max_unreadable` allows {}",
                counted(*rows, "row"),
                count(*limit),
            ),
            vec![
                "correct the rows: `reconcile` writes each with file and line under rejects".to_owned(),
                format!("if they may be ignored: `guard: {{ max_unreadable: {rows} }}` ({at})"),
            ],
        ),
        GuardViolation::Damaged { damage, rows, of } => damaged(*damage, *rows, *of, at),
        _ => return None,
    })
}

/// Code, reason and remedies of a rule about the cohort itself.
fn of_cohort(refusal: &GuardViolation, id: &CohortId, at: &str) -> (&'static str, String, Vec<String>) {
    match refusal {
        GuardViolation::Protected { members } => (
            "protected",
            format!("the cohort is protected, and all {} would leave", count(*members)),
            vec![format!(
                "if it shall be emptied: declare it with `protect: false`, reconcile, then empty it ({at})"
            )],
        ),
        GuardViolation::ArrayFull(ArrayFull { attribute, cohorts, limit }) => (
            "array_full",
            format!(
                "with it {} cohorts would be in the array attribute `{attribute}`, and Braze cuts off what is over {}",
                count(*cohorts),
                count(*limit),
            ),
            vec![
                format!(
                    "give it another array, or a boolean of its own: `attribute: {{ boolean: … }}` ({at})"
                ),
                "if Braze has raised the limit: `array_elements:` of the connection".to_owned(),
            ],
        ),
        GuardViolation::NameTaken { name, by } => (
            "name_taken",
            format!(
                "cohort `{by}` has the name \"{name}\" already, and Braze's segment filter shows names only"
            ),
            vec![format!("give `{id}` another name ({at}), or empty `{by}` under `removed:`")],
        ),
        GuardViolation::Moved { from, to } => (
            "moved",
            format!("its members are in {from}, and the config sends to {to}"),
            vec![
                "for another workspace, use another `state:`".to_owned(),
                "if the connection only has a new name: give it `formerly: [<the old name>]`".to_owned(),
                format!("to move the cohort: empty it in the old one first, or give it a new id ({at})"),
            ],
        ),
        _ => ("limit", String::new(), Vec::new()),
    }
}

fn damaged(damage: Damage, rows: u64, of: u64, at: &str) -> (&'static str, String, Vec<String>) {
    let (rows, of) = (count(rows), count(of));
    let (code, why) = match damage {
        Damage::DecimalIds => (
            "decimal_ids",
            format!(
                "{rows} of {of} identifiers end in `.0`: a data frame or spreadsheet has probably stored whole numbers \
                 as decimal numbers"
            ),
        ),
        Damage::ExponentIds => (
            "exponent_ids",
            format!(
                "{rows} of {of} identifiers are in exponent notation, like 1.23E+11: a spreadsheet has probably \
                 shortened long numbers, and their last digits are lost"
            ),
        ),
        Damage::Duplicates => (
            "duplicates",
            format!(
                "{rows} of {of} rows repeat an identifier: the identifiers were probably rounded, cut or overwritten \
                 with one value"
            ),
        ),
    };
    let remedies = vec![
        "export the identifiers again, as text".to_owned(),
        format!("if they are right: `guard: {{ allow: [{code}] }}` ({at})"),
    ];
    (code, why, remedies)
}

fn side(op: ChangeOp, remove: &'static str, add: &'static str) -> &'static str {
    match op {
        ChangeOp::Remove => remove,
        ChangeOp::Add => add,
    }
}

fn too_many(op: ChangeOp, changes: u64, setting: &str, about: BlockedSubject<'_>) -> Vec<String> {
    vec![
        this_once(op, changes, about),
        format!("if it is right every time: raise `guard.{setting}` ({})", about.declared_at),
    ]
}

fn this_once(op: ChangeOp, changes: u64, about: BlockedSubject<'_>) -> String {
    format!("if this is right, for one run: {}", about.again.allowing(op, about.id, changes))
}

fn percent(part: u64, whole: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "one decimal for people to read")]
    let share = part as f64 * 100.0 / whole.max(1) as f64;
    format!("{share:.1}%")
}
