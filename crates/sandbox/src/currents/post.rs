//! HTTP sender of Currents: the Custom HTTP connector with its documented reactions to responses.
//!
//! Source: Braze, "Custom HTTP connector": 2xx is final; 400 splits the batch into single events, and one that
//! gets 400 again is dropped; 401, 403 and 404 stop; 413 splits; 429, everything else and no response are
//! retried with growing waits. Braze retries for days; here [`PostSettings::attempts`] is the limit.

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::batches::{Batches, QueuedEvent, body};
use super::generate::Generator;
use crate::SandboxHandle;
use crate::client::ResponseCounters;
use crate::rng::Rng;

/// Target and settings of a post.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PostSettings {
    pub(super) url: String,
    /// Bearer token; without one there is no header.
    token: Option<String>,
    /// Most events in a request.
    batch: usize,
    /// Whether event types share requests.
    mixed: bool,
    /// Whether the token is tested first, with an empty body and with an empty list.
    probe: bool,
    /// Whether bodies are compressed. Not documented.
    gzip: bool,
    /// Concurrent requests.
    at_once: usize,
    attempts: u32,
    /// Milliseconds before the second attempt; each further wait doubles, with random jitter.
    first_wait: u64,
    longest_wait: u64,
    timeout: u64,
}

impl PostSettings {
    /// Keys of the settings, to separate them from the keys of a mix.
    pub(super) const KEYS: [&str; 11] = [
        "url",
        "token",
        "batch",
        "mixed",
        "probe",
        "gzip",
        "at_once",
        "attempts",
        "first_wait",
        "longest_wait",
        "timeout",
    ];
}

impl Default for PostSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            token: None,
            batch: 100,
            mixed: false,
            probe: true,
            gzip: false,
            at_once: 1,
            attempts: 20,
            first_wait: 100,
            longest_wait: 5_000,
            timeout: 10_000,
        }
    }
}

/// Counters of posted events.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct PostCounters {
    /// Requests with any outcome, and retries.
    requests: u64,
    retried: u64,
    /// Acknowledged events, counting repeated ones each time.
    acknowledged: u64,
    /// Batches split after a 400, and after a 413.
    split: u64,
    halved: u64,
    /// Ids of events that got 400 alone, that got 413 alone, and that got no final response after all attempts.
    dropped: Vec<String>,
    too_large: Vec<String>,
    given_up: Vec<String>,
    /// Events that were not sent, or not again, because the post stopped.
    unsent: u64,
    stopped: Option<u16>,
    /// Responses, including those to probes.
    #[serde(flatten)]
    responses: ResponseCounters,
}

/// Posts the events of a mix.
pub(super) async fn post_events(
    shared: SandboxHandle,
    settings: PostSettings,
    generator: Generator,
) -> PostCounters {
    shared.lock().currents.running += 1;
    let rng = Mutex::new(Rng::of(generator.mix().seed, u64::MAX - 1));
    let sender = CurrentsSender {
        shared: &shared,
        settings: &settings,
        counters: Mutex::default(),
        stop: AtomicU16::new(0),
        rng,
    };
    if !settings.probe || sender.probe().await {
        let batches = Batches::new(generator, settings.batch, settings.mixed);
        let sends = futures_util::stream::iter(batches).map(|batch| sender.send(batch));
        sends.buffer_unordered(settings.at_once.max(1)).collect::<()>().await;
    }
    let counters = sender.counters.into_inner().unwrap_or_else(PoisonError::into_inner);
    shared.lock().currents.running -= 1;
    counters
}

struct CurrentsSender<'a> {
    shared: &'a SandboxHandle,
    settings: &'a PostSettings,
    counters: Mutex<PostCounters>,
    /// The status that stopped the post; 0 while none has.
    stop: AtomicU16,
    rng: Mutex<Rng>,
}

/// What a response means for the posted events.
enum PostVerdict {
    Done,
    Split,
    Halve,
    Stop,
    GivenUp,
}

