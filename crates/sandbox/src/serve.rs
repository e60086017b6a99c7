//! HTTP server of the sandbox, with an accept loop of its own so that a fault can close a connection without a
//! response.

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

use super::{SandboxError, SandboxHandle, admin, braze, currents, heap, segments};

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

/// The status with this number; 500 for a number that is none.
pub(super) fn status_of(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Sets a header; ignores names and values that HTTP does not allow.
pub(super) fn set_header(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// Sets the headers of a fault. The value `-` removes a header.
pub(super) fn replace_headers(headers: &mut HeaderMap, replacements: &[(String, String)]) {
    for (name, value) in replacements {
        match value.as_str() {
            "-" => drop(headers.remove(name.as_str())),
            value => set_header(headers, name, value),
        }
    }
}

/// All routes. Each vendor checks its own bodies; the admin API accepts bodies of any size.
pub(super) fn routes(shared: SandboxHandle) -> Router {
    admin::routes()
        .merge(braze::routes())
        .merge(heap::routes())
        .merge(segments::routes())
        .merge(currents::routes())
        .fallback(async || (StatusCode::NOT_FOUND, r#"{"message":"Not Found"}"#))
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

/// Listens until the returned sender is dropped.
pub(super) async fn listen(shared: SandboxHandle) -> Result<(SocketAddr, oneshot::Sender<()>), SandboxError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, shared.options.port));
    let failed = |source| SandboxError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let (stop, stopped) = oneshot::channel();
    let router = routes(shared);
    #[allow(
        clippy::disallowed_methods,
        reason = "the accept loop ends with its handle and is never awaited"
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
                // Out of file descriptors, for example: the next attempt may succeed.
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
        let response = service.call(request);
        async move {
            let response = response.await.unwrap_or_else(|never| match never {});
            match response.extensions().get::<HangUp>() {
                Some(HangUp) => Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted)),
                None => Ok(response),
            }
        }
    });
    // Broken connections are normal: clients and faults close them.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
