//! Files in a folder of this machine, at any depth.

use std::fs::{self, Metadata};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::known::{FolderStamp, KnownFolders, ListedFolder, ListedFolders, QUIET, changed};
use super::{EventFile, StorageError, day_of_partition, is_avro};
use crate::connector::file::open_file;
use crate::file_glob::{EntryVisitor, FolderStates, JudgedEntry, WalkError, is_hidden, walk};
use crate::model::{Day, Timestamp};

const BUFFER_LEN: usize = 256 << 10;

pub(super) fn list(
    root: &Path,
    known: &KnownFolders,
    from: Option<Day>,
    now: Timestamp,
    found: &mut dyn FnMut(EventFile),
) -> Result<u64, StorageError> {
    let failed = |source| StorageError { action: "list", path: root.to_owned(), source };
    let real = root.canonicalize().map_err(failed)?;
    let before = known.take(&real, from);
    let after = before.emptied();
    let mut listing =
        FolderListing { root: real, from, now, before, after, open: Vec::new(), found, others: 0 };
    let walked = walk(root, &String::new(), &mut listing);
    walked.map_err(|WalkError { path, source }| StorageError { action: "list", path, source })?;
    known.put(listing.after);
    Ok(listing.others)
}

pub(super) fn read(root: &Path, object: &EventFile, from: u64) -> Result<Box<dyn Read + Send>, StorageError> {
    let path = root.join(&*object.path);
    let opened = open_file(&path).and_then(|mut file| file.seek(SeekFrom::Start(from)).map(|_| file));
    match opened {
        Ok(file) => Ok(Box::new(BufReader::with_capacity(BUFFER_LEN, file))),
        Err(source) => Err(StorageError { action: "open", path, source }),
    }
}

/// The error of a link that leaves the folder: its target may belong to other users or to the system.
fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "a link leads out of the folder")
}

struct FolderListing<'a> {
    /// The root of the listing, without links.
    root: PathBuf,
    from: Option<Day>,
    now: Timestamp,
    /// The results of the previous listing and of this one.
    before: ListedFolders,
    after: ListedFolders,
    /// The folders that are being read, from the root on.
    open: Vec<OpenFolder>,
    found: &'a mut dyn FnMut(EventFile),
    others: u64,
}

/// A folder that is being read.
struct OpenFolder {
    /// Its path below the root, with a slash at its end.
    path: String,
    folder: ListedFolder,
    /// Whether its stamp identifies its entries.
    is_kept: bool,
}

impl FolderListing<'_> {
    fn count_other(&mut self) {
        self.others += 1;
        if let Some(open) = self.open.last_mut() {
            open.folder.others += 1;
        }
    }

    /// Adds the files of a known folder, and examines those that may have grown.
    fn files_again(&mut self, files: &mut [EventFile]) -> io::Result<()> {
        let quiet = self.now.checked_sub(QUIET).unwrap_or(Timestamp::MIN);
        for file in files {
            if file.arrived >= quiet {
                *file = object(&file.path, &fs::metadata(self.root.join(&*file.path))?)?;
            }
            (self.found)(file.clone());
        }
        Ok(())
    }
}

impl EntryVisitor for FolderListing<'_> {
    /// The path of a folder below the root, with a slash at its end.
    type State = String;

    fn judge(&mut self, folder: &String, name: &str) -> JudgedEntry<String> {
        let is_before = self.from.zip(day_of_partition(name)).is_some_and(|(from, day)| day < from);
        if is_before {
            return JudgedEntry::default();
        }
        match is_hidden(name) {
            true => JudgedEntry { skipped_file: true, skipped_folder: true, ..JudgedEntry::default() },
            false => JudgedEntry {
                file: is_avro(name),
                folder: Some(format!("{folder}{name}/")),
                ..JudgedEntry::default()
            },
        }
    }

    fn file(&mut self, folder: &String, path: &Path, name: &str) -> io::Result<()> {
        let object = object(&format!("{folder}{name}"), &fs::metadata(path)?)?;
        if let Some(open) = self.open.last_mut() {
            open.folder.files.push(object.clone());
        }
        (self.found)(object);
        Ok(())
    }

    fn known(&mut self, path: &Path, state: &String) -> io::Result<Option<FolderStates<String>>> {
        // Belongs to the folder that is being read, unless that folder is known itself.
        if let Some(open) = self.open.last_mut()
            && let Some(name) = state.strip_prefix(&open.path).and_then(|below| below.strip_suffix('/'))
            && !name.contains('/')
        {
            open.folder.folders.push(name.to_owned());
        }
        let stamp = FolderStamp::of(&fs::metadata(if state.is_empty() { &self.root } else { path })?)?;
        let Some(mut folder) = self.before.folders.remove(state).filter(|folder| folder.stamp == stamp)
        else {
            let folder = ListedFolder { stamp, files: Vec::new(), folders: Vec::new(), others: 0 };
            self.open.push(OpenFolder { path: state.clone(), folder, is_kept: stamp.is_settled(self.now) });
            return Ok(None);
        };
        self.files_again(&mut folder.files)?;
        self.others += folder.others;
        let below = folder.folders.iter().map(|name| (name.clone(), format!("{state}{name}/"))).collect();
        self.after.insert(state.clone(), folder);
        Ok(Some(below))
    }

    fn left(&mut self) {
        if let Some(OpenFolder { path, folder, is_kept: true }) = self.open.pop() {
            self.after.insert(path, folder);
        }
    }

    /// Other entries belong to their folder.
    fn link(&mut self, path: &Path) -> io::Result<()> {
        // The target of a link may change without a change of its folder.
        if let Some(open) = self.open.last_mut() {
            open.is_kept = false;
        }
        if path.canonicalize()?.starts_with(&self.root) { Ok(()) } else { Err(outside()) }
    }

    /// A special file is an error of that file alone; events of other files are sent.
    fn rejects_special(&self) -> bool {
        false
    }

    fn skip(&mut self) {
        self.count_other();
    }

    fn other(&mut self) {
        self.count_other();
    }
}

fn object(path: &str, meta: &Metadata) -> io::Result<EventFile> {
    let written = Timestamp::try_from(meta.modified()?).unwrap_or(Timestamp::MAX);
    let mark = written.as_nanosecond().to_le_bytes();
    Ok(EventFile::new(path, meta.len(), written.max(changed(meta)), &mark, None))
}
