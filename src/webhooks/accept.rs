//! Connections: accepted, counted, timed, and closed when they are silent. Our own loop, since no library's has
//! all of these bounds.
//!
//! When there are too many, the one that has owed the most for longest gives way, be it a request or the rest of
//! one: whoever only holds connections open cannot keep others out.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use super::EndpointRequest;
use super::body::BodyRefusal;
use super::framing::Framed;
use super::tls::Certificate;
use crate::config::EndpointLimits;

/// An answer to a request.
pub type EndpointReply = hyper::Response<Full<Bytes>>;

/// How long others are not accepted after the system has refused one: it may be out of file descriptors.
const REFUSED: Duration = Duration::from_millis(50);
/// How often an HTTP/2 peer is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WAIT: Duration = Duration::from_secs(10);
/// How long the rest of a request may be owed when memory is short.
const HURRY: Duration = Duration::from_secs(2);
/// What an HTTP/2 peer may send before it is read.
const WINDOW_LEN: u32 = 64 << 10;

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The answer to a request.
    fn handle(&self, request: EndpointRequest) -> Pin<Box<dyn Future<Output = EndpointReply> + Send + '_>>;
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: std::io::Error,
}

/// A listener that answers nobody yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// A listener that answers. Dropped, it stops at once.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    done: oneshot::Receiver<()>,
}

impl Listener {
    /// Takes the address.
    ///
    /// # Errors
    /// When the system does not give it.
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address, source };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    /// The address that it has.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to answer.
    #[must_use]
    pub fn serve(
        self,
        handler: Arc<dyn Handler>,
        limits: EndpointLimits,
        certificate: Option<Certificate>,
    ) -> Listening {
        let (stop, stopped) = oneshot::channel();
        let (tell, done) = oneshot::channel();
        let room = Arc::new(OpenConnections::new(limits));
        let address = self.address;
        #[allow(
            clippy::disallowed_methods,
            reason = "an accept loop ends with its handle, which tells when"
        )]
        tokio::spawn(async move {
            accept(self.socket, handler, certificate, room, stopped).await;
            let _ = tell.send(());
        });
        Listening { address, stop: Some(stop), done }
    }
}

impl Listening {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nobody any more, and waits until those who are being answered have their answer, or for `grace`.
    pub async fn stop(mut self, grace: Duration) {
        drop(self.stop.take());
        let _ = tokio::time::timeout(grace, &mut self.done).await;
    }
}

/// The connections that there are.
struct OpenConnections {
    limits: EndpointLimits,
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<OpenConnection>>>,
}

/// One connection.
struct OpenConnection {
    began: Instant,
    /// Requests that have begun and have no answer yet.
    busy: AtomicUsize,
    /// Those of them that have come whole, so that the answer is owed by us.
    whole: AtomicUsize,
    /// Milliseconds since it began when a request last began or was answered.
    moved: AtomicU64,
    /// Milliseconds since it began when the last answer was given; 0: none was.
    answered: AtomicU64,
    abort: AbortHandle,
}

