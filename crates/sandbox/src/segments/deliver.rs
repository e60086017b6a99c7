//! Webhook sender: sends each page until it gets 200 or is given up.
//!
//! Heap's guide: 200 is final; every other response (403, 429, other 4xx, 5xx) is retried. The number of
//! attempts and the waits are not documented.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Serialize;

use super::counters::DeliveryCounters;
use super::pages::{SyncPage, pages};
use super::schedule::{Delivery, DeliveryKind, schedule};
use super::sign::heap_hash;
use super::webhook::{RetryTimestamp, WebhookSettings};
use crate::rng::Rng;
use crate::{SandboxHandle, clock};

/// Age of the timestamps of [`DeliveryKind::Replay`].
const REPLAY_AGE: Duration = Duration::from_secs(3600);

/// Result of a sync.
#[derive(Debug, Serialize)]
pub(super) struct SyncSummary {
    /// The `sync_task_id` of each segment that had changes.
    tasks: Vec<SyncTask>,
    #[serde(flatten)]
    counters: DeliveryCounters,
}

#[derive(Debug, Serialize)]
struct SyncTask {
    segment: i64,
    sync_task_id: String,
    pages: usize,
}

/// Why a sync cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncError {
    NoWebhook,
    NoSegment(i64),
}

/// What to deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncRequest {
    /// The changes of one segment, or of all.
    Sync(Option<i64>),
    /// The event that empties one segment at the receiver.
    Drain(i64),
}

/// Waits for earlier syncs, then delivers.
pub(super) async fn run_sync(shared: SandboxHandle, request: SyncRequest) -> Result<SyncSummary, SyncError> {
    shared.lock().segments.running += 1;
    let sync_lock = Arc::clone(&shared.lock().segments.sync_lock);
    let sync_lock = sync_lock.lock_owned().await;
    let done = match plan(&shared, request) {
        Ok(plan) => Ok(deliver(&shared, plan).await),
        Err(error) => Err(error),
    };
    shared.lock().segments.running -= 1;
    drop(sync_lock);
    done
}

struct SyncPlan {
    webhook: Arc<WebhookSettings>,
    tasks: Vec<SyncTask>,
    pages: Vec<Arc<SyncPage>>,
    deliveries: Vec<Delivery>,
}

/// Takes the delta and schedules its deliveries. The next sync starts from here.
fn plan(shared: &SandboxHandle, request: SyncRequest) -> Result<SyncPlan, SyncError> {
    let mut state = shared.lock();
    let segments = &mut state.segments;
    let webhook = Arc::clone(segments.webhook.as_ref().ok_or(SyncError::NoWebhook)?);
    segments.sync_count += 1;
    let mut rng = Rng::of(webhook.seed, segments.sync_count);
    let segment_id = match request {
        SyncRequest::Sync(segment_id) => segment_id,
        SyncRequest::Drain(id) => Some(id),
    };
    if let Some(id) = segment_id.filter(|id| !segments.segments.contains_key(id)) {
        return Err(SyncError::NoSegment(id));
    }
    let (mut tasks, mut all_pages, mut late) = (Vec::new(), Vec::new(), Vec::new());
    for (id, segment) in segments.segments.iter_mut().filter(|(id, _)| segment_id.is_none_or(|w| w == **id)) {
        if let SyncRequest::Drain(_) = request {
            segment.members.begin_drain();
            all_pages.push(Arc::new(SyncPage::drain(*id, &segment.name)));
            continue;
        }
        let delta = segment.members.sync(webhook.basis);
        let task = uuid::Uuid::new_v4().to_string();
        let pages = pages(*id, &segment.name, &task, &delta, &webhook).into_iter().map(Arc::new);
        let pages: Vec<_> = pages.collect();
        if !pages.is_empty() {
            tasks.push(SyncTask { segment: *id, sync_task_id: task, pages: pages.len() });
        }
        late.append(&mut segment.stale);
        let repeated = pages.iter().filter(|_| rng.chance(webhook.late_duplicates));
        segment.stale.extend(repeated.cloned());
        all_pages.extend(pages);
    }
    let deliveries = schedule(&all_pages, late, &webhook, &mut rng);
    Ok(SyncPlan { webhook, tasks, pages: all_pages, deliveries })
}

