//! Learning who is who from the sources of `identity:`, apart from the cohorts: they go on with what is known until
//! it is more. Only the first time, at the start, nobody is planned before it has been tried.

use std::sync::{Arc, Mutex, PoisonError};

use super::leader::{Leader, Task, WorkDone};
use super::on_thread;
use crate::config::Notable;
use crate::identity::{self, IdentityImport, ImportError};
use crate::state::{IdentityMap, StateError, StateWriter};

/// The identity map that exports and the sources of `identity:` share. The first that needs it opens it.
#[derive(Clone, Default)]
pub(super) struct SharedIdentity(Arc<Mutex<Option<Arc<Mutex<IdentityMap>>>>>);

impl SharedIdentity {
    /// Returns the map. The first call reads the state, so it must not run on the event loop.
    pub(super) fn open(&self, state: &Arc<StateWriter>) -> Result<Arc<Mutex<IdentityMap>>, StateError> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = &*map {
            return Ok(Arc::clone(map));
        }
        let opened = IdentityMap::open(state)?;
        Ok(Arc::clone(map.insert(Arc::new(Mutex::new(opened)))))
    }
}

/// What was learned.
pub(super) struct IdentityImports {
    /// By the path of the source.
    each: Vec<(String, Result<IdentityImport, ImportError>)>,
    /// The version of the map after that.
    version: Option<u64>,
}

impl Leader {
    /// Looks whether the sources have something new, and learns it.
    pub(super) fn start_learning(&mut self, is_first: bool) {
        if self.config.identity.is_empty() || self.exports.is_learning {
            return;
        }
        self.exports.is_learning = true;
        let turn = is_first.then(|| self.planning.hold_back()).flatten();
        let (config, stores, now) =
            (Arc::clone(&self.config), self.reach.secrets.stores.clone(), self.at.clock().now());
        let (state, shared) = (Arc::clone(&self.state), self.exports.identity.clone());
        let work = move || {
            let _turn = turn;
            let map = match shared.open(&state) {
                Ok(map) => map,
                Err(error) => {
                    tracing::warn!("identity sources cannot be read: {error}");
                    return IdentityImports { each: Vec::new(), version: None };
                }
            };
            let from = identity::from(&config, &stores);
            let learn = |source| identity::import_source(source, from, &map, now);
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
                    if lesson != IdentityImport::Unchanged {
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
