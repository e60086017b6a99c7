//! Connections: accepted, counted, timed, and closed when they are idle. No library's accept loop has all of these
//! limits.
//!
//! With too many connections, the one that has owed a request or the rest of one for the longest time is evicted. So idle
//! connections cannot lock out others.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use super::EndpointRequest;
use super::framing::FramedStream;
use super::reply::{EndpointReply, RequestError};
use super::tls::ServerCertificate;
use crate::config::EndpointLimits;
use crate::model::Clock;

/// The pause after a failed accept: the process may be out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The interval of pings to an HTTP/2 peer, and the time for its reply.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for the rest of a request when memory is full.
const SLOW_AFTER: Duration = Duration::from_secs(2);
/// The flow-control window of HTTP/2: bytes that a peer may send before they are read.
const WINDOW_LEN: u32 = 64 << 10;

/// Handles requests.
pub trait RequestHandler: Send + Sync + 'static {
    /// Returns the response to a request.
    fn handle(&self, request: EndpointRequest) -> Pin<Box<dyn Future<Output = EndpointReply> + Send + '_>>;
}

/// An address that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// The error of the operating system.
    pub source: std::io::Error,
}

/// A bound address without a server.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// A running server. Dropping it stops it at once.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    done: oneshot::Receiver<()>,
}

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// When the operating system rejects it.
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address, source };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    /// The bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the server.
    #[must_use]
    pub fn serve(
        self,
        handler: Arc<dyn RequestHandler>,
        limits: EndpointLimits,
        certificate: Option<ServerCertificate>,
        clock: Clock,
    ) -> Listening {
        let (stop, stopped) = oneshot::channel();
        let (ended, done) = oneshot::channel();
        let connections = Arc::new(OpenConnections::new(limits, clock));
        let address = self.address;
        #[allow(
            clippy::disallowed_methods,
            reason = "the accept loop ends with its handle, which waits for it"
        )]
        tokio::spawn(async move {
            accept(self.socket, handler, certificate, connections, stopped).await;
            let _ = ended.send(());
        });
        Listening { address, stop: Some(stop), done }
    }
}

impl Listening {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting connections, and waits up to `grace` for running requests.
    pub async fn stop(mut self, grace: Duration) {
        drop(self.stop.take());
        let _ = tokio::time::timeout(grace, &mut self.done).await;
    }
}

/// All open connections.
struct OpenConnections {
    limits: EndpointLimits,
    clock: Clock,
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<OpenConnection>>>,
}

/// One connection.
struct OpenConnection {
    clock: Clock,
    began: Instant,
    /// Requests that have begun and have no response yet.
    busy: AtomicUsize,
    /// Those of them that are complete, so that the response is due.
    complete: AtomicUsize,
    /// When a request last began or ended, in milliseconds since `began`.
    active: AtomicU64,
    /// When the last response was sent, in milliseconds since `began`; 0: never.
    answered: AtomicU64,
    abort: AbortHandle,
}

impl OpenConnection {
    fn age(&self) -> Duration {
        self.clock.monotonic().saturating_duration_since(self.began)
    }

