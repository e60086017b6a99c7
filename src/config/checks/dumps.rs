//! Checks of queries over Heap Connect dumps.

use std::collections::HashMap;
use std::collections::hash_map;

use super::{connections, is_kind};
use crate::config::problem::{Problem, ProblemCode, did_you_mean, listed};
use crate::config::tree::{TreeEntry, TreeNode};

fn dumps(tree: &TreeNode) -> impl Iterator<Item = &TreeNode> {
    let cohorts = tree.items("cohorts").iter().filter_map(|cohort| cohort.get("source"));
    cohorts.filter(|source| is_kind(source, "heap_connect"))
}

/// The query, or the file with it.
fn query(source: &TreeNode) -> Option<&TreeEntry> {
    source.entry("query").or_else(|| source.entry("query_file"))
}

/// A query needs a database and tables.
pub(super) fn queries_have_an_engine(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for source in dumps(tree) {
        let Some(query) = query(source) else { continue };
        if source.entry("connection").is_none() {
            problems.push(
                Problem::new(ProblemCode::MissingKey, "the query has no database")
                    .at(query.key_span, "missing `connection`")
                    .hint(
                        "add a connection of `kind: adbc`, for example DuckDB or SQLite; the tables become temporary tables in it",
                    ),
            );
        }
        if source.items("tables").is_empty() {
            problems.push(
                Problem::new(ProblemCode::MissingKey, "the query has no tables")
                    .at(query.key_span, "missing `tables`")
                    .hint("list the tables that it uses, for example `tables: [checkout, users]`"),
            );
        }
    }
}

/// Only databases with an ADBC driver can get temporary tables.
pub(super) fn databases_accept_temporary_tables(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let fit = connections(tree).iter().filter(|entry| is_kind(&entry.node, "adbc"));
    let known: Vec<&str> = fit.map(|entry| entry.key.as_str()).collect();
    for (name, span) in dumps(tree).filter_map(|source| source.text("connection")) {
        if known.contains(&name) {
            continue;
        }
        let what = format!("unknown database connection `{name}`");
        let problem = Problem::new(ProblemCode::UnknownConnection, what)
            .at(span, "no connection of `kind: adbc` has this name");
        problems.push(match (did_you_mean(name, known.iter().copied()), known.as_slice()) {
            (Some(near), _) => problem.hint(format!("did you mean `{near}`?")),
            (None, []) => problem.hint(format!(
                "add it: `connections: {{ {name}: {{ kind: adbc, driver: duckdb, options: {{ path: \":memory:\" }} }} }}`"
            )),
            (None, known) => problem.hint(format!("known connections: {}", listed(known))),
        });
    }
}

/// Each table is listed once. Databases ignore case.
pub(super) fn tables_differ(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for source in dumps(tree) {
        let mut first: HashMap<String, &TreeNode> = HashMap::new();
        for node in source.items("tables") {
            let Some(name) = node.as_text() else { continue };
            let earlier = match first.entry(name.trim().to_ascii_lowercase()) {
                hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(node);
                    continue;
                }
                hash_map::Entry::Occupied(earlier) => *earlier.get(),
            };
            problems.push(
                Problem::new(ProblemCode::DefinedTwice, format!("the table `{name}` is listed twice"))
                    .at(node.span, "second entry")
                    .see(earlier.span, "first entry")
                    .hint("delete one of them; databases ignore case in table names"),
            );
        }
    }
}

/// A key without effect is an error.
pub(super) fn nothing_is_in_vain(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for source in dumps(tree) {
        let (keys, of, hint): (&[&str], _, _) = match (source.entry("table"), query(source)) {
            (Some(_), None) => (
                &["connection", "tables", "params"],
                "a query",
                "delete it, or use `query` instead of `table`",
            ),
            (None, Some(_)) => (&["within"], "a table", "delete it, and filter by time in the query"),
            _ => continue,
        };
        for entry in keys.iter().filter_map(|key| source.entry(key)) {
            let what = format!("`{}` is only valid for {of}", entry.key);
            problems.push(
                Problem::new(ProblemCode::UnknownKey, what).at(entry.key_span, "has no effect").hint(hint),
            );
        }
    }
}
