//! Several processes with one state, in a folder and in a bucket: a standby takes over completely, and every
//! delivery acknowledged with 200 counts, whichever process acknowledged it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::s3::S3;
use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

/// The config changes during standby: the process takes over with the current config.
#[test]
fn a_standby_takes_over_with_the_current_config() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], SHORT_TIMEOUTS)
        .source("carts", users(50))
        .source("trials", users(20));
    let first = Watch::start(&w);
    first.until_in_sync();
    let second = Watch::from_command(&mut w.command(&["watch"]));
    until("it is a standby", || second.get("/readyz").body.contains("standby; the lease is held by"));
    let named = |name: &str| sandbox.names().contains(&("carts".to_owned(), name.to_owned()));
    let runs = || first.metric("syncline_run_duration_seconds_count");
    let passed = runs();
    w.replace("sync.yaml", &w.read("sync.yaml").replace("name: Carts", "name: Full carts"));
    until("the first process sent the name", || named("Full carts") && runs() > passed);
    until("the second process has the config", || {
        second.ready()["config_digest"] == first.ready()["config_digest"]
    });
    let names = || sandbox.requests()["names"].as_u64().unwrap();
    let before = names();
    first.kill();
    second.until_ready();
    second.until_in_sync();
    assert!(named("Full carts"), "{:?}", sandbox.names());
    assert_eq!(names(), before, "no request had an old name");
}

/// A proxy in front of a store. It can be cut, or delay data.
struct CuttableProxy {
    url: String,
    how: Arc<AtomicU8>,
}

const FORWARDING: u8 = 0;
const CUT: u8 = 1;
const PAUSED: u8 = 2;

