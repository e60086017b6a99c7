//! Which workspace a state is about: keys of another one are refused, and a new key of the same one is adopted.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::*;

/// Runs the program with another data import key than the sandbox's.
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
fn another_workspace_is_refused_before_anything_is_sent() {
    let (w, sandbox) = filled();
    w.run(&["plan", "--out", "saved.plan"]).expect(0);
    // Who holds the state is written down there, and nothing else.
    let state = || {
        let mut files = w.snapshot(".syncline");
        files.retain(|(path, _)| !path.ends_with("lease.json"));
        files
    };
    let (before, asked) = (state(), sandbox.writes());
    let refused = [
        "the data import key of `braze` is not the one that this state's records were sent with",
        "if it is a new key of the same workspace: syncline state adopt braze",
        "if it is another workspace: nobody of the record is there; give it a `state:` of its own",
    ];
    for args in [&["plan"][..], &["reconcile"], &["reconcile", "--plan", "saved.plan"], &["resync", "carts"]]
    {
        with_key(&w, "canary-other", args).expect(6).says(&refused);
    }
    assert_eq!(sandbox.writes(), asked, "nothing was sent");
    assert!(state() == before, "and nothing was written");
    let mut command = w.command(&["plan"]);
    command.env_remove("TEST_IMPORT_KEY");
    run(command).expect(0);
    w.run(&["reconcile"]).expect(0);
}

#[test]
fn no_key_and_nothing_of_one_is_in_the_state() {
    let (w, _sandbox) = filled();
    let files = w.snapshot(".syncline");
    assert!(files.iter().any(|(path, _)| path.to_string_lossy().contains("workspaces/braze/versions")));
    for (path, bytes) in files {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for key in [IMPORT_KEY, PARTNER_KEY, REST_KEY] {
            assert!(!text.contains(key), "{}", path.display());
        }
    }
    // Two states of one workspace have nothing in common that tells of it.
    let mark = |w: &Workspace| {
        let path = ".syncline/workspaces/braze/versions/000000000001.json";
        serde_json::from_str::<Value>(&w.read(path)).unwrap()["keys"]["data_import"].clone()
    };
    let (other, _sandbox) = filled();
    assert_ne!(mark(&w), mark(&other));
}

#[test]
fn a_key_that_was_replaced_is_adopted_in_so_many_words() {
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
    with_key(&w, "renewed", &["state", "adopt", "nobody"]).expect(64).says(&["it has braze"]);
    with_key(&w, "renewed", &["state", "adopt", "braze"])
        .expect(0)
        .says(&["adopted the keys of braze: data_import"]);
    let again = with_key(&w, "renewed", &["state", "adopt", "braze", "--format", "json"]).expect(0).json();
    assert_eq!(again["adopted"], json!([]), "once is enough");
    with_key(&w, "renewed", &["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts").len(), 12);
    w.run(&["reconcile"]).expect(6).says(&["is not the one"]);
}

#[test]
fn a_state_from_before_adopts_when_braze_takes_something() {
    let (w, _sandbox) = filled();
    for folder in ["workspaces", "heads"] {
        std::fs::remove_dir_all(w.path(&format!(".syncline/{folder}"))).unwrap();
    }
    std::fs::remove_file(w.path(".syncline/lease.json")).unwrap();
    let is_known = || w.path(".syncline/workspaces/braze").exists();
    with_key(&w, "other", &["reconcile"]).expect(0).says(&["In step"]);
    assert!(!is_known(), "nothing has shown that the key is good");
    w.source("carts", users(11));
    with_key(&w, "other", &["reconcile"]).expect(4);
    assert!(!is_known(), "nor that it is, when Braze refuses it");
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
fn a_rest_key_is_known_as_well() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let more = "    rest_api_key: { env: TEST_REST_KEY }
segments:
  - { id: s, connection: braze, segment: { name: S }, include: [carts] }
";
    w.config(&sandbox, &["carts"], more).source("carts", users(100));
    w.run(&["reconcile"]).expect(0);
    sandbox.door("/_sandbox/segments", r#"[{"name": "S", "include": ["carts"]}]"#);
    sandbox.door("/_sandbox/keys", r#"[{"key": "other", "permissions": ["segments.list"]}]"#);
    w.run(&["check"]).expect(0);
    let asked = sandbox.requests()["rest"]["endpoints"]["segments_list"].clone();
    let other = |args: &[&str]| {
        let mut command = w.command(args);
        command.env("TEST_REST_KEY", "other");
        run(command)
    };
    other(&["check"])
        .expect(4)
        .says(&["the REST key is not the one that this state knows", "syncline state adopt"]);
    assert_eq!(sandbox.requests()["rest"]["endpoints"]["segments_list"], asked, "nobody was asked");
    other(&["state", "adopt", "braze"]).expect(0).says(&["adopted the keys of braze: rest"]);
    other(&["check"]).expect(4).says(&["lacks the permission `segments.details`"]);
}

#[test]
fn a_server_waits_for_a_key_to_be_adopted() {
    let (w, sandbox) = filled();
    let config = w.read("sync.yaml") + crate::support::watch::PATIENCE;
    w.write("sync.yaml", config).source("carts", users(12));
    let mut command = w.command(&["watch"]);
    let watch = crate::support::watch::Watch::from_command(command.env("TEST_IMPORT_KEY", "renewed"));
    watch.until_logs("is not the one that this state's records were sent with", 1);
    assert_eq!(sandbox.members("carts").len(), 10);
    with_key(&w, "renewed", &["state", "adopt", "braze"]).expect(0);
    // It asks then, and this sandbox says that the key is none of its own.
    watch.until_logs("Braze refuses the keys", 1);
    assert_eq!(watch.stop(), 0);
}
