//! Blocks of an Avro file: frames that end with the file's sync marker.

use std::io::{BufReader, Read};

use super::bytes::ByteReader;
use super::codec::UnpackedBlock;
use super::error::{AvroError, AvroProblem};
use super::header::of_io;
use super::{AvroCodec, AvroHeader, AvroLimits, AvroSchema, Records};

/// The blocks of a file, in order.
#[derive(Debug)]
pub struct AvroBlocks<R> {
    read: BufReader<R>,
    codec: AvroCodec,
    sync: [u8; 16],
    limits: AvroLimits,
    position: u64,
    packed: Vec<u8>,
}

/// One unpacked block. Refilling it reuses its memory.
#[derive(Debug, Default)]
pub struct AvroBlock {
    unpacked: UnpackedBlock,
    records: u64,
    offset: u64,
    nested_len_max: usize,
}

impl<R: Read> AvroBlocks<R> {
    /// Reads blocks from `read`, which is at `offset` in the file: behind the header, or at an earlier
    /// [`AvroBlocks::position`].
    pub fn new(read: R, header: &AvroHeader, offset: u64, limits: &AvroLimits) -> Self {
        let block_len_max = limits.block_len_max.min(u32::MAX as usize);
        Self {
            read: BufReader::with_capacity(1 << 16, read),
            codec: header.codec,
            sync: header.sync,
            limits: AvroLimits { block_len_max, ..*limits },
            position: offset,
            packed: Vec::new(),
        }
    }

    /// The end of the last complete block. Reading can resume there.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Fills `block` with the next block. Returns `false` at the end of the file.
    ///
    /// # Errors
    /// [`AvroError`]. After an error that is [of one block](AvroError::is_of_one_block), the next block can be read. Other
    /// errors end the reading.
    pub fn advance(&mut self, block: &mut AvroBlock) -> Result<bool, AvroError> {
        let offset = self.position;
        block.records = 0;
        let frame = self.frame().map_err(|problem| AvroError::new(offset, problem))?;
        let Some((records, len)) = frame else { return Ok(false) };
        self.position += len;
        let unpacked = block.unpacked.fill(self.codec, &mut self.packed, self.limits.block_len_max);
        let checked = unpacked.and_then(|()| {
            // Records of Currents are never empty. Without this check, a few bytes could claim any number of records.
            if records > block.unpacked.bytes().len() as u64 {
                return Err(AvroProblem::Record { record: 0, offset: 0, what: "more records than bytes" });
            }
            Ok(())
        });
        checked.map_err(|problem| AvroError::of_one_block(offset, problem))?;
        (block.records, block.offset, block.nested_len_max) = (records, offset, self.limits.nested_len_max);
        Ok(true)
    }

    /// Reads one frame into `packed`. Returns its number of records and its length in the file.
    fn frame(&mut self) -> Result<Option<(u64, u64)>, AvroProblem> {
        let Some((records, first)) = self.long()? else { return Ok(None) };
        let records =
            u64::try_from(records).map_err(|_| AvroProblem::Damaged("a negative count of records"))?;
        let (len, second) = self.long()?.ok_or(AvroProblem::Truncated)?;
        let len = u64::try_from(len).map_err(|_| AvroProblem::Damaged("a negative length"))?;
        let len_max = self.limits.block_len_max as u64;
        if len > len_max {
            return Err(AvroProblem::TooLarge { what: "block", len, len_max });
        }
        self.packed.clear();
        let read = (&mut self.read).take(len).read_to_end(&mut self.packed).map_err(of_io)?;
        let mut sync = [0; 16];
        if (read as u64) < len {
            return Err(AvroProblem::Truncated);
        }
        self.read.read_exact(&mut sync).map_err(of_io)?;
        if sync != self.sync {
            return Err(AvroProblem::Damaged("a block that does not end with the file's sync marker"));
        }
        Ok(Some((records, first + second + len + 16)))
    }

    /// A number and its length in bytes; `None` at the end of the file.
    fn long(&mut self) -> Result<Option<(i64, u64)>, AvroProblem> {
        let mut bytes = [0; 10];
        for at in 0..bytes.len() {
            match self.read.read_exact(&mut bytes[at..=at]).map_err(of_io) {
                Err(AvroProblem::Truncated) if at == 0 => return Ok(None),
                read => read?,
            }
            if bytes[at] < 0x80 {
                let value = ByteReader::new(&bytes[..=at]).long().map_err(AvroProblem::Damaged)?;
                return Ok(Some((value, at as u64 + 1)));
            }
        }
        Err(AvroProblem::Damaged("a number of more than 64 bits"))
    }
}

impl AvroBlock {
    /// The number of records by the frame.
    #[must_use]
    pub fn records_len(&self) -> u64 {
        self.records
    }

    /// The start of the block in the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The records of the block by the file's schema.
    #[must_use]
    pub fn records<'b>(&'b self, schema: &'b AvroSchema) -> Records<'b> {
        Records::new(self.unpacked.bytes(), schema, self.records, self.offset, self.nested_len_max)
    }
}
