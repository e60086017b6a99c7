//! Notifications to webhooks when a condition changes. Each change is sent once and never delays a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::blocked::BlockedStatus;
use super::metrics::Metrics;
use crate::config::{Config, Notable, NotifyConfig, NotifyFormat, Secret};
use crate::connector::http::HttpClient;
use crate::dashboard::BlockedView;
use crate::foreign::escaped;
use crate::model::{Clock, CohortId, ExportId, SegmentId, Timestamp, timestamp_text};

/// A failure that a retry may end is notified after this number of attempts.
pub(super) const FAILURES_NOTIFIED: u32 = 3;
/// The number of notifications that may wait for one webhook. Above it, the oldest is dropped.
const WAITING_MAX: usize = 1000;
/// The wait after the first failed attempt. It doubles with each failure, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
const TIMEOUT: Duration = Duration::from_secs(10);

/// The subject of a notification.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NotificationSubject {
    Config,
    Cohort(CohortId),
    Export(ExportId),
    Segment(SegmentId),
    /// An identity source, by its path.
    Identity(String),
}

impl fmt::Display for NotificationSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config"),
            Self::Cohort(id) => write!(f, "cohort {id}"),
            Self::Export(id) => write!(f, "export {id}"),
            Self::Segment(id) => write!(f, "segment {id}"),
            Self::Identity(path) => write!(f, "identity {path}"),
        }
    }
}

/// One notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notification {
    pub(super) kind: Notable,
    pub(super) subject: NotificationSubject,
    pub(super) text: String,
    /// What the guard blocks, if the kind is [`Notable::Blocked`].
    pub(super) blocked: Option<BlockedStatus>,
    pub(super) at: Timestamp,
}

/// Notifications of a leader: it finds changes of condition and sends them to the webhooks of the config.
pub(super) struct Notifications {
    last: LastNotified,
    notifier: Notifier,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl Notifications {
    pub(super) fn new(config: &Config, urls: &[Secret], metrics: &Arc<Metrics>, clock: Clock) -> Self {
        let notifier = Notifier::new(config, urls, None, metrics, clock);
        Self { last: LastNotified::default(), notifier, metrics: Arc::clone(metrics), clock }
    }

    /// Uses the webhooks of another config. Webhooks that stay keep the notifications that wait for them.
    pub(super) fn set_webhooks(&mut self, config: &Config, urls: &[Secret]) {
        self.notifier = Notifier::new(config, urls, Some(&self.notifier), &self.metrics, self.clock);
    }

    /// Notifies that a subject recovered, if it had a problem.
    pub(super) fn recovered(&mut self, subject: NotificationSubject, text: &str) {
        self.turn(subject, None, text, None);
    }

    /// Notifies a problem, unless it was notified before.
    pub(super) fn problem(&mut self, subject: NotificationSubject, kind: Notable, text: &str) {
        self.turn(subject, Some(kind), text, None);
    }

    /// Notifies that the guard blocks a plan, unless this plan was notified last. Another plan has another approval.
    pub(super) fn blocked(&mut self, subject: NotificationSubject, blocked: &BlockedStatus) {
        self.turn(subject, Some(Notable::Blocked), &blocked.text(), Some(blocked));
    }

    fn turn(
        &mut self,
        subject: NotificationSubject,
        problem: Option<Notable>,
        text: &str,
        blocked: Option<&BlockedStatus>,
    ) {
        let digest = blocked.map(|blocked| blocked.digest.as_str());
        if let Some(kind) = self.last.turn(&subject, problem, digest) {
            let (text, blocked, at) = (text.to_owned(), blocked.cloned(), self.clock.now());
            self.notifier.send(&Notification { kind, subject, text, blocked, at });
        }
    }

    /// Forgets the subjects that `keep` rejects.
    pub(super) fn retain(&mut self, keep: impl Fn(&NotificationSubject) -> bool) {
        self.last.retain(keep);
    }

    /// The problem of a subject that was notified last and has not ended.
    #[cfg(test)]
    pub(super) fn problem_of(&self, subject: &NotificationSubject) -> Option<Notable> {
        self.last.problems.get(subject).map(|(kind, _)| *kind)
    }
}

/// The last notified problem of each subject. Staleness is separate: neither ends the other.
#[derive(Debug, Default)]
struct LastNotified {
    /// The kind, and the digest of a blocked plan.
    problems: BTreeMap<NotificationSubject, (Notable, Option<String>)>,
    stale: BTreeSet<NotificationSubject>,
}

impl LastNotified {
    /// The kind of notification that the current problem of a subject needs, if any. `None` as problem: it is healthy.
    fn turn(
        &mut self,
        subject: &NotificationSubject,
        problem: Option<Notable>,
        digest: Option<&str>,
    ) -> Option<Notable> {
        match problem {
            Some(Notable::Staleness) => self.stale.insert(subject.clone()).then_some(Notable::Staleness),
            Some(now) => {
                let new = (now, digest.map(str::to_owned));
                let before = self.problems.insert(subject.clone(), new.clone());
                (before != Some(new)).then_some(now)
            }
            None => {
                let had_problem = self.problems.remove(subject).is_some();
                (self.stale.remove(subject) || had_problem).then_some(Notable::Recovery)
            }
        }
    }

