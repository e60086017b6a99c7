//! The documentation: transcripts are run, config blocks are validated, commands exist, links and anchors resolve, and
//! generated sections are those of the program. With `SYNCLINE_UPDATE_DOCS=1` the tests write the pages instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use syncline::plan::BlockCode;

use crate::support::markdown::*;
use crate::support::reference;
use crate::support::*;

/// The README and the pages of `docs/`, which have transcripts, configs and generated sections.
fn pages() -> Vec<(PathBuf, String)> {
    let is_ours = |path: &PathBuf| path.starts_with(root().join("docs")) || *path == root().join("README.md");
    all_pages().into_iter().filter(is_ours).map(|path| (path.clone(), read(&path))).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Compares a page with what it must be, or writes it.
#[allow(clippy::disallowed_methods, reason = "the switch that writes the pages")]
fn expect_page(path: &Path, is: &str, must_be: &str) {
    let update = std::env::var_os("SYNCLINE_UPDATE_DOCS").is_some();
    if update && is != must_be {
        fs::write(path, must_be).unwrap();
        return;
    }
    let differ = |(is, must_be): &(&str, &str)| without_times(is) != without_times(must_be);
    let first = is.lines().zip(must_be.lines()).find(differ);
    assert!(
        is == must_be,
        "{} is stale, first here: {first:?}\nto write it: SYNCLINE_UPDATE_DOCS=1 cargo test --test it docs_",
        name(path)
    );
}

#[test]
fn docs_transcripts_and_generated_sections_are_those_of_the_program() {
    let (mut sections, mut transcripts) = (0, 0);
    for (path, page) in pages() {
        let mut must_be = with_generated_sections(&page, &mut sections);
        let number = blocks_in(&page, "console").len();
        if number > 0 {
            let w = Workspace::new();
            // A page that makes its own config starts in an empty folder.
            if !page.contains("$ syncline init") {
                copy_example(&w);
            }
            must_be = with_real_outputs(&w, &must_be);
        }
        transcripts += number;
        expect_page(&path, &page, &must_be);
    }
    assert!(sections == 11 && transcripts > 8, "{sections} {transcripts}");
}

fn with_generated_sections(page: &str, sections: &mut usize) -> String {
    let (mut new, mut rest) = (String::new(), page);
    while let Some((before, after)) = rest.split_once("<!-- generated: ") {
        let (section, after) = after.split_once(" -->\n").unwrap();
        let (_, after) = after.split_once("<!-- /generated -->").unwrap();
        let text = reference::section(section);
        new.push_str(&format!(
            "{before}<!-- generated: {section} -->\n\n{}\n\n<!-- /generated -->",
            text.trim()
        ));
        (rest, *sections) = (after, *sections + 1);
    }
    new.push_str(rest);
    new
}

/// The codes in the first column of each table of a page.
fn codes_of_tables(page: &str) -> Vec<BTreeSet<String>> {
    let mut tables = Vec::new();
    for (line, next) in page.lines().zip(page.lines().skip(1)) {
        if next.starts_with("|---") {
            tables.push(BTreeSet::new());
        } else if let Some(row) = line.strip_prefix("| `") {
            let first = row.split(" | ").next().unwrap();
            let codes = first.split(", ").map(|code| code.trim_matches('`').to_owned());
            tables.last_mut().unwrap().extend(codes);
        }
    }
    tables.retain(|codes| !codes.is_empty());
    tables
}

#[test]
fn docs_the_guide_to_blocked_runs_has_every_code() {
    let page = read(&root().join("docs/guides/blocked-run.md"));
    let (approvable, others): (Vec<BlockCode>, Vec<BlockCode>) =
        BlockCode::ALL.iter().partition(|code| code.can_be_approved());
    let expected =
        [approvable, others].map(|codes| codes.iter().map(|code| code.as_str().to_owned()).collect());
    assert_eq!(codes_of_tables(&page), expected);
}

#[test]
fn docs_configs_are_valid() {
    let mut configs = 0;
    for (path, page) in pages() {
        for text in blocks_in(&page, "yaml") {
            let mut config: Value =
                serde_yaml::from_str(text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", name(&path)));
            complete(&mut config);
            let w = Workspace::new();
            w.write("cohorts/none.yaml", "# nothing yet\n").write("sync.yaml", config.to_string());
            let found = w.run(&["validate"]);
            assert_eq!(found.code, 0, "{}\n{text}\n{}", name(&path), found.stderr);
            configs += 1;
        }
    }
    assert!(configs > 25);
}

/// Adds what a config needs and a fragment in the docs leaves out.
fn complete(config: &mut Value) {
    let map = config.as_object_mut().unwrap();
    map.entry("version").or_insert(json!(1));
    let connections = map.entry("connections").or_insert(json!({})).as_object_mut().unwrap();
    connections.entry("braze").or_insert(json!({ "kind": "braze", "instance": "sandbox" }));
    connections.entry("heap").or_insert(json!({ "kind": "heap", "region": "sandbox" }));
    let cohorts = map.get_mut("cohorts").and_then(Value::as_array_mut);
    for cohort in cohorts.into_iter().flatten() {
        let cohort = cohort.as_object_mut().unwrap();
        let id = cohort["id"].clone();
        cohort.entry("name").or_insert(id);
        cohort.entry("to").or_insert(json!("braze"));
        cohort.entry("source").or_insert(json!({ "kind": "file", "path": "users.csv" }));
        cohort.entry("match").or_insert(json!([{ "external_id": "identity" }]));
    }
}

/// The path of a new user, against a Braze that checks keys: the users have the attribute at the end.
#[test]
fn docs_the_first_real_cohort_reaches_braze() {
    let page = read(&root().join("docs/start/first-cohort.md"));
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--profiles", "created"]));
    let users = json!(["user-1", "user-2", "user-3"].map(|id| json!({ "external_id": id }))).to_string();
    let json_body = [("content-type", "application/json")];
    assert_eq!(http(&sandbox.url, "POST", "/_sandbox/users", &json_body, &users).status, 204);
    with_real_outputs(&w, &page);
    let config = w.read("sync.yaml");
    let yaml = |text: &str| serde_yaml::from_str::<Value>(text).unwrap();
    assert_eq!(
        yaml(blocks_in(&page, "yaml")[0])["cohorts"],
        yaml(&config)["cohorts"],
        "the page shows what `init` writes"
    );
    assert!(config.contains("instance: US-01 "), "{config}");
    w.replace("sync.yaml", &config.replace("instance: US-01 ", &format!("endpoint: {} ", sandbox.url)));
    let mut commands = 0;
    for line in blocks_in(&page, "sh").iter().flat_map(|block| block.lines()) {
        let Some(line) = line.strip_prefix("syncline ") else { continue };
        let mut command = w.command(&words(line).iter().map(String::as_str).collect::<Vec<_>>());
        run({
            command.env("BRAZE_REST_API_KEY", REST_KEY);
            command
        })
        .expect(0);
        commands += 1;
    }
    assert_eq!(commands, 3);
    let (status, users) = sandbox.get("/_sandbox/attributes/syncline_cohorts/carts");
    assert_eq!((status, users.lines().count()), (200, 3), "{users}");
}

/// Every step of the rehearsal works against `syncline sandbox`, up to a segment in sync.
#[test]
fn docs_the_rehearsal_ends_with_a_segment_in_sync() {
    let page = read(&root().join("docs/guides/rehearse.md"));
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let at_sandbox = |text: &str| text.replace("http://127.0.0.1:4010", &sandbox.url);
    w.write("sync.yaml", at_sandbox(blocks_in(&page, "yaml")[0]));
    let steps: Vec<&str> =
        blocks_in(&page, "sh").into_iter().filter(|block| block.trim() != "syncline sandbox").collect();
    let script =
        at_sandbox(&steps.join("\n")).replace("curl ", "curl --fail-with-body --silent --show-error ");
    let mut shell = std::process::Command::new("sh");
    shell.arg("-e").arg("-c").arg(script);
    shell.env("PATH", format!("{}:/usr/bin:/bin", Path::new(SYNCLINE).parent().unwrap().display()));
    let found = run({
        shell.current_dir(w.path(""));
        shell
    })
    .expect(0);
    found.says(&[
        "added 40; 40 members",
        "external_id user-7\n",
        "in sync, 40 users on ",
        "In sync: 1 segment.",
    ]);
    assert!(!w.path(".syncline/local").exists());
}

#[test]
fn docs_the_config_by_example_shows_every_part() {
    let page = read(&root().join("docs/reference/config-example.md"));
    let w = Workspace::new();
    w.write("sync.yaml", blocks_in(&page, "yaml")[0]).write("cohorts/none.yaml", "# nothing yet\n");
    w.run(&["validate"]).expect(0).says(&["4 cohorts, 2 exports, 3 connections, also with staging"]);
}

#[test]
fn docs_other_blocks_are_json_and_yaml() {
    for (path, page) in pages() {
        for text in blocks_in(&page, "json") {
            assert!(serde_json::from_str::<Value>(text).is_ok(), "{}\n{text}", name(&path));
        }
        for text in blocks_in(&page, "yml") {
            assert!(serde_yaml::from_str::<Value>(text).is_ok(), "{}\n{text}", name(&path));
        }
        let known = ["console", "json", "sh", "sql", "text", "yaml", "yml"];
        for block in code_blocks(&page) {
            assert!(known.contains(&block.language), "{}: `{}`", name(&path), block.language);
        }
    }
}

/// The commands for a running sandbox, with its config and a cohort in it.
#[test]
fn docs_sandbox_commands_work() {
    let page = read(&root().join("docs/reference/sandbox.md"));
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["abandoned_checkout"], "").source("abandoned_checkout", users(3));
    w.run(&["reconcile"]).expect(0);
    let mut commands = 0;
    for block in blocks_in(&page, "sh") {
        // No `watch` runs here: the delivery is not waited for.
        let block = block.replace("/heap/sync", "/heap/sync?wait=false");
        for command in block.replace("\\\n", " ").replace("http://127.0.0.1:4010", &sandbox.url).lines() {
            let mut shell = std::process::Command::new("sh");
            shell.arg("-c").arg(command.replace("curl ", "curl --fail-with-body --silent --show-error "));
            shell.env("PATH", format!("{}:/usr/bin:/bin", Path::new(SYNCLINE).parent().unwrap().display()));
            let found = run({
                shell.current_dir(w.path(""));
                shell
            });
            assert_eq!(found.code, 0, "{command}\n{}{}", found.stdout, found.stderr);
            commands += 1;
        }
    }
    assert!(commands > 7);
}

/// Each command line of a shell block is understood by the program: with `--help` behind it, unknown commands and
/// options are errors, and nothing is done.
#[test]
fn docs_commands_exist() {
    let (w, mut commands) = (Workspace::new(), 0);
    for (path, page) in pages() {
        let lines = code_blocks(&page).into_iter().filter(|block| matches!(block.language, "sh" | "console"));
        for line in lines.flat_map(|block| block.text.lines()) {
            let line = line.strip_prefix("$ ").unwrap_or(line);
            let Some(line) = line.strip_prefix("syncline ") else { continue };
            let line = line.split([';', '|', '>']).next().unwrap();
            let arguments = words(&line.replace("sha256:…", &format!("sha256:{}", "0".repeat(64))));
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--help"]).collect();
            let found = w.run(&arguments);
            assert_eq!(found.code, 0, "{}: {arguments:?}\n{}", name(&path), found.stderr);
            commands += 1;
        }
    }
    assert!(commands > 30);
}

/// The words of a command line, up to a comment or a redirection.
fn words(line: &str) -> Vec<String> {
    let words = line.split_whitespace().take_while(|word| !word.starts_with('#') && *word != "2");
    words.map(|word| word.trim_matches('\'').to_owned()).collect()
}

#[test]
fn docs_links_resolve() {
    let mut links_seen = 0;
    for path in all_pages() {
        let page = read(&path);
        for link in links(&page) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", name(&path));
            if !anchor.is_empty() {
                let known = anchors(&read(&target));
                assert!(known.contains(&anchor.to_owned()), "{}: {link} is none of {known:?}", name(&path));
            }
            // The book has the pages of `docs/` and no other file.
            if path.starts_with(root().join("docs")) {
                let docs = fs::canonicalize(root().join("docs")).unwrap();
                assert!(fs::canonicalize(&target).unwrap().starts_with(docs), "{}: {link}", name(&path));
            }
            links_seen += 1;
        }
    }
    assert!(links_seen > 100);
}

