//! Columns with plain-encoded pages, read a page at a time: keys in blocks, texts without work for skipped values.
//! `read` validates the values.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader as _};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::super::store::Blob;
use super::seal::{FOOTER_END, KeySum};
use crate::model::{CheckedPages, MemberKey};

/// The pages of one column of one row group.
pub(super) type PageReader = SerializedPageReader<RandomAccess>;

/// One column: the unread rest of its current page.
struct PlainColumn {
    pages: PageReader,
    rest: Bytes,
    /// Values in the rest.
    left: usize,
}

impl PlainColumn {
    fn new(pages: PageReader) -> Self {
        Self { pages, rest: Bytes::new(), left: 0 }
    }

    /// Loads the next page if the current one is used up. `false`: the end of the column.
    fn turn(&mut self) -> Result<bool, ParquetError> {
        while self.left == 0 {
            self.rest = Bytes::new(); // dropped first, so that its memory can be reused
            (self.rest, self.left) = match self.pages.get_next_page()? {
                None => return Ok(false),
                Some(Page::DataPage { buf, num_values, encoding: Encoding::PLAIN, .. }) => {
                    (buf, num_values as usize)
                }
                Some(_) => return Err(damaged("a page with another encoding")),
            };
        }
        Ok(true)
    }
}

fn damaged(problem: &str) -> ParquetError {
    ParquetError::General(problem.to_owned())
}

/// The two columns of keys.
#[derive(Debug)]
pub(super) struct KeyColumns {
    high: PlainColumn,
    low: PlainColumn,
}

impl KeyColumns {
    pub(super) fn new(high: PageReader, low: PageReader) -> Self {
        Self { high: PlainColumn::new(high), low: PlainColumn::new(low) }
    }

    /// Appends the next block of keys. At the end it appends nothing.
    pub(super) fn read(&mut self, block: &mut Vec<MemberKey>, sum: &mut KeySum) -> Result<(), ParquetError> {
        let Self { high, low } = self;
        if high.turn()? != low.turn()? {
            return Err(damaged("its columns differ in length"));
        }
        let len = high.left.min(low.left);
        let (highs, lows) = (high.rest.as_chunks().0, low.rest.as_chunks().0);
        let (Some(highs), Some(lows)) = (highs.get(..len), lows.get(..len)) else {
            return Err(damaged("a page is truncated"));
        };
        let key = |(high, low): (&[u8; 8], &[u8; 8])| {
            MemberKey::from_halves(u64::from_le_bytes(*high), u64::from_le_bytes(*low))
        };
        block.extend(highs.iter().zip(lows).map(key));
        sum.update(highs.as_flattened(), lows.as_flattened());
        for column in [high, low] {
            column.rest.advance(len * size_of::<u64>());
            column.left -= len;
        }
        Ok(())
    }
}

/// A text column, read on demand, forwards only.
#[derive(Debug)]
pub(super) struct TextColumn(PlainColumn);

impl TextColumn {
    pub(super) fn new(pages: PageReader) -> Self {
        Self(PlainColumn::new(pages))
    }

    /// Skips values. A page that is skipped as a whole is not read.
    pub(super) fn skip(&mut self, mut count: usize) -> Result<(), ParquetError> {
        loop {
            let len = count.min(self.0.left);
            self.skip_within(len)?;
            count -= len;
            if count == 0 {
                return Ok(());
            }
            match self.0.pages.peek_next_page()?.and_then(|page| page.num_levels) {
                Some(len) if len <= count => {
                    self.0.pages.skip_next_page()?;
                    count -= len;
                }
                _ if self.0.turn()? => {}
                _ => return Err(damaged("a column is too short")),
            }
        }
    }

    /// Skips values of the current page.
    fn skip_within(&mut self, len: usize) -> Result<(), ParquetError> {
        let mut rest = &*self.0.rest;
        for _ in 0..len {
            rest = split(rest)?.1;
        }
        let passed = self.0.rest.len() - rest.len();
        self.0.rest.advance(passed);
        self.0.left -= len;
        Ok(())
    }

    /// Appends at most `count` values.
    pub(super) fn read(&mut self, count: usize, values: &mut Vec<Bytes>) -> Result<(), ParquetError> {
        for _ in 0..count {
            if !self.0.turn()? {
                break;
            }
            let len = split(&self.0.rest)?.0.len();
            self.0.rest.advance(size_of::<u32>());
            values.push(self.0.rest.split_to(len));
            self.0.left -= 1;
        }
        Ok(())
    }
}

/// Splits off the first value.
#[inline]
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), ParquetError> {
    let value = bytes.split_first_chunk().and_then(|(len, rest)| {
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        rest.split_at_checked(len)
    });
    value.ok_or_else(|| damaged("a page is truncated"))
}

impl std::fmt::Debug for PlainColumn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plain")
    }
}

/// A file that is read by position, so that several of its columns can be read alternately.
#[derive(Debug)]
pub(super) struct RandomAccess {
    pub(super) blob: Arc<Blob>,
    checked: CheckedPages,
}

impl RandomAccess {
    pub(super) fn new(blob: Blob) -> Self {
        Self { blob: Arc::new(blob), checked: CheckedPages::default() }
    }
}

impl Length for RandomAccess {
    fn len(&self) -> u64 {
        self.blob.len()
    }
}

impl ChunkReader for RandomAccess {
    type T = BufReader<PagePosition>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<BufReader<PagePosition>> {
        // Page headers are read byte by byte; the page itself goes past the buffer.
        let read = || {
            BufReader::with_capacity(4 << 10, PagePosition { file: Arc::clone(&self.blob), position: start })
        };
        let left = self.len().saturating_sub(start);
        if left > FOOTER_END as u64 && !self.checked.may_read(start, read(), left) {
            return Err(damaged("a page header claims more than the file has"));
        }
        Ok(read())
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        if length as u64 > self.len().saturating_sub(start) {
            return Err(ParquetError::EOF("the file is truncated".to_owned()));
        }
        let mut buffer = vec![0; length];
        self.blob.read_exact_at(&mut buffer, start)?;
        Ok(buffer.into())
    }
}

pub(super) struct PagePosition {
    file: Arc<Blob>,
    position: u64,
}

impl Read for PagePosition {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(buffer, self.position)?;
        self.position += len as u64;
        Ok(len)
    }
}
