//! Plans: they write nothing, have the same content in every format, and `reconcile` applies only what was
//! reviewed.

use crate::support::*;

fn reconciled(count: usize) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(count));
    w.run(&["reconcile"]).expect(0);
    (w, sandbox)
}

#[test]
fn a_plan_writes_nothing_at_all() {
    let (w, sandbox) = reconciled(500);
    w.source("carts", (20..600).map(|n| format!("user-{n}")));
    let (state, writes) = (w.snapshot("."), sandbox.writes());
    for args in [
        &["plan"][..],
        &["plan", "--format", "json"],
        &["plan", "--format", "markdown"],
        &["plan", "--show-identifiers", "carts"],
        &["status"],
        &["history"],
        &["validate"],
    ] {
        w.run(args).expect(0);
    }
    assert!(w.snapshot(".") == state, "every file is unchanged, byte for byte");
    assert_eq!(sandbox.writes(), writes);

    let fresh = Workspace::new();
    fresh.config(&sandbox, &["carts"], "").source("carts", users(3));
    fresh.run(&["plan"]).expect(0).says(&["create the cohort", "add 3"]);
    assert!(!fresh.path(".syncline").exists(), "no state is created");
}

#[test]
fn the_exit_code_shows_pending_changes() {
    let (w, _sandbox) = reconciled(50);
    w.run(&["plan", "--detailed-exitcode"]).expect(0).says(&["In sync: 1 cohort, nothing to send."]);
    w.source("carts", users(49));
    w.run(&["plan", "--detailed-exitcode"]).expect(2);
    w.run(&["plan"]).expect(0);
    w.source("carts", users(10));
    w.run(&["plan", "--detailed-exitcode"]).expect(6);
    w.write("carts.csv", "other\n");
    w.run(&["plan", "--detailed-exitcode"]).expect(1);
}

#[test]
fn counts_samples_and_cost_match_the_requests() {
    let (w, sandbox) = reconciled(3_000);
    w.source("carts", (100..3_500).map(|n| format!("user-{n}")));
    let plan = w.run(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!((plan["format_version"].as_u64(), plan["result"].as_str()), (Some(1), Some("changes")));
    let cohort = &plan["cohorts"][0];
    assert_eq!(cohort["changes"]["added"], 500);
    assert_eq!(cohort["changes"]["removed"], 100);
    assert_eq!(cohort["changes"]["unchanged"], 2_900);
    assert_eq!(cohort["samples"]["adds"].as_array().unwrap().len(), 5);
    let cost = serde_json::json!({ "requests": 2, "data_points": 600, "min_seconds": 0 });
    assert_eq!((&cohort["cost"], &plan["cost"]), (&cost, &cost));
    let before = sandbox.writes();
    let report = w.run(&["reconcile", "--format", "json"]).expect(0).json();
    assert_eq!(
        (report["cohorts"][0]["added"].as_u64(), report["cohorts"][0]["removed"].as_u64()),
        (Some(500), Some(100))
    );
    assert_eq!(sandbox.writes() - before, 2);
    assert_eq!(report["digest"], plan["digest"]);
}

#[test]
fn samples_are_shortened_by_default() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", ["someone-special@example.com".to_owned()]);
    for format in ["human", "json", "markdown"] {
        let short = w.run(&["plan", "--format", format]).expect(0).stdout;
        assert!(short.contains("some…cial@…") && !short.contains("someone"), "{short}");
        let full = w.run(&["plan", "--format", format, "--show-identifiers"]).expect(0).stdout;
        assert!(full.contains("someone-special@example.com"), "{full}");
    }
}

#[test]
fn names_cannot_break_the_markdown_table() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let cohort = cohort_entry("carts", "").replace("name: Carts", "name: 'A | B <script>'");
    w.write("sync.yaml", config(&sandbox.url, &[], "") + &cohort).source("carts", users(2));
    let text = w.run(&["plan", "--format", "markdown"]).expect(0).stdout;
    let start = "<!-- syncline plan sync.yaml -->\n## :arrow_right: Ready to apply: `sync.yaml`\n\n\
                 **1 cohort will change: 2 users enter, 0 leave.** 2 requests, 2 data points.\n";
    assert!(text.starts_with(start), "{text}");
    assert!(text.contains("| `A \\| B <script>` (`carts`) | new cohort | 0 → 2 | 2 | 0 |"), "{text}");
}

