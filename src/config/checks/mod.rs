//! Checks that a schema cannot express: references, uniqueness, order, paths.
//!
//! Checks read the tree and not typed values, so all of them run in spite of other problems, and each knows the span of
//! its problems. They skip values that the schema already reports.

mod deliver;
mod dumps;
mod endpoints;
mod exports;
mod features;
mod remote_files;
mod segments;
mod source_kind;
mod sql;
mod triggers;
mod watch;

use std::collections::HashMap;
use std::path::Path;

use self::source_kind::SourceKind;
use crate::config::file_source::FileFormat;
use crate::config::merge::leaves_folder;
use crate::config::problem::{Problem, ProblemCode, did_you_mean, listed};
use crate::config::source_text::SourceSpan;
use crate::config::tree::{TreeEntry, TreeNode};
use crate::model::Percentage;

type ConfigCheck = fn(&TreeNode, &mut Vec<Problem>);

/// All checks. They do not depend on each other.
const CHECKS: &[ConfigCheck] = &[
    connections_exist,
    ids_are_unique,
    names_are_unique,
    removed_are_not_declared,
    features::features_are_present,
    paths_stay_inside,
    remote_files::addresses_are_good,
    remote_files::stores_have_buckets,
    remote_files::dumps_are_in_buckets,
    remote_files::mappings_have_a_handle,
    formats_are_known,
    device_id_comes_last,
    rules_differ,
    removed_shares_are_at_most_whole,
    one_endpoint_each,
    endpoints_are_safe,
    endpoints::allowed_are_servers,
    endpoints::servers_are_allowed,
    triggers::one_thing_is_triggered,
    triggers::quiet_hours_are_somewhere,
    triggers::properties_have_columns,
    deliver::real_vendors_have_keys,
    deliver::attributes_are_written,
    deliver::attributes_differ,
    deliver::profile_fields_are_left_alone,
    segments::ids_are_unique,
    segments::connections_exist,
    segments::cohorts_exist,
    segments::sides_differ,
    segments::there_is_a_key,
    exports::ids_are_unique,
    exports::heaps_can_be_sent_to,
    exports::heap_endpoints_are_safe,
    exports::storages_are_somewhere,
    exports::folders_stay_inside,
    exports::globs_say_something,
    watch::segments_are_heaps,
    watch::segments_have_one_column,
    watch::public_endpoints_are_encrypted,
    watch::public_url_is_usable,
    watch::public_endpoints_are_authenticated,
    watch::endpoint_paths_differ,
    watch::schedules_come_to_be,
    sql::queries_name_a_database,
    sql::queries_say_it_once,
    sql::databases_are_encrypted,
    sql::options_are_no_secrets,
    sql::pushdown_has_a_mirror_table,
    dumps::queries_have_an_engine,
    dumps::databases_accept_temporary_tables,
    dumps::tables_differ,
    dumps::nothing_is_in_vain,
];

/// Runs all checks.
pub(super) fn check(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for check in CHECKS {
        check(tree, problems);
    }
}

fn connections(tree: &TreeNode) -> &[TreeEntry] {
    tree.get("connections").map(TreeNode::entries).unwrap_or_default()
}

fn is_kind(connection: &TreeNode, kind: &str) -> bool {
    connection.text("kind").is_some_and(|(name, _)| name == kind)
}

/// Connections for cohorts. The schema reports connections without a kind.
fn brazes(tree: &TreeNode) -> impl Iterator<Item = &TreeEntry> {
    connections(tree)
        .iter()
        .filter(|entry| !["heap", "postgres", "adbc"].iter().any(|kind| is_kind(&entry.node, kind)))
}

fn connections_exist(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let known: Vec<&str> = brazes(tree).map(|entry| entry.key.as_str()).collect();
    for (to, span) in tree.items("cohorts").iter().filter_map(|cohort| cohort.text("to")) {
        if known.contains(&to) {
            continue;
        }
        let exists = connections(tree).iter().any(|entry| entry.key == to);
        let (message, label) = if exists {
            (format!("connection `{to}` is not a Braze connection"), "expected `kind: braze`")
        } else {
            (format!("unknown connection `{to}`"), "not under `connections:`")
        };
        let problem = Problem::new(ProblemCode::UnknownConnection, message).at(span, label);
        problems.push(match (did_you_mean(to, known.iter().copied()), known.as_slice()) {
            (Some(near), _) => problem.hint(format!("did you mean `{near}`?")),
            (None, []) => problem.hint(format!("add it: `connections: {{ {to}: {{ kind: braze, … }} }}`")),
            (None, known) => problem.hint(format!("known connections: {}", listed(known))),
        });
    }
}

