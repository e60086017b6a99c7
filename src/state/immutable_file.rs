//! Immutable files: written once, atomic, with a checksum.

use std::io::{self, BufWriter, Write};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::StateError;
use super::as_text::{count, hex};
use super::store::{Blob, PendingFile, SteppedFile, Store, StoreError};
use crate::random;

const BUFFER_LEN: usize = 1 << 20;

/// An immutable file that a version names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImmutableFile {
    /// Its name without the suffix.
    pub id: Box<str>,
    /// How many entries it has.
    #[serde(with = "count")]
    pub rows: u64,
    /// Its length in bytes.
    #[serde(with = "count")]
    pub bytes: u64,
    /// XXH3-128 of its bytes.
    #[serde(rename = "xxh3", with = "hex")]
    pub checksum: u128,
}

/// Writes one immutable file. Nothing remains if it is dropped before [`Self::finish`].
pub(super) struct ImmutableWriter {
    id: Box<str>,
    file: PendingFile,
    sink: HashingWriter,
    rows: u64,
}

impl ImmutableWriter {
    pub(super) fn create(store: &Store, folder: &str, suffix: &str) -> Result<Self, StateError> {
        let id: Box<str> = random::unique_id().to_string().into();
        let file = store.pending(&format!("{folder}/{id}{suffix}"))?;
        let sink = file.writer().map_err(|e| StoreError::new("open", &file.path(), e))?;
        Ok(Self { id, file, sink: HashingWriter::new(sink), rows: 0 })
    }

    /// Appends the bytes of `rows` entries.
    pub(super) fn push(&mut self, bytes: &[u8], rows: u64) -> Result<(), StateError> {
        self.rows += rows;
        self.sink.write_all(bytes).map_err(|e| StoreError::new("write", &self.file.path(), e).into())
    }

    /// Its name without the suffix.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn bytes(&self) -> u64 {
        self.sink.bytes
    }

    pub(super) fn finish(self) -> Result<ImmutableFile, StateError> {
        let failed = |e| StoreError::new("write", &self.file.path(), e);
        let (bytes, checksum) = self.sink.close().map_err(failed)?;
        self.file.commit_new()?;
        Ok(ImmutableFile { id: self.id, rows: self.rows, bytes, checksum })
    }
}

/// Hashes a file while it is written.
pub(super) struct HashingWriter {
    file: BufWriter<SteppedFile>,
    hash: Box<Xxh3>,
    bytes: u64,
    /// A copy of what was written since [`Self::keep`].
    kept: Option<Vec<u8>>,
}

impl HashingWriter {
    pub(super) fn new(file: SteppedFile) -> Self {
        Self { file: BufWriter::with_capacity(256 << 10, file), hash: Box::default(), bytes: 0, kept: None }
    }

    pub(super) fn close(self) -> io::Result<(u64, u128)> {
        self.close_with_kept().map(|(bytes, checksum, _)| (bytes, checksum))
    }

    /// Keeps a copy of everything written from now on.
    pub(super) fn keep(&mut self) {
        self.kept = Some(Vec::new());
    }

    /// Returns the length, the checksum, and the kept copy.
    pub(super) fn close_with_kept(mut self) -> io::Result<(u64, u128, Vec<u8>)> {
        self.file.flush()?;
        Ok((self.bytes, self.hash.digest128(), self.kept.unwrap_or_default()))
    }
}

impl Write for HashingWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let len = self.file.write(buffer)?;
        self.hash.update(&buffer[..len]);
        self.bytes += len as u64;
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&buffer[..len]);
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Computes the checksum of an existing file.
pub(super) fn checksum(blob: &Blob) -> io::Result<u128> {
    let (mut hash, mut position, mut buffer) = (Xxh3::new(), 0, vec![0; BUFFER_LEN]);
    loop {
        let len = blob.read_at(&mut buffer, position)?;
        if len == 0 {
            return Ok(hash.digest128());
        }
        hash.update(&buffer[..len]);
        position += len as u64;
    }
}