async fn deliver(shared: &SandboxHandle, plan: SyncPlan) -> SyncSummary {
    let SyncPlan { webhook, tasks, pages, deliveries } = plan;
    let sender = WebhookSender { shared, webhook: &webhook, counters: Mutex::default() };
    sender.count(|counters| {
        counters.pages += pages.len() as u64;
        counters.add += pages.iter().map(|page| page.add.len() as u64).sum::<u64>();
        counters.remove += pages.iter().map(|page| page.remove.len() as u64).sum::<u64>();
        counters.lost += pages.iter().filter(|page| webhook.lose.contains(&page.number())).count() as u64;
    });
    drop(pages);
    let sends = deliveries.into_iter().map(|delivery| sender.send(delivery));
    futures_util::stream::iter(sends).buffer_unordered(webhook.at_once.max(1)).collect::<()>().await;
    let counters = sender.counters.into_inner().unwrap_or_else(PoisonError::into_inner);
    SyncSummary { tasks, counters }
}

struct WebhookSender<'a> {
    shared: &'a SandboxHandle,
    webhook: &'a WebhookSettings,
    counters: Mutex<DeliveryCounters>,
}

impl WebhookSender<'_> {
    /// Counts in this sync and in the totals.
    fn count(&self, count: impl Fn(&mut DeliveryCounters)) {
        count(&mut self.counters.lock().unwrap_or_else(PoisonError::into_inner));
        count(&mut self.shared.lock().segments.counters);
    }

    async fn send(&self, delivery: Delivery) {
        match delivery.kind {
            DeliveryKind::Regular => self.send_until_acknowledged(&delivery.page).await,
            DeliveryKind::Duplicate | DeliveryKind::LateDuplicate => {
                self.count(|counters| counters.duplicates += 1);
                let status = self.post(&delivery.page.body(self.webhook), self.now()).await;
                if delivery.kind == DeliveryKind::Duplicate && status == Some(200) {
                    self.acknowledge(&delivery.page);
                }
            }
            DeliveryKind::Replay => {
                self.count(|counters| counters.old += 1);
                let sent_at = self.now().saturating_sub(REPLAY_AGE);
                if self.post(&delivery.page.body(self.webhook), sent_at).await == Some(200) {
                    self.acknowledge(&delivery.page);
                }
            }
            DeliveryKind::Forged(defect) => {
                let status = self.forge(&delivery.page.forged().body(self.webhook), defect).await;
                let accepted = u64::from(status.is_some_and(|status| (200..300).contains(&status)));
                self.count(|counters| {
                    counters.forged += 1;
                    counters.forged_accepted += accepted;
                });
            }
        }
    }

    async fn send_until_acknowledged(&self, page: &SyncPage) {
        let (body, first) = (page.body(self.webhook), self.now());
        for attempt in 1..=self.webhook.attempts.max(1) {
            if attempt > 1 {
                tokio::time::sleep(self.webhook.wait(attempt - 1)).await;
                self.count(|counters| counters.retried += 1);
            }
            let sent_at = match self.webhook.retry_timestamps {
                RetryTimestamp::Fresh => self.now(),
                RetryTimestamp::First => first,
            };
            if self.post(&body, sent_at).await == Some(200) {
                self.count(|counters| counters.acknowledged += 1);
                self.acknowledge(page);
                return;
            }
        }
        self.count(|counters| counters.given_up += 1);
    }

    fn now(&self) -> Duration {
        self.webhook.timestamp(clock::now())
    }

    /// Records that the receiver acknowledged a page.
    fn acknowledge(&self, page: &SyncPage) {
        if let Some(segment) = self.shared.lock().segments.segments.get_mut(&page.segment) {
            if page.is_drain() {
                segment.members.drain_acknowledged();
            } else {
                segment.members.deliver(&page.add, &page.remove);
            }
        }
    }

    async fn post(&self, body: &[u8], sent_at: Duration) -> Option<u16> {
        let timestamp = self.webhook.timestamps.write(sent_at);
        self.post_with(Some(heap_hash(&self.webhook.secret, &timestamp, body)), body.to_vec()).await
    }

    /// Sends a delivery that the receiver must reject: signed with another secret, over another body, with half
    /// a signature, or unsigned.
    async fn forge(&self, body: &[u8], defect: u64) -> Option<u16> {
        let timestamp = self.webhook.timestamps.write(self.now());
        let signature = match defect {
            0 => Some(heap_hash("another secret", &timestamp, body)),
            1 => Some(heap_hash(&self.webhook.secret, &timestamp, b"{}")),
            2 => Some(format!("ts:{timestamp}")),
            _ => None,
        };
        self.post_with(signature, body.to_vec()).await
    }

    async fn post_with(&self, signature: Option<String>, body: Vec<u8>) -> Option<u16> {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(signature.map(|signature| ("heap-hash", signature)));
        let timeout = Duration::from_millis(self.webhook.timeout);
        let outcome = self.shared.client.post(&self.webhook.url, &headers, body, timeout).await;
        self.count(|counters| {
            counters.sent += 1;
            counters.responses.count(&outcome);
        });
        outcome.ok()
    }
}
