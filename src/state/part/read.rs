//! Cursor over one part.
//!
//! Keys are read in blocks. An identifier is read only on demand, together with following ones that are likely to be
//! needed.
//!
//! Every identifier is hashed and must match its key, so damage is detected before a member is removed. The footer's
//! checksum is verified before it is parsed, and the checksum of all keys at the end. The Parquet parser is a
//! third-party crate: a panic on a damaged page becomes an error of the file.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parquet::column::reader::{ColumnReaderImpl, get_column_reader, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

use super::super::StateError;
use super::super::immutable_file::checksum;
use super::super::store::Blob;
use super::page::{KeyColumns, PageReader, RandomAccess, TextColumn};
use super::reference::PartRef;
use super::seal::{KEYS, KeySum, PartFooter};
use super::{IDENTIFIER, KEY_HIGH, KEY_LOW, KIND, LABEL};
use crate::model::{ChangeOp, Identifier, IdentifierKind, KeySeed, MemberKey, RowSet, catch_parser_panic};

/// Bytes at the end of every Parquet file: the length of its metadata, and `PAR1`.
const FOOTER_END: usize = 8;
/// Maximum number of identifiers read at a time.
const IDENTIFIERS_LEN_MAX: usize = 512;

/// The outcome of one member's change in one part.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum RowOutcome {
    Accepted(ChangeOp),
    Rejected(ChangeOp),
    Unanswered,
}

/// A cursor over one part.
#[derive(Debug)]
pub(in super::super) struct PartCursor {
    path: PathBuf,
    part: PartRef,
    seed: KeySeed,
    file: Arc<RandomAccess>,
    metadata: ParquetMetaData,
    /// The current row group, and its first row.
    group: usize,
    group_start: u64,
    keys: Option<KeyColumns>,
    /// Checksums of the keys read so far, and of the keys as written.
    sum: KeySum,
    written_sum: String,
    identifiers: Option<GroupIdentifiers>,
    /// Buffered keys, the row of the first, and the index of the current one. No current key at the end.
    block: Vec<MemberKey>,
    block_start: u64,
    at: usize,
    /// The outcome of all rows from the current one up to `word_end`.
    outcome: RowOutcome,
    outcome_end: u64,
}

impl PartCursor {
    pub(in super::super) fn open(blob: Blob, part: &PartRef, seed: KeySeed) -> Result<Self, StateError> {
        let path = blob.path().to_owned();
        let damaged = |problem: String| StateError::Damaged { path: path.clone(), problem };
        if blob.len() != part.bytes {
            return Err(damaged(format!("it has {} bytes, {} were written", blob.len(), part.bytes)));
        }
        check_footer(&blob, part.footer, &damaged)?;
        let file = Arc::new(RandomAccess(Arc::new(blob)));
        let metadata = unpanicked(|| ParquetMetaDataReader::new().parse_and_finish(&*file));
        let metadata = metadata.map_err(|e| damaged(e.to_string()))?;
        let values = metadata.file_metadata().key_value_metadata().into_iter().flatten();
        let written_sum = values.filter(|pair| pair.key == KEYS).find_map(|pair| pair.value.clone());
        let written_sum = written_sum.ok_or_else(|| damaged("it has no checksum of its keys".to_owned()))?;
        let rows = metadata.row_groups().iter().map(RowGroupMetaData::num_rows).sum::<i64>();
        if u64::try_from(rows).ok() != Some(part.rows) {
            return Err(damaged(format!("it has {rows} rows, {} were written", part.rows)));
        }
        Ok(Self {
            path,
            part: part.clone(),
            seed,
            file,
            metadata,
            group: 0,
            group_start: 0,
            keys: None,
            sum: KeySum::default(),
            written_sum,
            identifiers: None,
            block: Vec::new(),
            block_start: 0,
            at: 0,
            outcome: RowOutcome::Unanswered,
            outcome_end: 0,
        })
    }

