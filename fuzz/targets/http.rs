//! Targets of HTTP answers: of Braze and Heap, of buckets, and of web servers with source files.
//!
//! A server in this process returns the input, byte by byte, as the answer to each request.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use syncline::config::{BrazeConfig, FileSource, HeapConfig, Secret, TriggerTarget, load};
use syncline::connector::braze::rest::{MessagingKind, RestError};
use syncline::connector::braze::{BrazeClient, BrazeKeyKind, ImportKeys, WorkspaceKeySet};
use syncline::connector::destination::{RequestOutcome, Workspace as _};
use syncline::connector::file::{FileAccess, read};
use syncline::connector::heap::{HeapCall, HeapClient};
use syncline::connector::rows::{RowLocation, RowSink, SinkStopped, UnreadableRow};
use syncline::model::{ChangeOp, CohortId, DeliveryMethod, Fields, Identifier, IdentifierKind};

use syncline::object_store::{self, BucketClient, ByteSpan};

use super::{CLOCK, file, home};

/// Answers of a run that are the input. Further ones are 404, so that repeated requests end.
const ANSWERS_MAX: usize = 32;
const FILE_ANSWERS_MAX: usize = 3;
const LISTING_ANSWERS_MAX: usize = 2;
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// The input, and how many answers it still gives.
type Answer = Arc<Mutex<(Arc<[u8]>, usize)>>;

struct Server {
    address: SocketAddr,
    answer: Answer,
}

impl Server {
    fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("an address");
        let answer = Answer::new(Mutex::new((Arc::new([]), 0)));
        let answers = Arc::clone(&answer);
        std::thread::spawn(move || {
            for stream in socket.incoming() {
                let bytes = next(&mut answers.lock().unwrap_or_else(PoisonError::into_inner));
                // A client that closes the connection needs no answer.
                let _ = stream.and_then(|stream| respond(&stream, &bytes));
            }
        });
        Self { address, answer }
    }

    fn set(&self, data: &[u8], count: usize) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = (data.into(), count);
    }
}

fn next((bytes, left): &mut (Arc<[u8]>, usize)) -> Arc<[u8]> {
    match left.checked_sub(1) {
        Some(less) => {
            *left = less;
            Arc::clone(bytes)
        }
        None => NOT_FOUND.into(),
    }
}

