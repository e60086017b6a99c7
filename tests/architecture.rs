//! Architecture rules: allowed imports, pure modules, sizes of files and functions, and documentation of every
//! file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use syn::spanned::Spanned as _;
use syn::visit::Visit;

use crate::support::{files_below, root};

/// Each module with its allowed imports. Data moves in one direction: down this table.
const MODULES: &[(&str, &[&str])] = &[
    ("foreign", &[]),
    ("model", &[]),
    ("file_glob", &["foreign"]),
    ("wait_log", &["model"]),
    ("random", &[]),
    ("retry", &["wait_log", "random"]),
    ("object_store", &["foreign", "model", "wait_log", "retry"]),
    ("contained", &[]),
    ("blocking", &[]),
    ("event_mapping", &["model"]),
    ("config", &["foreign", "model", "file_glob", "retry", "event_mapping"]),
    ("plan", &["model"]),
    ("state", &["foreign", "model", "random", "blocking", "retry", "object_store"]),
    ("connector", &["foreign", "model", "file_glob", "wait_log", "retry", "object_store", "config"]),
    ("heap_segments", &["foreign", "model", "state"]),
    ("webhooks", &["model", "event_mapping", "config", "state"]),
    ("identity", &["model", "config", "state", "connector"]),
    ("source", &["model", "contained", "config", "state", "connector"]),
    ("lookup", &["model", "config", "state", "connector", "source"]),
    ("segment_check", &["model", "blocking", "config", "state", "connector"]),
    (
        "apply",
        &["model", "wait_log", "retry", "contained", "blocking", "config", "plan", "state", "connector"],
    ),
    (
        "export",
        &[
            "foreign",
            "model",
            "wait_log",
            "retry",
            "contained",
            "blocking",
            "event_mapping",
            "config",
            "state",
            "connector",
            "apply",
        ],
    ),
    ("erasure", &["model", "event_mapping", "state", "export"]),
    (
        "reconcile",
        &[
            "model",
            "retry",
            "contained",
            "blocking",
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
            "retry",
            "contained",
            "blocking",
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
            "wait_log",
            "retry",
            "contained",
            "blocking",
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
            "lookup",
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
    code_below("src")
}

/// The files of all crates.
fn all_files() -> Vec<File> {
    files().into_iter().chain(code_below("crates/sandbox/src")).collect()
}

fn code_below(folder: &str) -> Vec<File> {
    let source = root().join(folder);
    let paths = files_below(&source).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let syntax = syn::parse_file(&text).unwrap();
        File { name: path.strip_prefix(&source).unwrap().to_str().unwrap().to_owned(), text, syntax }
    };
    paths.map(read).collect()
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
            let Some(inner) = path.strip_prefix("crate::") else {
                continue;
            };
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

/// For each file, the other files of its module that it uses. Re-exports of a `mod.rs` are resolved to the file behind
/// them.
fn uses_in_module(files: &[File]) -> Vec<BTreeSet<usize>> {
    let places: BTreeMap<Vec<String>, usize> =
        files.iter().enumerate().map(|(index, file)| (file.path(), index)).collect();
    let reexports: BTreeMap<String, String> = files.iter().flat_map(reexports).collect();
    let resolve = |path: &str| {
        let mut path = path.to_owned();
        while let Some(original) = reexports.get(&path) {
            path.clone_from(original);
        }
        let segments: Vec<String> = path.split("::").skip(1).map(str::to_owned).collect();
        (1..=segments.len()).rev().find_map(|length| places.get(&segments[..length]).copied())
    };
    let uses = files.iter().enumerate().map(|(index, file)| {
        let paths = file_paths(file).into_iter().filter_map(|path| resolve(&path));
        paths.filter(|used| *used != index && files[*used].module() == file.module()).collect()
    });
    uses.collect()
}

/// What uses what, by name.
#[derive(Default)]
struct UseGraph(BTreeMap<String, BTreeSet<String>>);

impl UseGraph {
    /// The files. A `mod.rs` is the root of its module and no node.
    fn of_files(files: &[File]) -> Self {
        let mut graph = Self::default();
        for (file, uses) in files.iter().zip(uses_in_module(files)) {
            let names = uses.into_iter().map(|used| files[used].name.clone());
            let names = names.filter(|name| !name.ends_with("mod.rs"));
            graph.0.entry(file.name.clone()).or_default().extend(names);
        }
        graph
    }

    /// The entries of each folder: its files, and its subfolders with everything below them. Its `mod.rs` is no node.
    fn of_folders(files: &[File]) -> Self {
        let mut graph = Self::default();
        for (file, uses) in files.iter().zip(uses_in_module(files)) {
            let from: Vec<&str> = file.name.split('/').collect();
            for used in uses {
                let to: Vec<&str> = files[used].name.split('/').collect();
                let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
                if from[common] != "mod.rs" && to[common] != "mod.rs" {
                    let uses = graph.0.entry(from[..=common].join("/")).or_default();
                    uses.insert(to[..=common].join("/"));
                }
            }
        }
        graph
    }

    /// All names that this one uses, directly or through others.
    fn reachable<'a>(&'a self, from: &'a str) -> BTreeSet<&'a str> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(name) = open.pop() {
            let uses = self.0.get(name).into_iter().flatten().map(String::as_str);
            open.extend(uses.filter(|used| seen.insert(*used)));
        }
        seen
    }

    /// Groups of names that use each other.
    fn circles(&self) -> BTreeSet<String> {
        let reachable: BTreeMap<&str, BTreeSet<&str>> =
            self.0.keys().map(|name| (name.as_str(), self.reachable(name))).collect();
        let circle = |(name, reached): (&&str, &BTreeSet<&str>)| {
            let is_back = |other: &&str| reachable.get(other).is_some_and(|back| back.contains(name));
            let others: Vec<&str> = reached.iter().copied().filter(is_back).collect();
            others.contains(name).then(|| others.join(" "))
        };
        reachable.iter().filter_map(circle).collect()
    }
}

/// The paths that a file uses outside its tests, those of its own child modules included, without its re-exports.
fn file_paths(file: &File) -> Vec<String> {
    let mut paths = Paths { here: file.path(), found: Vec::new() };
    let children: Vec<String> = children(file);
    for item in &file.syntax.items {
        let is_reexport =
            matches!(item, syn::Item::Use(item) if !matches!(item.vis, syn::Visibility::Inherited));
        if !(is_reexport && file.name.ends_with("mod.rs")) {
            paths.visit_item(item);
        }
    }
    let below = |path: String| match path.split("::").next() {
        Some(first) if children.iter().any(|child| child == first) => {
            format!("crate::{}::{path}", file.path().join("::"))
        }
        _ => path,
    };
    paths.found.into_iter().map(|(_, path)| below(path)).filter(|path| path.starts_with("crate::")).collect()
}

fn children(file: &File) -> Vec<String> {
    let modules = file.syntax.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_none() => Some(module.ident.to_string()),
        _ => None,
    });
    modules.collect()
}

