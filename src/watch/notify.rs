//! Notifications to webhooks when something changes its state: once, and never in the way of the work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Notify;

use super::status::WatchStatus;
use crate::config::{Config, Notable, NotifyFormat, Secret};
use crate::connector::http::HttpClient;
use crate::foreign::escaped;
use crate::model::{CohortId, Timestamp, timestamp_text};

/// Notifications that wait for one webhook. When there are more, the oldest is dropped.
const WAITING_MAX: usize = 1000;
/// The wait after the first try that failed. It doubles, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
const TIMEOUT: Duration = Duration::from_secs(10);

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notification {
    pub(super) kind: Notable,
    /// What it is about: a cohort, or the config.
    pub(super) about: String,
    pub(super) text: String,
    pub(super) at: Timestamp,
}

/// What was last told of each thing, so that nothing is told twice. That a thing is stale is told beside whatever
/// is wrong with it: the one does not end the other.
#[derive(Debug, Default)]
pub(super) struct LastNotified {
    trouble: BTreeMap<String, Notable>,
    stale: BTreeSet<String>,
}

impl LastNotified {
    /// What is to be told, now that a thing stands so. None as `trouble`: all is well with it.
    pub(super) fn turn(&mut self, about: &str, trouble: Option<Notable>) -> Option<Notable> {
        match trouble {
            Some(Notable::Staleness) => self.stale.insert(about.to_owned()).then_some(Notable::Staleness),
            Some(now) => {
                let before = self.trouble.insert(about.to_owned(), now);
                (before != Some(now)).then_some(now)
            }
            None => {
                let was_bad = self.trouble.remove(about).is_some();
                (self.stale.remove(about) || was_bad).then_some(Notable::Recovery)
            }
        }
    }

    /// Nothing is told of these any more.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.trouble.retain(|about, _| keep(about));
        self.stale.retain(|about| keep(about));
    }
}

/// Sends notices to each webhook from a task of its own, until they are delivered or a later notice replaces them.
/// Dropped, it sends no more.
pub(super) struct Notifier {
    targets: Vec<Arc<NotifyTarget>>,
    _tasks: tokio::task::JoinSet<()>,
}

/// One webhook.
struct NotifyTarget {
    /// Its place in the config: its address is secret.
    webhook: usize,
    url: Secret,
    format: NotifyFormat,
    on: Vec<Notable>,
    http: HttpClient,
    pending: Mutex<Pending>,
    bell: Notify,
    board: Arc<WatchStatus>,
}

/// What became of a notice, or of a try to deliver it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The webhook took it.
    Delivered,
    /// The webhook did not take it; it is tried again.
    Failed,
    /// A later notice about the same thing replaced it.
    Superseded,
    /// It was not delivered: too many were waiting, the webhook left the config, or the process stopped.
    Dropped,
}

impl Delivery {
    /// The word that metrics use.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::Dropped => "dropped",
        }
    }
}

/// The notices that one webhook has not taken yet, at most one about each thing and its staleness.
#[derive(Clone, Debug, Default)]
struct Pending {
    waiting: Vec<Waiting>,
    next: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    number: u64,
    notice: Notification,
    failures: u32,
    due: Instant,
}

impl Pending {
    /// Adds a notice. How many it replaces, and how many give way because there are too many.
    fn add(&mut self, notice: Notification, now: Instant) -> (u64, u64) {
        let before = self.waiting.len();
        let is_stale = |kind: Notable| kind == Notable::Staleness;
        self.waiting.retain(|waiting| {
            let same = waiting.notice.about == notice.about;
            let ends =
                notice.kind == Notable::Recovery || is_stale(waiting.notice.kind) == is_stale(notice.kind);
            !(same && ends)
        });
        let superseded = before - self.waiting.len();
        let dropped = (self.waiting.len() + 1).saturating_sub(WAITING_MAX);
        self.waiting.drain(..dropped);
        self.waiting.push(Waiting { number: self.next, notice, failures: 0, due: now });
        self.next += 1;
        (superseded as u64, dropped as u64)
    }

    /// The notice that is due first: of several, the one that waits longest.
    fn first(&self) -> Option<&Waiting> {
        self.waiting.iter().min_by_key(|waiting| (waiting.due, waiting.number))
    }

