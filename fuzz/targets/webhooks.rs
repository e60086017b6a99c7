//! Target of the webhook endpoints: whole HTTP requests over a connection, as any client may send them.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use syncline::config::{EndpointLimits, Secret};
use syncline::model::{ConnectionName, EndpointName, ExportId};
use syncline::state::{Holder, Inbox, InboxQuota, Location, StateWriter};
use syncline::webhooks::{
    CurrentsEndpoint, Endpoint, EndpointGuard, Endpoints, HeapEndpoint, Listener, Listening,
};
use tokio::sync::Notify;

use super::{CLOCK, now, states};

const SECRET: &str = "fuzzing-has-no-secret";
/// Stands for the signature of the body, which no input can guess.
const UNSIGNED: &[u8] = b"hmac:?";
/// A body may unpack to this length.
const BODY_LEN_MAX: usize = 1 << 20;

struct Server {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
    state: Arc<StateWriter>,
    inboxes: [Arc<Inbox>; 2],
    _listening: Listening,
}

thread_local! {
    static SERVER: OnceCell<Server> = const { OnceCell::new() };
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let location = Location::Folder(states().join("webhooks"));
        let holder = Holder { host: "fuzz".to_owned(), process: 1, since: now(), renewal: None };
        let state = Arc::new(StateWriter::open(&location, &holder, CLOCK, 7).expect("a new state"));
        let names = [
            EndpointName::of_heap(&ConnectionName::new("heap").expect("a name")),
            EndpointName::of_export(&ExportId::new("engagement").expect("an id")),
        ];
        let inboxes = names.each_ref().map(|name| {
            Arc::new(Inbox::open(&state, name, InboxQuota::new(1 << 30), CLOCK).expect("an inbox"))
        });
        let secret = || Secret::new(SECRET.to_owned());
        let guards = [
            EndpointGuard::Heap(HeapEndpoint {
                secrets: vec![secret()],
                max_age: Duration::from_secs(600),
                max_ahead: Duration::from_secs(60),
            }),
            EndpointGuard::Currents(CurrentsEndpoint { tokens: vec![secret()] }),
        ];
        let endpoints = Endpoints::new(limits(), CLOCK, Arc::new(Notify::new()));
        let paths = ["/heap", "/currents"].map(str::to_owned).into_iter();
        let all =
            paths.zip(names).zip(guards).zip(&inboxes).map(|(((path, name), guard), inbox)| {
                (path, Endpoint { name, guard, inbox: Arc::clone(inbox) })
            });
        endpoints.set(all.collect::<BTreeMap<_, _>>());
        let listening = runtime.block_on(async {
            let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
            listener.serve(Arc::new(endpoints), limits(), None, CLOCK)
        });
        Self { address: listening.address(), runtime, state, inboxes, _listening: listening }
    }

    /// Checks that the stored deliveries are intact, and removes them.
    fn check_stored(&self) {
        for inbox in &self.inboxes {
            let files = self.runtime.block_on(inbox.close_file()).expect("an inbox");
            for file in &files {
                let contents = self.state.reader().deliveries(file).expect("the inbox");
                assert!(contents.torn == 0 && contents.damaged.is_empty());
                assert!(contents.deliveries.iter().all(|delivery| delivery.body.len() <= BODY_LEN_MAX));
                self.state.remove_used(file).expect("the inbox");
            }
            inbox.used(&files);
        }
    }
}

fn limits() -> EndpointLimits {
    EndpointLimits {
        body_len_max: BODY_LEN_MAX,
        headers_len_max: 16 << 10,
        header_time: Duration::from_millis(300),
        request_time: Duration::from_millis(300),
        idle_time: Duration::from_millis(300),
        connections_max: 16,
        streams_max: 4,
        json_depth_max: 64,
        memory_max: 16 << 20,
        inbox_len_max: 1 << 30,
    }
}

/// The bytes that a client sends. A signature `hmac:?` is replaced by the correct one of everything after the headers.
pub(crate) fn request(data: &[u8]) {
    let bytes = with_signature(data);
    SERVER.with(|server| {
        let server = server.get_or_init(Server::start);
        if is_accepted(&exchange(server.address, &bytes)) {
            server.check_stored();
        }
    });
}

/// Sends the bytes, and returns everything that the server sends until it closes the connection.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("the server");
    let mut answer = Vec::new();
    // The server may close the connection before it has read everything.
    if stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write)).is_ok() {
        let _ = stream.read_to_end(&mut answer);
    }
    answer
}

fn is_accepted(answer: &[u8]) -> bool {
    const STATUS: &[u8] = b"HTTP/1.1 200";
    answer.windows(STATUS.len()).any(|part| part == STATUS)
}

fn with_signature(data: &[u8]) -> Vec<u8> {
    let find = |part: &[u8]| data.windows(part.len()).position(|window| window == part);
    let (Some(at), Some(head)) = (find(UNSIGNED), find(b"\r\n\r\n")) else { return data.to_vec() };
    let stamp = now().as_millisecond().to_string();
    let Some(from) = find(b"ts:?").filter(|from| *from < at && at < head) else { return data.to_vec() };
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
    mac.update(stamp.as_bytes());
    mac.update(&data[head + 4..]);
    let hmac = STANDARD.encode(mac.finalize().into_bytes());
    let signature = format!("ts:{stamp},hmac:{hmac}").into_bytes();
    [&data[..from], &signature, &data[at + UNSIGNED.len()..]].concat()
}
