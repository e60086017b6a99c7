//! Cursor over the bytes of a block: Avro's primitive encodings.

/// The reason why a value is malformed.
pub(super) type MalformedReason = &'static str;

#[derive(Clone, Copy, Debug)]
pub(super) struct ByteReader<'a> {
    pub(super) all: &'a [u8],
    pub(super) at: usize,
}

impl<'a> ByteReader<'a> {
    pub(super) fn new(all: &'a [u8]) -> Self {
        Self { all, at: 0 }
    }

    pub(super) fn left(&self) -> usize {
        self.all.len() - self.at
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, MalformedReason> {
        let byte = *self.all.get(self.at).ok_or("a value beyond the end of the block")?;
        self.at += 1;
        Ok(byte)
    }

    /// A zigzag number of up to 64 bits.
    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, MalformedReason> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(unzigzag(u64::from(first)));
        }
        self.long_rest(first)
    }

    fn long_rest(&mut self, first: u8) -> Result<i64, MalformedReason> {
        let mut value = u64::from(first & 0x7f);
        for shift in (7..70).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(unzigzag(value));
            }
        }
        Err("a number of more than 64 bits")
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], MalformedReason> {
        let end = self.at.checked_add(len).ok_or("a length beyond the end of the block")?;
        let bytes = self.all.get(self.at..end).ok_or("a length beyond the end of the block")?;
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedReason> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| "a value beyond the end of the block")
    }

    /// A length-prefixed value: the start and the end of its bytes.
    #[inline]
    pub(super) fn span(&mut self) -> Result<(usize, usize), MalformedReason> {
        let len = usize::try_from(self.long()?).map_err(|_| "a negative length")?;
        let start = self.at;
        self.take(len)?;
        Ok((start, self.at))
    }

    #[inline]
    pub(super) fn bool(&mut self) -> Result<bool, MalformedReason> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err("a boolean that is neither 0 nor 1"),
        }
    }

    /// The number of elements in the next chunk of a list or map; `None` at its end. Each element takes at least one byte,
    /// so there are never more elements than bytes.
    pub(super) fn run(&mut self) -> Result<Option<usize>, MalformedReason> {
        const EMPTY_ELEMENTS_MAX: usize = 1024;
        let mut count = self.long()?;
        if count < 0 {
            // The size in bytes only serves readers that skip the chunk.
            self.long()?;
            count = count.checked_neg().ok_or("an invalid count")?;
        }
        match usize::try_from(count) {
            Ok(0) => Ok(None),
            Ok(count) if count <= self.left().max(EMPTY_ELEMENTS_MAX) => Ok(Some(count)),
            _ => Err("more elements than bytes"),
        }
    }
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zigzag(value: i64) -> Vec<u8> {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        let mut bytes = Vec::new();
        while rest >= 0x80 {
            bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        bytes.push(u8::try_from(rest).unwrap());
        bytes
    }

    proptest! {
        #[test]
        fn numbers_are_read_again(value in any::<i64>(), shift in 0u32..64) {
            let value = value >> shift;
            let bytes = zigzag(value);
            let mut cursor = ByteReader::new(&bytes);
            prop_assert_eq!(cursor.long(), Ok(value));
            prop_assert_eq!(cursor.left(), 0);
            prop_assert!(ByteReader::new(&bytes[..bytes.len() - 1]).long().is_err());
        }
    }

    #[test]
    fn the_largest_numbers_are_read_and_larger_ones_are_errors() {
        for value in [i64::MIN, i64::MAX, 0, -1] {
            assert_eq!(ByteReader::new(&zigzag(value)).long(), Ok(value));
        }
        assert!(ByteReader::new(&[0xff; 12]).long().is_err());
        assert!(ByteReader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).long().is_err());
    }

    #[test]
    fn lengths_beyond_the_block_are_errors() {
        assert!(ByteReader::new(&zigzag(-5)).span().is_err());
        assert!(ByteReader::new(&zigzag(i64::MAX)).span().is_err());
        assert!(ByteReader::new(&[zigzag(3), b"ab".to_vec()].concat()).span().is_err());
        assert_eq!(ByteReader::new(&[zigzag(2), b"ab".to_vec()].concat()).span(), Ok((1, 3)));
        assert!(ByteReader::new(&zigzag(i64::MIN)).run().is_err());
        assert!(ByteReader::new(&zigzag(1 << 40)).run().is_err());
    }
}
