//! The state: in a folder and in a bucket, with one holder at a time, intact after any failure, and cleaned up.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::s3::S3;
use crate::support::*;

const SECRET: &str = "canary-of-the-bucket";

/// The program with credentials for a bucket.
fn command(w: &Workspace, args: &[&str]) -> std::process::Command {
    let mut command = w.command(args);
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", SECRET);
    command
}

fn reconcile(w: &Workspace, args: &[&str]) -> Run {
    run(command(w, args))
}

fn in_bucket(s3: &S3, lease: &str, people: usize) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox.url, &["carts"], "") + &s3.config(lease));
    w.source("carts", users(people));
    (w, sandbox)
}

#[test]
fn a_state_in_a_bucket_works_like_one_in_a_folder() {
    let Some(s3) = S3::start() else { return };
    let (w, sandbox) = in_bucket(&s3, "5s", 2_500);
    reconcile(&w, &["plan"]).expect(0).says(&["add 2,500"]);
    reconcile(&w, &["reconcile"]).expect(0).says(&["created \"Carts\", added 2,500"]);
    assert!(!w.path(".syncline").exists(), "nothing is kept on this machine");
    w.source("carts", users(2_600).skip(50));
    reconcile(&w, &["reconcile", "-vvv"]).expect(0).says(&["added 100, removed 50; 2,550 members"]);
    assert_eq!(sandbox.members("carts"), members(users(2_600).skip(50)));
    let before = sandbox.writes();
    reconcile(&w, &["reconcile"]).expect(0).says(&["In sync: 1 cohort, 2,550 members, 0 requests"]);
    assert_eq!(sandbox.writes(), before);
    reconcile(&w, &["status"]).expect(0).says(&["2,550", "State: s3://states/team/prod"]);
    reconcile(&w, &["history"]).expect(0).says(&["added 2,500", "added 100, removed 50"]);
    reconcile(&w, &["state", "ls"]).expect(0).says(&["2,550 members", "no lease"]);
    reconcile(&w, &["state", "verify"]).expect(0).says(&["Intact: 1 cohort"]);
    reconcile(&w, &["state", "gc", "--dry-run"]).expect(0).says(&["0 files would be removed"]);
    // The rejects of a run, which grow in parts there.
    w.write("carts.csv", csv(users(2_600).skip(50)) + "null\n");
    let report = reconcile(&w, &["reconcile", "--format", "json"]).expect(0).json();
    let file = report["cohorts"][0]["rejects_file"].as_str().unwrap().to_owned();
    assert!(s3.text(&file).contains("placeholder"), "{file}");
}

#[test]
fn errors_of_the_bucket_are_shown_without_its_secret() {
    let Some(s3) = S3::start() else { return };
    let (w, sandbox) = in_bucket(&s3, "5s", 5);
    let text = w.read("sync.yaml").replace("s3://states", "s3://no-such-bucket");
    w.write("sync.yaml", text);
    for args in [["reconcile", "-vvv"], ["plan", "-vvv"]] {
        let run = reconcile(&w, &args).expect(1);
        assert!(!format!("{run:?}").contains(SECRET));
        run.says(&["no-such-bucket", "NoSuchBucket", "are there credentials?"]);
    }
    assert_eq!(sandbox.writes(), 0);
}

