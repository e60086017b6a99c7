//! Benchmark of `watch`: latency from a changed file to Braze, throughput of the webhook endpoints, and cost
//! when idle.
//!
//! The program runs as its own process against the sandbox, over loopback. Senders sign as Heap does and keep
//! their connections open. A delivery counts once its 200 is read, which comes after fsync.
//!
//! `cargo bench --bench watch`, or parts: `cargo bench --bench watch -- latency 1000`, `endpoints SECONDS
//! USERS`, `idle COHORTS SECONDS`, `rewrites COUNT SECONDS`, `storm DELIVERIES USERS`, `standby SECONDS`,
//! `ingest DELIVERIES SEGMENTS`, `soak MINUTES`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that fails panics")]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "it prints its results, reads its arguments and the clock, and its numbers are small"
)]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use support::{SYNCLINE, Sandbox};
use syncline::heap_segments::{self, IngestContext};
use syncline::model::{Clock, ConnectionName, EndpointName, RunId, Timestamp};
use syncline::state::{Delivery, Holder, Inbox, InboxQuota, Location, StateWriter};

const SECRET: &str = "whsec_bench";
const SENDERS: usize = 16;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |at: usize, default: u64| args.get(at).map_or(default, |arg| arg.parse().unwrap());
    match args.first().map(String::as_str) {
        Some("latency") => latency(number(1, 1000)),
        Some("endpoints") => endpoints(number(1, 10), number(2, 100)),
        Some("idle") => idle(number(1, 100), number(2, 30)),
        Some("rewrites") => rewrites(number(1, 1000), number(2, 60)),
        Some("storm") => storm(number(1, 5000), number(2, 1000)),
        Some("standby") => standby(number(1, 120)),
        Some("soak") => soak(number(1, 20)),
        Some("ingest") => ingest(number(1, 100_000), number(2, 1)),
        _ => {
            latency(1000);
            latency(1_000_000);
            endpoints(10, 100);
            idle(100, 30);
            ingest(100_000, 1);
            ingest(100_000, 100);
        }
    }
}

/// A folder with a config, a sandbox, and the addresses of `watch`.
struct Scene {
    home: tempfile::TempDir,
    sandbox: Sandbox,
    endpoints: String,
    admin: String,
}

impl Scene {
    fn new(cohorts: &[(String, String)]) -> Self {
        let (home, sandbox) = (tempfile::tempdir().unwrap(), Sandbox::start());
        let [endpoints, admin] = [free_address(), free_address()];
        let scene = Self { home, sandbox, endpoints, admin };
        fs::write(scene.home.path().join("sync.yaml"), scene.config(cohorts)).unwrap();
        scene
    }

    fn config(&self, cohorts: &[(String, String)]) -> String {
        let mut text = format!(
            "version: 1
connections:
  braze: {{ kind: braze, endpoint: '{}', data_import_key: {{ env: K }}, partner_api_key: {{ env: P }} }}
  heap: {{ kind: heap, webhook_secret: {{ env: W }} }}
watch: {{ listen: '{}', admin: '{}', debounce: 100ms }}
cohorts:
",
            self.sandbox.1, self.endpoints, self.admin
        );
        for (id, source) in cohorts {
            let column = if source.contains("heap") { "id" } else { "identity" };
            writeln!(text, "  - {{ id: {id}, name: Name of {id}, to: braze, source: {source}, match: [ {{ external_id: {column} }} ], guard: {{ max_added: 100000%, max_removed: 100%, allow_empty: true }} }}").unwrap();
        }
        text
    }