impl OpenConnection {
    /// For how long it has been silent; none while a request is being answered.
    fn silent(&self) -> Option<Duration> {
        let answered = Duration::from_millis(self.answered.load(Ordering::Relaxed));
        let silent = self.began.elapsed().saturating_sub(answered);
        (self.busy.load(Ordering::Relaxed) == 0).then_some(silent)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// For how long a request, or the rest of one, has been owed; none while the answer is.
    fn owes(&self) -> Option<Duration> {
        let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
        let owed = self.began.elapsed().saturating_sub(moved);
        (self.whole.load(Ordering::Relaxed) == 0).then_some(owed)
    }

    /// How long it may be silent.
    fn patience(&self, limits: &EndpointLimits) -> Duration {
        if self.answered.load(Ordering::Relaxed) == 0 { limits.header_time } else { limits.idle_time }
    }
}

/// A request of a connection is being answered for as long as this lives.
struct Busy(Arc<OpenConnection>);

impl Busy {
    fn new(connection: &Arc<OpenConnection>) -> Self {
        connection.busy.fetch_add(1, Ordering::Relaxed);
        connection.moved.store(connection.millis(), Ordering::Relaxed);
        Self(Arc::clone(connection))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let millis = self.0.millis();
        self.0.answered.store(millis, Ordering::Relaxed);
        self.0.moved.store(millis, Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Goes with a request, to say when it has come whole.
#[derive(Clone)]
pub(super) struct Receipt(Arc<OpenConnection>, Arc<OpenConnections>);

/// A request has come whole for as long as this lives.
pub(super) struct RequestInFlight(Arc<OpenConnection>);

impl Receipt {
    /// There is no memory: of the others, the one that has owed the rest of a request for longest gives way, if
    /// it has had its time. Whether one did.
    pub(super) fn make_room(&self) -> bool {
        let holds =
            |one: &OpenConnection| one.busy.load(Ordering::Relaxed) > 0 && !std::ptr::eq(one, &*self.0);
        self.1.evict(|one| one.owes().filter(|owed| *owed >= HURRY && holds(one)))
    }

    /// From now on the answer is owed by us: the connection does not give way to others.
    pub(super) fn whole(&self) -> RequestInFlight {
        self.0.whole.fetch_add(1, Ordering::Relaxed);
        RequestInFlight(Arc::clone(&self.0))
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        self.0.whole.fetch_sub(1, Ordering::Relaxed);
    }
}

impl OpenConnections {
    fn new(limits: EndpointLimits) -> Self {
        Self { limits, next: AtomicU64::new(0), open: Mutex::default() }
    }

    /// Makes room for one more. `false`: there is none, since everybody is being answered.
    fn make_room(&self) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() < self.limits.connections_max {
            return true;
        }
        drop(open);
        self.evict(OpenConnection::owes)
    }

    /// Closes the connection that has owed for longest. Whether there is one.
    fn evict(&self, owed: impl Fn(&OpenConnection) -> Option<Duration>) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = open.iter().filter_map(|(id, one)| Some((owed(one)?, *id))).max();
        let evicted = longest.and_then(|(_, id)| open.remove(&id));
        evicted.inspect(|connection| connection.abort.abort()).is_some()
    }

    fn add(&self, id: u64, connection: &Arc<OpenConnection>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(id, Arc::clone(connection));
    }

    fn remove(&self, id: u64) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

async fn accept(
    socket: TcpListener,
    handler: Arc<dyn Handler>,
    certificate: Option<Certificate>,
    room: Arc<OpenConnections>,
    mut stopped: oneshot::Receiver<()>,
) {
    let (ended, _) = tokio::sync::watch::channel(false);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) if room.make_room() => {
                    let (handler, certificate) = (Arc::clone(&handler), certificate.clone());
                    start(&mut tasks, stream, handler, certificate, &room, ended.subscribe());
                }
                Ok((stream, _)) => drop(stream),
                Err(_) => tokio::time::sleep(REFUSED).await,
            },
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
    drop(socket);
    let _ = ended.send(true);
    while tasks.join_next().await.is_some() {}
}

fn start(
    tasks: &mut JoinSet<()>,
    stream: TcpStream,
    handler: Arc<dyn Handler>,
    certificate: Option<Certificate>,
    room: &Arc<OpenConnections>,
    ended: tokio::sync::watch::Receiver<bool>,
) {
    let id = room.next.fetch_add(1, Ordering::Relaxed);
    let (tell, told) = oneshot::channel::<Arc<OpenConnection>>();
    let of_task = Arc::clone(room);
    let abort = tasks.spawn(async move {
        let _leaves = Leaves(&of_task, id);
        let Ok(connection) = told.await else { return };
        let _ = stream.set_nodelay(true);
        let limits = of_task.limits;
        let Some(certificate) = certificate else {
            return speak(stream, false, handler, Receipt(connection, Arc::clone(&of_task)), ended).await;
        };
        let handshake = tokio::time::timeout(limits.header_time, certificate.acceptor().accept(stream));
        if let Ok(Ok(stream)) = handshake.await {
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            speak(stream, is_h2, handler, Receipt(connection, Arc::clone(&of_task)), ended).await;
        }
    });
    let (busy, whole) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (moved, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let connection = Arc::new(OpenConnection { began: Instant::now(), busy, whole, moved, answered, abort });
    room.add(id, &connection);
    let _ = tell.send(connection);
}

/// Takes a connection out of the list when its task ends, however that is.
struct Leaves<'a>(&'a OpenConnections, u64);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.remove(self.1);
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    is_h2: bool,
    handler: Arc<dyn Handler>,
    receipt: Receipt,
    mut ended: tokio::sync::watch::Receiver<bool>,
) {
    let (connection, limits) = (&receipt.0, receipt.1.limits);
    let stream = Framed::new(stream, is_h2);
    let noticed = stream.noticed();
    let service = service_fn(|mut request: EndpointRequest| {
        request.extensions_mut().insert(receipt.clone());
        let (handler, busy, noticed) = (Arc::clone(&handler), Busy::new(connection), Arc::clone(&noticed));
        async move {
            let mut answer = match noticed.is_ambiguous() {
                true => BodyRefusal::TwoLengths.answer(),
                false => handler.handle(request).await,
            };
            if noticed.is_last() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            drop(busy);
            Ok::<EndpointReply, std::convert::Infallible>(answer)
        }
    });
    let silent = pin!(until_silent(connection, &limits));
    let stopped = pin!(async move { ended.wait_for(|ended| *ended).await.map(drop) });
    // A connection that breaks is the other side's business.
    if is_h2 {
        let mut server = http2::Builder::new(TokioExecutor::new());
        server.timer(TokioTimer::new()).max_concurrent_streams(limits.streams_max);
        server.max_header_list_size(u32::try_from(limits.headers_len_max).unwrap_or(u32::MAX));
        server.initial_stream_window_size(WINDOW_LEN).initial_connection_window_size(WINDOW_LEN);
        server.keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_WAIT);
        let mut talk = pin!(server.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = talk.as_mut() => {}
            () = silent => {}
            _ = stopped => { talk.as_mut().graceful_shutdown(); let _ = talk.await; }
        }
    } else {
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(limits.header_time.max(limits.idle_time));
        server.max_buf_size(limits.buffer_len()).half_close(false);
        let mut talk = pin!(server.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = talk.as_mut() => {}
            () = silent => {}
            _ = stopped => { talk.as_mut().graceful_shutdown(); let _ = talk.await; }
        }
    }
}

/// Ends when the connection has been silent for too long.
async fn until_silent(connection: &OpenConnection, limits: &EndpointLimits) {
    loop {
        let patience = connection.patience(limits);
        let left = connection.silent().map_or(patience, |silent| patience.saturating_sub(silent));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}