/// Starts a run that cannot end, and waits until it sends.
fn start_stuck_run(w: &Workspace, sandbox: &Sandbox) -> Child {
    sandbox.faults(r#"[{"on":"users","times":0,"do":"hang"}]"#);
    let mut command = command(w, &["reconcile"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("a request", || sandbox.requests()["users"].as_u64().unwrap() > 0);
    child
}

fn expect_second_rejected(w: &Workspace, holder: &Child) {
    let rejected = reconcile(w, &["reconcile"]).expect(8);
    rejected.says(&["the state is held by process", &holder.id().to_string(), "since"]);
    reconcile(w, &["state", "ls"]).expect(0).says(&["held by process", &holder.id().to_string()]);
}

#[test]
fn of_two_processes_one_works_and_the_other_reports_the_holder() {
    let Some(s3) = S3::start() else { return };
    let folder = (Workspace::new(), Sandbox::start());
    folder.0.config(&folder.1, &["carts"], "").source("carts", users(50));
    for (w, sandbox) in [folder, in_bucket(&s3, "5s", 50)] {
        let mut holder = start_stuck_run(&w, &sandbox);
        expect_second_rejected(&w, &holder);
        holder.kill().unwrap();
        holder.wait().unwrap();
    }
}

#[test]
fn a_killed_holder_is_replaced_automatically() {
    let Some(s3) = S3::start() else { return };
    let (w, sandbox) = in_bucket(&s3, "2s", 50);
    let mut holder = start_stuck_run(&w, &sandbox);
    // It renews the lease after its first one would have expired.
    let times = || {
        let text = reconcile(&w, &["state", "ls"]).stdout;
        let time = |before: &str| {
            let rest = text.split_once(before).map(|(_, rest)| rest).unwrap_or_default();
            rest.split_whitespace().next().unwrap_or_default().trim_end_matches(',').to_owned()
        };
        (time("renewed at "), time("expires at "))
    };
    let (_, first_end) = times();
    assert!(first_end.starts_with("20"), "{first_end}");
    until("the lease is renewed", || times().0 > first_end);
    expect_second_rejected(&w, &holder);
    holder.kill().unwrap();
    holder.wait().unwrap();
    sandbox.faults("[]");
    reconcile(&w, &["reconcile"]).expect(8).says(&["renewed at", "expires at"]);
    until("the lease expires", || reconcile(&w, &["reconcile"]).code == 0);
    assert_eq!(sandbox.members("carts"), members(users(50)));
    reconcile(&w, &["state", "verify"]).expect(0);
}

/// Like every request, a request to Heap ends with the lease in which it began, regardless of Heap's response
/// time.
#[test]
fn a_request_to_erase_in_heap_ends_with_the_lease() {
    let Some(s3) = S3::start() else { return };
    let (w, sandbox) = in_bucket(&s3, "2s", 5);
    let heap = format!(
        "connections:\n  heap: {{ kind: heap, endpoint: {}, app_id: 11, api_key: {{ env: TEST_API_KEY }}, timeout: 60s }}\n",
        sandbox.url
    );
    w.write("sync.yaml", w.read("sync.yaml").replace("connections:\n", &heap));
    sandbox.faults(r#"[{"on":"deletion","times":0,"do":"hang"}]"#);
    let mut command = command(&w, &["forget", "user-1", "--heap", "heap", "--yes"]);
    command.env("TEST_API_KEY", "sandbox-heap-api-key");
    run(command)
        .expect(5)
        .says(&["the lease on the state ended", "it is unknown whether Heap received the request"]);
}

#[test]
fn a_run_writes_the_version_numbers_once() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "");
    for runs in 1..=3 {
        w.source("carts", users(10 * runs)).run(&["reconcile"]).expect(0);
        let newest = w.snapshot(".syncline/heads").pop().unwrap().0;
        assert!(newest.ends_with(format!("{runs:012}.json")), "{newest:?} after {runs} runs");
    }
}

#[test]
fn a_holder_paused_past_its_lease_sends_and_commits_nothing_more() {
    let Some(s3) = S3::start() else { return };
    let (w, sandbox) = in_bucket(&s3, "2s", 500);
    w.write("sync.yaml", w.read("sync.yaml").replace("timeout: 2s", "timeout: 2s\n    batch: 10"));
    sandbox.faults(r#"[{"on":"users","skip":3,"times":1,"do":"hang"}]"#);
    let mut command = command(&w, &["reconcile"]);
    let mut sleeper = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("four requests", || sandbox.requests()["users"].as_u64().unwrap() >= 4);
    let pid = Pid::from_raw(i32::try_from(sleeper.id()).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    // Another process takes over, with another list.
    w.source("carts", users(100).map(|user| format!("new-{user}")));
    until("the lease expires", || reconcile(&w, &["reconcile", "--max-removes", "carts=500"]).code == 0);
    let right = members(users(100).map(|user| format!("new-{user}")));
    assert_eq!(sandbox.members("carts"), right);
    let before = sandbox.writes();
    kill(pid, Signal::SIGCONT).unwrap();
    let status = sleeper.wait().unwrap();
    let mut text = String::new();
    sleeper.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    sleeper.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("lost the lease on the state"), "{text}");
    assert_eq!(status.code(), Some(7), "requests were sent before: {text}");
    assert_eq!(sandbox.writes(), before, "nothing more was sent");
    assert_eq!(sandbox.members("carts"), right);
    reconcile(&w, &["reconcile"]).expect(0).says(&["In sync"]);
    reconcile(&w, &["state", "verify"]).expect(0);
}

/// In a folder, the lock belongs to the process, which keeps it while paused.
#[test]
fn a_paused_holder_keeps_its_folder() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(50));
    sandbox.faults(r#"[{"on":"users","do":{"delay":600}}]"#);
    let mut sleeper = w.command(&["reconcile"]).stdout(Stdio::null()).spawn().unwrap();
    until("a request", || sandbox.requests()["users"].as_u64().unwrap() > 0);
    let pid = Pid::from_raw(i32::try_from(sleeper.id()).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    expect_second_rejected(&w, &sleeper);
    kill(pid, Signal::SIGCONT).unwrap();
    assert!(sleeper.wait().unwrap().success());
    assert_eq!(sandbox.members("carts"), members(users(50)));
}

/// A store that ignores the conditions of writes.
fn careless_store() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let objects = Arc::new(Mutex::new(BTreeMap::<String, Vec<u8>>::new()));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, objects) = (stream.unwrap(), Arc::clone(&objects));
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                loop {
                    let (mut line, mut length) = (String::new(), 0);
                    if reader.read_line(&mut line).unwrap_or(0) == 0 {
                        return;
                    }
                    let (method, path) = line.split_once(' ').unwrap();
                    let path = path.split([' ', '?']).next().unwrap().to_owned();
                    loop {
                        let mut header = String::new();
                        reader.read_line(&mut header).unwrap();
                        if header == "\r\n" {
                            break;
                        }
                        let (name, value) = header.split_once(':').unwrap();
                        if name.eq_ignore_ascii_case("content-length") {
                            length = value.trim().parse().unwrap();
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    let mut objects = objects.lock().unwrap();
                    let (status, response) = match method {
                        "PUT" => {
                            objects.insert(path, body);
                            ("200 OK", Vec::new())
                        }
                        _ => objects
                            .get(&path)
                            .map_or(("404 Not Found", Vec::new()), |found| ("200 OK", found.clone())),
                    };
                    let head = format!(
                        "HTTP/1.1 {status}\r\nETag: \"same\"\r\nLast-Modified: Tue, 24 Nov 2026 00:00:00 GMT\r\nContent-Length: {}\r\n\r\n",
                        response.len()
                    );
                    stream.write_all(head.as_bytes()).unwrap();
                    stream.write_all(&response).unwrap();
                }
            });
        }
    });
    url
}

