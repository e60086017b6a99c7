//! The dashboard of the real program: invalid configs, permanent errors, rejected deliveries and pages of cohorts.

use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

/// Text as the page escapes it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

fn page(watch: &Watch) -> String {
    watch.get("/").body
}

fn title(watch: &Watch) -> String {
    let page = page(watch);
    page.split_once("<title>").unwrap().1.split_once("</title>").unwrap().0.to_owned()
}

/// `watch` with one cohort in sync.
fn in_sync(w: &Workspace, sandbox: &Sandbox) -> Watch {
    w.config(sandbox, &["carts"], SHORT_TIMEOUTS).source("carts", users(5));
    let watch = Watch::start(w);
    watch.until_in_sync();
    watch
}

#[test]
fn an_invalid_config_is_shown_as_validate_prints_it() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let watch = in_sync(&w, &sandbox);
    let secret = "fresh0token1value2of3some4length5";
    let broken = w.read("sync.yaml").replace("name: Carts", "nam: \"<Carts>\"");
    let key = "partner_api_key: { env: TEST_PARTNER_KEY }";
    w.replace("sync.yaml", &broken.replace(key, &format!("partner_api_kye: {secret}")));
    until("the config is invalid", || page(&watch).contains("The new config is invalid and not in use"));
    let shown = page(&watch);
    let printed = w.run(&["validate"]).expect(3).stderr;
    let lines: Vec<&str> =
        printed.lines().filter(|line| line.contains("-->") || line.contains("help:")).collect();
    assert!(lines.len() >= 4, "{printed}");
    for line in lines {
        assert!(shown.contains(&escaped(line)), "{line} is not in\n{shown}");
    }
    assert!(!shown.contains(secret) && !shown.contains("<Carts>"));
    assert_eq!(title(&watch), "1 alert needs attention – syncline");
}

/// The target that `plan` prints is at the top of every page, also after the config changed.
#[test]
fn every_page_names_the_target_as_plan_does() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let environments = format!("{SHORT_TIMEOUTS}environments: {{ staging: {{ state: staging }} }}\n");
    w.config(&sandbox, &["carts"], &environments).source("carts", users(5));
    w.write(".git/HEAD", "0123456789abcdef0123456789abcdef01234567\n");
    let watch = Watch::from_command(&mut w.command(&["watch", "-e", "staging"]));
    watch.until_ready();
    watch.until_in_sync();
    let check = || {
        let plan = w.run(&["plan", "-e", "staging"]).expect(0).stdout;
        let target = plan.lines().find_map(|line| line.strip_prefix("Target: ")).unwrap().to_owned();
        assert!(target.starts_with("environment staging; Braze http"), "{target}");
        assert!(target.ends_with("; revision 0123456789ab"), "{target}");
        let parts: Vec<String> = target
            .split("; ")
            .map(|part| part.split_once(' ').unwrap())
            .map(|(label, value)| format!("<span>{label} <b><bdi>{}</bdi></b></span>", escaped(value)))
            .collect();
        for path in ["/", "/cohorts/carts"] {
            until("the page names the target", || {
                let page = watch.get(path).body;
                let header = page.split_once("</header>").unwrap().0;
                parts.iter().all(|part| header.contains(part))
            });
        }
        target
    };
    let before = check();
    w.replace("sync.yaml", &w.read("sync.yaml").replace("name: Carts", "name: All carts"));
    assert_ne!(check(), before);
}

#[test]
fn an_error_that_no_retry_ends_needs_attention_and_one_of_braze_does_not() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let watch = in_sync(&w, &sandbox);
    assert_eq!(title(&watch), "Everything is in sync – syncline");
    w.replace("carts.csv", "user\nuser-1\n");
    until("the error is an alert", || title(&watch).starts_with("1 alert needs attention"));
    let shown = page(&watch);
    let (_, attention) = shown.split_once("Needs attention").unwrap();
    assert!(
        attention.contains("no column `identity`") || attention.contains("<code>identity</code>"),
        "{shown}"
    );
    w.source("carts", users(6));
    watch.until_in_sync();
    sandbox.faults(r#"[{"on": "users", "times": 0, "do": {"status": 503}}]"#);
    w.source("carts", users(9));
    until("the failure is temporary", || page(&watch).contains("No action needed"));
    assert_eq!(title(&watch), "Nothing needs attention – syncline");
}

