//! Checks of triggers.

use super::is_kind;
use crate::config::problem::{Problem, ProblemCode};
use crate::config::tree::{TreeEntry, TreeNode};

/// The triggers of cohorts, with the cohort.
pub(super) fn declared_triggers(tree: &TreeNode) -> impl Iterator<Item = (&TreeNode, &TreeEntry)> {
    let of = |cohort| ["on_enter", "on_exit"].into_iter().filter_map(move |key| TreeNode::entry(cohort, key));
    tree.items("cohorts").iter().flat_map(move |cohort| of(cohort).map(move |entry| (cohort, entry)))
}

pub(super) fn one_thing_is_triggered(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for (_, entry) in declared_triggers(tree) {
        match (entry.node.entry("campaign"), entry.node.entry("canvas")) {
            (None, None) => problems.push(
                Problem::new(
                    ProblemCode::BadTrigger,
                    format!("`{}` has neither a campaign nor a Canvas", entry.key),
                )
                .at(entry.key_span, "expected `campaign` or `canvas`")
                .hint("add the API identifier of a campaign or Canvas with API-triggered delivery"),
            ),
            (Some(campaign), Some(canvas)) => problems.push(
                Problem::new(
                    ProblemCode::BadTrigger,
                    format!("`{}` has both a campaign and a Canvas", entry.key),
                )
                .at(canvas.key_span, "second setting")
                .see(campaign.key_span, "first setting")
                .hint("delete one of them"),
            ),
            _ => {}
        }
    }
}

pub(super) fn quiet_hours_are_somewhere(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let quiets = declared_triggers(tree).filter_map(|(_, entry)| entry.node.get("quiet"));
    for (name, span) in quiets.filter_map(|quiet| quiet.text("time_zone")) {
        if jiff::tz::TimeZone::get(name).is_err() {
            problems.push(
                Problem::new(ProblemCode::BadSchedule, format!("unknown time zone `{name}`"))
                    .at(span, "not a name of the IANA time zone database")
                    .hint("for example `Europe/Berlin`, or `UTC`"),
            );
        }
    }
}

/// Users who left have no row in the source, and a Heap segment has only the column of the identity.
pub(super) fn properties_have_columns(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for (cohort, entry) in declared_triggers(tree) {
        let Some(properties) = entry.node.entry("properties") else { continue };
        let is_segment = cohort.get("source").is_some_and(|source| is_kind(source, "heap_segment"));
        let why = match (entry.key.as_str(), is_segment) {
            ("on_exit", _) => "users who left have no row in the source",
            (_, true) => "a Heap segment has only the column `id`",
            _ => continue,
        };
        problems.push(
            Problem::new(ProblemCode::BadTrigger, format!("`{}` cannot have properties", entry.key))
                .at(properties.key_span, why)
                .hint("delete `properties`"),
        );
    }
}
