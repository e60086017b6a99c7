//! Opening a file, here or elsewhere: what unpacks it, and how we notice that it changed under us.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::xxh3_64;

use super::FileError;
use super::find::Found;
use crate::objects::{Object, Ranges};

const BUFFER_LEN: usize = 64 << 10;

/// What tells a file from any other, and from itself with other bytes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) len: u64,
    /// When its bytes changed.
    pub(super) modified: Option<SystemTime>,
    /// When its entry changed, which no program can set back.
    pub(super) changed: Option<SystemTime>,
    /// Where it lies.
    pub(super) inode: u64,
}

impl Stamp {
    /// The stamp of whatever the path leads to now.
    pub(super) fn of(path: &Path) -> Result<Self, FileError> {
        let meta = std::fs::metadata(path);
        meta.map(|meta| stamp(&meta)).map_err(|source| FileError::Io { path: path.to_owned(), source })
    }

    /// The stamp of an object: its tag says it all, and without one its time must do.
    pub(super) fn of_object(object: &Object) -> Self {
        let mark = object.tag.as_ref().map(|tag| xxh3_64(tag.as_bytes()));
        let modified = if mark.is_some() { Some(SystemTime::UNIX_EPOCH) } else { object.modified };
        Self { len: object.len, modified, changed: modified, inode: mark.unwrap_or(0) }
    }
}

#[cfg(unix)]
fn stamp(meta: &Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let since = |seconds: i64, nanoseconds: i64| {
        let (seconds, nanoseconds) = (u64::try_from(seconds).ok()?, u64::try_from(nanoseconds).ok()?);
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds))
    };
    Stamp {
        len: meta.len(),
        modified: meta.modified().ok(),
        changed: since(meta.ctime(), meta.ctime_nsec()),
        inode: meta.ino(),
    }
}

#[cfg(not(unix))]
fn stamp(meta: &Metadata) -> Stamp {
    let _ = Duration::ZERO;
    Stamp { len: meta.len(), modified: meta.modified().ok(), changed: meta.created().ok(), inode: 0 }
}

/// Unpacked bytes, and whether an error in them is the unpacker's.
pub(super) struct Input {
    reader: Box<dyn Read>,
    packed: bool,
}

impl Input {
    #[cfg(test)]
    pub(super) fn plain(reader: impl Read + 'static) -> Self {
        Self { reader: Box::new(reader), packed: false }
    }

    /// Reads some bytes; none at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8], path: &Path) -> Result<usize, FileError> {
        loop {
            match self.reader.read(buffer) {
                Ok(len) => return Ok(len),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.explain(source, path)),
            }
        }
    }

    fn explain(&self, source: io::Error, path: &Path) -> FileError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::UnexpectedEof if self.packed => {
                FileError::Truncated { path, what: "the compressed data breaks off".to_owned() }
            }
            _ if self.packed => FileError::Unpack { path, source },
            _ => FileError::Io { path, source },
        }
    }
}

/// Reads some bytes at a position, whatever else reads the file; none at its end.
#[cfg(unix)]
pub(super) fn read_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, position)
}

#[cfg(windows)]
pub(super) fn read_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, position)
}

/// The bytes of a file.
pub(super) enum Handle {
    File(File),
    Object(Object),
}

impl Handle {
    /// Its bytes from the start.
    pub(super) fn reader(self) -> Box<dyn Read> {
        match self {
            Self::File(file) => Box::new(file),
            Self::Object(object) => Box::new(Ranges::new(object, 0)),
        }
    }

    /// Its bytes, unpacked by the name's last suffix.
    pub(super) fn unpacked(self, path: &Path) -> Result<Input, FileError> {
        let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        let suffix = suffix.to_ascii_lowercase();
        let packed = matches!(suffix.as_str(), "gz" | "zst");
        if packed && self.is_empty() {
            // The unpackers take nothing for a whole file of nothing.
            let what = "it is empty, not even compressed".to_owned();
            return Err(FileError::Truncated { path: path.to_owned(), what });
        }
        let bytes = self.reader();
        let reader: Box<dyn Read> = match suffix.as_str() {
            "gz" => {
                Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER_LEN, bytes)))
            }
            "zst" => {
                let decoder = zstd::stream::read::Decoder::new(bytes);
                Box::new(decoder.map_err(|source| FileError::Io { path: path.to_owned(), source })?)
            }
            _ => bytes,
        };
        Ok(Input { reader, packed })
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::File(file) => file.metadata().is_ok_and(|meta| meta.len() == 0),
            Self::Object(object) => object.len == 0,
        }
    }
}

/// Opens a file, and lets it be noticed if it changes.
pub(super) fn open(found: &Found) -> Result<(Handle, Watch), FileError> {
    let path = match found {
        Found::Here(path) => path,
        Found::There(path, object) => {
            let watch = Watch { path: path.clone(), before: found.stamp()?, of: Of::Object(object.clone()) };
            return Ok((Handle::Object(object.clone()), watch));
        }
    };
    let failed = |source| FileError::Io { path: path.clone(), source };
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let (before, same) = (stamp(&meta), file.try_clone().map_err(failed)?);
    Ok((Handle::File(file), Watch { path: path.clone(), before, of: Of::File(same) }))
}

/// All bytes of a file, which may have so many.
pub(in crate::connector) fn read_whole(found: &Found, len_max: u64) -> Result<Vec<u8>, FileError> {
    let (handle, watch) = open(found)?;
    let mut bytes = Vec::new();
    let read = handle.reader().take(len_max).read_to_end(&mut bytes);
    watch.came_whole()?;
    read.map_err(|source| FileError::Io { path: found.path().to_owned(), source })?;
    watch.unchanged()?;
    Ok(bytes)
}

/// Notices that a file changed. A file that was replaced by another was still read as a whole.
pub(super) struct Watch {
    path: PathBuf,
    before: Stamp,
    of: Of,
}

enum Of {
    File(File),
    Object(Object),
}

impl Watch {
    /// Whether every byte that was asked for came, and was of one content.
    pub(super) fn came_whole(&self) -> Result<(), FileError> {
        let Of::Object(object) = &self.of else { return Ok(()) };
        let path = self.path.clone();
        match object.take_trouble() {
            None => Ok(()),
            Some(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle => {
                Err(FileError::Changed { path })
            }
            Some(source) => Err(FileError::Io { path, source }),
        }
    }

    /// The file's stamp, the same at the end as when it was opened. Its entry may have changed meanwhile:
    /// it was replaced, and read as a whole all the same.
    pub(super) fn unchanged(&self) -> Result<Stamp, FileError> {
        let Of::File(file) = &self.of else { return Ok(self.before) };
        let meta = file.metadata().map_err(|source| FileError::Io { path: self.path.clone(), source })?;
        let (now, before) = (stamp(&meta), self.before);
        if (now.len, now.modified) == (before.len, before.modified) {
            Ok(before)
        } else {
            Err(FileError::Changed { path: self.path.clone() })
        }
    }
}
