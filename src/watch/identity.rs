//! Learning who is who from the sources of `identity:`, apart from the cohorts: they go on with what is known until
//! it is more. Only the first time, at the start, nobody is planned before it has been tried.

use std::sync::{Arc, Mutex};

use super::lead::{Done, Lead};
use crate::config::Notable;
use crate::identity::{self, Lesson, TeachError};
use crate::state::{IdentityMap, StateError};

/// What each source has taught, by its path.
pub(super) type Lessons = Vec<(String, Result<Lesson, TeachError>)>;

impl Lead {
    /// The map, which exports and this share.
    pub(super) fn identity_map(&mut self) -> Result<Arc<Mutex<IdentityMap>>, StateError> {
        if let Some(identity) = &self.exports.identity {
            return Ok(Arc::clone(identity));
        }
        let opened = tokio::task::block_in_place(|| IdentityMap::open(&self.state))?;
        Ok(Arc::clone(self.exports.identity.insert(Arc::new(Mutex::new(opened)))))
    }

    /// Looks whether the sources have something new, and learns it.
    pub(super) fn start_learning(&mut self, is_first: bool) {
        if self.config.identity.is_empty() || self.exports.is_learning {
            return;
        }
        let map = match self.identity_map() {
            Ok(map) => map,
            Err(error) => return tracing::warn!("who is who cannot be learned: {error}"),
        };
        self.exports.is_learning = true;
        let turn = is_first.then(|| Arc::clone(&self.planning).try_acquire_owned().ok()).flatten();
        let (config, stores, now) =
            (Arc::clone(&self.config), self.reach.secrets.stores.clone(), self.at.clock().now());
        self.tasks.spawn_blocking(move || {
            let _turn = turn;
            let from = identity::from(&config, &stores);
            let learn = |source| identity::learn(source, from, &map, now);
            Done::Learned(
                config.identity.iter().map(|source| (source.path().to_owned(), learn(source))).collect(),
            )
        });
    }

    /// Learning has ended.
    pub(super) fn learned(&mut self, lessons: Lessons) {
        self.exports.is_learning = false;
        for (path, lesson) in lessons {
            let about = format!("identity {path}");
            match lesson {
                Ok(lesson) => {
                    if lesson != Lesson::NothingNew {
                        tracing::info!(source = path, "learned who is who");
                    }
                    self.tell(&about, None, "read again");
                }
                Err(error) => {
                    self.is_lost |= matches!(error, TeachError::State(StateError::Lost));
                    let why =
                        format!("who is who cannot be learned from {path}; what was known stays: {error}");
                    tracing::warn!("{why}");
                    self.tell(&about, Some(Notable::Failure), &why);
                }
            }
        }
        self.wake_who_may_move();
        self.wake_exports();
    }
}