    /// How long it has been idle. None: a request is running.
    fn idle(&self) -> Option<Duration> {
        let answered = Duration::from_millis(self.answered.load(Ordering::Relaxed));
        let idle = self.age().saturating_sub(answered);
        (self.busy.load(Ordering::Relaxed) == 0).then_some(idle)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// How long it has owed a request or the rest of one. None: the response is due.
    fn owed(&self) -> Option<Duration> {
        let active = Duration::from_millis(self.active.load(Ordering::Relaxed));
        let owed = self.age().saturating_sub(active);
        (self.complete.load(Ordering::Relaxed) == 0).then_some(owed)
    }

    /// The limit of its idle time.
    fn idle_max(&self, limits: &EndpointLimits) -> Duration {
        if self.answered.load(Ordering::Relaxed) == 0 { limits.header_time } else { limits.idle_time }
    }
}

/// Marks a running request until it is dropped.
struct RunningRequest(Arc<OpenConnection>);

impl RunningRequest {
    fn new(connection: &Arc<OpenConnection>) -> Self {
        connection.busy.fetch_add(1, Ordering::Relaxed);
        connection.active.store(connection.millis(), Ordering::Relaxed);
        Self(Arc::clone(connection))
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        let millis = self.0.millis();
        self.0.answered.store(millis, Ordering::Relaxed);
        self.0.active.store(millis, Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connects a request with its connection, to report when the request is complete.
#[derive(Clone)]
pub(super) struct RequestReceipt(Arc<OpenConnection>, Arc<OpenConnections>);

/// Marks a complete request until it is dropped.
pub(super) struct RequestInFlight(Arc<OpenConnection>);

impl RequestReceipt {
    /// Frees memory: evicts the other connection that has owed the rest of a request for the longest time, if that is at
    /// least [`SLOW_AFTER`]. Returns whether there was one.
    pub(super) fn evict_other(&self) -> bool {
        let holds =
            |other: &OpenConnection| other.busy.load(Ordering::Relaxed) > 0 && !std::ptr::eq(other, &*self.0);
        self.1.evict(|other| other.owed().filter(|owed| *owed >= SLOW_AFTER && holds(other)))
    }

    /// The request is complete: the connection is not evicted.
    pub(super) fn complete(&self) -> RequestInFlight {
        self.0.complete.fetch_add(1, Ordering::Relaxed);
        RequestInFlight(Arc::clone(&self.0))
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        self.0.complete.fetch_sub(1, Ordering::Relaxed);
    }
}

impl OpenConnections {
    fn new(limits: EndpointLimits, clock: Clock) -> Self {
        Self { limits, clock, next: AtomicU64::new(0), open: Mutex::default() }
    }

    /// Whether one more connection is allowed. It evicts another one if necessary; if all have a response due, none is.
    fn admit(&self) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() < self.limits.connections_max {
            return true;
        }
        drop(open);
        self.evict(OpenConnection::owed)
    }

    /// Evicts the connection that has owed for the longest time. Returns whether there is one.
    fn evict(&self, owed: impl Fn(&OpenConnection) -> Option<Duration>) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = open.iter().filter_map(|(id, connection)| Some((owed(connection)?, *id))).max();
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
    handler: Arc<dyn RequestHandler>,
    certificate: Option<ServerCertificate>,
    connections: Arc<OpenConnections>,
    mut stopped: oneshot::Receiver<()>,
) {
    let (ended, _) = tokio::sync::watch::channel(false);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) if connections.admit() => {
                    let (handler, certificate) = (Arc::clone(&handler), certificate.clone());
                    start(&mut tasks, stream, handler, certificate, &connections, ended.subscribe());
                }
                Ok((stream, _)) => drop(stream),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
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
    handler: Arc<dyn RequestHandler>,
    certificate: Option<ServerCertificate>,
    connections: &Arc<OpenConnections>,
    ended: tokio::sync::watch::Receiver<bool>,
) {
    let id = connections.next.fetch_add(1, Ordering::Relaxed);
    let (sender, receiver) = oneshot::channel::<Arc<OpenConnection>>();
    let of_task = Arc::clone(connections);
    let abort = tasks.spawn(async move {
        let _removal = ConnectionRemoval(&of_task, id);
        let Ok(connection) = receiver.await else { return };
        let _ = stream.set_nodelay(true);
        let limits = of_task.limits;
        let Some(certificate) = certificate else {
            return serve_connection(
                stream,
                false,
                handler,
                RequestReceipt(connection, Arc::clone(&of_task)),
                ended,
            )
            .await;
        };
        let handshake = tokio::time::timeout(limits.header_time, certificate.acceptor().accept(stream));
        if let Ok(Ok(stream)) = handshake.await {
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            serve_connection(stream, is_h2, handler, RequestReceipt(connection, Arc::clone(&of_task)), ended)
                .await;
        }
    });
    let (busy, complete) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (active, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let clock = connections.clock;
    let began = clock.monotonic();
    let connection = Arc::new(OpenConnection { clock, began, busy, complete, active, answered, abort });
    connections.add(id, &connection);
    let _ = sender.send(connection);
}

/// Removes a connection from the list when its task ends.
struct ConnectionRemoval<'a>(&'a OpenConnections, u64);

impl Drop for ConnectionRemoval<'_> {
    fn drop(&mut self) {
        self.0.remove(self.1);
    }
}

async fn serve_connection<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    is_h2: bool,
    handler: Arc<dyn RequestHandler>,
    receipt: RequestReceipt,
    mut ended: tokio::sync::watch::Receiver<bool>,
) {
    let (connection, limits) = (&receipt.0, receipt.1.limits);
    let stream = FramedStream::new(stream, is_h2);
    let findings = stream.findings();
    let service = service_fn(|mut request: EndpointRequest| {
        request.extensions_mut().insert(receipt.clone());
        let (handler, busy, findings) =
            (Arc::clone(&handler), RunningRequest::new(connection), Arc::clone(&findings));
        async move {
            let mut response = match findings.is_ambiguous() {
                true => RequestError::TwoLengths.response(),
                false => handler.handle(request).await,
            };
            if findings.is_last() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            drop(busy);
            Ok::<EndpointReply, std::convert::Infallible>(response)
        }
    });
    let idle = pin!(until_idle(connection, &limits));
    let stopped = pin!(async move { ended.wait_for(|ended| *ended).await.map(drop) });
    // An error of the connection needs no handling: the peer sees it too.
    if is_h2 {
        let mut server = http2::Builder::new(TokioExecutor::new());
        server.timer(TokioTimer::new()).max_concurrent_streams(limits.streams_max);
        server.max_header_list_size(u32::try_from(limits.headers_len_max).unwrap_or(u32::MAX));
        server.initial_stream_window_size(WINDOW_LEN).initial_connection_window_size(WINDOW_LEN);
        server.keep_alive_interval(PING_INTERVAL).keep_alive_timeout(PING_TIMEOUT);
        let mut serving = pin!(server.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = serving.as_mut() => {}
            () = idle => {}
            _ = stopped => { serving.as_mut().graceful_shutdown(); let _ = serving.await; }
        }
    } else {
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(limits.header_time.max(limits.idle_time));
        server.max_buf_size(limits.buffer_len()).half_close(false);
        let mut serving = pin!(server.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = serving.as_mut() => {}
            () = idle => {}
            _ = stopped => { serving.as_mut().graceful_shutdown(); let _ = serving.await; }
        }
    }
}

/// Ends when the connection has been idle for too long.
async fn until_idle(connection: &OpenConnection, limits: &EndpointLimits) {
    loop {
        let limit = connection.idle_max(limits);
        let left = connection.idle().map_or(limit, |idle| limit.saturating_sub(idle));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}