#[test]
fn docs_every_page_is_in_the_summary() {
    let docs = root().join("docs");
    let summary = links(&read(&docs.join("SUMMARY.md")));
    for (path, _) in pages() {
        let Ok(page) = path.strip_prefix(&docs) else { continue };
        let page = page.display().to_string();
        assert!(page == "SUMMARY.md" || summary.contains(&page), "{page}");
    }
}

/// Codes that pages explain by hand are in the code, and codes of the code are on the page.
#[test]
fn docs_hand_written_codes_are_those_of_the_code() {
    let source = reference::source();
    let (rejects, errors) = ("docs/reference/rejects.md", "docs/reference/errors.md");
    for page in [rejects, errors] {
        let text = read(&root().join(page));
        let rows = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|line| line.split(" |").next());
        for code in
            rows.flat_map(|cell| cell.split('`').step_by(2)).filter(|code| !code.starts_with([',', ' ']))
        {
            let code = code.trim();
            assert!(
                code.is_empty() || source.contains(&format!("\"{code}\"")) || reference::is_field(code),
                "{page}: {code}"
            );
        }
    }
    let page = read(&root().join(rejects));
    for marker in ["reason: \"", "unreadable(\""] {
        // A text that is not a code, such as the reason of a failure in a unit test, becomes a `String`.
        let literals = source.split(marker).skip(1).filter_map(|rest| rest.split_once('"'));
        for (code, _) in literals.filter(|(_, rest)| !rest.starts_with(".to_owned")) {
            assert!(page.contains(&format!("`{code}`")), "{rejects} lacks {code}");
        }
    }
}

