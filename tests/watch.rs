//! `watch`: events, their effects, and the reported status.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

/// A workspace with these cohorts, and a `watch`.
fn start_watch(cohorts: &[&str], more: &str) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, cohorts, &(SHORT_TIMEOUTS.to_owned() + more));
    (w, sandbox)
}

fn until_members(sandbox: &Sandbox, cohort: &str, people: impl Iterator<Item = String> + Clone) {
    until(&format!("{cohort} has its members"), || sandbox.members(cohort) == members(people.clone()));
}

#[test]
fn a_changed_source_is_synced_automatically() {
    let (w, sandbox) = start_watch(&["carts", "trials"], "");
    w.source("carts", users(50)).source("trials", users(20));
    let watch = Watch::start(&w);
    until_members(&sandbox, "carts", users(50));
    until_members(&sandbox, "trials", users(20));
    w.source("carts", users(45));
    until_members(&sandbox, "carts", users(45));
    // Also written in place.
    fs::OpenOptions::new()
        .append(true)
        .open(w.path("trials.csv"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"user-new\n"))
        .unwrap();
    until_members(&sandbox, "trials", users(20).chain(["user-new".to_owned()]));
    watch.until_in_sync();
    assert_eq!(watch.metric("syncline_members{cohort=\"carts\"}"), 45.0);
    assert_eq!(watch.stop(), 0);
    w.run(&["reconcile"]).expect(0).says(&["In sync: 2 cohorts"]);
}

#[test]
fn a_changed_config_is_applied_and_an_invalid_one_is_ignored() {
    let (w, sandbox) = start_watch(&["carts", "trials"], "");
    w.source("carts", users(50)).source("trials", users(20)).source("late", users(5));
    let watch = Watch::start(&w);
    watch.until_in_sync();
    let before = watch.metric("syncline_run_duration_seconds_count");
    let config = w.read("sync.yaml");
    w.replace("sync.yaml", &config.replace("name: Carts", "name: Full carts"));
    until("the name is sent", || sandbox.names().contains(&("carts".to_owned(), "Full carts".to_owned())));
    let runs = || watch.metric("syncline_run_duration_seconds_count");
    until("the run has ended", || runs() > before);
    assert_eq!(runs(), before + 1.0, "only what changed");
    // Neither invalid YAML nor an unknown key.
    for bad in ["version: 1\ncohorts: [", &config.replace("version: 1", "version: 1\nnonsense: 1")] {
        w.replace("sync.yaml", bad);
        until("the page shows it", || watch.ready()["config"] != "valid");
        assert_eq!(watch.get("/readyz").status, 200, "the last valid config stays in use");
        assert_eq!(watch.metric("syncline_config_valid"), 0.0);
        w.source("carts", users(51));
        until_members(&sandbox, "carts", users(51));
        w.replace("sync.yaml", &config);
        until("it is in sync again", || watch.ready()["config"] == "valid");
        w.source("carts", users(50));
        until_members(&sandbox, "carts", users(50));
    }
    watch.until_logs("the last valid one stays in use", 2);
    w.replace("sync.yaml", &(config + &cohort_entry("late", "")));
    until_members(&sandbox, "late", users(5));
}

/// A file changed through a hard link: the watched folder gets no event.
#[test]
fn a_change_without_a_file_event_is_found_by_polling() {
    let (w, sandbox) = start_watch(&["carts"], "  poll: 300ms\n");
    w.source("carts", users(5)).write("elsewhere/keep", "");
    fs::hard_link(w.path("carts.csv"), w.path("elsewhere/list.csv")).unwrap();
    let watch = Watch::start(&w);
    watch.until_in_sync();
    let mut file = fs::OpenOptions::new().append(true).open(w.path("elsewhere/list.csv")).unwrap();
    std::io::Write::write_all(&mut file, b"user-new\n").unwrap();
    until_members(&sandbox, "carts", users(5).chain(["user-new".to_owned()]));
}

