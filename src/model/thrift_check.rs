//! Check of Thrift's compact encoding, in which Parquet writes its metadata, before the Parquet crate reads it.
//!
//! The crate repeats its work for each element that a list claims, and elements of some types take no bytes. So a few
//! bytes of a damaged file could keep it busy for hours.
//!
//! Source: Thrift, "Thrift Compact protocol encoding".

use std::collections::BTreeSet;
use std::io::{Read, sink};
use std::sync::{Arc, Mutex, PoisonError};

/// Elements of a list without bytes. Parquet's metadata has no such lists.
const EMPTY_ELEMENTS_MAX: u64 = 64;
/// Nesting that the Parquet crate skips.
const DEPTH_MAX: u32 = 64;

/// The field of a page header with the length of the page's content (Parquet, "PageHeader").
const CONTENT_LEN: u64 = 3;

/// The pages of a file with a checked header.
#[derive(Clone, Debug, Default)]
pub struct CheckedPages {
    /// Where their contents begin.
    contents: Arc<Mutex<BTreeSet<u64>>>,
}

impl CheckedPages {
    /// Whether the Parquet crate may read at `start`: there is a page header with plausible lists, or the content after a
    /// checked header. `left`: the number of bytes up to the end of the file.
    #[must_use]
    pub fn may_read(&self, start: u64, read: impl Read, left: u64) -> bool {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if contents.contains(&start) {
            return true;
        }
        let mut walk = ThriftWalk { read, len: left, read_len: 0 };
        match walk.page_header() {
            Ok(content_len) => {
                // A page without content is followed by another header at the same position.
                if content_len > 0 {
                    contents.insert(start + walk.read_len);
                }
                true
            }
            Err(WalkEnd::Unreadable) => true,
            Err(WalkEnd::Implausible) => false,
        }
    }
}

/// Whether every list in the struct at the start of `read` may have as many elements as it claims. `len`: the number of
/// bytes up to the end of the file. An unreadable struct is plausible, because the Parquet crate reports it.
#[must_use]
pub fn has_plausible_lists(read: impl Read, len: u64) -> bool {
    !matches!(ThriftWalk { read, len, read_len: 0 }.fields(DEPTH_MAX), Err(WalkEnd::Implausible))
}

/// Why a walk ends early.
enum WalkEnd {
    Implausible,
    Unreadable,
}

/// A walk over the fields of a struct.
struct ThriftWalk<R> {
    read: R,
    len: u64,
    /// How many bytes were read.
    read_len: u64,
}

impl<R: Read> ThriftWalk<R> {
    fn byte(&mut self) -> Result<u8, WalkEnd> {
        let mut byte = [0];
        self.read.read_exact(&mut byte).map_err(|_| WalkEnd::Unreadable)?;
        self.read_len += 1;
        Ok(byte[0])
    }

