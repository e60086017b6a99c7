//! The GitHub Action: the steps of `action.yml`, run as a runner does, against a fake GitHub and the sandbox.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::release::release_server;
use crate::support::github::{BOT, GitHub};
use crate::support::*;

/// A job with this action as its only step.
struct Job {
    w: Workspace,
    sandbox: Sandbox,
    github: GitHub,
    /// The context `github`.
    context: BTreeMap<&'static str, String>,
    environment: BTreeMap<&'static str, String>,
    /// Whether the step "Install" runs; otherwise the program under test is on the PATH.
    installs: bool,
}

/// What a run of the action leaves.
struct ActionRun {
    code: i32,
    log: String,
    summary: String,
    outputs: BTreeMap<String, String>,
}

impl ActionRun {
    /// The exit code of the job, `result` and `exit-code`.
    #[track_caller]
    fn expect(self, code: i32, result: &str, exit_code: &str) -> Self {
        assert_eq!(self.code, code, "{}", self.log);
        assert_eq!(
            (&*self.outputs["result"], &*self.outputs["exit-code"]),
            (result, exit_code),
            "{}",
            self.log
        );
        self
    }

    #[track_caller]
    fn logs(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.log.contains(text), "missing text: {text}\n{}", self.log);
        }
        self
    }
}

impl Job {
    /// A job for a push. `None` without the tools of a runner.
    fn new() -> Option<Self> {
        for tool in ["jq", "curl"] {
            if !Path::new("/usr/bin").join(tool).exists() {
                return skip_test(&format!("{tool} is missing: apt-get install {tool}"));
            }
        }
        let (w, sandbox, github) = (Workspace::new(), Sandbox::start(), GitHub::start());
        w.config(&sandbox, &["carts"], "").source("carts", users(10));
        fs::create_dir(w.path("runner")).unwrap();
        let environment = BTreeMap::from([
            ("GITHUB_EVENT_NAME", "push".to_owned()),
            ("GITHUB_REPOSITORY", "acme/cohorts".to_owned()),
            ("GITHUB_SERVER_URL", "https://github.com".to_owned()),
            ("GITHUB_RUN_ID", "42".to_owned()),
            ("GITHUB_API_URL", github.url.clone()),
            ("GITHUB_ACTOR", "ada".to_owned()),
        ]);
        let context = BTreeMap::from([("github.token", "test-token".to_owned())]);
        Some(Self { w, sandbox, github, context, environment, installs: false })
    }

    /// A job for pull request 7 of this repository.
    fn of_pull_request() -> Option<Self> {
        let mut job = Self::new()?;
        job.environment.insert("GITHUB_EVENT_NAME", "pull_request".to_owned());
        job.context.insert("github.event.pull_request.number", "7".to_owned());
        job.context.insert("github.event.pull_request.head.repo.full_name", "acme/cohorts".to_owned());
        job.context.insert("github.event.pull_request.head.sha", "abc123".to_owned());
        job.w.write("trusted.yaml", job.w.read("sync.yaml"));
        Some(job)
    }

    /// The value of an expression: a name, or a name that is compared with the empty text.
    fn evaluated(
        &self,
        expression: &str,
        inputs: &BTreeMap<String, String>,
        outputs: &BTreeMap<String, String>,
    ) -> String {
        if let Some(name) = expression.strip_suffix(" != ''") {
            return (!self.evaluated(name, inputs, outputs).is_empty()).to_string();
        }
        if let Some(name) = expression.strip_prefix("inputs.") {
            return inputs.get(name).unwrap_or_else(|| panic!("no input {name}")).clone();
        }
        if let Some(name) = expression.strip_prefix("steps.run.outputs.") {
            return outputs.get(name).cloned().unwrap_or_default();
        }
        assert!(expression.starts_with("github."), "{expression}");
        self.context.get(expression).cloned().unwrap_or_default()
    }

