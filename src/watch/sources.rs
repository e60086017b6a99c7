//! What lies in files: the config, its secrets, and the sources of cohorts. Which of them are others than
//! they were, told by the system or found by looking.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use xxhash_rust::xxh3::Xxh3;

use super::files::{FolderWatch, folders, folders_of_glob};
use crate::config::{AppId, Config, Export, ExportSource, SecretRef, Source, StoragePlace, StorageSource};
use crate::connector::file::{self, Fingerprint};
use crate::file_glob::Glob;
use crate::model::{CohortId, ExportId};

/// A folder that is never quiet is looked at after so many times the debounce.
const DEBOUNCES_MAX: u32 = 8;
/// Folders below one export that are watched.
const FOLDERS_MAX: usize = 2_000;

/// Files and folders, and how they were.
pub(super) struct Sources {
    /// Rings when something has changed in a folder.
    pub(super) bell: Arc<Notify>,
    watch: FolderWatch,
    config_folders: BTreeSet<PathBuf>,
    source_folders: BTreeMap<CohortId, BTreeSet<PathBuf>>,
    export_folders: BTreeMap<ExportId, BTreeSet<PathBuf>>,
    /// None: it could not be looked at.
    prints: BTreeMap<CohortId, Option<Fingerprint>>,
    config_content: u128,
    /// Since when there are changes, and when they are looked at.
    settling: Option<(Instant, Instant)>,
    noticed: Noticed,
}

/// Folders in which something changed.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    folders: BTreeSet<PathBuf>,
    all: bool,
    touches_config: bool,
}

impl Noticed {
    pub(super) fn touches_config(&self) -> bool {
        self.touches_config
    }
}

impl Sources {
    /// `content` is what the config's text was when it was read.
    pub(super) fn new(content: u128) -> Self {
        let bell = Arc::new(Notify::new());
        Self {
            watch: FolderWatch::new(Arc::clone(&bell)),
            bell,
            config_folders: BTreeSet::new(),
            source_folders: BTreeMap::new(),
            export_folders: BTreeMap::new(),
            prints: BTreeMap::new(),
            config_content: content,
            settling: None,
            noticed: Noticed::default(),
        }
    }

    /// Watches whatever the config is made of and names. Links may have been turned, so it is asked for again
    /// after each change.
    pub(super) fn watch(&mut self, config: &Config) {
        let of_config = config_files(config);
        let named = of_config.iter().flat_map(|path| folders(path));
        let included = config.includes.iter().flat_map(|pattern| folders_of_glob(&config.folder, pattern));
        self.config_folders = named.chain(included).map(|folder| absolute(&folder)).collect();
        self.source_folders = config
            .cohorts
            .iter()
            .filter_map(|cohort| match &cohort.source {
                Source::File(source) if !source.is_remote() => {
                    let found = folders_of_glob(&config.folder, &source.pattern);
                    Some((cohort.id.clone(), found.iter().map(|folder| absolute(folder)).collect()))
                }
                Source::File(_)
                | Source::HeapSegment(_)
                | Source::Sql(_)
                | Source::HeapConnect(_)
                | Source::DumpQuery(_) => None,
            })
            .collect();
        let folders =
            config.exports.iter().filter_map(|export| Some((export.id.clone(), folder_of(export)?)));
        self.export_folders = folders.map(|(id, folder)| (id, tree(&folder))).collect();
        let all = self.source_folders.values().chain(self.export_folders.values()).flatten();
        self.watch.set(all.chain(&self.config_folders).cloned().collect());
    }

    /// What the config's text was when this was last asked.
    pub(super) fn config_content(&self) -> u128 {
        self.config_content
    }

    /// Something has changed: it is looked at once it is left alone.
    pub(super) fn noticed(&mut self, debounce: Duration) {
        for folder in self.watch.take() {
            self.noticed.all |= folder.as_os_str().is_empty();
            self.noticed.folders.insert(folder);
        }
        let now = Instant::now();
        let since = self.settling.map_or(now, |(since, _)| since);
        self.settling = Some((since, (now + debounce).min(since + debounce * DEBOUNCES_MAX)));
    }

    /// Everything is to be looked at, whatever was told.
    pub(super) fn notice_all(&mut self) {
        self.noticed.all = true;
    }

    /// When what has changed is looked at.
    pub(super) fn settles(&self) -> Option<Instant> {
        self.settling.map(|(_, at)| at)
    }

    /// What has changed.
    pub(super) fn take(&mut self) -> Noticed {
        self.settling = None;
        let mut noticed = std::mem::take(&mut self.noticed);
        noticed.touches_config = noticed.all || !noticed.folders.is_disjoint(&self.config_folders);
        // A folder that was replaced must be watched anew.
        self.watch.renew(&noticed.folders);
        noticed
    }

    /// Whether the config's text is another than it was when this was last asked.
    pub(super) fn config_has_changed(&mut self, config: &Config) -> bool {
        let content = content(config);
        std::mem::replace(&mut self.config_content, content) != content
    }

    /// The exports in whose folders something was noticed.
    pub(super) fn noticed_exports(&self, noticed: &Noticed) -> Vec<ExportId> {
        let is_near = |folders: &BTreeSet<PathBuf>| noticed.all || !folders.is_disjoint(&noticed.folders);
        self.export_folders.iter().filter(|(_, folders)| is_near(folders)).map(|(id, _)| id.clone()).collect()
    }

    /// The cohorts whose files are others than they were when this was last asked; of all, or of those in
    /// whose folders something was noticed.
    pub(super) fn changed(&mut self, config: &Config, noticed: Option<&Noticed>) -> Vec<CohortId> {
        let mut changed = Vec::new();
        for cohort in &config.cohorts {
            let Source::File(source) = &cohort.source else { continue };
            // What is elsewhere tells nobody that it changed; it is looked at by schedule.
            if source.is_remote() {
                continue;
            }
            let is_near = |noticed: &Noticed| {
                let folders = self.source_folders.get(&cohort.id);
                noticed.all || folders.is_some_and(|folders| !folders.is_disjoint(&noticed.folders))
            };
            if noticed.is_some_and(|noticed| !is_near(noticed)) {
                continue;
            }
            let print = file::fingerprint(
                source,
                file::From { folder: &config.folder, roots: &config.roots, stores: &[] },
            );
            let print = print.ok();
            if self.prints.get(&cohort.id) != Some(&print) {
                self.prints.insert(cohort.id.clone(), print);
                changed.push(cohort.id.clone());
            }
        }
        self.prints.retain(|id, _| config.cohorts.iter().any(|cohort| cohort.id == *id));
        changed
    }
}

/// The folder that an export reads, if it reads one.
fn folder_of(export: &Export) -> Option<PathBuf> {
    match &export.source {
        ExportSource::Storage(StorageSource { place: StoragePlace::Folder { path, .. }, .. }) => {
            Some(path.clone())
        }
        ExportSource::Storage(_) | ExportSource::Http(_) => None,
    }
}

/// A folder, the folder that holds it, and the folders below it, as many as can be watched: the others are found
/// by looking.
fn tree(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = folders(&folder.join("x"));
    found.extend(folders(folder));
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop().filter(|_| found.len() < FOLDERS_MAX) {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
        found.insert(folder);
    }
    found.iter().map(|folder| absolute(folder)).collect()
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
    config.sql.values().flat_map(crate::config::Sql::secrets).for_each(|(_, place)| secret(place));
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

/// As the system tells of it.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
