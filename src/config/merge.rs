//! Merges the main file, its included files and an environment into one tree.
//!
//! Included files add to the mappings and lists of the main file and never replace values. An environment merges
//! mappings and replaces lists. Every node keeps its span.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use super::allowed_files;
use super::mask;
use super::parse;
use super::problem::{Problem, ProblemCode, did_you_mean, listed as names_listed};
use super::schema::INCLUDED_KEYS;
use super::source_text::{ConfigSources, SourceSpan};
use super::tree::{TreeEntry, TreeNode, TreeValue};
use crate::file_glob::{Glob, is_glob, skipped_text, special};

/// Keys that only the main file may contain.
const MAIN_ONLY: [&str; 9] =
    ["version", "state", "bucket", "include", "roots", "memory", "allow_endpoint", "watch", "environments"];

/// Limits of a whole config: entries under `include:`, included files, bytes and YAML nodes of all files together.
const INCLUDES_MAX: usize = 256;
const INCLUDED_MAX: usize = 4_096;
pub(super) const CONFIG_LEN_MAX: usize = 16 << 20;
const CONFIG_NODES_MAX: usize = 1_000_000;

/// The main file with its included files, before any environment.
pub(super) struct MergedConfig {
    pub(super) tree: TreeNode,
    pub(super) sources: ConfigSources,
    pub(super) problems: Vec<Problem>,
    /// Hidden or temporary entries that the globs under `include:` skip.
    pub(super) skipped: u64,
}

/// Reads and merges all files.
///
/// # Errors
/// The problems, if the main file cannot be read, is not YAML, or the files exceed a limit.
pub(super) fn assemble(path: &Path) -> Result<MergedConfig, (ConfigSources, Vec<Problem>)> {
    let mut sources = ConfigSources::default();
    let mut problems = Vec::new();
    let Some(mut tree) = read(path, None, &mut sources, &mut problems) else {
        return Err((sources, problems));
    };
    if matches!(tree.value, TreeValue::Null) {
        problems.push(empty(path));
        return Err((sources, problems));
    }
    let joined = include(path, &mut tree, &mut sources, &mut problems);
    mask::mask(&mut tree, &mut sources);
    match joined {
        Ok(skipped) => Ok(MergedConfig { tree, sources, problems, skipped }),
        Err(limit) => {
            problems.push(limit);
            Err((sources, problems))
        }
    }
}

/// Reads the main file alone. `None`: it cannot be read, or it has a problem.
pub(super) fn main_file(path: &Path) -> Option<(TreeNode, ConfigSources)> {
    let (mut sources, mut problems) = (ConfigSources::default(), Vec::new());
    let tree = read(path, None, &mut sources, &mut problems)?;
    problems.is_empty().then_some((tree, sources))
}

/// Adds the included files to the tree, and returns how many entries the patterns skip.
fn include(
    main: &Path,
    tree: &mut TreeNode,
    sources: &mut ConfigSources,
    problems: &mut Vec<Problem>,
) -> Result<u64, Problem> {
    let folder = main.parent().unwrap_or(Path::new(""));
    let IncludedFile { files, skipped } = included(folder, main, tree, problems)?;
    let len_of = |file: &Path| std::fs::metadata(file).map_or(0, |meta| meta.len());
    let (mut known, mut nodes, mut len) = (DeclaredKeys::new(), tree.nodes_len(), len_of(main));
    for (file, span) in files {
        len += len_of(&file);
        let is_short = len <= CONFIG_LEN_MAX as u64;
        let part = if is_short { read(&file, Some(span), sources, problems) } else { None };
        nodes += part.as_ref().map_or(0, TreeNode::nodes_len);
        if !is_short || nodes > CONFIG_NODES_MAX {
            return Err(too_large(&file, span));
        }
        if let Some(part) = part {
            add(tree, part, &mut known, problems);
        }
    }
    Ok(skipped)
}

fn too_large(file: &Path, span: SourceSpan) -> Problem {
    let limit = CONFIG_LEN_MAX >> 20;
    let message = format!(
        "with {}, the config is larger than {limit} MiB or has more than {CONFIG_NODES_MAX} values",
        file.display()
    );
    Problem::new(ProblemCode::TooLarge, message)
        .at(span, "included from here")
        .hint("include fewer files, or split the config into several configs, each with its own state")
}

fn empty(path: &Path) -> Problem {
    Problem::new(ProblemCode::WrongType, format!("{} is empty", path.display()))
        .hint("`syncline init FOLDER` creates a config in another folder")
}