    fn delivered(&mut self, number: u64) {
        self.waiting.retain(|waiting| waiting.number != number);
    }

    /// It is tried again later. Those that wait behind it are not held up.
    fn failed(&mut self, number: u64, now: Instant) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.number == number) {
            waiting.failures += 1;
            let wait = FIRST_WAIT.saturating_mul(1 << (waiting.failures - 1).min(20)).min(LONGEST_WAIT);
            waiting.due = now + wait;
        }
    }
}

impl Notifier {
    /// A notifier for the webhooks of the config, whose addresses are `urls`. Webhooks that were there before keep
    /// the notices that they have not taken.
    pub(super) fn new(
        config: &Config,
        urls: &[Secret],
        before: Option<&Self>,
        board: &Arc<WatchStatus>,
    ) -> Self {
        let agent = format!("syncline/{}", env!("CARGO_PKG_VERSION"));
        let target = |(webhook, (settings, url)): (usize, (&crate::config::NotifyConfig, &Secret))| {
            let http = HttpClient::new(url.expose(), agent.clone(), TIMEOUT)
                .inspect_err(|error| tracing::warn!("notifications cannot be sent: {error}"));
            let (url, on, format) = (url.clone(), settings.on.clone(), settings.format);
            let same =
                |target: &&Arc<NotifyTarget>| target.url.expose() == url.expose() && target.format == format;
            let old = before.and_then(|before| before.targets.iter().find(same));
            let pending = Mutex::new(old.map(|old| std::mem::take(&mut *old.pending())).unwrap_or_default());
            let (bell, board) = (Notify::new(), Arc::clone(board));
            Some(Arc::new(NotifyTarget { webhook, url, format, on, http: http.ok()?, pending, bell, board }))
        };
        let targets: Vec<Arc<NotifyTarget>> =
            config.watch.notify.iter().zip(urls).enumerate().filter_map(target).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for target in &targets {
            let target = Arc::clone(target);
            tasks.spawn(async move { target.run().await });
        }
        Self { targets, _tasks: tasks }
    }

    /// Sends a notice to each webhook that is to get its kind.
    pub(super) fn tell(&self, notice: &Notification) {
        for target in self.targets.iter().filter(|target| target.on.contains(&notice.kind)) {
            let (superseded, dropped) = target.pending().add(notice.clone(), Instant::now());
            target.count(Delivery::Superseded, superseded);
            target.count(Delivery::Dropped, dropped);
            if dropped > 0 {
                tracing::warn!(webhook = target.webhook, "a notification was dropped: too many wait");
            }
            target.bell.notify_one();
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        for target in &self.targets {
            let left = target.pending().waiting.len();
            if left > 0 {
                target.count(Delivery::Dropped, left as u64);
                tracing::warn!(webhook = target.webhook, "{left} notifications were not delivered");
            }
        }
    }
}

impl NotifyTarget {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, what: Delivery, number: u64) {
        self.board.metrics.notified(self.webhook, what, number);
    }

