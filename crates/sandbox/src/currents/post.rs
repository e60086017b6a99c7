//! Way out 2: the Custom HTTP connector, with its documented reactions to answers.
//!
//! Source: Braze, "Custom HTTP connector": 2xx is done; 400 splits the batch to single events, and one that
//! gets 400 again is dropped for good; 401, 403 and 404 stop; 413 splits; 429, everything else and silence
//! are tried again with growing waits. Braze tries for days; here [`Settings::attempts`] is the end.

use std::collections::{BTreeMap, HashSet};
use std::io::Write as _;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::generate::Generator;
use super::queues::{Item, Queues, body};
use crate::Shared;
use crate::rng::Rng;

/// Where events are posted, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    pub(super) url: String,
    /// Sent as it is, after `Bearer `; no header without one.
    token: Option<String>,
    /// Most events in a request.
    batch: usize,
    /// Types share requests.
    mixed: bool,
    /// The credential is tried first, with an empty body and with an empty list.
    probe: bool,
    /// Bodies are compressed. Not documented.
    gzip: bool,
    /// Requests at once.
    at_once: usize,
    attempts: u32,
    /// Milliseconds before the second attempt; each further wait is twice as long, give or take a half.
    first_wait: u64,
    longest_wait: u64,
    timeout: u64,
}

impl Settings {
    /// The names of what can be set, to tell it from what a mix can be told.
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

impl Default for Settings {
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

/// What was posted and what came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Tally {
    /// Requests, whatever came of them, and those beyond the first for the same events.
    requests: u64,
    retried: u64,
    /// Events that were acknowledged, repeated ones as often as they were.
    acknowledged: u64,
    /// Batches that were split because of a 400, and because of a 413.
    split: u64,
    halved: u64,
    /// Ids of events that got 400 alone, of events that are too large alone, and of those that had no
    /// better answer after all attempts.
    dropped: Vec<String>,
    too_large: Vec<String>,
    given_up: Vec<String>,
    /// Events that were not sent, or not again, after an answer that stops everything.
    unsent: u64,
    stopped: Option<u16>,
    /// Answers by status, those to probes among them.
    statuses: BTreeMap<u16, u64>,
    unanswered: u64,
    last_error: Option<String>,
}

/// Posts the events of a mix.
pub(super) async fn run(shared: Shared, settings: Settings, generator: Generator) -> Tally {
    shared.lock().currents.running += 1;
    let rng = Mutex::new(Rng::of(generator.mix().seed, u64::MAX - 1));
    let run =
        Run { shared: &shared, settings: &settings, tally: Mutex::default(), stop: AtomicU16::new(0), rng };
    if !settings.probe || run.probe().await {
        let batches = Queues::new(generator, settings.batch, settings.mixed);
        let sends = futures_util::stream::iter(batches).map(|batch| run.send(batch));
        sends.buffer_unordered(settings.at_once.max(1)).collect::<()>().await;
    }
    let tally = run.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    shared.lock().currents.running -= 1;
    tally
}

struct Run<'a> {
    shared: &'a Shared,
    settings: &'a Settings,
    tally: Mutex<Tally>,
    /// The status that stopped it; 0 while nothing has.
    stop: AtomicU16,
    rng: Mutex<Rng>,
}

/// What an answer means for the events that were sent.
enum Verdict {
    Done,
    Split,
    Halve,
    Stop,
    GivenUp,
}

impl Run<'_> {
    fn count(&self, count: impl Fn(&mut Tally)) {
        count(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
        count(&mut self.shared.lock().currents.tally);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) != 0
    }

    /// Whether both probes were answered with 2xx.
    async fn probe(&self) -> bool {
        for body in [&b""[..], br#"{"events":[]}"#] {
            let answer = self.post(body.to_vec()).await;
            if !answer.is_some_and(|status| (200..300).contains(&status)) {
                self.stop(answer.unwrap_or(0));
                return false;
            }
        }
        true
    }

    fn stop(&self, status: u16) {
        self.stop.store(status, Ordering::Relaxed);
        self.count(|tally| tally.stopped = Some(status));
    }

    async fn send(&self, batch: Vec<Item>) {
        // Events with whether a 400 drops them: they have been split off because of one.
        let mut parts = vec![(batch, false)];
        while let Some((events, last_chance)) = parts.pop() {
            if self.stopped() {
                self.count(|tally| tally.unsent += events.len() as u64);
                continue;
            }
            let ids = || events.iter().map(|item| item.id.clone());
            match self.verdict(&events).await {
                Verdict::Done => self.acknowledged(&events),
                Verdict::Split if last_chance => self.count(|tally| tally.dropped.extend(ids())),
                Verdict::Split => {
                    self.count(|tally| tally.split += 1);
                    parts.extend(events.into_iter().rev().map(|event| (vec![event], true)));
                }
                Verdict::Halve if events.len() == 1 => self.count(|tally| tally.too_large.extend(ids())),
                Verdict::Halve => {
                    self.count(|tally| tally.halved += 1);
                    let (first, second) = events.split_at(events.len() / 2);
                    parts.extend([(second.to_vec(), false), (first.to_vec(), false)]);
                }
                Verdict::Stop => self.count(|tally| tally.unsent += events.len() as u64),
                Verdict::GivenUp => self.count(|tally| tally.given_up.extend(ids())),
            }
        }
    }

    fn acknowledged(&self, events: &[Item]) {
        let ids: HashSet<Box<str>> = events.iter().map(|item| item.id.as_str().into()).collect();
        self.shared.lock().currents.acknowledged.extend(ids);
        self.count(|tally| tally.acknowledged += events.len() as u64);
    }

    /// Posts until there is an answer that decides.
    async fn verdict(&self, events: &[Item]) -> Verdict {
        for attempt in 0..self.settings.attempts.max(1) {
            if attempt > 0 {
                tokio::time::sleep(self.wait(attempt)).await;
                self.count(|tally| tally.retried += 1);
            }
            match self.post(body(events)).await {
                Some(200..300) => return Verdict::Done,
                Some(400) => return Verdict::Split,
                Some(413) => return Verdict::Halve,
                Some(status @ (401 | 403 | 404)) => {
                    self.stop(status);
                    return Verdict::Stop;
                }
                _ if self.stopped() => return Verdict::Stop,
                _ => {}
            }
        }
        Verdict::GivenUp
    }

    /// Doubled each time, with a half of it left to rng.
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
        let answer = self.shared.client.post(&settings.url, &headers, body, timeout).await;
        self.count(|tally| {
            tally.requests += 1;
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

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}