/// The tree merged with the chosen environment, without `environments:`.
pub(super) fn overlaid(base: &TreeNode, environment: Option<&str>, problems: &mut Vec<Problem>) -> TreeNode {
    let mut tree = base.clone();
    let overlays = match &mut tree.value {
        TreeValue::Map(entries) => {
            let at = entries.iter().position(|entry| entry.key == "environments");
            at.map(|at| entries.remove(at).node)
        }
        _ => None,
    };
    let Some(name) = environment else { return tree };
    match overlays.as_ref().and_then(|overlays| overlays.get(name)) {
        Some(overlay) => lay(&mut tree, overlay),
        None => problems.push(unknown_environment(name, overlays.as_ref(), base)),
    }
    tree
}

/// The names under `environments:`.
pub(super) fn environments(tree: &TreeNode) -> Vec<&str> {
    let overlays = tree.get("environments").map(TreeNode::entries).unwrap_or_default();
    overlays.iter().map(|entry| entry.key.as_str()).collect()
}

fn read(
    path: &Path,
    span: Option<SourceSpan>,
    sources: &mut ConfigSources,
    problems: &mut Vec<Problem>,
) -> Option<TreeNode> {
    let name = path.display().to_string();
    let mut report = |problem: Problem| {
        problems.push(match span {
            Some(span) => problem.at(span, "included from here"),
            None => problem,
        });
        None
    };
    if let Err(error) = allowed_files::check_main(path) {
        return report(Problem::new(ProblemCode::UnreadableFile, format!("cannot read {name}: {error}")));
    }
    let bytes = match std::fs::metadata(path).and_then(|meta| {
        if span.is_some() {
            special(meta.file_type())?;
        }
        if meta.len() > parse::FILE_LEN_MAX as u64 { Ok(None) } else { std::fs::read(path).map(Some) }
    }) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let limit = parse::FILE_LEN_MAX >> 20;
            return report(
                Problem::new(ProblemCode::TooLarge, format!("{name} is larger than {limit} MiB"))
                    .hint("is it a config? Users belong in a source file, not in the config"),
            );
        }
        Err(error) => {
            return report(
                Problem::new(ProblemCode::UnreadableFile, format!("cannot read {name}: {error}")).hint(
                    if span.is_some() {
                        "correct the path under `include:`"
                    } else {
                        "name the file with --config, or create one with `syncline init`"
                    },
                ),
            );
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => {
            let file = sources.push(name.clone(), text.clone());
            let mut found = Vec::new();
            let tree = parse::parse(&text, file, &mut found);
            if !is_config(&text, tree.as_ref(), span.is_some()) {
                // Its content is never shown.
                sources.replace(file, String::new());
                return report(no_config(&name, span.is_some()));
            }
            if tree.is_none() {
                sources.replace(file, mask::mask_lines(&text));
            }
            problems.append(&mut found);
            tree
        }
        Err(error) => {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + valid.iter().filter(|b| **b == b'\n').count();
            report(
                Problem::new(ProblemCode::NotUtf8, format!("{name} is not UTF-8 text (line {line})"))
                    .hint("save it as UTF-8"),
            )
        }
    }
}

/// Whether a text is probably a config: it has a key of a config, or is empty. Without a tree, a line that begins with
/// such a key is enough.
fn is_config(text: &str, tree: Option<&TreeNode>, is_included: bool) -> bool {
    // The key may be misspelled.
    let is_near = |key: &str| INCLUDED_KEYS.iter().any(|known| strsim::damerau_levenshtein(known, key) <= 1);
    let is_known = |key: &str| INCLUDED_KEYS.contains(&key) || MAIN_ONLY.contains(&key);
    // Other formats also have versions, but as strings.
    let is_version =
        |entry: &TreeEntry| entry.key == "version" && matches!(entry.node.value, TreeValue::Number(_));
    let begins = |line: &str| {
        line.split_once(':').is_some_and(|(key, rest)| {
            (INCLUDED_KEYS.contains(&key) && (rest.trim().is_empty() || rest.starts_with(' ')))
                || (key == "version" && !is_included && rest.trim() == "1")
        })
    };
    match tree.map(|tree| &tree.value) {
        Some(TreeValue::Map(entries)) => {
            entries.iter().any(|entry| is_near(&entry.key) || (is_version(entry) && !is_included))
                || entries.iter().all(|entry| is_known(&entry.key))
        }
        Some(TreeValue::Null) => true,
        Some(_) => false,
        None => text.lines().any(begins),
    }
}

fn no_config(name: &str, is_included: bool) -> Problem {
    let (keys, what) = match is_included {
        true => (INCLUDED_KEYS.join("`, `"), "a part of a config"),
        false => ("version`, `connections`, `cohorts".to_owned(), "a config"),
    };
    Problem::new(ProblemCode::NoConfig, format!("{name} is not {what}; its content is not shown"))
        .hint(format!("{what} is YAML with keys such as `{keys}`"))
}

