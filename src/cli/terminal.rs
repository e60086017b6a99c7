//! The progress lines on a terminal: what the command does and waits for, and a bar for each cohort.
//!
//! The first line moves as long as the command runs, so that no wait looks like a hang: it shows the time since the
//! start, a wait for the next attempt, or a request without a response. Everything else that is written to the terminal
//! goes through [`suspended`], which keeps the lines apart.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::environment;
use crate::foreign;
use crate::model::{Clock, duration_text};
use crate::wait_log::{REQUEST_SPAN, WAIT_TARGET};

/// Commands that end sooner show no progress.
const QUIET: Duration = Duration::from_millis(500);
/// The time between two redraws of the first line.
const TICK: Duration = Duration::from_millis(200);
/// Requests without a response are shown from this age on.
const SLOW_REQUEST: Duration = Duration::from_secs(1);

static LINES: OnceLock<ProgressLines> = OnceLock::new();

struct ProgressLines {
    all: MultiProgress,
    first: ProgressBar,
    activity: Arc<Mutex<Activity>>,
    has_ended: AtomicBool,
}

/// Starts the progress lines of a command if stderr is a terminal.
pub(super) fn start(command: &'static str) {
    let is_dumb = environment::variable("TERM").is_some_and(|kind| kind == "dumb");
    if !io::stderr().is_terminal() || is_dumb {
        return;
    }
    let activity = Arc::new(Mutex::new(Activity::new(command, environment::clock())));
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
    let shown = Arc::clone(&activity);
    let style = ProgressStyle::with_template("{spinner} {activity}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    let text = move |_: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = out.write_str(&locked(&shown).text());
    };
    let first = all.add(ProgressBar::new_spinner()).with_style(style.with_key("activity", text));
    first.enable_steady_tick(TICK);
    if LINES.set(ProgressLines { all, first, activity, has_ended: AtomicBool::new(false) }).is_ok() {
        std::thread::spawn(|| {
            std::thread::sleep(QUIET);
            if let Some(lines) = LINES.get().filter(|lines| !lines.has_ended.load(Ordering::SeqCst)) {
                lines.all.set_draw_target(ProgressDrawTarget::stderr());
            }
        });
    }
}

/// Removes the progress lines.
pub(super) fn end() {
    if let Some(lines) = LINES.get() {
        lines.has_ended.store(true, Ordering::SeqCst);
        lines.first.finish_and_clear();
        // An error means that the terminal is gone.
        let _ = lines.all.clear();
    }
}

/// Writes something to the terminal above the progress lines.
pub(super) fn suspended<T>(write: impl FnOnce() -> T) -> T {
    match LINES.get() {
        Some(lines) => lines.all.suspend(write),
        None => write(),
    }
}

/// Adds a bar below the first line. `None` if there are no progress lines.
pub(super) fn add(bar: ProgressBar) -> Option<ProgressBar> {
    let bar = LINES.get().map(|lines| lines.all.add(bar))?;
    bar.enable_steady_tick(TICK);
    Some(bar)
}

/// Whether there are progress lines.
pub(super) fn has_progress() -> bool {
    LINES.get().is_some()
}

/// The layer that shows waits and slow requests on the first line. `None` without progress lines.
pub(super) fn layer<S>() -> Option<impl Layer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let activity = Arc::clone(&LINES.get()?.activity);
    let filter = filter_fn(|meta| match meta.is_span() {
        true => meta.name() == REQUEST_SPAN,
        false => meta.target() == WAIT_TARGET,
    });
    Some(ActivityLayer(activity).with_filter(filter.with_max_level_hint(LevelFilter::DEBUG)))
}

fn locked(activity: &Mutex<Activity>) -> MutexGuard<'_, Activity> {
    activity.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the command does at the moment.