    fn number(&mut self) -> Result<u64, WalkEnd> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(WalkEnd::Unreadable)
    }

    fn skip(&mut self, len: u64) -> Result<(), WalkEnd> {
        self.read_len = self.read_len.saturating_add(len);
        match std::io::copy(&mut self.read.by_ref().take(len), &mut sink()) {
            Ok(skipped) if skipped == len => Ok(()),
            _ => Err(WalkEnd::Unreadable),
        }
    }

    /// Walks over the fields of a struct.
    fn fields(&mut self, depth: u32) -> Result<(), WalkEnd> {
        loop {
            let header = self.byte()?;
            if header & 0x0f == 0 {
                return Ok(());
            }
            if header >> 4 == 0 {
                self.number()?; // the field's id, which follows the last one otherwise
            }
            self.value(header & 0x0f, depth)?;
        }
    }

    /// Walks over a page header. Returns the length of the page's content; 0 if the header does not have it.
    fn page_header(&mut self) -> Result<u64, WalkEnd> {
        let (mut id, mut content_len) = (0_u64, 0);
        loop {
            let header = self.byte()?;
            if header & 0x0f == 0 {
                return Ok(content_len);
            }
            id = match header >> 4 {
                0 => self.number()? / 2, // zigzag
                delta => id.saturating_add(u64::from(delta)),
            };
            match header & 0x0f {
                4..=6 if id == CONTENT_LEN => content_len = self.number()? / 2,
                kind => self.value(kind, DEPTH_MAX)?,
            }
        }
    }

    fn value(&mut self, kind: u8, depth: u32) -> Result<(), WalkEnd> {
        let depth = depth.checked_sub(1).ok_or(WalkEnd::Unreadable)?;
        match kind {
            1 | 2 => Ok(()),
            3 => self.skip(1),
            4..=6 => self.number().map(drop),
            7 => self.skip(8),
            8 => self.number().and_then(|len| self.skip(len)),
            9 | 10 => {
                let header = self.byte()?;
                let count = if header >> 4 == 15 { self.number()? } else { u64::from(header >> 4) };
                self.elements(count, &[header & 0x0f], depth)
            }
            11 => match self.number()? {
                0 => Ok(()),
                count => {
                    let kinds = self.byte()?;
                    self.elements(count, &[kinds >> 4, kinds & 0x0f], depth)
                }
            },
            12 => self.fields(depth),
            13 => self.skip(16),
            _ => Err(WalkEnd::Unreadable),
        }
    }

    fn elements(&mut self, count: u64, kinds: &[u8], depth: u32) -> Result<(), WalkEnd> {
        let is_empty = kinds.iter().all(|kind| matches!(kind, 1 | 2));
        if count > self.len || (is_empty && count > EMPTY_ELEMENTS_MAX) {
            return Err(WalkEnd::Implausible);
        }
        for _ in 0..count {
            kinds.iter().try_for_each(|kind| self.value(*kind, depth))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_of_a_checked_page_may_be_anything() {
        // Type, length, and length of the content: three fields of a page header.
        let header = |content_len: u8| [0x15, 0x00, 0x15, 0x10, 0x15, 2 * content_len, 0x00];
        let implausible = [0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07];
        let pages = CheckedPages::default();
        assert!(!pages.may_read(107, &implausible[..], 1000));
        assert!(pages.may_read(100, &header(8)[..], 1000));
        assert!(pages.may_read(107, &implausible[..], 1000), "it is the content of the page");
        assert!(!pages.may_read(108, &implausible[..], 1000));
        assert!(pages.may_read(200, &header(0)[..], 1000));
        assert!(!pages.may_read(207, &implausible[..], 1000), "the page is empty, so it is the next header");
    }

    #[test]
    fn a_list_has_no_more_elements_than_the_file_has_bytes() {
        // A field with a list: its header, and the count of the list with the type of its elements.
        let list = |count: &[u8], rest: &[u8]| [&[0x19], count, rest, &[0]].concat();
        let is_plausible = |bytes: &[u8]| has_plausible_lists(bytes, 1000);
        let two_billion = [0xff, 0xff, 0xff, 0xff, 0x07];
        assert!(is_plausible(&list(&[0x38], b"\x01a\x01b\x01c")), "three texts");
        assert!(is_plausible(&list(&[0x31], b"")), "three booleans");
        assert!(!is_plausible(&list(&[&[0xf1], &two_billion[..]].concat(), b"")), "booleans");
        assert!(!is_plausible(&list(&[&[0xf8], &two_billion[..]].concat(), b"\x01a")), "texts");
        let nested = list(&[&[0x19], &[0xf2], &two_billion[..]].concat(), b"");
        assert!(!is_plausible(&nested), "a list of lists");
        let map = [&[0x1b], &two_billion[..], &[0x12, 0]].concat();
        assert!(!is_plausible(&map), "a map of booleans");
        assert!(is_plausible(&list(&[0x38], b"\x01a")), "truncated");
        assert!(is_plausible(&[0x1c; 200]), "nested deeper than the crate reads");
    }
}
