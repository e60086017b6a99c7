//! Concurrent planning: a slow source delays no other, and the plan does not depend on the order of responses.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::postgres::Postgres;
use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

const COHORTS: usize = 24;
/// How long a request waits for the others before it fails, far longer than normal.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(30);

/// A web server that responds only after every path was requested.
struct BarrierServer {
    url: String,
    requested: Arc<(Mutex<BTreeSet<String>>, Condvar)>,
}

impl BarrierServer {
    fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let requested = Arc::new((Mutex::new(BTreeSet::new()), Condvar::new()));
        let shared = Arc::clone(&requested);
        std::thread::spawn(move || {
            for stream in socket.incoming().map_while(Result::ok) {
                let requested = Arc::clone(&shared);
                std::thread::spawn(move || while answer(&stream, &requested).is_some() {});
            }
        });
        Self { url, requested }
    }

    fn forget(&self) {
        self.requested.0.lock().unwrap().clear();
    }

    fn config(&self, sandbox: &Sandbox, more: &str) -> String {
        let mut text = config(&sandbox.url, &[], more);
        for id in ids() {
            text += &cohort_entry(&id, "").replace(&format!("{id}.csv"), &format!("{}/{id}.csv", self.url));
        }
        text
    }
}

fn ids() -> impl Iterator<Item = String> {
    (0..COHORTS).rev().map(|n| format!("cohort-{n}"))
}

fn answer(stream: &TcpStream, (requested, all): &(Mutex<BTreeSet<String>>, Condvar)) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
    let (method, path) = (line.split(' ').next()?.to_owned(), line.split(' ').nth(1)?.to_owned());
    let (mut header, mut is_range) = (String::new(), false);
    while reader.read_line(&mut header).ok()? > 0 && !header.trim().is_empty() {
        is_range |= header.to_ascii_lowercase().starts_with("range:");
        header.clear();
    }
    let mut requested = requested.lock().unwrap();
    requested.insert(path.clone());
    all.notify_all();
    let (requested, late) =
        all.wait_timeout_while(requested, BARRIER_TIMEOUT, |requested| requested.len() < COHORTS).unwrap();
    drop(requested);
    let body = format!("identity\n{}\n", path.trim_matches('/').replace(".csv", ""));
    let len = body.len();
    let (status, range) = match (late.timed_out(), is_range) {
        (true, _) => ("503 Service Unavailable", String::new()),
        (_, true) => ("206 Partial Content", format!("content-range: bytes 0-{}/{len}\r\n", len - 1)),
        _ => ("200 OK", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {len}\r\netag: \"1\"\r\n{range}\
         last-modified: Sat, 01 Jan 2022 00:00:00 GMT\r\n\r\n"
    );
    let body = if method == "HEAD" { String::new() } else { body };
    let mut stream = stream;
    stream.write_all((head + &body).as_bytes()).ok()
}

#[test]
fn all_sources_are_read_concurrently_and_the_plan_is_in_order() {
    let (w, sandbox, web) = (Workspace::new(), Sandbox::start(), BarrierServer::start());
    w.write("sync.yaml", web.config(&sandbox, ""));
    let plan = || {
        web.forget();
        let plan = w.run(&["plan", "--format", "json"]).expect(0).json();
        let order: Vec<String> = plan["cohorts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cohort| cohort["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(order, ids().collect::<Vec<_>>());
        plan["digest"].clone()
    };
    let digest = plan();
    assert!(digest.is_string());
    assert_eq!(plan(), digest);
    web.forget();
    w.run(&["reconcile"]).expect(0);
    for id in ids() {
        assert_eq!(sandbox.members(&id), members([id]));
    }
}

#[test]
fn watch_reads_all_sources_concurrently() {
    let (w, sandbox, web) = (Workspace::new(), Sandbox::start(), BarrierServer::start());
    w.write("sync.yaml", web.config(&sandbox, SHORT_TIMEOUTS));
    let watch = Watch::start(&w);
    watch.until_in_sync();
    for id in ids() {
        assert_eq!(sandbox.members(&id), members([id]));
    }
}

/// Each query ends when this number of queries run.
#[test]
fn many_queries_run_concurrently() {
    const QUERIES: usize = 25;
    let Some(server) = Postgres::start() else { return };
    server.sql(
        "create function until_all(wanted int) returns text language plpgsql as $$
         declare running int;
         begin
           for attempt in 1..3000 loop
             perform pg_stat_clear_snapshot();
             select count(*) into running from pg_stat_activity where application_name = 'syncline';
             -- The others must see it, too.
             if running >= wanted then perform pg_sleep(2); return 'user-1'; end if;
             perform pg_sleep(0.01);
           end loop;
           raise exception 'only % run at once', running;
         end $$",
    );
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let mut text = config(&sandbox.url, &[], &server.connection("user: owner, tls: off"));
    for n in 0..QUERIES {
        let id = format!("cohort-{n}");
        let source = format!(
            "{{ kind: sql, connection: warehouse, query: \"select until_all({QUERIES}) as identity, '{n}' as n\" }}"
        );
        text += &cohort_entry(&id, "").replace(&format!("{{ kind: file, path: {id}.csv }}"), &source);
    }
    w.write("sync.yaml", text);
    let plan = w.run(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(plan["cohorts"].as_array().unwrap().len(), QUERIES);
}
