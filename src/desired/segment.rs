//! Memory in pieces of one size, as many as a bound allows, and the temporary file that takes what is
//! beyond it. It does not know what the bytes are.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

/// Bytes of a segment.
pub(super) const SEGMENT_LEN: usize = 64 << 10;

/// A full segment.
#[derive(Debug)]
pub(super) enum Segment {
    /// In memory.
    Held(Vec<u8>),
    /// In the file, from `start` on.
    Spilled { start: u64, len: usize },
}

/// Segments for use, and the file.
#[derive(Debug)]
pub(super) struct Pool {
    free: Vec<Vec<u8>>,
    /// Segments that there are, free or not.
    made: usize,
    made_max: usize,
    file: Option<File>,
    file_len: u64,
}

impl Pool {
    /// A pool of which `made` segments are in use already.
    pub(super) fn new(memory_max: usize, made: usize) -> Self {
        Self { free: Vec::new(), made, made_max: memory_max / SEGMENT_LEN, file: None, file_len: 0 }
    }

    /// How many segments can still be taken.
    pub(super) fn left(&self) -> usize {
        self.free.len() + self.made_max.saturating_sub(self.made)
    }

    /// How many segments the bound allows.
    pub(super) fn len_max(&self) -> usize {
        self.made_max
    }

    /// An empty segment, even if none should be left: the bound is kept by spilling before that.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_else(|| {
            self.made += 1;
            Vec::with_capacity(SEGMENT_LEN)
        })
    }

    /// Takes a segment back.
    pub(super) fn give(&mut self, mut segment: Vec<u8>) {
        segment.clear();
        self.free.push(segment);
    }

    /// Writes a segment that is held to the file. Whether it was.
    pub(super) fn spill(&mut self, segment: &mut Segment) -> io::Result<bool> {
        let Segment::Held(bytes) = segment else { return Ok(false) };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        file.write_all(bytes)?;
        let spilled = Segment::Spilled { start: self.file_len, len: bytes.len() };
        self.file_len += bytes.len() as u64;
        if let Segment::Held(bytes) = std::mem::replace(segment, spilled) {
            self.give(bytes);
        }
        Ok(true)
    }

    /// A segment's bytes, in memory.
    pub(super) fn load(&mut self, segment: Segment) -> io::Result<Vec<u8>> {
        let (start, len) = match segment {
            Segment::Held(bytes) => return Ok(bytes),
            Segment::Spilled { start, len } => (start, len),
        };
        let mut bytes = self.take();
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.seek(SeekFrom::Start(start))?;
        let read = file.take(len as u64).read_to_end(&mut bytes)?;
        if read == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    #[cfg(test)]
    pub(super) fn has_spilled(&self) -> bool {
        self.file.is_some()
    }
}
