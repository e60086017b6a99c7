//! Signed, compressed files. A file is read exactly as it was written, or not at all.
//!
//! ```text
//! zstd frames
//! length of the unpacked text (8 bytes, little-endian)
//! HMAC-SHA256 (32 bytes) of all bytes before it
//! "syncplan" (8 bytes)
//! ```
//!
//! The signature is checked before the first byte is unpacked. The signed length bounds the unpacking.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// First bytes of every zstd frame.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const MAGIC: &[u8; 8] = b"syncplan";
const SIGNATURE_LEN: usize = 32;
const LENGTH_LEN: usize = 8;
const TRAILER_LEN: usize = LENGTH_LEN + SIGNATURE_LEN + MAGIC.len();
const BUFFER_LEN: usize = 1 << 16;

/// Why a signed file cannot be read.
#[derive(Debug)]
pub(super) enum SignedError {
    Io(io::Error),
    /// It does not start like a signed file.
    Foreign,
    /// It is truncated.
    Truncated,
    /// Its bytes or the keys differ from those of the signature.
    Signature,
}

impl From<io::Error> for SignedError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn hmac(key: &[u8]) -> io::Result<Hmac<Sha256>> {
    Hmac::new_from_slice(key).map_err(io::Error::other)
}

/// Writes a signed file.
pub(super) struct SignedWriter<'a> {
    zstd: BufWriter<zstd::stream::write::Encoder<'a, SigningWriter<'a>>>,
    unpacked: u64,
}

/// Writes bytes to the file and updates their signature.
struct SigningWriter<'a> {
    file: &'a mut File,
    mac: Hmac<Sha256>,
}

impl Write for SigningWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.file.write(bytes)?;
        self.mac.update(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl<'a> SignedWriter<'a> {
    pub(super) fn new(file: &'a mut File, key: &[u8]) -> io::Result<Self> {
        let zstd = zstd::stream::write::Encoder::new(SigningWriter { file, mac: hmac(key)? }, 0)?;
        Ok(Self { zstd: BufWriter::with_capacity(BUFFER_LEN, zstd), unpacked: 0 })
    }

    pub(super) fn finish(self) -> io::Result<()> {
        let zstd = self.zstd.into_inner().map_err(io::IntoInnerError::into_error)?;
        let SigningWriter { file, mut mac } = zstd.finish()?;
        let length = self.unpacked.to_le_bytes();
        mac.update(&length);
        file.write_all(&length)?;
        file.write_all(&mac.finalize().into_bytes())?;
        file.write_all(MAGIC)
    }
}

impl Write for SignedWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.zstd.write(bytes)?;
        self.unpacked += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.zstd.flush()
    }
}

/// Opens a file that is signed with one of these keys. Returns its text and the index of the key.
pub(super) fn open(mut file: File, keys: &[[u8; 32]]) -> Result<(impl BufRead + use<>, usize), SignedError> {
    let length = file.metadata()?.len();
    let mut head = Vec::new();
    (&mut file).take(ZSTD_MAGIC.len() as u64).read_to_end(&mut head)?;
    if head != ZSTD_MAGIC {
        return Err(SignedError::Foreign);
    }
    let Some(signed) = length.checked_sub((SIGNATURE_LEN + MAGIC.len()) as u64) else {
        return Err(SignedError::Truncated);
    };
    let Some(packed) = length.checked_sub(TRAILER_LEN as u64) else { return Err(SignedError::Truncated) };
    let mut trailer = [0; TRAILER_LEN];
    file.seek(SeekFrom::Start(packed))?;
    file.read_exact(&mut trailer)?;
    let (unpacked, rest) = trailer.split_at(LENGTH_LEN);
    let (signature, magic) = rest.split_at(SIGNATURE_LEN);
    if magic != MAGIC {
        return Err(SignedError::Truncated);
    }
    file.seek(SeekFrom::Start(0))?;
    let key = signed_with(&mut (&mut file).take(signed), signature, keys)?.ok_or(SignedError::Signature)?;
    file.seek(SeekFrom::Start(0))?;
    let unpacked = u64::from_le_bytes(unpacked.try_into().unwrap_or_default());
    let text = zstd::stream::read::Decoder::new(file.take(packed))?.take(unpacked);
    Ok((BufReader::with_capacity(BUFFER_LEN, text), key))
}

/// The index of the key that these bytes are signed with.
fn signed_with(bytes: &mut impl Read, signature: &[u8], keys: &[[u8; 32]]) -> io::Result<Option<usize>> {
    let mut macs = keys.iter().map(|key| hmac(key)).collect::<io::Result<Vec<_>>>()?;
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let len = bytes.read(&mut buffer)?;
        if len == 0 {
            return Ok(macs.into_iter().position(|mac| mac.verify_slice(signature).is_ok()));
        }
        macs.iter_mut().for_each(|mac| mac.update(&buffer[..len]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn signed(text: &[u8]) -> Vec<u8> {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = SignedWriter::new(&mut file, &KEY).unwrap();
        writer.write_all(text).unwrap();
        writer.finish().unwrap();
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn read(bytes: &[u8], keys: &[[u8; 32]]) -> Result<Vec<u8>, SignedError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = Vec::new();
        open(file, keys)?.0.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_found() {
        let text = b"one\ntwo\nthree\n".repeat(20);
        let bytes = signed(&text);
        assert_eq!(read(&bytes, &[[1; 32], KEY]).unwrap(), text);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad, &[KEY]).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len], &[KEY]).is_err(), "{len} bytes");
        }
        assert!(matches!(read(&bytes, &[[1; 32]]), Err(SignedError::Signature)));
    }

    #[test]
    fn a_signed_length_bounds_the_unpacking() {
        // As a holder of the key could make it: more text than its length says.
        let mut bytes = zstd::encode_all(&vec![0u8; 1 << 20][..], 0).unwrap();
        bytes.extend_from_slice(&100u64.to_le_bytes());
        let mut mac = hmac(&KEY).unwrap();
        mac.update(&bytes);
        bytes.extend_from_slice(&mac.finalize().into_bytes());
        bytes.extend_from_slice(MAGIC);
        assert_eq!(read(&bytes, &[KEY]).unwrap().len(), 100);
    }
}
