//! Output of the CLI: commands to paste, summaries with counts, log lines, hints, and lost output.

use std::fs::File;
use std::io::Write as _;

use crate::support::*;

/// The rest of the line that starts with these words, with any whitespace.
#[track_caller]
fn line_after<'a>(text: &'a str, words: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(words));
    line.unwrap_or_else(|| panic!("no line begins with {words}:\n{text}")).trim()
}

#[test]
fn printed_commands_can_be_pasted() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let text = config(&sandbox.url, &["carts", "trials"], "") + "environments:\n  prod: { state: there }\n";
    w.write("my configs/a.yaml", text);
    let people = |n| csv(users(n));
    w.write("my configs/carts.csv", people(100)).write("my configs/trials.csv", people(1));
    let plan = w.run(&["plan", "-c", "my configs/a.yaml", "-e", "prod", "carts"]).expect(0).stdout;
    let apply = line_after(&plan, "Apply it:");
    assert_eq!(apply, "syncline reconcile -c 'my configs/a.yaml' -e prod carts");
    run_pasted(&w, line_after(&plan, "Only if unchanged:")).expect(0).says(&["Applied: 1 cohort, 100 added"]);
    assert!(sandbox.members("trials").is_empty(), "only the requested fields");

    w.write("my configs/carts.csv", people(40));
    let blocked = w.run(&["reconcile", "-c", "my configs/a.yaml", "--env=prod", "carts"]).expect(6).stdout;
    run_pasted(&w, line_after(&blocked, "for this run only:")).expect(0).says(&["60 removed"]);
    assert_eq!(sandbox.members("carts"), members(users(40)));
    let status = w.run(&["status", "-c", "my configs/a.yaml"]).expect(0).stdout;
    assert!(status.contains("`syncline reconcile -c 'my configs/a.yaml'` creates it"), "{status}");
}

#[test]
fn the_suggested_command_has_the_plan_file_and_maximums() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(100));
    w.run(&["reconcile"]).expect(0);
    w.source("carts", users(60).chain(["new".to_owned()]));
    let plan = w.run(&["plan", "--out", "the.plan"]).expect(6).stdout;
    assert_eq!(line_after(&plan, "Apply it:"), "syncline reconcile --plan the.plan");
    let blocked = w.run(&["reconcile", "--plan", "the.plan", "--max-removes", "carts=39"]).expect(6).stdout;
    let suggested = line_after(&blocked, "for this run only:");
    assert_eq!(suggested, "syncline reconcile --max-removes carts=40 --plan the.plan");
    w.run(&["reconcile", "--plan", "the.plan", "--retry-rejected"]).expect(64);
    // A blocked plan changes nothing, so the same file can be applied; after that it is stale.
    run_pasted(&w, suggested).expect(0).says(&["added 1, removed 40"]);
    let stale = run_pasted(&w, suggested).expect(9).stderr;
    let anew = line_after(&stale, "create it again:").to_owned();
    assert_eq!(anew, "syncline plan --max-removes carts=40 --out the.plan");
    run_pasted(&w, &anew).expect(0);
    assert_eq!(sandbox.members("carts").len(), 61);
}

#[test]
fn an_unwritable_plan_file_is_named_as_given() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(1)).write("taken", "");
    for file in ["none/the.plan", "taken/the.plan"] {
        let said = w.run(&["plan", "--out", file]).expect(1).stderr;
        assert!(said.contains(&format!("cannot use {file}: ")) && !said.contains(".tmp"), "{said}");
    }
}

