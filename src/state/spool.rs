//! Spool: a list of packed identifiers in memory, or, if large, in an unnamed temporary file.
//!
//! The operating system deletes the file when the process ends. Each identifier is preceded by its length in two bytes.

use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};

use super::StateError;
use super::memory::SpoolFile;
use crate::model::Identifier;

const BUFFER_LEN: usize = 64 << 10;

/// A list of packed identifiers that is written once and can be read many times.
#[derive(Debug, Default)]
pub struct Spool {
    file: SpoolFile,
    buffer: Vec<u8>,
    len: u64,
}

impl Spool {
    /// How many identifiers it holds.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends one packed identifier.
    ///
    /// # Errors
    /// When the write fails.
    pub fn push(&mut self, packed: &[u8]) -> Result<(), StateError> {
        self.buffer.extend_from_slice(&packed.len().to_le_bytes()[..2]);
        self.buffer.extend_from_slice(packed);
        self.len += 1;
        if self.buffer.len() >= BUFFER_LEN { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StateError> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Reads from the start, at most `batch_len` identifiers at a time.
    ///
    /// # Errors
    /// When the read fails.
    pub fn batches(&mut self, batch_len: usize) -> Result<SpoolBatches<'_>, StateError> {
        self.flush()?;
        self.buffer = Vec::new(); // it is rarely written to after it was read
        self.file.seek(SeekFrom::Start(0))?;
        let file = BufReader::with_capacity(BUFFER_LEN, &mut self.file);
        Ok(SpoolBatches { file, batch_len, row: 0, len: self.len })
    }

    /// Calls `each` with every packed identifier, in order.
    ///
    /// # Errors
    /// When the read fails, or `each` fails.
    pub fn for_each(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let mut batches = self.batches(BUFFER_LEN / 64)?;
        while let Some(batch) = batches.next_batch()? {
            (0..batch.len()).try_for_each(|at| each(batch.packed(at)))?;
        }
        Ok(())
    }
}

/// Reads a spool in batches.
#[derive(Debug)]
pub struct SpoolBatches<'a> {
    file: BufReader<&'a mut SpoolFile>,
    batch_len: usize,
    row: u64,
    len: u64,
}

impl SpoolBatches<'_> {
    /// Returns the next batch. `None`: the end.
    ///
    /// # Errors
    /// When the read fails.
    pub fn next_batch(&mut self) -> Result<Option<SpoolBatch>, StateError> {
        let count = usize::try_from(self.len - self.row).unwrap_or(usize::MAX).min(self.batch_len);
        if count == 0 {
            return Ok(None);
        }
        let mut batch =
            SpoolBatch { first_row: self.row, bytes: Vec::new(), ends: Vec::with_capacity(count) };
        for _ in 0..count {
            read_packed(&mut self.file, &mut batch.bytes)?;
            batch.ends.push(batch.bytes.len());
        }
        self.row += count as u64;
        Ok(Some(batch))
    }
}

/// Appends one packed identifier to `bytes`.
fn read_packed(file: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut len = [0; 2];
    file.read_exact(&mut len)?;
    let start = bytes.len();
    bytes.resize(start + usize::from(u16::from_le_bytes(len)), 0);
    file.read_exact(&mut bytes[start..])
}

/// A batch of packed identifiers, and its first row in the spool.
#[derive(Debug)]
pub struct SpoolBatch {
    first_row: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl SpoolBatch {
    /// How many identifiers it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The spool's row of the identifier at this index.
    #[must_use]
    pub fn row(&self, at: usize) -> u64 {
        self.first_row + at as u64
    }

    /// The packed identifier at this index.
    #[must_use]
    pub fn packed(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }

    /// Unpacks the identifiers at these indices.
    ///
    /// # Errors
    /// When the temporary file is damaged.
    pub fn identifiers(&self, rows: &[usize]) -> Result<Vec<Identifier<'_>>, StateError> {
        let unpack = |at: &usize| Identifier::unpack(self.packed(*at)).map(|(identifier, _)| identifier);
        rows.iter()
            .map(unpack)
            .collect::<Result<_, _>>()
            .map_err(|e| StateError::TemporaryFile(io::Error::other(e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::IdentifierKind;

    #[test]
    fn identifiers_survive_in_memory_and_on_disk() {
        for len in [0u32, 1, 7, 60_000] {
            let values: Vec<String> = (0..len).map(|n| format!("user-{n:020}")).collect();
            let mut spool = Spool::default();
            for value in &values {
                let mut packed = Vec::new();
                Identifier { kind: IdentifierKind::ExternalId, label: "", value }.pack_into(&mut packed);
                spool.push(&packed).unwrap();
            }
            for _ in 0..2 {
                let (mut read, mut row) = (Vec::new(), 0);
                let mut batches = spool.batches(7).unwrap();
                while let Some(batch) = batches.next_batch().unwrap() {
                    let rows: Vec<usize> = (0..batch.len()).collect();
                    rows.iter().for_each(|at| assert_eq!(batch.row(*at), row + *at as u64));
                    row += batch.len() as u64;
                    let ids = batch.identifiers(&rows).unwrap();
                    read.extend(ids.iter().map(|id| id.value.to_owned()));
                }
                assert!(read == values, "{len}");
            }
        }
    }
}
