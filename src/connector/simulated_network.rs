//! Network of the simulation: answers the requests of the clients that a thread creates.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use reqwest::header::HeaderMap;

/// Answers requests instead of a server.
pub(crate) trait SimulatedNetwork: Send + Sync {
    /// Sends a request and waits for its response.
    fn exchange(&self, request: reqwest::Request) -> BoxFuture<'_, Result<SimulatedReply, SimulatedFailure>>;
}

/// A response: status, headers and body.
pub(crate) type SimulatedReply = (u16, HeaderMap, Vec<u8>);

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SimulatedFailure {
    /// The server was not reached.
    NotReached,
    /// The request was sent, and the connection ended.
    NoAnswer,
}

thread_local! {
    static OF_THREAD: RefCell<Option<Arc<dyn SimulatedNetwork>>> = const { RefCell::new(None) };
}

/// The network of the clients that a thread creates. `None`: the real one.
#[derive(Clone)]
pub(super) struct ThreadNetwork(pub(super) Option<Arc<dyn SimulatedNetwork>>);

impl fmt::Debug for ThreadNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ThreadNetwork")
    }
}

impl ThreadNetwork {
    pub(super) fn current() -> Self {
        Self(OF_THREAD.with(|network| network.borrow().clone()))
    }

    /// A client that builds requests and sends none. `None`: this thread uses the real network.
    #[allow(clippy::disallowed_methods, reason = "it sends nothing")]
    pub(super) fn unused_client() -> Option<reqwest::Client> {
        static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
        let client = || {
            let _ = rustls::crypto::ring::default_provider().install_default();
            reqwest::Client::new()
        };
        Self::current().0.map(|_| CLIENT.get_or_init(client).clone())
    }
}

/// Makes the clients that this thread creates use a network.
pub(crate) fn simulate(network: Arc<dyn SimulatedNetwork>) {
    OF_THREAD.with(|of_thread| *of_thread.borrow_mut() = Some(network));
}
