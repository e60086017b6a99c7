//! Parses config files into [`Config`], or reports all problems with their positions. The phases:
//!
//! 1. `parse` and `merge` merge the files into one tree in which every key and value has its span.
//! 2. `schema` and `explain` validate the tree against the JSON Schema that is generated from `spec`.
//! 3. `checks` validate rules that a schema cannot express: references, uniqueness, order, paths.
//! 4. `convert` converts the tree into the types that the rest of the program uses.
//!
//! Phases 2 and 3 both always run, so that all problems are reported at once. Parsing needs no network and no secret;
//! `secret` resolves secrets later.

mod allowed_files;
mod braze_instance;
mod checks;
mod convert;
mod dumps;
mod environment_schema;
mod explain;
mod export;
mod file_source;
mod identity;
mod key_lines;
mod mask;
mod merge;
mod parse;
mod problem;
mod schema;
mod secret;
mod segment;
mod source_text;
mod spec;
mod sql;
mod suggest;
mod text;
mod tree;
mod triggers;
mod trust;
mod types;
mod warnings;
mod watch;
mod webhook_address;
mod yaml_mistakes;
mod yaml_text;

use std::collections::HashSet;
use std::path::Path;

pub use allowed_files::is_special;
pub use dumps::{DumpFolder, DumpQuery, DumpTableSource};
pub use export::{ExportConfig, ExportSource, HttpSource, StorageLocation, StorageSource};
pub use file_source::{FileFormat, FileSource, FinalNewline};
pub use identity::{IdentityDumpSource, IdentityFileSource, IdentitySource};
pub use key_lines::KeyLines;
pub use problem::{Problem, ProblemCode, Problems};
pub(crate) use problem::{did_you_mean, listed};
pub use schema::{include_schema_text, schema, schema_text};
pub use secret::{Secret, SecretError, SecretRef, Secrets, SourceAccess, UnsafeFileAccess};
pub use segment::{BrazeObject, SegmentConfig, SizeLimits};
pub use source_text::{ConfigSources, SourceFile, SourceSpan};
pub use sql::{AdbcConfig, PostgresConfig, SqlConfig, SqlQuery, SqlSource};
pub use triggers::{QuietHours, Trigger, TriggerTarget};
pub use types::{
    AppId, BrazeConfig, BrazeKeys, CohortConfig, Config, HeapConfig, HeapSegmentSource, PreflightConfig,
    SourceConfig, StateLocation, VendorEndpoint,
};
pub use watch::{EndpointLimits, Notable, NotifyConfig, NotifyFormat, ScheduleConfig, TlsFiles, WatchConfig};
pub use webhook_address::WebhookSender;
pub use yaml_text::yaml_text;

/// The config file that is read if the command line names none.
pub const DEFAULT_FILE: &str = "sync.yaml";

/// Reads a config, optionally with an environment. With a trusted config, only cohorts, segments, exports and removed
/// cohorts may differ from it.
///
/// # Errors
/// All problems, or all differences that are not allowed.
pub fn load(path: &Path, environment: Option<&str>, trusted: Option<&Path>) -> Result<Config, Problems> {
    let mut base = merge::assemble(path).map_err(|(sources, list)| Problems::new(sources, list))?;
    let mut problems = std::mem::take(&mut base.problems);
    let tree = merge::overlaid(&base.tree, environment, &mut problems);
    let config = typed(&tree, path, &base.sources, &mut problems);
    if let (Some(_), Some(trusted)) = (&config, trusted) {
        problems = trust::differences((&tree, &base.sources), path, trusted, environment)?;
    }
    let config = config.map(|config| Config { skipped_includes: base.skipped, ..config });
    config.filter(|_| problems.is_empty()).ok_or_else(|| Problems::new(base.sources, problems))
}

/// Keys that the location of the state does not depend on.
const NOT_OF_STATE: [&str; 11] = [
    "connections",
    "cohorts",
    "identity",
    "segments",
    "exports",
    "removed",
    "include",
    "roots",
    "memory",
    "retention",
    "watch",
];

/// Reads only where the state is, from a config that is invalid elsewhere: the result has no connections, cohorts and
/// exports. `None`: the main file cannot be parsed, or a key that the location depends on, or an unknown one, is invalid.
/// Included files cannot change the location.
#[must_use]
pub fn load_state_location(path: &Path, environment: Option<&str>) -> Option<Config> {
    let (tree, sources) = merge::main_file(path)?;
    let mut problems = Vec::new();
    let mut tree = merge::overlaid(&tree, environment, &mut problems);
    tree.remove_entries(&NOT_OF_STATE);
    typed(&tree, path, &sources, &mut problems).filter(|_| problems.is_empty())
}