#[test]
fn a_store_without_conditional_writes_is_rejected() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let url = careless_store();
    let bucket = format!("state: s3://states/x\nbucket: {{ endpoint: '{url}', region: us-east-1 }}\n");
    w.write("sync.yaml", config(&sandbox.url, &["carts"], "") + &bucket).source("carts", users(5));
    reconcile(&w, &["reconcile"]).expect(1).says(&[
        "lacks conditional puts",
        "created again",
        "If-None-Match",
        "nothing was written",
    ]);
    assert_eq!(sandbox.writes(), 0);
}

/// Fails a run at every write of the state, one after the other, until it succeeds.
fn fail_at_every_step(how: &str, fresh: bool) {
    let sandbox = Sandbox::start();
    let mut w = Workspace::new();
    let mut step = 0;
    loop {
        step += 1;
        if step == 1 || fresh {
            w = Workspace::new();
            w.config(&sandbox, &["carts"], "");
        }
        let people = || users(60).skip(step % 7).chain((0..5).map(|n| format!("s{step}-{n}")));
        w.source("carts", people());
        let mut failing = w.command(&["reconcile"]);
        failing.env("SYNCLINE_FAIL_AT", format!("{step}:{how}"));
        let failed = run(failing);
        w.run(&["state", "verify"]).expect(0).says(&["Intact"]);
        let guard = ["reconcile", "--max-removes", "carts=1000", "--max-adds", "carts=1000"];
        let after = w.run(&guard);
        assert_eq!(after.code, 0, "after failing at step {step}: {after:?}");
        if fresh {
            // The sandbox still has members from earlier rounds with another state.
            let has = sandbox.members("carts");
            assert!(members(people()).is_subset(&has), "step {step}");
        } else {
            assert_eq!(sandbox.members("carts"), members(people()), "step {step}");
        }
        let before = sandbox.writes();
        w.run(&["reconcile"]).expect(0).says(&["In sync"]);
        assert_eq!(sandbox.writes(), before, "step {step}");
        if failed.code == 0 {
            assert!(step > 20, "only {step} steps");
            return;
        }
        assert!(step < 400, "the run never succeeds: {failed:?}");
    }
}

