//! Walking one run.
//!
//! Keys are read in blocks; an identifier is read only when it is asked for, and then with as many that
//! follow it as are likely to be asked for too. Every identifier that is read is hashed and
//! must give its key, so damage to either is found before anybody is removed by it.

use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parquet::column::reader::{ColumnReaderImpl, get_column_reader, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::super::StateError;
use super::super::store::Blob;
use super::super::version::RunRef;
use super::{IDENTIFIER, KEY_HIGH, KEY_LOW, KIND, LABEL};
use crate::model::{Identifier, Key, KeySeed, Kind, Op, RowSet};

/// Keys read at a time.
const KEYS_LEN: usize = 8 << 10;
/// Most identifiers read at a time.
const IDENTIFIERS_LEN_MAX: usize = 512;

/// What one run says of one member.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Word {
    Accepted(Op),
    Refused(Op),
    Unanswered,
}

/// A walk over one run.
#[derive(Debug)]
pub(in super::super) struct RunCursor {
    path: PathBuf,
    run: RunRef,
    seed: KeySeed,
    file: Arc<RandomAccess>,
    metadata: ParquetMetaData,
    /// The row group being read, and the row at which it starts.
    group: usize,
    group_start: u64,
    keys: Option<Keys>,
    identifiers: Option<Identifiers>,
    /// The current key and its row; none at the end.
    key: Option<Key>,
    row: u64,
    next_row: u64,
    /// What the run says of all rows from the current one to this one.
    word: Word,
    word_end: u64,
}

impl RunCursor {
    pub(in super::super) fn open(blob: Blob, run: &RunRef, seed: KeySeed) -> Result<Self, StateError> {
        let path = blob.path().to_owned();
        let damaged = |what: String| StateError::Damaged { path: path.clone(), what };
        if blob.len() != run.bytes {
            return Err(damaged(format!("it has {} bytes and was written with {}", blob.len(), run.bytes)));
        }
        let file = Arc::new(RandomAccess(Arc::new(blob)));
        let metadata =
            ParquetMetaDataReader::new().parse_and_finish(&*file).map_err(|e| damaged(e.to_string()))?;
        let rows = metadata.row_groups().iter().map(RowGroupMetaData::num_rows).sum::<i64>();
        if u64::try_from(rows).ok() != Some(run.rows) {
            return Err(damaged(format!("it has {rows} rows and was written with {}", run.rows)));
        }
        Ok(Self {
            path,
            run: run.clone(),
            seed,
            file,
            metadata,
            group: 0,
            group_start: 0,
            keys: None,
            identifiers: None,
            key: None,
            row: 0,
            next_row: 0,
            word: Word::Unanswered,
            word_end: 0,
        })
    }

    /// The current key; none at the end.
    #[inline]
    pub(in super::super) fn key(&self) -> Option<Key> {
        self.key
    }

    /// What the run says of the current member.
    #[inline]
    pub(in super::super) fn word(&mut self) -> Word {
        if self.row >= self.word_end {
            self.find_word();
        }
        self.word
    }

    fn find_word(&mut self) {
        let (accepted, accepted_end) = stretch(&self.run.acknowledged, self.row);
        let (refused, refused_end) = stretch(&self.run.refused, self.row);
        self.word_end = accepted_end.min(refused_end);
        self.word = match (accepted, refused) {
            (true, _) => Word::Accepted(self.run.op),
            (false, true) => Word::Refused(self.run.op),
            (false, false) => Word::Unanswered,
        };
    }

    fn damaged(&self, what: impl std::fmt::Display) -> StateError {
        StateError::Damaged { path: self.path.clone(), what: what.to_string() }
    }

    /// Moves on to the next member.
    #[inline]
    pub(in super::super) fn advance(&mut self) -> Result<(), StateError> {
        let last = self.key;
        self.key = match self.keys.as_mut().and_then(Keys::next) {
            None => self.next_block()?,
            key => key,
        };
        self.row = self.next_row;
        self.next_row += 1;
        match (last, self.key) {
            (Some(last), Some(key)) if key <= last => Err(self.damaged("its members are not in order")),
            (_, None) if self.row != self.run.rows => Err(self.damaged("it ends too early")),
            _ => Ok(()),
        }
    }

