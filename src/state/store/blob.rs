//! Random-access reads from one file of the state, local or remote.
//!
//! A bucket is read in windows. A few of them are cached, because a cursor reads several columns alternately.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::StoreError;
use super::bucket::BucketStore;

/// Length of a window.
const WINDOW_LEN: u64 = 1 << 20;
/// How many windows are cached.
const WINDOWS: usize = 6;

/// An immutable file of the state.
#[derive(Debug)]
pub(in super::super) struct Blob {
    path: PathBuf,
    len: u64,
    location: BlobLocation,
}

#[derive(Debug)]
enum BlobLocation {
    File(File),
    Object { bucket: BucketStore, relative: String, windows: Mutex<VecDeque<(u64, Bytes)>> },
}

impl Blob {
    pub(super) fn of_file(path: PathBuf, file: File, len: u64) -> Self {
        Self { path, len, location: BlobLocation::File(file) }
    }

    pub(super) fn of_object(bucket: BucketStore, relative: &str) -> Result<Self, StoreError> {
        let (path, len) = (bucket.at(relative), bucket.len_of(relative)?);
        let location =
            BlobLocation::Object { bucket, relative: relative.to_owned(), windows: Mutex::default() };
        Ok(Self { path, len, location })
    }

    pub(in super::super) fn path(&self) -> &Path {
        &self.path
    }

    pub(in super::super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads some bytes at a position. 0: the end.
    pub(in super::super) fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match &self.location {
            BlobLocation::File(file) => read_file_at(file, buffer, position),
            BlobLocation::Object { bucket, relative, windows } => {
                if position >= self.len {
                    return Ok(0);
                }
                let start = position - position % WINDOW_LEN;
                let window = match held(windows, start) {
                    Some(window) => window,
                    None => {
                        let end = (start + WINDOW_LEN).min(self.len);
                        let window = bucket.range(relative, start..end)?;
                        keep(windows, start, window.clone());
                        window
                    }
                };
                let within = usize::try_from(position - start).unwrap_or(usize::MAX);
                let rest = window.get(within..).ok_or(io::ErrorKind::UnexpectedEof)?;
                let len = rest.len().min(buffer.len());
                buffer[..len].copy_from_slice(&rest[..len]);
                Ok(len)
            }
        }
    }

    /// Fills the buffer from a position.
    pub(in super::super) fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(&mut buffer[done..], position + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => done += len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

fn held(windows: &Mutex<VecDeque<(u64, Bytes)>>, start: u64) -> Option<Bytes> {
    let windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
    windows.iter().find(|(known, _)| *known == start).map(|(_, bytes)| bytes.clone())
}

fn keep(windows: &Mutex<VecDeque<(u64, Bytes)>>, start: u64, bytes: Bytes) {
    let mut windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
    if windows.len() == WINDOWS {
        windows.pop_front();
    }
    windows.push_back((start, bytes));
}

#[cfg(unix)]
fn read_file_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, position)
}

#[cfg(windows)]
fn read_file_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, position)
}