/// One cohort changes, one is in sync, one cannot be read, and one is blocked.
#[test]
fn summaries_count_every_cohort() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials", "promo"], "");
    w.source("carts", users(10)).source("trials", users(10)).source("promo", users(100));
    w.run(&["reconcile"]).expect(0).says(&["Applied: 3 cohorts, 120 added"]);
    w.source("carts", users(9)).source("promo", users(1));
    w.run(&["plan"])
        .expect(6)
        .says(&["Plan: 1 of 3 cohorts to change: 0 to add, 1 to remove", "blocks changes of 1 of 3 cohorts"]);
    w.write("trials.csv", "cut");
    w.run(&["plan"]).expect(1).says(&["1 of 3 cohorts could not be planned; the guard blocks"]);
    let table = w.run(&["plan", "--format", "markdown"]).expect(1).stdout;
    assert!(table.contains("**Incomplete: 1 of 3 cohorts could not be planned;"), "{table}");
    assert!(table.contains("| `trials` | :x: **could not be planned** |"), "{table}");
    w.run(&["reconcile"])
        .expect(1)
        .says(&["Failed in part: 1 of 3 cohorts, 0 added, 1 removed, 1 request; 1 of 3 cohorts could not"]);
    w.run(&["reconcile"]).expect(1).says(&["Failed: nothing was sent; 1 of 3 cohorts could not be planned;"]);
    w.run(&["plan"]).expect(1).says(&["Not in sync: nothing would be sent; 1 of 3 cohorts could not"]);
    w.source("trials", users(11));
    w.run(&["reconcile"]).expect(6).says(&["Blocked in part: 1 of 3 cohorts, 1 added", "guard blocks"]);
    w.source("promo", users(99)).source("carts", users(2_000));
    sandbox.faults(r#"[{"on":"users","cohort_id":"carts","skip":1,"times":0,"do":{"status":503}}]"#);
    w.run(&["reconcile"]).expect(7).says(&["Applied in part: ", "1 of 3 cohorts stopped early", "in doubt"]);
}

#[test]
fn lost_output_is_an_error() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    let full = |args: &[&str]| {
        let mut command = w.command(args);
        command.stdout(File::options().write(true).open("/dev/full").unwrap());
        command.stderr(std::process::Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for args in [
        &["plan"][..],
        &["plan", "--format", "json"],
        &["plan", "--format", "markdown"],
        &["validate"],
        &["status"],
        &["history"],
        &["schema"],
        &["man"],
        &["completions", "bash"],
        &["init", "new"],
        &["--help"],
        &["sandbox", "--port", "0"],
    ] {
        let (code, said) = full(args);
        assert!(code == Some(1) && said.contains("cannot write to stdout: No space left"), "{args:?} {said}");
    }
    let (code, said) = full(&["reconcile"]);
    assert!(
        code == Some(1) && said.contains("the run has ended, but its report could not be written"),
        "{said}"
    );
    assert_eq!(sandbox.members("carts"), members(users(3)));
    run_pasted(&w, line_after(&said, "its result:")).expect(0).says(&["carts: added 3"]);
    let head = run_pasted(&w, "syncline schema | head -n 1").expect(0);
    assert_eq!(head.stderr, "", "a closed pipe is not an error");
}

#[test]
fn one_v_logs_runs_cohorts_and_retries() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(3));
    sandbox.faults(r#"[{"on":"users","times":2,"do":{"status":503}}]"#);
    let said = w.run(&["reconcile", "-v"]).expect(1).stderr;
    for (text, times) in [
        ("the run begins", 1),
        ("planned cohort=carts adds=3 removes=0", 1),
        ("not planned cohort=trials", 1),
        ("Braze responds with status 503; attempt 2 of 4 in 0.0 s", 1),
        ("Braze responds with status 503; attempt 3 of 4 in 0.0 s", 1),
        ("applied cohort=carts added=3", 1),
        ("the run ends", 1),
        ("INFO", 5),
        ("WARN", 2),
        ("user-", 0),
    ] {
        assert_eq!(said.matches(text).count(), times, "{text}\n{said}");
    }
    assert_eq!(w.run(&["reconcile"]).expect(1).stderr, "", "and nothing without the flag");
}

#[test]
fn with_json_logs_errors_are_json() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    w.write("bad.yaml", "version: 1\ncohort: []\n").write("no.plan", "x");
    for (args, code, says) in [
        (
            &["plan", "-c", "bad.yaml"][..],
            3,
            "bad.yaml:2:1: unknown key `cohort` in the config [unknown-key]",
        ),
        (&["reconcile", "--plan", "no.plan"], 1, "error: no.plan is not a plan file"),
        (&["plan", "absent"], 64, "error: the config has no cohort `absent`"),
        (&["plan", "--out", "the.plan"], 0, "saved to the.plan"),
    ] {
        let mut args = args.to_vec();
        args.extend(["--log-format", "json"]);
        let said = w.run(&args).expect(code).stderr;
        let lines: Vec<serde_json::Value> = said
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect();
        assert!(lines.iter().any(|line| line["message"].as_str().unwrap().starts_with(says)), "{said}");
        let error = lines.iter().find(|line| line["level"] == "ERROR");
        assert_eq!(error.is_some(), code != 0, "{said}");
        assert!(code == 0 || lines.last().unwrap()["exit_code"] == code, "{said}");
    }
}

