//! Client for Braze: cohort import, user attributes, triggers, and the REST endpoints that read ([`rest`]).
//!
//! Source: Braze, "Partner cohort import": `POST {base}/partners/{partner}/cohorts` and `…/cohorts/users`, both keys in
//! the body; no endpoint reads a cohort. "Track users": `POST {base}/users/track`, the key in `Authorization`.
//! `apply` decides how to react to a response.

mod client;
mod destinations;
mod keys;
mod reply;
pub mod rest;
mod triggers;
mod wire;

pub use client::{BrazeClient, RequestLimits};
pub use keys::{BrazeKeyKind, ImportKeys, WorkspaceKeySet, key_fingerprint};
pub use reply::BrazeReply;
