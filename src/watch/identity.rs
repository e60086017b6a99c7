//! Learning who is who from the sources of `identity:`, apart from the cohorts: they go on with what is known until
//! it is more. Only the first time, at the start, nobody is planned before it has been tried.

use std::sync::{Arc, Mutex, PoisonError};

use super::lead::{Leader, Task, WorkDone};
use super::on_thread;
use crate::config::Notable;
use crate::identity::{self, IdentityImport, ImportError};
use crate::state::{IdentityMap, StateError};

/// What was learned.
pub(super) struct IdentityImports {
    /// By the path of the source.
    each: Vec<(String, Result<IdentityImport, ImportError>)>,
    /// The version of the map after that.
    version: Option<u64>,
}

impl Leader {
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
        let turn = is_first.then(|| self.planning.hold_back()).flatten();
        let (config, stores, now) =
            (Arc::clone(&self.config), self.reach.secrets.stores.clone(), self.at.clock().now());
        let state = Arc::clone(&self.state);
        let work = move || {
            let _turn = turn;
            let from = identity::from(&config, &stores);
            let learn = |source| identity::learn(source, from, &map, now);
            let each = config.identity.iter().map(|source| (source.path().to_owned(), learn(source)));
            let each: Vec<_> = each.collect();
            if each.iter().any(|(_, lesson)| is_new(lesson)) {
                let map = map.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = state.tidy_identity(&map, now) {
                    tracing::warn!("the identity map could not be tidied: {error}");
                }
            }
            IdentityImports { each, version: state.reader().identity_version().ok() }
        };
        self.spawn(Task::Learning, async move {
            let ended = || IdentityImports { each: Vec::new(), version: None };
            WorkDone::Learned(on_thread(work).await.unwrap_or_else(ended))
        });
    }

    /// Learning has ended.
    pub(super) fn learned(&mut self, IdentityImports { each, version }: IdentityImports) {
        self.exports.is_learning = false;
        let is_more = each.iter().any(|(_, lesson)| is_new(lesson));
        for (path, lesson) in each {
            let about = format!("identity {path}");
            match lesson {
                Ok(lesson) => {
                    if lesson != IdentityImport::NothingNew {
                        tracing::info!(source = path, "learned who is who");
                    }
                    self.exports.unlearned.remove(&path);
                    self.tell(&about, None, "read again");
                }
                Err(error) => {
                    self.is_lost |= matches!(error, ImportError::State(StateError::Lost));
                    let why =
                        format!("who is who cannot be learned from {path}; what was known stays: {error}");
                    // Said once, and not with every look.
                    if self.exports.unlearned.insert(path, why.clone()).as_ref() != Some(&why) {
                        tracing::warn!("{why}");
                    }
                    self.tell(&about, Some(Notable::Failure), &why);
                }
            }
        }
        if is_more {
            self.wake_who_may_move(version);
            self.wake_exports();
        }
    }
}

fn is_new(lesson: &Result<IdentityImport, ImportError>) -> bool {
    matches!(lesson, Ok(IdentityImport::Dumps(_) | IdentityImport::Files(_)))
}
