//! Imports of identity sources. Cohort runs and export runs continue with the current identity map during an import. Only
//! the first import delays all plans.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedRwLockWriteGuard;

use super::context::LeaderContext;
use super::environment::on_thread;
use super::notify::{NotificationSubject, Notifications};
use crate::config::Notable;
use crate::contained::Panicked;
use crate::identity::{self, IdentityImport, ImportError};
use crate::state::{IdentityMap, StateError, StateWriter};

/// The identity map, shared by exports and imports. The first user opens it.
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

/// Starts imports, one at a time.
#[derive(Default)]
pub(super) struct IdentityImports {
    map: SharedIdentity,
    is_running: bool,
    /// The last error of each source, by its path.
    errors: BTreeMap<String, String>,
}

/// The result of an import of all sources.
#[derive(Default)]
pub(super) struct ImportEnd {
    /// By the path of the source.
    results: Vec<(String, Result<IdentityImport, ImportError>)>,
    /// The version of the map after it.
    version: Option<u64>,
}

/// What follows from an import.
pub(super) struct ImportOutcome {
    /// The map has changed.
    pub(super) is_changed: bool,
    pub(super) version: Option<u64>,
    pub(super) is_lease_lost: bool,
}

impl IdentityImports {
    /// The map, for exports.
    pub(super) fn map(&self) -> &SharedIdentity {
        &self.map
    }

    /// Opens the map again before its next use: a panic may have left it half changed in memory. The committed map in the
    /// state is complete.
    pub(super) fn reset_map(&mut self) {
        self.map = SharedIdentity::default();
    }

    /// Starts an import, if the config has sources and none is running. `pause` delays all plans until its end.
    pub(super) fn start(
        &mut self,
        context: &LeaderContext,
        pause: Option<OwnedRwLockWriteGuard<()>>,
    ) -> Option<impl Future<Output = ImportEnd> + Send + use<>> {
        if context.config.identity.is_empty() || std::mem::replace(&mut self.is_running, true) {
            return None;
        }
        let (config, stores, now) =
            (Arc::clone(&context.config), context.access.sources.stores.clone(), context.clock.now());
        let (state, shared) = (Arc::clone(&context.state), self.map.clone());
        let work = move || {
            let _pause = pause;
            let map = match shared.open(&state) {
                Ok(map) => map,
                Err(error) => {
                    tracing::warn!("cannot import identity sources: {error}");
                    return ImportEnd::default();
                }
            };
            let from = identity::from(&config, &stores);
            let import = |source| identity::import_source(source, from, &map, now);
            let results = config.identity.iter().map(|source| (source.path().to_owned(), import(source)));
            let results: Vec<_> = results.collect();
            if results.iter().any(|(_, result)| is_new(result)) {
                let map = map.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = state.tidy_identity(&map, now) {
                    tracing::warn!("cannot compact the identity map: {error}");
                }
            }
            ImportEnd { results, version: state.reader().identity_version().ok() }
        };
        Some(async move { on_thread(work).await.unwrap_or_default() })
    }

    /// Logs and notifies the results.
    pub(super) fn finish(&mut self, ended: ImportEnd, notifications: &mut Notifications) -> ImportOutcome {
        self.is_running = false;
        let is_changed = ended.results.iter().any(|(_, result)| is_new(result));
        let mut is_lease_lost = false;
        for (path, result) in ended.results {
            let subject = NotificationSubject::Identity(path.clone());
            match result {
                Ok(import) => {
                    if import != IdentityImport::Unchanged {
                        tracing::info!(source = path, "identities imported");
                    }
                    self.errors.remove(&path);
                    notifications.recovered(subject, "imported again");
                }
                Err(error) => {
                    is_lease_lost |= matches!(error, ImportError::State(StateError::LeaseLost));
                    let reason =
                        format!("cannot import identities from {path}; the imported ones stay: {error}");
                    // Logged once, not with each poll.
                    if self.errors.insert(path, reason.clone()).as_ref() != Some(&reason) {
                        tracing::warn!("{reason}");
                    }
                    notifications.problem(subject, Notable::Failure, &reason);
                }
            }
        }
        ImportOutcome { is_changed, version: ended.version, is_lease_lost }
    }

    /// An import panicked.
    pub(super) fn panicked(&mut self, panicked: &Panicked) {
        self.reset_map();
        self.is_running = false;
        tracing::warn!("cannot import identity sources: {panicked}");
    }
}

