//! Secrets: a canary key appears in no output, log or file, at any log level and in any failure.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::*;

const CANARY: &str = "canary-4f1c-secret";

fn with_canary() -> (Workspace, Sandbox) {
    let mut sandbox = std::process::Command::new(SYNCLINE);
    sandbox.args(["sandbox", "--port", "0", "--rate-limit", "1000", "--rate-window", "1"]);
    sandbox.env("SYNCLINE_SANDBOX_PARTNER_API_KEY", CANARY).env("SYNCLINE_SANDBOX_DATA_IMPORT_KEY", CANARY);
    let (w, sandbox) = (Workspace::new(), Sandbox::from_command(&mut sandbox));
    w.config(&sandbox, &["carts"], "").source("carts", users(1_200));
    (w, sandbox)
}

/// Runs the program with the canary as both keys and searches all output and files for it.
#[track_caller]
fn check(w: &Workspace, args: &[&str]) -> i32 {
    let mut code = None;
    for more in [&[][..], &["-v"], &["-vv"], &["-vvv"], &["-vvv", "--log-format", "json"]] {
        let mut command = w.command(args);
        command.args(more).env("TEST_IMPORT_KEY", CANARY).env("TEST_PARTNER_KEY", CANARY);
        let run = run(command);
        assert!(!format!("{run:?}").contains(CANARY), "{args:?} {more:?}: {run:?}");
        code.get_or_insert(run.code);
    }
    for (path, bytes) in w.snapshot(".") {
        let holds = memchr::memmem::find(&bytes, CANARY.as_bytes()).is_some();
        let ours = path.to_string_lossy().contains("secrets/");
        assert!(!holds || ours, "found in {}", path.display());
    }
    code.unwrap()
}

#[test]
fn the_canary_is_in_no_output_of_successful_runs() {
    let (w, _sandbox) = with_canary();
    assert_eq!(check(&w, &["reconcile"]), 0);
    for command in ["plan", "status", "history", "validate"] {
        assert_eq!(check(&w, &[command]), 0);
        assert_eq!(check(&w, &[command, "--format", "json"]), 0);
    }
    assert_eq!(check(&w, &["plan", "--out", "a.plan"]), 0);
}

