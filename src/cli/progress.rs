//! Progress bars of cohorts on a terminal, with rate and remaining time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::environment;
use super::output::count;
use super::terminal::{add, has_progress};
use crate::model::{Clock, CohortId, NoProgress, Progress, Stage};
use crate::wait_log::duration;

/// Work that ends sooner than this is not shown.
const QUIET: Duration = Duration::from_millis(500);

/// Progress bars on a terminal; no output elsewhere.
pub(super) fn progress() -> Arc<dyn Progress> {
    if has_progress() { Arc::new(ProgressBars::new()) } else { Arc::new(NoProgress) }
}

struct ProgressBars {
    clock: Clock,
    began: Instant,
    bars: Mutex<BTreeMap<CohortId, (Stage, ProgressBar)>>,
}

impl ProgressBars {
    fn new() -> Self {
        let clock = environment::clock();
        Self { clock, began: clock.monotonic(), bars: Mutex::default() }
    }
}

fn bar(cohort: &CohortId, stage: Stage) -> Option<ProgressBar> {
    let (bar, template) = match stage {
        Stage::Reading => (ProgressBar::new_spinner(), "{spinner} {msg}: {human_pos} rows read{rate}"),
        Stage::Sending { total } => {
            (ProgressBar::new(total), "{bar:24} {msg}: {human_pos} of {human_len} sent{rate}{left}")
        }
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = out.write_str(&rate_text(state.per_sec()));
    };
    let left = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = out.write_str(&left_text(state.eta()));
    };
    let style = style.with_key("rate", rate).with_key("left", left);
    Some(add(bar)?.with_style(style).with_message(cohort.to_string()))
}

/// `, 1,234 per second`. Empty before the rate is known.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
fn rate_text(per_second: f64) -> String {
    match per_second {
        1.0..1e15 => format!(", {} per second", count(per_second as u64)),
        _ => String::new(),
    }
}

/// `, 20 s left`. Empty before the rate is known.
fn left_text(left: Duration) -> String {
    if left.is_zero() { String::new() } else { format!(", {} left", duration(left)) }
}

impl Progress for ProgressBars {
    fn at(&self, cohort: &CohortId, stage: Stage, done: u64) {
        if self.clock.monotonic().saturating_duration_since(self.began) < QUIET {
            return;
        }
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        if bars.get(cohort).is_none_or(|(shown, _)| *shown != stage)
            && let Some(bar) = bar(cohort, stage)
            && let Some((_, old)) = bars.insert(cohort.clone(), (stage, bar))
        {
            old.finish_and_clear();
        }
        if let Some((_, bar)) = bars.get(cohort) {
            bar.set_position(done);
        }
    }

    fn finished(&self, cohort: &CohortId) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bar)) = bars.remove(cohort) {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_remaining_times_are_shown_once_they_are_known() {
        assert_eq!(rate_text(1_234.6), ", 1,234 per second");
        assert_eq!(left_text(Duration::from_secs(150)), ", 2 min 30 s left");
        for unknown in [0.0, f64::NAN, f64::INFINITY] {
            assert_eq!(rate_text(unknown), "");
        }
        assert_eq!(left_text(Duration::ZERO), "");
    }
}
