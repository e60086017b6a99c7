//! Traverses folders: follows links, stops at loops, and reports inaccessible entries that may match.

use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

use crate::foreign::shown_path;

/// Deepest nesting of folders. More is a fault in the file system.
const DEPTH_MAX: usize = 64;

/// A folder or an entry that cannot be accessed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list {}: {source}", shown_path(.path))]
pub struct WalkError {
    /// The folder or the entry.
    pub path: PathBuf,
    /// The system's error, or the reason for the rejection.
    pub source: io::Error,
}

/// Decision about an entry, by its name.
#[derive(Clone, Debug)]
pub struct JudgedEntry<S> {
    /// A file of this name matches.
    pub file: bool,
    /// A folder of this name is entered, with this state.
    pub folder: Option<S>,
    /// A file of this name is skipped because it is hidden or temporary.
    pub skipped_file: bool,
    /// A folder of this name is skipped because it is hidden or temporary.
    pub skipped_folder: bool,
}

impl<S> Default for JudgedEntry<S> {
    fn default() -> Self {
        Self { file: false, folder: None, skipped_file: false, skipped_folder: false }
    }
}

/// The names of the folders in a folder, with their states.
pub type FolderStates<S> = Vec<(String, S)>;

/// Decides about entries and receives matching files.
pub trait EntryVisitor {
    /// State of a folder.
    type State;

    /// Decides about an entry of a folder by its name.
    fn judge(&mut self, folder: &Self::State, name: &str) -> JudgedEntry<Self::State>;
    /// Receives a matching file.
    ///
    /// # Errors
    /// When the file cannot be accessed.
    fn file(&mut self, folder: &Self::State, path: &Path, name: &str) -> io::Result<()>;
    /// Checks a link that may match or be entered.
    ///
    /// # Errors
    /// When it must not be followed.
    fn link(&mut self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    /// Whether a matching pipe, socket or device ends the search. If not, it is rejected when it is opened.
    fn rejects_special(&self) -> bool {
        true
    }
    /// The folders in a folder, with their states, if its entries are cached and need not be read.
    ///
    /// # Errors
    /// When it cannot be accessed.
    fn known(&mut self, _path: &Path, _state: &Self::State) -> io::Result<Option<FolderStates<Self::State>>> {
        Ok(None)
    }
    /// All entries of a folder were read, and those of the folders in it.
    fn left(&mut self) {}
    /// A folder is entered.
    fn enter(&mut self, _path: &Path) {}
    /// A folder has the name of a wanted file and is not entered.
    fn named_folder(&mut self, _path: &Path) {}
    /// A hidden or temporary entry is skipped.
    fn skip(&mut self) {}
    /// A file does not match.
    fn other(&mut self) {}
}

/// Traverses a folder.
///
/// # Errors
/// [`WalkError`] for the first inaccessible entry that may match. The error has the kind `NotFound` and the path
/// `root` if the folder does not exist.
pub fn walk<V: EntryVisitor>(root: &Path, state: &V::State, visit: &mut V) -> Result<(), WalkError> {
    let path = if root.as_os_str().is_empty() { Path::new(".") } else { root };
    let real = path.canonicalize().map_err(|source| WalkError { path: root.to_owned(), source })?;
    FolderWalk { visit, chain: vec![real] }.folder(root, state)
}

struct FolderWalk<'a, V> {
    visit: &'a mut V,
    /// The real paths of the folders from the root to the current one.
    chain: Vec<PathBuf>,
}

impl<V: EntryVisitor> FolderWalk<'_, V> {
    fn folder(&mut self, path: &Path, state: &V::State) -> Result<(), WalkError> {
        let failed = |source| WalkError { path: path.to_owned(), source };
        if let Some(folders) = self.visit.known(path, state).map_err(failed)? {
            for (name, state) in folders {
                let path = path.join(&name);
                self.below(&path, &name, false, &state).map_err(|error| error.of(&path))?;
            }
            return Ok(());
        }
        let opened = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let entries = fs::read_dir(opened).map_err(failed)?;
        self.visit.enter(path);
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let path = path.join(&name);
            self.entry(&path, &name.to_string_lossy(), state, || entry.file_type())
                .map_err(|error| error.of(&path))?;
        }
        self.visit.left();
        Ok(())
    }

    fn entry(
        &mut self,
        path: &Path,
        name: &str,
        state: &V::State,
        kind: impl FnOnce() -> io::Result<FileType>,
    ) -> Result<(), WalkFault> {
        let judged = self.visit.judge(state, name);
        let is_wanted = judged.file || judged.folder.is_some();
        if !(is_wanted || judged.skipped_file || judged.skipped_folder) {
            return Ok(());
        }
        let mut kind = kind()?;
        let is_link = kind.is_symlink();
        if is_link && is_wanted {
            kind = fs::metadata(path).map_err(broken_link)?.file_type();
            self.visit.link(path)?;
        }
        match (kind.is_dir(), judged) {
            (true, JudgedEntry { folder: Some(state), .. }) => {
                utf8(path)?;
                return self.below(path, name, is_link, &state);
            }
            (true, JudgedEntry { file: true, .. }) => self.visit.named_folder(path),
            (false, JudgedEntry { file: true, .. }) => {
                utf8(path)?;
                if self.visit.rejects_special() {
                    special(kind)?;
                }
                self.visit.file(state, path, name)?;
            }
            (is_folder, JudgedEntry { skipped_file, skipped_folder, .. }) => {
                // A skipped link is not followed, so it may be a file or a folder.
                if skipped_folder && (is_folder || is_link) || skipped_file && !is_folder {
                    self.visit.skip();
                } else if !is_folder {
                    self.visit.other();
                }
            }
        }
        Ok(())
    }

    fn below(&mut self, path: &Path, name: &str, is_link: bool, state: &V::State) -> Result<(), WalkFault> {
        let real = match self.chain.last() {
            Some(parent) if !is_link => parent.join(name),
            _ => path.canonicalize()?,
        };
        if self.chain.contains(&real) {
            return Err(io::Error::other("a link points to a folder that contains it").into());
        }
        if self.chain.len() > DEPTH_MAX {
            return Err(io::Error::other(format!("folders are nested more than {DEPTH_MAX} deep")).into());
        }
        self.chain.push(real);
        let walked = self.folder(path, state);
        self.chain.pop();
        walked.map_err(WalkFault::Below)
    }
}