#[test]
fn replaced_symbolic_links_are_detected() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.source("carts", users(10));
    let text = |name: &str| {
        let text =
            config(&sandbox.url, &["carts"], SHORT_TIMEOUTS).replace("name: Carts", &format!("name: {name}"));
        text.replace("path: carts.csv", &format!("path: {}", w.path("carts.csv").display()))
            + &format!("roots: [{}]\n", w.path("").display())
    };
    // As Kubernetes does it: a link to a link to a folder that is replaced.
    w.write("etc/..one/sync.yaml", text("One"));
    symlink("..one", w.path("etc/..data")).unwrap();
    symlink("..data/sync.yaml", w.path("etc/sync.yaml")).unwrap();
    let watch = Watch::from_command(&mut w.command(&["watch", "-c", "etc/sync.yaml"]));
    let named = |name: &str| {
        until(&format!("it is {name}"), || sandbox.names().contains(&("carts".to_owned(), name.to_owned())));
    };
    named("One");
    for name in ["Two", "Three", "Four"] {
        w.write(&format!("etc/..{name}/sync.yaml"), text(name));
        symlink(format!("..{name}"), w.path("etc/..tmp")).unwrap();
        #[allow(clippy::disallowed_methods, reason = "a test's files")]
        fs::rename(w.path("etc/..tmp"), w.path("etc/..data")).unwrap();
        named(name);
    }
    assert_eq!(watch.stop(), 0);
}

#[test]
fn a_blocked_cohort_waits_for_approval_and_delays_no_other() {
    let (w, sandbox) = start_watch(&["carts", "trials"], "");
    w.source("carts", users(50)).source("trials", users(20));
    let watch = Watch::start(&w);
    watch.until_in_sync();
    w.source("carts", users(10)).source("trials", users(19));
    until("the plan is blocked", || watch.ready()["not_in_sync"]["carts"] == "blocked");
    until_members(&sandbox, "trials", users(19));
    assert_eq!(sandbox.members("carts").len(), 50);
    watch.until_logs("syncline approve carts --plan ", 1);
    let log = watch.log();
    let command = log.split("syncline approve carts --plan ").nth(1);
    let plan = command.and_then(|rest| rest.split_whitespace().next()).unwrap_or_else(|| panic!("{log}"));
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("cohort=carts")).collect();
    let has = |texts: &[&str]| lines.iter().any(|line| texts.iter().all(|text| line.contains(text)));
    assert!(has(&["planned", "adds=0 removes=0", "blocked_removes=40"]), "{log}");
    assert!(has(&["blocked", "added=0 removed=0", "blocked_removes=40"]), "{log}");
    assert_eq!(
        lines.iter().filter(|line| line.contains(" applied ")).count(),
        1,
        "only the first run: {log}"
    );
    let page = watch.get("/").body;
    assert!(page.contains("Last plan: blocked: +0 −40"), "{page}");
    let of_cohort = watch.get("/cohorts/carts").body;
    for text in ["0 to add, 0 to remove, 10 unchanged; blocked: 0 to add, 40 to remove", ">blocked: +0 −40<"]
    {
        assert!(of_cohort.contains(text), "{text} is not in\n{of_cohort}");
    }
    // The approval of another plan does not count.
    let other = format!("sha256:{}", "0".repeat(64));
    let text = "the last run of carts blocked another plan, sha256:";
    w.run(&["approve", "carts", "--plan", &other]).expect(0).says(&[text, plan]);
    w.run(&["approve", "absent", "--plan", plan]).expect(64).says(&["no cohort `absent`"]);
    w.run(&["approve", "carts", "--plan", plan]).expect(0).says(&["approved", plan]);
    until_members(&sandbox, "carts", users(10));
    watch.until_in_sync();
    // The approval was for this plan, not for the next one.
    w.source("carts", users(2));
    until("the plan is blocked again", || watch.ready()["not_in_sync"]["carts"] == "blocked");
    assert_eq!(sandbox.members("carts").len(), 10);
}