/// The files of `include:`, each with the span that names it.
#[derive(Default)]
struct IncludedFile {
    files: Vec<(PathBuf, SourceSpan)>,
    skipped: u64,
}

/// The files of `include:`, each once and in order. A glob without a match is a problem.
fn included(
    folder: &Path,
    main: &Path,
    tree: &TreeNode,
    problems: &mut Vec<Problem>,
) -> Result<IncludedFile, Problem> {
    let mut included = IncludedFile::default();
    let mut seen = HashSet::from([main.to_owned()]);
    let mut patterns = HashSet::new();
    let items = tree.items("include");
    if let Some(item) = items.get(INCLUDES_MAX) {
        let message = format!("`include` has {} entries, at most {INCLUDES_MAX} are allowed", items.len());
        return Err(Problem::new(ProblemCode::TooLarge, message)
            .at(item.span, "too many")
            .hint("match several files with one pattern, for example `cohorts/*.yaml`"));
    }
    for item in items {
        let Some(pattern) = item.as_text().filter(|pattern| patterns.insert(*pattern)) else { continue };
        if leaves_folder(Path::new(pattern)) {
            problems.push(
                Problem::new(ProblemCode::PathOutside, format!("`{pattern}` is outside the config's folder"))
                    .at(item.span, "only files below the config's folder can be included")
                    .hint("move the file below the folder of the main file"),
            );
            continue;
        }
        let (found, skipped) = match listed(folder, pattern) {
            Ok(found) => found,
            Err(problem) => {
                problems.push(problem.at(item.span, "included from here"));
                continue;
            }
        };
        included.skipped += skipped;
        if found.is_empty() {
            let skipped = skipped_text(skipped);
            problems.push(
                Problem::new(ProblemCode::IncludeNoMatch, format!("`{pattern}` matches no file{skipped}"))
                    .at(item.span, "no such file")
                    .hint(format!("paths are relative to {}", shown(folder))),
            );
        }
        for file in found {
            if let Err(error) = allowed_files::check(&file, folder) {
                let message = format!("cannot include {}: {error}", file.display());
                problems.push(
                    Problem::new(ProblemCode::PathOutside, message)
                        .at(item.span, "only files below the config's folder can be included")
                        .hint("put the file itself below the folder of the main file"),
                );
                continue;
            }
            if seen.insert(file.clone()) {
                included.files.push((file, item.span));
            }
        }
        if included.files.len() > INCLUDED_MAX {
            let message = format!("`include` matches more than {INCLUDED_MAX} files");
            return Err(Problem::new(ProblemCode::TooLarge, message)
                .at(item.span, "exceeds the limit")
                .hint("put more cohorts into one file, or correct the pattern"));
        }
    }
    Ok(included)
}

fn shown(folder: &Path) -> String {
    if folder.as_os_str().is_empty() { "the current folder".to_owned() } else { folder.display().to_string() }
}

/// The files that match a pattern, and the number of skipped hidden or temporary entries. A file that cannot be listed
/// is an error.
fn listed(folder: &Path, pattern: &str) -> Result<(Vec<PathBuf>, u64), Problem> {
    let glob = Glob::path(pattern).map_err(|error| {
        Problem::new(ProblemCode::IncludeNoMatch, error.to_string()).hint("correct the wildcards")
    })?;
    if !is_glob(pattern) {
        let path = folder.join(pattern);
        // A broken link is an unreadable file.
        return Ok((if path.symlink_metadata().is_ok() { vec![path] } else { Vec::new() }, 0));
    }
    match glob.find(folder) {
        Ok(found) => Ok((found.files, found.skipped)),
        Err(error) if error.path == folder.join(glob.prefix()) && error.source.kind() == ErrorKind::NotFound => {
            Ok((Vec::new(), 0))
        }
        Err(error) => Err(Problem::new(ProblemCode::UnreadableFile, error.to_string())
            .hint("nothing was removed: a file that cannot be listed may define cohorts. Correct it, or list the files one by one")),
    }
}

/// Whether a path leads above its start folder, by its text.
pub(super) fn leaves_folder(path: &Path) -> bool {
    let mut depth = 0usize;
    for component in path.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    false
}

/// The keys of each merged mapping with their positions, so that merging a file takes time proportional to its own length.
type DeclaredKeys = HashMap<String, HashMap<String, SourceSpan>>;

