//! Progress bars of cohorts and exports on a terminal, with rate and remaining time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{DecimalBytes, ProgressBar, ProgressState, ProgressStyle};

use super::output::{count, counted};
use super::terminal::{add, has_progress};
use crate::model::{CohortId, ExportId, ExportedAmount, NoProgress, Progress, Stage, duration_text};

/// Progress bars on a terminal; no output elsewhere.
pub(super) fn progress() -> Arc<dyn Progress> {
    if has_progress() { Arc::new(ProgressBars::default()) } else { Arc::new(NoProgress) }
}

/// What a bar measures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BarUnit {
    /// Rows of a source, without a total.
    Rows,
    /// Members to send.
    Members { total: u64 },
    /// Events, without a total.
    Events,
    /// Bytes of input files.
    Bytes,
}

impl BarUnit {
    fn bar(self) -> ProgressBar {
        match self {
            Self::Rows | Self::Events => ProgressBar::new_spinner(),
            Self::Members { total } => ProgressBar::new(total),
            Self::Bytes => ProgressBar::new(0),
        }
    }

    fn style(self) -> ProgressStyle {
        let template = match self {
            Self::Rows => "{spinner} {msg}: {human_pos} rows read{rate}",
            Self::Members { .. } => "{bar:24} {msg}: {human_pos} of {human_len} sent{rate}{left}",
            Self::Events => "{spinner} {msg}{rate}",
            Self::Bytes => "{bar:24} {msg}, {decimal_bytes} of {decimal_total_bytes}{rate}{left}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let rate = move |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = out.write_str(&self.rate_text(state.per_sec()));
        };
        let left = |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = out.write_str(&left_text(state.eta()));
        };
        style.with_key("rate", rate).with_key("left", left)
    }

    /// `, 1,234 per second`. Empty before the rate is known.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
    fn rate_text(self, per_second: f64) -> String {
        match per_second {
            1.0..1e15 if self == Self::Bytes => format!(", {} per second", DecimalBytes(per_second as u64)),
            1.0..1e15 => format!(", {} per second", count(per_second as u64)),
            _ => String::new(),
        }
    }
}

/// The bars by subject: the id of a cohort, or `export` and its id.
#[derive(Default)]
struct ProgressBars(Mutex<BTreeMap<String, (BarUnit, ProgressBar)>>);

impl ProgressBars {
    fn update(&self, subject: &str, unit: BarUnit, update: impl FnOnce(&ProgressBar)) {
        let mut bars = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bars.get(subject).is_none_or(|(shown, _)| *shown != unit)
            && let Some(bar) = add(unit.bar().with_style(unit.style()).with_message(subject.to_owned()))
            && let Some((_, old)) = bars.insert(subject.to_owned(), (unit, bar))
        {
            old.finish_and_clear();
        }
        if let Some((_, bar)) = bars.get(subject) {
            update(bar);
        }
    }

    fn remove(&self, subject: &str) {
        let mut bars = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bar)) = bars.remove(subject) {
            bar.finish_and_clear();
        }
    }
}

/// `, 20 s left`. Empty before the rate is known.
fn left_text(left: Duration) -> String {
    if left.is_zero() { String::new() } else { format!(", {} left", duration_text(left)) }
}

impl Progress for ProgressBars {
    fn at(&self, cohort: &CohortId, stage: Stage, done: u64) {
        let unit = match stage {
            Stage::Reading => BarUnit::Rows,
            Stage::Sending { total } => BarUnit::Members { total },
        };
        self.update(cohort.as_str(), unit, |bar| bar.set_position(done));
    }

    fn finished(&self, cohort: &CohortId) {
        self.remove(cohort.as_str());
    }

    fn exporting(&self, export: &ExportId, done: ExportedAmount) {
        let ExportedAmount { events, bytes, bytes_found } = done;
        let unit = if bytes_found > 0 { BarUnit::Bytes } else { BarUnit::Events };
        self.update(&subject(export), unit, |bar| {
            bar.set_message(format!("{}: {} sent", subject(export), counted(events, "event")));
            match unit {
                BarUnit::Bytes => {
                    bar.set_length(bytes_found);
                    bar.set_position(bytes);
                }
                _ => bar.set_position(events),
            }
        });
    }

    fn export_finished(&self, export: &ExportId) {
        self.remove(&subject(export));
    }
}

/// A cohort may have the same id.
fn subject(export: &ExportId) -> String {
    format!("export {export}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_remaining_times_are_shown_once_they_are_known() {
        assert_eq!(BarUnit::Rows.rate_text(1_234.6), ", 1,234 per second");
        assert_eq!(BarUnit::Bytes.rate_text(1_234_567.8), ", 1.23 MB per second");
        assert_eq!(left_text(Duration::from_secs(150)), ", 2 min 30 s left");
        for unknown in [0.0, f64::NAN, f64::INFINITY] {
            assert_eq!(BarUnit::Events.rate_text(unknown), "");
        }
        assert_eq!(left_text(Duration::ZERO), "");
    }
}