#[test]
fn expect_rejects_a_different_plan() {
    let (w, sandbox) = reconciled(100);
    w.source("carts", users(98));
    let digest =
        |w: &Workspace| w.run(&["plan", "--format", "json"]).json()["digest"].as_str().unwrap().to_owned();
    let looked_at = digest(&w);
    w.source("carts", users(97));
    w.run(&["reconcile", "--expect", &looked_at]).expect(9).says(&["not the expected", &looked_at]);
    assert_eq!(sandbox.members("carts").len(), 100, "nothing was sent");
    w.source("carts", users(98));
    w.run(&["reconcile", "--expect", &looked_at]).expect(0).says(&["removed 2"]);
    w.run(&["reconcile", "--expect", "sha256:12"]).expect(64);
}

/// A plan on one machine equals the same plan on another: the state's seed is not part of it.
#[test]
fn the_digest_does_not_depend_on_the_state() {
    let sandbox = Sandbox::start();
    let digests: Vec<String> = (0..3)
        .map(|_| {
            let w = Workspace::new();
            w.config(&sandbox, &["carts"], "").source("carts", users(50));
            w.run(&["reconcile"]).expect(0);
            w.source("carts", users(60));
            w.run(&["plan", "--format", "json"]).json()["digest"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}

#[test]
fn an_approval_for_one_workspace_is_invalid_for_another() {
    let (w, other) = (Workspace::new(), Sandbox::start());
    let sandbox = Sandbox::start();
    w.config(&sandbox, &["carts"], "").source("carts", users(5));
    let digest =
        |w: &Workspace| w.run(&["plan", "--format", "json"]).json()["digest"].as_str().unwrap().to_owned();
    let approved = digest(&w);
    w.config(&other, &["carts"], "");
    w.run(&["reconcile", "--expect", &approved]).expect(9);
    assert_eq!(other.writes(), 0);
}

#[test]
fn a_saved_plan_repeats_the_errors_of_planning() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(5));
    w.run(&["plan", "--out", "a.plan"]).expect(1).says(&["No such file", "trials"]);
    w.run(&["reconcile", "--plan", "a.plan"]).expect(1).says(&[
        "added 5",
        "it could not be planned",
        "trials.csv",
    ]);
}

#[test]
fn a_saved_plan_is_applied_even_if_the_source_changed() {
    let (w, sandbox) = reconciled(2_000);
    w.source("carts", (10..2_020).map(|n| format!("user-{n}")));
    w.run(&["plan", "--out", "the.plan"])
        .expect(0)
        .says(&["saved to the.plan; it contains user identifiers"]);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(w.path("the.plan")).unwrap().permissions().mode() & 0o777, 0o600);

    w.write("carts.csv", "broken");
    let report = w.run(&["reconcile", "--plan", "the.plan", "--format", "json"]).expect(0).json();
    assert_eq!(
        (report["cohorts"][0]["added"].as_u64(), report["cohorts"][0]["removed"].as_u64()),
        (Some(20), Some(10))
    );
    assert_eq!(sandbox.members("carts"), members((10..2_020).map(|n| format!("user-{n}"))));

    w.run(&["reconcile", "--plan", "the.plan"])
        .expect(9)
        .says(&["the plan is stale: cohort carts has been applied since"]);
}

#[test]
fn a_saved_plan_works_without_a_state() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(1_500));
    w.run(&["plan", "--out", "the.plan"]).expect(0);
    w.run(&["reconcile", "--plan", "the.plan"]).expect(0).says(&["added 1,500"]);
    assert_eq!(sandbox.members("carts"), members(users(1_500)));
}

#[test]
fn a_stale_damaged_or_blocked_saved_plan_sends_nothing() {
    let (w, sandbox) = reconciled(100);
    w.source("carts", users(60));
    w.run(&["plan", "--out", "the.plan", "--max-removes", "carts=40"]).expect(0);
    // The guard is evaluated again at apply.
    w.run(&["reconcile", "--plan", "the.plan"]).expect(6).says(&["removals blocked: 40 of 100"]);

    let bytes = std::fs::read(w.path("the.plan")).unwrap();
    w.write("cut.plan", &bytes[..bytes.len() - 9]);
    w.run(&["reconcile", "--plan", "cut.plan"]).expect(1).says(&["cut.plan is not a complete plan"]);
    w.run(&["reconcile", "--plan", "carts.csv"])
        .expect(1)
        .says(&["carts.csv is not a plan file written by `syncline plan --out`"]);
    w.run(&["reconcile", "--plan", "none.plan"]).expect(1).says(&["cannot use none.plan"]);

    w.write("sync.yaml", w.read("sync.yaml").replace("name: Carts", "name: Other"));
    w.run(&["reconcile", "--plan", "the.plan"]).expect(9).says(&["the config has changed since it was made"]);
    assert_eq!(sandbox.members("carts"), members(users(100)));
}