#[test]
fn a_full_disk_at_every_step_of_a_run() {
    fail_at_every_step("full", false);
}

#[test]
fn a_kill_at_every_step_of_a_run() {
    fail_at_every_step("die", false);
}

#[test]
fn a_full_disk_at_every_step_of_the_first_run() {
    fail_at_every_step("full", true);
}

#[test]
fn a_kill_at_every_step_of_the_first_run() {
    fail_at_every_step("die", true);
}

/// Sets the modification time of every file below a folder back two hours.
fn age(w: &Workspace, relative: &str) {
    for (path, _) in w.snapshot(relative) {
        let file = fs::File::options().append(true).open(path).unwrap();
        let then = file.metadata().unwrap().modified().unwrap() - Duration::from_secs(2 * 3600);
        file.set_modified(then).unwrap();
    }
}

#[test]
fn unused_files_are_listed_and_then_deleted() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(50));
    w.run(&["reconcile"]).expect(0);
    w.source("carts", users(60).skip(5));
    w.run(&["reconcile"]).expect(0);
    w.write(".syncline/cohorts/carts/parts/.syncline-tmp-crashed", "half a run");
    w.run(&["state", "gc", "--dry-run"]).expect(0).says(&["0 files would be removed"]);
    age(&w, ".syncline/cohorts");
    let before = w.snapshot(".syncline/cohorts");
    w.run(&["state", "gc", "--dry-run"]).expect(0).says(&[
        "parts/.syncline-tmp-crashed",
        "temporary file of a crash",
        "000000000001.json",
        "replaced by a newer version",
    ]);
    assert_eq!(w.snapshot(".syncline/cohorts"), before);
    w.run(&["state", "gc"]).expect(0).says(&["removed"]);
    let remaining = w.snapshot(".syncline/cohorts");
    assert_eq!(remaining.iter().filter(|(path, _)| path.to_str().unwrap().contains("versions")).count(), 1);
    w.run(&["state", "verify"]).expect(0).says(&["Intact: 1 cohort, 1 version"]);
    w.run(&["state", "show", "carts"]).expect(0).says(&["55 members", "0 older versions kept"]);
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
}

