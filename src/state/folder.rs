//! Writing that lasts: whole files, on disk before their names are, seen by the owner only.
//!
//! A file is written under a temporary name, synced, given its name and its folder synced, in that
//! order. The one file that grows, the journal, is synced when its writer says so.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// What the disk refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", .path.display())]
pub struct FolderError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FolderError {
    pub(super) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }

    /// What the system said.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// A folder of the state. Paths are relative to it.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn at(&self, relative: &str) -> PathBuf {
        self.0.join(relative)
    }

    /// Makes the folder and what lies between, and syncs each one that is new into its parent.
    pub(super) fn create_dirs(&self, relative: &str) -> Result<PathBuf, FolderError> {
        let path = self.at(relative);
        let missing = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).count();
        if missing > 0 {
            create_private(&path).map_err(|e| FolderError::new("create", &path, e))?;
            for made in path.ancestors().take(missing) {
                sync_folder(parent_of(made))?;
            }
        }
        Ok(path)
    }

    /// The file's bytes; none if there is no such file.
    pub(super) fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, FolderError> {
        let path = self.at(relative);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(FolderError::new("read", &path, e)),
        }
    }

    /// Names in a folder, sorted, without temporary files. A folder that is not there has none.
    pub(super) fn list(&self, relative: &str) -> Result<Vec<String>, FolderError> {
        let path = self.at(relative);
        let failed = |e| FolderError::new("list", &path, e);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                names.push(name);
            }
        }
        names.retain(|name| !name.starts_with('.'));
        names.sort_unstable();
        Ok(names)
    }

    /// Writes a file that must not exist. `false` if it does: then nothing is changed.
    pub(super) fn put_new(&self, relative: &str, bytes: &[u8]) -> Result<bool, FolderError> {
        let mut file = self.pending(relative)?;
        file.write(bytes)?;
        file.commit_new()
    }

    /// Starts a file that will appear under `relative` when it is committed.
    pub(super) fn pending(&self, relative: &str) -> Result<PendingFile, FolderError> {
        let path = self.at(relative);
        let folder = self.create_dirs(parent_of(Path::new(relative)).to_str().unwrap_or_default())?;
        let temporary = Builder::new().prefix(".tmp-").tempfile_in(&folder);
        let temporary = temporary.map_err(|e| FolderError::new("create a file in", &folder, e))?;
        Ok(PendingFile { temporary, path })
    }

    /// Creates a file that is appended to.
    pub(super) fn create_growing(&self, relative: &str) -> Result<File, FolderError> {
        let path = self.at(relative);
        let folder = self.create_dirs(parent_of(Path::new(relative)).to_str().unwrap_or_default())?;
        let mut options = File::options();
        options.append(true).create_new(true);
        private(&mut options);
        let file = options.open(&path).map_err(|e| FolderError::new("create", &path, e))?;
        sync_folder(&folder)?;
        Ok(file)
    }
}

/// A file that nobody sees yet. Dropped, it is gone.
pub(super) struct PendingFile {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl PendingFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), FolderError> {
        self.temporary.write_all(bytes).map_err(|e| FolderError::new("write", &self.path, e))
    }

    /// Syncs the file and gives it its name, unless the name is taken.
    pub(super) fn commit_new(self) -> Result<bool, FolderError> {
        let Self { temporary, path } = self;
        temporary.as_file().sync_all().map_err(|e| FolderError::new("sync", &path, e))?;
        match temporary.persist_noclobber(&path) {
            Ok(_) => sync_folder(parent_of(&path)).map(|()| true),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(FolderError::new("name", &path, e.error)),
        }
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new(if path.is_absolute() { "/" } else { "." }),
    }
}

fn sync_folder(path: &Path) -> Result<(), FolderError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|e| FolderError::new("sync", path, e))
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(unix)]
pub(super) fn private(options: &mut fs::OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(not(unix))]
pub(super) fn private(_: &mut fs::OpenOptions) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::new(&home.path().join("deep/state"));
        (home, folder)
    }

    #[test]
    fn the_first_to_put_wins() {
        let (_home, folder) = folder();
        assert!(folder.put_new("a/1.json", b"one").unwrap());
        assert!(!folder.put_new("a/1.json", b"two").unwrap());
        assert_eq!(folder.read("a/1.json").unwrap().unwrap(), b"one");
        assert_eq!(folder.list("a").unwrap(), ["1.json"]);
        assert_eq!(folder.read("a/2.json").unwrap(), None);
        assert!(folder.list("b").unwrap().is_empty());
    }

    #[test]
    fn what_is_not_committed_is_not_there() {
        let (_home, folder) = folder();
        let mut pending = folder.pending("a/1.json").unwrap();
        pending.write(b"half").unwrap();
        assert!(folder.list("a").unwrap().is_empty());
        drop(pending);
        assert!(fs::read_dir(folder.at("a")).unwrap().next().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_sees_anything() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_home, folder) = folder();
        folder.put_new("a/1.json", b"one").unwrap();
        folder.create_growing("j/x.ndjson").unwrap();
        let mode = |relative: &str| fs::metadata(folder.at(relative)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("a"), mode("j")), (0o700, 0o700, 0o700));
        assert_eq!((mode("a/1.json"), mode("j/x.ndjson")), (0o600, 0o600));
    }
}