impl CuttableProxy {
    fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = format!("http://{}", listener.local_addr().unwrap());
        let (how, there) =
            (Arc::new(AtomicU8::new(FORWARDING)), url.strip_prefix("http://").unwrap().to_owned());
        let is = Arc::clone(&how);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if is.load(Relaxed) == CUT {
                    continue;
                }
                let Ok(far) = TcpStream::connect(&there) else { continue };
                let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
                for (from, to) in [(near, far), back] {
                    let is = Arc::clone(&is);
                    std::thread::spawn(move || forward(from, to, &is));
                }
            }
        });
        Self { url: ours, how }
    }

    fn is(&self, how: u8) {
        self.how.store(how, Relaxed);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, is: &AtomicU8) {
    let mut chunk = [0; 16 << 10];
    while let Ok(len @ 1..) = from.read(&mut chunk) {
        while is.load(Relaxed) == PAUSED {
            std::thread::sleep(Duration::from_millis(5));
        }
        if is.load(Relaxed) == CUT || to.write_all(&chunk[..len]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

const HEAP: &str = "  heap: { kind: heap }\n";

fn command(w: &Workspace) -> Command {
    let mut command = w.command(&["watch"]);
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command
}

/// A cohort from a file and one from a segment, with the state in a bucket.
fn in_bucket(state: &str) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let free = cohort_entry("free", "    guard: { max_removed: 100%, allow_empty: true }\n")
        .replace("{ kind: file, path: free.csv }", "{ kind: heap_segment, connection: heap, segment_id: 7 }")
        .replace("external_id: identity", "external_id: id");
    w.write(
        "sync.yaml",
        config(&sandbox.url, &["carts"], &(HEAP.to_owned() + SHORT_TIMEOUTS)) + &free + state,
    );
    w.source("carts", users(20));
    (w, sandbox)
}

fn deliver(watch: &Watch, sync: &str, ids: &[&str]) -> u16 {
    let ids: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":"{id}"}}"#)).collect();
    let body = format!(
        r#"{{"action_type":"segment.users.sync","data":{{"segment":{{"id":7,"name":"S"}},"sync_info":{{"page_number":1,"total_pages":1,"sync_task_id":"{sync}"}},"add":[{}]}}}}"#,
        ids.join(",")
    );
    http(&watch.endpoints(), "POST", "/heap/heap", &[], &body).status
}

#[test]
fn with_a_bucket_the_standby_takes_over_from_a_killed_or_paused_leader() {
    let Some(s3) = S3::start() else { return };
    let (w, sandbox) = in_bucket(&s3.config("2s"));
    let first = Watch::from_command(&mut command(&w));
    first.until_ready();
    until("the members of carts are in", || sandbox.members("carts") == members(users(20)));
    assert_eq!(deliver(&first, "one", &["a", "b"]), 200);
    until("delivered users are in", || sandbox.members("free").len() == 2);
    let second = Watch::from_command(&mut command(&w));
    until("it is a standby", || second.get("/readyz").body.contains("standby; the lease is held by"));
    assert_eq!(deliver(&second, "two", &["c"]), 503, "a standby accepts no deliveries");
    // Delivered and killed at once: what was acknowledged with 200 is in the bucket.
    assert_eq!(deliver(&first, "two", &["c"]), 200);
    first.kill();
    second.until_ready();
    until("delivered users are in", || sandbox.members("free").len() == 3);
    let third = Watch::from_command(&mut command(&w));
    until("it is a standby", || third.get("/readyz").body.contains("standby; the lease is held by"));
    second.signal(Signal::SIGSTOP);
    third.until_ready();
    w.source("carts", users(19));
    until("a member left", || sandbox.members("carts") == members(users(19)));
    second.signal(Signal::SIGCONT);
    assert_eq!(deliver(&second, "three", &["d"]), 503, "its lease has ended");
    until("it is a standby again", || second.get("/readyz").body.contains("standby; the lease is held by"));
    assert_eq!(second.get("/readyz").status, 503);
    assert_eq!(deliver(&third, "three", &["d"]), 200);
    until("delivered users are in", || sandbox.members("free").len() == 4);
    assert_eq!(third.stop(), 0);
    second.until_ready();
    w.source("carts", users(18));
    until("a member left", || sandbox.members("carts") == members(users(18)));
    assert_eq!(second.stop(), 0);
    let mut verify = w.command(&["state", "verify"]);
    verify.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    run(verify).expect(0);
}

#[test]
fn a_bucket_outage_longer_than_a_lease_is_survived() {
    let Some(s3) = S3::start() else { return };
    let line = CuttableProxy::to(&s3.url);
    let (w, sandbox) = in_bucket(&s3.config("2s").replace(&s3.url, &line.url));
    let watch = Watch::from_command(&mut command(&w));
    watch.until_ready();
    until("the members of carts are in", || sandbox.members("carts") == members(users(20)));
    line.is(CUT);
    until("it notices the lost lease", || watch.get("/readyz").status == 503);
    assert!(
        [503, 0].contains(&deliver(&watch, "one", &["a"])),
        "nothing is accepted that could not be stored"
    );
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(watch.get("/livez").status, 200);
    line.is(FORWARDING);
    watch.until_ready();
    w.source("carts", users(19));
    until("a member left", || sandbox.members("carts") == members(users(19)));
    assert_eq!(deliver(&watch, "one", &["a"]), 200);
    until("delivered users are in", || sandbox.members("free").len() == 1);
    assert_eq!(watch.stop(), 0);
}

/// A new endpoint needs its inbox from the state. While the bucket does not respond, the event loop continues.
#[test]
fn a_new_endpoint_does_not_block_the_event_loop() {
    let Some(s3) = S3::start() else { return };
    let line = CuttableProxy::to(&s3.url);
    let (w, sandbox) = in_bucket(&s3.config("60s").replace(&s3.url, &line.url));
    let config = w.read("sync.yaml");
    let watch = Watch::from_command(&mut command(&w));
    watch.until_ready();
    until("the members of carts are in", || sandbox.members("carts") == members(users(20)));
    line.is(PAUSED);
    let more = "exports:\n  - id: posted\n    source: { kind: currents_http }\n    to: heap\n";
    let heap = "{ kind: heap, endpoint: 'http://127.0.0.1:9', app_id: 11 }";
    w.replace("sync.yaml", &(config.replace("{ kind: heap }", heap) + more));
    watch.until_logs("config reloaded", 1);
    line.is(FORWARDING);
    let post = || http(&watch.endpoints(), "POST", "/currents/posted", &[], "[]").status;
    until("the endpoint is open", || post() == 200);
    assert_eq!(watch.stop(), 0);
}

/// A trigger and a request to Heap without a response are abandoned when the lease ends, long before their
/// timeout: another process may hold the state by then.
#[test]
fn requests_are_abandoned_when_the_lease_ends() {
    let Some(s3) = S3::start() else { return };
    for (fault, triggers) in [("campaigns_trigger", true), ("track", false)] {
        let line = CuttableProxy::to(&s3.url);
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        let id = "3aca937b-9bbc-4e42-9370-05e411967b2b";
        let api = serde_json::json!([{ "id": id, "name": "Welcome", "is_api": true }]);
        sandbox.admin_post("/_sandbox/campaigns", &api.to_string());
        let state = s3.config("3s").replace(&s3.url, &line.url).replace("team/prod", fault);
        let mut text = config(&sandbox.url, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n");
        text = text.replace("timeout: 2s", "timeout: 120s");
        text += &format!("    on_enter: {{ campaign: {id} }}\n");
        if !triggers {
            let heap = format!(
                "connections:\n  heap: {{ kind: heap, endpoint: '{}', app_id: 11, timeout: 120s }}\n",
                sandbox.url
            );
            text = text.replace("connections:\n", &heap);
            text += "exports:\n  - id: engagement\n    source: { kind: currents_storage, path: cur, incomplete_after: 0s }\n    to: heap\n";
            w.run(&["sandbox", "currents", "--out", "cur", "--events", "5", "--hours", "1"]).expect(0);
        }
        w.write("sync.yaml", text + &state).source("carts", users(10));
        let reconcile = || {
            let mut command = w.command(&["reconcile"]);
            command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
            command
        };
        if triggers {
            run(reconcile()).expect(0);
            w.source("carts", users(12));
        }
        sandbox.faults(&format!(r#"[{{"on": "{fault}", "times": 0, "do": "hang_after"}}]"#));
        let mut stuck = reconcile().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let done = if triggers { "/_sandbox/sends" } else { "/_sandbox/heap/events/keys" };
        let is_asked = || sandbox.get(done).1.trim().len() > 2;
        until("the request is active", is_asked);
        line.is(CUT);
        until(&format!("{fault} is abandoned"), || stuck.try_wait().unwrap().is_some());
        assert!(!stuck.wait().unwrap().success(), "{fault}");
    }
}

/// The bucket responds so late that another process leads by then. It does not know deliveries that arrive
/// after its start, so they must not be acknowledged.
#[test]
fn deliveries_after_the_lease_was_lost_are_not_acknowledged() {
    let Some(s3) = S3::start() else { return };
    let line = CuttableProxy::to(&s3.url);
    let (w, sandbox) = in_bucket(&s3.config("2s"));
    w.write("held.yaml", w.read("sync.yaml").replace(&s3.url, &line.url));
    let first = Watch::from_command(command(&w).args(["-c", "held.yaml"]));
    first.until_ready();
    assert_eq!(deliver(&first, "one", &["a"]), 200);
    until("delivered users are in", || sandbox.members("free").len() == 1);
    let second = Watch::from_command(&mut command(&w));
    until("it is a standby", || second.get("/readyz").body.contains("standby; the lease is held by"));
    line.is(PAUSED);
    let answered = std::thread::scope(|scope| {
        let late = scope.spawn(|| deliver(&first, "two", &["b"]));
        second.until_ready();
        second.until_in_sync();
        line.is(FORWARDING);
        late.join().unwrap()
    });
    assert_eq!(answered, 503);
    assert_eq!(deliver(&second, "two", &["b"]), 200);
    until("delivered users are in", || sandbox.members("free").len() == 2);
}

/// Deliveries left by a killed process, found again by a reload.
#[test]
fn waiting_deliveries_of_a_new_endpoint_are_used() {
    let (w, sandbox) = in_bucket("");
    let with_heap = w.read("sync.yaml");
    let first = Watch::from_command(&mut command(&w));
    first.until_ready();
    assert_eq!(deliver(&first, "one", &["a", "b"]), 200);
    first.kill();
    if w.snapshot(".syncline/inbox").is_empty() {
        return; // it was used already
    }
    w.replace("sync.yaml", &config(&sandbox.url, &["carts"], SHORT_TIMEOUTS));
    let watch = Watch::start(&w);
    watch.until_in_sync();
    w.replace("sync.yaml", &with_heap);
    until("delivered users are in", || sandbox.members("free").len() == 2);
}
