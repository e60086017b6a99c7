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

/// More links than this on the way to a file are a loop.
const LINKS_MAX: usize = 40;
/// Folders of one source that are watched.
const FOLDERS_MAX: usize = 2_000;

/// The folders in which a change may change what `path` leads to.
pub(super) fn folders(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut links = 0;
    follow(path, &mut links, &mut found);
    found
}

fn follow(path: &Path, links: &mut usize, found: &mut BTreeSet<PathBuf>) -> PathBuf {
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
        found.insert(parent.clone());
        at = follow(&parent.join(target), links, found);
    }
    let parent = at.parent().filter(|parent| !parent.as_os_str().is_empty());
    found.insert(parent.unwrap_or(Path::new(".")).to_owned());
    at
}

/// The folders in which a change may change what a path or glob below `folder` names, as many as can be watched:
/// changes in the others are found by polling.
pub(super) fn folders_of_glob(folder: &Path, pattern: &str) -> BTreeSet<PathBuf> {
    let glob = match Glob::path(pattern) {
        Ok(glob) if is_glob(pattern) => glob,
        _ => return folders(&folder.join(pattern)),
    };
    let mut found = folders(&folder.join(glob.prefix()).join("x"));
    found.extend(glob.folders(folder).into_iter().take(FOLDERS_MAX));
    found
}

/// Folders in which something has changed since they were last asked for.
#[derive(Debug, Default)]
struct Seen(Mutex<BTreeSet<PathBuf>>);

/// Watches folders, as far as the system can.
pub(super) struct FolderWatch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    seen: Arc<Seen>,
}

impl FolderWatch {
    /// A watch on nothing yet. The bell rings when something changes.
    pub(super) fn new(bell: Arc<Notify>) -> Self {
        let seen = Arc::new(Seen::default());
        let told = Arc::clone(&seen);
        let on_event = move |event: notify::Result<notify::Event>| {
            // An error may mean that changes were missed: then everything is looked at.
            let folders = match event {
                Ok(event) if is_change(event.kind) => folders_told(&event),
                Ok(_) => return,
                Err(_) => vec![PathBuf::new()],
            };
            told.0.lock().unwrap_or_else(PoisonError::into_inner).extend(folders);
            bell.notify_one();
        };
        let watcher = notify::recommended_watcher(on_event).inspect_err(|error| {
            tracing::warn!("the system tells of no changes, so files are polled: {error}");
        });
        Self { watcher: watcher.ok(), watched: BTreeSet::new(), seen }
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

    /// A folder that is there again is another one: the system has forgotten the watch on the old one.
    pub(super) fn renew(&mut self, folders: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for folder in folders {
            if self.watched.remove(folder) {
                let _ = watcher.unwatch(folder);
            }
        }
    }

    /// The folders in which something has changed. An empty path stands for all of them.
    pub(super) fn take(&self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reading a file is no change of it.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

fn folders_told(event: &notify::Event) -> Vec<PathBuf> {
    if event.need_rescan() {
        return vec![PathBuf::new()];
    }
    // What is told of a folder itself is told of it as well as of the one that holds it.
    let each = event.paths.iter().flat_map(|path| [path.parent().map(Path::to_owned), Some(path.clone())]);
    each.flatten().collect()
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
