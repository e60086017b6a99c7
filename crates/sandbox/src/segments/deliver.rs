//! Delivering: each page until it is answered with 200, or given up.
//!
//! By Heap's guide, 200 is done and anything else comes again: 403, 429, every other 4xx and 5xx. How often
//! and after which wait is not documented.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Serialize;

use super::jobs::{Job, Kind, jobs};
use super::pages::{Page, pages};
use super::sign::heap_hash;
use super::tally::Tally;
use super::webhook::{Retry, Webhook};
use crate::rng::Rng;
use crate::{Shared, clock};

/// How far the timestamps of [`Kind::Old`] lie back.
const OLD: Duration = Duration::from_secs(3600);

/// What came of a run.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// The `sync_task_id` of each segment that had something to tell.
    tasks: Vec<Task>,
    #[serde(flatten)]
    tally: Tally,
}

#[derive(Debug, Serialize)]
struct Task {
    segment: i64,
    sync_task_id: String,
    pages: usize,
}

/// Why nothing can be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NoWebhook,
    NoSegment,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// One segment's sync, or that of all of them.
    Sync(Option<i64>),
    /// One segment is emptied at the receiver.
    Drain(i64),
}

/// Waits for its turn, then delivers.
pub(super) async fn run(shared: Shared, order: Order) -> Result<Summary, Refusal> {
    shared.lock().segments.running += 1;
    let turn = Arc::clone(&shared.lock().segments.turn);
    let turn = turn.lock_owned().await;
    let done = match plan(&shared, order) {
        Ok(plan) => Ok(deliver(&shared, plan).await),
        Err(refusal) => Err(refusal),
    };
    shared.lock().segments.running -= 1;
    drop(turn);
    done
}

struct Plan {
    webhook: Arc<Webhook>,
    tasks: Vec<Task>,
    pages: Vec<Arc<Page>>,
    jobs: Vec<Job>,
}

/// Takes the delta; from here on the next sync counts from now.
fn plan(shared: &Shared, order: Order) -> Result<Plan, Refusal> {
    let mut inner = shared.lock();
    let segments = &mut inner.segments;
    let webhook = Arc::clone(segments.webhook.as_ref().ok_or(Refusal::NoWebhook)?);
    segments.runs += 1;
    let mut rng = Rng::of(webhook.seed, segments.runs);
    let wanted = match order {
        Order::Sync(wanted) => wanted,
        Order::Drain(id) => Some(id),
    };
    if wanted.is_some_and(|id| !segments.segments.contains_key(&id)) {
        return Err(Refusal::NoSegment);
    }
    let (mut tasks, mut all, mut late) = (Vec::new(), Vec::new(), Vec::new());
    for (id, segment) in segments.segments.iter_mut().filter(|(id, _)| wanted.is_none_or(|w| w == **id)) {
        if let Order::Drain(_) = order {
            segment.members.begin_drain();
            all.push(Arc::new(Page::drain(*id, &segment.name)));
            continue;
        }
        let delta = segment.members.sync(webhook.basis);
        let task = uuid::Uuid::new_v4().to_string();
        let pages = pages(*id, &segment.name, &task, &delta, &webhook).into_iter().map(Arc::new);
        let pages: Vec<_> = pages.collect();
        if !pages.is_empty() {
            tasks.push(Task { segment: *id, sync_task_id: task, pages: pages.len() });
        }
        late.append(&mut segment.stale);
        let repeated = pages.iter().filter(|_| rng.share(webhook.late_duplicates));
        segment.stale.extend(repeated.cloned());
        all.extend(pages);
    }
    let jobs = jobs(&all, late, &webhook, &mut rng);
    Ok(Plan { webhook, tasks, pages: all, jobs })
}