fn is_new(result: &Result<IdentityImport, ImportError>) -> bool {
    matches!(result, Ok(IdentityImport::Dumps(_) | IdentityImport::Files(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contained::contained;
    use crate::watch::cohort_run::PlanTurns;
    use crate::watch::watch_fixture::{WatchFixture, advance};

    /// One identity source, which maps devices to external ids.
    const CONFIG: &str = "version: 1
connections:
  braze: { kind: braze, instance: sandbox }
identity:
  - { kind: file, path: ids.csv, external_id: user, device_id: device }
";
    /// From the epoch to a time after that of every file.
    const LATER: u64 = 4_000_000_000;

    /// A file of the source that has not changed for long.
    fn settled() -> WatchFixture {
        let fixture = WatchFixture::of(CONFIG);
        fixture.write("ids.csv", "user,device\nu1,d1\n");
        advance(LATER);
        fixture
    }

    /// Runs an import to its end.
    async fn import(imports: &mut IdentityImports, fixture: &mut WatchFixture) -> ImportOutcome {
        let import = imports.start(&fixture.context, None).unwrap();
        imports.finish(import.await, &mut fixture.notifications)
    }

    fn problem(fixture: &WatchFixture) -> Option<Notable> {
        fixture.notifications.problem_of(&NotificationSubject::Identity("ids.csv".to_owned()))
    }

    #[test]
    fn without_sources_no_import_starts() {
        let (mut imports, fixture) = (IdentityImports::default(), WatchFixture::new());
        assert!(imports.start(&fixture.context, None).is_none());
        assert!(!imports.is_running);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_source_is_imported_once_until_it_changes() {
        let (mut imports, mut fixture) = (IdentityImports::default(), settled());
        let first = import(&mut imports, &mut fixture).await;
        assert!(first.is_changed && !first.is_lease_lost);
        let again = import(&mut imports, &mut fixture).await;
        assert_eq!((again.is_changed, again.version), (false, first.version), "the file is the same");
        fixture.write("ids.csv", "user,device\nu1,d1\nu2,d2\n");
        let changed = import(&mut imports, &mut fixture).await;
        assert!(changed.is_changed && changed.version > first.version);
        assert_eq!(problem(&fixture), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_import_runs_at_a_time() {
        let (mut imports, mut fixture) = (IdentityImports::default(), settled());
        let running = imports.start(&fixture.context, None).unwrap();
        assert!(imports.start(&fixture.context, None).is_none());
        imports.finish(running.await, &mut fixture.notifications);
        assert!(imports.start(&fixture.context, None).is_some());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn plans_wait_for_the_end_of_the_first_import() {
        let (mut imports, fixture) = (IdentityImports::default(), settled());
        let turns = PlanTurns::default();
        let pause = turns.pause();
        let running = imports.start(&fixture.context, pause).unwrap();
        assert!(turns.pause().is_none(), "it is paused");
        running.await;
        assert!(turns.pause().is_some());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_source_that_cannot_be_read_is_a_problem_until_it_is_imported() {
        let (mut imports, mut fixture) = (IdentityImports::default(), WatchFixture::of(CONFIG));
        let failed = import(&mut imports, &mut fixture).await;
        assert!(!failed.is_changed && !failed.is_lease_lost);
        assert_eq!(problem(&fixture), Some(Notable::Failure));
        assert!(imports.errors["ids.csv"].contains("the imported ones stay"), "{:?}", imports.errors);
        fixture.write("ids.csv", "user,device\nu1,d1\n");
        assert!(import(&mut imports, &mut fixture).await.is_changed);
        assert_eq!((problem(&fixture), imports.errors.len()), (None, 0));
    }

    #[test]
    fn a_lost_lease_is_returned() {
        let (mut imports, mut fixture) = (IdentityImports::default(), WatchFixture::of(CONFIG));
        let results = vec![("ids.csv".to_owned(), Err(ImportError::State(StateError::LeaseLost)))];
        let outcome = imports.finish(ImportEnd { results, version: None }, &mut fixture.notifications);
        assert!(outcome.is_lease_lost && !outcome.is_changed);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn after_a_panic_the_map_is_opened_again_and_an_import_can_start() {
        let (mut imports, mut fixture) = (IdentityImports::default(), settled());
        let before = imports.map().open(&fixture.context.state).unwrap();
        let same = imports.map().open(&fixture.context.state).unwrap();
        assert!(Arc::ptr_eq(&before, &same), "it is shared");
        drop(imports.start(&fixture.context, None));
        imports.panicked(&contained::<()>(|| panic!("a bug")).unwrap_err());
        let after = imports.map().open(&fixture.context.state).unwrap();
        assert!(!Arc::ptr_eq(&before, &after));
        assert!(import(&mut imports, &mut fixture).await.is_changed);
    }
}
