//! Endpoint limits: ambiguous requests, memory under load, replays, many small deliveries, and delayed
//! notifications.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};

use crate::support::listener::Listener;
use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

const SECRET: &str = "whsec_test_of_endpoints";

/// A `watch` with a cohort from segment 7 of Heap.
fn scene(heap: &str, more: &str) -> (Workspace, Sandbox, Watch) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let text = format!(
        "version: 1
connections:
  braze: {{ kind: braze, endpoint: '{}', data_import_key: {{ env: TEST_IMPORT_KEY }}, partner_api_key: {{ env: TEST_PARTNER_KEY }} }}
  heap: {{ kind: heap{heap} }}
{SHORT_TIMEOUTS}{more}cohorts:
  - id: free
    name: Free
    to: braze
    source: {{ kind: heap_segment, connection: heap, segment_id: 7 }}
    match: [ {{ external_id: id }} ]
    guard: {{ max_added: 100000%, max_removed: 100%, allow_empty: true }}
",
        sandbox.url
    );
    w.write("sync.yaml", text);
    let mut command = w.command(&["watch"]);
    command.env("TEST_WEBHOOK", SECRET).env("OPS", "unused");
    let watch = Watch::from_command(&mut command);
    watch.until_ready();
    (w, sandbox, watch)
}

fn sync(id: &str, side: &str, users: &[String]) -> String {
    let users: Vec<String> = users.iter().map(|user| format!(r#"{{"id":"{user}"}}"#)).collect();
    format!(
        r#"{{"action_type":"segment.users.sync","data":{{"segment":{{"id":7,"name":"S"}},"sync_info":{{"page_number":1,"total_pages":1,"sync_task_id":"{id}"}},"{side}":[{}]}}}}"#,
        users.join(",")
    )
}

fn raw(watch: &Watch, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(watch.endpoints().strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let _ = stream.write_all(bytes);
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_request_with_two_lengths_is_rejected_and_its_connection_closed() {
    let (_w, _sandbox, watch) = scene("", "");
    let body = sync("t", "add", &["u1".to_owned()]);
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let te = "transfer-encoding: chunked\r\n".to_owned();
    let cl = format!("Content-Length: {}\r\n", chunked.len());
    let start = "POST /heap/heap HTTP/1.1\r\nhost: x\r\n";
    for headers in [format!("{te}{cl}"), format!("{cl}{te}"), format!("{cl}{cl}{te}")] {
        // A second request on the connection would be smuggled.
        let text =
            raw(&watch, format!("{start}{headers}\r\n{chunked}{start}content-length: 0\r\n\r\n").as_bytes());
        assert!(text.starts_with("HTTP/1.1 400 "), "{headers}: {text}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
        assert!(text.contains("exclude each other") && text.contains("connection: close"), "{text}");
    }
    // Also after a valid request on the same connection.
    let first = format!("{start}content-length: {}\r\n\r\n{body}", body.len());
    let text = raw(&watch, format!("{first}{start}{te}{cl}\r\n{chunked}").as_bytes());
    assert!(text.contains("HTTP/1.1 400 "), "{text}");
    // Each header alone is accepted.
    let text = raw(&watch, format!("{start}{te}\r\n{chunked}").as_bytes());
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let text = raw(
        &watch,
        format!("{start}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes(),
    );
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
}

fn peak_mebibytes(watch: &Watch) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", watch.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Bodies of 8 MiB, sent concurrently and unfinished until each has a response or is complete.
#[test]
fn concurrent_requests_stay_within_the_memory_limit() {
    let (_w, _sandbox, watch) = scene("", "  limits: { memory: 64MiB, request_time: 20s }\n");
    let before = peak_mebibytes(&watch);
    let address = watch.endpoints().strip_prefix("http://").unwrap().to_owned();
    let body = vec![b' '; 8 << 20];
    let responses: Vec<String> = std::thread::scope(|scope| {
        let send = |_| {
            let (address, body) = (&address, &body);
            scope.spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                let head =
                    format!("POST /heap/heap HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
                let (rest, last) = body.split_at(body.len() - 1);
                if stream.write_all(head.as_bytes()).is_ok() && stream.write_all(rest).is_ok() {
                    let _ = stream.write_all(last);
                }
                let mut text = [0; 256];
                let len = stream.read(&mut text).unwrap_or(0);
                String::from_utf8_lossy(&text[..len]).into_owned()
            })
        };
        let sent: Vec<_> = (0..60).map(send).collect();
        sent.into_iter().map(|sent| sent.join().unwrap()).collect()
    });
    let status = |text: &str| text.split(' ').nth(1).unwrap_or("closed").to_owned();
    let statuses: BTreeSet<String> = responses.iter().map(|text| status(text)).collect();
    assert!(statuses.iter().all(|status| ["200", "503", "closed"].contains(&&**status)), "{statuses:?}");
    assert!(responses.iter().filter(|text| status(text) == "503").all(|text| text.contains("retry-after: ")));
    let more = peak_mebibytes(&watch) - before;
    assert!(more < 64 + 64, "{more} MiB more than before, {statuses:?}");
}

#[test]
fn a_very_small_limit_of_open_files_is_an_error() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], SHORT_TIMEOUTS).source("carts", users(3));
    for limit in [6, 8, 12, 20, 40] {
        for command in ["watch", "reconcile"] {
            let own = w.command(&[command]);
            let mut shell = Command::new("sh");
            let script = format!("ulimit -n {limit}; exec '{}' {command}", own.get_program().display());
            shell.args(["-c", &script]).current_dir(own.get_current_dir().unwrap());
            shell.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let output = shell.output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{limit} {command}: {text}");
            assert!(text.contains(&format!("only {limit} files may be open at once")), "{text}");
            assert!(text.contains("ulimit -n 4096"), "{text}");
        }
    }
    assert_eq!(sandbox.writes(), 0);
}

/// Each delivery is a sync of its own.
#[test]
fn thousands_of_small_deliveries_create_few_files() {
    let (w, sandbox, watch) = scene("", "");
    let address = watch.endpoints().strip_prefix("http://").unwrap().to_owned();
    let all: Vec<String> = users(2000).collect();
    std::thread::scope(|scope| {
        for (of, some) in all.chunks(250).enumerate() {
            let address = &address;
            scope.spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                for (n, user) in some.iter().enumerate() {
                    let body = sync(&format!("{of}-{n}"), "add", std::slice::from_ref(user));
                    let head = format!(
                        "POST /heap/heap HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
                    let mut text = [0; 1024];
                    let len = stream.read(&mut text).unwrap();
                    assert!(text[..len].starts_with(b"HTTP/1.1 200"));
                }
            });
        }
    });
    until("all users are in Braze", || sandbox.members("free").len() == 2000);
    let folds = std::fs::read_dir(w.path(".syncline/segments/heap/versions")).unwrap().count();
    let files = std::fs::read_dir(w.path(".syncline/segments/heap/parts")).unwrap().count();
    assert!(files <= folds, "one file per segment and batch: {files} files, {folds} batches");
    assert_eq!(watch.metric("syncline_heap_deliveries_total{connection=\"heap\",outcome=\"invalid\"}"), 0.0);
}

#[allow(clippy::disallowed_methods, reason = "Heap signs by the clock")]
fn signed(watch: &Watch, body: &str, age: Duration) -> (u16, String) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let header = signature(body, (now - age).as_millis());
    (deliver(watch, body, &header), header)
}