/// Removals of one cohort are blocked, and everything of the other one.
#[test]
fn the_dashboard_shows_what_continues_in_a_blocked_cohort() {
    let (w, sandbox) = start_watch(&["carts", "trials"], "");
    w.source("carts", users(50)).source("trials", users(0));
    let watch = Watch::start(&w);
    until_members(&sandbox, "carts", users(50));
    w.source("carts", users(10));
    let blocked = serde_json::json!({ "carts": "blocked", "trials": "blocked" });
    until("both are blocked", || watch.ready()["not_in_sync"] == blocked);
    let page = watch.get("/").body;
    let of_carts = page.find("<code>removed_share</code>").unwrap();
    let of_trials = page.find("<code>empty_source</code>").unwrap();
    assert_eq!(page.matches("; additions continue.").count(), 1);
    assert_eq!(page.matches("; no member is added or removed.").count(), 1);
    let order = |a: &str, b: &str| page.find(a) < page.find(b);
    assert_eq!(of_carts < of_trials, order("; additions continue.", "; no member is added or removed."));
}

#[test]
fn a_failed_cohort_is_retried_and_delays_no_other() {
    let (w, sandbox) = start_watch(&["carts", "trials"], "");
    w.source("carts", users(50)).source("trials", users(20));
    sandbox.faults(r#"[{"on": "users", "cohort_id": "carts", "times": 12, "do": {"status": 503}}]"#);
    let watch = Watch::start(&w);
    until_members(&sandbox, "trials", users(20));
    until_members(&sandbox, "carts", users(50));
    watch.until_in_sync();
    assert!(watch.metric("syncline_retries_total{cohort=\"carts\"}") >= 12.0);
    // A missing source is not an empty one.
    fs::remove_file(w.path("carts.csv")).unwrap();
    until("the run fails", || watch.ready()["not_in_sync"]["carts"] == "failing");
    assert_eq!(sandbox.members("carts").len(), 50);
    w.source("carts", users(49));
    until_members(&sandbox, "carts", users(49));
}

#[test]
fn a_stop_finishes_the_current_batch() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--latency", "60"]));
    w.config(&sandbox, &["carts"], &("    batch: 10\n".to_owned() + SHORT_TIMEOUTS));
    w.source("carts", users(1000));
    let watch = Watch::start(&w);
    until("requests are sent", || sandbox.members("carts").len() >= 50);
    let began = Instant::now();
    let watch_log = watch.log();
    assert_eq!(watch.stop(), 0);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let sent = sandbox.members("carts").len();
    assert!(sent < 1000, "it must stop within the list");
    let status = w.run(&["status", "--format", "json"]).expect(0).json();
    assert_eq!(
        status["cohorts"][0]["membership"]["members"].as_u64(),
        Some(sent as u64),
        "and its requests are recorded"
    );
    assert_eq!(status["cohorts"][0]["last_outcome"]["result"], "stopped", "a stop is no failure");
    assert!(!watch_log.contains("failing: "), "{watch_log}");
    let run = &w.run(&["history", "--format", "json"]).expect(0).json()["runs"][0];
    assert_eq!(
        (&run["result"], &run["cohorts"][0]["error"]),
        (&json!("applied_in_part"), &json!("stopped as requested"))
    );
    w.run(&["state", "verify"]).expect(0);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts").len(), 1000);
}

/// A slow source does not keep a stopping process alive.
#[test]
fn a_stop_does_not_wait_for_planning() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["big"], &SHORT_TIMEOUTS.replace("grace: 5s", "grace: 200ms"));
    w.source("big", users(1_000_000));
    let watch = Watch::start(&w);
    std::thread::sleep(Duration::from_millis(200));
    watch.signal(Signal::SIGTERM);
    watch.until_logs("the grace period has ended", 1);
    let log = watch.ended_well();
    assert!(!log.contains("planned cohort=big"), "{log}");
}

#[test]
fn a_standby_takes_over() {
    let (w, sandbox) = start_watch(&["carts"], "");
    w.source("carts", users(50));
    let first = Watch::start(&w);
    first.until_in_sync();
    let second = Watch::from_command(&mut w.command(&["watch"]));
    until("it is a standby", || second.get("/readyz").body.contains("standby; the lease is held by"));
    assert_eq!(second.get("/readyz").status, 503);
    assert_eq!(second.get("/livez").status, 200);
    assert!(second.ready()["role"].as_str().unwrap().contains(&format!("process {}", first.id())));
    w.run(&["reconcile"]).expect(8).says(&["held by"]);
    first.kill();
    second.until_ready();
    w.source("carts", users(49));
    until_members(&sandbox, "carts", users(49));
    assert_eq!(second.stop(), 0);
}