/// The names that a `mod.rs` re-exports, each with the path that it stands for.
fn reexports(file: &File) -> Vec<(String, String)> {
    let here = format!("crate::{}", file.path().join("::"));
    let mut found = Vec::new();
    for item in &file.syntax.items {
        let syn::Item::Use(item) = item else { continue };
        let mut paths = Paths { here: file.path(), found: Vec::new() };
        paths.walk_use(&item.tree, &[]);
        for (_, path) in paths.found {
            let is_child = children(file).iter().any(|child| path.split("::").next() == Some(child));
            let full = if is_child { format!("{here}::{path}") } else { path };
            if let Some(name) = full.strip_prefix("crate::").and_then(|inner| inner.rsplit("::").next()) {
                found.push((format!("{here}::{name}"), full.clone()));
            }
        }
    }
    found.retain(|(alias, full)| alias != full);
    found
}

#[test]
fn files_and_folders_of_a_module_do_not_use_each_other_in_circles() {
    let files = files();
    let mut circles = UseGraph::of_files(&files).circles();
    circles.extend(UseGraph::of_folders(&files).circles());
    assert!(circles.is_empty(), "{circles:#?}");
}

/// Optional stages of a run over one cohort.
const STAGES: [&str; 6] = ["rekey", "triggers", "preflight", "mirror_tables", "delivery_change", "key_check"];
/// What an optional stage must not know: the plan that it is a part of, and the order of the stages.
const ABOVE_STAGES: [&str; 6] =
    ["run_plan", "report", "plan_cohort", "plan_run", "apply_cohort", "apply_stages"];

