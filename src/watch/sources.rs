//! The files of the config, of cohorts and of exports: which of them changed, as the system reports it or as polling
//! finds it.
//!
//! A survey runs on a thread of its own and costs what changed: a change of one source does not list the folders of
//! the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use xxhash_rust::xxh3::Xxh3;

use super::files::{Changed, ChangedFolders, FolderWatch, Trace};
use crate::config::{AppId, Config, ExportConfig, ExportSource, SecretRef, StorageLocation, StorageSource};
use crate::connector::file::{self, FileFingerprint};
use crate::file_glob::Glob;
use crate::model::{CohortId, ExportId};
use crate::source::SourceReader as _;

/// A folder that is never quiet is looked at after so many times the debounce.
const DEBOUNCES_MAX: u32 = 8;
/// The wait after a survey that was stopped by a bug.
const LOST_WAIT: Duration = Duration::from_secs(30);
/// Folders below one export that are watched.
const FOLDERS_MAX: usize = 2_000;

/// What has changed, until a survey takes it.
pub(super) struct WatchedSources {
    /// Rings when something has changed in a folder.
    pub(super) bell: Arc<Notify>,
    seen: Arc<ChangedFolders>,
    changed: Changed,
    /// Since when there are changes, and when they are looked at.
    settling: Option<(Instant, Instant)>,
    config_content: u128,
    /// None while a survey has it.
    files: Option<Files>,
}

/// What the last survey found, and the system's watch on all of it.
pub(super) struct Files {
    watch: FolderWatch,
    config: Vec<Trace>,
    cohorts: BTreeMap<CohortId, Trace>,
    exports: BTreeMap<ExportId, ExportFiles>,
    /// None: it could not be looked at.
    prints: BTreeMap<CohortId, Option<FileFingerprint>>,
}

/// The folder of an export.
struct ExportFiles {
    root: PathBuf,
    trace: Trace,
    /// It and the folders below it, as many as can be watched.
    folders: Folders,
}

/// Folders with their modification times. None: a folder could not be looked at.
type Folders = BTreeMap<PathBuf, Option<SystemTime>>;

/// What a survey found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Cohorts whose files are others than in the survey before.
    pub(super) cohorts: Vec<CohortId>,
    /// Exports in whose folders something changed.
    pub(super) exports: Vec<ExportId>,
    /// The files that the system reports as changed, and whether it may have missed some.
    pub(super) changed: (BTreeSet<PathBuf>, bool),
    /// The content of the config's files, if one of them may have changed.
    pub(super) config_content: Option<u128>,
}

impl WatchedSources {
    /// `content` is what the config's text was when it was read.
    pub(super) fn new(content: u128) -> Self {
        let (bell, seen) = (Arc::new(Notify::new()), Arc::new(ChangedFolders::default()));
        let files = Some(Files::new(&bell, &seen));
        Self { bell, seen, changed: Changed::default(), settling: None, config_content: content, files }
    }

    /// What the config's text was when this was last asked.
    pub(super) fn config_content(&self) -> u128 {
        self.config_content
    }

    /// Something has changed: it is looked at once it is left alone.
    pub(super) fn noticed(&mut self, debounce: Duration) {
        self.changed.add(self.seen.take());
        let now = Instant::now();
        let since = self.settling.map_or(now, |(since, _)| since);
        self.settling = Some((since, (now + debounce).min(since + debounce * DEBOUNCES_MAX)));
    }

    /// Everything is to be looked at, now.
    pub(super) fn notice_all(&mut self) {
        self.changed.all = true;
        let now = Instant::now();
        self.settling = Some((now, now));
    }

    /// When what has changed is looked at. None while a survey runs: what came meanwhile is looked at after it.
    pub(super) fn settles(&self) -> Option<Instant> {
        self.settling.filter(|_| self.files.is_some()).map(|(_, at)| at)
    }

    /// Begins a survey, if none runs. It must be given back by [`Self::surveyed`].
    pub(super) fn begin(&mut self) -> Option<(Files, Changed)> {
        let files = self.files.take()?;
        self.settling = None;
        Some((files, std::mem::take(&mut self.changed)))
    }

