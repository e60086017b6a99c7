//! Compression codecs of Avro blocks.

use std::io::Read;

use super::error::AvroProblem;

/// A codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AvroCodec {
    /// No compression.
    Null,
    /// Raw deflate.
    Deflate,
    /// Snappy, followed by the CRC-32 of the unpacked bytes.
    Snappy,
    /// Zstandard.
    Zstandard,
}

impl AvroCodec {
    pub(super) fn parse(name: &[u8]) -> Result<Self, AvroProblem> {
        match name {
            b"" | b"null" => Ok(Self::Null),
            b"deflate" => Ok(Self::Deflate),
            b"snappy" => Ok(Self::Snappy),
            b"zstandard" => Ok(Self::Zstandard),
            other => Err(AvroProblem::Codec(String::from_utf8_lossy(other).chars().take(40).collect())),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Deflate => "deflate",
            Self::Snappy => "snappy",
            Self::Zstandard => "zstandard",
        }
    }
}

/// An unpacked block. The buffer is kept and never cleared, because clearing costs as much as unpacking.
#[derive(Debug, Default)]
pub(super) struct UnpackedBlock {
    buffer: Vec<u8>,
    len: usize,
}

impl UnpackedBlock {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// Unpacks a block. `packed` can be reused afterwards.
    pub(super) fn fill(
        &mut self,
        codec: AvroCodec,
        packed: &mut Vec<u8>,
        len_max: usize,
    ) -> Result<(), AvroProblem> {
        self.len = 0;
        match codec {
            AvroCodec::Null => {
                std::mem::swap(&mut self.buffer, packed);
                self.len = self.buffer.len();
                Ok(())
            }
            AvroCodec::Snappy => self.snappy(packed, len_max),
            AvroCodec::Deflate => {
                self.stream(codec, flate2::bufread::DeflateDecoder::new(packed.as_slice()), len_max)
            }
            AvroCodec::Zstandard => {
                let broken = |_| AvroProblem::Unpacking { codec: codec.name() };
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(packed.as_slice()).map_err(broken)?;
                // A window larger than the output limit is never needed.
                decoder.window_log_max((len_max.max(1 << 10).ilog2() + 1).min(30)).map_err(broken)?;
                self.stream(codec, decoder, len_max)
            }
        }
    }

    fn stream(&mut self, codec: AvroCodec, read: impl Read, len_max: usize) -> Result<(), AvroProblem> {
        self.buffer.clear();
        let read = read.take(len_max as u64 + 1).read_to_end(&mut self.buffer);
        read.map_err(|_| AvroProblem::Unpacking { codec: codec.name() })?;
        if self.buffer.len() > len_max {
            self.buffer = Vec::new();
            return Err(too_large(len_max as u64 + 1, len_max));
        }
        self.len = self.buffer.len();
        Ok(())
    }

    fn snappy(&mut self, packed: &[u8], len_max: usize) -> Result<(), AvroProblem> {
        let broken = || AvroProblem::Unpacking { codec: AvroCodec::Snappy.name() };
        let (packed, checksum) = packed.split_last_chunk::<4>().ok_or_else(broken)?;
        let len = snap::raw::decompress_len(packed).map_err(|_| broken())?;
        if len > len_max {
            return Err(too_large(len as u64, len_max));
        }
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        let unpacked = snap::raw::Decoder::new().decompress(packed, &mut self.buffer[..len]);
        let unpacked = unpacked.map_err(|_| broken())?;
        let found = crc32fast::hash(&self.buffer[..unpacked]);
        if found != u32::from_be_bytes(*checksum) {
            return Err(AvroProblem::Checksum);
        }
        self.len = unpacked;
        Ok(())
    }
}

fn too_large(len: u64, len_max: usize) -> AvroProblem {
    AvroProblem::TooLarge { what: "unpacked block", len, len_max: len_max as u64 }
}