    fn watch(&self) -> Process {
        let child = Command::new(SYNCLINE)
            .arg("watch")
            .current_dir(self.home.path())
            .env("K", "sandbox-data-import-key")
            .env("P", "sandbox-partner-api-key")
            .env("W", SECRET)
            .stdout(Stdio::null())
            .stderr(fs::File::options().create(true).append(true).open(self.home.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Process(child)
    }

    fn until_ready(&self) {
        until(|| get(&self.admin, "/readyz").is_some_and(|(status, _)| status == 200));
    }

    fn until_in_sync(&self) {
        until(|| get(&self.admin, "/readyz").is_some_and(|(_, body)| body.contains("\"not_in_sync\":{}")));
    }

    fn size(&self, cohort: &str) -> u64 {
        let (_, body) = get(self.sandbox.1.strip_prefix("http://").unwrap(), "/_sandbox/cohorts").unwrap();
        let all: serde_json::Value = serde_json::from_str(&body).unwrap();
        let found = all.as_array().unwrap().iter().find(|found| found["cohort_id"] == cohort);
        found.and_then(|found| found["size"].as_u64()).unwrap_or(0)
    }

    fn members(&self, cohort: &str) -> String {
        let path = format!("/_sandbox/cohorts/{cohort}/members");
        get(self.sandbox.1.strip_prefix("http://").unwrap(), &path).unwrap().1
    }
}

/// A `watch` process, killed on drop.
struct Process(Child);

impl Process {
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Peak and current memory in MiB.
    fn memory(&self) -> (f64, f64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let value = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
        };
        (value("VmHWM"), value("VmRSS"))
    }

    /// Memory in MiB, threads and open files.
    fn resources(&self) -> String {
        let count = |folder: &str| fs::read_dir(format!("/proc/{}/{folder}", self.0.id())).unwrap().count();
        format!("{:.1}  {}  {}", self.memory().1, count("task"), count("fd"))
    }

    /// CPU seconds so far.
    fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn until(mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(300);
    while !condition() {
        assert!(Instant::now() < give_up, "timed out");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn file(path: &str) -> String {
    format!("{{ kind: file, path: {path} }}")
}

fn list(path: &Path, users: u64) {
    let mut text = String::from("identity\n");
    for user in 0..users {
        writeln!(text, "user-{user:029}").unwrap();
    }
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, path).unwrap();
}

/// Measures the time from the rename of a source file to the change in Braze, without the debounce of 100 ms.
fn latency(members: u64) {
    let scene = Scene::new(&[("carts".to_owned(), file("carts.csv"))]);
    let path = scene.home.path().join("carts.csv");
    list(&path, members);
    let watch = scene.watch();
    scene.until_ready();
    until(|| scene.size("carts") == members);
    let mut times = Vec::new();
    for round in 0..5 {
        let text = fs::read_to_string(&path).unwrap() + &format!("new-{round}\n");
        fs::write(path.with_extension("new"), text).unwrap();
        let began = Instant::now();
        fs::rename(path.with_extension("new"), &path).unwrap();
        until(|| scene.size("carts") == members + round + 1);
        times.push(began.elapsed().as_secs_f64() - 0.1);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "a changed file of {members:>9} in Braze after {:6.0} ms beyond the debounce (median of {}), {:.0} MiB",
        times[2] * 1000.0,
        times.len(),
        watch.memory().0
    );
}

fn body(sync: &str, page: u64, pages: u64, users: impl Iterator<Item = u64>) -> String {
    let users: Vec<String> = users.map(|id| format!(r#"{{"id":"user-{id:029}"}}"#)).collect();
    format!(
        r#"{{"action_type":"segment.users.sync","data":{{"segment":{{"id":7,"name":"S"}},"sync_info":{{"page_number":{page},"total_pages":{pages},"sync_task_id":"{sync}"}},"add":[{}]}}}}"#,
        users.join(",")
    )
}

/// One persistent connection, reopened when it breaks.
struct Sender {
    address: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Sender {
    fn new(address: &str) -> Self {
        Self { address: address.to_owned(), stream: None }
    }

    /// Delivers a body and returns the status; 0 without a response.
    fn deliver(&mut self, body: &str, secret: &str) -> u16 {
        let status = self.try_deliver(body, secret).unwrap_or(0);
        if status == 0 {
            self.stream = None;
        }
        status
    }

    fn try_deliver(&mut self, body: &str, secret: &str) -> Option<u16> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.address).ok()?;
            stream.set_nodelay(true).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
            self.stream = Some(BufReader::new(stream));
        }
        let stream = self.stream.as_mut()?;
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(millis.as_bytes());
        mac.update(body.as_bytes());
        let hmac = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        let request = format!(
            "POST /heap/heap HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nheap-hash: ts:{millis},hmac:{hmac}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(request.as_bytes()).ok()?;
        let (mut status, mut len) = (0, 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if status == 0 {
                status = line.split(' ').nth(1)?.parse().ok()?;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                len = value.trim().parse().ok()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut response = vec![0; len];
        stream.read_exact(&mut response).ok()?;
        Some(status)
    }
}

/// Measures acknowledged deliveries per second, and the time of each.
fn endpoints(seconds: u64, users: u64) {
    let scene = Scene::new(&[(
        "free".to_owned(),
        "{ kind: heap_segment, connection: heap, segment_id: 8 }".to_owned(),
    )]);
    let watch = scene.watch();
    scene.until_ready();
    let (began, cpu) = (Instant::now(), watch.cpu());
    let senders: Vec<_> = (0..SENDERS as u64)
        .map(|sender_number| {
            let address = scene.endpoints.clone();
            std::thread::spawn(move || {
                let (mut sender, mut times, mut round) = (Sender::new(&address), Vec::new(), 0);
                while began.elapsed() < Duration::from_secs(seconds) {
                    let sync = format!("{sender_number}-{round}");
                    let from = (sender_number * 1_000_003 + round) * users;
                    let body = body(&sync, 1, 1, from..from + users);
                    let sent = Instant::now();
                    assert_eq!(sender.deliver(&body, SECRET), 200);
                    times.push(sent.elapsed().as_secs_f64());
                    round += 1;
                }
                times
            })
        })
        .collect();
    let mut times: Vec<f64> = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] * 1000.0;
    println!(
        "endpoints: {:.0} deliveries of {users} ids acknowledged a second with fsync, {SENDERS} senders; \
         p50 {:.1} ms, p99 {:.1} ms, {:.2} CPU s for {} of them, {:.0} MiB",
        times.len() as f64 / seconds as f64,
        at(0.5),
        at(0.99),
        watch.cpu() - cpu,
        times.len(),
        watch.memory().0
    );
}

/// Soak test: resources of `watch` over time while files change, deliveries and events arrive, and a tenth of
/// all requests fails.
fn soak(minutes: u64) {
    let segment = |id: u64| format!("{{ kind: heap_segment, connection: heap, segment_id: {id} }}");
    let mut cohorts: Vec<(String, String)> =
        (0..4).map(|n| (format!("list-{n}"), file(&format!("list-{n}.csv")))).collect();
    cohorts.extend([7, 8].map(|id| (format!("segment-{id}"), segment(id))));
    let scene = Scene::new(&cohorts);
    let config = fs::read_to_string(scene.home.path().join("sync.yaml")).unwrap();
    let heap = format!(
        "kind: heap, endpoint: '{}', app_id: 11, limits: {{ per_identity: off, per_app: off }},",
        scene.sandbox.1
    );
    let config = config.replace("kind: heap, webhook", &format!("{heap} webhook"))
        + "exports: [ { id: posted, source: { kind: currents_http, token: { env: W } }, to: heap, flush_every: 1s, anonymous: hash, pii: keep } ]\n";
    fs::write(scene.home.path().join("sync.yaml"), config).unwrap();
    for n in 0..4 {
        list(&scene.home.path().join(format!("list-{n}.csv")), 2000);
    }
    let sandbox = scene.sandbox.1.strip_prefix("http://").unwrap().to_owned();
    let faults = r#"[{"times":0,"share":0.04,"seed":1,"do":{"status":503}},{"times":0,"share":0.03,"seed":2,"do":"lose_answer"},{"times":0,"share":0.03,"seed":3,"do":"reset"}]"#;
    post(&sandbox, "/_sandbox/faults", faults);
    let watch = scene.watch();
    scene.until_ready();
    println!(
        "minute  MiB  threads  open files  CPU s  files of the state  MiB of the state  (cohorts, segments, exports, inbox, rejects, journal)"
    );
    let (began, mut cpu, mut sender) = (Instant::now(), watch.cpu(), Sender::new(&scene.endpoints));
    for second in 1..=minutes * 60 {
        list(&scene.home.path().join(format!("list-{}.csv", second % 4)), 2000 + second % 17);
        for n in 0..5 {
            let body = body(
                &format!("soak-{second}-{n}"),
                1,
                1,
                (0..10).map(|at| (second * 7 + n * 131 + at * 17) % 5000),
            );
            let body = body.replace(r#""id":7"#, &format!(r#""id":{}"#, 7 + n % 2));
            let body = if second % 3 == 0 { body.replace(r#""add""#, r#""remove""#) } else { body };
            sender.deliver(&body, SECRET);
        }
        if second % 2 == 0 {
            let url = format!("http://{}/currents/posted", scene.endpoints);
            post(
                &sandbox,
                "/_sandbox/currents/post",
                &format!(r#"{{"url":"{url}","token":"{SECRET}","events":50,"users":500,"seed":{second}}}"#),
            );
        }
        if second % 60 == 0 {
            let used = watch.cpu() - std::mem::replace(&mut cpu, watch.cpu());
            println!(
                "{:>6} {}  {used:.1}  {}",
                second / 60,
                watch.resources(),
                state_size(&scene.home.path().join(".syncline"))
            );
        }
        std::thread::sleep(Duration::from_secs(second).saturating_sub(began.elapsed()));
    }
    post(&sandbox, "/_sandbox/faults", "[]");
    scene.until_in_sync();
    drop(watch);
    let verified =
        Command::new(SYNCLINE).args(["state", "verify"]).current_dir(scene.home.path()).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    println!("in sync after {minutes} minutes; the state is undamaged");
}

fn post(address: &str, path: &str, body: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 2"), "{path}: {text}");
}

/// Files and MiB of a state, and files by folder.
fn state_size(state: &Path) -> String {
    fn walk(folder: &Path, size: &mut (u64, u64)) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => walk(&entry.path(), size),
                Ok(meta) => *size = (size.0 + 1, size.1 + meta.len()),
                Err(_) => {} // deleted since the listing
            }
        }
    }
    let size = |folder: &Path| {
        let mut size = (0, 0);
        walk(folder, &mut size);
        size
    };
    let (files, bytes) = size(state);
    let folders = ["cohorts", "segments", "exports", "inbox", "rejects", "journal"];
    let by_folder: Vec<String> = folders.iter().map(|name| size(&state.join(name)).0.to_string()).collect();
    format!("{files}  {:.1}  ({})", bytes as f64 / f64::from(1 << 20), by_folder.join(", "))
}

/// Measures the ingest of deliveries of one user each into segment tables, in ten batches.
fn ingest(deliveries: u64, segments: u64) {
    let home = tempfile::tempdir().unwrap();
    let clock = Clock::new(Timestamp::now);
    let holder = Holder { host: "bench".to_owned(), process: 1, since: clock.now(), renewal: None };
    let state = StateWriter::open(&Location::Folder(home.path().to_owned()), &holder, clock, 7).unwrap();
    let (state, heap) = (Arc::new(state), ConnectionName::new("heap").unwrap());
    let inbox = Inbox::open(&state, &EndpointName::of_heap(&heap), InboxQuota::new(1 << 32), clock).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (run, incomplete_after) = (RunId::new(clock.now(), 1), Duration::from_secs(3600));
    let mut took = Duration::ZERO;
    for batch in 0..10 {
        let batch_deliveries = (deliveries * batch / 10..deliveries * (batch + 1) / 10).map(|n| {
            let body = body(&format!("sync-{n}"), 1, 1, std::iter::once(n));
            let body = body.replace(r#""id":7"#, &format!(r#""id":{}"#, n % segments)).into_bytes();
            Delivery { received: clock.now(), stamp: clock.now().as_millisecond(), body }
        });
        let batch_deliveries: Vec<Delivery> = batch_deliveries.collect();
        for some in batch_deliveries.chunks(1000) {
            let stored = some.iter().map(|delivery| inbox.keep(delivery.clone()));
            let stored = runtime.block_on(futures_util::future::join_all(stored));
            stored.into_iter().for_each(|stored| stored.unwrap());
        }
        let files = runtime.block_on(inbox.close_file()).unwrap();
        let began = Instant::now();
        let now = clock.now();
        let ingest_context = IngestContext { state: &state, heap: &heap, run: &run, now, incomplete_after };
        let folded = heap_segments::ingest(&files, ingest_context).unwrap();
        took += began.elapsed();
        assert_eq!((folded.invalid, folded.duplicates), (0, 0));
        inbox.used(&folded.used);
    }
    let segment_states = state.reader().segments(&heap).unwrap();
    let mut members = 0;
    for segment in segment_states.by_id.values() {
        let mut cursor = state.reader().segment_members(&heap, segment).unwrap();
        while cursor.advance().unwrap().is_some() {
            members += 1;
        }
    }
    assert_eq!(members, deliveries);
    let files = fs::read_dir(home.path().join("segments/heap/parts")).unwrap().count();
    println!(
        "ingest: {deliveries} deliveries of one user each to {segments} segments in ten batches: {:.0} a second, {files} files of members",
        deliveries as f64 / took.as_secs_f64()
    );
}

/// Measures the CPU share of an idle `watch`.
fn idle(cohorts: u64, seconds: u64) {
    let ids: Vec<(String, String)> =
        (0..cohorts).map(|n| (format!("c{n}"), file(&format!("c{n}.csv")))).collect();
    let scene = Scene::new(&ids);
    for n in 0..cohorts {
        list(&scene.home.path().join(format!("c{n}.csv")), 1000);
    }
    let watch = scene.watch();
    scene.until_ready();
    scene.until_in_sync();
    std::thread::sleep(Duration::from_secs(5));
    let cpu = watch.cpu();
    std::thread::sleep(Duration::from_secs(seconds));
    let share = (watch.cpu() - cpu) / seconds as f64 * 100.0;
    println!("idle with {cohorts} cohorts: {share:.2}% of a core, {:.1} MiB", watch.memory().1);
}

/// Rewrites the config many times: a third of them invalid, a third by replacing a symbolic link.
fn rewrites(count: u64, seconds: u64) {
    let scene = Scene::new(&[("carts".to_owned(), file("carts.csv"))]);
    let home = scene.home.path();
    list(&home.join("carts.csv"), 100);
    let good = fs::read_to_string(home.join("sync.yaml")).unwrap();
    let link = |to: &str| {
        std::os::unix::fs::symlink(to, home.join("link.tmp")).unwrap();
        fs::rename(home.join("link.tmp"), home.join("sync.yaml")).unwrap();
    };
    let mut watch = scene.watch();
    scene.until_ready();
    scene.until_in_sync();
    let began = Instant::now();
    for round in 0..count {
        let name = format!("Name {round}");
        let text = good.replace("Name of carts", &name);
        match round % 3 {
            0 => fs::write(home.join("sync.yaml.tmp"), format!("{text}\nbad: ["))
                .and_then(|()| fs::rename(home.join("sync.yaml.tmp"), home.join("sync.yaml")))
                .unwrap(),
            1 => {
                fs::write(home.join(format!("v{}.yaml", round % 2)), &text).unwrap();
                link(&format!("v{}.yaml", round % 2));
            }
            _ => {
                let _ = fs::remove_file(home.join("sync.yaml"));
                fs::write(home.join("sync.yaml"), &text).unwrap();
            }
        }
        let due = Duration::from_secs_f64(seconds as f64 * (round + 1) as f64 / count as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    // Earlier versions may be overwritten before they are read; this one is the last.
    let last = "Name at last".to_owned();
    fs::write(home.join("sync.yaml.tmp"), good.replace("Name of carts", &last)).unwrap();
    fs::rename(home.join("sync.yaml.tmp"), home.join("sync.yaml")).unwrap();
    let is_last = || {
        let address = scene.sandbox.1.strip_prefix("http://").unwrap();
        get(address, "/_sandbox/cohorts").is_some_and(|(_, body)| body.contains(&format!("{last:?}")))
    };
    let settled = Instant::now();
    until(is_last);
    let waited = settled.elapsed();
    scene.until_in_sync();
    assert!(watch.0.try_wait().unwrap().is_none(), "`watch` has ended");
    let log = fs::read_to_string(home.join("log")).unwrap();
    println!(
        "{count} rewrites in {seconds} s: {} configs loaded, {} invalid, {} runs applied; the last one is in Braze after {:.0} ms; {:.0} MiB",
        log.matches("config reloaded").count(),
        log.matches("cannot be used").count(),
        log.matches(" applied ").count(),
        waited.as_secs_f64() * 1000.0,
        watch.memory().0
    );
}

/// A large sync under faults: a fifth of the pages twice, all shuffled, some forged, and the process killed ten
/// times.
fn storm(deliveries: u64, users: u64) {
    let scene = Scene::new(&[(
        "free".to_owned(),
        "{ kind: heap_segment, connection: heap, segment_id: 7 }".to_owned(),
    )]);
    let mut pages: Vec<(u64, bool)> = (0..deliveries)
        .flat_map(|page| {
            let twice = (page % 5 == 0).then_some((page, true));
            let forged = (page % 20 == 7).then_some((page, false));
            [Some((page, true)), twice, forged].into_iter().flatten()
        })
        .collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..pages.len()).rev() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        pages.swap(at, (random >> 33) as usize % (at + 1));
    }
    let (pages, next) = (Arc::new(pages), Arc::new(AtomicU64::new(0)));
    let (acknowledged, forged) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut watch = scene.watch();
    scene.until_ready();
    let began = Instant::now();
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (pages, next, address) = (Arc::clone(&pages), Arc::clone(&next), scene.endpoints.clone());
            let (acknowledged, forged) = (Arc::clone(&acknowledged), Arc::clone(&forged));
            std::thread::spawn(move || {
                let mut sender = Sender::new(&address);
                while let Some((page, is_ours)) = pages.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let body = body("storm", page + 1, deliveries, page * users..(page + 1) * users);
                    loop {
                        match sender.deliver(&body, if *is_ours { SECRET } else { "another secret" }) {
                            200 if *is_ours => drop(acknowledged.fetch_add(1, Ordering::Relaxed)),
                            403 if !*is_ours => drop(forged.fetch_add(1, Ordering::Relaxed)),
                            200 => panic!("a forged delivery was accepted"),
                            _ => {
                                std::thread::sleep(Duration::from_millis(20));
                                continue;
                            }
                        }
                        break;
                    }
                }
            })
        })
        .collect();
    for kill in 1..=10 {
        let at = pages.len() as u64 * kill / 11;
        until(|| next.load(Ordering::Relaxed) >= at);
        watch.kill();
        watch = scene.watch();
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let sent = began.elapsed();
    scene.until_ready();
    let total = deliveries * users;
    until(|| scene.size("free") == total);
    println!(
        "{deliveries} pages of {users} in {:.1} s, killed ten times: {} acknowledged, {} forged rejected; {} members, as delivered, after {:.1} s; {:.0} MiB",
        sent.as_secs_f64(),
        acknowledged.load(Ordering::Relaxed),
        forged.load(Ordering::Relaxed),
        scene.size("free"),
        began.elapsed().as_secs_f64(),
        watch.memory().0
    );
}

/// Two processes on one state; one of them is killed every five seconds while the source keeps changing.
fn standby(seconds: u64) {
    let scene = Scene::new(&[("carts".to_owned(), file("carts.csv"))]);
    let path = scene.home.path().join("carts.csv");
    list(&path, 1000);
    let config = fs::read_to_string(scene.home.path().join("sync.yaml")).unwrap();
    let second = config.replace(&scene.endpoints, &free_address()).replace(&scene.admin, &free_address());
    fs::write(scene.home.path().join("second.yaml"), second).unwrap();
    let start = |second: bool| {
        let mut command = Command::new(SYNCLINE);
        command.arg("watch").current_dir(scene.home.path());
        command.args(second.then_some(["-c", "second.yaml"]).into_iter().flatten());
        command.env("K", "sandbox-data-import-key").env("P", "sandbox-partner-api-key").env("W", SECRET);
        Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let mut both = [start(false), start(true)];
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = {
        let (stop, written, path) = (Arc::clone(&stop), Arc::clone(&written), path.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let round = written.fetch_add(1, Ordering::Relaxed);
                list(&path, 1000 + round % 200);
                std::thread::sleep(Duration::from_millis(300));
            }
        })
    };
    let began = Instant::now();
    let mut kills = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_secs(5));
        let victim = kills % 2;
        let old = std::mem::replace(&mut both[victim], start(victim == 1));
        old.kill();
        kills += 1;
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    let users = 1000 + (written.load(Ordering::Relaxed) - 1) % 200;
    let expected: String = (0..users).map(|user| format!("external_id user-{user:029}\n")).collect();
    until(|| scene.members("carts") == expected);
    drop(both);
    let verified =
        Command::new(SYNCLINE).args(["state", "verify"]).current_dir(scene.home.path()).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    println!(
        "two processes, {kills} kills in {seconds} s while the list changed {} times: {users} members, as listed; the state is undamaged",
        written.load(Ordering::Relaxed)
    );
}
