//! `forget`: erases a user from every file of the state, or says why it does not.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::s3::{S3, with_keys};
use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

const CANARY: &str = "canary-7351";
const CAMPAIGN: &str = "3aca937b-9bbc-4e42-9370-05e411967b2b";

/// Files of the state that contain a text, including inside compressed blocks.
fn files_with(w: &Workspace, text: &str) -> Vec<String> {
    let has = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    let packed = |bytes: &[u8]| {
        let starts = bytes.windows(4).enumerate().filter(|(_, magic)| *magic == [0x28, 0xb5, 0x2f, 0xfd]);
        starts.map(|(at, _)| at).any(|at| {
            let Ok(mut decoder) = zstd::stream::read::Decoder::new(&bytes[at..]) else { return false };
            let mut unpacked = Vec::new();
            let _ = std::io::Read::read_to_end(&mut decoder, &mut unpacked);
            has(&unpacked)
        })
    };
    let state = w.path(".syncline");
    let files = w.snapshot(".syncline").into_iter().filter(|(_, bytes)| has(bytes) || packed(bytes));
    files.map(|(path, _)| path.strip_prefix(&state).unwrap().to_str().unwrap().to_owned()).collect()
}

type StateFile = (std::path::PathBuf, Vec<u8>);

/// The files of the state without the lease and the version numbers, which opening may write.
fn state(w: &Workspace) -> Vec<StateFile> {
    let mut files = w.snapshot(".syncline");
    files.retain(|(path, _)| !path.ends_with("lease.json") && !path.to_str().unwrap().contains("/heads/"));
    files
}

fn with_canary(n: usize) -> impl Iterator<Item = String> {
    users(n).chain([CANARY.to_owned()])
}

/// Whether any file in a folder of the state has the user.
fn is_in(files: &[String], folder: &str) -> bool {
    files.iter().any(|file| file.starts_with(folder))
}

/// A cohort that the user entered and left, with triggers and several parts.
fn with_former_member() -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let api = json!([{ "id": CAMPAIGN, "name": "Welcome", "is_api": true }]).to_string();
    sandbox.admin_post("/_sandbox/campaigns", &api);
    w.config(&sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n");
    w.write("sync.yaml", w.read("sync.yaml") + &format!("    on_enter: {{ campaign: {CAMPAIGN} }}\n"));
    w.source("carts", users(300)).run(&["reconcile"]).expect(0);
    w.source("carts", with_canary(310)).run(&["reconcile"]).expect(0);
    (w, sandbox)
}

#[test]
fn a_member_is_not_erased_and_nothing_changes() {
    let (w, sandbox) = with_former_member();
    w.run(&["status"]).expect(0);
    let before = state(&w);
    let said = w.run(&["forget", CANARY]).expect(6);
    let said = said
        .says(&["not erased: the user is a member of cohort carts", "Remove the user from the source first"]);
    assert!(!format!("{}{}", said.stdout, said.stderr).contains(CANARY));
    let report = w.run(&["forget", CANARY, "--format", "json"]).expect(6).json();
    assert_eq!((&report["result"], &report["member_of"]), (&json!("not_erased"), &json!(["carts"])));
    let after = state(&w);
    let differs = |one: &[StateFile], other: &[StateFile]| -> Vec<std::path::PathBuf> {
        one.iter().filter(|file| !other.contains(file)).map(|(path, _)| path.clone()).collect()
    };
    assert_eq!((differs(&before, &after), differs(&after, &before)), (vec![], vec![]), "nothing is changed");
    w.assert_in_sync(&sandbox);
}

