//! Files in a folder of this machine, at any depth.

use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::{Object, StorageError, day_of_partition, is_avro};
use crate::model::{Day, Timestamp};

/// Folders within folders beyond this are a loop of links.
const DEPTH_MAX: usize = 64;
const BUFFER_LEN: usize = 256 << 10;

pub(super) fn list(
    root: &Path,
    from: Option<Day>,
    found: &mut dyn FnMut(Object),
) -> Result<u64, StorageError> {
    let failed = |source| StorageError { action: "list", path: root.to_owned(), source };
    let real = root.canonicalize().map_err(failed)?;
    let mut walk = Walk { root: real, from, found, others: 0 };
    walk.folder(root, "", 0)?;
    Ok(walk.others)
}

pub(super) fn read(root: &Path, object: &Object, from: u64) -> Result<Box<dyn Read + Send>, StorageError> {
    let path = root.join(&*object.path);
    let opened = File::open(&path).and_then(|mut file| file.seek(SeekFrom::Start(from)).map(|_| file));
    match opened {
        Ok(file) => Ok(Box::new(BufReader::with_capacity(BUFFER_LEN, file))),
        Err(source) => Err(StorageError { action: "open", path, source }),
    }
}

/// What a link leads to that leaves the folder: files of others, or of the system.
fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "a link leads out of the folder")
}

struct Walk<'a> {
    /// The folder that is listed, without links.
    root: PathBuf,
    from: Option<Day>,
    found: &'a mut dyn FnMut(Object),
    others: u64,
}

impl Walk<'_> {
    fn folder(&mut self, path: &Path, relative: &str, depth: usize) -> Result<(), StorageError> {
        let failed = |source| StorageError { action: "list", path: path.to_owned(), source };
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            // Gone since its own folder was listed; the source itself must be there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue; // not finished, or not for us
            }
            let meta = match fs::metadata(entry.path()) {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            // Every other entry is where its folder is.
            let is_link = entry.file_type().map_err(failed)?.is_symlink();
            if is_link && !entry.path().canonicalize().map_err(failed)?.starts_with(&self.root) {
                let path = entry.path();
                return Err(StorageError { action: "read", path, source: outside() });
            }
            let below = if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
            match (meta.is_dir(), depth < DEPTH_MAX) {
                (true, true) if !self.is_before(&name) => self.folder(&entry.path(), &below, depth + 1)?,
                (true, true) => {}
                (true, false) => return Err(failed(io::Error::other("folders within folders without end"))),
                (false, _) if is_avro(&name) => (self.found)(object(&below, &meta).map_err(failed)?),
                (false, _) => self.others += 1,
            }
        }
        Ok(())
    }

    fn is_before(&self, name: &str) -> bool {
        self.from.zip(day_of_partition(name)).is_some_and(|(from, day)| day < from)
    }
}

fn object(path: &str, meta: &Metadata) -> io::Result<Object> {
    let written = Timestamp::try_from(meta.modified()?).unwrap_or(Timestamp::MAX);
    let mark = written.as_nanosecond().to_le_bytes();
    Ok(Object::new(path, meta.len(), written.max(changed(meta)), &mark, None))
}

/// When the file got its name or its content, which no copying makes earlier.
#[cfg(unix)]
fn changed(meta: &Metadata) -> Timestamp {
    use std::os::unix::fs::MetadataExt as _;
    Timestamp::from_second(meta.ctime()).unwrap_or(Timestamp::MIN)
}

#[cfg(not(unix))]
fn changed(_: &Metadata) -> Timestamp {
    Timestamp::MIN
}