    /// A survey has ended. Without its files everything is surveyed anew.
    pub(super) fn surveyed(&mut self, files: Option<Files>) {
        if files.is_none() {
            self.changed.all = true;
            let now = Instant::now();
            self.settling = Some((now, now + LOST_WAIT));
        }
        self.files = Some(files.unwrap_or_else(|| Files::new(&self.bell, &self.seen)));
    }

    /// Whether the config's text is another than before.
    pub(super) fn is_other_config(&mut self, content: u128) -> bool {
        std::mem::replace(&mut self.config_content, content) != content
    }
}

impl Files {
    fn new(bell: &Arc<Notify>, seen: &Arc<ChangedFolders>) -> Self {
        Self {
            watch: FolderWatch::new(Arc::clone(bell), Arc::clone(seen)),
            config: Vec::new(),
            cohorts: BTreeMap::new(),
            exports: BTreeMap::new(),
            prints: BTreeMap::new(),
        }
    }

    /// Looks at what the changes touch. It blocks.
    pub(super) fn survey(&mut self, config: &Config, changed: &Changed) -> Findings {
        let is_touched = |traces: &[Trace]| traces.iter().any(|trace| trace.is_touched_by(changed));
        let config_is_touched = changed.all || is_touched(&self.config);
        let cohorts = self.touched_cohorts(config, changed);
        let exports = self.touched_exports(config, changed);
        // Watched before it is looked at: what changes after that is reported again.
        if config_is_touched {
            self.config = traces_of_config(config);
        }
        self.watch.renew(changed);
        self.watch.set(self.folders());
        Findings {
            config_content: config_is_touched.then(|| content(config)),
            cohorts: self.others(config, &cohorts),
            changed: (changed.paths.clone(), changed.missed),
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

    /// The cohorts whose files may have changed. Links may have been turned, so each is traced again.
    fn touched_cohorts(&mut self, config: &Config, changed: &Changed) -> BTreeSet<CohortId> {
        let mut touched = BTreeSet::new();
        let mut known = std::mem::take(&mut self.cohorts);
        for cohort in &config.cohorts {
            let Some(source) = cohort.source.watched_files() else { continue };
            let trace = known.remove(&cohort.id).filter(|trace| !trace.is_touched_by(changed));
            let trace = trace.unwrap_or_else(|| {
                touched.insert(cohort.id.clone());
                Trace::of_glob(&config.folder, &source.pattern)
            });
            self.cohorts.insert(cohort.id.clone(), trace);
        }
        touched
    }

    /// The exports in whose folders something changed. Only folders that are new are listed.
    fn touched_exports(&mut self, config: &Config, changed: &Changed) -> Vec<ExportId> {
        let mut touched = Vec::new();
        let mut known = std::mem::take(&mut self.exports);
        for export in &config.exports {
            let Some(root) = folder_of(export) else { continue };
            let root = std::path::absolute(&root).unwrap_or(root);
            let mut before = known.remove(&export.id);
            let files = before.take_if(|files| files.root == root && !files.trace.is_touched_by(changed));
            let files = match files {
                None => {
                    touched.push(export.id.clone());
                    let trace = Trace::of(&root);
                    let folders = before.map(|files| files.folders).unwrap_or_default();
                    let folders = tree(&end_of(&trace, &root), &folders);
                    ExportFiles { root, trace, folders }
                }
                Some(mut files) => {
                    let is_below = |path: &&PathBuf| {
                        path.parent().is_some_and(|parent| files.folders.contains_key(parent))
                    };
                    let below: Vec<&PathBuf> = changed.paths.iter().filter(is_below).collect();
                    if !below.is_empty() {
                        touched.push(export.id.clone());
                    }
                    for folder in below.into_iter().filter(|path| path.is_dir()) {
                        if files.folders.len() < FOLDERS_MAX {
                            files.folders.extend(tree(folder, &Folders::new()));
                        }
                    }
                    files
                }
            };
            self.exports.insert(export.id.clone(), files);
        }
        touched
    }

    /// Which of these cohorts have other files than before.
    fn others(&mut self, config: &Config, touched: &BTreeSet<CohortId>) -> Vec<CohortId> {
        let mut others = Vec::new();
        self.prints.retain(|id, _| self.cohorts.contains_key(id));
        for cohort in config.cohorts.iter().filter(|cohort| touched.contains(&cohort.id)) {
            let Some(source) = cohort.source.watched_files() else { continue };
            let from = file::FileAccess { folder: &config.folder, roots: &config.roots, stores: &[] };
            let print = file::fingerprint(source, from).ok();
            if self.prints.get(&cohort.id) != Some(&print) {
                self.prints.insert(cohort.id.clone(), print);
                others.push(cohort.id.clone());
            }
        }
        others
    }
}

/// Where the links of a folder lead in the end.
fn end_of(trace: &Trace, root: &Path) -> PathBuf {
    let is_no_link = |point: &&PathBuf| std::fs::symlink_metadata(point).is_ok_and(|found| found.is_dir());
    trace.points.iter().find(is_no_link).cloned().unwrap_or_else(|| root.to_owned())
}

/// The config's files and secrets, and the globs that it includes.
fn traces_of_config(config: &Config) -> Vec<Trace> {
    let files = config_files(config).into_iter().map(|path| Trace::of(&path));
    files.chain(config.includes.iter().map(|pattern| Trace::of_glob(&config.folder, pattern))).collect()
}

/// The folder that an export reads, if it reads one.
fn folder_of(export: &ExportConfig) -> Option<PathBuf> {
    match &export.source {
        ExportSource::Storage(StorageSource { place: StorageLocation::Folder { path, .. }, .. }) => {
            Some(path.clone())
        }
        ExportSource::Storage(_) | ExportSource::Http(_) => None,
    }
}

/// A folder and the folders below it, as many as can be watched: changes in the others are found by polling. A folder with
/// the same modification time as before has the same folders, so it is not listed.
fn tree(folder: &Path, before: &Folders) -> Folders {
    let (mut found, mut open) = (Folders::new(), vec![folder.to_owned()]);
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

/// The files that the config is made of, its secrets among them.
fn config_files(config: &Config) -> Vec<PathBuf> {
    let mut files = config.files.clone();
    let mut secret = |place: &SecretRef| {
        if let SecretRef::File(path) = place {
            files.push(path.clone());
        }
    };
    let keys = config.braze.values().filter_map(|braze| braze.keys.as_ref());
    keys.flat_map(|keys| [&keys.data_import, &keys.partner_api]).for_each(&mut secret);
    config.braze.values().filter_map(|braze| braze.rest_key.as_ref()).for_each(&mut secret);
    config.heap.values().flat_map(|heap| &heap.webhook_secrets).for_each(&mut secret);
    config.sql.values().flat_map(crate::config::SqlConfig::secrets).for_each(|(_, place)| secret(place));
    for heap in config.heap.values() {
        if let Some(AppId::Ref(place)) = &heap.app_id {
            secret(place);
        }
    }
    for export in &config.exports {
        if let ExportSource::Http(source) = &export.source {
            source.tokens.iter().for_each(&mut secret);
        }
    }
    config.watch.notify.iter().for_each(|notify| secret(&notify.url));
    files.extend(config.watch.tls.iter().flat_map(|tls| [tls.certificate.clone(), tls.key.clone()]));
    files
}

/// Tells what the files of a config hold from what they will hold. Never 0: that is the content of nothing.
pub(super) fn content(config: &Config) -> u128 {
    // A pattern that cannot be listed is reported when the config is read.
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
    fn a_folder_that_is_what_it_was_is_not_listed_again() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        std::fs::create_dir_all(at("a/b/c")).unwrap();
        std::fs::create_dir_all(at("a.b")).unwrap();
        let first = tree(home.path(), &Folders::new());
        assert_eq!(first.len(), 5);
        assert_eq!(tree(home.path(), &first), first);
        // A folder that is missing in what is known shows that nothing is listed.
        let mut marked = first.clone();
        marked.remove(&at("a/b/c"));
        assert_eq!(tree(home.path(), &marked), marked);
        marked.insert(at("a/b"), None);
        assert_eq!(tree(home.path(), &marked), first, "its time is another");
        std::fs::remove_dir_all(at("a")).unwrap();
        assert_eq!(
            tree(home.path(), &first).into_keys().collect::<Vec<_>>(),
            [home.path().to_owned(), at("a.b")]
        );
    }
}
