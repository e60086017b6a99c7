//! Checks of segments: their connections, their cohorts, and the REST API key.

use std::collections::{BTreeMap, HashMap};

use super::{brazes, connections, is_sandbox};
use crate::config::problem::{Problem, ProblemCode, did_you_mean, listed};
use crate::config::source_text::SourceSpan;
use crate::config::tree::TreeNode;

/// The cohorts of a segment, each with its span.
fn named<'a>(segment: &'a TreeNode, key: &str) -> impl Iterator<Item = (&'a str, SourceSpan)> {
    segment.items(key).iter().filter_map(|item| Some((item.as_text()?, item.span)))
}

/// Ids of segments are unique.
pub(super) fn ids_are_unique(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let mut first: HashMap<&str, SourceSpan> = HashMap::new();
    for (id, span) in tree.items("segments").iter().filter_map(|segment| segment.text("id")) {
        if let Some(earlier) = first.get(id) {
            problems.push(
                Problem::new(ProblemCode::DuplicateId, format!("two segments have the id `{id}`"))
                    .at(span, "second use")
                    .see(*earlier, "first use")
                    .hint("use another id"),
            );
        } else {
            first.insert(id, span);
        }
    }
}

/// A segment belongs to a Braze connection.
pub(super) fn connections_exist(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let known: Vec<&str> = brazes(tree).map(|entry| entry.key.as_str()).collect();
    for (name, span) in tree.items("segments").iter().filter_map(|segment| segment.text("connection")) {
        if known.contains(&name) {
            continue;
        }
        let problem =
            Problem::new(ProblemCode::UnknownConnection, format!("unknown Braze connection `{name}`"))
                .at(span, "no connection of `kind: braze` has this name");
        problems.push(match (did_you_mean(name, known.iter().copied()), known.as_slice()) {
            (Some(near), _) => problem.hint(format!("did you mean `{near}`?")),
            (None, []) => problem.hint(format!("add it: `connections: {{ {name}: {{ kind: braze, … }} }}`")),
            (None, known) => problem.hint(format!("known connections: {}", listed(known))),
        });
    }
}

/// The cohorts of a segment exist and have its connection.
pub(super) fn cohorts_exist(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let cohorts: BTreeMap<&str, Option<(&str, SourceSpan)>> = tree
        .items("cohorts")
        .iter()
        .filter_map(|cohort| Some((cohort.text("id")?.0, cohort.text("to"))))
        .collect();
    for segment in tree.items("segments") {
        let connection = segment.text("connection");
        let connection = connection.filter(|(name, _)| brazes(tree).any(|braze| braze.key == *name));
        for (id, span) in named(segment, "include").chain(named(segment, "exclude")) {
            match (cohorts.get(id), connection) {
                (None, _) => problems.push(unknown_cohort(id, span, &cohorts)),
                (Some(Some((to, there))), Some((here, _))) if *to != here => problems.push(
                    Problem::new(
                        ProblemCode::OtherConnection,
                        format!("cohort `{id}` is in `{to}`, but the segment is in `{here}`"),
                    )
                    .at(span, format!("not in `{here}`"))
                    .see(*there, "its connection")
                    .hint("a segment can only use cohorts of its own workspace"),
                ),
                _ => {}
            }
        }
    }
}

fn unknown_cohort(
    id: &str,
    span: SourceSpan,
    cohorts: &BTreeMap<&str, Option<(&str, SourceSpan)>>,
) -> Problem {
    let problem = Problem::new(ProblemCode::UnknownCohort, format!("unknown cohort `{id}`"))
        .at(span, "not under `cohorts:`");
    match did_you_mean(id, cohorts.keys().copied()) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint("add it to `cohorts:`, or delete it from the segment"),
    }
}

/// A segment that includes and excludes the same cohort is empty.
pub(super) fn sides_differ(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for segment in tree.items("segments") {
        let included: HashMap<&str, SourceSpan> = named(segment, "include").collect();
        for (id, span) in named(segment, "exclude") {
            if let Some(other) = included.get(id).copied() {
                problems.push(
                    Problem::new(
                        ProblemCode::IncludedAndExcluded,
                        format!("the segment both includes and excludes `{id}`"),
                    )
                    .at(span, "excluded here")
                    .see(other, "included here")
                    .hint("the segment would be empty; delete one of them"),
                );
            }
        }
    }
}

/// Segment checks need a REST API key.
pub(super) fn there_is_a_key(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for entry in connections(tree).iter().filter(|entry| !is_sandbox(&entry.node)) {
        let mut uses = tree.items("segments").iter().filter_map(|segment| segment.text("connection"));
        let Some((_, span)) = uses.find(|(name, _)| *name == entry.key) else { continue };
        if entry.node.get("rest_api_key").is_none() && brazes(tree).any(|braze| braze.key == entry.key) {
            problems.push(
                Problem::new(
                    ProblemCode::MissingCredentials,
                    format!("connection `{}` has no `rest_api_key`", entry.key),
                )
                .at(entry.key_span, "missing `rest_api_key`")
                .see(span, "this segment check needs it")
                .hint("add `rest_api_key: { env: BRAZE_REST_API_KEY }`; create it in Braze under Settings, APIs and Identifiers"),
            );
        }
    }
}
