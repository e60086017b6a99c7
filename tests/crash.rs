//! Killed at any moment, the next run puts everything right: nobody is missing and nobody is left behind.

use std::process::Stdio;
use std::time::Duration;

use crate::support::*;

/// A run over 3,000 people in batches of 100, with a server slow enough to be killed within.
fn slow(more: &str) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--latency", "1"]));
    w.config(&sandbox, &["carts", "trials"], &format!("    batch: 100\n{more}"));
    (w, sandbox)
}

/// Runs a run and kills it after so many microseconds. Whether it was still running.
fn killed_after(w: &Workspace, micros: u64) -> bool {
    let mut child = w.command(&["reconcile"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_micros(micros));
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

/// The people of one round: they change from round to round, so adds and removes are both under way.
fn people(round: usize) -> impl Iterator<Item = String> + Clone {
    (0..3_000).filter(move |n| n % 17 != round % 17).map(|n| format!("user-{n}"))
}

/// A cheap source of moments, the same in every run.
struct Moments(u64);

impl Moments {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[test]
fn fifty_kills_at_random_and_one_clean_run() {
    let (w, sandbox) = slow("");
    let mut moments = Moments(20_261_123);
    let mut killed = 0;
    for round in 0..50 {
        w.source("carts", people(round)).source("trials", people(round + 5));
        killed += u32::from(killed_after(&w, moments.next(60_000)));
    }
    assert!(killed > 25, "the run must be hit, not missed: {killed}");
    // The file changes between the last crash and the next run, too.
    w.source("carts", people(3)).source("trials", people(11));
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(people(3)));
    assert_eq!(sandbox.members("trials"), members(people(11)));
    let before = sandbox.writes();
    w.run(&["reconcile"]).expect(0).says(&["In step"]);
    assert_eq!(sandbox.writes(), before);
}

#[test]
fn killed_at_every_request_before_and_after_it_is_done() {
    for action in ["hang", "hang_after"] {
        for request in 0..12 {
            let (w, sandbox) = (Workspace::new(), Sandbox::start());
            w.config(&sandbox, &["carts"], "    batch: 100\n    timeout: 60s\n");
            w.write("sync.yaml", w.read("sync.yaml").replacen("    timeout: 2s\n", "", 1))
                .source("carts", users(500));
            w.run(&["reconcile"]).expect(0);
            // Five requests for those who leave, six for those who enter.
            w.source("carts", (450..1_050).map(|n| format!("user-{n}")));
            let skip = request;
            sandbox.faults(&format!(r#"[{{"skip":{skip},"do":"{action}"}}]"#));
            let before = sandbox.writes();
            let args = ["reconcile", "--max-removes", "carts=490"];
            let mut child = w.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            until("the request that hangs, or the end", || {
                sandbox.writes() == before + request + 1 || child.try_wait().unwrap().is_some()
            });
            std::thread::sleep(Duration::from_millis(5));
            child.kill().unwrap();
            child.wait().unwrap();
            sandbox.faults("[]");
            // What hangs in the sandbox holds the cohort's lock until its connection is gone.
            w.source("carts", (440..1_000).map(|n| format!("user-{n}")));
            until("a clean run", || w.run(&args).code == 0);
            let expected = members((440..1_000).map(|n| format!("user-{n}")));
            assert_eq!(sandbox.members("carts"), expected, "{action} {request}");
        }
    }
}

#[test]
fn the_sandbox_inside_forgets_nothing_that_it_answered() {
    let w = Workspace::new();
    let sandbox_config = "version: 1
connections: { braze: { kind: braze, instance: sandbox, batch: 50 } }
cohorts:
";
    w.write("sync.yaml", sandbox_config.to_owned() + &cohort_entry("carts", ""));
    let mut moments = Moments(7);
    for round in 0..25 {
        w.source("carts", people(round));
        killed_after(&w, moments.next(80_000));
    }
    w.source("carts", people(8));
    w.run(&["reconcile"]).expect(0);
    let memory = w.path(".syncline/sandbox/braze");
    let sandbox = Sandbox::with(&["--memory", memory.to_str().unwrap()]);
    assert_eq!(sandbox.members("carts"), members(people(8)));
}

#[test]
fn a_killed_run_is_in_the_history_as_interrupted() {
    let (w, sandbox) = slow("");
    w.source("carts", users(10)).source("trials", users(10));
    sandbox.faults(r#"[{"on":"users","do":"hang"}]"#);
    let mut child = w.command(&["reconcile"]).stdout(Stdio::null()).spawn().unwrap();
    until("the first request", || sandbox.requests()["users"].as_u64().unwrap() >= 1);
    child.kill().unwrap();
    child.wait().unwrap();
    w.run(&["history"]).expect(0).says(&["interrupted"]);
    w.run(&["status"]).expect(0).says(&["in doubt"]);
}