#[test]
fn deliveries_with_a_wrong_signature_are_an_alert() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let heap = "  heap: { kind: heap, webhook_secret: { env: TEST_WEBHOOK } }\n";
    w.config(&sandbox, &["carts"], &(heap.to_owned() + SHORT_TIMEOUTS)).source("carts", users(5));
    let watch = Watch::from_command(w.command(&["watch"]).env("TEST_WEBHOOK", "whsec_test"));
    watch.until_ready();
    watch.until_in_sync();
    assert!(!page(&watch).contains("Rejected deliveries"));
    #[allow(clippy::disallowed_methods, reason = "a test signs with the present time")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let wrong = format!("ts:{now},hmac:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    for (path, headers, status) in [
        ("/heap/heap", &[("heap-hash", wrong.as_str())][..], 403),
        ("/heap/heap", &[][..], 400),
        ("/secret-path", &[][..], 404),
    ] {
        assert_eq!(http(&watch.endpoints(), "POST", path, headers, r#"{"user":"user-1"}"#).status, status);
    }
    let shown = page(&watch);
    for text in
        ["Rejected deliveries", "Invalid signature (403)", "Heap-Hash is missing (400)", "not found (404)"]
    {
        assert!(shown.contains(text), "{text} is not in\n{shown}");
    }
    assert!(
        shown.contains("1 delivery was rejected, and none is accepted since: Invalid signature"),
        "{shown}"
    );
    assert_eq!(title(&watch), "2 alerts need attention – syncline");
    assert!(!shown.contains("secret-path") && !shown.contains("user-1"), "nothing of a request is shown");
}

#[test]
fn a_cohort_has_a_page_with_its_plans_and_rejects() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], SHORT_TIMEOUTS)
        .source("carts", users(5).chain([String::new(), "null".to_owned()]));
    let watch = Watch::start(&w);
    watch.until_in_sync();
    w.source("carts", users(8).chain([String::new(), "null".to_owned()]));
    until("the second run has ended", || watch.get("/cohorts/carts").body.contains("+3 −0"));
    let shown = watch.get("/cohorts/carts");
    assert_eq!(shown.status, 200);
    for text in [
        "+5 −0",
        "minimum 0, maximum 8, change +8",
        "Rejected rows of the last plan",
        "placeholder",
        "sync.yaml:",
    ] {
        assert!(shown.body.contains(text), "{text} is not in\n{}", shown.body);
    }
    assert!(!shown.body.contains("user-1"), "no member is shown");
    assert!(page(&watch).contains("href=\"cohorts/carts\""));
    let unknown = watch.get("/cohorts/unknown");
    assert_eq!((unknown.status, unknown.body.contains("no cohort")), (404, true));
}

/// The exact time after a text of the page.
fn time_after(page: &str, text: &str) -> String {
    let (_, rest) = page.split_once(text).unwrap_or_else(|| panic!("{text} is not in\n{page}"));
    rest.split_once("datetime=\"").unwrap().1.split_once('"').unwrap().0.to_owned()
}

/// A leader with a cohort in sync and a cohort with blocked removals.
fn with_block(w: &Workspace, sandbox: &Sandbox) -> Watch {
    w.config(sandbox, &["carts", "trials"], &(SHORT_TIMEOUTS.to_owned() + "  poll: 100ms\n"));
    w.source("carts", users(50)).source("trials", users(7));
    let watch = Watch::start(w);
    watch.until_in_sync();
    w.source("carts", users(5));
    until("removals are blocked", || page(&watch).contains("needs approval"));
    watch
}

