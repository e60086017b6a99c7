//! Cache of earlier folder listings, so that a listing costs as much as what changed.
//!
//! A folder with an unchanged modification time has the same entries and is not read again. A growing file does not
//! change its folder, so these files are examined again: recently written ones, incomplete ones, and those that the
//! system reports as changed.
//!
//! # Caveats
//! A file that is rewritten in place after [`QUIET`] without a report by the system is found when the process restarts,
//! or when another file enters or leaves its folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::EventFile;
use crate::model::{Day, Timestamp};

/// Files that were written within this time may still grow.
pub(super) const QUIET: Duration = Duration::from_secs(60);
/// A folder that changed within this time may change again with the same modification time.
const TICK: Duration = Duration::from_secs(10);
/// The number of files remembered per source.
const FILES_MAX: usize = 200_000;
/// With more reported paths than this, all files count as changed.
const PATHS_MAX: usize = 4_096;

/// The results of earlier listings of one folder, shared by the runs of an export.
#[derive(Clone, Debug, Default)]
pub struct KnownFolders(Arc<SharedFolders>);

#[derive(Debug, Default)]
struct SharedFolders {
    known: Mutex<ListedFolders>,
    /// Its lock is held for a moment only, so that the event loop may take it.
    changed: Mutex<StorageChanges>,
}

/// Changes reported since the last listing.
#[derive(Debug, Default)]
struct StorageChanges {
    paths: BTreeSet<PathBuf>,
    all: bool,
}

/// The folders that a listing of `root` from a day on found, by their paths below it.
#[derive(Debug, Default)]
pub(super) struct ListedFolders {
    root: PathBuf,
    from: Option<Day>,
    pub(super) folders: BTreeMap<String, ListedFolder>,
    files: usize,
}

/// A folder without links.
#[derive(Debug)]
pub(super) struct ListedFolder {
    pub(super) stamp: FolderStamp,
    pub(super) files: Vec<EventFile>,
    /// The names of its subfolders.
    pub(super) folders: Vec<String>,
    /// The number of its other files.
    pub(super) others: u64,
}

/// Distinguishes the entries of a folder from its earlier entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FolderStamp {
    modified: Timestamp,
    /// Changes even if a tool sets the modification time.
    changed: Timestamp,
    /// The device and the inode of the folder: another folder may have its name by now.
    identity: (u64, u64),
}

impl FolderStamp {
    pub(super) fn of(meta: &Metadata) -> io::Result<Self> {
        let modified = Timestamp::try_from(meta.modified()?).unwrap_or(Timestamp::MAX);
        Ok(Self { modified, changed: changed(meta), identity: identity(meta) })
    }

    /// Whether a change after this time would change the stamp.
    pub(super) fn is_settled(&self, now: Timestamp) -> bool {
        now.checked_sub(TICK).is_ok_and(|before| self.modified.max(self.changed) < before)
    }
}