struct Activity {
    command: &'static str,
    clock: Clock,
    began: Instant,
    /// The last wait: its log line without the duration, and its end.
    wait: Option<(String, Instant)>,
    /// The requests without a response, by span.
    requests: BTreeMap<u64, (String, Instant)>,
}

impl Activity {
    fn new(command: &'static str, clock: Clock) -> Self {
        Self { command, clock, began: clock.monotonic(), wait: None, requests: BTreeMap::new() }
    }

    fn text(&self) -> String {
        let now = self.clock.monotonic();
        let since = |began: Instant| now.saturating_duration_since(began);
        let slow = self.requests.values().min_by_key(|(_, began)| *began);
        let slow = slow.filter(|(_, began)| since(*began) >= SLOW_REQUEST);
        let waits = self.wait.as_ref().filter(|(_, until)| *until > now);
        let what = match (waits, slow) {
            (Some((what, until)), _) => format!(": {what} in {}", duration_text(*until - now)),
            (None, Some((request, began))) => {
                format!(": {request} has no response for {}", duration_text(since(*began)))
            }
            (None, None) => String::new(),
        };
        format!("{}, {}{what}", self.command, duration_text(since(self.began)))
    }
}

struct ActivityLayer(Arc<Mutex<Activity>>);

impl<S> Layer<S> for ActivityLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = ActivityFields::default();
        event.record(&mut fields);
        let mut activity = locked(&self.0);
        let until = activity.clock.monotonic() + Duration::from_millis(fields.wait_ms);
        // Every line of a wait ends with ` in ` and its length.
        let what = fields.message.rsplit_once(" in ").map_or(fields.message.as_str(), |(what, _)| what);
        activity.wait = Some((on_terminal(what), until));
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut fields = ActivityFields::default();
        attributes.record(&mut fields);
        let mut activity = locked(&self.0);
        let began = activity.clock.monotonic();
        let request = on_terminal(&format!("{} {}", fields.method, fields.endpoint));
        activity.requests.insert(id.into_u64(), (request, began));
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        locked(&self.0).requests.remove(&id.into_u64());
    }
}

/// Foreign text that a terminal only displays.
fn on_terminal(text: &str) -> String {
    foreign::terminal(&foreign::escaped(text)).into_owned()
}

/// The fields that the first line shows.
#[derive(Default)]
struct ActivityFields {
    message: String,
    wait_ms: u64,
    method: String,
    endpoint: String,
}

impl Visit for ActivityFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = match field.name() {
            "message" => &mut self.message,
            "method" => &mut self.method,
            "endpoint" => &mut self.endpoint,
            _ => return,
        };
        let _ = write!(text, "{value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "wait_ms" {
            self.wait_ms = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_shows_the_wait_before_a_slow_request() {
        let mut activity = Activity::new("reconcile", environment::clock());
        assert_eq!(activity.text(), "reconcile, 0.0 s");
        let now = activity.began;
        activity.began = now.checked_sub(Duration::from_secs(70)).unwrap();
        let asked = now.checked_sub(Duration::from_secs(5)).unwrap();
        activity.requests.insert(1, ("POST https://braze/users".to_owned(), asked));
        activity.requests.insert(2, ("GET https://braze/list".to_owned(), now));
        assert_eq!(
            activity.text(),
            "reconcile, 1 min 10 s: POST https://braze/users has no response for 5 s"
        );
        let until = now + Duration::from_secs(300);
        activity.wait = Some(("Braze does not answer: timed out; attempt 2 of 3".to_owned(), until));
        let text = activity.text();
        let start = "reconcile, 1 min 10 s: Braze does not answer: timed out; attempt 2 of 3 in ";
        assert!(text.starts_with(start), "{text}");
        activity.wait = Some((String::new(), now));
        assert!(activity.text().ends_with("has no response for 5 s"));
    }

    #[test]
    fn foreign_text_is_no_command_to_the_terminal() {
        assert!(!on_terminal("a\u{1b}[2Jb").contains('\u{1b}'));
    }
}