    /// Reads the next block of keys, and gives its first.
    #[inline(never)]
    fn next_block(&mut self) -> Result<Option<Key>, StateError> {
        loop {
            if let Some(key) = self.keys.as_mut().and_then(Keys::next) {
                return Ok(Some(key));
            }
            if let Some(mut keys) = self.keys.take() {
                if keys.fill().map_err(|e| self.damaged(e))? {
                    self.keys = Some(keys);
                    continue;
                }
                self.group_start += self.group_rows();
                self.group += 1;
                self.identifiers = None;
            }
            if self.group == self.metadata.num_row_groups() {
                return Ok(None);
            }
            let keys = Keys::new(self.column(KEY_HIGH)?, self.column(KEY_LOW)?);
            self.keys = Some(keys);
        }
    }

    fn group_rows(&self) -> u64 {
        u64::try_from(self.metadata.row_group(self.group).num_rows()).unwrap_or(0)
    }

    fn column<T: DataType>(&self, index: usize) -> Result<Column<T>, StateError> {
        let group = self.metadata.row_group(self.group);
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let pages = SerializedPageReader::new(Arc::clone(&self.file), group.column(index), rows, None);
        let pages = pages.map_err(|e| self.damaged(e))?;
        let descriptor = self.metadata.file_metadata().schema_descr().column(index);
        Ok(Column(get_typed_column_reader::<T>(get_column_reader(descriptor, Box::new(pages)))))
    }

    /// Appends the packed identifier of the current member.
    pub(in super::super) fn identifier(&mut self, packed: &mut Vec<u8>) -> Result<(), StateError> {
        let within = self.row - self.group_start;
        let mut identifiers = match self.identifiers.take() {
            Some(identifiers) => identifiers,
            None => Identifiers {
                kinds: self.column(KIND)?,
                labels: self.column(LABEL)?,
                values: self.column(IDENTIFIER)?,
                block: Vec::new(),
                block_start: 0,
                position: 0,
                ahead: 1,
            },
        };
        let start = packed.len();
        let found = identifiers.at(within).map_err(|e| self.damaged(e))?;
        let whole = found.and_then(identifier).map(|id| id.pack_into(packed)).is_some();
        self.identifiers = Some(identifiers);
        if whole && self.key == Some(Key::of(self.seed, &packed[start..])) {
            Ok(())
        } else {
            Err(self.damaged("an identifier does not belong to its key"))
        }
    }
}

/// Whether a row is in the set, and the first row after it for which that may be otherwise.
fn stretch(set: &RowSet, row: u64) -> (bool, u64) {
    let ranges = set.ranges();
    match ranges.get(ranges.partition_point(|range| range.end <= row)) {
        Some(range) if range.start <= row => (true, range.end),
        Some(range) => (false, range.start),
        None => (false, u64::MAX),
    }
}

/// Kind, label and value of one member, as columns give them.
type Texts = (ByteArray, ByteArray, ByteArray);

fn identifier((kind, label, value): &Texts) -> Option<Identifier<'_>> {
    let kind = Kind::ALL.into_iter().find(|known| known.as_str().as_bytes() == kind.data())?;
    Some(Identifier {
        kind,
        label: std::str::from_utf8(label.data()).ok()?,
        value: std::str::from_utf8(value.data()).ok()?,
    })
}

/// One column of one row group.
struct Column<T: DataType>(ColumnReaderImpl<T>);

impl<T: DataType> std::fmt::Debug for Column<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Column")
    }
}

/// The keys of a row group, a block at a time.
#[derive(Debug)]
struct Keys {
    high: Column<Int64Type>,
    low: Column<Int64Type>,
    highs: Vec<i64>,
    lows: Vec<i64>,
    next: usize,
}