#[test]
fn a_user_is_erased_from_every_file_of_the_state() {
    let (w, sandbox) = with_former_member();
    w.source("carts", users(305)).run(&["reconcile"]).expect(0).says(&["removed 6"]);
    let found = files_with(&w, CANARY);
    assert!(is_in(&found, "cohorts/carts/parts") && is_in(&found, "triggers/carts"), "{found:?}");
    let report = w.run(&["forget", CANARY, "--format", "json"]).expect(0).json();
    assert_eq!(report["result"], "erased");
    assert_eq!(
        (&report["erased"]["members"], &report["erased"]["triggers"]),
        (&json!(2), &json!(1)),
        "{report:#}"
    );
    let paths: Vec<&str> =
        report["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths.iter().filter(|path| path.starts_with("cohorts/carts/parts/")).count(), 2, "{paths:?}");
    assert_eq!(files_with(&w, CANARY), Vec::<String>::new());
    assert!(!files_with(&w, "user-9").is_empty(), "others stay");
    w.run(&["state", "verify"]).expect(0);
    // The data of other users is unchanged.
    w.assert_in_sync(&sandbox);
    assert_eq!(sandbox.members("carts"), members(users(305)));
    w.source("carts", users(307)).run(&["reconcile"]).expect(0).says(&["added 2"]);
    assert_eq!(sandbox.members("carts"), members(users(307)));
    w.run(&["forget", CANARY]).expect(0).says(&["nothing to erase"]);
}

/// The identity map connects devices to the user; they are erased together.
#[test]
fn devices_and_aliases_of_the_user_are_erased_as_well() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let rules = "  - id: carts\n    name: Carts\n    to: braze\n    source: { kind: file, path: carts.csv }\n    match:\n      \
                 - external_id: identity\n      - device_id: device\n";
    w.write("sync.yaml", config(&sandbox.url, &[], "") + rules);
    w.write("carts.csv", "identity,device\nu1,\n,device-5512\nu2,\n").run(&["reconcile"]).expect(0);
    w.write("who.csv", format!("id,device\n{CANARY},device-5512\n"));
    w.run(&["identity", "import", "who.csv", "--external-id", "id", "--device-id", "device"]).expect(0);
    w.run(&["forget", CANARY]).expect(6).says(&["a member of cohort carts"]);
    w.write("carts.csv", "identity,device\nu1,\nu2,\n");
    w.run(&["reconcile"]).expect(0).says(&["2 members"]);
    assert!(!files_with(&w, "device-5512").is_empty());
    w.run(&["forget", CANARY])
        .expect(0)
        .says(&["of recorded memberships", "erased 1 entry of the identity map"]);
    for text in [CANARY, "device-5512"] {
        assert_eq!(files_with(&w, text), Vec::<String>::new());
    }
    w.assert_in_sync(&sandbox);
}

/// After a stop at any write, a second erasure completes the first.
#[test]
fn a_second_erasure_completes_an_interrupted_one() {
    let mut finished = false;
    for step in (0..).step_by(3) {
        let (w, sandbox) = with_former_member();
        w.source("carts", users(305)).run(&["reconcile"]).expect(0);
        let mut command = w.command(&["forget", CANARY]);
        let status = command
            .env("SYNCLINE_FAIL_AT", format!("{step}:die"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        w.run(&["state", "verify"]).expect(0);
        w.run(&["forget", CANARY]).expect(0);
        assert_eq!(files_with(&w, CANARY), Vec::<String>::new(), "step {step}");
        w.assert_in_sync(&sandbox);
        finished = status.success();
        if finished {
            break;
        }
        assert!(step < 200, "the loop ends");
    }
    assert!(finished);
}

/// A request without a response may still add the user: the state needs the identifier until that is settled.
#[test]
fn identifiers_in_doubt_stay_until_they_are_settled() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "    settle_again_after: 1ms\n");
    w.source("carts", users(10)).run(&["reconcile"]).expect(0);
    w.source("carts", with_canary(10)).kill_during_request(&sandbox, "users", "users");
    w.run(&["forget", CANARY]).expect(6).says(&["or in doubt there"]);
    w.source("carts", users(10)).run(&["reconcile"]).expect(0).says(&["removed 1"]);
    let report = w.run(&["forget", CANARY, "--format", "json"]).expect(7).json();
    assert_eq!((&report["result"], &report["left"]["late"][0]["cohort"]), (&json!("left"), &json!("carts")));
    w.run(&["forget", CANARY])
        .expect(7)
        .says(&["left in cohort carts: a request without an answer", "until 20"]);
    w.run(&["state", "verify"]).expect(0);
    sandbox.admin_post("/_sandbox/release", "");
    assert!(sandbox.members("carts").contains(&format!("external_id {CANARY}")));
    w.run(&["reconcile"]).expect(0).says(&["removed 1"]);
    assert_eq!(sandbox.members("carts"), members(users(10)));
    w.run(&["forget", CANARY]).expect(0);
    assert_eq!(files_with(&w, CANARY), Vec::<String>::new());
    w.assert_in_sync(&sandbox);
}

