//! Progress bars on a terminal, for long work.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::global_args::OutputFormat;
use super::{environment, output};
use crate::model::{Clock, CohortId, NoProgress, Progress, Stage};

/// Work that ends sooner than this is not shown.
const QUIET: Duration = Duration::from_millis(500);

/// Progress bars on a terminal; no output elsewhere.
pub(super) fn progress(format: OutputFormat) -> Arc<dyn Progress> {
    if format == OutputFormat::Human && output::is_watched() {
        Arc::new(ProgressBars::new())
    } else {
        Arc::new(NoProgress)
    }
}

struct ProgressBars {
    clock: Clock,
    began: Instant,
    all: MultiProgress,
    bars: Mutex<BTreeMap<CohortId, (Stage, ProgressBar)>>,
}

impl ProgressBars {
    fn new() -> Self {
        let (clock, bars) = (environment::clock(), Mutex::new(BTreeMap::new()));
        Self { clock, began: clock.monotonic(), all: MultiProgress::new(), bars }
    }

    fn bar(&self, cohort: &CohortId, stage: Stage) -> ProgressBar {
        let (bar, template) = match stage {
            Stage::Reading => (ProgressBar::new_spinner(), "{spinner} {msg}: {human_pos} rows read"),
            Stage::Sending { total } => {
                (ProgressBar::new(total), "{bar:24} {msg}: {human_pos} of {human_len} sent")
            }
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.all.add(bar).with_style(style).with_message(cohort.to_string())
    }
}

impl Progress for ProgressBars {
    fn at(&self, cohort: &CohortId, stage: Stage, done: u64) {
        if self.clock.monotonic().saturating_duration_since(self.began) < QUIET {
            return;
        }
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        if bars.get(cohort).is_none_or(|(shown, _)| *shown != stage)
            && let Some((_, old)) = bars.insert(cohort.clone(), (stage, self.bar(cohort, stage)))
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