impl Keys {
    fn new(high: Column<Int64Type>, low: Column<Int64Type>) -> Self {
        Self { high, low, highs: Vec::with_capacity(KEYS_LEN), lows: Vec::with_capacity(KEYS_LEN), next: 0 }
    }

    #[inline]
    fn next(&mut self) -> Option<Key> {
        let high = self.highs.get(self.next)?;
        let low = self.lows.get(self.next)?;
        self.next += 1;
        Some(Key::from_halves(high.cast_unsigned(), low.cast_unsigned()))
    }

    /// Reads the next block. `false` at the end of the group.
    fn fill(&mut self) -> Result<bool, ParquetError> {
        self.highs.clear();
        self.lows.clear();
        self.next = 0;
        let (read, ..) = self.high.0.read_records(KEYS_LEN, None, None, &mut self.highs)?;
        let (other, ..) = self.low.0.read_records(KEYS_LEN, None, None, &mut self.lows)?;
        if read == other {
            Ok(read > 0)
        } else {
            Err(ParquetError::General("its columns differ in length".to_owned()))
        }
    }
}

/// The identifiers of a row group, read where they are asked for, forwards only.
#[derive(Debug)]
struct Identifiers {
    kinds: Column<ByteArrayType>,
    labels: Column<ByteArrayType>,
    values: Column<ByteArrayType>,
    block: Vec<Texts>,
    block_start: u64,
    /// The row after the block: where the columns stand.
    position: u64,
    /// How many are read at a time. It grows while all are asked for, and shrinks when they lie far apart.
    ahead: usize,
}

impl Identifiers {
    fn at(&mut self, row: u64) -> Result<Option<&Texts>, ParquetError> {
        if row >= self.position {
            self.read_from(row)?;
        }
        let index = usize::try_from(row - self.block_start).unwrap_or(usize::MAX);
        Ok(self.block.get(index))
    }

    fn read_from(&mut self, row: u64) -> Result<(), ParquetError> {
        let skip = usize::try_from(row - self.position).unwrap_or(usize::MAX);
        let near = skip <= 2 * self.ahead;
        self.ahead = if near { (2 * self.ahead).min(IDENTIFIERS_LEN_MAX) } else { self.ahead.div_ceil(2) };
        if skip > 0 {
            self.kinds.0.skip_records(skip)?;
            self.labels.0.skip_records(skip)?;
            self.values.0.skip_records(skip)?;
        }
        let (mut kinds, mut labels, mut defined, mut values) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        self.kinds.0.read_records(self.ahead, None, None, &mut kinds)?;
        self.labels.0.read_records(self.ahead, Some(&mut defined), None, &mut labels)?;
        let (read, ..) = self.values.0.read_records(self.ahead, None, None, &mut values)?;
        let mut labels = labels.into_iter();
        let mut label =
            |defined: i16| if defined == 1 { labels.next().unwrap_or_default() } else { ByteArray::from("") };
        let rows = kinds.into_iter().zip(defined).zip(values);
        self.block.clear();
        self.block.extend(rows.map(|((kind, defined), value)| (kind, label(defined), value)));
        self.block_start = row;
        self.position = row + read as u64;
        Ok(())
    }
}

/// A file read by position, so that several columns of it can be read in turn.
#[derive(Debug)]
struct RandomAccess(Arc<Blob>);

impl Length for RandomAccess {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for RandomAccess {
    type T = BufReader<At>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<BufReader<At>> {
        // Page headers are read byte by byte; the page itself goes past the buffer.
        Ok(BufReader::with_capacity(4 << 10, At { file: Arc::clone(&self.0), position: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let mut buffer = vec![0; length];
        self.0.read_exact_at(&mut buffer, start)?;
        Ok(buffer.into())
    }
}

struct At {
    file: Arc<Blob>,
    position: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(buffer, self.position)?;
        self.position += len as u64;
        Ok(len)
    }
}
