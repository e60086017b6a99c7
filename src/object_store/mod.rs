//! A bucket's client: S3, Google Cloud Storage or Azure Blob Storage, or a web server; for whoever blocks.
//!
//! Requests run on a thread of their own, so that callers on any thread can wait for them. What is stored, and
//! what an error means, is not known here; errors are words without the query of any address, which may hold a
//! signature.

mod address;
mod client;
mod error;
mod exact_keys;
mod location;
mod public;
mod ranges;
mod thread;
mod web;

pub use address::{is_web, settings, split};
pub use client::BucketClient;
pub use error::io_error;
pub use exact_keys::{Entry, Listing, Span};
pub use location::Location;
pub use ranges::{CachedBlocks, RangeReader, ReadFailure, RemoteObject};
