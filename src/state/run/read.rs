//! Walking one run.
//!
//! Keys are read in blocks; an identifier is read only when it is asked for, and then with its
//! neighbours, since a page must be unpacked for it anyway. Every identifier that is read is hashed and
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
use crate::model::{Identifier, Key, KeySeed, Kind, Op};

/// Keys read at a time.
const KEYS_LEN: usize = 8 << 10;
/// Identifiers read at a time.
const IDENTIFIERS_LEN: usize = 128;

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
        })
    }

    /// The current key; none at the end.
    pub(in super::super) fn key(&self) -> Option<Key> {
        self.key
    }

    /// What the run says of the current member.
    pub(in super::super) fn word(&self) -> Word {
        if self.run.acknowledged.contains(self.row) {
            Word::Accepted(self.run.op)
        } else if self.run.refused.contains(self.row) {
            Word::Refused(self.run.op)
        } else {
            Word::Unanswered
        }
    }

    fn damaged(&self, what: impl std::fmt::Display) -> StateError {
        StateError::Damaged { path: self.path.clone(), what: what.to_string() }
    }

    /// Moves on to the next member.
    pub(in super::super) fn advance(&mut self) -> Result<(), StateError> {
        let last = self.key;
        self.key = self.next_key()?;
        self.row = self.next_row;
        self.next_row += 1;
        match (last, self.key) {
            (Some(last), Some(key)) if key <= last => Err(self.damaged("its members are not in order")),
            (_, None) if self.row != self.run.rows => Err(self.damaged("it ends too early")),
            _ => Ok(()),
        }
    }

    fn next_key(&mut self) -> Result<Option<Key>, StateError> {
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
            },
        };
        let found = identifiers.at(within).map_err(|e| self.damaged(e))?;
        self.identifiers = Some(identifiers);
        let start = packed.len();
        let whole = found.is_some_and(|(kind, label, value)| {
            identifier(&kind, &label, &value).map(|id| id.pack_into(packed)).is_some()
        });
        if whole && self.key == Some(Key::of(self.seed, &packed[start..])) {
            Ok(())
        } else {
            Err(self.damaged("an identifier does not belong to its key"))
        }
    }
}

fn identifier<'a>(kind: &ByteArray, label: &'a ByteArray, value: &'a ByteArray) -> Option<Identifier<'a>> {
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
    block: Vec<(ByteArray, ByteArray, ByteArray)>,
    block_start: u64,
    /// The row after the block: where the columns stand.
    position: u64,
}

impl Identifiers {
    fn at(&mut self, row: u64) -> Result<Option<(ByteArray, ByteArray, ByteArray)>, ParquetError> {
        if row >= self.position {
            self.read_from(row)?;
        }
        let index = usize::try_from(row - self.block_start).unwrap_or(usize::MAX);
        Ok(self.block.get(index).cloned())
    }

    fn read_from(&mut self, row: u64) -> Result<(), ParquetError> {
        let skip = usize::try_from(row - self.position).unwrap_or(usize::MAX);
        self.kinds.0.skip_records(skip)?;
        self.labels.0.skip_records(skip)?;
        self.values.0.skip_records(skip)?;
        let (mut kinds, mut labels, mut defined, mut values) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        self.kinds.0.read_records(IDENTIFIERS_LEN, None, None, &mut kinds)?;
        self.labels.0.read_records(IDENTIFIERS_LEN, Some(&mut defined), None, &mut labels)?;
        let (read, ..) = self.values.0.read_records(IDENTIFIERS_LEN, None, None, &mut values)?;
        let mut labels = labels.into_iter();
        let mut label =
            |defined: i16| if defined == 1 { labels.next().unwrap_or_default() } else { ByteArray::from("") };
        let rows = kinds.into_iter().zip(defined).zip(values);
        self.block = rows.map(|((kind, defined), value)| (kind, label(defined), value)).collect();
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