#[test]
fn merging_parts_does_not_change_the_membership() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "");
    let parts = |w: &Workspace| {
        let shown = w.run(&["state", "show", "carts", "--format", "json"]).expect(0).json();
        let parts: Vec<(String, u64)> = shown["parts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| (part["id"].as_str().unwrap().to_owned(), part["rows"].as_u64().unwrap()))
            .collect();
        (parts, shown["members"].as_u64().unwrap())
    };
    let users_of =
        |round: usize| users(9_000).skip(round).chain((0..=round % 3).map(|n| format!("late-{n}")));
    w.source("carts", users_of(0));
    w.run(&["reconcile"]).expect(0);
    let base = parts(&w).0[0].clone();
    for round in 1..30 {
        w.source("carts", users_of(round));
        w.run(&["reconcile"]).expect(0);
    }
    let (after, members_now) = parts(&w);
    assert!(after.len() <= 24, "{after:?}");
    assert_eq!(after[0], base, "a large part is not rewritten for few changes");
    assert_eq!(members_now, users_of(29).count() as u64);
    assert_eq!(sandbox.members("carts"), members(users_of(29)));
    w.run(&["state", "verify"]).expect(0);
    let before = sandbox.writes();
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    assert_eq!(sandbox.writes(), before);
    // Now so many members change that all parts are merged into one.
    w.source("carts", users(6_000).chain((0..6_000).map(|n| format!("new-{n}"))));
    w.run(&["reconcile", "--max-removes", "carts=9000"]).expect(0);
    assert_eq!(parts(&w).0.len(), 1);
    w.run(&["state", "verify"]).expect(0);
    w.source("carts", users(5_999).chain((0..6_000).map(|n| format!("new-{n}"))));
    w.run(&["reconcile"]).expect(0).says(&["removed 1; 11,999 members"]);
}

#[test]
fn damage_is_found_and_reported() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(50));
    w.run(&["reconcile"]).expect(0);
    let (run, bytes) = w.snapshot(".syncline/cohorts/carts/parts").pop().unwrap();
    let mut bad = bytes.clone();
    bad[40] ^= 1;
    fs::File::create(&run).unwrap().write_all(&bad).unwrap();
    let name = run.file_name().unwrap().to_str().unwrap().to_owned();
    w.run(&["state", "verify"]).expect(1).says(&["Damaged:", &name, "checksum does not match"]);
    fs::remove_file(&run).unwrap();
    w.run(&["state", "verify"]).expect(1).says(&[&name, "it is missing, and a version names it"]);
}

#[test]
fn a_cohort_without_its_versions_is_not_treated_as_new() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(20));
    w.run(&["reconcile"]).expect(0);
    fs::remove_dir_all(w.path(".syncline/cohorts/carts/versions")).unwrap();
    w.source("carts", users(10));
    let before = sandbox.writes();
    w.run(&["reconcile"]).expect(1).says(&["is older than the last commit", "restore the newer files"]);
    assert_eq!(sandbox.writes(), before);
    w.run(&["state", "verify"]).expect(1).says(&["Damaged:", "older than the last commit"]);
    age(&w, ".syncline/cohorts");
    let runs = w.snapshot(".syncline/cohorts/carts/parts");
    w.run(&["state", "gc"]);
    assert_eq!(w.snapshot(".syncline/cohorts/carts/parts"), runs);
}

#[test]
fn foreign_objects_in_the_bucket_are_not_deleted() {
    let Some(s3) = S3::start() else { return };
    let (w, _sandbox) = in_bucket(&s3, "5s", 5);
    w.write("sync.yaml", w.read("sync.yaml").replace("s3://states/team/prod", "s3://states"));
    reconcile(&w, &["reconcile"]).expect(0);
    reconcile(&w, &["state", "gc"]).expect(0).says(&["0 files removed"]);
    reconcile(&w, &["state", "verify"]).expect(0);
}

/// A run that is killed with a bucket left its journal there.
#[test]
fn a_killed_run_is_in_the_history_of_a_bucket() {
    let Some(s3) = S3::start() else { return };
    let (w, sandbox) = in_bucket(&s3, "2s", 50);
    let mut holder = start_stuck_run(&w, &sandbox);
    holder.kill().unwrap();
    holder.wait().unwrap();
    // Before its lease ends, the run may still be alive.
    until("its lease has ended", || reconcile(&w, &["history"]).expect(0).stdout.contains("interrupted"));
}