/// Checks a config with each of its environments, and against a trusted one. Returns it without environment.
///
/// # Errors
/// All problems, of all environments.
pub fn validate(path: &Path, trusted: Option<&Path>) -> Result<(Config, Vec<String>), Problems> {
    let mut base = merge::assemble(path).map_err(|(sources, list)| Problems::new(sources, list))?;
    let mut problems = std::mem::take(&mut base.problems);
    // First without environment, which is when the schema validates `environments:`.
    schema::check(&base.tree, &mut problems);
    let plain = merge::overlaid(&base.tree, None, &mut problems);
    let config = typed(&plain, path, &base.sources, &mut problems);
    let names: Vec<String> = merge::environments(&base.tree).into_iter().map(str::to_owned).collect();
    // A problem of all environments is a problem of the config.
    let known: HashSet<Problem> = problems.iter().cloned().collect();
    for name in names.iter().take(ENVIRONMENTS_MAX) {
        let mut found = Vec::new();
        let tree = merge::overlaid(&base.tree, Some(name), &mut found);
        typed(&tree, path, &base.sources, &mut found);
        found.retain(|problem| !known.contains(problem));
        problems.extend(found.into_iter().map(|problem| problem.under(name)));
    }
    if let (Some(trusted), true) = (trusted, problems.is_empty()) {
        problems = trust::differences((&plain, &base.sources), path, trusted, None)?;
        for name in &names {
            let tree = merge::overlaid(&base.tree, Some(name), &mut problems);
            let mut found = trust::differences((&tree, &base.sources), path, trusted, Some(name))?;
            found.retain(|problem| !problems.contains(problem));
            problems.extend(found.into_iter().map(|problem| problem.under(name)));
        }
    }
    match config {
        Some(config) if problems.is_empty() => {
            Ok((Config { skipped_includes: base.skipped, ..config }, names))
        }
        _ => Err(Problems::new(base.sources, problems)),
    }
}

fn typed(
    tree: &tree::TreeNode,
    path: &Path,
    sources: &ConfigSources,
    problems: &mut Vec<Problem>,
) -> Option<Config> {
    schema::check(tree, problems);
    if is_within_bounds(tree, problems) {
        checks::check(tree, problems);
    }
    if !problems.is_empty() {
        return None;
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    convert::config(tree, folder, sources).map_err(|problem| problems.push(problem)).ok()
}

/// Maximum number of top-level keys, many more than are known.
const KEYS_MAX: usize = 100;
const CONNECTIONS_MAX: usize = 256;
const ENVIRONMENTS_MAX: usize = 64;
const ROOTS_MAX: usize = 256;

/// Whether the config is small enough for [`checks`]. Their time is proportional to the product of the numbers of entries.
fn is_within_bounds(tree: &tree::TreeNode, problems: &mut Vec<Problem>) -> bool {
    let len = |node: &tree::TreeNode| node.entries().len().max(node.list().len());
    let bounds = [("connections", CONNECTIONS_MAX), ("environments", ENVIRONMENTS_MAX), ("roots", ROOTS_MAX)];
    let mut is_within = tree.entries().len() <= KEYS_MAX;
    for (key, most) in bounds {
        let Some(entry) = tree.entry(key).filter(|entry| len(&entry.node) > most) else { continue };
        is_within = false;
        let number = len(&entry.node);
        problems.push(
            Problem::new(
                ProblemCode::TooLarge,
                format!("`{key}` has {number} entries, at most {most} are allowed"),
            )
            .at(entry.key_span, "too many"),
        );
    }
    is_within
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// All configs of the corpus and the examples, and whether each is valid.
    fn corpus() -> Vec<(PathBuf, bool)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = vec![(root.join("sync.yaml"), true)];
        for (folder, valid) in [("tests/configs/valid", true), ("tests/configs/invalid", false)] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "yaml") {
                    files.push((path, valid));
                }
            }
        }
        assert!(files.len() > 30, "the corpus is not where it was");
        files
    }

    /// The schema and the types accept the same configs.
    #[test]
    fn schema_and_types_agree_on_the_whole_corpus() {
        for (path, valid) in corpus() {
            let Ok(base) = merge::assemble(&path) else { continue };
            let mut names: Vec<Option<&str>> = vec![None];
            names.extend(merge::environments(&base.tree).into_iter().map(Some));
            for name in names {
                let tree = merge::overlaid(&base.tree, name, &mut Vec::new());
                let mut by_schema = Vec::new();
                schema::check(&tree, &mut by_schema);
                let by_types = convert::config(&tree, path.parent().unwrap(), &base.sources).err();
                // A schema does not see the content of other files.
                let by_types = by_types.filter(|problem| problem.code != ProblemCode::UnreadableFile);
                assert_eq!(
                    by_schema.is_empty(),
                    by_types.is_none(),
                    "{}: {by_schema:?} {by_types:?}",
                    path.display()
                );
            }
            assert_eq!(validate(&path, None).is_ok(), valid, "{}", path.display());
        }
    }
}