fn signature(body: &str, millis: u128) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(millis.to_string().as_bytes());
    mac.update(body.as_bytes());
    let hmac = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    format!("ts:{millis},hmac:{hmac}")
}

fn deliver(watch: &Watch, body: &str, header: &str) -> u16 {
    http(&watch.endpoints(), "POST", "/heap/heap", &[("heap-hash", header)], body).status
}

/// Heap may repeat a delivery for hours. Replays change nothing.
#[test]
fn signatures_are_valid_for_a_day_and_replays_change_nothing() {
    let (_w, sandbox, watch) = scene(", webhook_secret: { env: TEST_WEBHOOK }", "");
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let entered = sync("t0", "add", &["u1".to_owned(), "u2".to_owned()]);
    let (status, first) = signed(&watch, &entered, hours(23));
    assert_eq!(status, 200);
    until("the users are in", || sandbox.members("free").len() == 2);
    let removal = sync("t1", "remove", &["u1".to_owned()]);
    assert_eq!(signed(&watch, &removal, hours(1)).0, 200);
    until("one member left", || sandbox.members("free").len() == 1);
    // The same request, and the same page signed again.
    assert_eq!(deliver(&watch, &entered, &first), 200);
    assert_eq!(signed(&watch, &entered, hours(0)).0, 200);
    until("duplicates were recognized", || {
        watch.metric("syncline_heap_deliveries_total{connection=\"heap\",outcome=\"duplicate\"}") == 2.0
    });
    assert_eq!(signed(&watch, &sync("t2", "add", &["u3".to_owned()]), hours(0)).0, 200);
    until("later deliveries are ingested", || sandbox.members("free").len() == 2);
    assert!(sandbox.members("free").iter().all(|member| !member.contains("u1")), "u1 has left");
    assert_eq!(signed(&watch, &sync("t3", "add", &["u4".to_owned()]), hours(25)).0, 400);
}

/// One webhook is down for many attempts; the other gets its notifications meanwhile.
#[test]
fn a_webhook_that_is_down_delays_only_its_own_notifications() {
    let (w, sandbox, fine) = (Workspace::new(), Sandbox::start(), Listener::start());
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let notify = "  notify: [ { url: { env: DOWN } }, { url: { env: FINE } } ]\n";
    w.config(&sandbox, &["carts"], &(SHORT_TIMEOUTS.to_owned() + notify)).source("carts", users(50));
    let mut command = w.command(&["watch"]);
    command.env("DOWN", format!("http://{address}/down")).env("FINE", format!("{}/fine", fine.url()));
    let watch = Watch::from_command(&mut command);
    watch.until_ready();
    watch.until_in_sync();
    w.source("carts", users(5));
    until("the other webhook is notified", || fine.posts().len() == 1);
    let text = fine.posts()[0].1["text"].as_str().unwrap().to_owned();
    for remedy in
        ["raise `guard.max_removed` (", "to approve exactly this plan: syncline approve carts --plan "]
    {
        assert!(text.contains(remedy), "{remedy} is missing: {text}");
    }
    let metric = |outcome: &str, webhook: u8| {
        watch.metric(&format!("syncline_notifications_total{{webhook=\"{webhook}\",outcome=\"{outcome}\"}}"))
    };
    until("the webhook was tried", || metric("failed", 0) >= 1.0);
    // The block ends before its notification was delivered: the recovery replaces it.
    w.source("carts", users(50));
    until("the other webhook is notified again", || fine.posts().len() == 2);
    until("the notification was superseded", || metric("superseded", 0) == 1.0);
    let back = Listener::at(address);
    until("it is delivered once the webhook is back", || back.posts().len() == 1);
    assert_eq!(back.posts()[0].1["kind"], "recovery");
    // A notification is counted after the reply to it.
    until("both are counted", || (metric("delivered", 0), metric("delivered", 1)) == (1.0, 2.0));
    assert_eq!(metric("failed", 1), 0.0);
}
