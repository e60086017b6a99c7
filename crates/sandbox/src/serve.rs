//! Listening: our own accept loop, so that a fault can close a connection without an answer.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{SandboxError, Shared, admin, braze, currents, heap, segments};

/// Marks a response that must not be sent: the connection closes instead.
#[derive(Clone, Copy)]
pub(super) struct HangUp;

impl HangUp {
    pub(super) fn response() -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(Self);
        response
    }
}

/// A status by its number.
pub(super) fn status_of(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Sets a header, unless its name or value cannot be one.
pub(super) fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// Each vendor's paths are checked by that vendor; the admin API takes bodies of any size.
fn routes(shared: Shared) -> Router {
    admin::routes()
        .merge(braze::routes())
        .merge(heap::routes())
        .merge(segments::routes())
        .merge(currents::routes())
        .fallback(async || (StatusCode::NOT_FOUND, r#"{"message":"Not Found"}"#))
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

/// Listens until the sender is dropped.
pub(super) async fn listen(shared: Shared) -> Result<(SocketAddr, oneshot::Sender<()>), SandboxError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, shared.options.port));
    let failed = |source| SandboxError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let (stop, stopped) = oneshot::channel();
    let router = routes(shared);
    #[allow(
        clippy::disallowed_methods,
        reason = "a server's accept loop is awaited by nobody; it ends with its handle"
    )]
    tokio::spawn(async move {
        tokio::select! {
            () = accept(listener, router) => {}
            _ = stopped => {}
        }
    });
    Ok((address, stop))
}

async fn accept(listener: TcpListener, router: Router) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve(stream, router.clone()))),
                // No file descriptor, say: the next one may do.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn serve(stream: TcpStream, router: Router) {
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = service.call(request);
        async move {
            let response = answer.await.unwrap_or_else(|never| match never {});
            match response.extensions().get::<HangUp>() {
                Some(HangUp) => Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted)),
                None => Ok(response),
            }
        }
    });
    // A connection that breaks is the other side's business.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
