//! Webhook endpoints under attack: each request costs little, delays no other and leaves nothing in memory.
//! Also notifications to systemd and to webhooks of users.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::listener::Listener;
use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

const HEAP: &str = "  heap: { kind: heap }\n";

/// A `watch` with an endpoint without authentication, on loopback.
fn open_endpoint(more: &str) -> (Workspace, Sandbox, Watch) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], &(HEAP.to_owned() + SHORT_TIMEOUTS + more));
    w.source("carts", users(3));
    let watch = Watch::start(&w);
    (w, sandbox, watch)
}

fn delivery(count: usize) -> String {
    let users: Vec<String> = users(count).map(|user| format!(r#"{{"id":"{user}"}}"#)).collect();
    format!(
        r#"{{"action_type":"segment.users.sync","data":{{"segment":{{"id":7,"name":"S"}},"add":[{}]}}}}"#,
        users.join(",")
    )
}

fn connect(watch: &Watch) -> TcpStream {
    let stream = TcpStream::connect(watch.endpoints().strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    stream
}

/// Sends bytes and returns the status of the response; 0 if the connection closes without one.
fn send_bytes(watch: &Watch, bytes: &[u8]) -> u16 {
    let mut stream = connect(watch);
    let _ = stream.write_all(bytes);
    status(&mut stream)
}

fn status(stream: &mut TcpStream) -> u16 {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /heap/heap HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn resident_mebibytes(watch: &Watch) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", watch.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

#[test]
fn oversized_deep_and_compressed_bodies_are_rejected_and_leave_no_memory() {
    let (w, _sandbox, watch) = open_endpoint("");
    let large = vec![b' '; (8 << 20) + 1];
    assert_eq!(send_bytes(&watch, &post("", &large)), 413);
    // Declared as small, sent in endless chunks.
    let mut stream = connect(&watch);
    stream.write_all(b"POST /heap/heap HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    for _ in 0..64 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let found = status(&mut stream);
    assert!(found == 413 || found == 0, "{found}");
    assert_eq!(send_bytes(&watch, &post("", "[".repeat(100_000).as_bytes())), 400);
    let bomb = gzip(&vec![b' '; 48 << 20]);
    assert!(bomb.len() < 1 << 20);
    assert_eq!(send_bytes(&watch, &post("content-encoding: gzip\r\n", &bomb)), 413);
    assert_eq!(send_bytes(&watch, &post("content-encoding: br\r\n", b"{}")), 415);
    let headers = format!("x-a: {}\r\n", "a".repeat(100 << 10));
    assert!([431, 0].contains(&send_bytes(&watch, &post(&headers, b"{}"))));
    assert_eq!(send_bytes(&watch, b"GET /heap/heap HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"), 405);
    assert_eq!(
        send_bytes(
            &watch,
            b"POST /elsewhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        ),
        404
    );
    assert!(w.snapshot(".syncline/inbox").is_empty() && w.snapshot(".syncline/segments").is_empty());
    // Compressed, with a high ratio.
    assert_eq!(send_bytes(&watch, &post("content-encoding: gzip\r\n", &gzip(delivery(5).as_bytes()))), 200);
    until("the delivery was used", || {
        watch.metric("syncline_heap_deliveries_total{connection=\"heap\",outcome=\"ingested\"}") == 1.0
    });
    assert!(resident_mebibytes(&watch) < 200, "{}", resident_mebibytes(&watch));
}

#[test]
fn slow_and_numerous_connections_do_not_block_others() {
    let (_w, _sandbox, watch) =
        open_endpoint("  limits: { header_time: 1s, request_time: 2s, connections: 64 }\n");
    let mut slow_header = connect(&watch);
    slow_header.write_all(b"POST /heap/heap HTT").unwrap();
    let mut slow_body = connect(&watch);
    slow_body.write_all(b"POST /heap/heap HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").unwrap();
    let began = Instant::now();
    assert!([0, 408].contains(&status(&mut slow_header)));
    assert_eq!(status(&mut slow_body), 408);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    // Open and silent connections, more than allowed.
    let mut connections = Vec::new();
    for round in 0..2000 {
        let stream = TcpStream::connect(watch.endpoints().strip_prefix("http://").unwrap());
        connections.extend(stream);
        if connections.len() > 300 {
            connections.drain(..100);
        }
        if round % 400 == 399 {
            assert_eq!(send_bytes(&watch, &post("", delivery(2).as_bytes())), 200, "after {round}");
            assert_eq!(watch.get("/livez").status, 200);
        }
    }
    assert!(resident_mebibytes(&watch) < 200);
}

/// A client that sends its body byte by byte keeps a connection no longer than a silent client.
#[test]
fn slow_bodies_do_not_block_others() {
    let (_w, _sandbox, watch) = open_endpoint("  limits: { connections: 8 }\n");
    let slow = |_| {
        let mut stream = connect(&watch);
        stream.write_all(b"POST /heap/heap HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").unwrap();
        stream
    };
    let mut connections: Vec<TcpStream> = (0..8).map(slow).collect();
    for round in 0..20 {
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(send_bytes(&watch, &post("", delivery(2).as_bytes())), 200, "after {round}");
        connections.push(slow(round));
    }
}

/// Unfinished bodies cannot keep all memory for the duration of a request.
#[test]
fn unfinished_bodies_do_not_hold_the_memory() {
    let (_w, _sandbox, watch) = open_endpoint("  limits: { body: 64KiB, headers: 8KiB, memory: 272KiB }\n");
    let unfinished = |len: usize| {
        let mut stream = connect(&watch);
        let head = "POST /heap/heap HTTP/1.1\r\nhost: x\r\ncontent-length: 65536\r\n\r\n";
        stream.write_all(&[head.as_bytes(), &vec![b' '; len]].concat()).unwrap();
        stream
    };
    let _held: Vec<TcpStream> = [60_000, 60_000, 60_000].map(unfinished).into();
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(send_bytes(&watch, &post("", delivery(200).as_bytes())), 200);
}

#[test]
fn a_full_inbox_responds_with_retry_after() {
    // Nothing is ingested while its disk is full, so accepted deliveries stay in the inbox.
    let (w, _sandbox, watch) = open_endpoint("  limits: { inbox: 64KiB }\n");
    let body = delivery(1000);
    assert!(body.len() > 16 << 10 && body.len() < 32 << 10);
    let responses: Vec<Response> =
        (0..40).map(|_| http(&watch.endpoints(), "POST", "/heap/heap", &[], &body)).collect();
    let refused: Vec<&Response> = responses.iter().filter(|response| response.status == 503).collect();
    assert!(responses.iter().all(|response| [200, 503].contains(&response.status)));
    assert!(
        refused.iter().all(|response| response.headers.contains("retry-after: ")),
        "the response has Retry-After"
    );
    until("the inbox has space again", || {
        http(&watch.endpoints(), "POST", "/heap/heap", &[], &body).status == 200
    });
    until("all deliveries were used", || w.snapshot(".syncline/inbox").is_empty());
    let taken = responses.iter().filter(|response| response.status == 200).count();
    assert!(taken >= 2, "{taken}");
}

#[test]
fn systemd_gets_readiness_and_watchdog_messages() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], SHORT_TIMEOUTS).source("carts", users(3));
    let socket = UnixDatagram::bind(w.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = w.command(&["watch"]);
    let command = command.env("NOTIFY_SOCKET", w.path("notify")).env("WATCHDOG_USEC", "400000");
    let watch = Watch::from_command(command);
    let until_received = |what: &str| {
        let mut buffer = [0; 4096];
        loop {
            let len = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{what} was never sent: {e}"));
            if String::from_utf8_lossy(&buffer[..len]).contains(what) {
                return;
            }
        }
    };
    until_received("READY=1");
    until_received("WATCHDOG=1");
    until_received("WATCHDOG=1");
    watch.signal(Signal::SIGHUP);
    until_received("RELOADING=1");
    until_received("READY=1");
    watch.signal(Signal::SIGTERM);
    until_received("STOPPING=1");
}

#[test]
fn notifications_are_sent_once_per_change_of_state() {
    let (w, sandbox, listener) = (Workspace::new(), Sandbox::start(), Listener::start());
    let notify = "  notify:\n    - { url: { env: OPS } }\n    - { url: { file: slack }, format: slack, on: [recovery] }\n";
    w.config(&sandbox, &["carts", "trials"], &(SHORT_TIMEOUTS.to_owned() + notify));
    w.source("carts", users(50)).source("trials", users(20));
    w.write("slack", format!("{}/slack/T0KEN", listener.url()));
    std::fs::set_permissions(w.path("slack"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut command = w.command(&["watch"]);
    let watch = Watch::from_command(command.env("OPS", format!("{}/ops", listener.url())));
    watch.until_ready();
    watch.until_in_sync();
    w.source("carts", users(5));
    let kinds = |path: &str| -> Vec<(String, String)> {
        let posts = listener.posts();
        let bodies = posts.iter().filter(|(at, _)| at == path).map(|(_, body)| body.clone());
        let text = |body: &Value, key: &str| body[key].as_str().unwrap_or_default().to_owned();
        bodies.map(|body| (text(&body, "kind"), text(&body, "about"))).collect()
    };
    let blocked = ("blocked".to_owned(), "cohort carts".to_owned());
    let recovery = ("recovery".to_owned(), "cohort carts".to_owned());
    until("it is reported", || kinds("/ops") == [blocked.clone()]);
    // Once, regardless of the number of checks.
    w.source("carts", users(5)).source("trials", users(19));
    until("a member left", || sandbox.members("trials").len() == 19);
    w.source("carts", users(50));
    until("the recovery is reported", || kinds("/ops") == [blocked.clone(), recovery.clone()]);
    until("Slack gets the notification", || listener.posts().iter().any(|(at, _)| at == "/slack/T0KEN"));
    let slack: Vec<Value> =
        listener.posts().into_iter().filter(|(at, _)| at == "/slack/T0KEN").map(|(_, body)| body).collect();
    assert_eq!(slack, [json!({ "text": ":white_check_mark: *cohort carts*: in sync again" })]);
    w.write("sync.yaml", "nonsense");
    until("an invalid config is reported", || {
        kinds("/ops").last().is_some_and(|(kind, about)| kind == "failure" && about == "config")
    });
    assert!(!watch.log().contains("T0KEN"));
}

/// A changed source makes another plan: the approval of the first notification no longer counts.
#[test]
fn another_blocked_plan_is_notified_with_its_own_approval() {
    let (w, sandbox, listener) = (Workspace::new(), Sandbox::start(), Listener::start());
    let notify = "  notify: [ { url: { env: OPS } } ]\n";
    w.config(&sandbox, &["carts", "trials"], &(SHORT_TIMEOUTS.to_owned() + notify));
    w.source("carts", users(50)).source("trials", users(20));
    let mut command = w.command(&["watch"]);
    let watch = Watch::from_command(command.env("OPS", format!("{}/ops", listener.url())));
    watch.until_ready();
    watch.until_in_sync();
    let bodies = || listener.posts().into_iter().map(|(_, body)| body).collect::<Vec<Value>>();
    w.source("carts", users(5));
    until("the first plan is notified", || bodies().len() == 1);
    w.source("carts", users(6));
    until("the second plan is notified", || bodies().len() == 2);
    // Runs of the same plan are not notified.
    let runs = || watch.metric("syncline_run_duration_seconds_count");
    let before = runs();
    for number in [19, 18, 17] {
        w.source("carts", users(6)).source("trials", users(number));
        until("a member left", || sandbox.members("trials").len() == number);
    }
    until("runs have ended", || runs() >= before + 3.0);
    let bodies = bodies();
    let plans: Vec<&str> = bodies.iter().map(|body| body["plan"].as_str().unwrap()).collect();
    assert!(plans.len() == 2 && plans[0] != plans[1], "{plans:?}");
    for (body, (plan, leave)) in bodies.iter().zip(plans.iter().zip([45, 44])) {
        let block = &body["blocked"][0];
        assert_eq!(
            (&body["kind"], &block["code"], &block["side"]),
            (&json!("blocked"), &json!("removed_share"), &json!("removals"))
        );
        let reason = block["reason"].as_str().unwrap();
        assert!(reason.starts_with(&format!("{leave} of 50 members would leave")), "{reason}");
        let text = body["text"].as_str().unwrap();
        assert!(
            text.contains(reason) && text.contains(&format!("syncline approve carts --plan {plan}")),
            "{text}"
        );
    }
    w.run(&["approve", "carts", "--plan", plans[1]]).expect(0);
    until("the second plan is applied", || sandbox.members("carts").len() == 6);
}

/// A certificate for localhost and its key, as PEM.
fn certificate() -> (String, String) {
    let generated = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (generated.cert.pem(), generated.signing_key.serialize_pem())
}

/// Posts over TLS to a server that must have this certificate. Returns the status.
fn post_tls(address: &str, certificate: &str, body: &str) -> std::io::Result<u16> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let client = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut stream = rustls::StreamOwned::new(client, socket);
    stream.write_all(&post("", body.as_bytes()))?;
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0))
}

#[test]
fn an_endpoint_uses_tls_and_reloads_its_certificate() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let private = |name: &str, text: &str| {
        w.write(name, text);
        std::fs::set_permissions(w.path(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    let [(old, old_key), (new, new_key)] = [certificate(), certificate()];
    w.write("tls.crt", &old);
    private("tls.key", &old_key);
    let tls = "  tls: { certificate: tls.crt, key: tls.key }\n";
    w.config(&sandbox, &["carts"], &(HEAP.to_owned() + SHORT_TIMEOUTS + tls)).source("carts", users(3));
    let watch = Watch::start(&w);
    let address = watch.endpoints().strip_prefix("http://").unwrap().to_owned();
    assert_eq!(post_tls(&address, &old, &delivery(2)).unwrap(), 200);
    assert!(post_tls(&address, &new, &delivery(2)).is_err(), "another certificate is not accepted");
    assert_eq!(send_bytes(&watch, &post("", b"{}")), 0, "no response without TLS");
    private("tls.key", &new_key);
    w.write("tls.crt", &new);
    until("the new certificate is used", || post_tls(&address, &new, &delivery(3)).is_ok());
    // An invalid certificate changes nothing.
    w.write("tls.crt", "not a certificate");
    watch.until_logs("the old certificate stays in use", 1);
    assert_eq!(post_tls(&address, &new, &delivery(4)).unwrap(), 200);
}

#[test]
fn spans_reach_a_collector() {
    let collector = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", collector.local_addr().unwrap());
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], SHORT_TIMEOUTS).source("carts", users(3));
    let mut command = w.command(&["watch"]);
    let watch = Watch::from_command(command.env("OTEL_EXPORTER_OTLP_ENDPOINT", url));
    let (mut socket, _) = collector.accept().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut seen = Vec::new();
    until("a run is reported", || {
        let mut chunk = [0; 4096];
        let len = socket.read(&mut chunk).unwrap_or(0);
        seen.extend_from_slice(&chunk[..len]);
        let text = String::from_utf8_lossy(&seen);
        text.contains("POST /v1/traces") && text.contains("syncline") && text.contains("apply")
    });
    assert!(!String::from_utf8_lossy(&seen).contains("user-0"), "no identifier is shown");
    drop(watch);
}