impl CurrentsSender<'_> {
    fn count(&self, count: impl Fn(&mut PostCounters)) {
        count(&mut self.counters.lock().unwrap_or_else(PoisonError::into_inner));
        count(&mut self.shared.lock().currents.counters);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) != 0
    }

    /// Whether both probes were answered with 2xx.
    async fn probe(&self) -> bool {
        for body in [&b""[..], br#"{"events":[]}"#] {
            let outcome = self.post(body.to_vec()).await;
            if !outcome.is_some_and(|status| (200..300).contains(&status)) {
                self.stop(outcome.unwrap_or(0));
                return false;
            }
        }
        true
    }

    fn stop(&self, status: u16) {
        self.stop.store(status, Ordering::Relaxed);
        self.count(|counters| counters.stopped = Some(status));
    }

    async fn send(&self, batch: Vec<QueuedEvent>) {
        // Events, and whether a 400 drops them because they were already split.
        let mut parts = vec![(batch, false)];
        while let Some((events, was_split)) = parts.pop() {
            if self.stopped() {
                self.count(|counters| counters.unsent += events.len() as u64);
                continue;
            }
            let ids = || events.iter().map(|item| item.id.clone());
            match self.verdict(&events).await {
                PostVerdict::Done => self.acknowledged(&events),
                PostVerdict::Split if was_split => self.count(|counters| counters.dropped.extend(ids())),
                PostVerdict::Split => {
                    self.count(|counters| counters.split += 1);
                    parts.extend(events.into_iter().rev().map(|event| (vec![event], true)));
                }
                PostVerdict::Halve if events.len() == 1 => {
                    self.count(|counters| counters.too_large.extend(ids()));
                }
                PostVerdict::Halve => {
                    self.count(|counters| counters.halved += 1);
                    let (first, second) = events.split_at(events.len() / 2);
                    parts.extend([(second.to_vec(), false), (first.to_vec(), false)]);
                }
                PostVerdict::Stop => self.count(|counters| counters.unsent += events.len() as u64),
                PostVerdict::GivenUp => self.count(|counters| counters.given_up.extend(ids())),
            }
        }
    }

    fn acknowledged(&self, events: &[QueuedEvent]) {
        let ids: HashSet<Box<str>> = events.iter().map(|item| item.id.as_str().into()).collect();
        self.shared.lock().currents.acknowledged.extend(ids);
        self.count(|counters| counters.acknowledged += events.len() as u64);
    }

    /// Retries until a response is final.
    async fn verdict(&self, events: &[QueuedEvent]) -> PostVerdict {
        for attempt in 0..self.settings.attempts.max(1) {
            if attempt > 0 {
                tokio::time::sleep(self.wait(attempt)).await;
                self.count(|counters| counters.retried += 1);
            }
            match self.post(body(events)).await {
                Some(200..300) => return PostVerdict::Done,
                Some(400) => return PostVerdict::Split,
                Some(413) => return PostVerdict::Halve,
                Some(status @ (401 | 403 | 404)) => {
                    self.stop(status);
                    return PostVerdict::Stop;
                }
                _ if self.stopped() => return PostVerdict::Stop,
                _ => {}
            }
        }
        PostVerdict::GivenUp
    }

    /// Doubles with each attempt; half of it is random.
    fn wait(&self, attempt: u32) -> Duration {
        let doubled = self.settings.first_wait.saturating_mul(1 << (attempt - 1).min(32));
        let wait = doubled.min(self.settings.longest_wait);
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_millis(wait / 2 + rng.below(wait / 2 + 1))
    }

    async fn post(&self, body: Vec<u8>) -> Option<u16> {
        let settings = self.settings;
        let mut headers =
            vec![("content-type", "application/json".to_owned()), ("braze-currents-version", "1".to_owned())];
        headers.extend(settings.token.as_ref().map(|token| ("authorization", format!("Bearer {token}"))));
        let body = if settings.gzip {
            headers.push(("content-encoding", "gzip".to_owned()));
            gzip(&body)
        } else {
            body
        };
        let timeout = Duration::from_millis(settings.timeout);
        let outcome = self.shared.client.post(&settings.url, &headers, body, timeout).await;
        self.count(|counters| {
            counters.requests += 1;
            counters.responses.count(&outcome);
        });
        outcome.ok()
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}
