//! HTTP doors → inbox. What is received is authenticated, put where it lasts, and only then said to be safe.
//!
//! # Guarantees
//! A 200 means that the delivery is on disk. Whoever is not authenticated is told so before anything that they
//! sent is parsed. Memory, connections and time are bounded, whatever is sent; when there is no room, the
//! answer is 503 and when to try again.
//!
//! # Caveats
//! Nothing here knows what a delivery means, and nothing here can reach a run: it rings a bell.

mod accept;
mod body;
mod currents;
mod door;
mod framing;
mod heap;
mod json;
mod tls;

pub use accept::{EndpointReply, Handler, ListenError, Listener, Listening};
pub use body::{BodyMemory, BodyRefusal};
pub use currents::CurrentsEndpoint;
pub use door::{Endpoint, EndpointGuard, Endpoints, ReplyCounts};
pub use heap::HeapEndpoint;
pub use tls::{Certificate, TlsError};

/// A request as a handler gets it.
pub type EndpointRequest = hyper::Request<hyper::body::Incoming>;