#[test]
fn stages_know_neither_the_plan_of_a_cohort_nor_each_other() {
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for file in files().iter().filter(|file| file.module() == "reconcile") {
        let path = file.path();
        let Some(stage) = STAGES.iter().find(|stage| path.get(1).is_some_and(|name| name == *stage)) else {
            continue;
        };
        seen.insert(*stage);
        for (line, used) in Paths::of(file) {
            let Some(inner) = used.strip_prefix("crate::reconcile::") else { continue };
            let first = inner.split("::").next().unwrap();
            let is_plan = used.ends_with("::CohortPlan") || used.ends_with("::RunPlan");
            let is_other_stage = first != *stage && STAGES.contains(&first);
            if is_plan || is_other_stage || ABOVE_STAGES.contains(&first) {
                wrong.push(format!("src/{}:{line}: {used}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen.len(), STAGES.len(), "{seen:?}");
}

/// Files that may read the machine's clock: the injected clock, and the one place that makes it.
const CLOCK_FILES: [&str; 3] = ["model/time.rs", "cli/environment.rs", "clock.rs"];

/// Reads of the machine's clock outside tests.
#[derive(Default)]
struct ClockReads(Vec<usize>);

impl<'a> Visit<'a> for ClockReads {
    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if !is_test(&module.attrs) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [.., owner, name] = &names[..]
            && name == "now"
            && ["Instant", "SystemTime", "Timestamp", "Zoned"].contains(&owner.as_str())
        {
            self.0.push(path.span().start().line);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        if call.method == "elapsed" {
            self.0.push(call.method.span().start().line);
        }
        syn::visit::visit_expr_method_call(self, call);
    }
}

#[test]
fn time_comes_from_the_injected_clock() {
    let (mut wrong, mut allowed) = (Vec::new(), 0);
    for file in &all_files() {
        let mut reads = ClockReads::default();
        reads.visit_file(&file.syntax);
        if CLOCK_FILES.contains(&file.name.as_str()) {
            allowed += reads.0.len();
        } else {
            wrong.extend(reads.0.iter().map(|line| format!("src/{}:{line}", file.name)));
        }
    }
    assert!(wrong.is_empty(), "pass a `model::Clock`: {}", wrong.join(", "));
    assert_eq!(allowed, 3, "wall time, monotonic time, and the sandbox's wall time");
}

/// Names of structs, enums, traits and aliases outside tests, private ones included.
#[derive(Default)]
struct TypeNames(Vec<String>);

impl<'a> Visit<'a> for TypeNames {
    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if !is_test(&module.attrs) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_struct(&mut self, item: &'a syn::ItemStruct) {
        self.0.push(item.ident.to_string());
    }

    fn visit_item_enum(&mut self, item: &'a syn::ItemEnum) {
        self.0.push(item.ident.to_string());
    }

    fn visit_item_trait(&mut self, item: &'a syn::ItemTrait) {
        self.0.push(item.ident.to_string());
    }

    fn visit_item_type(&mut self, item: &'a syn::ItemType) {
        self.0.push(item.ident.to_string());
    }
}

#[test]
fn a_type_name_is_used_once() {
    // Two variants of one type for two systems stand in one file.
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files().iter().filter(|file| !file.name.ends_with("tests.rs")) {
        let mut found = TypeNames::default();
        found.visit_file(&file.syntax);
        for name in found.0 {
            names.entry(name).or_default().insert(file.name.clone());
        }
    }
    names.retain(|_, files| files.len() > 1);
    assert!(names.is_empty(), "names in several files: {names:#?}");
}

/// Words that have a standard term or say less than one.
const BANNED: [&str; 45] = [
    "told",
    "tell",
    "tells",
    "telling",
    "whoever",
    "whom",
    "whose",
    "nobody",
    "somebody",
    "everybody",
    "whatever",
    "withheld",
    "withhold",
    "withholds",
    "stranger",
    "strangers",
    "lesson",
    "lessons",
    "taught",
    "teach",
    "lent",
    "of which",
    "put aside",
    "let go",
    "by and by",
    "for ever",
    "as far as",
    "in step",
    "left behind",
    "way out",
    "held back",
    "takes it for",
    "halt",
    "halts",
    "refuse",
    "refuses",
    "refused",
    "refusal",
    "refusals",
    "door",
    "doors",
    "amiss",
    "hollow",
    "lawful",
    "unasked",
];

/// The banned words in a text, with their lines. `_` separates words, and so do capital letters in names.
fn banned_words(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut words = String::from(" ");
        let mut is_after_small = false;
        for letter in line.chars() {
            if letter.is_ascii_uppercase() && is_after_small {
                words.push(' ');
            }
            is_after_small = letter.is_ascii_lowercase();
            words.push(if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { ' ' });
        }
        words.push(' ');
        let is_in = |banned: &&&str| words.contains(&format!(" {banned} "));
        found.extend(BANNED.iter().filter(is_in).map(|banned| (number + 1, *banned)));
    }
    found
}

/// Every file below a folder of the repository, or the file itself, as text.
fn texts(path: &str) -> Vec<(String, String)> {
    let named = |path: PathBuf| {
        let text = String::from_utf8(fs::read(&path).unwrap()).ok()?;
        Some((path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text))
    };
    files_below(&root().join(path)).into_iter().filter_map(named).collect()
}

#[test]
fn standard_terms_are_used() {
    let mut wrong = Vec::new();
    for place in ["src", "docs", "schemas", "examples", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        for (name, text) in texts(place) {
            wrong.extend(banned_words(&text).iter().map(|(line, word)| format!("{name}:{line}: {word}")));
        }
    }
    for (name, text) in texts("tests").into_iter().filter(|(name, _)| name.ends_with(".rs")) {
        let functions = text.lines().enumerate().filter(|(_, line)| line.contains("fn "));
        for (number, line) in functions {
            wrong.extend(banned_words(line).iter().map(|(_, word)| format!("{name}:{}: {word}", number + 1)));
        }
    }
    assert!(wrong.is_empty(), "{} banned words:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn architecture_names_files_that_exist() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let quoted = text.split('`').skip(1).step_by(2);
    let paths: Vec<&str> = quoted
        .filter(|name| {
            ["src/", "crates/", "tests/", "docs/", "schemas/", "benches/"]
                .iter()
                .any(|at| name.starts_with(at))
        })
        .collect();
    assert!(paths.len() > 40, "{}", paths.len());
    let missing: Vec<&&str> = paths.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
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