fn ids_are_unique(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let mut first: HashMap<&str, SourceSpan> = HashMap::new();
    for (id, span) in tree.items("cohorts").iter().filter_map(|cohort| cohort.text("id")) {
        if let Some(earlier) = first.get(id) {
            problems.push(
                Problem::new(ProblemCode::DuplicateId, format!("two cohorts have the id `{id}`"))
                    .at(span, "second use")
                    .see(*earlier, "first use")
                    .hint("use another id; ids of cohorts must be unique and are never reused"),
            );
        } else {
            first.insert(id, span);
        }
    }
}

/// Braze's segment filter shows only names, so names must be unique.
fn names_are_unique(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let mut first: HashMap<(&str, &str), SourceSpan> = HashMap::new();
    for cohort in tree.items("cohorts") {
        let (Some((name, span)), Some((to, _))) = (cohort.text("name"), cohort.text("to")) else { continue };
        if let Some(earlier) = first.get(&(to, name.trim())) {
            problems.push(
                Problem::new(
                    ProblemCode::DuplicateName,
                    format!("two cohorts in `{to}` have the name `{name}`"),
                )
                .at(span, "second use")
                .see(*earlier, "first use")
                .hint("use another name; Braze's segment filter shows only names"),
            );
        } else {
            first.insert((to, name.trim()), span);
        }
    }
}

fn removed_are_not_declared(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let declared: HashMap<&str, SourceSpan> =
        tree.items("cohorts").iter().filter_map(|cohort| cohort.text("id")).collect();
    for (id, span) in tree.items("removed").iter().filter_map(|removed| removed.text("cohort")) {
        if let Some(other) = declared.get(id).copied() {
            problems.push(
                Problem::new(
                    ProblemCode::RemovedAndDeclared,
                    format!("`{id}` is both under `cohorts` and under `removed`"),
                )
                .at(span, "under `removed`")
                .see(other, "under `cohorts`")
                .hint("delete one of them"),
            );
        }
    }
}

fn paths_stay_inside(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let roots: Vec<&str> = tree.items("roots").iter().filter_map(TreeNode::as_text).collect();
    for (path, span) in sources(tree).filter_map(|source| source.text("path")) {
        if !path.contains("://")
            && leaves_folder(Path::new(path))
            && !roots.iter().any(|root| is_below(path, root))
        {
            problems.push(outside(path, span));
        }
    }
}

fn outside(path: &str, span: SourceSpan) -> Problem {
    Problem::new(ProblemCode::PathOutside, format!("`{path}` is outside the config's folder"))
        .at(span, "sources may not read from it")
        .hint("add its folder to `roots:` at the top of the config")
}

fn is_below(path: &str, root: &str) -> bool {
    Path::new(path).strip_prefix(root).is_ok_and(|rest| !leaves_folder(rest))
}

fn sources(tree: &TreeNode) -> impl Iterator<Item = &TreeNode> {
    tree.items("cohorts").iter().filter_map(|cohort| cohort.get("source")).chain(tree.items("identity"))
}

fn formats_are_known(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let files = sources(tree).filter(|source| SourceKind::of(source).is_some_and(SourceKind::has_format));
    for source in files.filter(|source| source.get("format").is_none()) {
        let Some((path, span)) = source.text("path") else { continue };
        if FileFormat::from_name(Path::new(path)).is_none() {
            problems.push(
                Problem::new(ProblemCode::UnknownFormat, format!("the format of `{path}` is unknown"))
                    .at(span, "expected the extension .csv, .tsv, .ndjson, .jsonl, .json, .parquet or .avro")
                    .hint("add `format: csv`, `tsv`, `ndjson`, `parquet` or `avro`"),
            );
        }
    }
}

fn rules(tree: &TreeNode) -> impl Iterator<Item = &[TreeNode]> {
    tree.items("cohorts").iter().map(|cohort| cohort.items("match"))
}

/// Braze ignores the device id of an identified user, so a row with another identifier must not be matched by device id
/// (Braze, partner cohort import, "User matching").
fn device_id_comes_last(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for rules in rules(tree) {
        let device = rules.iter().find_map(|rule| rule.entry("device_id"));
        let after = rules.iter().skip_while(|rule| rule.get("device_id").is_none());
        let known = after.filter_map(|rule| rule.entry("external_id").or_else(|| rule.entry("alias"))).next();
        if let (Some(device), Some(known)) = (device, known) {
            problems.push(
                Problem::new(ProblemCode::RuleOrder, "`device_id` must be the last rule")
                    .at(device.key_span, "takes precedence over the rules below")
                    .see(known.key_span, "for identified users")
                    .hint("move it to the end: Braze ignores the device ids of identified users"),
            );
        }
    }
}