#[test]
fn docs_alert_rules_use_metrics_that_exist() {
    let page = read(&root().join("docs/reference/metrics.md"));
    let metrics = reference::metrics();
    let (table, rules) = page.split_once("## Alert rules").unwrap();
    assert!(table.lines().filter(|line| line.starts_with("| `syncline_")).count() == metrics.len());
    for rule in rules.lines().filter(|line| line.trim_start().starts_with("expr:")) {
        let used = rule
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .find(|word| word.starts_with("syncline_"));
        assert!(metrics.contains_key(used.unwrap()), "{rule}");
    }
}

/// The folder in the SQL example is one that a state has.
#[test]
fn docs_the_query_on_the_state_names_real_files() {
    let page = read(&root().join("docs/reference/state.md"));
    let (_, rest) = page.split_once("from '.syncline/cohorts/*/").unwrap();
    let folder = rest.split('/').next().unwrap();
    let w = Workspace::new();
    copy_example(&w);
    w.run(&["reconcile", "spring_promotion"]).expect(0);
    let files: BTreeMap<PathBuf, Vec<u8>> =
        w.snapshot(&format!(".syncline/cohorts/spring_promotion/{folder}")).into_iter().collect();
    assert!(files.keys().any(|path| path.extension().is_some_and(|ext| ext == "parquet")), "{folder}");
}