#[cfg(unix)]
fn identity(meta: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (meta.dev(), meta.ino())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

impl KnownFolders {
    /// Marks files as possibly changed in place. Relative paths are below the source.
    pub fn changed<P: Into<PathBuf>>(&self, paths: impl IntoIterator<Item = P>) {
        let mut changed = self.0.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.paths.extend(paths.into_iter().map(Into::into));
        if changed.paths.len() > PATHS_MAX {
            *changed = StorageChanges { all: true, ..StorageChanges::default() };
        }
    }

    /// Marks all files as possibly changed in place.
    pub fn all_changed(&self) {
        self.0.changed.lock().unwrap_or_else(PoisonError::into_inner).all = true;
    }

    /// Takes the cache of a folder for a listing, which puts it back. A failed listing does not, so that the next one reads
    /// everything.
    pub(super) fn take(&self, root: &Path, from: Option<Day>) -> ListedFolders {
        let changed = std::mem::take(&mut *self.0.changed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut known = std::mem::take(&mut *self.0.known.lock().unwrap_or_else(PoisonError::into_inner));
        if changed.all || known.root != root || known.from != from {
            return ListedFolders { root: root.to_owned(), from, ..ListedFolders::default() };
        }
        for path in changed.paths {
            let below = if path.is_relative() { Some(&*path) } else { path.strip_prefix(root).ok() };
            let below = below.and_then(Path::parent).and_then(Path::to_str);
            let key = below.map(|below| if below.is_empty() { String::new() } else { format!("{below}/") });
            if let Some(folder) = key.and_then(|key| known.folders.remove(&key)) {
                known.files -= folder.files.len();
            }
        }
        known
    }

    pub(super) fn put(&self, known: ListedFolders) {
        *self.0.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

impl ListedFolders {
    /// An empty cache for the same folder.
    pub(super) fn emptied(&self) -> Self {
        Self { root: self.root.clone(), from: self.from, ..Self::default() }
    }

    pub(super) fn insert(&mut self, path: String, folder: ListedFolder) {
        if self.files + folder.files.len() <= FILES_MAX {
            self.files += folder.files.len();
            self.folders.insert(path, folder);
        }
    }
}

/// The time when the file got its name or its content. Copying a file does not make it earlier.
#[cfg(unix)]
pub(super) fn changed(meta: &Metadata) -> Timestamp {
    use std::os::unix::fs::MetadataExt as _;
    Timestamp::from_second(meta.ctime()).unwrap_or(Timestamp::MIN)
}

#[cfg(not(unix))]
pub(super) fn changed(_: &Metadata) -> Timestamp {
    Timestamp::MIN
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "a test that fails panics")]
mod tests {
    use std::io::Write as _;

    use super::super::Storage;
    use super::*;

    fn write(home: &tempfile::TempDir, path: &str, text: &str) -> PathBuf {
        let path = home.path().canonicalize().unwrap().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    }

    /// Paths and lengths, and the number of other files.
    fn list(storage: &Storage, now: Timestamp) -> (Vec<(String, u64)>, u64) {
        let mut files = Vec::new();
        let others =
            storage.list(None, now, &mut |found| files.push((found.path.to_string(), found.len))).unwrap();
        files.sort();
        (files, others)
    }

    fn of(files: &[(&str, u64)], others: u64) -> (Vec<(String, u64)>, u64) {
        (files.iter().map(|(path, len)| ((*path).to_owned(), *len)).collect(), others)
    }

    #[test]
    fn an_unchanged_folder_is_not_read_again() {
        let home = tempfile::tempdir().unwrap();
        let known = KnownFolders::default();
        let storage = Storage::Folder(home.path().to_owned(), known.clone());
        let one = write(&home, "a/b/1.avro", "one");
        write(&home, "a/b/readme.txt", "no");
        write(&home, "2.avro", "two");
        let written = Timestamp::try_from(std::fs::metadata(&one).unwrap().modified().unwrap()).unwrap();
        let after = |seconds| written.checked_add(Duration::from_secs(seconds)).unwrap();
        let first = of(&[("2.avro", 3), ("a/b/1.avro", 3)], 1);
        let folders = || known.0.known.lock().unwrap().folders.len();
        assert_eq!((list(&storage, after(5)), folders()), (first.clone(), 0), "all may change within a tick");
        assert_eq!((list(&storage, after(3_600)), folders()), (first.clone(), 3));
        // A changed length in the cache shows that the folder is not read.
        known.0.known.lock().unwrap().folders.get_mut("a/b/").unwrap().files[0].len = 99;
        let marked = of(&[("2.avro", 3), ("a/b/1.avro", 99)], 1);
        assert_eq!(list(&storage, after(3_600)), marked);
        // A new file elsewhere, also in a new folder, keeps the folder cached.
        write(&home, "a/c/3.avro", "three");
        let more = of(&[("2.avro", 3), ("a/b/1.avro", 99), ("a/c/3.avro", 5)], 1);
        assert_eq!(list(&storage, after(3_600)), more);
        assert_eq!(list(&storage, after(3_600)), more);
        // A reported change and a new file make the listing read the folder.
        known.changed([&one]);
        assert_eq!(list(&storage, after(3_600)).0[1], ("a/b/1.avro".to_owned(), 3));
        known.0.known.lock().unwrap().folders.get_mut("a/b/").unwrap().files[0].len = 99;
        write(&home, "a/b/4.avro", "four");
        std::fs::remove_file(&one).unwrap();
        let found = of(&[("2.avro", 3), ("a/b/4.avro", 4), ("a/c/3.avro", 5)], 1);
        assert_eq!(list(&storage, after(3_600)), found);
        // A deleted folder, and a report that all files may have changed.
        std::fs::remove_dir_all(home.path().join("a/c")).unwrap();
        known.0.known.lock().unwrap().folders.get_mut("a/b/").unwrap().files[0].len = 99;
        assert_eq!(list(&storage, after(3_600)), of(&[("2.avro", 3), ("a/b/4.avro", 99)], 1));
        known.all_changed();
        assert_eq!(list(&storage, after(3_600)), of(&[("2.avro", 3), ("a/b/4.avro", 4)], 1));
    }

    #[test]
    fn growing_files_and_links_are_examined_again() {
        let home = tempfile::tempdir().unwrap();
        let storage = Storage::folder(home.path().to_owned());
        let one = write(&home, "a/1.avro", "one");
        let elsewhere = write(&home, "b/x.txt", "linked");
        std::os::unix::fs::symlink("../b/x.txt", home.path().join("a/2.avro")).unwrap();
        write(&home, "c/3.avro", "three");
        let written = Timestamp::try_from(std::fs::metadata(&one).unwrap().modified().unwrap()).unwrap();
        let soon = written.checked_add(Duration::from_secs(20)).unwrap();
        let late = written.checked_add(Duration::from_secs(3_600)).unwrap();
        assert_eq!(list(&storage, soon), of(&[("a/1.avro", 3), ("a/2.avro", 6), ("c/3.avro", 5)], 1));
        write(&home, "c/3.avro", "three and more");
        assert_eq!(list(&storage, soon).0[2], ("c/3.avro".to_owned(), 14), "it has grown soon after");
        assert_eq!(list(&storage, late).0[1].1, 6);
        std::fs::OpenOptions::new().append(true).open(elsewhere).unwrap().write_all(b" file").unwrap();
        assert_eq!(list(&storage, late).0[1].1, 11, "what a link leads to has grown");
    }
}
