//! Architecture rules: allowed imports, pure modules, sizes of files and functions, and documentation of every
//! file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned as _;
use syn::visit::Visit;

use crate::support::root;

/// Each module with its allowed imports. Data moves in one direction: down this table.
const MODULES: &[(&str, &[&str])] = &[
    ("foreign", &[]),
    ("model", &[]),
    ("file_glob", &[]),
    ("object_store", &["foreign", "model"]),
    ("contained", &[]),
    ("event_mapping", &["model"]),
    ("config", &["foreign", "model", "file_glob", "event_mapping"]),
    ("plan", &["model"]),
    ("state", &["model", "object_store"]),
    ("connector", &["foreign", "model", "file_glob", "object_store", "config"]),
    ("heap_segments", &["model", "state"]),
    ("webhooks", &["model", "event_mapping", "config", "state"]),
    ("identity", &["model", "config", "state", "connector"]),
    ("source", &["model", "contained", "config", "state", "connector"]),
    ("segment_check", &["model", "config", "state", "connector"]),
    ("apply", &["model", "contained", "config", "plan", "state", "connector"]),
    ("export", &["model", "contained", "event_mapping", "config", "state", "connector", "apply"]),
    ("erasure", &["model", "event_mapping", "state", "export"]),
    (
        "reconcile",
        &[
            "model",
            "contained",
            "config",
            "plan",
            "state",
            "connector",
            "heap_segments",
            "source",
            "apply",
            "export",
        ],
    ),
    ("dashboard", &["model", "state"]),
    (
        "watch",
        &[
            "foreign",
            "model",
            "file_glob",
            "contained",
            "config",
            "state",
            "connector",
            "heap_segments",
            "identity",
            "source",
            "segment_check",
            "apply",
            "export",
            "webhooks",
            "reconcile",
            "dashboard",
        ],
    ),
    (
        "cli",
        &[
            "foreign",
            "model",
            "file_glob",
            "contained",
            "object_store",
            "config",
            "plan",
            "state",
            "connector",
            "heap_segments",
            "identity",
            "source",
            "segment_check",
            "apply",
            "export",
            "erasure",
            "webhooks",
            "reconcile",
            "dashboard",
            "watch",
        ],
    ),
];

/// Modules without I/O, clock or async.
const PURE: [&str; 4] = ["model", "plan", "event_mapping", "dashboard"];
/// Files with the same restrictions in other modules.
const PURE_FILES: [&str; 1] = ["source/matching.rs"];
/// Names that a pure module must not use.
const IMPURE: [&str; 12] = [
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
    "reqwest",
];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const FUNCTION_LINES_MEDIAN_MAX: usize = 10;

struct File {
    /// Path below `src`, such as `plan/diff.rs`.
    name: String,
    text: String,
    syntax: syn::File,
}

impl File {
    /// `plan` for `plan/diff.rs`.
    fn module(&self) -> &str {
        self.name.split(['/', '.']).next().unwrap()
    }

    /// The module path of the file: `["plan", "diff"]` for `plan/diff.rs`.
    fn path(&self) -> Vec<String> {
        let name = self.name.trim_end_matches(".rs").trim_end_matches("/mod");
        name.split('/').map(str::to_owned).collect()
    }
}

/// The files of the main crate.
fn files() -> Vec<File> {
    files_below("src")
}

/// The files of all crates.
fn all_files() -> Vec<File> {
    files().into_iter().chain(files_below("crates/sandbox/src")).collect()
}

fn files_below(folder: &str) -> Vec<File> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let source = root().join(folder);
    let mut paths = Vec::new();
    walk(&source, &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let syntax = syn::parse_file(&text).unwrap();
        File { name: path.strip_prefix(&source).unwrap().to_str().unwrap().to_owned(), text, syntax }
    };
    paths.into_iter().map(read).collect()
}

/// Every path in a file outside its tests, resolved: `crate::…` or another crate's.
struct Paths {
    here: Vec<String>,
    found: Vec<(usize, String)>,
}

impl Paths {
    fn of(file: &File) -> Vec<(usize, String)> {
        let mut paths = Self { here: file.path(), found: Vec::new() };
        paths.visit_file(&file.syntax);
        paths.found
    }

    fn add(&mut self, line: usize, segments: &[String]) {
        let supers = segments.iter().take_while(|s| *s == "super").count();
        let rest = &segments[supers..];
        let full: Vec<String> = match (supers, rest.first().map(String::as_str)) {
            (0, Some("crate")) => rest.to_vec(),
            (0, Some("self")) => [&["crate".to_owned()], &self.here[..], &rest[1..]].concat(),
            (0, _) => rest.to_vec(),
            (up, _) => [&["crate".to_owned()], &self.here[..self.here.len() - up], rest].concat(),
        };
        self.found.push((line, full.join("::")));
    }

    fn walk_use(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.walk_use(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => self.add(name.span().start().line, &with(&name.ident)),
            syn::UseTree::Rename(name) => self.add(name.span().start().line, &with(&name.ident)),
            syn::UseTree::Glob(glob) => self.add(glob.span().start().line, before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.walk_use(item, before)),
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|what| what == "test")
    })
}

