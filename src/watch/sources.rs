//! Changes of the files of the config, of cohorts and of exports, as the operating system reports them or polling finds
//! them.
//!
//! A survey runs on its own thread. Its cost depends on what changed: a change of one source does not list the folders
//! of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use xxhash_rust::xxh3::Xxh3;

use super::files::{ChangedPaths, FolderWatch, PathChanges, PathTrace};
use crate::config::{
    AppId, Config, ExportConfig, ExportSource, FileSource, SecretRef, StorageLocation, StorageSource,
};
use crate::connector::file::{self, FileFingerprint};
use crate::file_glob::Glob;
use crate::model::{Clock, CohortId, ExportId};

/// A folder that is never quiet is surveyed after this many debounce times.
const DEBOUNCES_MAX: u32 = 8;
/// The wait after a survey that panicked.
const RETRY_WAIT: Duration = Duration::from_secs(30);
/// The number of watched folders below one export.
const FOLDERS_MAX: usize = 2_000;

/// Collects changes until a survey takes them.
pub(super) struct SourceWatch {
    clock: Clock,
    /// Notified when a watched folder has changed.
    wakeup: Arc<Notify>,
    reported: Arc<ChangedPaths>,
    changed: PathChanges,
    /// When the first change was noticed, and when the survey is due.
    settling: Option<(Instant, Instant)>,
    config_content: u128,
    /// None while a survey has it.
    files: Option<WatchedFiles>,
}

/// The results of the last survey, and the watch on its folders.
pub(super) struct WatchedFiles {
    watch: FolderWatch,
    config: Vec<PathTrace>,
    cohorts: BTreeMap<CohortId, PathTrace>,
    exports: BTreeMap<ExportId, ExportFiles>,
    /// None: the files could not be read.
    fingerprints: BTreeMap<CohortId, Option<FileFingerprint>>,
}

/// The folder of an export.
struct ExportFiles {
    root: PathBuf,
    trace: PathTrace,
    /// It and the folders below it, up to [`FOLDERS_MAX`].
    folders: FolderTimes,
}

/// Folders with their modification times. None: the folder could not be read.
type FolderTimes = BTreeMap<PathBuf, Option<SystemTime>>;

/// The changes that a survey found.
#[derive(Debug, Default)]
pub(super) struct SurveyFindings {
    /// Cohorts with other files than in the previous survey.
    pub(super) cohorts: Vec<CohortId>,
    /// Exports with changes in their folders.
    pub(super) exports: Vec<ExportId>,
    /// The changed paths that the system reported, and whether others may be missing.
    pub(super) changed: (BTreeSet<PathBuf>, bool),
    /// The hash of the config's files, if one of them may have changed.
    pub(super) config_content: Option<u128>,
}

impl SourceWatch {
    /// `config_content` is the hash of the config's files when it was read.
    pub(super) fn new(config_content: u128, clock: Clock) -> Self {
        let (wakeup, reported) = (Arc::new(Notify::new()), Arc::new(ChangedPaths::default()));
        let files = Some(WatchedFiles::new(&wakeup, &reported));
        let (changed, settling) = (PathChanges::default(), None);
        Self { clock, wakeup, reported, changed, settling, config_content, files }
    }

    /// Waits for a change in a watched folder.
    pub(super) async fn changed(&self) {
        self.wakeup.notified().await;
    }

    /// The last hash of the config's files.
    pub(super) fn config_content(&self) -> u128 {
        self.config_content
    }

    /// Takes the reported changes. The survey is due when no change has followed for `debounce`.
    pub(super) fn notice(&mut self, debounce: Duration) {
        self.changed.add(self.reported.take());
        let now = self.clock.monotonic();
        let since = self.settling.map_or(now, |(since, _)| since);
        self.settling = Some((since, (now + debounce).min(since + debounce * DEBOUNCES_MAX)));
    }

    /// Makes a survey of all files due now.
    pub(super) fn notice_all(&mut self) {
        self.changed.all = true;
        let now = self.clock.monotonic();
        self.settling = Some((now, now));
    }

    /// When the next survey is due. None while a survey is running: changes during it wait for its end.
    pub(super) fn next_survey(&self) -> Option<Instant> {
        self.settling.filter(|_| self.files.is_some()).map(|(_, at)| at)
    }

    /// Begins a survey, if none is running. The caller returns the files with [`Self::finish`].
    pub(super) fn begin(&mut self) -> Option<(WatchedFiles, PathChanges)> {
        let files = self.files.take()?;
        self.settling = None;
        Some((files, std::mem::take(&mut self.changed)))
    }

    /// Ends a survey. Without its files, the next survey covers everything.
    pub(super) fn finish(&mut self, files: Option<WatchedFiles>) {
        if files.is_none() {
            self.changed.all = true;
            let now = self.clock.monotonic();
            self.settling = Some((now, now + RETRY_WAIT));
        }
        self.files = Some(files.unwrap_or_else(|| WatchedFiles::new(&self.wakeup, &self.reported)));
    }