#[test]
fn only_the_given_cohorts_are_planned() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(3));
    w.run(&["reconcile", "carts"]).expect(0).says(&["Applied: 1 cohort"]);
    w.run(&["plan", "trials"]).expect(1);
    w.run(&["plan", "trails"]).expect(64).says(&["the config has no cohort `trails`"]);
}

#[test]
fn the_duration_at_the_rate_limit_is_shown() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "    requests_per_hour: 2\n    batch: 1\n").source("carts", users(6));
    w.run(&["plan"]).expect(0).says(&["7 requests, 6 data points, at least 3 hours at the rate limit"]);
}

/// The comment for the people who approve: what is blocked first, then what changes, and the rest in one line.
#[test]
fn the_comment_shows_problems_first_and_folds_the_rest() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let all = ["carts", "trials", "promo", "broken"];
    w.config(&sandbox, &all, "");
    for id in all {
        w.source(id, users(100));
    }
    w.run(&["reconcile"]).expect(0);
    w.source("trials", (10..120).map(|n| format!("user-{n}"))).source("promo", users(10));
    w.write("broken.csv", "other\n");
    let comment = w.run(&["plan", "--format", "markdown"]).expect(1).stdout;
    let row = |text: &str| comment.find(text).unwrap_or_else(|| panic!("{text}: {comment}"));
    let rows = [
        "## :x: Incomplete plan: `sync.yaml`",
        "**1 of 4 cohorts will change: 20 users enter, 10 leave.**",
        "| cohort | change | members now → after | enter | leave |",
        "| `broken` | :x: **could not be planned** | ? | ? | ? |",
        "| `Promo` (`promo`) | :no_entry: **blocked** | 100 → 100 | 0 | ~~90~~ |",
        "| `Trials` (`trials`) | members change | 100 → 110 | 20 | 10 |",
        "1 other cohort is in sync.",
        "### What to do",
        "- :no_entry: `promo`: removals blocked: ",
        "  - for this run only: `syncline reconcile --max-removes promo=90`",
        "<details><summary>Details: ",
        "<details><summary>Environment, digest and command</summary>",
        "- state: `.syncline`",
        "syncline reconcile --expect sha256:",
    ];
    let places = rows.map(row);
    assert!(places.is_sorted(), "{places:?} {comment}");
    assert!(!comment.contains("`Carts` (`carts`)"), "{comment}");
    assert!(!comment.contains("user-1"), "identifiers are shortened: {comment}");
}

#[test]
fn the_comment_names_the_environment() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "environments: { eu: { state: .state-eu } }\n").source("carts", users(1));
    let comment = w.run(&["plan", "-e", "eu", "--format", "markdown"]).expect(0).stdout;
    assert!(
        comment.starts_with("<!-- syncline plan sync.yaml eu -->\n## :arrow_right: Ready to apply: `eu`\n")
    );
    assert!(comment.contains("- environment: `eu`\n- Braze: `http") && comment.contains("`.state-eu`"));
    let first = |text: &str| text.lines().next().unwrap().to_owned();
    let target = first(&w.run(&["plan", "-e", "eu"]).expect(0).stdout);
    assert!(target.starts_with("Target: environment eu; Braze http"), "{target}");
    assert!(target.contains("; state .state-eu; config "), "{target}");
    assert_eq!(first(&w.run(&["reconcile", "-e", "eu"]).expect(0).stdout), target);
    let json = w.run(&["plan", "-e", "eu", "--format", "json"]).expect(0).json();
    assert_eq!(
        (&json["target"]["environment"], &json["target"]["state"]),
        (&"eu".into(), &".state-eu".into())
    );
    let digest = json["target"]["config_digest"].as_str().unwrap();
    assert!(digest.len() == 12 && target.ends_with(digest), "{target} {digest}");
}

