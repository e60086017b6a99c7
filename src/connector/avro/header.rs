//! Header of an Avro file: schema, codec and sync marker.

use std::io::{self, Read};

use super::bytes::ByteReader;
use super::error::{AvroError, AvroProblem};
use super::{AvroCodec, AvroLimits, AvroSchema};

const MAGIC: [u8; 4] = *b"Obj\x01";
/// The length of the sync marker behind each block.
pub const MARK_LEN: usize = 16;

/// The header of a file.
#[derive(Clone, Debug)]
pub struct AvroHeader {
    /// The schema of the records.
    pub schema: AvroSchema,
    /// The codec of the blocks.
    pub codec: AvroCodec,
    pub(super) sync: [u8; MARK_LEN],
    len: u64,
}

impl AvroHeader {
    /// Reads the header and no byte beyond it.
    ///
    /// # Errors
    /// [`AvroError`] when the file is not an Avro file, is incomplete, or is not supported.
    pub fn read(read: &mut impl Read, limits: &AvroLimits) -> Result<Self, AvroError> {
        let mut front = HeaderReader { read, all: Vec::new(), len_max: limits.header_len_max };
        if front.take(4)? != MAGIC {
            return Err(AvroError::new(0, AvroProblem::NotAvro));
        }
        let (mut schema, mut codec) = (None, AvroCodec::Null);
        while let Some(entries) = front.count()? {
            for _ in 0..entries {
                let key = front.text()?.to_vec();
                let at = front.all.len() as u64;
                let value = front.text()?;
                let fail = |problem| AvroError::new(at, problem);
                match key.as_slice() {
                    b"avro.schema" => {
                        let json = String::from_utf8_lossy(value);
                        schema =
                            Some(AvroSchema::parse(&json).map_err(|error| fail(AvroProblem::Schema(error)))?);
                    }
                    b"avro.codec" => codec = AvroCodec::parse(value).map_err(fail)?,
                    _ => {}
                }
            }
        }
        let at = front.all.len() as u64;
        let schema =
            schema.ok_or_else(|| AvroError::new(at, AvroProblem::Schema("there is none".to_owned())))?;
        let mut sync = [0; MARK_LEN];
        sync.copy_from_slice(front.take(MARK_LEN)?);
        Ok(Self { schema, codec, sync, len: front.all.len() as u64 })
    }

    /// The position of the first block.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The sync marker.
    #[must_use]
    pub fn mark(&self) -> &[u8; MARK_LEN] {
        &self.sync
    }

    /// Always `false`: a header has at least a sync marker.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A reader that stops at the end of the header and at the limit.
struct HeaderReader<'a, R> {
    read: &'a mut R,
    all: Vec<u8>,
    len_max: usize,
}

impl<R: Read> HeaderReader<'_, R> {
    fn fail<T>(&self, problem: AvroProblem) -> Result<T, AvroError> {
        Err(AvroError::new(self.all.len() as u64, problem))
    }

    fn take(&mut self, len: usize) -> Result<&[u8], AvroError> {
        let start = self.all.len();
        let end = start.saturating_add(len);
        if end > self.len_max {
            let (len, len_max) = (end as u64, self.len_max as u64);
            return self.fail(AvroProblem::TooLarge { what: "header", len, len_max });
        }
        let read = self.read.by_ref().take(len as u64).read_to_end(&mut self.all);
        if read.is_ok() && self.all.len() == end {
            return Ok(&self.all[start..]);
        }
        // A short file that differs from the magic bytes is not an Avro file.
        let is_other = start == 0 && !MAGIC.starts_with(&self.all);
        self.all.truncate(start);
        let problem = read.map_or_else(of_io, |_| AvroProblem::Truncated);
        self.fail(if is_other { AvroProblem::NotAvro } else { problem })
    }

    fn long(&mut self) -> Result<i64, AvroError> {
        let start = self.all.len();
        while self.take(1)?[0] >= 0x80 {}
        match ByteReader::new(&self.all[start..]).long() {
            Ok(value) => Ok(value),
            Err(what) => self.fail(AvroProblem::Damaged(what)),
        }
    }

    fn text(&mut self) -> Result<&[u8], AvroError> {
        match usize::try_from(self.long()?) {
            Ok(len) => self.take(len),
            Err(_) => self.fail(AvroProblem::Damaged("a negative length")),
        }
    }

    /// The number of entries in the next chunk of metadata; `None` at its end.
    fn count(&mut self) -> Result<Option<u64>, AvroError> {
        let count = self.long()?;
        if count < 0 {
            self.long()?;
        }
        Ok(Some(count.unsigned_abs()).filter(|count| *count != 0))
    }
}

/// The end of the file is not a disk error.
pub(super) fn of_io(error: io::Error) -> AvroProblem {
    if error.kind() == io::ErrorKind::UnexpectedEof { AvroProblem::Truncated } else { AvroProblem::Io(error) }
}
