//! Search for bytes in texts, eight at a time (SWAR: SIMD within a register).
//!
//! Most texts of events are shorter than 40 bytes. There this takes less time than `memchr`, which chooses its routine
//! at run time.

/// Whether a text needs no escapes: ASCII without quotes, backslashes and control characters.
#[inline]
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    let (eights, rest) = bytes.as_chunks();
    match bytes.last_chunk() {
        Some(last) => eights.iter().all(is_plain_eight) && is_plain_eight(last),
        None => rest.iter().all(|byte| matches!(byte, 0x20..0x80) && *byte != b'"' && *byte != b'\\'),
    }
}

#[inline]
fn is_plain_eight(eight: &[u8; 8]) -> bool {
    // Non-ASCII bytes are found by their own top bit, so their borrows do not matter.
    let word = u64::from_ne_bytes(*eight);
    (word | below(word, 0x20) | quote_or_backslash(word)) & each(0x80) == 0
}

/// The position of the first quote or backslash.
#[inline]
pub(crate) fn find_quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    let (eights, rest) = bytes.as_chunks();
    for (at, eight) in eights.iter().enumerate() {
        let found = quote_or_backslash(u64::from_le_bytes(*eight)) & each(0x80);
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    Some(eights.len() * 8 + at)
}

const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Sets the top bits of the ASCII bytes below `n`, up to the first one without error. A borrow may set later ones.
#[inline]
fn below(word: u64, n: u8) -> u64 {
    word.wrapping_sub(each(n)) & !word
}

/// Sets the top bits of quotes and backslashes, as [`below`].
#[inline]
fn quote_or_backslash(word: u64) -> u64 {
    below(word ^ each(b'"'), 1) | below(word ^ each(b'\\'), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_byte_that_needs_an_escape_is_found_at_every_offset() {
        for len in 0..20 {
            for (at, byte) in (0..len).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                let mut bytes = vec![b'a'; len];
                bytes[at] = byte;
                let ends = byte == b'"' || byte == b'\\';
                assert_eq!(is_plain(&bytes), (0x20..0x80).contains(&byte) && !ends, "{bytes:?}");
                assert_eq!(find_quote_or_backslash(&bytes), ends.then_some(at), "{bytes:?}");
            }
        }
    }

    proptest! {
        /// Among bytes that differ from a quote or a backslash in one bit.
        #[test]
        fn the_first_quote_or_backslash_is_found(
            bytes in prop::collection::vec(prop::sample::select(b"\"\\#]\xa2\xdca".as_slice()), 0..30)
        ) {
            let expected = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(find_quote_or_backslash(&bytes), expected);
        }
    }
}