/// A segment that lists the user and one that the user has left, in tables and changes.
#[test]
fn segment_tables_no_longer_have_the_user() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let connection =
        format!("  heap: {{ kind: heap, webhook_secret: {{ env: TEST_WEBHOOK }} }}\n{SHORT_TIMEOUTS}");
    let cohort = cohort_entry("free", "")
        .replace("external_id: identity", "external_id: id")
        .replace("{ kind: file, path: free.csv }", "{ kind: heap_segment, connection: heap, segment_id: 7 }");
    w.write("sync.yaml", config(&sandbox.url, &[], &connection) + &cohort);
    let start = || {
        let watch = Watch::from_command(w.command(&["watch"]).env("TEST_WEBHOOK", "whsec_test"));
        watch.until_ready();
        let url = format!("{}/heap/heap", watch.endpoints());
        let webhook = json!({ "url": url, "secret": "whsec_test", "page_len": 10, "first_wait": 20 });
        sandbox.admin_post("/_sandbox/heap/webhook", &webhook.to_string());
        watch
    };
    let define = |id: u64, ids: Vec<String>| {
        let segment = json!({ "id": id, "name": "Free", "members": ids });
        sandbox.admin_post("/_sandbox/heap/segments", &segment.to_string());
    };
    let sync = || assert!(http(&sandbox.url, "POST", "/_sandbox/heap/sync", &[], "").status < 300);
    let watch = start();
    define(7, with_canary(25).collect());
    define(8, with_canary(3).collect());
    sync();
    until("the users are in", || sandbox.members("free").len() == 26);
    let status = || w.run(&["status", "--format", "json"]).expect(0).json();
    until("Heap has delivered both segments", || {
        status()["heap_connections"][0]["segments"].as_array().unwrap().len() == 2
    });
    watch.stop();
    w.run(&["forget", CANARY]).expect(6).says(&["a member of cohort free"]);
    let watch = start();
    let change = json!({ "remove": [CANARY] }).to_string();
    sandbox.admin_post("/_sandbox/heap/segments/7/change", &change);
    sync();
    until("one member has left", || sandbox.members("free").len() == 25);
    watch.stop();
    let found = files_with(&w, CANARY);
    assert!(is_in(&found, "segments/heap/parts"), "{found:?}");
    let report = w.run(&["forget", CANARY, "--format", "json"]).expect(0).json();
    assert!(report["erased"]["segments"].as_u64() >= Some(2), "{report:#}");
    assert_eq!(report["listed"], json!([{ "connection": "heap", "segment": 8 }]));
    assert_eq!(files_with(&w, CANARY), Vec::<String>::new());
    w.run(&["state", "verify"]).expect(0);
    // The table is unchanged for the others, and ingest continues.
    let watch = start();
    sandbox.admin_post("/_sandbox/heap/segments/7/change", &json!({ "add": ["new-1"] }).to_string());
    sync();
    until("a new member is in", || sandbox.members("free") == members(users(25).chain(["new-1".to_owned()])));
    watch.stop();
    assert_eq!(status()["heap_connections"][0]["segments"][1]["members"], Value::from(3));
}

/// In a bucket, where rejects are in parts and files cannot be replaced.
#[test]
fn a_user_is_erased_from_a_state_in_a_bucket() {
    let Some(s3) = S3::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox.url, &["carts"], "") + &s3.config("5s"));
    let run_command = |args: &[&str]| with_keys(&w, args);
    // An overlong row with the user's id, and a row of another user.
    let long = |id: &str| format!("{id} ").repeat(200);
    w.source("carts", with_canary(20).chain([long(CANARY), long("other-1")]));
    run_command(&["reconcile"]).expect(0);
    w.source("carts", users(20));
    run_command(&["reconcile"]).expect(0).says(&["removed 1"]);
    let found = s3.keys_with("team/prod/", CANARY);
    assert!(found.iter().any(|key| key.contains("/rejects/")), "{found:?}");
    let report = run_command(&["forget", CANARY, "--format", "json"]).expect(0).json();
    assert_eq!(
        (&report["result"], &report["erased"]["rejects"]),
        (&json!("erased"), &json!(1)),
        "{report:#}"
    );
    assert_eq!(s3.keys_with("team/prod/", CANARY), Vec::<String>::new());
    let rejects = s3.keys_with("team/prod/rejects/", "other-1");
    assert_eq!(rejects.len(), 1, "others stay: {rejects:?}");
    let verified = run_command(&["state", "verify"]).expect(0);
    assert!(!verified.stdout.contains("is damaged"), "{}", verified.stdout);
    run_command(&["reconcile"]).expect(0).says(&["In sync"]);
}

/// Damaged lines, JSON or not, and lines of other users, in a file of many lines.
#[test]
fn rejects_are_erased_line_by_line() {
    let (w, _sandbox) = with_former_member();
    w.source("carts", users(305)).run(&["reconcile"]).expect(0);
    let subject = "20260101t000000000z-00000a/carts";
    let mut lines: Vec<String> = (0..20_000).map(|n| format!("{{\"value\":\"user-{n}\"}}")).collect();
    lines[7_777] = format!("{{\"value\":\"{CANARY}\"}}");
    let sealed = with_line_checksums(subject, &lines.join("\n"));
    // The key of the value is damaged, and the end of the file.
    let damaged =
        format!("{{\"valve\":\"{CANARY}\",\"checksum\":\"0000000000000000\"}}\n{{\"value\":\"{CANARY}\"");
    w.write(&format!(".syncline/rejects/{subject}.ndjson"), sealed.clone() + &damaged);
    let report = w.run(&["forget", CANARY, "--format", "json"]).expect(0).json();
    assert_eq!(report["erased"]["rejects"], json!(3), "{report:#}");
    let files = w.snapshot(".syncline/rejects/20260101t000000000z-00000a");
    assert_eq!(files.len(), 1);
    let kept: Vec<&str> = sealed.lines().filter(|line| !line.contains(CANARY)).collect();
    assert!(String::from_utf8_lossy(&files[0].1).lines().eq(kept), "the others are unchanged");
    w.run(&["state", "verify"]).expect(0);
}