impl<'a> Visit<'a> for Paths {
    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if !is_test(&module.attrs) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.walk_use(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.add(path.span().start().line, &segments);
        }
        syn::visit::visit_path(self, path);
    }
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let table: BTreeMap<&str, &[&str]> = MODULES.iter().copied().collect();
    let mut wrong = Vec::new();
    for file in files().iter().filter(|file| !["lib", "main"].contains(&file.module())) {
        let module = file.module();
        let allowed = table.get(module).unwrap_or_else(|| panic!("module {module} is not in the table"));
        for (line, path) in Paths::of(file) {
            let Some(inner) = path.strip_prefix("crate::") else { continue };
            let target = inner.split("::").next().unwrap();
            if target != module && !allowed.contains(&target) {
                wrong.push(format!("src/{}:{line}: {module} must not import {target}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The table has no cycle: a module imports only rows above it.
    for (row, (module, allowed)) in MODULES.iter().enumerate() {
        for import in *allowed {
            assert!(
                MODULES[..row].iter().any(|(above, _)| above == import),
                "{module} imports {import}, which the table does not allow"
            );
        }
    }
}

#[test]
fn the_table_in_the_crate_docs_matches() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for (module, allowed) in MODULES {
        let row = text.lines().find(|line| line.starts_with(&format!("//! | [`{module}`]")));
        let row = row.unwrap_or_else(|| panic!("src/lib.rs has no row for {module}"));
        let imports = row.rsplit('|').nth(1).unwrap().trim();
        let expected = match (*module, allowed.len()) {
            (_, 0) => "nothing of ours".to_owned(),
            ("cli", _) => "all".to_owned(),
            _ => allowed.join(", "),
        };
        assert_eq!(imports, expected, "{module}");
        assert!(text.contains(&format!("pub mod {module};")), "{module}");
    }
    assert_eq!(text.matches("pub mod ").count(), MODULES.len());
    assert!(!text.contains("pub use "), "no re-exports at the crate root");
}

#[test]
fn core_modules_are_pure() {
    let mut wrong = Vec::new();
    for file in files()
        .iter()
        .filter(|file| PURE.contains(&file.module()) || PURE_FILES.contains(&file.name.as_str()))
    {
        for (line, path) in Paths::of(file) {
            // The injected clock is the one file with the type of monotonic time.
            if file.name == "model/time.rs" && path.starts_with("std::time::Instant") {
                continue;
            }
            if IMPURE.iter().any(|bad| path == *bad || path.starts_with(&format!("{bad}::"))) {
                wrong.push(format!("src/{}:{line}: {path}", file.name));
            }
        }
        if file.text.contains("async ") {
            wrong.push(format!("src/{}: async", file.name));
        }
    }
    // `async` in a comment is not code.
    wrong.retain(|line| !line.ends_with(": async") || !line.contains("plan/mod.rs"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_has_a_doc_comment_and_a_limited_length() {
    let mut wrong = Vec::new();
    for file in all_files() {
        if !file.text.starts_with("//! ") {
            wrong.push(format!("src/{} does not begin with what it is for", file.name));
        }
        let lines = file.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("src/{} has {lines} lines", file.name));
        }
        let name = file.name.rsplit('/').next().unwrap();
        if ["utils.rs", "util.rs", "helpers.rs", "common.rs", "misc.rs"].contains(&name)
            || file.name == "error.rs"
        {
            wrong.push(format!("src/{} is named for nothing", file.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lengths and locations of all functions outside tests.
#[derive(Default)]
struct Functions(Vec<(usize, usize, String)>);

impl Functions {
    fn add(&mut self, name: &syn::Ident, block: &syn::Block) {
        let (start, end) = (name.span().start().line, block.span().end().line);
        self.0.push((end - start + 1, start, name.to_string()));
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if !is_test(&module.attrs) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.add(&item.sig.ident, &item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.add(&item.sig.ident, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }
}

#[test]
fn functions_have_a_limited_length() {
    let (mut wrong, mut lengths) = (Vec::new(), Vec::new());
    for file in all_files() {
        let mut functions = Functions::default();
        functions.visit_file(&file.syntax);
        for (length, line, name) in functions.0 {
            lengths.push(length);
            if length > FUNCTION_LINES_MAX {
                wrong.push(format!("src/{}:{line}: {name} has {length} lines", file.name));
            }
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        median <= FUNCTION_LINES_MEDIAN_MAX,
        "the median of {} functions is {median} lines",
        lengths.len()
    );
}

/// No file contains a local path or a marker of unfinished work.
#[test]
fn no_file_mentions_machine_paths_or_unfinished_work() {
    let machine = [["/ho", "me/"].concat(), ["/ro", "ot/"].concat(), ["/Us", "ers/"].concat()];
    let unfinished =
        [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat(), ["todo", "!("].concat()];
    for file in all_files() {
        for word in machine.iter().chain(&unfinished) {
            assert!(!file.text.contains(word.as_str()), "src/{}: {word}", file.name);
        }
    }
}