#[test]
fn a_reload_signal_reads_everything_again() {
    let (w, sandbox) = start_watch(&["carts"], "");
    w.source("carts", users(5));
    let text = w.read("sync.yaml").replace("{ env: TEST_PARTNER_KEY }", "{ file: partner_key }");
    w.write("sync.yaml", text).write("partner_key", "not the key");
    let private = |name: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(w.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    private("partner_key");
    let watch = Watch::start(&w);
    until("the key is rejected", || watch.ready()["not_in_sync"]["carts"] == "failing");
    w.write("key.new", PARTNER_KEY);
    private("key.new");
    #[allow(clippy::disallowed_methods, reason = "a test's files")]
    fs::rename(w.path("key.new"), w.path("partner_key")).unwrap();
    until_members(&sandbox, "carts", users(5));
    watch.signal(Signal::SIGHUP);
    watch.until_logs("reload requested by a signal", 1);
    watch.until_in_sync();
    assert!(!watch.log().contains(PARTNER_KEY) && !watch.log().contains("not the key"));
}

#[test]
fn the_admin_listener_serves_known_hosts_and_is_read_only() {
    let (w, _sandbox) = start_watch(&["carts"], "  admin_hosts: [syncline.acme.internal]\n");
    w.source("carts", users(5));
    let watch = Watch::start(&w);
    let request = |host: &str, method: &str, path: &str| raw(&watch.admin(), host, method, path);
    assert_eq!(request("127.0.0.1:9090", "GET", "/readyz"), 200);
    assert_eq!(request("localhost", "GET", "/readyz"), 200);
    assert_eq!(request("syncline.acme.internal:9090", "GET", "/readyz"), 200);
    assert_eq!(request("evil.example", "GET", "/readyz"), 421);
    assert_eq!(request("localhost", "POST", "/readyz"), 405);
    assert_eq!(request("localhost", "GET", "/nothing"), 404);
}

/// The status of a response to a request with this `Host`.
fn raw(url: &str, host: &str, method: &str, path: &str) -> u16 {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_schedule_starts_cohort_runs() {
    let (w, sandbox) = start_watch(&["carts"], "  schedule: { every: 1s }\n");
    w.source("carts", users(5));
    let watch = Watch::start(&w);
    watch.until_in_sync();
    let runs = watch.metric("syncline_run_duration_seconds_count");
    until("a cohort run has ended", || watch.metric("syncline_run_duration_seconds_count") >= runs + 2.0);
    assert_eq!(sandbox.writes(), 2, "and there was nothing to do");
}

#[test]
fn a_changed_schedule_applies_at_once() {
    let (w, _sandbox) = start_watch(&["carts"], "  schedule: { every: 24h }\n");
    w.source("carts", users(5));
    let watch = Watch::start(&w);
    watch.until_in_sync();
    let runs = || watch.metric("syncline_run_duration_seconds_count");
    let before = runs();
    w.replace("sync.yaml", &w.read("sync.yaml").replace("24h", "1s"));
    until("cohort runs repeat", || runs() >= before + 3.0);
}

/// The same plan is blocked and approved twice, as when an export is empty every other day.
#[test]
fn the_same_block_can_be_approved_again() {
    let (w, sandbox) = start_watch(&["carts"], "");
    w.source("carts", users(50));
    let watch = Watch::start(&w);
    for round in 1..=2 {
        until_members(&sandbox, "carts", users(50));
        watch.until_in_sync();
        w.source("carts", users(10));
        until("the plan is blocked", || watch.ready()["not_in_sync"]["carts"] == "blocked");
        watch.until_logs("syncline approve carts --plan ", round);
        let log = watch.log();
        let plan = log.rsplit("syncline approve carts --plan ").next().unwrap().split_whitespace().next();
        w.run(&["approve", "carts", "--plan", plan.unwrap()]).expect(0);
        until(&format!("round {round} is done"), || sandbox.members("carts").len() == 10);
        w.source("carts", users(50));
    }
}

#[test]
fn a_persistent_block_is_journaled_once() {
    let (w, _sandbox) = start_watch(&["carts"], "  schedule: { every: 1s }\n");
    w.source("carts", users(50));
    let watch = Watch::start(&w);
    watch.until_in_sync();
    w.source("carts", users(10));
    until("the plan is blocked", || watch.ready()["not_in_sync"]["carts"] == "blocked");
    let runs = || watch.metric("syncline_run_duration_seconds_count");
    let (before, journal) = (runs(), w.snapshot(".syncline/journal").len());
    until("a cohort run has ended", || runs() >= before + 3.0);
    assert_eq!(w.snapshot(".syncline/journal").len(), journal);
    assert_eq!(watch.ready()["not_in_sync"]["carts"], "blocked");
    // More users would leave by now, and that is reported.
    w.source("carts", users(9));
    watch.until_logs("41 of 50", 1);
}

#[test]
fn settings_that_need_a_restart_are_reported_until_then() {
    let (w, _sandbox) = start_watch(&["carts"], "");
    w.source("carts", users(5));
    let watch = Watch::start(&w);
    let text = w.read("sync.yaml");
    let other = text.replace("grace: 5s", "grace: 5s\n  limits: { streams: 7 }");
    w.replace("sync.yaml", &other);
    until("it is reported", || watch.ready()["needs_restart"][0] == "watch.limits");
    w.replace("sync.yaml", &other.replace("name: Carts", "name: More carts"));
    let digest = watch.ready()["config_digest"].clone();
    until("the source is read", || watch.ready()["config_digest"] != digest);
    assert_eq!(watch.ready()["needs_restart"][0], "watch.limits");
    w.replace("sync.yaml", &text);
    until("no restart is needed", || watch.ready()["needs_restart"].as_array().unwrap().is_empty());
}

#[test]
fn the_dashboard_shows_the_current_status() {
    let Some(browser) = Browser::start() else { return };
    let (w, _sandbox) = start_watch(&["carts", "trials", "gone"], "");
    w.source("carts", users(50)).source("trials", users(20));
    let watch = Watch::start(&w);
    until("two cohorts are in sync", || watch.ready()["not_in_sync"].as_object().unwrap().len() == 1);
    w.source("carts", users(70));
    until("the cohort has grown", || watch.metric("syncline_members{cohort=\"carts\"}") == 70.0);
    w.source("carts", users(5));
    until("the plan is blocked", || watch.ready()["not_in_sync"]["carts"] == "blocked");
    w.write("sync.yaml", w.read("sync.yaml") + "nonsense: 1\n");
    until("the config is invalid", || watch.ready()["config"] != "valid");
    browser.resize(1280, 1600);
    browser.open(&format!("{}/", watch.admin()));
    let text = browser.run("return document.body.innerText");
    let text = text.as_str().unwrap();
    for shown in [
        "The new config is invalid and not in use",
        "nonsense",
        "removals",
        "syncline approve carts --plan sha256:",
        "Trials",
        "70",
        "gone.csv",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    assert!(!text.contains("user-"), "no identifier is shown");
    assert_eq!(browser.console(), Vec::<String>::new());
    if let Some(folder) = screenshots() {
        use std::io::Write as _;
        let picture = fs::File::create(format!("{folder}/watch.png.base64"));
        picture.and_then(|mut file| file.write_all(browser.screenshot().as_bytes())).unwrap();
    }
    let request = http(&watch.admin(), "GET", "/", &[], "");
    assert!(request.headers.contains("content-security-policy: default-src 'none'"), "{}", request.headers);
    w.write("sync.yaml", w.read("sync.yaml").replace("nonsense: 1\n", ""));
    until("it is in sync again", || watch.ready()["config"] == "valid");
    // The next process knows the earlier runs.
    assert_eq!(watch.stop(), 0);
    let watch = Watch::start(&w);
    until("the page shows earlier runs", || {
        let page = watch.get("/").body;
        page.contains("<svg") && page.contains("updated") && page.contains("+20")
    });
}

#[allow(clippy::disallowed_methods, reason = "a switch for screenshots")]
fn screenshots() -> Option<String> {
    std::env::var("SYNCLINE_SCREENSHOTS").ok()
}
