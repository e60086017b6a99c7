//! Checks of exports: the Heap connection, the source, and globs.

use std::collections::HashMap;
use std::path::Path;

use super::{base_url, connections, is_below, is_kind};
use crate::config::merge::leaves_folder;
use crate::config::problem::{Problem, ProblemCode};
use crate::config::source_text::SourceSpan;
use crate::config::tree::{TreeEntry, TreeNode};
use crate::event_mapping::{check_glob, check_rename};

fn exports(tree: &TreeNode) -> &[TreeNode] {
    tree.items("exports")
}

fn heaps(tree: &TreeNode) -> impl Iterator<Item = &TreeEntry> {
    connections(tree).iter().filter(|entry| is_kind(&entry.node, "heap"))
}

/// Ids of exports are unique.
pub(super) fn ids_are_unique(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let mut first: HashMap<&str, SourceSpan> = HashMap::new();
    for (id, span) in exports(tree).iter().filter_map(|export| export.text("id")) {
        if let Some(earlier) = first.get(id) {
            problems.push(
                Problem::new(ProblemCode::DuplicateId, format!("two exports have the id `{id}`"))
                    .at(span, "second use")
                    .see(*earlier, "first use")
                    .hint("use another id; the state records progress by id"),
            );
        } else {
            first.insert(id, span);
        }
    }
}

/// The Heap connection of an export has a region and an environment id.
pub(super) fn heaps_can_be_sent_to(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for (to, span) in exports(tree).iter().filter_map(|export| export.text("to")) {
        let Some(heap) = heaps(tree).find(|entry| entry.key == to) else {
            super::watch::no_heap(tree, to, span, problems);
            continue;
        };
        let (region, endpoint) = (heap.node.text("region"), heap.node.entry("endpoint"));
        if region.is_none() && endpoint.is_none() {
            problems.push(
                Problem::new(ProblemCode::EndpointChoice, format!("connection `{to}` has no region"))
                    .at(heap.key_span, "missing `region` or `endpoint`")
                    .see(span, "this export sends events there")
                    .hint("`region: us`, `region: eu`, or `region: sandbox` for a local simulation"),
            );
        }
        let is_sandbox = region.is_some_and(|(region, _)| region == "sandbox");
        if !is_sandbox && (region.is_some() || endpoint.is_some()) && heap.node.get("app_id").is_none() {
            problems.push(
                Problem::new(ProblemCode::MissingCredentials, format!("connection `{to}` has no `app_id`"))
                    .at(heap.key_span, "missing `app_id`")
                    .see(span, "this export sends events there")
                    .hint("add `app_id: \"…\"`: the digits that Heap shows under Administration > Projects"),
            );
        }
    }
}

/// A Heap connection has one endpoint, which is encrypted.
pub(super) fn heap_endpoints_are_safe(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for entry in heaps(tree) {
        let (region, endpoint) = (entry.node.entry("region"), entry.node.entry("endpoint"));
        if let (Some(region), Some(endpoint)) = (region, endpoint) {
            problems.push(
                Problem::new(
                    ProblemCode::EndpointChoice,
                    format!("connection `{}` has both `region` and `endpoint`", entry.key),
                )
                .at(endpoint.key_span, "second setting")
                .see(region.key_span, "first setting")
                .hint("delete one of them"),
            );
        }
        let Some((endpoint, span)) = entry.node.text("endpoint") else { continue };
        if let Err((label, _)) = base_url(endpoint) {
            problems.push(
                Problem::new(ProblemCode::BadEndpoint, "the endpoint cannot receive events")
                    .at(span, label)
                    .hint("for example `https://heapanalytics.com`"),
            );
        }
    }
}

fn storages(tree: &TreeNode) -> impl Iterator<Item = &TreeNode> {
    let sources = exports(tree).iter().filter_map(|export| export.get("source"));
    sources.filter(|source| is_kind(source, "currents_storage"))
}

/// Files are either in a folder or in a bucket.
pub(super) fn storages_are_somewhere(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for source in storages(tree) {
        match (source.entry("path"), source.entry("url")) {
            (None, None) => problems.push(
                Problem::new(ProblemCode::SourceChoice, "the source has no location")
                    .at(source.head(), "missing `path` or `url`")
                    .hint("`path: folder`, or `url: s3://bucket/prefix`, `gs://…` or `az://…`"),
            ),
            (Some(path), Some(url)) => problems.push(
                Problem::new(ProblemCode::SourceChoice, "the source has both `path` and `url`")
                    .at(url.key_span, "second setting")
                    .see(path.key_span, "first setting")
                    .hint("delete one of them"),
            ),
            _ => {}
        }
    }
}

/// Folders of files are below the config's folder, or under `roots:`.
pub(super) fn folders_stay_inside(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let roots: Vec<&str> = tree.items("roots").iter().filter_map(TreeNode::as_text).collect();
    for (path, span) in storages(tree).filter_map(|source| source.text("path")) {
        if leaves_folder(Path::new(path)) && !roots.iter().any(|root| is_below(path, root)) {
            problems.push(super::outside(path, span));
        }
    }
}

/// Globs and renames are valid.
pub(super) fn globs_say_something(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let mut wrong = |span: SourceSpan, error: String, hint: &str| {
        let problem = Problem::new(ProblemCode::BadGlob, "invalid glob").at(span, error);
        problems.push(problem.hint(hint));
    };
    for export in exports(tree) {
        let lists =
            [("events", "include"), ("events", "exclude"), ("properties", "keep"), ("properties", "drop")];
        let of_lists =
            lists.iter().filter_map(|(map, key)| export.get(map)?.get(key)).flat_map(TreeNode::list);
        let personal = export.get("pii").map(TreeNode::list).unwrap_or_default();
        for (glob, span) in of_lists.chain(personal).filter_map(|node| Some((node.as_text()?, node.span))) {
            if let Err(error) = check_glob(glob) {
                wrong(span, error.to_string(), "`*` matches between two dots, `**` matches everything");
            }
        }
        for rename in export.get("properties").map(|node| node.items("rename")).unwrap_or_default() {
            let (Some((from, _)), Some((to, span))) = (rename.text("from"), rename.text("to")) else {
                continue;
            };
            if let Err(error) = check_rename(from, to) {
                wrong(span, error.to_string(), "for example `from: custom_properties.**` and `to: \"**\"`");
            }
        }
    }
}