    /// Reads and verifies a part that no version names. All its members are in doubt.
    pub(in super::super) fn read_unnamed(blob: Blob, id: &str, seed: KeySeed) -> Result<PartRef, StateError> {
        let path = blob.path().to_owned();
        let damaged = |problem: String| StateError::Damaged { path: path.clone(), problem };
        let bytes = blob.len();
        let checksum = checksum(&blob).map_err(StateError::TemporaryFile)?;
        let mut end = [0; FOOTER_END];
        let start =
            bytes.checked_sub(end.len() as u64).ok_or_else(|| damaged("it is truncated".to_owned()))?;
        blob.read_exact_at(&mut end, start).map_err(StateError::TemporaryFile)?;
        let length = end.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length));
        let length = (u64::from(length) + end.len() as u64).min(bytes);
        let mut footer = vec![0; usize::try_from(length).unwrap_or(0)];
        blob.read_exact_at(&mut footer, bytes - length).map_err(StateError::TemporaryFile)?;
        let file = RandomAccess(Arc::new(blob));
        let metadata = unpanicked(|| ParquetMetaDataReader::new().parse_and_finish(&file));
        let metadata = metadata.map_err(|e| damaged(e.to_string()))?;
        let rows = metadata.row_groups().iter().map(RowGroupMetaData::num_rows).sum::<i64>();
        let rows = u64::try_from(rows).map_err(|e| damaged(e.to_string()))?;
        let (acknowledged, rejected) = (RowSet::default(), RowSet::default());
        let (id, op, footer) = (id.into(), ChangeOp::Add, PartFooter::of(&footer));
        let part = PartRef { id, op, rows, bytes, checksum, footer, acknowledged, rejected, noted: false };
        let RandomAccess(blob) = file;
        let blob = Arc::into_inner(blob).ok_or_else(|| damaged("it is still in use".to_owned()))?;
        Self::open(blob, &part, seed)?.read_to_end()?;
        Ok(part)
    }

    /// Reads all rows, which checks their order and the key of each identifier.
    pub(in crate::state) fn read_to_end(&mut self) -> Result<(), StateError> {
        let mut packed = Vec::new();
        self.advance()?;
        while self.key().is_some() {
            packed.clear();
            self.identifier(&mut packed)?;
            self.advance()?;
        }
        Ok(())
    }

    /// The current key. `None`: the end.
    #[inline]
    pub(in super::super) fn key(&self) -> Option<MemberKey> {
        self.block.get(self.at).copied()
    }

    fn row(&self) -> u64 {
        self.block_start + self.at as u64
    }

    /// The outcome of the current member's change.
    #[inline]
    pub(in super::super) fn outcome(&mut self) -> RowOutcome {
        if self.row() >= self.outcome_end {
            self.find_outcome();
        }
        self.outcome
    }

    /// Buffered keys that follow the current one and have the same outcome. Valid only after [`Self::outcome`].
    pub(in super::super) fn ahead(&self) -> &[MemberKey] {
        let same = usize::try_from(self.outcome_end - self.block_start).unwrap_or(usize::MAX);
        self.block.get(self.at + 1..same.min(self.block.len())).unwrap_or_default()
    }

    /// Skips buffered keys.
    pub(in super::super) fn skip(&mut self, count: usize) {
        self.at += count;
    }

    fn find_outcome(&mut self) {
        let (accepted, accepted_end) = stretch(&self.part.acknowledged, self.row());
        let (rejected, rejected_end) = stretch(&self.part.rejected, self.row());
        self.outcome_end = accepted_end.min(rejected_end);
        self.outcome = match (accepted, rejected) {
            (true, _) => RowOutcome::Accepted(self.part.op),
            (false, true) => RowOutcome::Rejected(self.part.op),
            (false, false) => RowOutcome::Unanswered,
        };
    }

    fn damaged(&self, problem: impl std::fmt::Display) -> StateError {
        StateError::Damaged { path: self.path.clone(), problem: problem.to_string() }
    }

    /// Advances to the next member.
    #[inline]
    pub(in super::super) fn advance(&mut self) -> Result<(), StateError> {
        self.at += 1;
        if self.at < self.block.len() { Ok(()) } else { self.next_block() }
    }

    /// Reads the next block of keys, verifies their order, and advances to the first.
    #[inline(never)]
    fn next_block(&mut self) -> Result<(), StateError> {
        let last = self.block.last().copied();
        self.block_start += self.block.len() as u64;
        self.block.clear();
        self.at = 0;
        while self.block.is_empty() && self.group < self.metadata.num_row_groups() {
            let mut keys = match self.keys.take() {
                Some(keys) => keys,
                None => KeyColumns::new(self.pages(KEY_HIGH)?, self.pages(KEY_LOW)?),
            };
            let (block, sum) = (&mut self.block, &mut self.sum);
            unpanicked(|| keys.read(block, sum)).map_err(|e| self.damaged(e))?;
            if self.block.is_empty() {
                self.group += 1;
                self.group_start = self.block_start;
                self.identifiers = None;
            } else {
                self.keys = Some(keys);
            }
        }
        let ascends = |a: &MemberKey, b: &MemberKey| a < b;
        match self.block.first() {
            None if self.block_start != self.part.rows => Err(self.damaged("it ends too early")),
            None if self.sum.digest() != self.written_sum => {
                Err(self.damaged("the checksum of its keys does not match"))
            }
            Some(first) if last.is_some_and(|last| *first <= last) || !self.block.is_sorted_by(ascends) => {
                Err(self.damaged("its members are not sorted"))
            }
            _ => Ok(()),
        }
    }

    fn pages(&self, column: usize) -> Result<PageReader, StateError> {
        let group = self.metadata.row_group(self.group);
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let file = Arc::clone(&self.file);
        unpanicked(|| SerializedPageReader::new(file, group.column(column), rows, None))
            .map_err(|e| self.damaged(e))
    }

    fn column<T: DataType>(&self, column: usize) -> Result<PartColumn<T>, StateError> {
        let pages = Box::new(self.pages(column)?);
        let descriptor = self.metadata.file_metadata().schema_descr().column(column);
        let reader = || Ok(get_typed_column_reader::<T>(get_column_reader(descriptor, pages)));
        unpanicked(reader).map(PartColumn).map_err(|e| self.damaged(e))
    }

    /// Appends the packed identifier of the current member.
    pub(in super::super) fn identifier(&mut self, packed: &mut Vec<u8>) -> Result<(), StateError> {
        let within = self.row() - self.group_start;
        let mut identifiers = match self.identifiers.take() {
            Some(identifiers) => identifiers,
            None => GroupIdentifiers {
                kinds: self.column(KIND)?,
                labels: self.column(LABEL)?,
                values: TextColumn::new(self.pages(IDENTIFIER)?),
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
        if whole && self.key() == Some(MemberKey::of(self.seed, &packed[start..])) {
            Ok(())
        } else {
            Err(self.damaged("an identifier does not match its key"))
        }
    }
}

/// Runs the parser and turns a panic into an error.
fn unpanicked<T>(parse: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let panicked = || Err(ParquetError::General("it cannot be parsed".to_owned()));
    catch_parser_panic(parse).unwrap_or_else(panicked)
}

/// Verifies the footer's checksum before it is parsed.
fn check_footer(
    blob: &Blob,
    footer: PartFooter,
    damaged: &impl Fn(String) -> StateError,
) -> Result<(), StateError> {
    let start = blob.len().checked_sub(footer.bytes).ok_or_else(|| damaged("it is truncated".to_owned()))?;
    let mut bytes = vec![0; usize::try_from(footer.bytes).unwrap_or(0)];
    blob.read_exact_at(&mut bytes, start).map_err(StateError::TemporaryFile)?;
    if PartFooter::of(&bytes) == footer {
        return Ok(());
    }
    Err(damaged("its checksum does not match: it was changed, or is another file".to_owned()))
}

/// Whether a row is in the set, and the next row for which this may differ.
fn stretch(set: &RowSet, row: u64) -> (bool, u64) {
    let ranges = set.ranges();
    match ranges.get(ranges.partition_point(|range| range.end <= row)) {
        Some(range) if range.start <= row => (true, range.end),
        Some(range) => (false, range.start),
        None => (false, u64::MAX),
    }
}

/// Kind, label and value of one member, as read from the columns.
type OpenParts = (ByteArray, ByteArray, Bytes);

fn identifier((kind, label, value): &OpenParts) -> Option<Identifier<'_>> {
    let kind = IdentifierKind::ALL.into_iter().find(|known| known.as_str().as_bytes() == kind.data())?;
    Some(Identifier {
        kind,
        label: std::str::from_utf8(label.data()).ok()?,
        value: std::str::from_utf8(value).ok()?,
    })
}

