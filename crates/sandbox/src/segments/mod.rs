//! Heap's Segment Sync: the webhook by which a segment leaves Heap.
//!
//! Source: Heap's OpenAPI of the webhook, its reference receiver, and its guide "Creating a new Heap
//! integration". Since the last call, who entered and who left; in pages, each signed; a page that is not
//! answered with 200 comes again. Heap calls every four hours; here the admin API says when.
//!
//! No document settles these, so each is a setting of the webhook (see [`webhook::Webhook`]): the length
//! and the order of pages, whether both lists stand in one page, milliseconds or seconds, how often and
//! with which timestamp a page comes again, and whether a later sync delivers an abandoned page. The
//! first sync names every member. Nothing is sent for a segment in which nothing changed.
//!
//! # Expected members
//! A segment has three lists that differ: its members, the members at the last sync, and the *delivered* members,
//! according to the pages that the receiver acknowledged, in that order. A correct receiver holds the delivered
//! members. Another sandbox starts without any of them.

mod admin;
mod deliver;
mod jobs;
mod members;
mod pages;
mod sign;
mod tally;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use admin::routes;
use members::Members;
use tally::Tally;
use webhook::Webhook;

/// Everything that this part holds.
#[derive(Debug, Default)]
pub(super) struct Segments {
    webhook: Option<Arc<Webhook>>,
    segments: BTreeMap<i64, Segment>,
    tally: Tally,
    /// Syncs run one after another: Heap's are hours apart.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Syncs that run or wait for their turn.
    running: u64,
    /// Deliveries so far; part of the seed of the next one.
    runs: u64,
}

#[derive(Debug, Default)]
struct Segment {
    name: String,
    members: Members,
    /// Pages that an earlier sync has delivered and that a later one repeats.
    stale: Vec<Arc<pages::Page>>,
}