    /// Delivers what is due, for as long as the notifier lives.
    async fn run(&self) {
        loop {
            let first = self.pending().first().cloned();
            let Some(Waiting { number, notice, due, failures }) = first else {
                self.bell.notified().await;
                continue;
            };
            if Instant::now() < due {
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = self.bell.notified() => {}
                }
                continue;
            }
            match self.send(&notice).await {
                Ok(()) => {
                    self.pending().delivered(number);
                    self.count(Delivery::Delivered, 1);
                }
                Err(trouble) => {
                    self.pending().failed(number, Instant::now());
                    self.count(Delivery::Failed, 1);
                    if failures == 0 {
                        let (webhook, about) = (self.webhook, &notice.about);
                        tracing::warn!(webhook, about, "a notification is tried again: {trouble}");
                    }
                }
            }
        }
    }

    async fn send(&self, notice: &Notification) -> Result<(), String> {
        match self.http.post_json(self.url.expose(), body(notice, self.format)).await {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
            Ok(answer) => Err(format!("status {}", answer.status)),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn body(notice: &Notification, format: NotifyFormat) -> Vec<u8> {
    let Notification { kind, about, text, at } = notice;
    // What fails names files, columns and servers: foreign text.
    let (about, text) = (escaped(about), escaped(text));
    let body = match format {
        NotifyFormat::Json => json!({
            "format_version": 1,
            "kind": kind.as_str(),
            "about": about,
            "text": text,
            "at": timestamp_text(*at),
        }),
        NotifyFormat::Slack => {
            let mark = match kind {
                Notable::Refusal => ":raised_hand:",
                Notable::Failure => ":x:",
                Notable::Recovery => ":white_check_mark:",
                Notable::Staleness => ":hourglass:",
                Notable::Drift => ":compass:",
            };
            json!({ "text": format!("{mark} *{}*: {}", slack(&about), slack(&text)) })
        }
    };
    body.to_string().into_bytes()
}

/// Slack's three special characters.
fn slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// How notices call a cohort.
pub(super) fn of_cohort(id: &CohortId) -> String {
    format!("cohort {id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_is_told_once() {
        let mut told = LastNotified::default();
        assert_eq!(told.turn("a", None), None);
        assert_eq!(told.turn("a", Some(Notable::Failure)), Some(Notable::Failure));
        assert_eq!(told.turn("a", Some(Notable::Failure)), None);
        assert_eq!(told.turn("a", Some(Notable::Staleness)), Some(Notable::Staleness));
        // It goes on to fail, and to be stale.
        assert_eq!(told.turn("a", Some(Notable::Failure)), None);
        assert_eq!(told.turn("a", Some(Notable::Staleness)), None);
        assert_eq!(told.turn("a", Some(Notable::Refusal)), Some(Notable::Refusal));
        assert_eq!(told.turn("a", None), Some(Notable::Recovery));
        assert_eq!(told.turn("a", None), None);
    }

    #[test]
    fn a_notice_waits_until_it_is_delivered_or_a_later_one_replaces_it() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        let notice = |kind, about: &str| Notification {
            kind,
            about: about.to_owned(),
            text: String::new(),
            at: Timestamp::UNIX_EPOCH,
        };
        let first = |pending: &Pending| pending.first().map(|w| (w.notice.about.clone(), w.notice.kind));
        assert_eq!(pending.add(notice(Notable::Failure, "a"), now), (0, 0));
        assert_eq!(pending.add(notice(Notable::Staleness, "a"), now), (0, 0), "beside the failure");
        assert_eq!(pending.add(notice(Notable::Failure, "b"), now), (0, 0));
        for _ in 0..50 {
            pending.failed(0, now);
        }
        assert_eq!(first(&pending), Some(("a".into(), Notable::Staleness)), "others are not held up");
        assert_eq!(pending.waiting[0].due, now + LONGEST_WAIT);
        assert_eq!(pending.add(notice(Notable::Refusal, "a"), now), (1, 0));
        assert_eq!(pending.add(notice(Notable::Recovery, "a"), now), (2, 0));
        assert_eq!(first(&pending), Some(("b".into(), Notable::Failure)));
        pending.delivered(2);
        assert_eq!(first(&pending), Some(("a".into(), Notable::Recovery)));
        for n in 0..WAITING_MAX {
            pending.add(notice(Notable::Failure, &n.to_string()), now);
        }
        assert_eq!(pending.add(notice(Notable::Failure, "c"), now), (0, 1));
        assert_eq!(pending.waiting.len(), WAITING_MAX);
    }

    #[test]
    fn slack_gets_a_text_in_which_nothing_is_markup_that_is_not_ours() {
        let at = Timestamp::UNIX_EPOCH;
        let notice = Notification { kind: Notable::Refusal, about: "a".into(), text: "<b> & c".into(), at };
        let body: serde_json::Value = serde_json::from_slice(&body(&notice, NotifyFormat::Slack)).unwrap();
        assert_eq!(body["text"], ":raised_hand: *a*: &lt;b&gt; &amp; c");
    }

    #[test]
    fn foreign_text_stays_in_its_line() {
        let at = Timestamp::UNIX_EPOCH;
        let text = "a\n::error::b\u{202e}\x1b[2J".to_owned();
        let notice = Notification { kind: Notable::Failure, about: "c\n".into(), text, at };
        for format in [NotifyFormat::Json, NotifyFormat::Slack] {
            let body: serde_json::Value = serde_json::from_slice(&body(&notice, format)).unwrap();
            let text = body["text"].as_str().unwrap();
            assert!(text.ends_with("a\\n::error::b\\u{202e}\\u{1b}[2J"), "{text}");
        }
    }
}