/// One column of one row group.
struct PartColumn<T: DataType>(ColumnReaderImpl<T>);

impl<T: DataType> std::fmt::Debug for PartColumn<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Column")
    }
}

/// The identifiers of a row group, read on demand, forwards only.
#[derive(Debug)]
struct GroupIdentifiers {
    kinds: PartColumn<ByteArrayType>,
    labels: PartColumn<ByteArrayType>,
    values: TextColumn,
    block: Vec<OpenParts>,
    block_start: u64,
    /// The next row of the columns, after the block.
    position: u64,
    /// How many are read at a time. It grows while consecutive ones are needed, and shrinks otherwise.
    ahead: usize,
}

impl GroupIdentifiers {
    fn at(&mut self, row: u64) -> Result<Option<&OpenParts>, ParquetError> {
        if row >= self.position {
            unpanicked(|| self.read_from(row))?;
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
            self.values.skip(skip)?;
        }
        let (mut kinds, mut labels, mut defined, mut values) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        self.kinds.0.read_records(self.ahead, None, None, &mut kinds)?;
        self.labels.0.read_records(self.ahead, Some(&mut defined), None, &mut labels)?;
        self.values.read(self.ahead, &mut values)?;
        let mut labels = labels.into_iter();
        let mut label =
            |defined: i16| if defined == 1 { labels.next().unwrap_or_default() } else { ByteArray::from("") };
        let rows = kinds.into_iter().zip(defined).zip(values);
        self.block.clear();
        self.block.extend(rows.map(|((kind, defined), value)| (kind, label(defined), value)));
        self.block_start = row;
        self.position = row + self.block.len() as u64;
        Ok(())
    }
}
