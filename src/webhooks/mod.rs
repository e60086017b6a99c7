//! HTTP server for webhooks: authenticates deliveries of Heap and Braze and stores them in inboxes.
//!
//! # Guarantees
//! A 200 means that the delivery is on disk. Authentication comes before parsing. Memory, connections and time are
//! bounded for any input. If memory or the inbox is full, the response is 503 with `Retry-After`.
//!
//! # Caveats
//! This module does not interpret deliveries and does not start runs. It notifies `watch` that a delivery arrived.

mod accept;
mod body;
mod currents;
mod endpoint;
mod framing;
mod heap;
mod json;
mod reply;
mod request_log;
mod tls;

pub use accept::{ListenError, Listener, Listening, RequestHandler};
pub use body::BodyMemory;
pub use currents::CurrentsEndpoint;
pub use endpoint::{Endpoint, EndpointGuard, Endpoints};
pub use heap::HeapEndpoint;
pub use reply::{EndpointReply, RequestError};
pub use request_log::{RejectedRequests, ReplyCounts};
pub use tls::{ServerCertificate, TlsError};

/// The target of this module's log lines. Any client can cause them, so their number is limited.
pub const LOG_TARGET: &str = module_path!();

/// A request, as a handler receives it.
pub type EndpointRequest = hyper::Request<hyper::body::Incoming>;