async fn deliver(shared: &Shared, plan: Plan) -> Summary {
    let Plan { webhook, tasks, pages, jobs } = plan;
    let run = Run { shared, webhook: &webhook, tally: Mutex::default() };
    run.count(|tally| {
        tally.pages += pages.len() as u64;
        tally.add += pages.iter().map(|page| page.add.len() as u64).sum::<u64>();
        tally.remove += pages.iter().map(|page| page.remove.len() as u64).sum::<u64>();
        tally.lost += pages.iter().filter(|page| webhook.lose.contains(&page.number())).count() as u64;
    });
    drop(pages);
    let sends = jobs.into_iter().map(|job| run.send(job));
    futures_util::stream::iter(sends).buffer_unordered(webhook.at_once.max(1)).collect::<()>().await;
    let tally = run.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    Summary { tasks, tally }
}

struct Run<'a> {
    shared: &'a Shared,
    webhook: &'a Webhook,
    tally: Mutex<Tally>,
}

impl Run<'_> {
    /// Counts in this run and in all of them.
    fn count(&self, count: impl Fn(&mut Tally)) {
        count(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
        count(&mut self.shared.lock().segments.tally);
    }

    async fn send(&self, job: Job) {
        match job.kind {
            Kind::Due => self.until_acknowledged(&job.page).await,
            Kind::Again | Kind::Late => {
                self.count(|tally| tally.duplicates += 1);
                let status = self.post(&job.page.body(self.webhook), self.now()).await;
                if job.kind == Kind::Again && status == Some(200) {
                    self.acknowledge(&job.page);
                }
            }
            Kind::Old => {
                self.count(|tally| tally.old += 1);
                let stamp = self.now().saturating_sub(OLD);
                if self.post(&job.page.body(self.webhook), stamp).await == Some(200) {
                    self.acknowledge(&job.page);
                }
            }
            Kind::Forged(how) => {
                let status = self.forge(&job.page.forged().body(self.webhook), how).await;
                let accepted = u64::from(status.is_some_and(|status| (200..300).contains(&status)));
                self.count(|tally| {
                    tally.forged += 1;
                    tally.forged_accepted += accepted;
                });
            }
        }
    }

    async fn until_acknowledged(&self, page: &Page) {
        let (body, first) = (page.body(self.webhook), self.now());
        for attempt in 1..=self.webhook.attempts.max(1) {
            if attempt > 1 {
                tokio::time::sleep(self.webhook.wait(attempt - 1)).await;
                self.count(|tally| tally.retried += 1);
            }
            let stamp = match self.webhook.retry_timestamps {
                Retry::Fresh => self.now(),
                Retry::First => first,
            };
            if self.post(&body, stamp).await == Some(200) {
                self.count(|tally| tally.acknowledged += 1);
                self.acknowledge(page);
                return;
            }
        }
        self.count(|tally| tally.given_up += 1);
    }

    fn now(&self) -> Duration {
        self.webhook.stamp(clock::now())
    }

    /// Records that the receiver acknowledged a page.
    fn acknowledge(&self, page: &Page) {
        if let Some(segment) = self.shared.lock().segments.segments.get_mut(&page.segment) {
            if page.is_drain() {
                segment.members.drained();
            } else {
                segment.members.deliver(&page.add, &page.remove);
            }
        }
    }

    async fn post(&self, body: &[u8], stamp: Duration) -> Option<u16> {
        let timestamp = self.webhook.timestamps.write(stamp);
        self.post_with(Some(heap_hash(&self.webhook.secret, &timestamp, body)), body.to_vec()).await
    }

    /// A delivery that must not be taken: under another secret, over another body, without a signature, or
    /// with nonsense in its place.
    async fn forge(&self, body: &[u8], how: u64) -> Option<u16> {
        let timestamp = self.webhook.timestamps.write(self.now());
        let signature = match how {
            0 => Some(heap_hash("a secret that it is not", &timestamp, body)),
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
        let answer = self.shared.client.post(&self.webhook.url, &headers, body, timeout).await;
        self.count(|tally| {
            tally.sent += 1;
            match &answer {
                Ok(status) => *tally.statuses.entry(*status).or_default() += 1,
                Err(error) => {
                    tally.unanswered += 1;
                    tally.last_error = Some(error.clone());
                }
            }
        });
        answer.ok()
    }
}
