//! What can be wrong with a file, and where.

use std::io;

/// A file, or a part of it, that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("at byte {offset}: {problem}")]
pub struct AvroError {
    /// Where in the file. Within a block it is where the block begins.
    pub offset: u64,
    /// What is wrong there.
    pub problem: AvroProblem,
    is_of_one_block: bool,
}

impl AvroError {
    pub(super) fn new(offset: u64, problem: AvroProblem) -> Self {
        Self { offset, problem, is_of_one_block: false }
    }

    /// An error in a block whose frame is whole.
    pub(super) fn of_one_block(offset: u64, problem: AvroProblem) -> Self {
        Self { offset, problem, is_of_one_block: true }
    }

    /// Whether the file just ends too early, so that it may be whole later.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        matches!(self.problem, AvroProblem::Truncated)
    }

    /// Whether only one block is lost: the next one can be read.
    #[must_use]
    pub fn is_of_one_block(&self) -> bool {
        self.is_of_one_block
    }
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum AvroProblem {
    /// The file ends in the middle of something.
    #[error("the file ends too early")]
    Truncated,
    /// It does not begin as an Avro file does.
    #[error("not an Avro file")]
    NotAvro,
    /// The schema cannot be understood.
    #[error("unusable schema: {0}")]
    Schema(String),
    /// Blocks are packed in a way that is not known here.
    #[error("unknown codec `{0}`")]
    Codec(String),
    /// Something is larger than the limit.
    #[error("{what} of {len} bytes; the limit is {len_max}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size, as far as known.
        len: u64,
        /// The limit.
        len_max: u64,
    },
    /// What stands there cannot be.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// A block that cannot be unpacked.
    #[error("a block that cannot be unpacked as {codec}")]
    Unpacking {
        /// How it should be packed.
        codec: &'static str,
    },
    /// A block whose checksum is wrong.
    #[error("a block with a wrong checksum")]
    Checksum,
    /// A record that its schema cannot read. What follows it in its block is lost with it.
    #[error("record {record} of the block, at its byte {offset}: {what}")]
    Record {
        /// Which record of the block, from 0.
        record: u64,
        /// Where in the unpacked block the record begins.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// The bytes could not be read at all.
    #[error("cannot be read: {0}")]
    Io(#[source] io::Error),
}