    /// Replaces `${{ … }}`.
    fn filled(
        &self,
        text: &str,
        inputs: &BTreeMap<String, String>,
        outputs: &BTreeMap<String, String>,
    ) -> String {
        let (mut new, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${{ ") {
            let (expression, after) = after.split_once(" }}").unwrap();
            new.push_str(before);
            new.push_str(&self.evaluated(expression, inputs, outputs));
            rest = after;
        }
        new + rest
    }

    fn run(&self, given: &[(&str, &str)]) -> ActionRun {
        let action: Value =
            serde_yaml::from_str(&fs::read_to_string(root().join("action.yml")).unwrap()).unwrap();
        let mut inputs = BTreeMap::new();
        for (name, input) in action["inputs"].as_object().unwrap() {
            let given = given.iter().find(|(given, _)| given == name).map(|(_, value)| (*value).to_owned());
            let default =
                || self.filled(input["default"].as_str().unwrap(), &BTreeMap::new(), &BTreeMap::new());
            inputs.insert(name.clone(), given.unwrap_or_else(default));
        }
        assert!(given.iter().all(|(name, _)| inputs.contains_key(*name)), "{given:?}");
        for file in ["output", "summary", "path"] {
            self.w.write(&format!("runner/{file}"), "");
        }
        let (mut code, mut log, mut outputs) = (0, String::new(), BTreeMap::new());
        for step in action["runs"]["steps"].as_array().unwrap() {
            let condition = step["if"].as_str();
            let is_due = condition.is_none_or(|text| self.evaluated(text, &inputs, &outputs) == "true");
            let is_install = step["name"] == "Install" && !self.installs;
            if code != 0 || !is_due || is_install {
                continue;
            }
            let done = run(self.step(step, &inputs, &outputs));
            (code, log) = (done.code, log + &done.stdout + &done.stderr);
            outputs = pairs(&self.w.read("runner/output"));
        }
        for output in action["outputs"].as_object().unwrap().values() {
            assert!(!self.filled(output["value"].as_str().unwrap(), &inputs, &outputs).contains("${{"));
        }
        ActionRun { code, log, summary: self.w.read("runner/summary"), outputs }
    }

    /// One step as the runner's process.
    fn step(
        &self,
        step: &Value,
        inputs: &BTreeMap<String, String>,
        outputs: &BTreeMap<String, String>,
    ) -> Command {
        let mut command = self.w.command(&[]);
        assert_eq!(step["shell"], "bash");
        // `command` is the program under test; the runner starts bash.
        let environment: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        command = Command::new("bash");
        command.envs(environment).args([
            "--noprofile",
            "--norc",
            "-eo",
            "pipefail",
            "-c",
            step["run"].as_str().unwrap(),
        ]);
        let folder = step["working-directory"].as_str().unwrap_or(".");
        command.current_dir(self.w.path(&self.filled(folder, inputs, outputs)));
        let program = match self.installs {
            true => self.w.read("runner/path").trim().to_owned(),
            false => Path::new(SYNCLINE).parent().unwrap().display().to_string(),
        };
        command.env("PATH", format!("{program}:/usr/bin:/bin")).env("GITHUB_ACTION_PATH", root());
        command.env("RUNNER_TEMP", self.w.path("runner")).envs(&self.environment);
        for (name, file) in
            [("GITHUB_OUTPUT", "output"), ("GITHUB_STEP_SUMMARY", "summary"), ("GITHUB_PATH", "path")]
        {
            command.env(name, self.w.path("runner").join(file));
        }
        let variables = step["env"].as_object().into_iter().flatten();
        for (name, value) in variables {
            command.env(name, self.filled(value.as_str().unwrap(), inputs, outputs));
        }
        command
    }

    /// Runs `plan` with the trusted config.
    fn plan(&self) -> ActionRun {
        self.run(&[("trusted-config", "trusted.yaml")])
    }
}

/// Lines `name=value` of the file for outputs.
fn pairs(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .map(|line| line.split_once('=').unwrap())
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

#[test]
fn action_plan_is_one_comment_that_later_runs_update() {
    let Some(job) = Job::of_pull_request() else { return };
    // Comments of others, one of them with our marker, on more than one page.
    job.github.comment("mallory", "<!-- syncline plan sync.yaml -->\n## In sync\n\nNothing will be sent.");
    (0..120).for_each(|n| job.github.comment("ada", &format!("comment {n}")));
    let first = job.plan().expect(0, "changes", "2");
    let digest = &first.outputs["digest"];
    assert!(digest.starts_with("sha256:") && first.summary.contains(digest) && first.log.contains(digest));
    assert_eq!(digest, &job.w.run(&["plan", "--format", "json"]).json()["digest"]);
    let [created] = &job.github.comments_of(BOT)[..] else { panic!("one comment") };
    assert!(
        created
            .body
            .starts_with("<!-- syncline plan sync.yaml -->\n## :arrow_right: Ready to apply: `sync.yaml`\n"),
        "{}",
        created.body
    );
    let footer = "<sub>commit abc123, [log](https://github.com/acme/cohorts/actions/runs/42)</sub>";
    for text in ["| `Carts` (`carts`) | new cohort | 0 → 10 | 10 | 0 |", digest, footer] {
        assert!(created.body.contains(text), "{text}: {}", created.body);
    }
    assert_eq!(job.github.requests().iter().filter(|request| request.starts_with("POST")).count(), 1);
    job.w.source("carts", users(12));
    job.plan().expect(0, "changes", "2");
    let [updated] = &job.github.comments_of(BOT)[..] else { panic!("one comment") };
    assert_eq!(updated.id, created.id);
    assert!(
        updated.body.contains("| `Carts` (`carts`) | new cohort | 0 → 12 | 12 | 0 |"),
        "{}",
        updated.body
    );
    let requests = job.github.requests();
    assert!(requests.iter().all(|request| !request.starts_with("POST") && !request.starts_with("DELETE")));
    assert_eq!(job.github.comments_of("mallory").len(), 1);
    assert!(job.github.comments_of("mallory")[0].body.contains("Nothing will be sent."));
    // Nothing was applied.
    assert_eq!(job.sandbox.writes(), 0);
}

#[test]
fn action_comments_of_two_environments_do_not_replace_each_other() {
    let Some(job) = Job::of_pull_request() else { return };
    job.plan();
    job.w.write("staging --> x.yaml", job.w.read("sync.yaml"));
    let staging = [("trusted-config", "trusted.yaml"), ("config", "staging --> x.yaml")];
    job.run(&staging).expect(0, "changes", "2");
    job.run(&staging);
    let bodies: Vec<String> = job.github.comments_of(BOT).into_iter().map(|comment| comment.body).collect();
    assert_eq!(bodies.len(), 2);
    assert!(bodies[1].starts_with("<!-- syncline plan stagingx.yaml -->\n"), "{}", bodies[1]);
    // Two runs at once may both have created one. The next run keeps the first.
    job.github.comment(BOT, &bodies[0]);
    job.plan();
    assert_eq!(job.github.comments_of(BOT).len(), 2);
    job.run(&[("trusted-config", "trusted.yaml"), ("comment", "false"), ("config", "staging --> x.yaml")]);
    assert_eq!(job.github.comments_of(BOT).len(), 2);
}

#[test]
fn action_passes_exit_codes_through() {
    let Some(job) = Job::of_pull_request() else { return };
    assert_eq!(job.run(&[("command", "reconcile")]).expect(0, "applied", "0").outputs["digest"], "");
    let in_sync = job.plan().expect(0, "in_sync", "0");
    assert_eq!(in_sync.outputs["digest"], "");
    assert!(in_sync.summary.contains("Nothing will be sent."));
    job.w.source("carts", users(1));
    let blocked = job.plan().expect(6, "blocked", "6");
    assert!(blocked.summary.contains(":no_entry: **blocked**"), "{}", blocked.summary);
    assert!(job.github.comments_of(BOT)[0].body.contains(":no_entry: **blocked**"), "a failed plan is shown");
    let warn = [("trusted-config", "trusted.yaml"), ("on-blocked", "warn")];
    job.run(&warn).expect(0, "blocked", "6").logs(&["::warning title=syncline::the guard would block"]);
    // A change of the connections is an error even then: there is no plan.
    let config = job.w.read("sync.yaml");
    job.w.write("sync.yaml", config.replace("timeout: 2s", "timeout: 3s"));
    let rejected = job.run(&warn).expect(6, "blocked", "6");
    assert!(rejected.summary.contains("**blocked** (exit code 6)") && rejected.summary.contains("timeout"));
    job.w.write("sync.yaml", config.replace("version: 1", "version: 1\ngaurd: {}"));
    let invalid = job.plan().expect(3, "invalid_config", "3");
    let body = &job.github.comments_of(BOT)[0].body;
    for text in [&invalid.summary, body] {
        assert!(text.contains("## syncline plan\n\n**invalid config** (exit code 3)\n"), "{text}");
        assert!(text.contains("    ") && text.contains("gaurd"), "{text}");
    }
    for (input, value) in [("command", "forget"), ("on-blocked", "ignore")] {
        job.run(&[(input, value)]).expect(64, "usage", "64").logs(&["::error title=syncline::unknown"]);
    }
}

#[test]
fn action_reconcile_applies_and_reports() {
    let Some(job) = Job::new() else { return };
    let applied = job.run(&[("command", "reconcile"), ("arguments", "--max-adds\n\ncarts=10")]);
    let applied = applied.expect(0, "applied", "0");
    assert_eq!(job.sandbox.members("carts").len(), 10);
    assert!(
        applied
            .summary
            .starts_with("## syncline reconcile\n\n**applied** (exit code 0)\n\n    Target: Braze http")
            && applied.summary.contains("\n    carts  created")
    );
    let again = job.run(&[("command", "reconcile")]).expect(0, "in_sync", "0");
    assert!(
        again.summary.contains("    In sync: 1 cohort, 10 members, 0 requests to Braze"),
        "{}",
        again.summary
    );
    let mut wrong_key = Job::new().unwrap();
    wrong_key.environment.insert("TEST_PARTNER_KEY", "wrong".to_owned());
    let failed = wrong_key.run(&[("command", "reconcile")]).expect(4, "credentials", "4");
    assert!(failed.summary.contains("**credentials** (exit code 4)"), "{}", failed.summary);
    assert_eq!(job.github.requests(), Vec::<String>::new());
}

#[test]
fn action_check_annotates_the_config() {
    let Some(job) = Job::new() else { return };
    let more = "    rest_api_key: { env: TEST_REST_KEY }
segments:
  - { id: s, connection: braze, segment: { name: S }, include: [carts] }
";
    job.w.config(&job.sandbox, &["carts"], more);
    job.w.run(&["reconcile"]).expect(0);
    job.sandbox.admin_post("/_sandbox/segments", r#"[{"name": "S", "include": ["carts"]}]"#);
    job.run(&[("command", "check")]).expect(0, "in_sync", "0");
    job.sandbox.admin_post("/_sandbox/segments", r#"[{"name": "S", "include": ["plan=other"]}]"#);
    let drifted = job.run(&[("command", "check")]).expect(10, "drifted", "10");
    let (_, after) = drifted.log.split_once("::error file=").unwrap();
    assert!(!after.contains("::stop-commands::"), "the runner reads the annotations: {}", drifted.log);
    assert!(drifted.summary.contains("## syncline check\n\n**drifted** (exit code 10)\n\n    error: "));
}

#[test]
fn action_only_validates_pull_requests_from_forks_and_bots() {
    let Some(mut job) = Job::of_pull_request() else { return };
    let mut expect_validated = |name: &'static str, value: &str, is_context: bool| {
        let map = if is_context { &mut job.context } else { &mut job.environment };
        let before = map.insert(name, value.to_owned()).unwrap();
        for command in ["plan", "reconcile", "check"] {
            let validated =
                job.run(&[("trusted-config", "trusted.yaml"), ("command", command), ("arguments", "carts")]);
            let validated = validated
                .expect(0, "valid", "0")
                .logs(&["::notice title=syncline::The config of a pull request"]);
            assert!(validated.summary.contains("## syncline validate\n\n**valid** (exit code 0)\n"));
        }
        let map = if is_context { &mut job.context } else { &mut job.environment };
        map.insert(name, before);
        assert_eq!(job.github.requests(), Vec::<String>::new());
        assert_eq!(job.sandbox.writes(), 0);
    };
    let head = "github.event.pull_request.head.repo.full_name";
    expect_validated(head, "mallory/cohorts", true);
    // A fork that was deleted.
    expect_validated(head, "", true);
    expect_validated("GITHUB_ACTOR", "dependabot[bot]", false);
    let without = job.run(&[]).expect(0, "changes", "2");
    without.logs(&["::warning title=syncline::without `trusted-config`", "SECURITY.md"]);
    job.environment.insert("GITHUB_EVENT_NAME", "pull_request_target".to_owned());
    job.run(&[]).expect(64, "usage", "64").logs(&["on pull_request_target, set `trusted-config`"]);
    job.plan().expect(0, "changes", "2");
}

/// Values from a pull request or a caller are never part of a script.
#[test]
fn action_inputs_are_not_executed() {
    let Some(mut job) = Job::of_pull_request() else { return };
    let attack = "$(touch pwned)`touch pwned`'; touch pwned; \"\ntouch pwned\n";
    let inputs = ["command", "config", "trusted-config", "env", "arguments", "on-blocked", "comment"];
    for input in inputs.into_iter().chain(["comment-author", "token"]) {
        job.run(&[(input, attack)]);
        assert!(!job.w.path("pwned").exists(), "{input}");
    }
    for name in ["github.event.pull_request.head.sha", "github.event.pull_request.head.repo.full_name"] {
        let before = job.context.insert(name, attack.to_owned()).unwrap();
        job.plan();
        job.context.insert(name, before);
        assert!(!job.w.path("pwned").exists(), "{name}");
    }
    // The name of a file is one argument.
    job.w.write("a; touch pwned #.yaml", job.w.read("sync.yaml"));
    job.run(&[("config", "a; touch pwned #.yaml"), ("trusted-config", "trusted.yaml")])
        .expect(0, "changes", "2");
    assert!(!job.w.path("pwned").exists());
}

#[test]
fn action_comments_a_long_plan_without_its_middle() {
    let Some(job) = Job::of_pull_request() else { return };
    let ids: Vec<String> = (0..200).map(|n| format!("c{n}")).collect();
    let mut config = job.w.read("sync.yaml");
    config.truncate(config.find("  - id: carts").unwrap());
    for id in &ids {
        let name = format!("{id} {}", "long name ".repeat(20));
        config.push_str(
            &cohort_entry(id, "").replace(&format!("name: C{}", &id[1..]), &format!("name: {}", name.trim())),
        );
        job.w.write(&format!("{id}.csv"), csv(users(9)));
    }
    job.w.write("sync.yaml", &config);
    let long = job.plan().expect(0, "changes", "2");
    let body = &job.github.comments_of(BOT)[0].body;
    assert!(body.chars().count() < 61_000 && body.len() > 30_000, "{}", body.len());
    for text in ["| `c0 long", " more … | | | | |", "(`c199`) | new cohort", &long.outputs["digest"]] {
        assert!(body.contains(text), "{text}");
    }
    let lines = || body.lines().map(str::trim);
    assert!(body.contains("\n<details>"));
    assert_eq!(
        lines().filter(|l| l.starts_with("<details>")).count(),
        lines().filter(|l| *l == "</details>").count()
    );
    assert!(lines().filter(|line| line.starts_with("| `c")).all(|line| line.ends_with('|')), "whole lines");
}

/// The step counts bytes, and a plan is limited in characters: names of several bytes a character are cut.
#[test]
fn action_comments_a_long_plan_in_another_script_with_its_digest() {
    let Some(job) = Job::of_pull_request() else { return };
    let mut config = job.w.read("sync.yaml");
    config.truncate(config.find("  - id: carts").unwrap());
    for id in (0..200).map(|n| format!("c{n}")) {
        let name = format!("name: {id}{}", "買い物かご".repeat(20));
        config.push_str(&cohort_entry(&id, "").replace(&format!("name: C{}", &id[1..]), &name));
        job.w.write(&format!("{id}.csv"), csv(users(9)));
    }
    job.w.write("sync.yaml", &config);
    let long = job.plan().expect(0, "changes", "2");
    let body = &job.github.comments_of(BOT)[0].body;
    assert!(body.len() < 65_000 && body.contains("**Truncated.**"), "{}", body.len());
    assert!(long.outputs["digest"].starts_with("sha256:") && body.contains(&long.outputs["digest"]));
    let of = |tag: &str| body.lines().filter(|line| line.starts_with(tag)).count();
    assert_eq!(of("<details>"), of("</details>"));
}

#[test]
fn action_reports_a_comment_that_it_may_not_write() {
    let Some(job) = Job::of_pull_request() else { return };
    job.github.answer_with(403);
    let denied = job.plan();
    assert_eq!(denied.code, 1);
    let denied = denied.logs(&[
        "::error title=syncline::cannot write the comment: GET gave status 403",
        "Resource not accessible by integration; give the job the permission `pull-requests: write`",
    ]);
    assert!(
        denied.summary.contains("## :arrow_right: Ready to apply") && denied.outputs["result"] == "changes"
    );
    let wrong = Job::of_pull_request().unwrap();
    let unauthorized = wrong.run(&[("token", "other"), ("trusted-config", "trusted.yaml")]);
    unauthorized.logs(&["GET gave status 401, Bad credentials"]);
}

#[test]
fn action_installs_a_pinned_version() {
    let Some(mut job) = Job::new() else { return };
    job.installs = true;
    let (_web, from) = release_server();
    let version = env!("CARGO_PKG_VERSION");
    let applied = job.run(&[("command", "reconcile"), ("from", &from), ("version", version)]);
    applied.expect(0, "applied", "0").logs(&[&format!("installed syncline {version}")]);
    assert!(job.w.path("runner/syncline-bin/syncline").is_file());
    let failed = job.run(&[("from", &from), ("version", "9.9.9")]);
    assert_eq!((failed.code, failed.outputs), (1, BTreeMap::new()));
}

/// Every input has a description and a default, and reaches a script.
#[test]
fn action_inputs_are_documented_and_used() {
    let text = fs::read_to_string(root().join("action.yml")).unwrap();
    let action: Value = serde_yaml::from_str(&text).unwrap();
    for (name, input) in action["inputs"].as_object().unwrap() {
        assert!(input["description"].as_str().is_some_and(|text| text.len() > 10), "{name}");
        assert!(input["default"].is_string() && input["required"] == json!(false), "{name}");
        assert!(text.contains(&format!("${{{{ inputs.{name} }}}}")), "{name}");
    }
    let outputs: Vec<&String> = action["outputs"].as_object().unwrap().keys().collect();
    assert_eq!(outputs, ["digest", "exit-code", "result"]);
}
