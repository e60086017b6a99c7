//! The leader's files: a changed config taken over or kept out, and sources that are others now.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::check::of_segment;
use super::endpoints::Opened;
use super::exports::of_export;
use super::leader::{Leader, Task, WorkDone};
use super::notify::{Notifier, of_cohort};
use super::queue::WorkKey;
use super::sources::{Files, Findings};
use super::{ClientAccess, WatchEnvironment, on_thread, settings};
use crate::config::{Config, Notable};
use crate::reconcile::{self, BrazeClients};

/// Whether the config is to be read once more, since it may have changed while it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadAgain {
    Yes,
    No,
}

async fn read_config(at: Arc<dyn WatchEnvironment>) -> Result<(Config, ClientAccess), String> {
    let reads = Arc::clone(&at);
    let read = on_thread(move || reads.config()).await;
    let new = read.unwrap_or_else(|| Err("the program ends".to_owned()))?;
    // The same config with another secret in a file is another one.
    let reach = at.reach(&new).await?;
    Ok((new, reach))
}

impl Leader {
    /// Surveys what has changed, on a thread of its own.
    pub(super) fn start_survey(&mut self) {
        let Some((mut files, changed)) = self.sources.begin() else { return };
        let config = Arc::clone(&self.config);
        self.spawn(Task::Survey, async move {
            let work = move || {
                let findings = files.survey(&config, &changed);
                (files, findings)
            };
            let surveyed = on_thread(work).await;
            let (files, findings) =
                surveyed.map_or((None, None), |(files, found)| (Some(files), Some(found)));
            WorkDone::Surveyed(files, findings.unwrap_or_default())
        });
    }

    /// A survey has ended.
    pub(super) fn surveyed(&mut self, files: Option<Files>, findings: Findings) {
        self.sources.surveyed(files);
        let now = Instant::now();
        // The config may be another one by now.
        let config = Arc::clone(&self.config);
        for id in findings.cohorts.into_iter().filter(|id| config.cohorts.iter().any(|known| known.id == *id))
        {
            self.queue.wake(id, now);
        }
        let (changed, missed) = findings.changed;
        for known in self.exports.known.values() {
            known.changed(&changed);
            if missed {
                known.all_changed();
            }
        }
        for id in findings.exports.into_iter().filter(|id| config.exports.iter().any(|known| known.id == *id))
        {
            self.exports.queue.wake(id, now);
        }
        if let Some(content) = findings.config_content {
            // A config that could not be used is read again whatever its text: it may have been read while it was
            // written.
            let is_bad = self.shared.board.lock().config_error.is_some();
            if self.sources.is_other_config(content) || is_bad {
                self.start_reading_config();
            }
        }
    }

    /// Reads the config and its secrets again, on a thread of its own.
    pub(super) fn start_reading_config(&mut self) {
        if self.reading_config.is_some() {
            self.reading_config = Some(ReadAgain::Yes);
            return;
        }
        self.reading_config = Some(ReadAgain::No);
        let at = Arc::clone(&self.at);
        self.spawn(Task::Config, async move { WorkDone::ConfigRead(Box::new(read_config(at).await)) });
    }

    /// The config was read.
    pub(super) fn config_read(&mut self, read: Result<(Config, ClientAccess), String>) {
        let again = self.reading_config.take();
        self.has_reread = true;
        self.shared.board.metrics.config_read(read.is_ok());
        match read {
            Ok((new, reach)) => self.use_config(new, reach),
            Err(problems) => self.keep_config(problems),
        }
        if again == Some(ReadAgain::Yes) {
            self.start_reading_config();
        }
    }

    /// The config on disk cannot be used: loudly, the last good one stays.
    pub(super) fn keep_config(&mut self, problems: String) {
        let known = self.shared.board.lock().config_error.clone();
        if known.as_ref().is_none_or(|(_, known)| *known != problems) {
            tracing::error!("the config cannot be used, and the last good one stays in use");
            problems.lines().for_each(|problem| tracing::error!("{problem}"));
        }
        self.tell(
            "config",
            Some(Notable::Failure),
            &format!("the config cannot be used: {}", problems.replace('\n', "; ")),
        );
        let since = known.map_or_else(|| self.at.clock().now(), |(since, _)| since);
        self.shared.board.lock().config_error = Some((since, problems));
    }