/// Reads one request, and sends the answer.
fn respond(stream: &TcpStream, answer: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (mut reader, mut line, mut len) = (BufReader::new(stream), String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        let header = line.to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            len = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    std::io::copy(&mut reader.take(len), &mut std::io::sink())?;
    (&*stream).write_all(answer)
}

const MEMBERS: [Identifier<'static>; 2] = [
    Identifier { kind: IdentifierKind::ExternalId, label: "", value: "ann" },
    Identifier { kind: IdentifierKind::ExternalId, label: "", value: "ben" },
];

/// The clients of one thread.
struct Clients {
    server: Server,
    runtime: tokio::runtime::Runtime,
    braze: BrazeClient,
    heap: HeapClient,
    bucket: BucketClient,
}

thread_local! {
    static CLIENTS: RefCell<Option<Clients>> = const { RefCell::new(None) };
}

impl Clients {
    fn new() -> Self {
        let server = Server::start();
        let base = format!("http://{}", server.address);
        let (braze, heap) = settings();
        let secret = || Secret::new("fuzzing-has-no-secret".to_owned());
        let keys = WorkspaceKeySet {
            import: Some(ImportKeys { data_import: secret(), partner_api: secret() }),
            rest: Some(secret()),
        };
        Self {
            braze: BrazeClient::new(&braze, &base, keys, CLOCK).expect("a client"),
            heap: HeapClient::new(&heap, &base, "11", CLOCK).expect("a client"),
            bucket: BucketClient::open("s3://bucket", &bucket_settings(&base)).expect("a client"),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
            server,
        }
    }
}

/// A bucket without keys.
fn bucket_settings(base: &str) -> Vec<(String, String)> {
    let anonymous = ("aws_skip_signature".to_owned(), "true".to_owned());
    let mut settings = object_store::settings(&[anonymous], Some(base), Some("us-east-1"));
    settings.push(("aws_virtual_hosted_style_request".to_owned(), "false".to_owned()));
    settings
}

/// Settings without retries, so that a run never waits.
fn settings() -> (BrazeConfig, HeapConfig) {
    let path = file(
        "clients.yaml",
        br"
version: 1
state: state
connections:
  braze: { kind: braze, instance: sandbox, partner: heap }
  heap: { kind: heap, region: sandbox }
cohorts: []
",
    );
    let config = load(&path, None, None).unwrap_or_else(|problems| panic!("{problems:?}"));
    let mut braze = config.braze.values().next().expect("a connection").clone();
    braze.retry.attempts = 1;
    braze.retry.longest_wait = Duration::ZERO;
    braze.timeout = Duration::from_secs(1);
    let mut heap = config.heap.values().next().expect("a connection").clone();
    heap.timeout = Duration::from_secs(1);
    (braze, heap)
}

/// An answer of Braze or Heap: status, headers and body.
pub(crate) fn response(data: &[u8]) {
    CLIENTS.with_borrow_mut(|clients| {
        let Clients { server, runtime, braze, heap, .. } = clients.get_or_insert_with(Clients::new);
        server.set(data, ANSWERS_MAX);
        let is_open = runtime.block_on(async {
            write_to(braze).await;
            send_to(heap).await;
            read_from(braze).await
        });
        // A rate limit that an answer has closed stays closed, because time stands still.
        if !is_open {
            *clients = None;
        }
    });
}

async fn write_to(braze: &BrazeClient) {
    for kind in [BrazeKeyKind::DataImport, BrazeKeyKind::Rest] {
        let _ = braze.test_key(kind).await;
    }
    let cohort = CohortId::new("vip").expect("an id");
    for delivery in [DeliveryMethod::CohortImport, DeliveryMethod::Boolean("vip".into())] {
        let destination = braze.destination(&delivery).expect("keys");
        let outcome = destination.change(&cohort, ChangeOp::Add, &MEMBERS).await;
        let _ = (outcome.code(), outcome.retry_cause("Braze"));
        match outcome {
            RequestOutcome::AcceptedWithErrors { rows, .. } => {
                assert!(rows.iter().all(|row| row.member < MEMBERS.len()), "a member of the request");
            }
            RequestOutcome::Failed(failure) => assert!(!failure.to_string().contains('\n')),
            _ => {}
        }
    }
    let properties = BTreeMap::new();
    let _ = braze.triggers().trigger(TriggerTarget::Campaign, "c", &[(MEMBERS[0], &properties)]).await;
}

async fn send_to(heap: &HeapClient) {
    if let Err(failure) = heap.send(HeapCall::Track, Bytes::from_static(b"{}")).await {
        assert!(!failure.to_string().contains('\n'));
    }
    let _ = heap.test_connection().await;
    let key = Secret::new("fuzzing-has-no-secret".to_owned());
    let _ = heap.deletion(&key).token().await;
    let _ = heap.deletion(&key).request(&["ann"]).await;
}

/// Reads with the REST key. Returns whether the rate limit is open.
async fn read_from(braze: &BrazeClient) -> bool {
    let (Some(profiles), Some(rest)) = (braze.profiles(), braze.rest()) else { return true };
    if let Ok(unknown) = profiles.unknown_users(IdentifierKind::ExternalId, &MEMBERS).await {
        assert!(unknown.len() <= MEMBERS.len());
    }
    let _ = rest.segment("s").await;
    let _ = rest.sizes("s", 7).await;
    let _ = rest.details(MessagingKind::Canvas, "c").await;
    let ids = rest.unknown_external_ids(&["ann".to_owned()]).await;
    let segments = rest.segments().await;
    !matches!(ids, Err(RestError::RateLimited(_))) && !matches!(segments, Err(RestError::RateLimited(_)))
}

/// Ignores rows.
struct NoRows;

impl RowSink for NoRows {
    fn row(&mut self, _: &impl Fields, _: RowLocation<'_>) -> Result<(), SinkStopped> {
        Ok(())
    }

    fn unreadable(&mut self, _: UnreadableRow<'_>) -> Result<(), SinkStopped> {
        Ok(())
    }
}

/// An answer of a web server with a source file: length, ranges, tags and dates.
pub(crate) fn file_answer(data: &[u8]) {
    CLIENTS.with_borrow_mut(|clients| {
        let server = &clients.get_or_insert_with(Clients::new).server;
        server.set(data, FILE_ANSWERS_MAX);
        let mut source = FileSource::new(format!("http://{}/rows.csv", server.address));
        source.is_allowed = true;
        let home = home();
        let access = FileAccess { folder: &home, roots: std::slice::from_ref(&home), stores: &[] };
        let _ = read(&source, access, &["id".into()], &mut NoRows);
    });
}

/// A listing of a bucket: keys are read exactly.
pub(crate) fn listing(data: &[u8]) {
    CLIENTS.with_borrow_mut(|clients| {
        let Clients { server, bucket, .. } = clients.get_or_insert_with(Clients::new);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", data.len());
        server.set(&[head.as_bytes(), data].concat(), LISTING_ANSWERS_MAX);
        if let Ok(listing) = bucket.list("", ByteSpan::default()) {
            for object in listing.objects {
                let _ = bucket.exact(&object.key);
            }
        }
    });
}
