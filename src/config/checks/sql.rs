//! Checks of SQL sources.

use super::source_kind::SourceKind;
use super::{connections, is_kind, sources};
use crate::config::mask;
use crate::config::problem::{Problem, ProblemCode, did_you_mean, listed};
use crate::config::tree::TreeNode;

fn queries(tree: &TreeNode) -> impl Iterator<Item = &TreeNode> {
    sources(tree).filter(|source| is_kind(source, "sql"))
}

/// The sources of cohorts that may have a query, each with what uses all rows without one.
fn sql_sources(tree: &TreeNode) -> impl Iterator<Item = (&TreeNode, &'static str)> {
    let cohorts = tree.items("cohorts").iter().filter_map(|cohort| cohort.get("source"));
    cohorts.filter_map(|source| Some((source, SourceKind::of(source)?.all_rows()?)))
}

/// A SQL source has a SQL connection.
pub(super) fn queries_name_a_database(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let known: Vec<&str> = connections(tree)
        .iter()
        .filter(|entry| ["postgres", "adbc"].iter().any(|kind| is_kind(&entry.node, kind)))
        .map(|entry| entry.key.as_str())
        .collect();
    for (name, span) in queries(tree).filter_map(|source| source.text("connection")) {
        if known.contains(&name) {
            continue;
        }
        let problem =
            Problem::new(ProblemCode::UnknownConnection, format!("unknown database connection `{name}`"))
                .at(span, "no connection of `kind: postgres` or `kind: adbc` has this name");
        problems.push(match (did_you_mean(name, known.iter().copied()), known.as_slice()) {
            (Some(near), _) => problem.hint(format!("did you mean `{near}`?")),
            (None, []) => {
                problem.hint(format!("add it: `connections: {{ {name}: {{ kind: postgres, … }} }}`"))
            }
            (None, known) => problem.hint(format!("known connections: {}", listed(known))),
        });
    }
}

/// A SQL source has exactly one query or table.
pub(super) fn queries_say_it_once(tree: &TreeNode, problems: &mut Vec<Problem>) {
    const KEYS: [&str; 3] = ["query", "query_file", "table"];
    for (source, all) in sql_sources(tree) {
        let said: Vec<_> = KEYS.iter().filter_map(|key| source.entry(key)).collect();
        match said.as_slice() {
            [_] => {}
            [] => problems.push(
                Problem::new(ProblemCode::MissingKey, "the source has no query")
                    .at(source.head(), "missing `query`, `query_file` or `table`")
                    .hint(all),
            ),
            [first, second, ..] => problems.push(
                Problem::new(
                    ProblemCode::EndpointChoice,
                    "the source has more than one of `query`, `query_file` and `table`",
                )
                .at(second.key_span, "second setting")
                .see(first.key_span, "first setting")
                .hint("delete one of them"),
            ),
        }
    }
}

/// Connections to other machines must be encrypted.
pub(super) fn databases_are_encrypted(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for entry in connections(tree).iter().filter(|entry| is_kind(&entry.node, "postgres")) {
        let Some((_, span)) = entry.node.text("tls").filter(|(tls, _)| *tls == "off") else { continue };
        let host = entry.node.text("host").map_or("", |(host, _)| host.trim());
        let is_here = host.starts_with('/')
            || host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !is_here {
            problems.push(
                Problem::new(ProblemCode::BadEndpoint, format!("the connection to `{host}` would be unencrypted"))
                    .at(span, "turns encryption off")
                    .hint("`tls: off` is only for this machine; delete it, or set the server's certificate under `ca:`"),
            );
        }
    }
}

/// Secret options belong under `secrets`.
pub(super) fn options_are_no_secrets(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for entry in connections(tree).iter().filter(|entry| is_kind(&entry.node, "adbc")) {
        let options = entry.node.get("options").map(TreeNode::entries).unwrap_or_default();
        for option in options.iter().filter(|option| mask::is_masked(&option.node)) {
            let name = &option.key;
            problems.push(
                Problem::new(
                    ProblemCode::MisplacedSecret,
                    format!("option `{name}` is a secret, but options are not masked"),
                )
                .at(option.key_span, "a secret")
                .hint(format!("move it: `secrets: {{ {name}: {{ env: VARIABLE }} }}`")),
            );
        }
    }
}

/// `diff: pushdown` needs a schema for mirror tables.
pub(super) fn pushdown_has_a_mirror_table(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for source in queries(tree) {
        let Some((_, span)) = source.text("diff").filter(|(diff, _)| *diff == "pushdown") else { continue };
        let Some((name, _)) = source.text("connection") else { continue };
        let Some(entry) = connections(tree).iter().find(|entry| entry.key == name) else { continue };
        if is_kind(&entry.node, "adbc") {
            problems.push(
                Problem::new(
                    ProblemCode::BadPushdown,
                    format!("pushdown needs PostgreSQL, but `{name}` is an ADBC connection"),
                )
                .at(span, "expected a connection of `kind: postgres`")
                .see(entry.key_span, "this has `kind: adbc`")
                .hint("delete it: rows are then compared on this machine"),
            );
        } else if is_kind(&entry.node, "postgres") && entry.node.get("pushdown").is_none() {
            problems.push(
                Problem::new(ProblemCode::BadPushdown, format!("connection `{name}` has no schema for mirror tables"))
                    .at(span, "needs a mirror table")
                    .see(entry.key_span, "missing `pushdown`")
                    .hint(format!(
                        "set a schema that its user can write to: `{name}: {{ …, pushdown: {{ schema: syncline }} }}`"
                    )),
            );
        }
    }
}
