//! Errors of Avro files, with their position.

use std::io;

/// A file, or a part of it, that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("at byte {offset}: {problem}")]
pub struct AvroError {
    /// The position in the file. Errors within a block have the start of the block.
    pub offset: u64,
    /// The error.
    pub problem: AvroProblem,
    is_of_one_block: bool,
}

impl AvroError {
    pub(super) fn new(offset: u64, problem: AvroProblem) -> Self {
        Self { offset, problem, is_of_one_block: false }
    }

    /// An error in a block with a complete frame.
    pub(super) fn of_one_block(offset: u64, problem: AvroProblem) -> Self {
        Self { offset, problem, is_of_one_block: true }
    }

    /// Whether the file is incomplete and may become complete later.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        matches!(self.problem, AvroProblem::Truncated)
    }

    /// Whether only one block is lost and the next one can be read.
    #[must_use]
    pub fn is_of_one_block(&self) -> bool {
        self.is_of_one_block
    }
}

/// The kind of an error.
#[derive(Debug, thiserror::Error)]
pub enum AvroProblem {
    /// The file ends within a block or the header.
    #[error("the file is incomplete")]
    Truncated,
    /// The file does not start with the magic bytes of Avro.
    #[error("not an Avro file")]
    NotAvro,
    /// The schema is not supported.
    #[error("unusable schema: {0}")]
    Schema(String),
    /// The codec is not supported.
    #[error("unknown codec `{0}`")]
    Codec(String),
    /// A length exceeds its limit.
    #[error("{what} of {len} bytes; the limit is {len_max}")]
    TooLarge {
        /// The object with the length.
        what: &'static str,
        /// Its known length.
        len: u64,
        /// The limit.
        len_max: u64,
    },
    /// The bytes are invalid.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// A block cannot be unpacked.
    #[error("a block cannot be decompressed as {codec}")]
    Unpacking {
        /// The codec of the block.
        codec: &'static str,
    },
    /// The checksum of a block is wrong.
    #[error("a block with a wrong checksum")]
    Checksum,
    /// A record does not fit the schema. The rest of its block is lost.
    #[error("record {record} of the block, at its byte {offset}: {what}")]
    Record {
        /// The index of the record in the block.
        record: u64,
        /// The start of the record in the unpacked block.
        offset: usize,
        /// The error.
        what: &'static str,
    },
    /// The bytes could not be read.
    #[error("cannot be read: {0}")]
    Io(#[source] io::Error),
}