    pub(super) fn use_config(&mut self, new: Config, reach: ClientAccess) {
        let old = std::mem::replace(&mut self.config, Arc::new(new));
        let config = Arc::clone(&self.config);
        let had = std::mem::replace(&mut self.reach, reach);
        let mut changed = settings::changed(&old, &config, &had, &self.reach);
        let relinked = settings::relinked(&old, &config, &had, &self.reach);
        let is_notified_alike = old.watch.notify == config.watch.notify
            && settings::same_secrets(&had.notify, &self.reach.notify);
        self.links.retain(|name, _| !relinked.contains(name) && config.braze.contains_key(name));
        match self.linked(&config) {
            // Those that are there already know of the rate limit.
            Ok(links) => {
                for (name, link) in links {
                    self.links.entry(name).or_insert(link);
                }
            }
            Err(error) => tracing::error!("{error}"),
        }
        let sent_anew = config.cohorts.iter().filter(|cohort| relinked.contains(&cohort.to));
        changed.extend(sent_anew.map(|cohort| cohort.id.clone()));
        self.open_doors();
        // What waits behind a door that is new, and pages that are waited for in another way now.
        for (name, _) in config.heap.iter().filter(|(name, heap)| old.heap.get(*name) != Some(*heap)) {
            self.folds.entry(name.clone()).or_default().due = Some(Instant::now());
        }
        if let (Some(certificate), Some(files)) = (&self.shared.certificate, &config.watch.tls)
            && let Err(error) = certificate.reread(files)
        {
            tracing::error!("the old certificate stays in use: {error}");
        }
        let restart = settings::needs_restart(&self.first, &config);
        if !restart.is_empty() {
            tracing::warn!("a change of {} needs a restart", restart.join(", "));
        }
        self.shared.board.configured(&config);
        self.note_orphaned();
        self.shared.board.lock().needs_restart = restart;
        if !is_notified_alike {
            let (before, board) = (&self.notifier, &self.shared.board);
            self.notifier = Notifier::new(&config, &self.reach.notify, Some(before), board);
        }
        let segments = config.segments.iter().map(|segment| of_segment(&segment.id));
        let mut known: BTreeSet<String> = settings::cohorts(&config).map(of_cohort).chain(segments).collect();
        known.extend(config.exports.iter().map(|export| of_export(&export.id)));
        self.use_exports(&old, &had);
        if old.identity != config.identity {
            self.start_learning(false);
        }
        self.told.retain(|about| known.contains(about) || about == "config");
        self.tell("config", None, "the config is valid again");
        self.queue.retain(|key| match key {
            WorkKey::Cohort(id) => settings::cohorts(&config).any(|known| known == id),
            WorkKey::Segment(id) => config.segments.iter().any(|known| known.id == *id),
        });
        self.renew_segments(&old);
        self.folds.retain(|name, fold| config.heap.contains_key(name) || fold.is_running);
        // Other files are watched now, and what changed on the way must not go unseen.
        self.sources.notice_all();
        tracing::info!(
            changed = changed.len(),
            digest = &config.digest[..12.min(config.digest.len())],
            "another config is in use"
        );
        let now = Instant::now();
        changed.into_iter().for_each(|id| self.queue.wake(id, now));
    }

    /// Opens the endpoints of the config: those that have an inbox at once, the others when a task has opened it. What
    /// cannot be opened now is tried again with the next poll.
    pub(super) fn open_doors(&mut self) {
        self.inboxes.serve(&self.config, &self.reach, &self.shared.doors);
        if self.opening_doors.is_some() {
            self.opening_doors = Some(ReadAgain::Yes);
            return;
        }
        let missing = self.inboxes.missing(&self.config);
        self.has_doors = missing.is_empty();
        if self.has_doors {
            return;
        }
        self.opening_doors = Some(ReadAgain::No);
        let (state, clock) = (Arc::clone(&self.state), self.at.clock());
        self.spawn(Task::Doors, async move {
            WorkDone::DoorsOpened(on_thread(move || missing.open(&state, clock)).await.unwrap_or_default())
        });
    }

    /// Inboxes were opened: what waits in them is used, and their endpoints take deliveries.
    pub(super) fn doors_opened(&mut self, mut opened: Opened) {
        if let Some(error) = opened.failed.take() {
            tracing::error!("an endpoint cannot be opened: {error}");
        }
        let now = Instant::now();
        let (heaps, exports): (Vec<_>, Vec<_>) =
            (opened.heaps.keys().cloned().collect(), opened.exports.keys().cloned().collect());
        self.inboxes.add(opened);
        self.inboxes.serve(&self.config, &self.reach, &self.shared.doors);
        for name in heaps.into_iter().filter(|name| self.config.heap.contains_key(name)) {
            self.folds.entry(name).or_default().due = Some(now);
        }
        let config = Arc::clone(&self.config);
        for id in exports.into_iter().filter(|id| config.exports.iter().any(|export| export.id == *id)) {
            self.exports.queue.wake(id, now);
        }
        self.has_doors = self.inboxes.missing(&self.config).is_empty();
        if self.opening_doors.take() == Some(ReadAgain::Yes) && !self.has_doors {
            self.open_doors();
        }
    }

    pub(super) fn linked(&self, config: &Config) -> Result<BrazeClients, crate::connector::http::HttpError> {
        reconcile::connect_braze(config, &self.reach.access, self.at.clock())
    }
}
