//! A refusal in words: the numbers, the limit, the setting that sets it, and the way out.

use crate::cli::output::count;
use crate::model::{CohortId, Op};
use crate::plan::{Refusal, Side};

/// What a refusal says.
pub(in crate::cli) struct Words {
    /// A stable word for its kind.
    pub(in crate::cli) code: &'static str,
    /// What it withholds.
    pub(in crate::cli) withheld: &'static str,
    /// Why.
    pub(in crate::cli) why: String,
    /// The way out.
    pub(in crate::cli) way_out: Vec<String>,
}

/// Puts a refusal into words. `declared_at` is where the config declares the cohort.
pub(in crate::cli) fn words(refusal: &Refusal, id: &CohortId, declared_at: &str) -> Words {
    let withheld = match refusal.side() {
        Side::Removes => "removals",
        Side::Adds => "additions",
        Side::Naming => "name",
        Side::All => "everything",
    };
    let (code, why, way_out) = parts(refusal, id, declared_at);
    Words { code, withheld, why, way_out }
}

fn parts(refusal: &Refusal, id: &CohortId, at: &str) -> (&'static str, String, Vec<String>) {
    match refusal {
        Refusal::Share { op, changes, members, limit } => (
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
            too_many(*op, *changes, id, side(*op, "max_removed", "max_added"), at),
        ),
        Refusal::Count { op, changes, limit } => (
            side(*op, "removed_count", "added_count"),
            format!(
                "{} members would {}; `guard.{}` allows {}",
                count(*changes),
                side(*op, "leave", "enter"),
                side(*op, "max_removed_count", "max_added_count"),
                count(*limit),
            ),
            too_many(*op, *changes, id, side(*op, "max_removed_count", "max_added_count"), at),
        ),
        Refusal::Ceiling { op, changes, limit } => (
            side(*op, "removed_ceiling", "added_ceiling"),
            format!(
                "{} members would {}; `--{}` allows {} in this run",
                count(*changes),
                side(*op, "leave", "enter"),
                side(*op, "max-removes", "max-adds"),
                count(*limit),
            ),
            vec![format!("if this is right: --{} {id}={changes}", side(*op, "max-removes", "max-adds"))],
        ),
        other => withheld_removals(other, id, at),
    }
}

fn withheld_removals(refusal: &Refusal, id: &CohortId, at: &str) -> (&'static str, String, Vec<String>) {
    match refusal {
        Refusal::Emptied { members } => (
            "emptied",
            format!("the source names nobody, and all {} would leave", count(*members)),
            vec![
                "export the source again, if it should name people".to_owned(),
                format!("if nobody is left in it: `guard: {{ allow_empty: true }}` ({at})"),
            ],
        ),
        Refusal::Hollow { file } => (
            "hollow",
            format!("{file} has not even a header row, so its export has failed"),
            vec!["export it again; a list of nobody still has its header row".to_owned()],
        ),
        Refusal::Unreadable { rows, limit } => (
            "unreadable",
            format!(
                "{} could not be read, and may be people who are members; `guard.max_unreadable` allows {}",
                crate::cli::output::counted(*rows, "row"),
                count(*limit),
            ),
            vec![
                "correct the rows: `reconcile` writes each with file and line under rejects".to_owned(),
                format!("if they may be ignored: `guard: {{ max_unreadable: {rows} }}` ({at})"),
            ],
        ),
        Refusal::Protected { members } => (
            "protected",
            format!("the cohort is protected, and all {} would leave", count(*members)),
            vec![format!(
                "if it shall be emptied: declare it with `protect: false`, reconcile, then empty it ({at})"
            )],
        ),
        Refusal::NameTaken { name, by } => (
            "name_taken",
            format!(
                "cohort `{by}` has the name \"{name}\" already, and Braze's segment filter shows names only"
            ),
            vec![format!("give `{id}` another name ({at}), or empty `{by}` under `removed:`")],
        ),
        Refusal::Moved { from, to } => (
            "moved",
            format!("its members are in {from}, and the config sends to {to}"),
            vec![
                "for another workspace, use another `state:`".to_owned(),
                "if the connection only has a new name: give it `formerly: [<the old name>]`".to_owned(),
                format!("to move the cohort: empty it in the old one first, or give it a new id ({at})"),
            ],
        ),
        Refusal::Share { .. } | Refusal::Count { .. } | Refusal::Ceiling { .. } => {
            ("limit", String::new(), Vec::new())
        }
    }
}

fn side(op: Op, remove: &'static str, add: &'static str) -> &'static str {
    match op {
        Op::Remove => remove,
        Op::Add => add,
    }
}

fn too_many(op: Op, changes: u64, id: &CohortId, setting: &str, at: &str) -> Vec<String> {
    vec![
        format!(
            "if this is right, for one run: syncline reconcile --{} {id}={changes}",
            side(op, "max-removes", "max-adds")
        ),
        format!("if it is right every time: raise `guard.{setting}` ({at})"),
    ]
}

fn percent(part: u64, whole: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "one decimal for people to read")]
    let share = part as f64 * 100.0 / whole.max(1) as f64;
    format!("{share:.1}%")
}
