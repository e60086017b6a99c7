//! Checks of files in buckets and on web servers.

use super::source_kind::SourceKind;
use super::{base_url, is_kind, safe_url, sources};
use crate::config::problem::{Problem, ProblemCode};
use crate::config::tree::TreeNode;

const HINT: &str = "`s3://bucket/key`, `gs://…`, `az://…`, or `https://host/file`; keys and globs are allowed; a user, query or fragment is not";

fn files(tree: &TreeNode) -> impl Iterator<Item = &TreeNode> {
    sources(tree).filter(|source| is_kind(source, "file"))
}

/// The path of a remote file is complete and contains no secret.
pub(super) fn addresses_are_good(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for (path, span) in files(tree).filter_map(|source| source.text("path")) {
        if let Err(what) = address(path) {
            let problem = Problem::new(ProblemCode::BadEndpoint, format!("`path` {what}"));
            problems.push(problem.at(span, "cannot be read").hint(HINT));
        }
    }
}

fn address(path: &str) -> Result<(), &'static str> {
    let Some((scheme, rest)) = path.split_once("://") else { return Ok(()) };
    let (host, key) = rest.split_once('/').unwrap_or((rest, ""));
    match scheme {
        "s3" | "gs" | "az" if host.is_empty() || host.contains(['@', '*', '?', '[']) => Err("has no bucket"),
        "s3" | "gs" | "az" if key.is_empty() => Err("has a bucket but no key"),
        "s3" | "gs" | "az" => Ok(()),
        "https" | "http" if path.contains(['*', '[']) => Err("is a glob, but web servers cannot list files"),
        "https" | "http" if path.contains(['?', '#']) => Err("has a query, which logs would show"),
        "https" | "http" if key.is_empty() => Err("has a server but no file"),
        "https" | "http" => {
            base_url(&format!("{scheme}://{host}")).map(drop).map_err(|_| "has no server, or contains a user")
        }
        _ => Err("has an unknown scheme"),
    }
}

/// Whether a path is in a bucket.
pub(super) fn is_in_bucket(path: &str) -> bool {
    ["s3://", "gs://", "az://"].iter().any(|scheme| path.starts_with(scheme))
}

/// Keys of a bucket are only valid with a path in a bucket.
pub(super) fn stores_have_buckets(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let of_buckets = |source: &&TreeNode| SourceKind::of(source).is_some_and(SourceKind::has_bucket);
    for source in sources(tree).filter(of_buckets) {
        let path = source.text("path").map_or("", |(path, _)| path);
        for key in ["endpoint", "region"] {
            let Some(entry) = source.entry(key) else { continue };
            if !is_in_bucket(path) {
                let problem =
                    Problem::new(ProblemCode::BadEndpoint, format!("`{key}` is only valid for buckets"));
                problems.push(problem.at(entry.key_span, "has no effect").hint(format!("delete `{key}`")));
            }
        }
        let Some((text, span)) = source.text("endpoint") else { continue };
        if let Err((what, hint)) = safe_url(text, "for example `http://127.0.0.1:9000`") {
            problems.push(
                Problem::new(ProblemCode::BadEndpoint, format!("`endpoint` {what}"))
                    .at(span, "invalid endpoint")
                    .hint(hint),
            );
        }
    }
}

/// Heap Connect dumps are in a bucket or in a local copy of it.
pub(super) fn dumps_are_in_buckets(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let dumps = sources(tree).filter(|source| is_kind(source, "heap_connect"));
    for (path, span) in dumps.filter_map(|source| source.text("path")) {
        let Some((scheme, rest)) = path.split_once("://") else { continue };
        let bucket = rest.split('/').next().unwrap_or_default();
        let is_good = ["s3", "gs", "az"].contains(&scheme) && !bucket.is_empty();
        if !is_good || rest.contains(['@', '*', '?', '[', '#']) {
            problems.push(
                Problem::new(ProblemCode::BadEndpoint, "`path` has no bucket")
                    .at(span, "not a location of dumps")
                    .hint("`s3://bucket`, `gs://…` or `az://…`, optionally with a prefix, or a folder"),
            );
        }
    }
}

/// An identity file has a device id or an alias in addition to the external id.
pub(super) fn mappings_have_a_handle(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for source in tree.items("identity").iter().filter(|source| is_kind(source, "file")) {
        if source.get("device_id").is_none() && source.get("alias").is_none() {
            problems.push(
                Problem::new(ProblemCode::MissingKey, "the source has neither `device_id` nor `alias`")
                    .at(source.head(), "missing `device_id` or `alias`")
                    .hint("add `device_id: COLUMN`, or `alias: { label: LABEL, name: COLUMN }`"),
            );
        }
    }
}
