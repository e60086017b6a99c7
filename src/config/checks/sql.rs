//! Checks of what SQL sources need.

use super::{connections, is_kind, sources};
use crate::config::mask;
use crate::config::problem::{Problem, ProblemCode, did_you_mean, listed};
use crate::config::tree::TreeNode;

fn queries(tree: &TreeNode) -> impl Iterator<Item = &TreeNode> {
    sources(tree).filter(|source| is_kind(source, "sql"))
}

/// Queries, and tables of Heap Connect's dumps.
fn asked(tree: &TreeNode) -> impl Iterator<Item = &TreeNode> {
    let cohorts = tree.items("cohorts").iter().filter_map(|cohort| cohort.get("source"));
    cohorts.filter(|source| is_kind(source, "sql") || is_kind(source, "heap_connect"))
}

/// A query is asked of a database.
pub(super) fn queries_name_a_database(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let known: Vec<&str> = connections(tree)
        .iter()
        .filter(|entry| ["postgres", "adbc"].iter().any(|kind| is_kind(&entry.node, kind)))
        .map(|entry| entry.key.as_str())
        .collect();
    for (name, place) in queries(tree).filter_map(|source| source.text("connection")) {
        if known.contains(&name) {
            continue;
        }
        let problem = Problem::new(ProblemCode::UnknownConnection, format!("there is no database `{name}`"))
            .at(place, "no connection of `kind: postgres` or `kind: adbc` has this name");
        problems.push(match (did_you_mean(name, known.iter().copied()), known.as_slice()) {
            (Some(near), _) => problem.hint(format!("did you mean `{near}`?")),
            (None, []) => {
                problem.hint(format!("add it: `connections: {{ {name}: {{ kind: postgres, … }} }}`"))
            }
            (None, known) => problem.hint(format!("the config has {}", listed(known))),
        });
    }
}

/// The rows come from one place.
pub(super) fn queries_say_it_once(tree: &TreeNode, problems: &mut Vec<Problem>) {
    const KEYS: [&str; 3] = ["query", "query_file", "table"];
    for source in asked(tree) {
        let all = if is_kind(source, "sql") {
            "`table: schema.name` takes all of a table or view"
        } else {
            "`table: name` takes all of a table"
        };
        let said: Vec<_> = KEYS.iter().filter_map(|key| source.entry(key)).collect();
        match said.as_slice() {
            [_] => {}
            [] => problems.push(
                Problem::new(ProblemCode::MissingKey, "the source does not say what to ask")
                    .at(source.head(), "needs `query`, `query_file` or `table`")
                    .hint(all),
            ),
            [first, second, ..] => problems.push(
                Problem::new(ProblemCode::EndpointChoice, "the source says twice what to ask")
                    .at(second.key_span, "here")
                    .see(first.key_span, "and here")
                    .hint("keep one of the two"),
            ),
        }
    }
}

/// Passwords and people do not travel in the open.
pub(super) fn databases_are_encrypted(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for entry in connections(tree).iter().filter(|entry| is_kind(&entry.node, "postgres")) {
        let Some((_, place)) = entry.node.text("tls").filter(|(tls, _)| *tls == "off") else { continue };
        let host = entry.node.text("host").map_or("", |(host, _)| host.trim());
        let is_here = host.starts_with('/')
            || host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !is_here {
            problems.push(
                Problem::new(ProblemCode::BadEndpoint, format!("`{host}` would be spoken to in the open"))
                    .at(place, "not encrypted")
                    .hint("`tls: off` is for this machine only; delete it, or name the server's certificate under `ca:`"),
            );
        }
    }
}

/// What must not be shown has a place of its own.
pub(super) fn options_are_no_secrets(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for entry in connections(tree).iter().filter(|entry| is_kind(&entry.node, "adbc")) {
        let options = entry.node.get("options").map(TreeNode::entries).unwrap_or_default();
        for option in options.iter().filter(|option| mask::is_masked(&option.node)) {
            let name = &option.key;
            problems.push(
                Problem::new(
                    ProblemCode::MisplacedSecret,
                    format!("option `{name}` is a secret, and options are shown"),
                )
                .at(option.key_span, "a secret")
                .hint(format!("give it by name: `secrets: {{ {name}: {{ env: VARIABLE }} }}`")),
            );
        }
    }
}

/// Members that are compared in the database lie in a table there.
pub(super) fn pushdown_has_a_place(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for source in queries(tree) {
        let Some((_, place)) = source.text("diff").filter(|(diff, _)| *diff == "pushdown") else { continue };
        let Some((name, _)) = source.text("connection") else { continue };
        let Some(entry) = connections(tree).iter().find(|entry| entry.key == name) else { continue };
        if is_kind(&entry.node, "adbc") {
            problems.push(
                Problem::new(
                    ProblemCode::BadPushdown,
                    format!("database `{name}` is spoken to by a driver, and pushdown needs PostgreSQL"),
                )
                .at(place, "only where the connection is of `kind: postgres`")
                .see(entry.key_span, "of `kind: adbc`")
                .hint("delete it: the rows are then compared here"),
            );
        } else if is_kind(&entry.node, "postgres") && entry.node.get("pushdown").is_none() {
            problems.push(
                Problem::new(ProblemCode::BadPushdown, format!("database `{name}` has no place for the members"))
                    .at(place, "needs a table beside the source")
                    .see(entry.key_span, "does not say in which schema")
                    .hint(format!(
                        "name a schema that its user may write to: `{name}: {{ …, pushdown: {{ schema: syncline }} }}`"
                    )),
            );
        }
    }
}