fn rules_differ(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for rules in rules(tree) {
        let mut first: HashMap<String, SourceSpan> = HashMap::new();
        for entry in rules.iter().filter_map(|rule| rule.entries().first()) {
            let text = format!("{}: {}", entry.key, entry.node.to_json());
            if let Some(earlier) = first.get(&text) {
                problems.push(
                    Problem::new(ProblemCode::DuplicateRule, format!("the rule `{text}` is listed twice"))
                        .at(entry.key_span, "never applies")
                        .see(*earlier, "applies first")
                        .hint("delete it"),
                );
            } else {
                first.insert(text, entry.key_span);
            }
        }
    }
}

/// A limit of removals above 100% has no effect and is probably a typo, such as `300%` for `30%`.
fn removed_shares_are_at_most_whole(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for guard in tree.items("cohorts").iter().filter_map(|cohort| cohort.get("guard")) {
        let Some((text, span)) = guard.text("max_removed") else { continue };
        if text.parse::<Percentage>().is_ok_and(|share| share > Percentage::from_percent(100)) {
            problems.push(
                Problem::new(ProblemCode::OutOfRange, format!("`max_removed: {text}` is more than 100%"))
                    .at(span, "expected at most 100%")
                    .hint("`max_removed: 30%` is the default; `100%` lets any number of members leave"),
            );
        }
    }
}

fn is_sandbox(connection: &TreeNode) -> bool {
    connection.text("instance").is_some_and(|(instance, _)| instance == "sandbox")
}

fn one_endpoint_each(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for entry in brazes(tree) {
        match (entry.node.entry("instance"), entry.node.entry("endpoint")) {
            (None, None) => problems.push(
                Problem::new(ProblemCode::EndpointChoice, format!("connection `{}` has no instance", entry.key))
                    .at(entry.key_span, "missing `instance` or `endpoint`")
                    .hint("`instance: US-01` as in the address of your dashboard, or `instance: sandbox` for a local simulation"),
            ),
            (Some(instance), Some(endpoint)) => problems.push(
                Problem::new(ProblemCode::EndpointChoice, format!("connection `{}` has both `instance` and `endpoint`", entry.key))
                    .at(endpoint.key_span, "second setting")
                    .see(instance.key_span, "first setting")
                    .hint("delete one of them"),
            ),
            _ => {}
        }
    }
}

fn endpoints_are_safe(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for (endpoint, span) in brazes(tree).filter_map(|entry| entry.node.text("endpoint")) {
        let Err((label, hint)) = base_url(endpoint) else { continue };
        problems.push(
            Problem::new(ProblemCode::BadEndpoint, "the endpoint cannot receive keys")
                .at(span, label)
                .hint(hint),
        );
    }
}

/// Parses a base URL of scheme, host and optional port. Returns it without a trailing slash.
///
/// # Errors
/// The fault and a remedy.
pub(super) fn base_url(text: &str) -> Result<String, (&'static str, &'static str)> {
    const HINT: &str = "for example `https://rest.iad-01.braze.com`";
    let url = safe_url(text, HINT)?;
    if url.path() != "/" {
        return Err(("has more than a scheme, host and port", HINT));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Parses the URL of a server, with an optional path. `endpoints` checks whether it is allowed.
///
/// # Errors
/// The fault and a remedy, by default `hint`.
fn safe_url(text: &str, hint: &'static str) -> Result<url::Url, (&'static str, &'static str)> {
    let url = url::Url::parse(text).map_err(|_| ("not a URL", hint))?;
    if url.host().is_none() {
        return Err(("has no host", hint));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err((
            "contains a user or a password",
            "keys belong in `data_import_key` and `partner_api_key`",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(("has more than a scheme, host and port", hint));
    }
    match url.scheme() {
        "https" | "http" => Ok(url),
        _ => Err(("neither http nor https", hint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_scheme_host_and_port() {
        for good in [
            "https://rest.iad-01.braze.com",
            "http://127.0.0.1:4010",
            "http://localhost:1/",
            "http://[::1]:9",
        ] {
            assert!(base_url(good).is_ok(), "{good}");
        }
        for bad in ["rest.braze.com", "https://u:p@h", "https://h/path", "https://h?x", "ftp://h"] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
        assert_eq!(base_url("https://h/").unwrap(), "https://h");
    }
}
