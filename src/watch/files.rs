//! File watching: which folders must be watched to see every change of a path, and the watch itself.
//!
//! A file changes by a write, by a replacement, or by a changed symbolic link in its path: Kubernetes changes `..data`,
//! git-sync changes the link to the worktree. So the folder of each link in the path is watched as well. An event of the
//! operating system is only a hint; a survey then reads the files.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use crate::file_glob::{Glob, is_glob};

/// With more changed paths than this, all paths count as changed.
const CHANGED_MAX: usize = 4_096;
/// More links than this in one path are a loop.
const LINKS_MAX: usize = 40;
/// The number of watched folders of one source.
const FOLDERS_MAX: usize = 2_000;

/// The folders and links that determine the target of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PathTrace {
    /// Folders in which a change may affect the target.
    pub(super) folders: BTreeSet<PathBuf>,
    /// The links in the path, and the target.
    pub(super) points: BTreeSet<PathBuf>,
}

impl PathTrace {
    /// The trace of one path.
    pub(super) fn of(path: &Path) -> Self {
        let mut found = Self::default();
        let end = follow(path, &mut 0, &mut found);
        found.points.insert(end);
        found.absolute()
    }

    /// The trace of a path or glob. A glob has no points: any change in its folders may affect it.
    pub(super) fn of_glob(folder: &Path, pattern: &str) -> Self {
        if !is_glob(pattern) {
            return Self::of(&folder.join(pattern));
        }
        Self { folders: folders_of_glob(folder, pattern), points: BTreeSet::new() }.absolute()
    }

    /// With absolute paths, as the operating system reports them.
    fn absolute(self) -> Self {
        let absolute = |paths: BTreeSet<PathBuf>| {
            paths.into_iter().map(|path| std::path::absolute(&path).unwrap_or(path)).collect()
        };
        Self { folders: absolute(self.folders), points: absolute(self.points) }
    }

    /// Whether a change of one of these paths may affect the target.
    pub(super) fn is_affected_by(&self, changed: &PathChanges) -> bool {
        changed.all || changed.paths.iter().any(|path| self.is_affected(path))
    }

    fn is_affected(&self, path: &Path) -> bool {
        if self.points.is_empty() {
            let parent = path.parent().unwrap_or(path);
            return self.folders.contains(parent) || self.folders.contains(path);
        }
        // The path itself, or a folder above it.
        self.points.range(path.to_owned()..).next().is_some_and(|point| point.starts_with(path))
    }
}

/// Changed paths.
#[derive(Clone, Debug, Default)]
pub(super) struct PathChanges {
    pub(super) paths: BTreeSet<PathBuf>,
    /// All paths count as changed.
    pub(super) all: bool,
    /// Paths may be missing: the operating system dropped events, or there are too many paths.
    pub(super) is_incomplete: bool,
}

impl PathChanges {
    /// All paths count as changed, because events are missing.
    fn incomplete() -> Self {
        Self { paths: BTreeSet::new(), all: true, is_incomplete: true }
    }

    /// Adds other changes.
    pub(super) fn add(&mut self, others: Self) {
        self.all |= others.all;
        self.is_incomplete |= others.is_incomplete;
        self.paths.extend(others.paths);
        if self.paths.len() > CHANGED_MAX {
            *self = Self::incomplete();
        }
    }
}

/// The folders in which a change may affect the target of `path`.
fn folders(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = PathTrace::default();
    follow(path, &mut 0, &mut found);
    found.folders
}

fn follow(path: &Path, links: &mut usize, found: &mut PathTrace) -> PathBuf {
    let mut at = PathBuf::new();
    for component in path.components() {
        let parent = if at.as_os_str().is_empty() { PathBuf::from(".") } else { at.clone() };
        match component {
            Component::ParentDir => {
                at.push("..");
                continue;
            }
            component => at.push(component),
        }
        let Ok(target) = std::fs::read_link(&at) else { continue };
        *links += 1;
        if *links > LINKS_MAX {
            break;
        }
        found.folders.insert(parent.clone());
        found.points.insert(at.clone());
        at = follow(&parent.join(target), links, found);
    }
    let parent = at.parent().filter(|parent| !parent.as_os_str().is_empty());
    found.folders.insert(parent.unwrap_or(Path::new(".")).to_owned());
    at
}

/// The folders in which a change may affect the matches of a path or glob below `folder`, up to [`FOLDERS_MAX`]. Polling
/// finds changes in the others.
fn folders_of_glob(folder: &Path, pattern: &str) -> BTreeSet<PathBuf> {
    let glob = match Glob::path(pattern) {
        Ok(glob) if is_glob(pattern) => glob,
        _ => return folders(&folder.join(pattern)),
    };
    let mut found = folders(&folder.join(glob.prefix()).join("x"));
    found.extend(glob.folders(folder).into_iter().take(FOLDERS_MAX));
    found
}

/// The reported changes since the last call of [`Self::take`].
#[derive(Debug, Default)]
pub(super) struct ChangedPaths(Mutex<PathChanges>);

impl ChangedPaths {
    pub(super) fn take(&self) -> PathChanges {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, changed: PathChanges) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(changed);
    }
}

