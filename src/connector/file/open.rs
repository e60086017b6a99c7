//! Opening a file: what unpacks it, and how we notice that it changed under us.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::FileError;

const BUFFER_LEN: usize = 64 << 10;

/// A file that is being read.
pub(super) struct Opened {
    /// Its unpacked bytes.
    pub(super) input: Input,
    /// Tells whether it stayed as it was.
    pub(super) watch: Watch,
}

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

/// Opens a file, and lets it be noticed if it changes.
pub(super) fn open_raw(path: &Path) -> Result<(File, Watch), FileError> {
    let failed = |source| FileError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let (before, same) = (stamp(&meta), file.try_clone().map_err(failed)?);
    Ok((file, Watch { path: path.to_owned(), file: same, before }))
}

/// Opens a file, and its unpacker by the name's last suffix.
pub(super) fn open(path: &Path) -> Result<Opened, FileError> {
    let failed = |source| FileError::Io { path: path.to_owned(), source };
    let (file, watch) = open_raw(path)?;
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default().to_ascii_lowercase();
    let packed = matches!(suffix.as_str(), "gz" | "zst");
    if packed && watch.before.len == 0 {
        // The unpackers take nothing for a whole file of nothing.
        return Err(FileError::Truncated {
            path: path.to_owned(),
            what: "it is empty, not even compressed".to_owned(),
        });
    }
    let reader: Box<dyn Read> = match suffix.as_str() {
        "gz" => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER_LEN, file))),
        "zst" => Box::new(zstd::stream::read::Decoder::new(file).map_err(failed)?),
        _ => Box::new(file),
    };
    Ok(Opened { input: Input { reader, packed }, watch })
}

/// Notices that a file changed. A file that was replaced by another was still read as a whole.
pub(super) struct Watch {
    path: PathBuf,
    file: File,
    before: Stamp,
}

impl Watch {
    /// The file's stamp, the same at the end as when it was opened. Its entry may have changed meanwhile:
    /// it was replaced, and read as a whole all the same.
    pub(super) fn unchanged(&self) -> Result<Stamp, FileError> {
        let meta =
            self.file.metadata().map_err(|source| FileError::Io { path: self.path.clone(), source })?;
        let (now, before) = (stamp(&meta), self.before);
        if (now.len, now.modified) == (before.len, before.modified) {
            Ok(before)
        } else {
            Err(FileError::Changed { path: self.path.clone() })
        }
    }
}