#[test]
fn a_standby_shows_the_recorded_state() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let leader = with_block(&w, &sandbox);
    let standby = Watch::from_command(&mut w.command(&["watch"]));
    until("it shows the recorded state", || page(&standby).contains("as the state records them"));
    let (of_leader, of_standby) = (page(&leader), page(&standby));
    assert_eq!(title(&standby), "1 alert needs attention – syncline");
    for text in [
        "<b>50</b>",
        "<b>7</b>",
        "in sync</span>",
        "needs approval</span>",
        "removals blocked: 45 of 50 members would leave",
    ] {
        assert!(of_standby.contains(text), "{text} is not in\n{of_standby}");
    }
    let command =
        of_leader.split_once("class=\"command\">syncline approve ").unwrap().1.split_once('<').unwrap().0;
    assert!(of_standby.contains(command), "{command} is not in\n{of_standby}");
    assert!(of_standby.contains("Last plan: blocked: +0 −45"), "{of_standby}");
    let history = of_standby.split_once("<h2 id=\"history\">").unwrap().1;
    assert!(history.contains("+50") && history.contains("blocked: removals blocked"), "{history}");
    let of_trials = standby.get("/cohorts/trials").body;
    assert!(of_trials.contains("Not known: this process") && of_trials.contains("+7 −0"), "{of_trials}");
    assert!(!of_standby.contains("Not planned yet"), "{of_standby}");
    let moment = time_after(&of_leader, "As of ");
    assert!(time_after(&of_standby, "Blocked for ") < moment, "{moment}");
    w.source("trials", users(9));
    until("it follows the state", || page(&standby).contains("<b>9</b>"));
    leader.kill();
    standby.until_ready();
    until("it runs itself", || page(&standby).contains("Code: <code>"));
    assert!(time_after(&page(&standby), "Blocked for ") < moment, "{moment}");
}

/// The state records whether a retry may help, so a standby knows it.
#[test]
fn a_standby_distinguishes_permanent_failures() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], &(SHORT_TIMEOUTS.to_owned() + "  poll: 100ms\n"));
    w.replace("carts.csv", "user\nuser-1\n");
    let leader = Watch::start(&w);
    until("the column is missing", || page(&leader).contains("needs a fix"));
    let standby = Watch::from_command(&mut w.command(&["watch"]));
    until("it shows the recorded failure", || title(&standby).starts_with("1 alert needs attention"));
    assert!(page(&standby).contains("needs a fix"), "{}", page(&standby));
    w.source("carts", users(6));
    leader.until_in_sync();
    sandbox.faults(r#"[{"on": "users", "times": 0, "do": {"status": 503}}]"#);
    w.source("carts", users(9));
    until("the failure is temporary", || page(&standby).contains("No action needed"));
}

#[test]
fn times_and_history_survive_a_restart() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let watch = with_block(&w, &sandbox);
    w.replace("trials.csv", "user\nuser-1\n");
    until("a run has failed", || page(&watch).contains("needs a fix"));
    let history = |page: &str| page.split_once("<h2 id=\"history\">").unwrap().1.to_owned();
    let before = page(&watch);
    for text in ["failed: ", "blocked: removals blocked: 45 of 50 members would leave", " UTC"] {
        assert!(history(&before).contains(text), "{text} is not in\n{before}");
    }
    assert_eq!(watch.stop(), 0);
    let watch = Watch::start(&w);
    until("the first runs have ended", || {
        page(&watch).contains("needs a fix") && page(&watch).contains("Code: <code>")
    });
    let after = page(&watch);
    for text in ["failed: ", "blocked: removals blocked: 45 of 50 members would leave", "+50"] {
        assert!(history(&after).contains(text), "{text} is not in\n{after}");
    }
    let moment = time_after(&before, "As of ");
    for (page, text) in [
        (&after, "Blocked for "),
        (&after, "Failing for "),
        (&watch.get("/cohorts/trials").body, "last in sync "),
    ] {
        assert!(time_after(page, text) < moment, "{text} is a time of this process: {page}");
    }
}