    /// Sets the hash of the config's files. Returns whether it has changed.
    pub(super) fn set_config_content(&mut self, content: u128) -> bool {
        std::mem::replace(&mut self.config_content, content) != content
    }
}

impl WatchedFiles {
    fn new(wakeup: &Arc<Notify>, reported: &Arc<ChangedPaths>) -> Self {
        Self {
            watch: FolderWatch::new(Arc::clone(wakeup), Arc::clone(reported)),
            config: Vec::new(),
            cohorts: BTreeMap::new(),
            exports: BTreeMap::new(),
            fingerprints: BTreeMap::new(),
        }
    }

    /// Finds the cohorts, exports and config files that the changes affect. It blocks.
    pub(super) fn survey(&mut self, config: &Config, changed: &PathChanges) -> SurveyFindings {
        let is_affected = |traces: &[PathTrace]| traces.iter().any(|trace| trace.is_affected_by(changed));
        let is_config_affected = changed.all || is_affected(&self.config);
        let cohorts = self.affected_cohorts(config, changed);
        let exports = self.affected_exports(config, changed);
        // The watch begins before the files are read, so that later changes are reported again.
        if is_config_affected {
            self.config = traces_of_config(config);
        }
        self.watch.renew(changed);
        self.watch.set(self.folders());
        SurveyFindings {
            config_content: is_config_affected.then(|| content(config)),
            cohorts: self.changed_cohorts(config, &cohorts),
            changed: (changed.paths.clone(), changed.is_incomplete),
            exports,
        }
    }

    fn folders(&self) -> BTreeSet<PathBuf> {
        let of_config = self.config.iter().flat_map(|trace| &trace.folders);
        let of_cohorts = self.cohorts.values().flat_map(|trace| &trace.folders);
        let of_exports =
            self.exports.values().flat_map(|files| files.trace.folders.iter().chain(files.folders.keys()));
        of_config.chain(of_cohorts).chain(of_exports).cloned().collect()
    }

    /// The cohorts with possibly changed files. Links may have changed too, so each path is resolved again.
    fn affected_cohorts(&mut self, config: &Config, changed: &PathChanges) -> BTreeSet<CohortId> {
        let mut affected = BTreeSet::new();
        let mut before = std::mem::take(&mut self.cohorts);
        for cohort in &config.cohorts {
            // Without watched files, the cohort runs by its schedule.
            let Some(path) = cohort.source.watched_path() else { continue };
            let trace = before.remove(&cohort.id).filter(|trace| !trace.is_affected_by(changed));
            let trace = trace.unwrap_or_else(|| {
                affected.insert(cohort.id.clone());
                PathTrace::of_glob(&config.folder, path)
            });
            self.cohorts.insert(cohort.id.clone(), trace);
        }
        affected
    }

    /// The exports with changes in their folders. Only new folders are listed.
    fn affected_exports(&mut self, config: &Config, changed: &PathChanges) -> Vec<ExportId> {
        let mut affected = Vec::new();
        let mut before = std::mem::take(&mut self.exports);
        for export in &config.exports {
            let Some(root) = folder_of(export) else { continue };
            let root = std::path::absolute(&root).unwrap_or(root);
            let mut old = before.remove(&export.id);
            let files = old.take_if(|files| files.root == root && !files.trace.is_affected_by(changed));
            let files = match files {
                None => {
                    affected.push(export.id.clone());
                    let trace = PathTrace::of(&root);
                    let folders = old.map(|files| files.folders).unwrap_or_default();
                    let folders = folder_tree(&target_of(&trace, &root), &folders);
                    ExportFiles { root, trace, folders }
                }
                Some(mut files) => {
                    let is_below = |path: &&PathBuf| {
                        path.parent().is_some_and(|parent| files.folders.contains_key(parent))
                    };
                    let below: Vec<&PathBuf> = changed.paths.iter().filter(is_below).collect();
                    if !below.is_empty() {
                        affected.push(export.id.clone());
                    }
                    for folder in below.into_iter().filter(|path| path.is_dir()) {
                        if files.folders.len() < FOLDERS_MAX {
                            files.folders.extend(folder_tree(folder, &FolderTimes::new()));
                        }
                    }
                    files
                }
            };
            self.exports.insert(export.id.clone(), files);
        }
        affected
    }

    /// Returns the cohorts among `affected` with other files than before.
    fn changed_cohorts(&mut self, config: &Config, affected: &BTreeSet<CohortId>) -> Vec<CohortId> {
        let mut changed = Vec::new();
        self.fingerprints.retain(|id, _| self.cohorts.contains_key(id));
        for cohort in config.cohorts.iter().filter(|cohort| affected.contains(&cohort.id)) {
            let Some(path) = cohort.source.watched_path() else { continue };
            let from = file::FileAccess { folder: &config.folder, roots: &config.roots, stores: &[] };
            let fingerprint = file::fingerprint(&FileSource::new(path.to_owned()), from).ok();
            if self.fingerprints.get(&cohort.id) != Some(&fingerprint) {
                self.fingerprints.insert(cohort.id.clone(), fingerprint);
                changed.push(cohort.id.clone());
            }
        }
        changed
    }
}

