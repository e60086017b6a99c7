//! The leader's files: a changed config taken over or kept out, and sources that are others now.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::check::of_segment;
use super::exports::of_export;
use super::lead::Lead;
use super::notify::{Notifier, of_cohort};
use super::queue::Key;
use super::{Reach, settings};
use crate::config::{Config, Notable};
use crate::reconcile::{self, Links};

impl Lead {
    /// Nothing has changed in the folders for a while.
    pub(super) async fn settled(&mut self) {
        let noticed = self.sources.take();
        // Before anything is looked at: what changes after that is told of again.
        self.sources.watch(&self.config);
        if noticed.touches_config() {
            self.reread(false).await;
        }
        let now = Instant::now();
        for id in self.sources.changed(&self.config, Some(&noticed)) {
            self.queue.wake(id, now);
        }
        for id in self.sources.noticed_exports(&noticed) {
            self.exports.queue.wake(id, now);
        }
    }

    /// Reads the config again, if its text is another, or in any case. One that could not be used is read again
    /// whatever its text: it may have been read while it was written.
    pub(super) async fn reread(&mut self, in_any_case: bool) {
        let is_bad = self.shared.board.lock().config_error.is_some();
        if !self.sources.config_has_changed(&self.config) && !in_any_case && !is_bad {
            return;
        }
        let at = Arc::clone(&self.at);
        let read = tokio::task::block_in_place(|| at.config());
        self.shared.board.metrics.config_read(read.is_ok());
        let new = match read {
            Ok(new) => new,
            Err(problems) => return self.keep_config(problems),
        };
        // The same config with another secret in a file is another one.
        match self.at.reach(&new).await {
            Ok(reach) => self.use_config(new, reach),
            Err(missing) => self.keep_config(missing),
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

    pub(super) fn use_config(&mut self, new: Config, reach: Reach) {
        let old = std::mem::replace(&mut self.config, Arc::new(new));
        let config = Arc::clone(&self.config);
        let mut changed = settings::changed(&old, &config);
        let relinked = settings::relinked(&old, &config, &self.reach, &reach);
        let is_notified_alike = old.watch.notify == config.watch.notify
            && settings::same_secrets(&self.reach.notify, &reach.notify);
        self.reach = reach;
        self.sources.watch(&config);
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
        self.note_left_behind();
        self.shared.board.lock().needs_restart = restart;
        if !is_notified_alike {
            let (before, board) = (&self.notifier, &self.shared.board);
            self.notifier = Notifier::new(&config, &self.reach.notify, Some(before), board);
        }
        let segments = config.segments.iter().map(|segment| of_segment(&segment.id));
        let mut known: BTreeSet<String> = settings::cohorts(&config).map(of_cohort).chain(segments).collect();
        known.extend(config.exports.iter().map(|export| of_export(&export.id)));
        self.use_exports(&old);
        self.told.retain(|about| known.contains(about) || about == "config");
        self.tell("config", None, "the config is valid again");
        self.queue.retain(|key| match key {
            Key::Cohort(id) => settings::cohorts(&config).any(|known| known == id),
            Key::Segment(id) => config.segments.iter().any(|known| known.id == *id),
        });
        self.renew_segments(&old);
        self.folds.retain(|name, fold| config.heap.contains_key(name) || fold.is_running);
        // What was looked at on the way must not go unseen.
        changed.extend(self.sources.changed(&config, None));
        tracing::info!(
            changed = changed.len(),
            digest = &config.digest[..12.min(config.digest.len())],
            "another config is in use"
        );
        let now = Instant::now();
        changed.into_iter().for_each(|id| self.queue.wake(id, now));
    }

    /// Opens the doors of the config. What cannot be opened now is tried again with the next look at everything.
    pub(super) fn open_doors(&mut self) {
        let opened = self.inboxes.open(&self.config, &self.reach, &self.state, &self.shared.doors, &*self.at);
        self.has_doors = opened.is_ok();
        if let Err(error) = opened {
            tracing::error!("a door cannot be opened: {error}");
        }
    }

    pub(super) fn linked(&self, config: &Config) -> Result<Links, crate::connector::http::HttpError> {
        reconcile::link(config, &self.reach.access, self.at.clock())
    }
}
