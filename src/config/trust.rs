//! Compares a config with a trusted one, such as that of the branch that a pull request is merged into.
//!
//! A change may alter cohorts, segments and exports, which are under review. It may not alter servers, secrets, the
//! state, readable folders or loaded code. Resolved values are compared, after includes and the environment; messages
//! list keys, never values.

use std::path::Path;

use super::convert;
use super::export::ExportSource;
use super::merge;
use super::problem::{Problem, ProblemCode, Problems};
use super::source_text::{ConfigSources, SourceSpan};
use super::tree::{TreeNode, TreeValue};
use super::types::Config;

/// Keys that a change may alter.
const FREE: [&str; 6] = ["version", "include", "cohorts", "segments", "exports", "removed"];

/// All keys that differ but must not, under one environment or none.
///
/// # Errors
/// The problems of the trusted config, if it cannot be used.
pub(super) fn differences(
    changed: (&TreeNode, &ConfigSources),
    path: &Path,
    trusted: &Path,
    environment: Option<&str>,
) -> Result<Vec<Problem>, Problems> {
    let mut base = merge::assemble(trusted).map_err(|(sources, list)| Problems::new(sources, list))?;
    let mut problems = std::mem::take(&mut base.problems);
    if let Some(name) = environment.filter(|name| !merge::environments(&base.tree).contains(name)) {
        return Ok(vec![differs(&format!("environments.{name}"), trusted, None)]);
    }
    let tree = merge::overlaid(&base.tree, environment, &mut problems);
    if super::typed(&tree, trusted, &base.sources, &mut problems).is_none() || !problems.is_empty() {
        return Err(Problems::new(base.sources, problems));
    }
    // Paths are relative to the folder of their config, and equal if their text is equal.
    let folder = path.parent().unwrap_or(Path::new(""));
    let both =
        [changed.0, &tree].map(|tree| convert::config(&settings(tree), folder, &ConfigSources::default()));
    let [Ok(ours), Ok(theirs)] = both else {
        return Ok(vec![differs("version", trusted, None)]);
    };
    let mut keys = Vec::new();
    for part in unequal(&ours, &theirs) {
        let before = keys.len();
        diff(&part, at(changed.0, &part), at(&tree, &part), &mut keys);
        if part == ["state"] {
            // A part of its resolved value.
            diff(&["bucket".to_owned()], changed.0.get("bucket"), tree.get("bucket"), &mut keys);
        }
        if keys.len() == before {
            keys.push((part.join("."), None));
        }
    }
    keys.extend(tokens(&ours, &theirs));
    keys.extend(files(changed.0, folder, trusted.parent().unwrap_or(Path::new(""))));
    let location = |span: SourceSpan| {
        let line = changed.1.line(span)?;
        Some(format!("{}:{line}", changed.1.file(span)?.name))
    };
    Ok(keys.into_iter().map(|(key, span)| differs(&key, trusted, span.and_then(location))).collect())
}

/// A difference, shown by its key only, without its line.
fn differs(key: &str, trusted: &Path, location: Option<String>) -> Problem {
    let location = location.map(|location| format!(" ({location})")).unwrap_or_default();
    let message = format!("`{key}`{location} differs from the trusted config {}", trusted.display());
    Problem::new(ProblemCode::NotTrusted, message)
        .hint("a change may alter `cohorts`, `segments`, `exports` and `removed`; merge the rest into the trusted config first")
}

/// The tree without keys that need no trust. Exports stay, because they name secrets.
fn settings(tree: &TreeNode) -> TreeNode {
    let mut tree = tree.clone();
    if let TreeValue::Map(entries) = &mut tree.value {
        entries.retain(|entry| {
            !FREE.contains(&entry.key.as_str()) || ["version", "exports"].contains(&entry.key.as_str())
        });
    }
    tree
}

