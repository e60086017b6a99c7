//! Configs: one bad file for each rule, with its message beside it, and good ones.
//!
//! `SYNCLINE_BLESS=1 cargo test` writes the messages anew; look at them before they are committed.

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
fn every_bad_config_gives_the_message_beside_it() {
    #[allow(clippy::disallowed_methods, reason = "a switch for whoever changes a message")]
    let bless = std::env::var("SYNCLINE_BLESS").is_ok();
    let (mut wrong, mut codes) = (Vec::new(), String::new());
    for path in corpus("invalid") {
        let mut command = Workspace::new().command(&["validate", "--config"]);
        command.arg(path.file_name().unwrap()).current_dir(path.parent().unwrap());
        let found = run(command).expect(3);
        assert_eq!(found.stdout, "", "data only on stdout");
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
    // Three codes are about files and flags rather than about what a file says.
    for code in syncline::config::Code::ALL {
        let elsewhere = ["unreadable-file", "unknown-environment", "not-trusted"].contains(&code.as_str());
        assert!(
            elsewhere || codes.contains(&format!("error[{}]", code.as_str())),
            "no bad config for {}",
            code.as_str()
        );
    }
}

#[test]
fn every_good_config_runs() {
    let w = Workspace::new();
    for path in corpus("valid") {
        let mut command = w.command(&["validate", "--config"]);
        command.arg(&path);
        run(command).expect(0).says(&["valid"]);
    }
}

#[test]
fn validate_finds_what_reconcile_refuses_and_needs_no_secret() {
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
fn a_config_that_is_not_there() {
    Workspace::new().run(&["plan"]).expect(3).says(&[
        "error[unreadable-file]",
        "cannot read sync.yaml",
        "syncline init",
    ]);
}

#[test]
fn an_environment_is_laid_over() {
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
fn problems_as_json_have_places() {
    let w = Workspace::new();
    w.write("sync.yaml", "version: 1\ncohort: []\n");
    let found = w.run(&["validate", "--format", "json"]).expect(3).json();
    assert_eq!(found["result"], "invalid");
    let problem = &found["problems"][0];
    assert_eq!(
        (problem["code"].as_str(), problem["hint"].as_str()),
        (Some("unknown-key"), Some("did you mean `cohorts`?"))
    );
    assert_eq!(problem["place"], serde_json::json!({ "file": "sync.yaml", "line": 2, "column": 1 }));
}

#[test]
fn the_schema_in_the_repository_is_fresh() {
    let w = Workspace::new();
    let fresh = w.run(&["schema"]).expect(0).stdout;
    let kept = fs::read_to_string(root().join("schemas/sync.schema.json")).unwrap();
    assert!(fresh == kept, "write it anew: cargo run -- schema > schemas/sync.schema.json");
}

/// Somebody will write the key itself into the config one day. The message must not carry it further.
#[test]
fn a_key_in_the_config_is_refused_and_not_repeated() {
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

/// What an editor needs to complete and explain: descriptions everywhere, defaults, examples.
#[test]
fn the_schema_explains_itself() {
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
fn comments_and_layout_are_not_the_config() {
    let w = Workspace::new();
    let digest = |text: &str| {
        w.write("sync.yaml", text);
        w.run(&["validate", "--format", "json"]).expect(0).json()["config_digest"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let one = digest("version: 1\nstate: here\n");
    assert_eq!(one, digest("# a comment\n{ state: 'here', version: 1 }\n"));
    assert_ne!(one, digest("version: 1\nstate: there\n"));
}

/// A config may come from a stranger's pull request: work and output stay within bounds.
#[test]
fn of_thousands_of_problems_fifty_are_shown_and_all_are_counted() {
    let w = Workspace::new();
    let connections = "version: 1\nconnections:\n  braze: { kind: braze, instance: sandbox }\n";
    let many = |line: &dyn Fn(usize) -> String| (0..3_000).map(line).collect::<String>();
    w.write("sync.yaml", format!("{connections}{}", many(&|n| format!("key_{n}: 1\n"))));
    let found = w.run(&["validate"]).expect(3).says(&["3,000 problems, the first 50 shown"]);
    assert_eq!(found.stderr.matches("error[unknown-key]").count(), 50);
    let overlays = many(&|n| format!("    key_{n}: 1\n"));
    w.write("sync.yaml", format!("{connections}environments:\n  eu:\n{overlays}"));
    w.run(&["validate"]).expect(3).says(&["6,000 problems, the first 50 shown"]);
    // A product of two long lists is never formed.
    w.write(
        "sync.yaml",
        format!("{connections}{}", many(&|n| format!("  c{n}: {{ kind: braze, instance: sandbox }}\n"))),
    );
    w.run(&["validate"])
        .expect(3)
        .says(&["`connections` has 3001 entries, and 256 are the most", "1 problem;"]);
}
