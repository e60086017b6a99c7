//! Avro object container files, written by hand: nothing of what reads them is shared.
//!
//! Source: Apache Avro 1.12, "Object Container Files". `snappy` blocks end with the CRC-32 of what they
//! hold, big-endian; `deflate` is without zlib's frame.

use std::io::{self, Write as _};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use serde::Deserialize;

use super::forms::{bytes, long, text};
use crate::rng::Rng;

/// How blocks are compressed. Braze's samples are not; what its files are is not documented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Not at all.
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

/// A file in the making.
#[derive(Debug)]
pub(super) struct Container {
    codec: Codec,
    sync: [u8; 16],
    block_len: usize,
    block: Vec<u8>,
    rows: u64,
    out: Vec<u8>,
    /// Where each block begins.
    pub(super) blocks: Vec<usize>,
}

impl Container {
    /// Blocks are closed once they have `block_len` bytes.
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

    /// Adds a row by what writes it.
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

    /// The whole file, and where each of its blocks begins.
    pub(super) fn finish(mut self) -> io::Result<(Vec<u8>, Vec<usize>)> {
        self.close_block()?;
        Ok((self.out, self.blocks))
    }
}