#[test]
fn history_is_chronological() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    w.run(&["reconcile"]).expect(0);
    let (journal, bytes) = w.snapshot(".syncline/journal").pop().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let lines: Vec<&str> = text.lines().rev().collect();
    let name = journal.strip_prefix(w.path("")).unwrap().to_str().unwrap();
    w.write(name, format!("{}\n", lines.join("\n")));
    let history = w.run(&["history", "--format", "json"]).expect(0).json();
    let times: Vec<String> = history["runs"][0]["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["at"].as_str().unwrap().to_owned())
        .collect();
    assert!(times.is_sorted() && times.len() == lines.len(), "{times:?}");
}

#[test]
fn hints_match_the_error() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(20));
    w.run(&["reconcile"]).expect(0);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(csv(users(500)).as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain("identity\nu\n".bytes().flat_map(|b| [b, 0])).collect();
    let cases: [(&str, &[u8], &str, &str); 8] = [
        ("a.csv.gz", &gz[..gz.len() - 20], "Export it again", "final_newline"),
        ("a.csv", b"identity\n\"u\n", "a quote is never closed", "final_newline"),
        ("a.csv", b"identity\nu", "`final_newline: optional` under the cohort's `source:`", "allow_empty"),
        ("a.csv", b"identity;more\nu;1\n", "set `delimiter: ';'` under `source:`", "It has"),
        ("a.csv", b"identity\tmore\nu\t1\n", "set `format: tsv` under `source:`", "It has"),
        ("a.csv", &utf16, "a.csv is UTF-16 and not UTF-8", "no column"),
        ("a.csv", b"", "no header row", "allow_empty"),
        (
            "a.ndjson",
            b"{\"identity\":\"u\"}\n{\"identity\"}\n",
            "a.ndjson:2: line of invalid JSON (expected `:` at column 12)",
            "line 1",
        ),
    ];
    for (name, bytes, says, not) in cases {
        w.write(
            "sync.yaml",
            config(&sandbox.url, &[], "") + &cohort_entry("carts", "").replace("carts.csv", name),
        );
        w.write(name, bytes);
        let run = w.run(&["plan"]);
        assert!(run.stdout.contains(says) && !run.stdout.contains(not), "{name}: {says}\n{}", run.stdout);
    }
    w.write("a.ndjson", "{\"identity\":\"u\"}\n\"user@example.com\"\n");
    let run = w.run(&["plan"]);
    assert!(
        run.stdout.contains("line of invalid JSON (not a JSON object)") && !run.stdout.contains("user@"),
        "{}",
        run.stdout
    );
}

#[test]
fn a_state_that_is_a_file_and_missing_keys_have_hints() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(2)).write("taken", "a file");
    let plain = w.read("sync.yaml");
    w.write("sync.yaml", plain.replace("version: 1\n", "version: 1\nstate: taken\n"));
    w.run(&["reconcile"]).expect(1).says(&["taken", "`state:` must name a folder"]);
    w.write("sync.yaml", plain.replace("{ env: TEST_IMPORT_KEY }", "{ file: key }"));
    w.run(&["reconcile"]).expect(4).says(&["cannot read key", "write the key into key and chmod 600 it"]);
    use std::os::unix::fs::PermissionsExt as _;
    w.write("key", " \n");
    std::fs::set_permissions(w.path("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    w.run(&["reconcile"]).expect(4).says(&["key contains no key", "write only the key into"]);
    assert_eq!(sandbox.writes(), 0);
}

#[test]
fn entries_under_removed_are_explained() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(3)).source("trials", users(8));
    w.run(&["reconcile"]).expect(0);
    let removed = "removed: [{ cohort: trials, members: remove }, { cohort: trails, members: remove }]\n";
    w.config(&sandbox, &["carts"], removed);
    let unknown = "`trails` is listed under `removed:`, and the state has no such cohort: is the id right?";
    let plan = w
        .run(&["plan"])
        .expect(0)
        .says(&["listed under `removed:`: all members will be removed", unknown])
        .stdout;
    assert!(plan.contains(", … and 5 more"), "{plan}");
    let table = w.run(&["plan", "--format", "markdown"]).expect(0).stdout;
    assert!(
        table.contains("| empty it (`removed:`) | 8 → 0 | 0 | 8 |") && table.contains(unknown),
        "{table}"
    );
    let json = w.run(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(json["removed_not_in_state"], serde_json::json!(["trails"]));
    assert_eq!(json["cohorts"][1]["listed_under_removed"], true);
    w.run(&["validate"]).expect(0);
    w.run(&["reconcile"]).expect(0).says(&["removed 8"]);
}