/// The target of a folder, with all links resolved.
fn target_of(trace: &PathTrace, root: &Path) -> PathBuf {
    let is_no_link = |point: &&PathBuf| std::fs::symlink_metadata(point).is_ok_and(|found| found.is_dir());
    trace.points.iter().find(is_no_link).cloned().unwrap_or_else(|| root.to_owned())
}

/// Traces of the config's files and secrets, and of the globs under `include:`.
fn traces_of_config(config: &Config) -> Vec<PathTrace> {
    let files = config_files(config).into_iter().map(|path| PathTrace::of(&path));
    files.chain(config.includes.iter().map(|pattern| PathTrace::of_glob(&config.folder, pattern))).collect()
}

/// The folder that an export reads. None: it reads a bucket or an endpoint.
fn folder_of(export: &ExportConfig) -> Option<PathBuf> {
    match &export.source {
        ExportSource::Storage(StorageSource { location: StorageLocation::Folder { path, .. }, .. }) => {
            Some(path.clone())
        }
        ExportSource::Storage(_) | ExportSource::Http(_) => None,
    }
}

/// A folder and the folders below it, up to [`FOLDERS_MAX`]; polling finds changes in the others. A folder with the same
/// modification time as before has the same folders, so it is not listed again.
fn folder_tree(folder: &Path, before: &FolderTimes) -> FolderTimes {
    let (mut found, mut open) = (FolderTimes::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop().filter(|_| found.len() < FOLDERS_MAX) {
        let modified = std::fs::metadata(&folder).and_then(|meta| meta.modified()).ok();
        if modified.is_some() && before.get(&folder) == Some(&modified) {
            let below = before.range(folder.clone()..).map(|(path, _)| path);
            let below = below.take_while(|path| path.starts_with(&folder));
            open.extend(below.filter(|path| path.parent() == Some(&folder)).cloned());
        } else {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    open.push(entry.path());
                }
            }
        }
        found.insert(folder, modified);
    }
    found
}

/// The files of the config, with its secret files.
fn config_files(config: &Config) -> Vec<PathBuf> {
    let mut files = config.files.clone();
    let mut add = |secret: &SecretRef| {
        if let SecretRef::File(path) = secret {
            files.push(path.clone());
        }
    };
    let keys = config.braze.values().filter_map(|braze| braze.keys.as_ref());
    keys.flat_map(|keys| [&keys.data_import, &keys.partner_api]).for_each(&mut add);
    config.braze.values().filter_map(|braze| braze.rest_key.as_ref()).for_each(&mut add);
    config.heap.values().flat_map(|heap| &heap.webhook_secrets).for_each(&mut add);
    config.sql.values().flat_map(crate::config::SqlConfig::secrets).for_each(|(_, secret)| add(secret));
    for heap in config.heap.values() {
        if let Some(AppId::Ref(secret)) = &heap.app_id {
            add(secret);
        }
    }
    for export in &config.exports {
        if let ExportSource::Http(source) = &export.source {
            source.tokens.iter().for_each(&mut add);
        }
    }
    config.watch.notify.iter().for_each(|notify| add(&notify.url));
    files.extend(config.watch.tls.iter().flat_map(|tls| [tls.certificate.clone(), tls.key.clone()]));
    files
}

/// Hash of all files of a config. Never 0, which means unknown.
pub(super) fn content(config: &Config) -> u128 {
    // An invalid pattern is reported when the config is read.
    let globs = config.includes.iter().filter_map(|pattern| Glob::path(pattern).ok());
    let included = globs.filter_map(|glob| glob.find(&config.folder).ok());
    let mut files: BTreeSet<PathBuf> = included.flat_map(|found| found.files).collect();
    files.extend(config_files(config));
    let mut hasher = Xxh3::new();
    for path in files {
        let bytes = std::fs::read(&path).unwrap_or_default();
        hasher.update(path.as_os_str().as_encoded_bytes());
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    hasher.digest128().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_folder_is_not_listed_again() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        std::fs::create_dir_all(at("a/b/c")).unwrap();
        std::fs::create_dir_all(at("a.b")).unwrap();
        let first = folder_tree(home.path(), &FolderTimes::new());
        assert_eq!(first.len(), 5);
        assert_eq!(folder_tree(home.path(), &first), first);
        // A folder that is missing in `before` stays missing: its parent is not listed.
        let mut before = first.clone();
        before.remove(&at("a/b/c"));
        assert_eq!(folder_tree(home.path(), &before), before);
        before.insert(at("a/b"), None);
        assert_eq!(folder_tree(home.path(), &before), first, "its modification time differs");
        std::fs::remove_dir_all(at("a")).unwrap();
        assert_eq!(
            folder_tree(home.path(), &first).into_keys().collect::<Vec<_>>(),
            [home.path().to_owned(), at("a.b")]
        );
    }
}
