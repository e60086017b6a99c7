//! Crashes: after a kill at any moment, the next run leaves exactly the desired members in Braze.

use std::process::Stdio;
use std::time::Duration;

use crate::support::*;

/// A run over 3,000 users in batches of 100, slow enough to be killed in between.
fn slow(more: &str) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--latency", "1"]));
    w.config(&sandbox, &["carts", "trials"], &format!("    batch: 100\n{more}"));
    (w, sandbox)
}

/// Starts a run and kills it after these microseconds. Returns whether it was still running.
fn killed_after(w: &Workspace, micros: u64) -> bool {
    let mut child = w.command(&["reconcile"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_micros(micros));
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

/// Users of one round. They differ from round to round, so that additions and removals are sent.
fn users_of_round(round: usize) -> impl Iterator<Item = String> + Clone {
    (0..3_000).filter(move |n| n % 17 != round % 17).map(|n| format!("user-{n}"))
}

/// Pseudo-random delays, the same in every test run.
struct RandomDelays(u64);

impl RandomDelays {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[test]
fn fifty_kills_at_random_and_one_clean_run() {
    let (w, sandbox) = slow("");
    let mut moments = RandomDelays(20_261_123);
    let mut killed = 0;
    for round in 0..50 {
        w.source("carts", users_of_round(round)).source("trials", users_of_round(round + 5));
        killed += u32::from(killed_after(&w, moments.next(60_000)));
    }
    assert!(killed > 25, "the kill must hit a running process: {killed}");
    // The file also changes between the last crash and the next run.
    w.source("carts", users_of_round(3)).source("trials", users_of_round(11));
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(users_of_round(3)));
    assert_eq!(sandbox.members("trials"), members(users_of_round(11)));
    let before = sandbox.writes();
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    assert_eq!(sandbox.writes(), before);
}

#[test]
fn a_kill_at_every_request_is_recovered() {
    for action in ["hang", "hang_after"] {
        for request in 0..12 {
            let (w, sandbox) = (Workspace::new(), Sandbox::start());
            w.config(&sandbox, &["carts"], "    batch: 100\n    timeout: 60s\n");
            w.write("sync.yaml", w.read("sync.yaml").replacen("    timeout: 2s\n", "", 1))
                .source("carts", users(500));
            w.run(&["reconcile"]).expect(0);
            // Five requests for removals, six for additions.
            w.source("carts", (450..1_050).map(|n| format!("user-{n}")));
            let skip = request;
            sandbox.faults(&format!(r#"[{{"skip":{skip},"do":"{action}"}}]"#));
            let before = sandbox.writes();
            let args = ["reconcile", "--max-removes", "carts=490"];
            let mut child = w.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            until("a hanging request, or the end", || {
                sandbox.writes() == before + request + 1 || child.try_wait().unwrap().is_some()
            });
            std::thread::sleep(Duration::from_millis(5));
            child.kill().unwrap();
            child.wait().unwrap();
            sandbox.faults("[]");
            // A hanging request holds the lock of its cohort until its connection closes.
            w.source("carts", (440..1_000).map(|n| format!("user-{n}")));
            until("a run without faults", || w.run(&args).code == 0);
            let expected = members((440..1_000).map(|n| format!("user-{n}")));
            assert_eq!(sandbox.members("carts"), expected, "{action} {request}");
        }
    }
}

#[test]
fn the_built_in_sandbox_keeps_everything_it_acknowledged() {
    let w = Workspace::new();
    let sandbox_config = "version: 1
connections: { braze: { kind: braze, instance: sandbox, batch: 50 } }
cohorts:
";
    w.write("sync.yaml", sandbox_config.to_owned() + &cohort_entry("carts", ""));
    let mut moments = RandomDelays(7);
    for round in 0..25 {
        w.source("carts", users_of_round(round));
        killed_after(&w, moments.next(80_000));
    }
    w.source("carts", users_of_round(8));
    w.run(&["reconcile"]).expect(0);
    let memory = w.path(".syncline/sandbox/braze");
    let sandbox = Sandbox::with(&["--memory", memory.to_str().unwrap()]);
    assert_eq!(sandbox.members("carts"), members(users_of_round(8)));
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