/// Adds an included file: appends its lists and merges its mappings.
fn add(tree: &mut TreeNode, part: TreeNode, known: &mut DeclaredKeys, problems: &mut Vec<Problem>) {
    let TreeValue::Map(theirs) = part.value else {
        if !matches!(part.value, TreeValue::Null) {
            problems.push(
                Problem::new(ProblemCode::WrongType, "an included file must be a mapping")
                    .at(part.head(), format!("expected keys such as `{}:`", INCLUDED_KEYS.join(":`, `"))),
            );
        }
        return;
    };
    let TreeValue::Map(ours) = &mut tree.value else { return };
    for entry in theirs {
        if !INCLUDED_KEYS.contains(&entry.key.as_str()) {
            problems.push(
                Problem::new(
                    ProblemCode::IncludeKey,
                    format!("`{}` is not allowed in an included file", entry.key),
                )
                .at(entry.key_span, "only the main file may set this")
                .suspect(mask::suspects(&entry))
                .hint(format!("an included file may contain `{}`", INCLUDED_KEYS.join("`, `"))),
            );
            continue;
        }
        match ours.iter_mut().find(|mine| mine.key == entry.key) {
            None => ours.push(entry),
            Some(mine) => join(mine, entry, known, problems),
        }
    }
}

fn keys_of(entries: &[TreeEntry]) -> HashMap<String, SourceSpan> {
    entries.iter().map(|entry| (entry.key.clone(), entry.key_span)).collect()
}
fn join(mine: &mut TreeEntry, theirs: TreeEntry, known: &mut DeclaredKeys, problems: &mut Vec<Problem>) {
    match (&mut mine.node.value, theirs.node.value) {
        (TreeValue::List(ours), TreeValue::List(more)) => ours.extend(more),
        (TreeValue::Map(ours), TreeValue::Map(more)) => {
            let first = known.entry(mine.key.clone()).or_insert_with(|| keys_of(ours));
            // Duplicates within one file are already reported, so its own keys are added at the end.
            let start = ours.len();
            for entry in more {
                match first.get(&entry.key) {
                    None => ours.push(entry),
                    Some(earlier) => problems.push(
                        Problem::new(
                            ProblemCode::DefinedTwice,
                            format!("`{}` is defined in two files", entry.key),
                        )
                        .at(entry.key_span, "defined again here")
                        .see(*earlier, "first defined here")
                        .hint("rename one of them, or keep one"),
                    ),
                }
            }
            first.extend(keys_of(&ours[start..]));
        }
        (TreeValue::Null, value) => mine.node = TreeNode { span: theirs.node.span, value },
        (_, TreeValue::Null) => {}
        _ => problems.push(
            Problem::new(ProblemCode::WrongType, format!("`{}` has different types in two files", mine.key))
                .at(theirs.key_span, "differs from the main file")
                .see(mine.key_span, "set here as well"),
        ),
    }
}

/// Alternative keys of a mapping: an overlay that sets one replaces the others.
const ALTERNATIVES: [&[&str]; 2] = [&["env", "file"], &["instance", "endpoint", "region"]];

fn lay(under: &mut TreeNode, over: &TreeNode) {
    match (&mut under.value, &over.value) {
        (TreeValue::Map(ours), TreeValue::Map(theirs)) => {
            for keys in
                ALTERNATIVES.iter().filter(|keys| theirs.iter().any(|e| keys.contains(&e.key.as_str())))
            {
                ours.retain(|mine| !keys.contains(&mine.key.as_str()));
            }
            let positions: HashMap<String, usize> =
                ours.iter().enumerate().map(|(at, mine)| (mine.key.clone(), at)).collect();
            for entry in theirs {
                match positions.get(&entry.key).and_then(|at| ours.get_mut(*at)) {
                    Some(mine) => lay(&mut mine.node, &entry.node),
                    None => ours.push(entry.clone()),
                }
            }
        }
        _ => *under = over.clone(),
    }
}

fn unknown_environment(name: &str, overlays: Option<&TreeNode>, base: &TreeNode) -> Problem {
    let known: Vec<&str> =
        overlays.map(TreeNode::entries).unwrap_or_default().iter().map(|e| e.key.as_str()).collect();
    let hint = match (did_you_mean(name, known.iter().copied()), known.as_slice()) {
        (Some(near), _) => format!("did you mean `--env {near}`?"),
        (None, []) => "the config has no `environments:`".to_owned(),
        (None, known) => format!("known environments: {}", names_listed(known)),
    };
    let problem =
        Problem::new(ProblemCode::UnknownEnvironment, format!("unknown environment `{name}`")).hint(hint);
    match base.entry("environments") {
        Some(entry) => problem.at(entry.key_span, "does not contain it"),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_not_leave_its_first_folder() {
        for inside in ["a.yaml", "a/b/*.yaml", "./a", "a/../b", "a/b/../../c"] {
            assert!(!leaves_folder(Path::new(inside)), "{inside}");
        }
        for outside in ["../a", "/etc/passwd", "a/../../b", ".."] {
            assert!(leaves_folder(Path::new(outside)), "{outside}");
        }
    }
}