/// An error of an entry, or of an entry below it.
enum WalkFault {
    Entry(io::Error),
    Below(WalkError),
}

impl From<io::Error> for WalkFault {
    fn from(error: io::Error) -> Self {
        Self::Entry(error)
    }
}

impl WalkFault {
    fn of(self, path: &Path) -> WalkError {
        match self {
            Self::Entry(source) => WalkError { path: path.to_owned(), source },
            Self::Below(error) => error,
        }
    }
}

fn utf8(path: &Path) -> io::Result<()> {
    match path.file_name().map(std::ffi::OsStr::to_str) {
        Some(None) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "its name is not valid UTF-8; rename it"))
        }
        _ => Ok(()),
    }
}

fn broken_link(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(io::ErrorKind::NotFound, "it is a broken link"),
        _ => error,
    }
}

/// Rejects an entry that is neither a file nor a folder: a read may never end.
///
/// # Errors
/// For pipes, sockets and devices.
pub fn special(kind: FileType) -> io::Result<()> {
    if kind.is_file() || kind.is_dir() {
        return Ok(());
    }
    #[cfg(unix)]
    let what = {
        use std::os::unix::fs::FileTypeExt as _;
        match kind {
            kind if kind.is_fifo() => "a pipe",
            kind if kind.is_socket() => "a socket",
            _ => "a device",
        }
    };
    #[cfg(not(unix))]
    let what = "no ordinary file";
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what} and not a file")))
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "a test that fails panics")]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::file_glob::Glob;

    fn home(files: &[&str]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for file in files {
            let path = home.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create(path).unwrap();
        }
        home
    }

    fn found(home: &tempfile::TempDir, pattern: &str) -> Result<(Vec<String>, u64), String> {
        let found = Glob::path(pattern).unwrap().find(home.path()).map_err(|error| error.to_string())?;
        let relative = |path: &PathBuf| path.strip_prefix(home.path()).unwrap().to_str().unwrap().to_owned();
        Ok((found.files.iter().map(relative).collect(), found.skipped))
    }

    #[test]
    fn files_in_order_and_skipped_ones_counted() {
        let home =
            home(&["d/b.csv", "d/a.csv", "d/.a.csv", "d/_SUCCESS", "d/x/c.csv", "d/_t/0/p.csv", "e.csv"]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(found(&home, "d/*.csv"), Ok((names(&["d/a.csv", "d/b.csv"]), 1)));
        assert_eq!(found(&home, "d/**/*.csv"), Ok((names(&["d/a.csv", "d/b.csv", "d/x/c.csv"]), 2)));
        assert_eq!(found(&home, "./d/*"), Ok((names(&["d/a.csv", "d/b.csv"]), 2)));
        assert_eq!(found(&home, "*/_t/**/*.csv"), Ok((names(&["d/_t/0/p.csv"]), 0)));
        assert_eq!(found(&home, "*.csv"), Ok((names(&["e.csv"]), 0)));
    }

    #[test]
    fn what_the_pattern_may_name_is_not_passed_over() {
        let home = home(&["d/a.csv", "d/x/b.csv"]);
        let at = |path: &str| home.path().join(path);
        symlink("nowhere", at("d/note.txt")).unwrap();
        fs::File::create(home.path().join("d").join(OsStr::from_bytes(b"b\xf6.txt"))).unwrap();
        assert!(found(&home, "d/*.csv").is_ok(), "neither is named");
        assert!(found(&home, "d/*.txt").unwrap_err().contains("cannot list"));
        assert!(found(&home, "d/*/b.csv").unwrap_err().contains("d/note.txt: it is a broken link"));
        fs::remove_file(at("d/note.txt")).unwrap();
        assert!(found(&home, "d/*.txt").unwrap_err().contains("not valid UTF-8"));
        assert!(found(&home, "d/**/*.csv").is_ok(), "a file is not entered");
        symlink("..", at("d/x/up")).unwrap();
        assert!(found(&home, "d/**/*.csv").unwrap_err().contains("d/x/up: a link points to a folder"));
        fs::remove_file(at("d/x/up")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(at("d/s.csv")).unwrap();
        assert!(found(&home, "d/*.csv").unwrap_err().contains("d/s.csv: it is a socket and not a file"));
        drop(socket);
        fs::create_dir(home.path().join("d/x").join(OsStr::from_bytes(b"\xff"))).unwrap();
        fs::remove_file(at("d/s.csv")).unwrap();
        assert!(found(&home, "d/**/*.csv").unwrap_err().contains("not valid UTF-8"));
    }
}