#[test]
fn the_manual_is_one_page_with_every_option() {
    let w = Workspace::new();
    let manual = w.run(&["man"]).expect(0).stdout.replace('\\', "");
    for text in
        [".SH \"EXIT STATUS\"", "--max-removes", "--detailed-exitcode", "--rate-window", "lose_answer"]
    {
        assert!(manual.contains(text), "{text}");
    }
    assert!(!manual.contains("(1)") && !manual.contains("EXTRA"), "no page that does not exist");
    for command in ["schema", "init", "man", "completions"] {
        let help = w.run(&[command, "--help"]).expect(0).stdout;
        assert!(!help.contains("--config") && !help.contains("--env"), "{help}");
    }
    w.run(&["schema", "-c", "other.yaml", "-v"]).expect(0);
}

#[test]
fn the_help_of_the_sandbox_is_correct() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let help = w.run(&["sandbox", "--help"]).expect(0).stdout;
    let page = std::fs::read_to_string(root().join("docs/reference/sandbox.md")).unwrap();
    for text in [&help, &page] {
        let plan = text.lines().find_map(|line| line.trim().strip_prefix("-d '")).unwrap();
        sandbox.faults(plan.strip_suffix('\'').unwrap());
    }
    let kinds = help.split("one of\n").nth(1).unwrap();
    let kinds: Vec<&str> = kinds
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(['{', '"']))
        .map(|line| line.split("  ").next().unwrap())
        .collect();
    assert_eq!(kinds.len(), 8);
    for kind in kinds {
        sandbox.faults(&format!(r#"[{{"do": {kind}}}]"#));
    }
    let (status, paths) = sandbox.get("/_sandbox/");
    assert_eq!(status, 200);
    for path in ["cohorts", "cohorts/{id}/members", "requests", "faults", "users", "identify"] {
        assert!(paths.contains(&format!(" /_sandbox/{path} ")), "{path}\n{paths}");
    }
    // Every listed path exists and accepts its listed method.
    let listed =
        paths.lines().filter_map(|line| line.split_once(" /")).filter(|(method, _)| method.len() < 6);
    for (method, rest) in listed {
        let path = rest.split([' ', '[']).next().unwrap().replace("{id}", "1");
        let response = http(&sandbox.url, method.trim(), &format!("/{path}"), &[], "");
        let is_known = !["Not Found", "no path `"].iter().any(|none| response.body.contains(none));
        assert!(response.status != 405 && is_known, "{method} /{path}");
    }
    // The example bodies are accepted, once their cohorts exist.
    let w = Workspace::new();
    w.config(&sandbox, &["carts", "free"], "").source("carts", users(3)).source("free", users(1));
    sandbox.faults("[]");
    w.run(&["reconcile"]).expect(0);
    let json = [("content-type", "application/json")];
    let shown = help.lines().zip(help.lines().skip(1));
    let mut bodies = 0;
    for (command, next) in shown {
        let Some(body) = next.trim().strip_prefix("--data '") else { continue };
        let path = command.split("4010").nth(1).unwrap().split(' ').next().unwrap();
        let status =
            http(&sandbox.url, "POST", &format!("{path}?wait=false"), &json, body.trim_end_matches('\''))
                .status;
        assert!(status < 300, "{path}: {status}");
        bodies += 1;
    }
    assert_eq!(bodies, 5);
}
