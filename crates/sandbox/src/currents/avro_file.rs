//! Writer of Avro object container files. It shares no code with the reader under test.
//!
//! Source: Apache Avro 1.12, "Object Container Files". `snappy` blocks end with the CRC-32 of the uncompressed
//! data, big-endian; `deflate` has no zlib frame.

use std::io::{self, Write as _};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use serde::Deserialize;

use super::encode::{bytes, long, text};
use crate::rng::Rng;

/// Compression of blocks. Braze's samples have none; Braze does not document the codec of its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// No compression.
    Null,
    /// Deflate.
    Deflate,
    /// Snappy.
    #[default]
    Snappy,
    /// Zstandard.
    Zstd,
}

impl Codec {
    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Deflate => "deflate",
            Self::Snappy => "snappy",
            Self::Zstd => "zstandard",
        }
    }

    fn compress(self, block: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Null => Ok(block.to_vec()),
            Self::Deflate => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(block)?;
                encoder.finish()
            }
            Self::Snappy => {
                let mut packed = snap::raw::Encoder::new().compress_vec(block).map_err(io::Error::other)?;
                let mut crc = Crc::new();
                crc.update(block);
                packed.extend_from_slice(&crc.sum().to_be_bytes());
                Ok(packed)
            }
            Self::Zstd => zstd::bulk::compress(block, 3),
        }
    }
}

/// An Avro file under construction.
#[derive(Debug)]
pub(super) struct AvroWriter {
    codec: Codec,
    sync: [u8; 16],
    block_len: usize,
    block: Vec<u8>,
    rows: u64,
    out: Vec<u8>,
    /// Offset of each block.
    pub(super) blocks: Vec<usize>,
}

impl AvroWriter {
    /// A block ends once it has `block_len` bytes.
    pub(super) fn new(schema: &str, codec: Codec, block_len: usize, seed: u64) -> Self {
        let mut sync = [0; 16];
        let mut rng = Rng::new(seed);
        sync[..8].copy_from_slice(&rng.draw().to_le_bytes());
        sync[8..].copy_from_slice(&rng.draw().to_le_bytes());
        let mut out = b"Obj\x01".to_vec();
        long(2, &mut out);
        text("avro.schema", &mut out);
        text(schema, &mut out);
        text("avro.codec", &mut out);
        text(codec.name(), &mut out);
        long(0, &mut out);
        out.extend_from_slice(&sync);
        Self { codec, sync, block_len, block: Vec::new(), rows: 0, out, blocks: Vec::new() }
    }

    /// Adds a row, which `write` encodes.
    pub(super) fn row(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        write(&mut self.block);
        self.rows += 1;
        if self.block.len() >= self.block_len { self.close_block() } else { Ok(()) }
    }

    fn close_block(&mut self) -> io::Result<()> {
        if self.rows > 0 {
            self.blocks.push(self.out.len());
            long(i64::try_from(self.rows).unwrap_or(i64::MAX), &mut self.out);
            bytes(&self.codec.compress(&self.block)?, &mut self.out);
            self.out.extend_from_slice(&self.sync);
            self.block.clear();
            self.rows = 0;
        }
        Ok(())
    }

    /// The complete file and the offset of each block.
    pub(super) fn finish(mut self) -> io::Result<(Vec<u8>, Vec<usize>)> {
        self.close_block()?;
        Ok((self.out, self.blocks))
    }
}
