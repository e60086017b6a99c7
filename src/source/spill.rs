//! Chunks of bytes: in memory as far as a bound allows, and beyond that in a temporary file. It does not
//! know what the bytes are.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use memmap2::MmapMut;

use crate::state::Growth;

/// Longest chunk in bytes. In memory and in the file chunks are so far apart, whatever their length.
pub(super) const CHUNK_LEN: usize = 16 << 10;
/// Memory is taken so much at a time.
const SLAB_LEN: usize = 4 << 20;
const SLAB_CHUNKS: usize = SLAB_LEN / CHUNK_LEN;

/// One chunk of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpillChunk {
    number: usize,
    len: usize,
}

/// The log. The chunks of its slabs are in memory, all others in the file.
#[derive(Debug)]
pub(super) struct SpillFile {
    slabs: Vec<MmapMut>,
    slabs_max: usize,
    /// Bytes of the process's budget that it holds, beyond the permit of its cohort.
    growth: Growth,
    file: Option<File>,
    /// Chunks so far.
    chunks: usize,
}

impl SpillFile {
    pub(super) fn new(memory_max: usize) -> Self {
        Self {
            slabs: Vec::new(),
            slabs_max: memory_max / SLAB_LEN,
            growth: Growth::default(),
            file: None,
            chunks: 0,
        }
    }

    /// The first chunks, empty and in memory whatever the bound.
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

    /// Appends to a chunk that is in memory. `false`: it would become too long.
    #[inline]
    pub(super) fn extend(&mut self, chunk: &mut SpillChunk, bytes: &[u8]) -> bool {
        let (slab, start) = place(chunk.number);
        let end = chunk.len + bytes.len();
        if end > CHUNK_LEN {
            return false;
        }
        self.slabs[slab][start + chunk.len..start + end].copy_from_slice(bytes);
        chunk.len = end;
        true
    }

    /// Puts a full chunk away, into the file if memory is full. The chunk becomes an empty one.
    pub(super) fn turn(&mut self, chunk: &mut SpillChunk) -> io::Result<SpillChunk> {
        let mut next = self.next();
        let (slab, _) = place(next.number);
        if slab == self.slabs.len() && slab < self.slabs_max && self.growth.try_more(SLAB_LEN) {
            self.slabs.push(large_pages(MmapMut::map_anon(SLAB_LEN)?));
        }
        if slab < self.slabs.len() {
            std::mem::swap(chunk, &mut next);
            return Ok(next);
        }
        let (slab, start) = place(chunk.number);
        write(&mut self.file, next.number, &self.slabs[slab][start..start + chunk.len])?;
        next.len = std::mem::take(&mut chunk.len);
        Ok(next)
    }

    /// Takes memory for chunks that are loaded, if there is enough.
    pub(super) fn make_room(&mut self, bytes: usize) -> bool {
        self.growth.try_more(bytes)
    }

    /// A chunk that is in memory.
    #[inline]
    pub(super) fn kept(&self, chunk: SpillChunk) -> Option<&[u8]> {
        let (slab, start) = place(chunk.number);
        self.slabs.get(slab).map(|slab| &slab[start..start + chunk.len])
    }

    /// Reads a chunk that is in the file.
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

    /// Moves some of what is in memory to the file. Whether there was anything.
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

/// The slab of a chunk, and where it starts in it.
#[inline]
fn place(number: usize) -> (usize, usize) {
    (number / SLAB_CHUNKS, number % SLAB_CHUNKS * CHUNK_LEN)
}

/// Where a chunk is in the file.
fn offset(number: usize) -> u64 {
    number as u64 * CHUNK_LEN as u64
}

/// Writes bytes where the chunk of that number belongs.
fn write(file: &mut Option<File>, number: usize, bytes: &[u8]) -> io::Result<()> {
    let file = match file {
        Some(file) => file,
        none => none.insert(tempfile::tempfile()?),
    };
    file.seek(SeekFrom::Start(offset(number)))?;
    file.write_all(bytes)
}

/// Memory that will be filled, in pages as large as the system has them: handing out small ones takes a
/// tenth of a plan's time. Where there are no large ones, so be it.
fn large_pages(slab: MmapMut) -> MmapMut {
    #[cfg(target_os = "linux")]
    let _ = slab.advise(memmap2::Advice::HugePage);
    slab
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(memory_max: usize, spills: usize) {
        let mut log = SpillFile::new(memory_max);
        let mut open = log.open(2).unwrap();
        let mut written: Vec<(SpillChunk, Vec<u8>)> = Vec::new();
        for round in 0..u8::MAX {
            let bytes = vec![round; CHUNK_LEN - usize::from(round)];
            let chunk = &mut open[usize::from(round % 2)];
            assert!(log.extend(chunk, &bytes[..9]) && log.extend(chunk, &bytes[9..]));
            assert!(!log.extend(chunk, &[0; 256]), "it is as good as full");
            written.push((log.turn(chunk).unwrap(), bytes));
        }
        for (n, chunk) in (0..).zip(&mut open) {
            assert!(log.extend(chunk, &[n]));
            written.push((*chunk, vec![n]));
        }
        assert!((0..spills).all(|_| log.spill().unwrap()));
        let (mut kept, mut loaded) = (0, Vec::new());
        for (chunk, bytes) in &written {
            match log.kept(*chunk) {
                Some(found) => assert!(found == bytes),
                None => log.load(*chunk, &mut loaded).unwrap(),
            }
            kept += usize::from(log.kept(*chunk).is_some());
            assert!(log.kept(*chunk).is_some() || loaded == *bytes);
        }
        assert!(kept * CHUNK_LEN <= log.memory(), "{kept}");
        assert_eq!(log.has_spilled(), kept < written.len());
    }

    #[test]
    fn what_is_appended_is_found_wherever_it_is() {
        for (memory_max, spills) in
            [(usize::MAX, 0), (usize::MAX, 2), (9 << 20, 0), (9 << 20, 2), (0, 0), (0, 1)]
        {
            check(memory_max, spills);
        }
    }
}