#[test]
fn the_comment_of_a_thousand_cohorts_fits_github() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let ids: Vec<String> = (0..1_000).map(|n| format!("cohort_with_a_rather_long_id_{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let text = config(&sandbox.url, &ids, "");
    let one_source =
        ids.iter().fold(text, |text, id| text.replace(&format!("path: {id}.csv"), "path: all.csv"));
    w.write("sync.yaml", one_source).source("all", users(2));
    let comment = w.run(&["plan", "--format", "markdown"]).expect(0).stdout;
    assert!(comment.chars().count() < 60_000, "{}", comment.chars().count());
    assert!(comment.contains("**1,000 cohorts will change: 2,000 users enter, 0 leave.**"));
    for id in [
        "long_id_0`) | new cohort",
        "long_id_999`) | new cohort",
        "| … ",
        " more … | | | | |",
        "--expect sha256:",
    ] {
        assert!(comment.contains(id), "{id}: {comment}");
    }
}

/// The choice of samples depends on the changes alone, and not on the order in which a state keeps its members.
#[test]
fn equal_plans_have_equal_samples() {
    let plans: Vec<_> = (0..2)
        .map(|_| {
            let (w, _sandbox) = reconciled(300);
            w.source("carts", (20..900).map(|n| format!("user-{n}")));
            let plan = w.run(&["plan", "--format", "json"]).expect(0).json();
            plan["cohorts"][0]["samples"].clone()
        })
        .collect();
    assert_eq!(plans[0], plans[1]);
}

#[test]
fn lines_wrap_at_words_and_commands_stay_whole() {
    let (w, _sandbox) = reconciled(300);
    w.source("carts", users(3));
    let narrow = |columns: &str| {
        let mut command = w.command(&["plan"]);
        command.env("COLUMNS", columns);
        run(command).expect(6).stdout
    };
    for columns in [60, 80] {
        let text = narrow(&columns.to_string());
        for line in text.lines().filter(|line| line.chars().count() > columns) {
            assert!(line.trim_start().starts_with("syncline "), "{line}");
        }
        assert!(
            text.lines().any(|line| line.trim().starts_with("syncline approve carts --plan sha256:")),
            "{text}"
        );
    }
    let wide = w.run(&["plan"]).expect(6).stdout;
    assert!(wide.lines().any(|line| line.contains("exactly this plan: syncline approve")), "{wide}");
}

/// In CI, a plan is approved before any run has recorded it.
#[test]
fn the_plan_of_another_job_can_be_approved_with_a_warning() {
    let (w, sandbox) = reconciled(100);
    w.source("carts", users(10));
    let planned = w.run(&["plan"]).expect(6).stdout;
    let (_, command) = planned.split_once("to approve exactly this plan: ").unwrap();
    let command = command.lines().next().unwrap();
    let warning =
        "the last run has recorded no blocked plan of carts; the approval has no effect unless the next run";
    run_pasted(&w, command).expect(0).says(&["approved sha256:", warning]);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts").len(), 10);
    w.source("carts", users(1)).run(&["reconcile"]).expect(6);
    let again = w.run(&["plan"]).expect(6).stdout;
    let (_, command) = again.split_once("to approve exactly this plan: ").unwrap();
    let approved = run_pasted(&w, command.lines().next().unwrap()).expect(0);
    assert!(!approved.stdout.contains("no effect"), "{}", approved.stdout);
}

#[test]
fn a_plan_names_the_keys_that_applying_it_needs() {
    let (w, _sandbox) = reconciled(100);
    let without_key = |args: &[&str]| {
        let mut command = w.command(args);
        command.env_remove("TEST_PARTNER_KEY");
        run(command)
    };
    let in_sync = without_key(&["plan"]).expect(0);
    assert!(!in_sync.stdout.contains("TEST_PARTNER_KEY"), "nothing is to be applied: {}", in_sync.stdout);
    w.source("carts", users(101));
    let missing =
        "connection `braze` has no partner API key: the environment variable TEST_PARTNER_KEY is not set";
    without_key(&["plan"])
        .expect(0)
        .says(&["! to apply it: connection `braze` has no partner API key", "TEST_PARTNER_KEY is not set"]);
    assert_eq!(without_key(&["plan", "--format", "json"]).expect(0).json()["missing_keys"][0], missing);
    let complete = w.run(&["plan"]).expect(0);
    assert!(!complete.stdout.contains("to apply it:"), "{}", complete.stdout);
}
