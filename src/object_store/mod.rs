//! Blocking client for buckets (S3, Google Cloud Storage, Azure Blob Storage) and for files on web servers.
//!
//! Requests run on their own thread, so that callers on any thread can wait for them. Error texts omit the query of
//! addresses, which may contain a signature.

mod address;
mod client;
mod connected;
mod error;
mod exact_keys;
#[cfg_attr(not(feature = "cloud"), allow(dead_code, reason = "`vendors` reads keys"))]
mod location;
mod public;
mod ranges;
mod retried;
mod thread;
#[cfg_attr(not(feature = "cloud"), path = "no_vendors.rs")]
mod vendors;
mod web;

pub use address::{is_web, settings, split};
pub use client::BucketClient;
pub use error::io_error;
pub use exact_keys::{ByteSpan, ListedObject, ObjectListing};
pub use location::ObjectKey;
pub use ranges::{CachedBlocks, RangeReader, ReadFailure, RemoteObject};