    fn retain(&mut self, keep: impl Fn(&NotificationSubject) -> bool) {
        self.problems.retain(|subject, _| keep(subject));
        self.stale.retain(|subject| keep(subject));
    }
}

/// Sends notifications to each webhook from its own task, until they are delivered or superseded. Dropping it stops it.
struct Notifier {
    targets: Vec<Arc<NotifyTarget>>,
    _tasks: tokio::task::JoinSet<()>,
}

/// One webhook.
struct NotifyTarget {
    /// The position in the config, because the address is secret.
    webhook: usize,
    url: Secret,
    format: NotifyFormat,
    on: Vec<Notable>,
    http: HttpClient,
    pending: Mutex<PendingNotifications>,
    wakeup: Notify,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// The outcome of a notification, or of one attempt to deliver it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeliveryOutcome {
    /// The webhook accepted it.
    Delivered,
    /// The webhook did not accept it. It is sent again.
    Failed,
    /// A later notification about the same subject replaced it.
    Superseded,
    /// It was not delivered: too many waited, the webhook left the config, or the process stopped.
    Dropped,
}

impl DeliveryOutcome {
    /// The label in metrics.
    fn label(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::Dropped => "dropped",
        }
    }
}

/// Notifications that one webhook has not accepted yet: for each subject one problem and one staleness at most.
#[derive(Clone, Debug, Default)]
struct PendingNotifications {
    waiting: Vec<WaitingNotification>,
    next: u64,
}

#[derive(Clone, Debug)]
struct WaitingNotification {
    number: u64,
    notification: Notification,
    failures: u32,
    due: Instant,
}

impl PendingNotifications {
    /// Adds a notification. Returns how many it supersedes, and how many are dropped because too many wait.
    fn add(&mut self, notification: Notification, now: Instant) -> (u64, u64) {
        let before = self.waiting.len();
        let is_stale = |kind: Notable| kind == Notable::Staleness;
        self.waiting.retain(|waiting| {
            let old = &waiting.notification;
            let supersedes =
                notification.kind == Notable::Recovery || is_stale(old.kind) == is_stale(notification.kind);
            !(old.subject == notification.subject && supersedes)
        });
        let superseded = before - self.waiting.len();
        let dropped = (self.waiting.len() + 1).saturating_sub(WAITING_MAX);
        self.waiting.drain(..dropped);
        self.waiting.push(WaitingNotification { number: self.next, notification, failures: 0, due: now });
        self.next += 1;
        (superseded as u64, dropped as u64)
    }

    /// The notification that is due first. Of several, the one that has waited longest.
    fn first(&self) -> Option<&WaitingNotification> {
        self.waiting.iter().min_by_key(|waiting| (waiting.due, waiting.number))
    }

    fn delivered(&mut self, number: u64) {
        self.waiting.retain(|waiting| waiting.number != number);
    }

    /// Schedules another attempt. The notifications behind it do not wait.
    fn failed(&mut self, number: u64, now: Instant) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.number == number) {
            waiting.failures += 1;
            let wait = FIRST_WAIT.saturating_mul(1 << (waiting.failures - 1).min(20)).min(LONGEST_WAIT);
            waiting.due = now + wait;
        }
    }
}

