//! Checks that this build has the features that the config needs.

use std::path::Path;

use super::remote_files::is_in_bucket;
use super::source_kind::SourceKind;
use super::{connections, is_kind, sources};
use crate::config::file_source::FileFormat;
use crate::config::problem::{Problem, ProblemCode};
use crate::config::source_text::SourceSpan;
use crate::config::tree::{TreeEntry, TreeNode};
use crate::model::BuildFeature;

/// What the config uses is in this build.
pub(super) fn features_are_present(tree: &TreeNode, problems: &mut Vec<Problem>) {
    report_missing(tree, BuildFeature::is_present, problems);
}

fn report_missing(tree: &TreeNode, is_present: impl Fn(BuildFeature) -> bool, problems: &mut Vec<Problem>) {
    let needed = buckets(tree).chain(databases(tree)).chain(parquet_files(tree));
    for (feature, what, span) in needed.filter(|(feature, ..)| !is_present(*feature)) {
        let name = feature.name();
        problems.push(
            Problem::new(ProblemCode::MissingFeature, format!("{what} needs the feature `{name}`"))
                .at(span, format!("this build of syncline does not have `{name}`"))
                .hint(BuildFeature::remedy()),
        );
    }
}

type NeededFeature = (BuildFeature, &'static str, SourceSpan);

/// The state, files, dumps and events in buckets.
fn buckets(tree: &TreeNode) -> impl Iterator<Item = NeededFeature> {
    let state = tree.text("state").or_else(|| tree.get("state")?.text("path"));
    let exports = tree.items("exports").iter().filter_map(|export| export.get("source")?.text("url"));
    let paths =
        state.into_iter().chain(sources(tree).filter_map(|source| source.text("path"))).chain(exports);
    paths.filter(|(path, _)| is_in_bucket(path)).map(|(_, span)| (BuildFeature::Cloud, "a bucket", span))
}

fn databases(tree: &TreeNode) -> impl Iterator<Item = NeededFeature> {
    let is_database = |entry: &&TreeEntry| ["postgres", "adbc"].iter().any(|kind| is_kind(&entry.node, kind));
    let kinds = connections(tree).iter().filter(is_database).filter_map(|entry| entry.node.text("kind"));
    kinds.map(|(_, span)| (BuildFeature::Warehouse, "a database", span))
}

fn parquet_files(tree: &TreeNode) -> impl Iterator<Item = NeededFeature> {
    let parquet = |source: &TreeNode| match source.text("format") {
        Some((format, span)) => (format == "parquet").then_some(span),
        None => {
            let (path, span) = source.text("path")?;
            (FileFormat::from_name(Path::new(path)) == Some(FileFormat::Parquet)).then_some(span)
        }
    };
    let files = sources(tree).filter(|source| SourceKind::of(source).is_some_and(SourceKind::has_format));
    files.filter_map(parquet).map(|span| (BuildFeature::Warehouse, "a Parquet file", span))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::config::merge::assemble;

    const CONFIG: &str = "version: 1
state: { path: s3://acme/state }
connections:
  dwh: { kind: postgres, host: h, database: d, user: u }
  duck: { kind: adbc, driver: duckdb }
cohorts:
  - { id: a, source: { kind: file, path: gs://acme/a.csv } }
  - { id: b, source: { kind: file, path: data/*.parquet } }
  - { id: c, source: { kind: file, path: data/c, format: parquet } }
  - { id: d, source: { kind: heap_connect, path: s3://acme-heap } }
  - { id: e, source: { kind: file, path: https://h/e.csv } }
identity:
  - { kind: file, path: az://acme/i.csv }
exports:
  - { id: x, source: { kind: currents_storage, url: s3://acme/x } }
";

    #[test]
    fn each_use_of_a_missing_feature_is_reported_at_its_span() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sync.yaml");
        std::fs::File::create(&path).unwrap().write_all(CONFIG.as_bytes()).unwrap();
        let tree = assemble(&path).unwrap().tree;
        let found = |is_present: fn(BuildFeature) -> bool| {
            let mut problems = Vec::new();
            report_missing(&tree, is_present, &mut problems);
            let texts = problems.iter().map(|problem| {
                assert_eq!(problem.code, ProblemCode::MissingFeature);
                assert!(problem.hint.as_ref().unwrap().contains("--features full"), "{problem:?}");
                format!("{}: {}", &CONFIG[problem.span.unwrap().range()], problem.message)
            });
            texts.collect::<Vec<_>>()
        };
        let cloud = [
            "s3://acme/state: a bucket needs the feature `cloud`",
            "gs://acme/a.csv: a bucket needs the feature `cloud`",
            "s3://acme-heap: a bucket needs the feature `cloud`",
            "az://acme/i.csv: a bucket needs the feature `cloud`",
            "s3://acme/x: a bucket needs the feature `cloud`",
        ];
        let warehouse = [
            "postgres: a database needs the feature `warehouse`",
            "adbc: a database needs the feature `warehouse`",
            "data/*.parquet: a Parquet file needs the feature `warehouse`",
            "parquet: a Parquet file needs the feature `warehouse`",
        ];
        assert_eq!(found(|feature| feature != BuildFeature::Cloud), cloud);
        assert_eq!(found(|feature| feature != BuildFeature::Warehouse), warehouse);
        assert!(found(|_| true).is_empty());
    }
}
