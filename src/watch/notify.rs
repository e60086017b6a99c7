//! Telling people's webhooks when something changes its state: once, and never in the way of the work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use crate::config::{Config, Notable, NotifyFormat, Secret};
use crate::connector::http::Http;
use crate::model::{CohortId, Timestamp, timestamp_text};

/// Notifications that wait to be sent; more are dropped, and that is logged.
const WAITING_MAX: usize = 256;
/// Tries of one notification, and the wait after the first that failed.
const ATTEMPTS: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(10);

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) kind: Notable,
    /// What it is about: a cohort, or the config.
    pub(super) about: String,
    pub(super) text: String,
    pub(super) at: Timestamp,
}

/// What was last told of each thing, so that nothing is told twice. That a thing is stale is told beside whatever
/// is wrong with it: the one does not end the other.
#[derive(Debug, Default)]
pub(super) struct Told {
    trouble: BTreeMap<String, Notable>,
    stale: BTreeSet<String>,
}

impl Told {
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

/// Sends notices, in their order, from a task of its own. Dropped, it sends no more.
pub(super) struct Notifier {
    notices: mpsc::Sender<Notice>,
    _task: tokio::task::JoinSet<()>,
}

/// One webhook.
#[derive(Clone)]
struct Target {
    url: Secret,
    format: NotifyFormat,
    on: Vec<Notable>,
    http: Http,
}

impl Notifier {
    /// A notifier for the webhooks of the config, whose addresses are `urls`.
    pub(super) fn new(config: &Config, urls: &[Secret]) -> Self {
        let agent = format!("syncline/{}", env!("CARGO_PKG_VERSION"));
        let target = |(settings, url): (&crate::config::Notify, &Secret)| {
            let http = Http::new(url.expose(), agent.clone(), TIMEOUT)
                .inspect_err(|error| tracing::warn!("notifications cannot be sent: {error}"));
            let (url, on) = (url.clone(), settings.on.clone());
            Some(Target { url, format: settings.format, on, http: http.ok()? })
        };
        let targets: Arc<[Target]> = config.watch.notify.iter().zip(urls).filter_map(target).collect();
        let (notices, mut incoming) = mpsc::channel::<Notice>(WAITING_MAX);
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move {
            while let Some(notice) = incoming.recv().await {
                for target in targets.iter().filter(|target| target.on.contains(&notice.kind)) {
                    target.send(&notice).await;
                }
            }
        });
        Self { notices, _task: task }
    }

    /// Tells of something, as soon as what was told before has been sent.
    pub(super) fn tell(&self, notice: Notice) {
        if self.notices.try_send(notice).is_err() {
            tracing::warn!("a notification was dropped: too many wait to be sent");
        }
    }
}

impl Target {
    async fn send(&self, notice: &Notice) {
        let mut wait = FIRST_WAIT;
        for attempt in 1..=ATTEMPTS {
            let sent = self.http.post_json(self.url.expose(), body(notice, self.format)).await;
            let trouble = match sent {
                Ok(answer) if (200..300).contains(&answer.status) => return,
                Ok(answer) => format!("status {}", answer.status),
                Err(error) => error.to_string(),
            };
            if attempt == ATTEMPTS {
                tracing::warn!(about = notice.about, "a notification could not be sent: {trouble}");
            } else {
                tokio::time::sleep(wait).await;
                wait *= 4;
            }
        }
    }
}

fn body(notice: &Notice, format: NotifyFormat) -> Vec<u8> {
    let Notice { kind, about, text, at } = notice;
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
            json!({ "text": format!("{mark} *{}*: {}", slack(about), slack(text)) })
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
        let mut told = Told::default();
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
    fn slack_gets_a_text_in_which_nothing_is_markup_that_is_not_ours() {
        let at = Timestamp::UNIX_EPOCH;
        let notice = Notice { kind: Notable::Refusal, about: "a".into(), text: "<b> & c".into(), at };
        let body: serde_json::Value = serde_json::from_slice(&body(&notice, NotifyFormat::Slack)).unwrap();
        assert_eq!(body["text"], ":raised_hand: *a*: &lt;b&gt; &amp; c");
    }
}
