//! Files in a folder of this machine, at any depth.

use std::fs::{self, Metadata};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::{EventFile, StorageError, day_of_partition, is_avro};
use crate::connector::file::open_file;
use crate::file_glob::{Judged, Visit, WalkError, is_hidden, walk};
use crate::model::{Day, Timestamp};

const BUFFER_LEN: usize = 256 << 10;

pub(super) fn list(
    root: &Path,
    from: Option<Day>,
    found: &mut dyn FnMut(EventFile),
) -> Result<u64, StorageError> {
    let failed = |source| StorageError { action: "list", path: root.to_owned(), source };
    let real = root.canonicalize().map_err(failed)?;
    let mut listing = Listing { root: real, from, found, others: 0 };
    let walked = walk(root, &String::new(), &mut listing);
    walked.map_err(|WalkError { path, source }| StorageError { action: "list", path, source })?;
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

/// What a link leads to that leaves the folder: files of others, or of the system.
fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "a link leads out of the folder")
}

struct Listing<'a> {
    /// The folder that is listed, without links.
    root: PathBuf,
    from: Option<Day>,
    found: &'a mut dyn FnMut(EventFile),
    others: u64,
}

impl Visit for Listing<'_> {
    /// The path of a folder below the root, with a slash at its end.
    type State = String;

    fn judge(&mut self, folder: &String, name: &str) -> Judged<String> {
        let is_before = self.from.zip(day_of_partition(name)).is_some_and(|(from, day)| day < from);
        if is_before {
            return Judged::default();
        }
        match is_hidden(name) {
            true => Judged { skipped_file: true, skipped_folder: true, ..Judged::default() },
            false => {
                Judged { file: is_avro(name), folder: Some(format!("{folder}{name}/")), ..Judged::default() }
            }
        }
    }

    fn file(&mut self, folder: &String, path: &Path, name: &str) -> io::Result<()> {
        (self.found)(object(&format!("{folder}{name}"), &fs::metadata(path)?)?);
        Ok(())
    }

    /// Every other entry is where its folder is.
    fn link(&mut self, path: &Path) -> io::Result<()> {
        if path.canonicalize()?.starts_with(&self.root) { Ok(()) } else { Err(outside()) }
    }

    /// It is an error of that file alone: the events of the others are sent.
    fn refuses_special(&self) -> bool {
        false
    }

    fn skip(&mut self) {
        self.others += 1;
    }

    fn other(&mut self) {
        self.others += 1;
    }
}

fn object(path: &str, meta: &Metadata) -> io::Result<EventFile> {
    let written = Timestamp::try_from(meta.modified()?).unwrap_or(Timestamp::MAX);
    let mark = written.as_nanosecond().to_le_bytes();
    Ok(EventFile::new(path, meta.len(), written.max(changed(meta)), &mark, None))
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