#[test]
fn the_canary_is_in_no_output_of_failed_runs() {
    let echo = format!(r#"{{"message":"no: {CANARY}","errors":["{CANARY}"]}}"#);
    let replies = [400, 401, 403, 404, 423, 429, 500].map(|status| {
        format!(r#"{{"times":0,"do":{{"reply":{{"status":{status},"body":{echo},"headers":[["x-ratelimit-reset","1"]]}}}}}}"#)
    });
    let others = [
        format!(r#"{{"on":"users","times":0,"do":{{"done_but":{echo}}}}}"#),
        r#"{"times":0,"do":"reset"}"#.to_owned(),
        r#"{"times":0,"do":"lose_answer"}"#.to_owned(),
    ];
    for fault in replies.iter().chain(&others) {
        let (w, sandbox) = with_canary();
        w.write("sync.yaml", w.read("sync.yaml").replace("attempts: 4", "attempts: 2"));
        sandbox.faults(&format!("[{fault}]"));
        assert_ne!(check(&w, &["reconcile"]), 0, "{fault}");
        check(&w, &["history", "--format", "json"]);
    }
    // Braze's 401 contains the client secret.
    let (w, sandbox) = with_canary();
    w.write(
        "sync.yaml",
        w.read("sync.yaml").replace("    kind: braze\n", "    kind: braze\n    partner: another\n"),
    );
    assert_eq!(check(&w, &["reconcile"]), 4);
    drop(sandbox);
    w.write("sync.yaml", w.read("sync.yaml").replace("attempts: 4", "attempts: 1"));
    assert_eq!(check(&w, &["reconcile"]), 5, "no listener");
}

#[test]
fn the_canary_is_not_in_the_process_list() {
    let (w, sandbox) = with_canary();
    sandbox.faults(r#"[{"times":0,"do":"hang"}]"#);
    let mut command = w.command(&["reconcile"]);
    command.env("TEST_IMPORT_KEY", CANARY).env("TEST_PARTNER_KEY", CANARY);
    let mut child = command.spawn().unwrap();
    until("the first request", || sandbox.writes() > 0);
    let line = std::fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.contains("reconcile") && !line.contains(CANARY));
}

#[test]
fn key_files_must_be_readable_only_by_their_owner() {
    let (w, sandbox) = with_canary();
    let text = w.read("sync.yaml");
    w.write("sync.yaml", text.replace("{ env: TEST_IMPORT_KEY }", "{ file: secrets/import }"));
    w.write("secrets/import", format!("{CANARY}\n"));
    let mode = |mode| {
        std::fs::set_permissions(w.path("secrets/import"), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (open, by) in [
        (0o604, "can be read or written by all users"),
        (0o602, "can be read or written by all users"),
        (0o644, "can be read or written by all users"),
        (0o660, "can be written by its group"),
        (0o620, "can be written by its group"),
    ] {
        mode(open);
        let says = [by, &format!("(mode {open:04o})"), "chmod 600", "`fsGroup:`", "`defaultMode: 0440`"];
        let mut command = w.command(&["reconcile"]);
        command.env("TEST_PARTNER_KEY", CANARY);
        run(command).expect(4).says(&says);
    }
    assert_eq!(sandbox.writes(), 0);
    // A new file has the group of the process.
    for closed in [0o600, 0o400, 0o640, 0o440] {
        mode(closed);
        assert_eq!(check(&w, &["reconcile"]), 0, "{closed:o}");
    }
    // Only root can assign a file to another group.
    if std::os::unix::fs::chown(w.path("secrets/import"), None, Some(4242)).is_ok() {
        let mut command = w.command(&["reconcile"]);
        command.env("TEST_PARTNER_KEY", CANARY);
        run(command).expect(4).says(&["can be read by group 4242, and this process is in group", "chgrp"]);
    }
    mode(0o600);
    for (quoted, says) in [
        (format!("\"{CANARY}\""), "the data import key of `braze` is in quotes"),
        (format!("'{CANARY}'\n"), "the data import key of `braze` is in quotes"),
        (format!("\u{feff}{CANARY}"), "the data import key of `braze` begins with a byte order mark"),
    ] {
        w.write("secrets/import", quoted);
        let mut command = w.command(&["doctor"]);
        command.env("TEST_PARTNER_KEY", CANARY);
        run(command).says(&[says]);
    }
    w.write("secrets/import", " \n");
    w.run(&["reconcile"]).expect(4).says(&["import contains no key"]);
    std::fs::remove_file(w.path("secrets/import")).unwrap();
    w.run(&["reconcile"]).expect(4).says(&["cannot read", "secrets/import"]);
}

/// What users who are no partners of Braze can do.
const ALTERNATIVE: &str =
    "without a partner key, use `deliver: attribute` in the cohorts: it needs only `rest_api_key`";

#[test]
fn a_missing_key_is_reported_before_anything_is_read() {
    let (w, sandbox) = with_canary();
    std::fs::remove_file(w.path("carts.csv")).unwrap();
    let mut command = w.command(&["reconcile"]);
    command.env_remove("TEST_PARTNER_KEY");
    run(command).expect(4).says(&[
        "connection `braze` has no partner API key",
        "TEST_PARTNER_KEY is not set",
        ALTERNATIVE,
    ]);
    let mut command = w.command(&["doctor"]);
    command.env_remove("TEST_PARTNER_KEY");
    run(command).expect(11).says(&["connection `braze` has no partner API key", ALTERNATIVE]);
    assert_eq!(sandbox.writes(), 0);
}