/// Watches folders. Folders that the operating system cannot watch are polled.
pub(super) struct FolderWatch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl FolderWatch {
    /// A watch without folders. `wakeup` is notified of each change.
    pub(super) fn new(wakeup: Arc<Notify>, reported: Arc<ChangedPaths>) -> Self {
        let on_event = move |event: notify::Result<notify::Event>| {
            let changed = match event {
                Ok(event) if event.need_rescan() => PathChanges::incomplete(),
                Ok(event) if is_change(event.kind) => {
                    PathChanges { paths: event.paths.into_iter().collect(), ..PathChanges::default() }
                }
                Ok(_) => return,
                Err(_) => PathChanges::incomplete(),
            };
            reported.add(changed);
            wakeup.notify_one();
        };
        let watcher = notify::recommended_watcher(on_event).inspect_err(|error| {
            tracing::warn!("cannot watch files, so they are polled: {error}");
        });
        Self { watcher: watcher.ok(), watched: BTreeSet::new() }
    }

    /// Watches exactly these folders.
    pub(super) fn set(&mut self, folders: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut now = BTreeSet::new();
        for gone in self.watched.difference(&folders) {
            let _ = watcher.unwatch(gone);
        }
        for folder in folders {
            if self.watched.contains(&folder) {
                now.insert(folder);
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(now.insert(folder)),
                Err(error) => tracing::debug!("{} is polled: {error}", folder.display()),
            }
        }
        self.watched = now;
    }

    /// Watches changed folders anew: the operating system drops the watch on a folder that is replaced.
    pub(super) fn renew(&mut self, changed: &PathChanges) {
        let Some(watcher) = &mut self.watcher else { return };
        let is_changed = |folder: &&PathBuf| changed.all || changed.paths.contains(*folder);
        let again: Vec<PathBuf> = self.watched.iter().filter(is_changed).cloned().collect();
        for folder in again {
            self.watched.remove(&folder);
            let _ = watcher.unwatch(&folder);
        }
    }
}

/// Whether an event is a change. Reading a file is not.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_folder_of_every_link_is_watched() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let at = |path: &str| home.join(path);
        fs::create_dir_all(at("etc/..2026_11_24")).unwrap();
        fs::create_dir_all(at("git/rev-1/conf")).unwrap();
        fs::File::create(at("etc/..2026_11_24/sync.yaml")).unwrap();
        symlink("..2026_11_24", at("etc/..data")).unwrap();
        symlink("..data/sync.yaml", at("etc/sync.yaml")).unwrap();
        symlink("rev-1", at("git/current")).unwrap();
        let set = |paths: &[&str]| paths.iter().map(|path| at(path)).collect::<BTreeSet<_>>();
        assert_eq!(folders(&at("etc/sync.yaml")), set(&["etc", "etc/..2026_11_24"]));
        assert_eq!(folders(&at("git/current/conf/a.yaml")), set(&["git", "git/rev-1/conf"]));
        symlink("loop", at("loop")).unwrap();
        assert!(folders(&at("loop")).contains(&home));
        assert_eq!(folders(Path::new("sync.yaml")), BTreeSet::from([PathBuf::from(".")]));
    }

    #[test]
    fn a_change_affects_the_paths_that_contain_it_and_no_others() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let at = |path: &str| home.join(path);
        fs::create_dir_all(at("data/rev-1")).unwrap();
        fs::File::create(at("data/rev-1/people.csv")).unwrap();
        symlink("rev-1", at("data/current")).unwrap();
        let affects = |trace: &PathTrace, path: &str| {
            trace.is_affected_by(&PathChanges { paths: BTreeSet::from([at(path)]), ..PathChanges::default() })
        };
        let literal = PathTrace::of(&at("data/current/people.csv"));
        for path in ["data/current", "data/rev-1/people.csv", "data/rev-1", "data"] {
            assert!(affects(&literal, path), "{path}");
        }
        for path in ["data/rev-1/others.csv", "data/currents", "data/rev-2"] {
            assert!(!affects(&literal, path), "{path}");
        }
        let glob = PathTrace::of_glob(&home, "data/rev-*/part-*.csv");
        assert!(affects(&glob, "data/rev-1/part-1.csv") && affects(&glob, "data/rev-2"));
        assert!(!affects(&glob, "data/rev-1/deeper/part-1.csv"));
        assert!(glob.is_affected_by(&PathChanges { all: true, ..PathChanges::default() }));
    }

    #[test]
    fn a_glob_is_watched_at_its_prefix_and_in_every_matching_folder() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let at = |path: &str| home.join(path);
        for day in ["2026-11-23", "2026-11-24"] {
            fs::create_dir_all(at("data").join(day)).unwrap();
        }
        let set = |paths: &[&str]| paths.iter().map(|path| at(path)).collect::<BTreeSet<_>>();
        assert_eq!(folders_of_glob(&home, "data/part-*.csv"), set(&["data"]));
        let days = set(&["data", "data/2026-11-23", "data/2026-11-24"]);
        assert_eq!(folders_of_glob(&home, "data/2026-*/part-*.csv"), days);
        assert_eq!(folders_of_glob(&home, "data/one.csv"), set(&["data"]));
    }
}