impl Notifier {
    /// A notifier for the webhooks of the config at the addresses `urls`. Webhooks that `before` has too keep their pending
    /// notifications.
    fn new(
        config: &Config,
        urls: &[Secret],
        before: Option<&Self>,
        metrics: &Arc<Metrics>,
        clock: Clock,
    ) -> Self {
        let agent = format!("syncline/{}", env!("CARGO_PKG_VERSION"));
        let target = |(webhook, (settings, url)): (usize, (&NotifyConfig, &Secret))| {
            let http = HttpClient::new(url.expose(), agent.clone(), TIMEOUT)
                .map(HttpClient::with_secret_path)
                .inspect_err(|error| tracing::warn!("cannot send notifications: {error}"));
            let (url, on, format) = (url.clone(), settings.on.clone(), settings.format);
            let is_same =
                |target: &&Arc<NotifyTarget>| target.url.expose() == url.expose() && target.format == format;
            let old = before.and_then(|before| before.targets.iter().find(is_same));
            let pending = Mutex::new(old.map(|old| std::mem::take(&mut *old.pending())).unwrap_or_default());
            let (wakeup, metrics, http) = (Notify::new(), Arc::clone(metrics), http.ok()?);
            Some(Arc::new(NotifyTarget { webhook, url, format, on, http, pending, wakeup, metrics, clock }))
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

    /// Sends a notification to each webhook that subscribes to its kind.
    fn send(&self, notification: &Notification) {
        for target in self.targets.iter().filter(|target| target.on.contains(&notification.kind)) {
            let (superseded, dropped) = target.pending().add(notification.clone(), target.clock.monotonic());
            target.count(DeliveryOutcome::Superseded, superseded);
            target.count(DeliveryOutcome::Dropped, dropped);
            if dropped > 0 {
                tracing::warn!(webhook = target.webhook, "a notification was dropped: too many wait");
            }
            target.wakeup.notify_one();
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        for target in &self.targets {
            let left = target.pending().waiting.len();
            if left > 0 {
                target.count(DeliveryOutcome::Dropped, left as u64);
                tracing::warn!(webhook = target.webhook, "notifications that were not delivered: {left}");
            }
        }
    }
}

impl NotifyTarget {
    fn pending(&self) -> MutexGuard<'_, PendingNotifications> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, outcome: DeliveryOutcome, number: u64) {
        self.metrics.count_notifications(self.webhook, outcome.label(), number);
    }

    /// Delivers what is due, until the notifier is dropped.
    async fn run(&self) {
        loop {
            let first = self.pending().first().cloned();
            let Some(WaitingNotification { number, notification, due, failures }) = first else {
                self.wakeup.notified().await;
                continue;
            };
            if self.clock.monotonic() < due {
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = self.wakeup.notified() => {}
                }
                continue;
            }
            match self.send(&notification).await {
                Ok(()) => {
                    self.pending().delivered(number);
                    self.count(DeliveryOutcome::Delivered, 1);
                }
                Err(error) => {
                    self.pending().failed(number, self.clock.monotonic());
                    self.count(DeliveryOutcome::Failed, 1);
                    if failures == 0 {
                        let (webhook, subject) = (self.webhook, &notification.subject);
                        tracing::warn!(webhook, %subject, "a notification failed and is sent again: {error}");
                    }
                }
            }
        }
    }

    async fn send(&self, notification: &Notification) -> Result<(), String> {
        match self.http.post_json(self.url.expose(), body(notification, self.format)).await {
            Ok(reply) if (200..300).contains(&reply.status) => Ok(()),
            Ok(reply) => Err(format!("status {}", reply.status)),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn body(notification: &Notification, format: NotifyFormat) -> Vec<u8> {
    let Notification { kind, subject, text, blocked, at } = notification;
    // Errors name files, columns and servers: foreign text.
    let (subject, text) = (escaped(&subject.to_string()).into_owned(), escaped(text));
    let body = match format {
        NotifyFormat::Json => json!({
            "format_version": 1,
            "kind": kind.as_str(),
            "about": subject,
            "text": text,
            "blocked": blocked.iter().flat_map(|blocked| &blocked.blocks).map(block_json).collect::<Vec<_>>(),
            "plan": blocked.as_ref().map(|blocked| &blocked.digest),
            "at": timestamp_text(*at),
        }),
        NotifyFormat::Slack => {
            let icon = match kind {
                Notable::Blocked => ":raised_hand:",
                Notable::Failure => ":x:",
                Notable::Recovery => ":white_check_mark:",
                Notable::Staleness => ":hourglass:",
                Notable::Drift => ":compass:",
            };
            json!({ "text": format!("{icon} *{}*: {}", slack_escaped(&subject), slack_escaped(&text)) })
        }
    };
    body.to_string().into_bytes()
}

/// A block, with the keys that it has in the JSON of a plan.
fn block_json(block: &BlockedView) -> Value {
    let remedies = block.remedies.iter().map(|remedy| escaped(&remedy.to_string()).into_owned());
    json!({
        "code": block.code,
        "side": block.side,
        "reason": escaped(&block.reason),
        "remedies": remedies.collect::<Vec<_>>(),
    })
}

/// Escapes Slack's three special characters.
fn slack_escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cohort(id: &str) -> NotificationSubject {
        NotificationSubject::Cohort(CohortId::new(id).unwrap())
    }

    #[test]
    fn each_change_of_condition_is_notified_once() {
        let (mut last, a) = (LastNotified::default(), cohort("a"));
        assert_eq!(last.turn(&a, None, None), None);
        assert_eq!(last.turn(&a, Some(Notable::Failure), None), Some(Notable::Failure));
        assert_eq!(last.turn(&a, Some(Notable::Failure), None), None);
        assert_eq!(last.turn(&a, Some(Notable::Staleness), None), Some(Notable::Staleness));
        // It still fails, and it is still stale.
        assert_eq!(last.turn(&a, Some(Notable::Failure), None), None);
        assert_eq!(last.turn(&a, Some(Notable::Staleness), None), None);
        let blocked = Some(Notable::Blocked);
        assert_eq!(last.turn(&a, blocked, Some("1")), blocked);
        assert_eq!(last.turn(&a, blocked, Some("1")), None);
        assert_eq!(last.turn(&a, blocked, Some("2")), blocked, "another plan has another approval");
        assert_eq!(last.turn(&a, blocked, Some("2")), None);
        assert_eq!(last.turn(&a, None, None), Some(Notable::Recovery));
        assert_eq!(last.turn(&a, None, None), None);
    }

    #[test]
    fn a_notification_waits_until_it_is_delivered_or_superseded() {
        let (mut pending, now) = (PendingNotifications::default(), Instant::now());
        let notification = |kind, id: &str| Notification {
            kind,
            subject: cohort(id),
            text: String::new(),
            blocked: None,
            at: Timestamp::UNIX_EPOCH,
        };
        let first = |pending: &PendingNotifications| {
            pending.first().map(|w| (w.notification.subject.clone(), w.notification.kind))
        };
        assert_eq!(pending.add(notification(Notable::Failure, "a"), now), (0, 0));
        assert_eq!(pending.add(notification(Notable::Staleness, "a"), now), (0, 0), "beside the failure");
        assert_eq!(pending.add(notification(Notable::Failure, "b"), now), (0, 0));
        for _ in 0..50 {
            pending.failed(0, now);
        }
        assert_eq!(first(&pending), Some((cohort("a"), Notable::Staleness)), "the others do not wait");
        assert_eq!(pending.waiting[0].due, now + LONGEST_WAIT);
        assert_eq!(pending.add(notification(Notable::Blocked, "a"), now), (1, 0));
        assert_eq!(pending.add(notification(Notable::Recovery, "a"), now), (2, 0));
        assert_eq!(first(&pending), Some((cohort("b"), Notable::Failure)));
        pending.delivered(2);
        assert_eq!(first(&pending), Some((cohort("a"), Notable::Recovery)));
        for n in 0..WAITING_MAX {
            pending.add(notification(Notable::Failure, &format!("c{n}")), now);
        }
        assert_eq!(pending.add(notification(Notable::Failure, "c"), now), (0, 1));
        assert_eq!(pending.waiting.len(), WAITING_MAX);
    }

    fn sent(subject: NotificationSubject, text: &str, format: NotifyFormat) -> serde_json::Value {
        let (kind, text, at) = (Notable::Blocked, text.to_owned(), Timestamp::UNIX_EPOCH);
        serde_json::from_slice(&body(&Notification { kind, subject, text, blocked: None, at }, format))
            .unwrap()
    }

    #[test]
    fn foreign_text_is_not_markup_in_slack() {
        let body = sent(NotificationSubject::Config, "<b> & c", NotifyFormat::Slack);
        assert_eq!(body["text"], ":raised_hand: *config*: &lt;b&gt; &amp; c");
    }

    #[test]
    fn foreign_text_stays_in_its_line() {
        let text = "a\n::error::b\u{202e}\x1b[2J";
        for format in [NotifyFormat::Json, NotifyFormat::Slack] {
            let body = sent(NotificationSubject::Identity("c\n".into()), text, format);
            let text = body["text"].as_str().unwrap();
            assert!(text.ends_with("a\\n::error::b\\u{202e}\\u{1b}[2J"), "{text}");
        }
    }
}