/// Changes the cohort in Braze without the program.
fn change_externally(sandbox: &Sandbox, people: &[&str], remove: bool) {
    let body = serde_json::json!({
        "partner_api_key": PARTNER_KEY, "client_secret": IMPORT_KEY, "cohort_id": "carts",
        "cohort_changes": [{ "user_ids": people, "device_ids": [], "aliases": [], "should_remove": remove }],
    });
    let headers = [("content-type", "application/json"), ("user-agent", "partner-Test-Test/1")];
    let response = http(&sandbox.url, "POST", "/partners/heap/cohorts/users", &headers, &body.to_string());
    assert_eq!(response.status / 100, 2, "{}", response.body);
}

#[test]
fn resync_sends_the_recorded_membership_and_shows_its_cost_first() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(50));
    w.run(&["reconcile"]).expect(0);
    w.source("carts", users(45));
    w.run(&["reconcile"]).expect(0);
    change_externally(&sandbox, &["user-1", "user-2"], true);
    change_externally(&sandbox, &["user-48"], false);
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    assert_ne!(sandbox.members("carts"), members(users(45)), "the state cannot be read back");
    fs::remove_file(w.path("carts.csv")).unwrap();

    let (before, files) = (sandbox.writes(), w.snapshot(".syncline"));
    w.run(&["resync", "carts", "--dry-run"]).expect(0).says(&[
        "add 45",
        "remove 5",
        "3 requests, 50 data points",
    ]);
    let ready = "nothing was sent; to send it: syncline resync carts --yes";
    w.run(&["resync", "carts"]).expect(0).says(&["add 45", ready]);
    assert_eq!((sandbox.writes(), w.snapshot(".syncline")), (before, files));
    let run = w.run(&["resync", "carts", "--yes"]).expect(0);
    assert!(run.stderr.contains("50 data points"), "the cost is shown first: {}", run.stderr);
    run.says(&["added 45, removed 5; 45 members"]);
    assert_eq!(sandbox.members("carts"), members(users(45)), "without its source");
    w.source("carts", users(45));
    w.run(&["reconcile"]).expect(0).says(&["In sync: 1 cohort, 45 members"]);
    w.run(&["resync", "cards"])
        .expect(64)
        .says(&["the state has no cohort `cards`", "did you mean `carts`?"]);
}

#[test]
fn concurrent_cohorts_stay_within_the_rate_limit() {
    let (w, sandbox) =
        (Workspace::new(), Sandbox::with(&["--rate-limit", "8", "--rate-window", "1", "--latency", "5"]));
    let cohorts = ["a", "b", "c", "d", "e", "f"];
    w.config(&sandbox, &cohorts, "    batch: 10\n    cohorts_at_once: 4\n");
    for cohort in cohorts {
        w.source(cohort, users(60));
    }
    w.run(&["reconcile"]).expect(0);
    let statuses = sandbox.requests()["statuses"].clone();
    assert_eq!(statuses, serde_json::json!({ "201": 42 }), "the remaining limit is respected");
}

#[test]
fn cohorts_take_turns() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--latency", "3"]));
    w.config(&sandbox, &["large", "small", "tiny"], "    batch: 10\n    cohorts_at_once: 1\n");
    w.source("large", users(1_000)).source("small", users(20)).source("tiny", users(10));
    w.run(&["reconcile"]).expect(0);
    let history = w.run(&["history", "--format", "json"]).json();
    let finished: Vec<&str> = history["runs"][0]["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["event"] == "finished")
        .map(|entry| entry["cohort"].as_str().unwrap())
        .collect();
    assert_eq!(
        (finished.len(), finished.last()),
        (3, Some(&"large")),
        "small cohorts do not wait for a large one"
    );
}
