//! Saved plans as files: damage, edits, other states, blocked plans and their remedies.

use std::io::Write as _;

use crate::support::*;

fn reconciled(users_now: usize, cohorts: &[&str]) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, cohorts, "");
    for cohort in cohorts {
        w.source(cohort, users(users_now));
    }
    w.run(&["reconcile"]).expect(0);
    (w, sandbox)
}

/// The state without its lease and the records of runs.
fn state(w: &Workspace) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = w.snapshot(".syncline");
    let is_of_run = |path: &std::path::Path| {
        ["lease.json", "heads", "journal", "outcomes"]
            .iter()
            .any(|part| path.iter().any(|name| name == *part))
    };
    files.retain(|(path, _)| !is_of_run(path));
    files
}

/// The first printed command with this prefix, as the words after `syncline`.
fn command(text: &str, begins: &str) -> Vec<String> {
    let at = text.find(begins).unwrap_or_else(|| panic!("no `{begins}` in {text}"));
    let line = text[at..].lines().next().unwrap();
    line.split_whitespace().skip(1).map(str::to_owned).collect()
}

fn run_words(w: &Workspace, words: &[String]) -> Run {
    w.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_flipped_bit_anywhere_is_an_error_and_nothing_is_sent() {
    for users_before in [0, 40] {
        let (w, sandbox) = if users_before == 0 {
            let (w, sandbox) = (Workspace::new(), Sandbox::start());
            w.config(&sandbox, &["carts"], "");
            (w, sandbox)
        } else {
            reconciled(users_before, &["carts"])
        };
        w.source("carts", (2..60).map(|n| format!("user-{n}")));
        w.run(&["plan", "--out", "a.plan"]).expect(0);
        let (bytes, writes) = (std::fs::read(w.path("a.plan")).unwrap(), sandbox.writes());
        for at in (0..bytes.len()).step_by(bytes.len() / 12).chain([bytes.len() - 1, bytes.len() - 9]) {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            w.write("bad.plan", &bad);
            w.run(&["reconcile", "--plan", "bad.plan"]).expect(1).says(&["bad.plan"]);
        }
        assert_eq!(sandbox.writes(), writes, "nothing was sent");
        w.run(&["reconcile", "--plan", "a.plan"]).expect(0);
        assert_eq!(sandbox.members("carts"), members((2..60).map(|n| format!("user-{n}"))));
    }
}

#[test]
fn an_edited_plan_and_the_plan_of_another_state_are_errors() {
    let (w, sandbox) = reconciled(100, &["carts"]);
    w.source("carts", users(95));
    w.run(&["plan", "--out", "a.plan"]).expect(0);
    let bytes = std::fs::read(w.path("a.plan")).unwrap();
    let (packed, trailer) = bytes.split_at(bytes.len() - 48);
    let text = String::from_utf8(zstd::decode_all(packed).unwrap()).unwrap();
    let edited = text.replace("user-99", "user-11");
    assert_ne!(edited, text);
    let mut file = zstd::encode_all(edited.as_bytes(), 0).unwrap();
    file.extend_from_slice(trailer);
    w.write("edited.plan", &file);
    w.run(&["reconcile", "--plan", "edited.plan"])
        .expect(1)
        .says(&["edited.plan was changed after it was written", "its signature does not match"]);

    let other = Workspace::new();
    other.write("sync.yaml", w.read("sync.yaml")).source("carts", users(100));
    other.run(&["reconcile"]).expect(0);
    other.write("a.plan", &bytes);
    other.run(&["reconcile", "--plan", "a.plan"]).expect(1).says(&["belongs to another state"]);
    // A plan made without a state is invalid once a state exists.
    let fresh = Workspace::new();
    fresh.write("sync.yaml", w.read("sync.yaml")).source("carts", users(3));
    fresh.run(&["plan", "--out", "a.plan"]).expect(0);
    w.write("first.plan", std::fs::read(fresh.path("a.plan")).unwrap());
    w.run(&["reconcile", "--plan", "first.plan"]).expect(1).says(&["belongs to another state"]);
    assert_eq!(sandbox.members("carts").len(), 100, "nothing was sent");
}

/// A few kilobytes that decompress to a gigabyte are not decompressed.
#[test]
fn a_compression_bomb_is_rejected_unread() {
    let (w, _sandbox) = reconciled(10, &["carts"]);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    let zeros = vec![b'0'; 1 << 20];
    (0..1024).for_each(|_| encoder.write_all(&zeros).unwrap());
    let mut bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 200_000);
    bomb.extend_from_slice(&(1u64 << 30).to_le_bytes());
    bomb.extend_from_slice(&[0; 32]);
    bomb.extend_from_slice(b"syncplan");
    w.write("bomb.plan", &bomb);
    w.run(&["reconcile", "--plan", "bomb.plan"]).expect(1).says(&["its signature does not match"]);
}

#[test]
fn a_blocked_plan_changes_nothing_and_is_applied_after_its_approval() {
    let (w, sandbox) = reconciled(100, &["carts"]);
    w.source("carts", (40..105).map(|n| format!("user-{n}")));
    w.run(&["plan", "--out", "a.plan"]).expect(6);
    let before = state(&w);
    let text =
        w.run(&["reconcile", "--plan", "a.plan"]).expect(6).says(&["removals blocked: 40 of 100"]).stdout;
    assert!(state(&w) == before, "no membership has changed");
    assert_eq!(sandbox.members("carts"), members(users(100)), "the additions wait as well");
    run_words(&w, &command(&text, "syncline approve")).expect(0);
    w.run(&["reconcile", "--plan", "a.plan"]).expect(0).says(&["added 5, removed 40"]);
    assert_eq!(sandbox.members("carts"), members((40..105).map(|n| format!("user-{n}"))));
}

#[test]
fn a_blocked_plan_is_applied_by_its_suggested_command() {
    let (w, sandbox) = reconciled(100, &["carts", "trials"]);
    w.source("carts", users(60)).source("trials", users(101));
    w.run(&["plan", "--out", "a.plan"]).expect(6);
    let report = w.run(&["reconcile", "--plan", "a.plan", "--format", "json"]).expect(6).json();
    assert_eq!(report["result"], "blocked", "{report}");
    let text =
        w.run(&["reconcile", "--plan", "a.plan"]).expect(6).says(&["Blocked: nothing was sent"]).stdout;
    assert!(text.contains("the guard blocks a part of the saved plan"), "{text}");
    assert_eq!(sandbox.members("trials").len(), 100, "the plan is applied as a whole or not at all");
    let words = command(&text, "syncline reconcile --max-removes carts=40");
    assert!(words.contains(&"a.plan".to_owned()), "{words:?}");
    run_words(&w, &words).expect(0);
    assert_eq!((sandbox.members("carts").len(), sandbox.members("trials").len()), (60, 101));
}

/// A blocked run by `watch` or an operator does not make the plan stale.
#[test]
fn a_blocked_run_does_not_make_the_plan_stale() {
    let (w, sandbox) = reconciled(100, &["carts"]);
    w.source("carts", users(60));
    w.run(&["plan", "--out", "a.plan"]).expect(6);
    let text = w.run(&["reconcile"]).expect(6).stdout;
    w.run(&["reconcile"]).expect(6);
    run_words(&w, &command(&text, "syncline approve")).expect(0);
    w.run(&["reconcile", "--plan", "a.plan"]).expect(0).says(&["removed 40"]);
    assert_eq!(sandbox.members("carts"), members(users(60)));
    assert_eq!(w.run(&["plan", "--format", "json"]).expect(0).json()["result"], "in_sync");
}
