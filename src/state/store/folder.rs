//! Durable writes in a folder: files appear complete, are on disk before their names, and only the owner can read them.
//!
//! A file is written under a temporary name, synced, renamed, and its folder is synced, in that order. Append-only files
//! are synced by their writer.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempPath};

use super::step::step;
use super::{Blob, GrowingFile, PendingFile, PendingTarget, SteppedFile, StoreError, StoredFile};
use crate::model::Timestamp;

/// Prefix of temporary files.
pub(in super::super) const TEMPORARY: &str = ".syncline-tmp-";

/// A folder of the state. Paths are relative to it.
#[derive(Clone, Debug)]
pub(in super::super) struct FolderStore(PathBuf);

impl FolderStore {
    pub(in super::super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(in super::super) fn at(&self, relative: &str) -> PathBuf {
        self.0.join(relative)
    }

    /// Creates the folder and its missing parents, and syncs each new one into its parent.
    pub(in super::super) fn create_dirs(&self, relative: &str) -> Result<PathBuf, StoreError> {
        let path = self.at(relative);
        let missing = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).count();
        if missing > 0 {
            step().and_then(|()| create_private(&path)).map_err(|e| StoreError::new("create", &path, e))?;
            for made in path.ancestors().take(missing) {
                sync_folder(parent_of(made))?;
            }
        }
        Ok(path)
    }

    /// Reads a file. `None`: it does not exist.
    pub(in super::super) fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.at(relative);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::new("read", &path, e)),
        }
    }

    /// Lists a folder. A missing folder is empty.
    fn entries(&self, relative: &str) -> Result<Vec<fs::DirEntry>, StoreError> {
        let path = self.at(relative);
        let failed = |e| StoreError::new("list", &path, e);
        match fs::read_dir(&path) {
            Ok(entries) => entries.collect::<Result<_, _>>().map_err(failed),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(failed(e)),
        }
    }

    /// Returns the names in a folder, sorted, without temporary files. A missing folder has none.
    pub(super) fn list(&self, relative: &str) -> Result<Vec<String>, StoreError> {
        let entries = self.entries(relative)?.into_iter();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort_unstable();
        Ok(names)
    }

    /// Returns the files in a folder, including temporary ones.
    pub(super) fn files(&self, relative: &str) -> Result<Vec<StoredFile>, StoreError> {
        let path = self.at(relative);
        let failed = |e| StoreError::new("list", &path, e);
        let mut files = Vec::new();
        for entry in self.entries(relative)? {
            let meta = match entry.metadata() {
                Ok(meta) if meta.is_file() => meta,
                Ok(_) => continue,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue, // removed since it was listed
                Err(e) => return Err(failed(e)),
            };
            let Ok(name) = entry.file_name().into_string() else { continue };
            let written = meta.modified().map_err(failed)?;
            let written = Timestamp::try_from(written).unwrap_or(Timestamp::MAX);
            files.push(StoredFile { name, bytes: meta.len(), written });
        }
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    pub(super) fn open_blob(&self, relative: &str) -> Result<Blob, StoreError> {
        let path = self.at(relative);
        let failed = |e| StoreError::new("open", &path, e);
        let file = File::open(&path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        Ok(Blob::of_file(path, file, len))
    }

    /// Writes a file that must not exist. Returns `false`, and changes nothing, if it does.
    pub(super) fn put_new(&self, relative: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        let file = self.pending(relative)?;
        let written = file.writer().and_then(|mut writer| writer.write_all(bytes));
        written.map_err(|e| StoreError::new("write", &self.at(relative), e))?;
        file.commit_if_new()
    }

    /// Creates a file that appears as `relative` when it is committed.
    pub(super) fn pending(&self, relative: &str) -> Result<PendingFile, StoreError> {
        let path = self.at(relative);
        let folder = self.create_dirs(parent_of(Path::new(relative)).to_str().unwrap_or_default())?;
        let temporary = step().and_then(|()| Builder::new().prefix(TEMPORARY).tempfile_in(&folder));
        let temporary = temporary.map_err(|e| StoreError::new("create a file in", &folder, e))?;
        let (file, temporary) = temporary.into_parts();
        Ok(PendingFile { file, target: PendingTarget::Path(temporary, path) })
    }

    /// Creates an append-only file.
    pub(super) fn growing(&self, relative: &str) -> Result<GrowingFile, StoreError> {
        let path = self.at(relative);
        let folder = self.create_dirs(parent_of(Path::new(relative)).to_str().unwrap_or_default())?;
        let mut options = File::options();
        options.append(true).create_new(true);
        private(&mut options);
        let file =
            step().and_then(|()| options.open(&path)).map_err(|e| StoreError::new("create", &path, e))?;
        sync_folder(&folder)?;
        Ok(GrowingFile::File { file: SteppedFile(file), path, torn: false })
    }

    /// Removes a file. A missing file is not an error. The removal is not synced: a file that reappears after a crash is
    /// removed again.
    pub(super) fn remove(&self, relative: &str) -> Result<(), StoreError> {
        let path = self.at(relative);
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(StoreError::new("remove", &path, e)),
        }
    }
}

/// Syncs the file and renames it, unless the name is taken.
pub(super) fn commit_new(file: &File, temporary: TempPath, path: &Path) -> Result<bool, StoreError> {
    let synced = step().and_then(|()| file.sync_all());
    synced.map_err(|e| StoreError::new("sync", path, e))?;
    step().map_err(|e| StoreError::new("name", path, e))?;
    match temporary.persist_noclobber(path) {
        Ok(()) => sync_folder(parent_of(path)).map(|()| true),
        Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(StoreError::new("name", path, e.error)),
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new(if path.is_absolute() { "/" } else { "." }),
    }
}

fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let synced = step().and_then(|()| File::open(path)).and_then(|folder| folder.sync_all());
    synced.map_err(|e| StoreError::new("sync", path, e))
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(unix)]
pub(in super::super) fn private(options: &mut fs::OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(not(unix))]
pub(in super::super) fn private(_: &mut fs::OpenOptions) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, FolderStore) {
        let home = tempfile::tempdir().unwrap();
        let folder = FolderStore::new(&home.path().join("deep/state"));
        (home, folder)
    }

    #[test]
    fn the_first_writer_of_a_name_wins() {
        let (_home, folder) = folder();
        assert!(folder.put_new("a/1.json", b"one").unwrap());
        assert!(!folder.put_new("a/1.json", b"two").unwrap());
        assert_eq!(folder.read("a/1.json").unwrap().unwrap(), b"one");
        assert_eq!(folder.list("a").unwrap(), ["1.json"]);
        assert_eq!(folder.read("a/2.json").unwrap(), None);
        assert!(folder.list("b").unwrap().is_empty());
    }

    #[test]
    fn an_uncommitted_file_is_invisible() {
        let (_home, folder) = folder();
        let pending = folder.pending("a/1.json").unwrap();
        pending.writer().unwrap().write_all(b"half").unwrap();
        assert!(folder.list("a").unwrap().is_empty());
        drop(pending);
        assert!(fs::read_dir(folder.at("a")).unwrap().next().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_files() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_home, folder) = folder();
        folder.put_new("a/1.json", b"one").unwrap();
        folder.growing("j/x.ndjson").unwrap();
        let mode = |relative: &str| fs::metadata(folder.at(relative)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("a"), mode("j")), (0o700, 0o700, 0o700));
        assert_eq!((mode("a/1.json"), mode("j/x.ndjson")), (0o600, 0o600));
    }
}
