//! Opens local and remote files, and detects files that change during the read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::FileError;
use super::found::FoundFile;
use super::stamp::{FileStamp, stamp};
use crate::file_glob::special;
use crate::object_store::{RangeReader, RemoteObject};

pub(super) const BUFFER_LEN: usize = 64 << 10;

/// Decompressed bytes.
pub(super) struct FileInput {
    pub(super) reader: Box<dyn Read>,
    pub(super) packed: bool,
}

impl FileInput {
    #[cfg(test)]
    pub(super) fn plain(reader: impl Read + 'static) -> Self {
        Self { reader: Box::new(reader), packed: false }
    }

    /// Reads bytes into the buffer. Returns 0 at the end.
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
                FileError::Truncated { path, what: "the compressed data is incomplete".to_owned() }
            }
            _ if self.packed => FileError::Unpack { path, source },
            _ => FileError::Io { path, source },
        }
    }
}

/// The bytes of a file.
pub(super) enum FileBytes {
    File(File),
    Object(RemoteObject),
}

impl FileBytes {
    /// A reader from the start.
    pub(super) fn reader(self) -> Box<dyn Read> {
        match self {
            Self::File(file) => Box::new(file),
            Self::Object(object) => Box::new(RangeReader::new(object, 0)),
        }
    }

    /// A second handle to the same bytes.
    pub(super) fn again(&self) -> io::Result<Self> {
        match self {
            Self::File(file) => file.try_clone().map(Self::File),
            Self::Object(object) => Ok(Self::Object(object.clone())),
        }
    }
}

/// Opens a file with a detector for changes.
pub(super) fn open(found: &FoundFile) -> Result<(FileBytes, ChangeDetector), FileError> {
    let path = match found {
        FoundFile::Local(path) => path,
        FoundFile::Remote(path, object) => {
            let watch = ChangeDetector {
                path: path.clone(),
                before: found.stamp()?,
                of: WatchedInput::Object(object.clone()),
            };
            let handle = match object.download() {
                Some(Ok(file)) => FileBytes::File(file),
                Some(Err(source)) => return Err(FileError::Io { path: path.clone(), source }),
                None => FileBytes::Object(object.clone()),
            };
            return Ok((handle, watch));
        }
    };
    let failed = |source| FileError::Io { path: path.clone(), source };
    let file = open_file(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let (before, same) = (stamp(&meta), file.try_clone().map_err(failed)?);
    Ok((FileBytes::File(file), ChangeDetector { path: path.clone(), before, of: WatchedInput::File(same) }))
}

/// Opens a regular file. Pipes, sockets and devices fail at once, even if one replaced the file a moment ago.
pub(in crate::connector) fn open_file(path: &Path) -> io::Result<File> {
    special(std::fs::metadata(path)?.file_type())?;
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    let kind = file.metadata()?.file_type();
    special(kind)?;
    if kind.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
}

/// Reads a whole file, up to `len_max` bytes.
pub(in crate::connector) fn read_whole(found: &FoundFile, len_max: u64) -> Result<Vec<u8>, FileError> {
    let (handle, watch) = open(found)?;
    let mut bytes = Vec::new();
    let read = handle.reader().take(len_max).read_to_end(&mut bytes);
    watch.came_whole()?;
    read.map_err(|source| FileError::Io { path: found.path().to_owned(), source })?;
    watch.unchanged()?;
    Ok(bytes)
}

/// Detects that a file changed. A file that was replaced by a rename was still read in full.
pub(super) struct ChangeDetector {
    path: PathBuf,
    before: FileStamp,
    of: WatchedInput,
}

enum WatchedInput {
    File(File),
    Object(RemoteObject),
}

impl ChangeDetector {
    /// Whether all requested bytes arrived and belong to one version of the object.
    pub(super) fn came_whole(&self) -> Result<(), FileError> {
        let WatchedInput::Object(object) = &self.of else { return Ok(()) };
        let path = self.path.clone();
        match object.take_failure() {
            None => Ok(()),
            Some(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle => {
                Err(FileError::Changed { path })
            }
            Some(source) => Err(FileError::Io { path, source }),
        }
    }

    /// Checks that the file did not change and returns its stamp. The inode's change time is ignored: a rename over
    /// the file does not affect an open handle.
    pub(super) fn unchanged(&self) -> Result<FileStamp, FileError> {
        let WatchedInput::File(file) = &self.of else { return Ok(self.before) };
        let meta = file.metadata().map_err(|source| FileError::Io { path: self.path.clone(), source })?;
        let (now, before) = (stamp(&meta), self.before);
        if (now.len, now.modified) == (before.len, before.modified) {
            Ok(before)
        } else {
            Err(FileError::Changed { path: self.path.clone() })
        }
    }
}
