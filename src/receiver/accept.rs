//! Connections: accepted, counted, timed, and closed when they are silent. Our own loop, since no library's has
//! all of these bounds.
//!
//! When there are too many, the one that has been silent for longest gives way: whoever only holds connections
//! open cannot keep others out.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use super::Request;
use super::tls::Certificate;
use crate::config::Limits;

/// An answer to a request.
pub type Answer = hyper::Response<Full<Bytes>>;

/// How long others are not accepted after the system has refused one: it may be out of file descriptors.
const REFUSED: Duration = Duration::from_millis(50);
/// How often an HTTP/2 peer is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WAIT: Duration = Duration::from_secs(10);
/// The smallest buffer that a connection can have.
const BUFFER_LEN_MIN: usize = 8 << 10;

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The answer to a request.
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>>;
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
        limits: Limits,
        certificate: Option<Certificate>,
    ) -> Listening {
        let (stop, stopped) = oneshot::channel();
        let (tell, done) = oneshot::channel();
        let room = Arc::new(Connections::new(limits));
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
struct Connections {
    limits: Limits,
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
}

/// One connection.
struct Connection {
    began: Instant,
    /// Requests that are being answered.
    busy: AtomicUsize,
    /// Milliseconds since it began when the last answer was given; 0: none was.
    answered: AtomicU64,
    abort: AbortHandle,
}

impl Connection {
    /// For how long it has been silent; none while a request is being answered.
    fn silent(&self) -> Option<Duration> {
        let answered = Duration::from_millis(self.answered.load(Ordering::Relaxed));
        let silent = self.began.elapsed().saturating_sub(answered);
        (self.busy.load(Ordering::Relaxed) == 0).then_some(silent)
    }

    /// How long it may be silent.
    fn patience(&self, limits: &Limits) -> Duration {
        if self.answered.load(Ordering::Relaxed) == 0 { limits.header_time } else { limits.idle_time }
    }
}

/// A request of a connection is being answered for as long as this lives.
struct Busy(Arc<Connection>);

impl Busy {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connection))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let millis = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.answered.store(millis.max(1), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connections {
    fn new(limits: Limits) -> Self {
        Self { limits, next: AtomicU64::new(0), open: Mutex::default() }
    }

    /// Makes room for one more. `false`: there is none, since everybody is being answered.
    fn make_room(&self) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() < self.limits.connections_max {
            return true;
        }
        let longest = open.iter().filter_map(|(id, one)| Some((one.silent()?, *id))).max();
        let evicted = longest.and_then(|(_, id)| open.remove(&id));
        evicted.inspect(|connection| connection.abort.abort()).is_some()
    }

    fn add(&self, id: u64, connection: &Arc<Connection>) {
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
    room: Arc<Connections>,
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
    room: &Arc<Connections>,
    ended: tokio::sync::watch::Receiver<bool>,
) {
    let id = room.next.fetch_add(1, Ordering::Relaxed);
    let (tell, told) = oneshot::channel::<Arc<Connection>>();
    let of_task = Arc::clone(room);
    let abort = tasks.spawn(async move {
        let _leaves = Leaves(&of_task, id);
        let Ok(connection) = told.await else { return };
        let _ = stream.set_nodelay(true);
        let limits = of_task.limits;
        let Some(certificate) = certificate else {
            return speak(stream, false, handler, &connection, limits, ended).await;
        };
        let handshake = tokio::time::timeout(limits.header_time, certificate.acceptor().accept(stream));
        if let Ok(Ok(stream)) = handshake.await {
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            speak(stream, is_h2, handler, &connection, limits, ended).await;
        }
    });
    let (busy, answered) = (AtomicUsize::new(0), AtomicU64::new(0));
    let connection = Arc::new(Connection { began: Instant::now(), busy, answered, abort });
    room.add(id, &connection);
    let _ = tell.send(connection);
}

/// Takes a connection out of the list when its task ends, however that is.
struct Leaves<'a>(&'a Connections, u64);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.remove(self.1);
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    is_h2: bool,
    handler: Arc<dyn Handler>,
    connection: &Arc<Connection>,
    limits: Limits,
    mut ended: tokio::sync::watch::Receiver<bool>,
) {
    let service = service_fn(|request: Request| {
        let (handler, busy) = (Arc::clone(&handler), Busy::new(connection));
        async move {
            let answer = handler.handle(request).await;
            drop(busy);
            Ok::<Answer, std::convert::Infallible>(answer)
        }
    });
    let silent = pin!(until_silent(connection, &limits));
    let stopped = pin!(async move { ended.wait_for(|ended| *ended).await.map(drop) });
    // A connection that breaks is the other side's business.
    if is_h2 {
        let mut server = http2::Builder::new(TokioExecutor::new());
        server.timer(TokioTimer::new()).max_concurrent_streams(limits.streams_max);
        server.max_header_list_size(u32::try_from(limits.headers_len_max).unwrap_or(u32::MAX));
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
        server.max_buf_size(limits.headers_len_max.max(BUFFER_LEN_MIN)).half_close(false);
        let mut talk = pin!(server.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = talk.as_mut() => {}
            () = silent => {}
            _ = stopped => { talk.as_mut().graceful_shutdown(); let _ = talk.await; }
        }
    }
}

/// Ends when the connection has been silent for too long.
async fn until_silent(connection: &Connection, limits: &Limits) {
    loop {
        let patience = connection.patience(limits);
        let left = connection.silent().map_or(patience, |silent| patience.saturating_sub(silent));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}
