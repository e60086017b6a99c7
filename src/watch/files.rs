//! Which folders to watch so that no change of a file goes unseen, and the watching itself.
//!
//! A file is changed by writing to it, by replacing it, and by turning a link on the way to it somewhere else:
//! Kubernetes turns `..data`, git-sync turns the link to the worktree. So for each link on the way, the folder
//! that holds the link is watched as well. What the system tells is only a hint that something in a folder
//! changed: whoever is told looks for themselves.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use crate::file_glob::{Glob, is_glob};

/// More changed paths than this are as good as all.
const CHANGED_MAX: usize = 4_096;
/// More links than this on the way to a file are a loop.
const LINKS_MAX: usize = 40;
/// Folders of one source that are watched.
const FOLDERS_MAX: usize = 2_000;

/// What decides where a path leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trace {
    /// The folders in which a change may change what the path leads to.
    pub(super) folders: BTreeSet<PathBuf>,
    /// The links on the way, and what they lead to in the end.
    pub(super) points: BTreeSet<PathBuf>,
}

impl Trace {
    /// Of one path.
    pub(super) fn of(path: &Path) -> Self {
        let mut found = Self::default();
        let end = follow(path, &mut 0, &mut found);
        found.points.insert(end);
        found.absolute()
    }

    /// Of a path or glob. A glob has no points: any change in its folders may be one.
    pub(super) fn of_glob(folder: &Path, pattern: &str) -> Self {
        if !is_glob(pattern) {
            return Self::of(&folder.join(pattern));
        }
        Self { folders: folders_of_glob(folder, pattern), points: BTreeSet::new() }.absolute()
    }

    /// As the system reports paths.
    fn absolute(self) -> Self {
        let each = |paths: BTreeSet<PathBuf>| {
            paths.into_iter().map(|path| std::path::absolute(&path).unwrap_or(path)).collect()
        };
        Self { folders: each(self.folders), points: each(self.points) }
    }

    /// Whether a change of one of these paths may change what this one leads to.
    pub(super) fn is_touched_by(&self, changed: &Changed) -> bool {
        changed.all || changed.paths.iter().any(|path| self.is_touched(path))
    }

    fn is_touched(&self, path: &Path) -> bool {
        if self.points.is_empty() {
            let parent = path.parent().unwrap_or(path);
            return self.folders.contains(parent) || self.folders.contains(path);
        }
        // The path itself, or a folder that holds it.
        self.points.range(path.to_owned()..).next().is_some_and(|point| point.starts_with(path))
    }
}

/// Paths that have changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Changed {
    pub(super) paths: BTreeSet<PathBuf>,
    /// There may be others: everything is looked at.
    pub(super) all: bool,
    /// The system has missed some, or there are too many.
    pub(super) missed: bool,
}

impl Changed {
    /// Changes may have been missed.
    fn missed() -> Self {
        Self { paths: BTreeSet::new(), all: true, missed: true }
    }

    /// Adds others. Too many are as good as all.
    pub(super) fn add(&mut self, others: Self) {
        (self.all, self.missed) = (self.all | others.all, self.missed | others.missed);
        self.paths.extend(others.paths);
        if self.paths.len() > CHANGED_MAX {
            *self = Self::missed();
        }
    }
}

/// The folders in which a change may change what `path` leads to.
fn folders(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = Trace::default();
    follow(path, &mut 0, &mut found);
    found.folders
}

fn follow(path: &Path, links: &mut usize, found: &mut Trace) -> PathBuf {
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

/// The folders in which a change may change what a path or glob below `folder` names, as many as can be watched:
/// changes in the others are found by polling.
fn folders_of_glob(folder: &Path, pattern: &str) -> BTreeSet<PathBuf> {
    let glob = match Glob::path(pattern) {
        Ok(glob) if is_glob(pattern) => glob,
        _ => return folders(&folder.join(pattern)),
    };
    let mut found = folders(&folder.join(glob.prefix()).join("x"));
    found.extend(glob.folders(folder).into_iter().take(FOLDERS_MAX));
    found
}

/// Paths that have changed since they were last taken.
#[derive(Debug, Default)]
pub(super) struct ChangedFolders(Mutex<Changed>);

impl ChangedFolders {
    pub(super) fn take(&self) -> Changed {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, changed: Changed) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(changed);
    }
}

/// Watches folders, as far as the system can.
pub(super) struct FolderWatch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl FolderWatch {
    /// A watch on nothing yet. The bell rings when something changes.
    pub(super) fn new(bell: Arc<Notify>, seen: Arc<ChangedFolders>) -> Self {
        let on_event = move |event: notify::Result<notify::Event>| {
            let changed = match event {
                Ok(event) if event.need_rescan() => Changed::missed(),
                Ok(event) if is_change(event.kind) => {
                    Changed { paths: event.paths.into_iter().collect(), ..Changed::default() }
                }
                Ok(_) => return,
                Err(_) => Changed::missed(),
            };
            seen.add(changed);
            bell.notify_one();
        };
        let watcher = notify::recommended_watcher(on_event).inspect_err(|error| {
            tracing::warn!("file changes cannot be watched, so files are polled: {error}");
        });
        Self { watcher: watcher.ok(), watched: BTreeSet::new() }
    }

    /// Watches these folders and no others.
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

    /// A folder that was replaced is another one: the system has dropped the watch on the old one.
    pub(super) fn renew(&mut self, changed: &Changed) {
        let Some(watcher) = &mut self.watcher else { return };
        let is_changed = |folder: &&PathBuf| changed.all || changed.paths.contains(*folder);
        let again: Vec<PathBuf> = self.watched.iter().filter(is_changed).cloned().collect();
        for folder in again {
            self.watched.remove(&folder);
            let _ = watcher.unwatch(&folder);
        }
    }
}

/// Reading a file is no change of it.
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
    fn every_link_on_the_way_is_watched() {
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
    fn a_change_touches_what_it_may_lead_to_elsewhere_and_nothing_beside_it() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let at = |path: &str| home.join(path);
        fs::create_dir_all(at("data/rev-1")).unwrap();
        fs::File::create(at("data/rev-1/people.csv")).unwrap();
        symlink("rev-1", at("data/current")).unwrap();
        let touches = |trace: &Trace, path: &str| {
            trace.is_touched_by(&Changed { paths: BTreeSet::from([at(path)]), ..Changed::default() })
        };
        let literal = Trace::of(&at("data/current/people.csv"));
        for path in ["data/current", "data/rev-1/people.csv", "data/rev-1", "data"] {
            assert!(touches(&literal, path), "{path}");
        }
        for path in ["data/rev-1/others.csv", "data/currents", "data/rev-2"] {
            assert!(!touches(&literal, path), "{path}");
        }
        let glob = Trace::of_glob(&home, "data/rev-*/part-*.csv");
        assert!(touches(&glob, "data/rev-1/part-1.csv") && touches(&glob, "data/rev-2"));
        assert!(!touches(&glob, "data/rev-1/deeper/part-1.csv"));
        assert!(glob.is_touched_by(&Changed { all: true, ..Changed::default() }));
    }

    #[test]
    fn a_glob_is_watched_where_it_begins_and_in_every_folder_that_matches() {
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
