//! Command line: usage, exit codes, formats, colors, and the smaller commands.

use crate::support::*;

#[test]
fn usage_errors_end_with_64_and_help_does_not() {
    let w = Workspace::new();
    for args in [
        &[][..],
        &["recncile"],
        &["plan", "--nope"],
        &["reconcile", "--plan", "a", "--expect", "b"],
        &["plan", "A B"],
    ] {
        let run = w.run(args).expect(64);
        assert_eq!(run.stdout, "", "{args:?}");
    }
    w.run(&["--help"]).expect(0).says(&["Cohorts as code", "Exit codes: 0 done or in sync"]);
    w.run(&["reconcile", "--help"]).expect(0).says(&["--max-removes <COHORT=N>"]);
    w.run(&["--version"]).expect(0).says(&[&format!("syncline {}", env!("CARGO_PKG_VERSION"))]);
}

#[test]
fn every_json_output_has_a_version_and_a_result() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(2));
    for (command, result) in [
        ("validate", "valid"),
        ("plan", "changes"),
        ("reconcile", "applied"),
        ("reconcile", "in_sync"),
        ("plan", "in_sync"),
        ("status", "status"),
        ("history", "history"),
    ] {
        let json = w.run(&[command, "--format", "json"]).expect(0).json();
        assert_eq!(
            (json["format_version"].as_u64(), json["command"].as_str(), json["result"].as_str()),
            (Some(1), Some(command), Some(result))
        );
    }
    w.write("sync.yaml", "version: 9\n");
    for command in ["plan", "reconcile", "status", "history"] {
        let run = w.run(&[command, "--format", "json"]).expect(3);
        let json = run.json();
        let problems = w.run(&["validate", "--format", "json"]).json()["problems"].clone();
        assert!(problems[0]["location"]["line"].is_u64() && json["problems"] == problems, "{json}");
        assert_eq!((json["result"].as_str(), json["error"]["exit_code"].as_u64()), (Some("error"), Some(3)));
        run.says(&["error[unknown-value]"]);
    }
}

#[test]
fn status_and_history_show_past_runs() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(40)).source("trials", users(1));
    w.run(&["status"]).expect(0).says(&["nothing sent yet", "State: none yet in .syncline"]);
    w.run(&["history"]).expect(0).says(&["No run yet."]);
    w.run(&["reconcile"]).expect(0);
    w.source("carts", users(38));
    w.run(&["reconcile"]).expect(0);
    let status = w.run(&["status", "--format", "json"]).expect(0).json();
    let carts = &status["cohorts"][0];
    assert_eq!((carts["id"].as_str(), carts["membership"]["members"].as_u64()), (Some("carts"), Some(38)));
    assert_eq!(carts["membership"]["endpoint"].as_str(), Some(sandbox.url.as_str()));
    let history = w.run(&["history", "--format", "json"]).expect(0).json();
    let results: Vec<&str> =
        history["runs"].as_array().unwrap().iter().map(|p| p["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["applied", "applied"]);
    w.run(&["history", "-n", "1"]).expect(0).says(&["carts: added 0, removed 2"]);
    w.config(&sandbox, &["trials"], "");
    w.run(&["status"]).expect(0).says(&["carts", "38 members", "orphaned"]);
}

#[test]
fn colors_are_used_only_on_request_or_terminals() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(2));
    let coloured = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = w.command(args);
        command.envs(env.iter().copied());
        run(command).expect(0).stdout.contains('\u{1b}')
    };
    assert!(!coloured(&["plan"], &[]), "no colors in a pipe");
    assert!(coloured(&["plan", "--color", "always"], &[]));
    assert!(coloured(&["plan"], &[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&["plan"], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
    assert!(!coloured(&["plan", "--color", "never"], &[("CLICOLOR_FORCE", "1")]));
}

#[test]
fn data_goes_to_stdout_and_the_rest_to_stderr() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(2_000));
    sandbox.faults(r#"[{"on":"users","do":{"status":503}}]"#);
    let run = w.run(&["reconcile", "-vv", "--format", "json"]).expect(0);
    assert_eq!(run.json()["result"], "applied");
    assert!(run.stderr.contains("Braze responds with status 503; attempt 2 of 4 in 0.0 s"), "{}", run.stderr);

    sandbox.faults(r#"[{"on":"users","do":{"status":503}}]"#);
    w.source("carts", users(2_100));
    let run = w.run(&["reconcile", "-vv", "--log-format", "json"]).expect(0);
    for line in run.stderr.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(entry["level"].is_string() && entry["run"].is_string(), "{line}");
    }
    assert!(run.stderr.contains("attempt 2 of 4"));
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let w = Workspace::new();
    let mut child = w
        .command(&["schema"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[test]
fn completions_and_manual_contain_every_command() {
    let w = Workspace::new();
    let manual = w.run(&["man"]).expect(0).stdout;
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = w.run(&["completions", shell]).expect(0).stdout;
        for command in ["validate", "plan", "reconcile", "status", "history", "sandbox", "schema", "init"] {
            assert!(script.contains(command) && manual.contains(command), "{shell} {command}");
        }
    }
    assert!(manual.starts_with(".ie") || manual.contains(".TH syncline"), "{}", &manual[..60]);
}

#[test]
fn a_state_of_a_newer_program_is_not_changed() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(2));
    w.write(".syncline/format.json", r#"{"format":3}"#);
    for command in ["plan", "reconcile", "status", "history"] {
        w.run(&[command])
            .expect(1)
            .says(&["format.json has format 3; this program supports format 2", "use a newer syncline"]);
    }
    assert_eq!(sandbox.writes(), 0);
}

#[test]
fn a_damaged_state_sends_nothing_and_names_the_file() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(200)).source("trials", users(3));
    w.run(&["reconcile"]).expect(0);
    let (run_file, bytes) = w.snapshot(".syncline/cohorts/carts/parts").pop().unwrap();
    let name = run_file.strip_prefix(w.path("")).unwrap().to_str().unwrap().to_owned();
    w.write(&name, &bytes[..bytes.len() - 1]).source("carts", users(199)).source("trials", users(4));
    let before = sandbox.requests()["removed"].clone();
    w.run(&["reconcile"]).expect(1).says(&["carts", "is damaged", ".parquet", "added 1"]);
    assert_eq!(sandbox.requests()["removed"], before);
}

#[test]
fn an_unwritable_state_is_an_error() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(2)).write("taken", "a file");
    w.write("sync.yaml", w.read("sync.yaml").replace("version: 1\n", "version: 1\nstate: taken/here\n"));
    w.run(&["reconcile"]).expect(1).says(&["cannot create", "taken/here"]);
    assert_eq!(sandbox.writes(), 0);
}
