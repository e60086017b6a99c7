//! Configs: one invalid file for each rule with its message, and valid ones.
//!
//! `SYNCLINE_BLESS=1 cargo test` rewrites the messages; review them before you commit.

use std::fs;
use std::path::PathBuf;

use crate::support::*;

fn corpus(folder: &str) -> Vec<PathBuf> {
    let folder = root().join("tests/configs").join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    files
}

#[test]
fn every_invalid_config_has_the_expected_message() {
    #[allow(clippy::disallowed_methods, reason = "a switch for changed messages")]
    let bless = std::env::var("SYNCLINE_BLESS").is_ok();
    let (mut wrong, mut codes) = (Vec::new(), String::new());
    for path in corpus("invalid") {
        let mut command = Workspace::new().command(&["validate", "--config"]);
        command.arg(path.file_name().unwrap()).current_dir(path.parent().unwrap());
        let found = run(command).expect(3);
        assert_eq!(found.stdout, "", "only data on stdout");
        let beside = path.with_extension("stderr");
        if bless {
            #[allow(clippy::disallowed_methods, reason = "a test's own data")]
            fs::write(&beside, &found.stderr).unwrap();
        }
        if fs::read_to_string(&beside).unwrap_or_default() != found.stderr {
            wrong.push(format!("{}:\n{}", path.display(), found.stderr));
        }
        codes.push_str(&found.stderr);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Four codes concern files, flags and the build, not the content of a config.
    for code in syncline::config::ProblemCode::ALL {
        let elsewhere = ["unreadable-file", "unknown-environment", "not-trusted", "missing-feature"]
            .contains(&code.as_str());
        assert!(
            elsewhere || codes.contains(&format!("error[{}]", code.as_str())),
            "no invalid config for {}",
            code.as_str()
        );
    }
}

#[test]
fn every_valid_config_is_accepted() {
    let w = Workspace::new();
    for path in corpus("valid") {
        let mut command = w.command(&["validate", "--config"]);
        command.arg(&path);
        run(command).expect(0).says(&["valid"]);
    }
}

#[test]
fn validate_finds_the_same_errors_as_reconcile_without_secrets() {
    let w = Workspace::new();
    let config = config("https://rest.iad-01.braze.com", &["carts"], "");
    w.write("sync.yaml", &config);
    let mut command = w.command(&["validate"]);
    command.env_remove("TEST_IMPORT_KEY");
    run(command).expect(0);
    w.write("sync.yaml", config.replace("to: braze", "to: braz"));
    for command in ["validate", "plan", "reconcile", "status", "history"] {
        w.run(&[command]).expect(3).says(&[
            "error[unknown-connection]",
            "sync.yaml:",
            "did you mean `braze`?",
        ]);
    }
}

#[test]
fn a_missing_config_is_an_error() {
    Workspace::new().run(&["plan"]).expect(3).says(&[
        "error[unreadable-file]",
        "cannot read sync.yaml",
        "syncline init",
    ]);
}

#[test]
fn an_environment_overlay_is_applied() {
    let w = Workspace::new();
    w.write(
        "sync.yaml",
        "version: 1
connections: { braze: { kind: braze, instance: sandbox, batch: 100, retry: { attempts: 3 } } }
environments:
  prod: { state: there, connections: { braze: { batch: 10 } } }
cohorts:
"
        .to_owned()
            + &cohort_entry("carts", ""),
    );
    w.source("carts", users(200));
    let requests = |run: Run| run.expect(0).json()["cost"]["requests"].as_u64();
    assert_eq!(requests(w.run(&["plan", "--format", "json"])), Some(1 + 2));
    assert_eq!(requests(w.run(&["plan", "--format", "json", "--env", "prod"])), Some(1 + 20));
    w.run(&["reconcile", "--env", "prod"]).expect(0);
    assert!(w.path("there/format.json").exists() && !w.path(".syncline").exists());
    w.run(&["plan", "--env", "porod"])
        .expect(3)
        .says(&["error[unknown-environment]", "did you mean `--env prod`?"]);
}

#[test]
fn problems_in_json_have_locations() {
    let w = Workspace::new();
    w.write("sync.yaml", "version: 1\ncohort: []\n");
    let found = w.run(&["validate", "--format", "json"]).expect(3).json();
    assert_eq!(found["result"], "invalid");
    let problem = &found["problems"][0];
    assert_eq!(
        (problem["code"].as_str(), problem["hint"].as_str()),
        (Some("unknown-key"), Some("did you mean `cohorts`?"))
    );
    assert_eq!(problem["location"], serde_json::json!({ "file": "sync.yaml", "line": 2, "column": 1 }));
}

#[test]
fn the_schema_in_the_repository_is_current() {
    let w = Workspace::new();
    let fresh = w.run(&["schema"]).expect(0).stdout;
    let committed = fs::read_to_string(root().join("schemas/sync.schema.json")).unwrap();
    assert!(fresh == committed, "regenerate it: cargo run -- schema > schemas/sync.schema.json");
    let fresh = w.run(&["schema", "--include"]).expect(0).stdout;
    let committed = fs::read_to_string(root().join("schemas/include.schema.json")).unwrap();
    assert!(fresh == committed, "regenerate it: cargo run -- schema --include > schemas/include.schema.json");
}

/// A user may write the key itself into the config. The message must not repeat it.
#[test]
fn a_secret_in_the_config_is_an_error_and_not_shown() {
    let w = Workspace::new();
    let with = |key: &str| {
        let text = config("https://rest.iad-01.braze.com", &["carts"], "");
        w.write("sync.yaml", text.replace("{ env: TEST_IMPORT_KEY }", key));
        let runs = [w.run(&["validate"]), w.run(&["validate", "--format", "json"]), w.run(&["plan", "-vvv"])];
        for run in runs {
            assert!(!format!("{run:?}").contains("canary"), "{key}: {run:?}");
            assert_eq!(run.code, 3);
        }
    };
    for key in [
        "canary-7",
        "{ env: canary-7 }",
        "{ value: canary7 }",
        "[ canary-7 ]",
        "{ env: X, key: canary }",
        "\"canary",
        "[ canary",
    ] {
        with(key);
    }
    let text = config("https://canary:canary@rest.iad-01.braze.com", &["carts"], "");
    assert!(!format!("{:?}", w.write("sync.yaml", text).run(&["validate"]).expect(3)).contains("canary"));
}

/// Editors need descriptions, defaults and examples everywhere.
#[test]
fn the_schema_has_descriptions_defaults_and_examples() {
    let w = Workspace::new();
    let schema = w.run(&["schema"]).json();
    let (mut described, mut defaults, mut examples) = (0, 0, 0);
    let definitions =
        schema["$defs"].as_object().unwrap().iter().map(|(name, definition)| (name.as_str(), definition));
    for (name, definition) in definitions.chain([("file", &schema)]) {
        let shapes =
            definition.get("oneOf").or(definition.get("anyOf")).and_then(|list| list.as_array().cloned());
        for shape in shapes.unwrap_or_else(|| vec![definition.clone()]) {
            for (key, property) in shape["properties"].as_object().into_iter().flatten() {
                let tag =
                    property.get("const").is_some() || shape["properties"].as_object().unwrap().len() == 1;
                assert!(tag || property["description"].is_string(), "{name}.{key} has no description");
                described += 1;
                defaults += u32::from(property.get("default").is_some());
                examples += u32::from(property.get("examples").is_some());
            }
        }
    }
    assert!(described > 60 && defaults > 15 && examples > 8, "{described} {defaults} {examples}");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn comments_and_layout_do_not_change_the_config() {
    let w = Workspace::new();
    let digest = |text: &str| {
        w.write("sync.yaml", text);
        w.run(&["validate", "--format", "json"]).expect(0).json()["config_digest"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let first_digest = digest("version: 1\nstate: here\n");
    assert_eq!(first_digest, digest("# a comment\n{ state: 'here', version: 1 }\n"));
    assert_ne!(first_digest, digest("version: 1\nstate: there\n"));
}

/// A config may come from an untrusted pull request: work and output are limited.
#[test]
fn fifty_of_many_problems_are_shown_and_all_are_counted() {
    let w = Workspace::new();
    let connections = "version: 1\nconnections:\n  braze: { kind: braze, instance: sandbox }\n";
    let many = |line: &dyn Fn(usize) -> String| (0..3_000).map(line).collect::<String>();
    w.write("sync.yaml", format!("{connections}{}", many(&|n| format!("key_{n}: 1\n"))));
    let found = w.run(&["validate"]).expect(3).says(&["3,000 problems, the first 50 shown"]);
    assert_eq!(found.stderr.matches("error[unknown-key]").count(), 50);
    let overlays = many(&|n| format!("    key_{n}: 1\n"));
    w.write("sync.yaml", format!("{connections}environments:\n  eu:\n{overlays}"));
    w.run(&["validate"]).expect(3).says(&["6,000 problems, the first 50 shown"]);
    // The product of two long lists is never computed.
    w.write(
        "sync.yaml",
        format!("{connections}{}", many(&|n| format!("  c{n}: {{ kind: braze, instance: sandbox }}\n"))),
    );
    w.run(&["validate"])
        .expect(3)
        .says(&["`connections` has 3001 entries, at most 256 are allowed", "1 problem;"]);
}

#[test]
fn entries_skipped_by_include_are_counted_and_shown() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write(
        "sync.yaml",
        config(&sandbox.url, &["carts"], "") + "include: [parts/*.yaml, '**/trials.yaml']\n",
    );
    let part = format!("cohorts:\n{}", cohort_entry("trials", ""));
    w.source("carts", users(2)).source("trials", users(3)).write("parts/trials.yaml", &part);
    assert_eq!(w.run(&["validate", "--format", "json"]).expect(0).json()["skipped_includes"], 0);
    w.write("parts/.trials.yaml", &part)
        .write("parts/_draft.yaml", "no config")
        .write("_old/trials.yaml", &part);
    w.run(&["validate"]).expect(0).says(&["2 cohorts", "; 3 hidden or temporary entries were skipped"]);
    assert_eq!(w.run(&["validate", "--format", "json"]).expect(0).json()["skipped_includes"], 3);
    let line = "`include:` skips 3 hidden or temporary entries";
    w.run(&["plan"]).expect(0).says(&[line, "add 3"]);
    w.run(&["plan", "--format", "markdown"]).expect(0).says(&[line]);
    assert_eq!(w.run(&["plan", "--format", "json"]).expect(0).json()["skipped_includes"], 3);
    fs::remove_file(w.path("parts/trials.yaml")).unwrap();
    w.run(&["validate"])
        .expect(3)
        .says(&["`parts/*.yaml` matches no file; 2 hidden or temporary entries were skipped"]);
}

/// The work for included files is limited by their number and size.
#[test]
fn too_many_or_too_large_config_files_are_an_error() {
    let w = Workspace::new();
    let main = |more: &str| w.write("sync.yaml", format!("version: 1\n{more}"));
    let expect_error = |says: &str| {
        w.run(&["validate"]).expect(3).says(&["error[too-large]", says, "help: ", "1 problem;"]);
    };
    for n in 0..4_096 {
        w.write(&format!("many/{n}.yaml"), "cohorts: []\n");
    }
    main("include: [many/*.yaml]\n");
    w.run(&["validate"]).expect(0);
    w.write("many/x.yaml", "cohorts: []\n");
    expect_error("`include` matches more than 4096 files");
    let names: String = (0..257).map(|n| format!("many/{n}.yaml, ")).collect();
    main(&format!("include: [{names}]\n"));
    expect_error("`include` has 257 entries, at most 256 are allowed");
    // 5 files of less than 4 MiB.
    for n in 0..5 {
        w.write(&format!("long/{n}.yaml"), format!("cohorts: []\n#{}\n", "x".repeat((4 << 20) - 100)));
    }
    main("include: [long/*.yaml]\n");
    expect_error("with long/4.yaml, the config is larger than 16 MiB");
    // Short files of many values.
    for n in 0..6 {
        w.write(&format!("wide/{n}.yaml"), format!("cohorts: [{}]\n", "1,".repeat(190_000)));
    }
    main("include: [wide/*.yaml]\n");
    expect_error("has more than 1000000 values");
}

#[test]
fn the_total_size_of_query_files_is_limited() {
    let w = Workspace::new();
    let connection = "  pg: { kind: postgres, host: 127.0.0.1, port: 1, database: d, user: u, tls: off }\n";
    let ids: Vec<String> = (0..17).map(|n| format!("c{n}")).collect();
    let cohorts: String =
        ids.iter().map(|id| cohort_entry(id, "").replace("name: ", &format!("name: {id}"))).collect();
    let text = config("https://rest.iad-01.braze.com", &[], connection) + &cohorts;
    let text = ids.iter().fold(text, |text, id| {
        text.replace(
            &format!("{{ kind: file, path: {id}.csv }}"),
            "{ kind: sql, connection: pg, query_file: q.sql }",
        )
    });
    w.write("sync.yaml", text).write("q.sql", format!("select 1 --{}", "x".repeat(900_000)));
    w.run(&["validate"]).expect(0);
    w.write("q.sql", format!("select 1 --{}", "x".repeat(1_000_000)));
    w.run(&["validate"])
        .expect(3)
        .says(&["error[too-large]", "the query files together are larger than 16 MiB"]);
}

/// Values as people write them, each with the form that the hint gives.
#[test]
fn the_right_form_of_a_value_is_suggested() {
    let w = Workspace::new();
    let config = |connection: &str, cohort: &str, more: &str| {
        format!(
            "version: 1\nconnections:\n  braze:\n    kind: braze\n{connection}cohorts:\n  - id: carts\n    name: Carts\n    to: braze\n{cohort}{more}"
        )
    };
    let keys = "    instance: US-01\n    partner_api_key: { env: P }\n    data_import_key: { env: D }\n";
    let source = "    source: { kind: file, path: carts.csv }\n    match: [{ external_id: id }]\n";
    let cases = [
        (keys, source, "    guard: { max_removed: 30 % }\n", "write `30%`"),
        (keys, source, "    guard: { max_removed: 0.3 }\n", "write `30%`"),
        (keys, source, "    protect: yes\n", "write `true`"),
        (keys, source, "    schedule: \"0 */4 * * *\"\n", "write `{ cron: { at: \"0 */4 * * *\" } }`"),
        (keys, source, "    schedule: 4 hours\n", "write `{ every: 4h }`"),
        (keys, source, "watch: { debounce: 4 hours }\n", "write `4h`"),
        (keys, source, "memory: 256MB\n", "write `256MiB`"),
        (keys, &source.replace("kind: file", "kind: csv"), "", "did you mean `file`?"),
        (keys, &source.replace("kind: file", "kind: snowflake"), "", "did you mean `sql`?"),
        (
            keys,
            &source.replace("external_id: id", "alias: id"),
            "",
            "for example `{ label: heap_user_id, name: user_id }`",
        ),
        (
            keys,
            &source.replace("external_id: id", "alias: { lable: crm, column: id }"),
            "",
            "unknown keys `column`, `lable` in `alias`",
        ),
        (&keys.replace("US-01", "US-11"), source, "", "`endpoint: https://rest."),
        (&keys.replace("{ env: P }", "\"${BRAZE_KEY}\""), source, "", "write `{ env: BRAZE_KEY }`"),
        (
            &keys.replace("{ env: P }", "0f3a91c2-5b7e-4a17-9a43-c0ffee123456"),
            source,
            "",
            "because git keeps it",
        ),
    ];
    for (connection, cohort, more, hint) in cases {
        w.write("sync.yaml", config(connection, cohort, more));
        let said = w.run(&["validate"]).expect(3).stderr;
        assert!(said.contains(hint), "{hint}\n{said}");
        assert!(said.contains("\n1 problem;") && !said.contains("c0ffee"), "one slip, one problem: {said}");
    }
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let w = Workspace::new();
    w.write("sync.yaml", "version: 1\n");
    let warning = "! sync.yaml: no cohorts, segments or exports: nothing will be kept in sync";
    w.run(&["validate"]).expect(0).says(&["valid", warning]);
    w.run(&["plan"]).expect(0).says(&[warning]);
    let sandbox = Sandbox::start();
    let text = config(&sandbox.url, &["carts"], "").replace("name: Carts", "name: “Carts”");
    w.write("sync.yaml", text).source("carts", users(1));
    let warning = "the typographic quotes are part of the name “Carts”; Braze will show them";
    w.run(&["validate"]).expect(0).says(&[warning]);
    let json = w.run(&["validate", "--format", "json"]).expect(0).json();
    assert!(json["warnings"][0].as_str().unwrap().contains(warning), "{json}");
}

#[test]
fn a_cohort_that_cannot_be_read_names_the_line_of_the_key() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let connections = "  warehouse: { kind: postgres, host: 127.0.0.1, port: 9, user: u, database: d, tls: off }\n  \
                       heap: { kind: heap, webhook_secret: { env: HOME } }\n";
    let sources = [
        ("missing_column", "      kind: file\n      path: carts.csv\n"),
        ("missing_file", "      kind: file\n      format: csv\n      path: gone.csv\n"),
        ("no_database", "      kind: sql\n      connection: warehouse\n      table: carts\n"),
        ("no_segment", "      kind: heap_segment\n      connection: heap\n      segment_id: 7\n"),
    ];
    let mut text = config(&sandbox.url, &[], connections);
    for (id, source) in sources {
        let column = if id == "no_segment" { "id" } else { "identity" };
        text.push_str(&format!(
            "  - id: {id}\n    name: {id}\n    to: braze\n    source:\n{source}    match:\n      - external_id: {column}\n"
        ));
    }
    w.write("sync.yaml", &text).write("carts.csv", "other\nx\n");
    let line = |id: &str, key: &str| {
        let after = text.lines().position(|line| line.ends_with(&format!("id: {id}"))).unwrap();
        let key = text.lines().skip(after).position(|line| line.contains(key)).unwrap();
        format!("sync.yaml:{}", after + key + 1)
    };
    let keys = [
        ("missing_column", "external_id:"),
        ("missing_file", "path:"),
        ("no_database", "connection:"),
        ("no_segment", "segment_id:"),
    ];
    let json = w.run(&["plan", "--format", "json"]).json();
    let all = [json["failed"].as_array().unwrap(), json["waiting"].as_array().unwrap()];
    for (id, key) in keys {
        let failed = all.into_iter().flatten().find(|failed| failed["id"] == id).unwrap();
        assert_eq!(failed["declared_at"], line(id, key), "{failed}");
    }
    w.run(&["plan"]).says(&[&format!("({})", line("missing_file", "path:"))]);
}
