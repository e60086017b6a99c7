//! Simulator of Heap's Segment Sync: the webhook that delivers the changes of a segment.
//!
//! Source: Heap's OpenAPI of the webhook, its reference receiver, and its guide "Creating a new Heap
//! integration". Each sync delivers the users who entered and left since the last one, in signed pages. A page
//! without a 200 is sent again. Heap syncs every four hours; here the admin API starts a sync.
//!
//! No document settles the following, so each is a setting of the webhook (see [`webhook::WebhookSettings`]):
//! the length and the order of pages, whether both lists are in one page, milliseconds or seconds, how often
//! and with which timestamp a page is sent again, and whether a later sync delivers an abandoned page. The
//! first sync lists every member. A segment without changes sends nothing.
//!
//! # Expected members
//! A segment has three lists that differ: its members, the members at the last sync, and the *delivered*
//! members, according to the pages that the receiver acknowledged, in that order. A correct receiver has the
//! delivered members. A restarted sandbox has none of the lists.

mod admin;
mod counters;
mod deliver;
mod members;
mod pages;
mod schedule;
mod sign;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use admin::routes;
use counters::DeliveryCounters;
use members::Members;
use webhook::WebhookSettings;

/// State of Segment Sync.
#[derive(Debug, Default)]
pub(super) struct Segments {
    webhook: Option<Arc<WebhookSettings>>,
    segments: BTreeMap<i64, HeapSegment>,
    counters: DeliveryCounters,
    /// Serializes syncs, because Heap's are hours apart.
    sync_lock: Arc<tokio::sync::Mutex<()>>,
    /// Syncs that run or wait for the lock.
    running: u64,
    /// Syncs so far; part of the seed of the next one.
    sync_count: u64,
}

#[derive(Debug, Default)]
struct HeapSegment {
    name: String,
    members: Members,
    /// Delivered pages that a later sync repeats.
    stale: Vec<Arc<pages::SyncPage>>,
}
