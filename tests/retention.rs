//! Retention of the journal and of rejects, and the number of their files.

use std::fs;
use std::path::PathBuf;

use crate::support::*;

/// A state with one run in its journal. Returns the folder of that day and the journal's text.
fn state_with_one_run(more: &str) -> (Workspace, Sandbox, PathBuf, Vec<u8>) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    w.write("sync.yaml", w.read("sync.yaml") + more);
    w.run(&["reconcile"]).expect(0);
    let (path, text) = w.snapshot(".syncline/journal").remove(0);
    let day = path.parent().unwrap().to_owned();
    (w, sandbox, day, text)
}

/// Names of runs at the start of the day of `journal/<yyyy>/<mm>/<dd>`.
fn runs_of(day: &std::path::Path, count: usize) -> impl Iterator<Item = String> {
    let parts: Vec<&str> = day.iter().rev().take(3).map(|part| part.to_str().unwrap()).collect();
    let day = format!("{}{}{}", parts[2], parts[1], parts[0]);
    (0..count).map(move |at| format!("{day}t000000{at:03}z-00000a"))
}

fn files(folder: &std::path::Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

fn history(w: &Workspace) -> Vec<String> {
    let shown = w.run(&["history", "--limit", "1000", "--format", "json"]).expect(0).json();
    let runs = shown["runs"].as_array().unwrap().clone();
    runs.iter().map(|run| run["run"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn journals_of_many_runs_are_merged_without_loss() {
    let (w, _sandbox, day, text) = state_with_one_run("");
    let text = String::from_utf8(text).unwrap();
    let torn = |run: &str| with_line_checksums(run, &text) + "{\"at\":\"2026";
    let names: Vec<String> = runs_of(&day, 70).collect();
    let path = |run: &String| day.join(format!("{run}.ndjson")).to_str().unwrap().to_owned();
    for run in &names {
        w.write(&path(run), torn(run));
    }
    let before = history(&w);
    assert_eq!(before.len(), 71);
    w.source("carts", users(4)).run(&["reconcile"]).expect(0);
    assert_eq!(files(&day), 2, "the merged file, and the run that merged");
    let after = history(&w);
    assert_eq!(after[1..], before, "newest first");
    w.run(&["history", "--limit", "2"])
        .expect(0)
        .says(&["carts: added 1, removed 0", "carts: added 3, removed 0"]);
    // A crash between the merged file and the deletion of its inputs.
    w.write(&path(&names[7]), torn(&names[7]));
    assert_eq!(history(&w), after);
    fs::remove_file(path(&names[7])).unwrap();
    w.run(&["state", "verify"]).expect(0).says(&["Intact"]);
}

#[test]
fn the_newest_runs_are_read_without_older_days() {
    let (w, _sandbox, _, _) = state_with_one_run("");
    // Not a folder: listing it fails.
    w.write(".syncline/journal/2020", "");
    w.run(&["history", "--limit", "1"]).expect(0).says(&["carts: added 3"]);
    w.run(&["status"]).expect(0);
    w.run(&["reconcile"]).expect(0);
    // Parts of a first run that was killed before its first version.
    w.write(".syncline/cohorts/other/parts/0.parquet", "");
    let config = w.read("sync.yaml");
    w.write("sync.yaml", config + &cohort_entry("other", "")).source("other", users(2));
    w.run(&["plan"]).expect(0).says(&["other"]);
}

fn write_old_logs(w: &Workspace, text: &[u8]) -> [PathBuf; 3] {
    let old = "20200101t000000000z-00000a";
    let paths = [
        format!(".syncline/journal/2020/01/01/{old}.ndjson"),
        format!(".syncline/rejects/{old}/carts.ndjson"),
        format!(".syncline/rejects/{old}/inbox.heap.ndjson"),
    ];
    paths.map(|path| {
        w.write(&path, text);
        w.path(&path)
    })
}

#[test]
fn journal_and_rejects_are_kept_for_the_retention() {
    let (w, _sandbox, day, text) = state_with_one_run("");
    let old = write_old_logs(&w, &text);
    w.run(&["state", "gc", "--dry-run"])
        .expect(0)
        .says(&["3 files would be removed", "older than `retention`"]);
    assert!(old.iter().all(|path| path.exists()));
    w.write("sync.yaml", format!("retention: 20000d\n{}", w.read("sync.yaml")));
    w.run(&["state", "gc"]).expect(0).says(&["0 files removed"]);
    // The first run of a day removes what is too old.
    fs::remove_dir_all(&day).unwrap();
    w.run(&["reconcile"]).expect(0);
    assert!(old.iter().all(|path| path.exists()));
    w.write("sync.yaml", w.read("sync.yaml").replace("retention: 20000d", "retention: 30d"));
    fs::remove_dir_all(&day).unwrap();
    w.run(&["reconcile"]).expect(0);
    for path in &old {
        assert!(!path.exists() && !path.parent().unwrap().exists(), "{}", path.display());
    }
    assert_eq!(history(&w).len(), 1, "the run itself is kept");
    write_old_logs(&w, &text);
    w.run(&["state", "gc"]).expect(0).says(&["3 files removed"]);
    assert!(old.iter().all(|path| !path.exists()));
    w.run(&["state", "verify"]).expect(0).says(&["Intact"]);
}

#[test]
fn the_number_of_reject_files_is_limited_and_those_of_webhooks_are_merged() {
    let (w, _sandbox, day, _) = state_with_one_run("");
    let runs: Vec<String> = runs_of(&day, 100).collect();
    for (at, run) in runs.iter().enumerate() {
        for name in ["carts", "inbox.heap"] {
            let line = with_line_checksums(&format!("{run}/{name}"), &format!("{{\"value\":\"{at}\"}}"));
            w.write(&format!(".syncline/rejects/{run}/{name}.ndjson"), line);
        }
    }
    w.run(&["state", "gc"]).expect(0);
    let all = w.snapshot(".syncline/rejects");
    let of = |name: &str| {
        let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(name);
        let found: Vec<_> = all.iter().filter(|(path, _)| is_it(path)).collect();
        let mut lines: Vec<String> = found
            .iter()
            .flat_map(|(_, text)| {
                let values = String::from_utf8_lossy(text);
                let value =
                    |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["value"].to_string();
                values.lines().map(value).collect::<Vec<_>>()
            })
            .collect();
        lines.sort();
        (found.len(), lines)
    };
    let lines = |range: std::ops::Range<usize>| {
        let mut lines: Vec<String> = range.map(|at| format!("\"{at}\"")).collect();
        lines.sort();
        lines
    };
    assert_eq!(of("carts."), (32, lines(68..100)), "the newest runs");
    assert_eq!(of("inbox.heap."), (33, lines(0..100)), "all");
    assert_eq!(files(&w.path(".syncline/rejects")), 33);
    // The merged lines have the checksums of their new file.
    let verified = w.run(&["state", "verify"]).expect(0);
    assert!(!verified.stdout.contains("is damaged"), "{}", verified.stdout);
}

#[test]
fn an_oversized_journal_loses_its_oldest_runs() {
    let (w, _sandbox, _, _) = state_with_one_run("retention: 20000d\n");
    // Sparse files: only their length counts.
    let large = |day: &str, mebibytes: u64| {
        let path = format!(
            ".syncline/journal/{}/{}t000000000z-00000a.ndjson",
            day.replace('-', "/"),
            day.replace('-', "")
        );
        w.write(&path, "");
        let file = fs::File::options().write(true).open(w.path(&path)).unwrap();
        file.set_len(mebibytes << 20).unwrap();
        w.path(&path)
    };
    let old = [large("2020-01-01", 1), large("2020-01-02", 10)];
    let newer = [large("2020-01-03", 30), large("2020-01-04", 33)];
    w.run(&["state", "gc", "--dry-run"])
        .expect(0)
        .says(&["2 files would be removed", "the journal is larger than 64 MiB"]);
    w.run(&["state", "gc"]).expect(0).says(&["2 files removed"]);
    assert!(old.iter().all(|path| !path.exists()) && newer.iter().all(|path| path.exists()));
    // A run does the same, the first time on a day.
    let third = large("2020-01-02", 10);
    let today = w.path(".syncline/journal");
    let year = fs::read_dir(&today).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    fs::remove_dir_all(year).unwrap();
    w.run(&["reconcile"]).expect(0);
    assert!(!third.exists() && newer.iter().all(|path| path.exists()));
}