/// Paths of parts with different resolved values.
fn unequal(ours: &Config, theirs: &Config) -> Vec<Vec<String>> {
    let mut parts: Vec<Vec<String>> = Vec::new();
    let mut part = |is_equal: bool, path: &[&str]| {
        if !is_equal {
            parts.push(path.iter().map(|key| (*key).to_owned()).collect());
        }
    };
    let is_same_state = ours.state == theirs.state && ours.state_must_exist == theirs.state_must_exist;
    part(is_same_state, &["state"]);
    part(ours.roots == theirs.roots, &["roots"]);
    part(ours.allow_endpoint == theirs.allow_endpoint, &["allow_endpoint"]);
    part(ours.memory_max == theirs.memory_max, &["memory"]);
    part(ours.retention == theirs.retention, &["retention"]);
    part(ours.identity == theirs.identity, &["identity"]);
    part(ours.watch == theirs.watch, &["watch"]);
    let maps =
        [ours, theirs].map(|config| config.braze.keys().chain(config.heap.keys()).chain(config.sql.keys()));
    let mut names: Vec<_> = maps.into_iter().flatten().collect();
    names.sort();
    names.dedup();
    for name in names {
        let is_equal = ours.braze.get(name) == theirs.braze.get(name)
            && ours.heap.get(name) == theirs.heap.get(name)
            && ours.sql.get(name) == theirs.sql.get(name);
        part(is_equal, &["connections", name.as_str()]);
    }
    parts
}

fn at<'a>(tree: &'a TreeNode, path: &[String]) -> Option<&'a TreeNode> {
    path.iter().try_fold(tree, |node, key| node.get(key))
}

/// The keys below a path that differ, with their spans in our tree.
fn diff(
    path: &[String],
    ours: Option<&TreeNode>,
    theirs: Option<&TreeNode>,
    keys: &mut Vec<(String, Option<SourceSpan>)>,
) {
    let (Some(our), Some(their)) = (ours, theirs) else {
        if let Some(node) = ours.or(theirs) {
            keys.push((path.join("."), ours.map(|_| node.head())));
        }
        return;
    };
    let (TreeValue::Map(our_entries), TreeValue::Map(their_entries)) = (&our.value, &their.value) else {
        if our.to_json() != their.to_json() {
            keys.push((path.join("."), Some(our.head())));
        }
        return;
    };
    let ours_first =
        our_entries.iter().chain(their_entries.iter().filter(|entry| our.get(&entry.key).is_none()));
    for entry in ours_first {
        let below = [path, std::slice::from_ref(&entry.key)].concat();
        diff(&below, our.get(&entry.key), their.get(&entry.key), keys);
    }
}

/// Secrets that exports name, and that the same export does not name in the trusted config.
fn tokens(ours: &Config, theirs: &Config) -> Vec<(String, Option<SourceSpan>)> {
    let tokens = |source: &ExportSource| match source {
        ExportSource::Http(http) => http.tokens.clone(),
        ExportSource::Storage(_) => Vec::new(),
    };
    let differs = |export: &&super::export::ExportConfig| {
        let theirs = theirs.exports.iter().find(|known| known.id == export.id);
        tokens(&export.source) != theirs.map(|known| tokens(&known.source)).unwrap_or_default()
    };
    ours.exports
        .iter()
        .filter(differs)
        .map(|export| (format!("exports.{}.source.token", export.id), None))
        .collect()
}

/// Code and certificates beside the config: their bytes must equal those beside the trusted config.
fn files(tree: &TreeNode, ours: &Path, theirs: &Path) -> Vec<(String, Option<SourceSpan>)> {
    let mut keys = Vec::new();
    for entry in tree.get("connections").map(TreeNode::entries).unwrap_or_default() {
        for key in ["driver", "ca"] {
            let Some((path, span)) = entry.node.text(key) else { continue };
            let is_beside = Path::new(path.trim()).is_relative() && (key != "driver" || path.contains('/'));
            let read = |folder: &Path| std::fs::read(folder.join(path.trim())).ok();
            if is_beside && read(ours) != read(theirs) {
                keys.push((format!("connections.{}.{key}: the file {path}", entry.key), Some(span)));
            }
        }
    }
    keys
}
