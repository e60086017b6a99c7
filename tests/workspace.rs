//! The workspace of a state: keys of another workspace are rejected, and a new key of the same workspace is
//! adopted.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::*;

/// Runs the program with another data import key.
fn with_key(w: &Workspace, key: &str, args: &[&str]) -> Run {
    let mut command = w.command(args);
    command.env("TEST_IMPORT_KEY", key);
    run(command)
}

fn filled() -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(10));
    w.run(&["reconcile"]).expect(0);
    (w, sandbox)
}

#[test]
fn another_workspace_is_rejected_before_anything_is_sent() {
    let (w, sandbox) = filled();
    w.run(&["plan", "--out", "saved.plan"]).expect(0);
    // Only the holder of the state and the failed runs are recorded there.
    let state = || {
        let mut files = w.snapshot(".syncline");
        let is_record = |name: &str| ["lease.json", "heads", "journal", "outcomes"].contains(&name);
        files.retain(|(path, _)| !path.iter().filter_map(|name| name.to_str()).any(is_record));
        files
    };
    let (before, requests) = (state(), sandbox.writes());
    let expected = [
        "the data import key of `braze` is not the one that this state's members were sent with",
        "if it is a new key of the same workspace: syncline state adopt braze",
        "if it is another workspace: it has none of the recorded members; give it its own `state:`",
    ];
    for args in
        [&["plan"][..], &["reconcile"], &["reconcile", "--plan", "saved.plan"], &["resync", "carts", "--yes"]]
    {
        with_key(&w, "canary-other", args).expect(6).says(&expected);
    }
    assert_eq!(sandbox.writes(), requests, "nothing was sent");
    assert!(state() == before, "and no membership was written");
    let mut command = w.command(&["plan"]);
    command.env_remove("TEST_IMPORT_KEY");
    run(command).expect(0);
    w.run(&["reconcile"]).expect(0);
}

#[test]
fn the_state_contains_no_part_of_a_key() {
    let (w, _sandbox) = filled();
    let files = w.snapshot(".syncline");
    assert!(files.iter().any(|(path, _)| path.to_string_lossy().contains("workspaces/braze/versions")));
    for (path, bytes) in files {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for key in [IMPORT_KEY, PARTNER_KEY, REST_KEY] {
            assert!(!text.contains(key), "{}", path.display());
        }
    }
    // Two states of one workspace share no data that reveals it.
    let mark = |w: &Workspace| {
        let path = ".syncline/workspaces/braze/versions/000000000001.json";
        serde_json::from_str::<Value>(&w.read(path)).unwrap()["keys"]["data_import"].clone()
    };
    let (other, _sandbox) = filled();
    assert_ne!(mark(&w), mark(&other));
}

#[test]
fn a_replaced_key_is_adopted_explicitly() {
    let w = Workspace::new();
    let memory = w.path("memory");
    let start = |port: &str, key: &str| {
        let mut command = Command::new(SYNCLINE);
        command.args(["sandbox", "--port", port, "--memory", memory.to_str().unwrap()]);
        Sandbox::from_command(command.env("SYNCLINE_SANDBOX_DATA_IMPORT_KEY", key))
    };
    let sandbox = start("0", IMPORT_KEY);
    w.config(&sandbox, &["carts"], "").source("carts", users(10));
    w.run(&["reconcile"]).expect(0);
    let port = sandbox.url.rsplit(':').next().unwrap().to_owned();
    drop(sandbox);
    let sandbox = start(&port, "renewed");
    w.source("carts", users(12));
    with_key(&w, "renewed", &["reconcile"]).expect(6);
    with_key(&w, "renewed", &["state", "adopt", "absent"]).expect(64).says(&["it has `braze`"]);
    with_key(&w, "renewed", &["state", "adopt", "braze"])
        .expect(0)
        .says(&["adopted the keys of braze: data_import"]);
    let second = with_key(&w, "renewed", &["state", "adopt", "braze", "--format", "json"]).expect(0).json();
    assert_eq!(second["adopted"], json!([]), "reported once");
    with_key(&w, "renewed", &["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts").len(), 12);
    w.run(&["reconcile"]).expect(6).says(&["is not the one"]);
}

#[test]
fn an_older_state_adopts_keys_after_a_successful_request() {
    let (w, _sandbox) = filled();
    for folder in ["workspaces", "heads"] {
        std::fs::remove_dir_all(w.path(&format!(".syncline/{folder}"))).unwrap();
    }
    std::fs::remove_file(w.path(".syncline/lease.json")).unwrap();
    let is_known = || w.path(".syncline/workspaces/braze").exists();
    with_key(&w, "other", &["reconcile"]).expect(0).says(&["In sync"]);
    assert!(!is_known(), "no request has confirmed the key");
    w.source("carts", users(11));
    with_key(&w, "other", &["reconcile"]).expect(4);
    assert!(!is_known(), "a rejected request does not confirm the key");
    w.run(&["reconcile"]).expect(0);
    assert!(is_known());
    with_key(&w, "other", &["reconcile"]).expect(6);
}

#[test]
fn a_connection_that_is_renamed_is_the_same_workspace() {
    let (w, sandbox) = filled();
    let renamed = w.read("sync.yaml").replace("  braze:\n", "  acme:\n    formerly: [braze]\n");
    w.write("sync.yaml", renamed.replace("to: braze", "to: acme"));
    w.source("carts", users(12));
    with_key(&w, "other", &["reconcile"]).expect(6).says(&["of `acme`", "syncline state adopt acme"]);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts").len(), 12);
}

#[test]
fn the_rest_key_is_recorded_as_well() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let more = "    rest_api_key: { env: TEST_REST_KEY }
segments:
  - { id: s, connection: braze, segment: { name: S }, include: [carts] }
";
    w.config(&sandbox, &["carts"], more).source("carts", users(100));
    w.run(&["reconcile"]).expect(0);
    sandbox.admin_post("/_sandbox/segments", r#"[{"name": "S", "include": ["carts"]}]"#);
    sandbox.admin_post("/_sandbox/keys", r#"[{"key": "other", "permissions": ["segments.list"]}]"#);
    w.run(&["check"]).expect(0);
    let requests = sandbox.requests()["rest"]["endpoints"]["segments_list"].clone();
    let other = |args: &[&str]| {
        let mut command = w.command(args);
        command.env("TEST_REST_KEY", "other");
        run(command)
    };
    other(&["check"])
        .expect(4)
        .says(&["the REST key is not the one recorded in this state", "syncline state adopt"]);
    assert_eq!(sandbox.requests()["rest"]["endpoints"]["segments_list"], requests, "no request was sent");
    other(&["state", "adopt", "braze"]).expect(0).says(&["adopted the keys of braze: rest"]);
    other(&["check"]).expect(4).says(&["lacks the permission `segments.details`"]);
}

#[test]
fn watch_waits_until_a_key_is_adopted() {
    let (w, sandbox) = filled();
    let config = w.read("sync.yaml") + crate::support::watch::SHORT_TIMEOUTS;
    w.write("sync.yaml", config).source("carts", users(12));
    let mut command = w.command(&["watch"]);
    let watch = crate::support::watch::Watch::from_command(command.env("TEST_IMPORT_KEY", "renewed"));
    watch.until_logs("is not the one that this state's members were sent with", 1);
    assert_eq!(sandbox.members("carts").len(), 10);
    with_key(&w, "renewed", &["state", "adopt", "braze"]).expect(0);
    // `watch` sends a request then, and this sandbox rejects the key.
    watch.until_logs("Braze rejects the keys", 1);
    assert_eq!(watch.stop(), 0);
}
