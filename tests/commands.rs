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
        assert!(script.contains("SYNCLINE_COMPLETE"), "{shell} {script}");
    }
    let commands = completed(&w, &[""]);
    for command in ["validate", "plan", "reconcile", "status", "history", "sandbox", "schema", "init"] {
        assert!(commands.contains(&command.to_owned()) && manual.contains(command), "{command} {commands:?}");
    }
    assert!(manual.starts_with(".ie") || manual.contains(".TH syncline"), "{}", &manual[..60]);
}

/// The values that a shell offers for the last of the words.
fn completed(w: &Workspace, words: &[&str]) -> Vec<String> {
    let line = [&["--", "syncline"], words].concat();
    let mut command = w.command(&line);
    command.env("SYNCLINE_COMPLETE", "fish");
    let shown = run(command).expect(0).stdout;
    shown.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn completions_know_the_names_of_the_config() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(2)).source("trials", users(2));
    let staging = "environments:\n  staging: { state: { path: .syncline/staging } }\n";
    w.write("staging.yaml", w.read("sync.yaml").replace("carts", "baskets") + staging);
    for command in [&["plan"][..], &["reconcile"], &["apply"], &["approve"], &["resync"], &["state", "show"]]
    {
        let all = completed(&w, &[command, &[""]].concat());
        assert!(["carts", "trials"].iter().all(|id| all.contains(&(*id).to_owned())), "{command:?}: {all:?}");
    }
    assert_eq!(completed(&w, &["plan", "tr"]), ["trials"]);
    assert_eq!(completed(&w, &["plan", "-c", "staging.yaml", "bas"]), ["baskets"]);
    assert_eq!(completed(&w, &["--config=staging.yaml", "plan", "--env", ""]), ["staging"]);
    w.write("sync.yaml", "version: [");
    assert_eq!(completed(&w, &["plan", "tr"]), [""; 0], "an invalid config is no error here");
}

#[test]
fn apply_is_reconcile_and_a_dry_run_is_a_plan() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    for args in [&["reconcile", "--dry-run"][..], &["apply", "--dry-run", "carts"], &["plan", "--dry-run"]] {
        w.run(args).expect(0).says(&["add 3"]);
    }
    assert!(!w.path(".syncline").exists());
    assert_eq!(sandbox.writes(), 0);
    let json = w.run(&["apply", "--dry-run", "--format", "json"]).expect(0).json();
    assert_eq!((json["command"].as_str(), json["result"].as_str()), (Some("plan"), Some("changes")));
    w.run(&["reconcile", "--dry-run", "--plan", "saved.plan"]).expect(64);
    w.run(&["apply"]).expect(0).says(&["added 3"]);
    assert_eq!(sandbox.members("carts").len(), 3);
}

#[test]
fn usage_errors_are_json_on_request() {
    let w = Workspace::new();
    for args in [&["plan", "--format", "json", "--detailed-exitcod"][..], &["recncile", "--format=json"]] {
        let run = w.run(args).expect(64);
        let json = run.json();
        assert_eq!((json["result"].as_str(), json["error"]["exit_code"].as_u64()), (Some("error"), Some(64)));
        assert!(json["error"]["message"].as_str().unwrap().starts_with("un"), "{json}");
        let hints = json["error"]["hints"].to_string();
        assert!(hints.contains("tip: a similar") && !hints.contains("\\n"), "{json}");
    }
}

#[test]
fn help_has_examples_and_separates_the_global_options() {
    let w = Workspace::new();
    let help = w.run(&["reconcile", "--help"]).expect(0).stdout;
    let at = |text: &str| help.find(text).unwrap_or_else(|| panic!("{text} is missing: {help}"));
    let order = [
        "--dry-run",
        "--max-removes",
        "Global options:",
        "--config",
        "--env",
        "Examples:\n  syncline reconcile",
    ];
    assert!(order.windows(2).all(|two| at(two[0]) < at(two[1])), "{help}");
    for width in ["60", "80"] {
        for args in [&["plan", "--help"][..], &["replay", "--help"], &["sandbox", "-h"], &["--help"]] {
            let mut command = w.command(args);
            command.env("COLUMNS", width);
            let help = run(command).expect(0).stdout;
            let longest = help.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= width.parse().unwrap(), "{args:?} at {width}: {help}");
        }
    }
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
