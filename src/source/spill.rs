//! Chunks of bytes that spill from memory to a temporary file beyond a bound.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use memmap2::MmapMut;

use crate::state::MemoryGrowth;

/// Longest chunk in bytes. Each chunk occupies this much in memory and in the file, regardless of its length.
pub(super) const CHUNK_LEN: usize = 16 << 10;
/// Bytes of one memory allocation.
const SLAB_LEN: usize = 4 << 20;
const SLAB_CHUNKS: usize = SLAB_LEN / CHUNK_LEN;

/// One chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpillChunk {
    number: usize,
    len: usize,
}

/// All chunks. The first ones are in memory, in slabs; all others are in the file.
#[derive(Debug)]
pub(super) struct SpillFile {
    slabs: Vec<MmapMut>,
    slabs_max: usize,
    /// Memory of the process that is used beyond the cohort's permit.
    growth: MemoryGrowth,
    file: Option<File>,
    /// Number of chunks.
    chunks: usize,
}

impl SpillFile {
    pub(super) fn new(memory_max: usize) -> Self {
        Self {
            slabs: Vec::new(),
            slabs_max: memory_max / SLAB_LEN,
            growth: MemoryGrowth::default(),
            file: None,
            chunks: 0,
        }
    }

    /// The first chunks: empty, and in memory even if the bound is lower.
    pub(super) fn open(&mut self, count: usize) -> io::Result<Vec<SpillChunk>> {
        while self.slabs.len() * SLAB_CHUNKS < count {
            self.slabs.push(MmapMut::map_anon(SLAB_LEN)?);
        }
        Ok((0..count).map(|_| self.next()).collect())
    }

    fn next(&mut self) -> SpillChunk {
        self.chunks += 1;
        SpillChunk { number: self.chunks - 1, len: 0 }
    }

    /// Appends to a chunk in memory. Returns `false` if the chunk has not enough space.
    #[inline]
    pub(super) fn extend(&mut self, chunk: &mut SpillChunk, bytes: &[u8]) -> bool {
        let (slab, start) = slab_position(chunk.number);
        let end = chunk.len + bytes.len();
        if end > CHUNK_LEN {
            return false;
        }
        self.slabs[slab][start + chunk.len..start + end].copy_from_slice(bytes);
        chunk.len = end;
        true
    }

    /// Stores a full chunk, in the file if memory is full, and makes `chunk` an empty one.
    pub(super) fn replace_full(&mut self, chunk: &mut SpillChunk) -> io::Result<SpillChunk> {
        let mut next = self.next();
        let (slab, _) = slab_position(next.number);
        if slab == self.slabs.len() && slab < self.slabs_max && self.growth.try_more(SLAB_LEN) {
            self.slabs.push(large_pages(MmapMut::map_anon(SLAB_LEN)?));
        }
        if slab < self.slabs.len() {
            std::mem::swap(chunk, &mut next);
            return Ok(next);
        }
        let (slab, start) = slab_position(chunk.number);
        write(&mut self.file, next.number, &self.slabs[slab][start..start + chunk.len])?;
        next.len = std::mem::take(&mut chunk.len);
        Ok(next)
    }

    /// Reserves memory for loaded chunks. Returns `false` if there is not enough.
    pub(super) fn reserve(&mut self, bytes: usize) -> bool {
        self.growth.try_more(bytes)
    }

    /// The bytes of a chunk; none if it is in the file.
    #[inline]
    pub(super) fn in_memory(&self, chunk: SpillChunk) -> Option<&[u8]> {
        let (slab, start) = slab_position(chunk.number);
        self.slabs.get(slab).map(|slab| &slab[start..start + chunk.len])
    }

    /// Reads a chunk from the file.
    pub(super) fn load(&self, chunk: SpillChunk, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        file.seek(SeekFrom::Start(offset(chunk.number)))?;
        bytes.resize(chunk.len, 0);
        file.read_exact(bytes)
    }

    /// Bytes of memory in use.
    pub(super) fn memory(&self) -> usize {
        self.slabs.len() * SLAB_LEN
    }

    /// Moves one slab from memory to the file. Returns `false` if there was none.
    pub(super) fn spill(&mut self) -> io::Result<bool> {
        let Some(slab) = self.slabs.pop() else { return Ok(false) };
        write(&mut self.file, self.slabs.len() * SLAB_CHUNKS, &slab)?;
        drop(slab);
        self.growth.less(SLAB_LEN);
        Ok(true)
    }

    #[cfg(test)]
    pub(super) fn has_spilled(&self) -> bool {
        self.file.is_some()
    }
}

/// The slab of a chunk, and the chunk's start in it.
#[inline]
fn slab_position(number: usize) -> (usize, usize) {
    (number / SLAB_CHUNKS, number % SLAB_CHUNKS * CHUNK_LEN)
}

/// The chunk's position in the file.
fn offset(number: usize) -> u64 {
    number as u64 * CHUNK_LEN as u64
}

/// Writes the bytes of a chunk to its position.
fn write(file: &mut Option<File>, number: usize, bytes: &[u8]) -> io::Result<()> {
    let file = match file {
        Some(file) => file,
        none => none.insert(tempfile::tempfile()?),
    };
    file.seek(SeekFrom::Start(offset(number)))?;
    file.write_all(bytes)
}

/// Asks for huge pages: faults of small pages take a tenth of a plan's time. Systems without huge pages ignore the
/// request.
fn large_pages(slab: MmapMut) -> MmapMut {
    #[cfg(target_os = "linux")]
    let _ = slab.advise(memmap2::Advice::HugePage);
    slab
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(memory_max: usize, spills: usize) {
        let mut spill = SpillFile::new(memory_max);
        let mut open = spill.open(2).unwrap();
        let mut written: Vec<(SpillChunk, Vec<u8>)> = Vec::new();
        for round in 0..u8::MAX {
            let bytes = vec![round; CHUNK_LEN - usize::from(round)];
            let chunk = &mut open[usize::from(round % 2)];
            assert!(spill.extend(chunk, &bytes[..9]) && spill.extend(chunk, &bytes[9..]));
            assert!(!spill.extend(chunk, &[0; 256]), "the chunk is full");
            written.push((spill.replace_full(chunk).unwrap(), bytes));
        }
        for (n, chunk) in (0..).zip(&mut open) {
            assert!(spill.extend(chunk, &[n]));
            written.push((*chunk, vec![n]));
        }
        assert!((0..spills).all(|_| spill.spill().unwrap()));
        let (mut in_memory, mut loaded) = (0, Vec::new());
        for (chunk, bytes) in &written {
            match spill.in_memory(*chunk) {
                Some(found) => assert!(found == bytes),
                None => spill.load(*chunk, &mut loaded).unwrap(),
            }
            in_memory += usize::from(spill.in_memory(*chunk).is_some());
            assert!(spill.in_memory(*chunk).is_some() || loaded == *bytes);
        }
        assert!(in_memory * CHUNK_LEN <= spill.memory(), "{in_memory}");
        assert_eq!(spill.has_spilled(), in_memory < written.len());
    }

    #[test]
    fn chunks_are_read_back_from_memory_and_from_the_file() {
        for (memory_max, spills) in
            [(usize::MAX, 0), (usize::MAX, 2), (9 << 20, 0), (9 << 20, 2), (0, 0), (0, 1)]
        {
            check(memory_max, spills);
        }
    }
}
