//! Cursor over one part.
//!
//! Keys are read in blocks. An identifier is read only on demand, together with following ones that are likely to be
//! needed.
//!
//! A look-up by key ([`PartCursor::seek`]) reads only the row group that may have the key, by the statistics in the footer.
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
use parquet::file::statistics::Statistics;

use super::super::StateError;
use super::super::immutable_file::checksum;
use super::super::store::Blob;
use super::page::{KeyColumns, PageReader, RandomAccess, TextColumn};
use super::reference::PartRef;
use super::seal::{FOOTER_END, KEYS, KeySum, PartFooter};
use super::{IDENTIFIER, KEY_HIGH, KEY_LOW, KIND, LABEL, RUN};
use crate::model::{
    ChangeOp, Identifier, IdentifierKind, KeySeed, MemberKey, RowSet, catch_parser_panic, has_plausible_lists,
};

const NO_PART: &str = "it is not a part";
/// Maximum number of identifiers read at a time.
const IDENTIFIERS_LEN_MAX: usize = 512;
/// Number of runs read at a time.
const RUNS_LEN: usize = 1024;

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
    runs: Option<RunColumn>,
    /// Buffered keys, the row of the first, and the index of the current one. No current key at the end.
    block: Vec<MemberKey>,
    block_start: u64,
    at: usize,
    /// The outcome of all rows from the current one up to `word_end`.
    outcome: RowOutcome,
    outcome_end: u64,
    /// Row groups were skipped, so that the checksum of all keys cannot be verified.
    has_skipped: bool,
    /// The last key of the block before the current one, with its row group.
    before: Option<(usize, MemberKey)>,
    /// The row at which neighbors were verified last.
    verified: Option<u64>,
}

impl PartCursor {
    pub(in super::super) fn open(blob: Blob, part: &PartRef, seed: KeySeed) -> Result<Self, StateError> {
        let path = blob.path().to_owned();
        let damaged = |problem: String| StateError::Damaged { path: path.clone(), problem };
        if blob.len() != part.bytes {
            return Err(damaged(format!("it has {} bytes, {} were written", blob.len(), part.bytes)));
        }
        check_footer(&blob, part.footer, &damaged)?;
        let file = Arc::new(RandomAccess::new(blob));
        let metadata = unpanicked(|| ParquetMetaDataReader::new().parse_and_finish(&*file));
        let metadata = metadata.map_err(|e| damaged(e.to_string()))?;
        let values = metadata.file_metadata().key_value_metadata().into_iter().flatten();
        let written_sum = values.filter(|pair| pair.key == KEYS).find_map(|pair| pair.value.clone());
        let written_sum = written_sum.ok_or_else(|| damaged("it has no checksum of its keys".to_owned()))?;
        let rows = rows_of(&metadata).ok_or_else(|| damaged(NO_PART.to_owned()))?;
        if rows != part.rows {
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
            runs: None,
            block: Vec::new(),
            block_start: 0,
            at: 0,
            outcome: RowOutcome::Unanswered,
            outcome_end: 0,
            has_skipped: false,
            before: None,
            verified: None,
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
        if !has_plausible_lists(&*footer, bytes) {
            return Err(damaged(NO_PART.to_owned()));
        }
        let file = RandomAccess::new(blob);
        let metadata = unpanicked(|| ParquetMetaDataReader::new().parse_and_finish(&file));
        let metadata = metadata.map_err(|e| damaged(e.to_string()))?;
        let rows = rows_of(&metadata).ok_or_else(|| damaged(NO_PART.to_owned()))?;
        let (acknowledged, rejected) = (RowSet::default(), RowSet::default());
        let (id, op, footer) = (id.into(), ChangeOp::Add, PartFooter::of(&footer));
        let part = PartRef { id, op, rows, bytes, checksum, footer, acknowledged, rejected, noted: false };
        let RandomAccess { blob, .. } = file;
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

    /// The number of the current row.
    pub(in super::super) fn row(&self) -> u64 {
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
                self.start_group(self.group + 1, self.block_start);
            } else {
                self.keys = Some(keys);
            }
        }
        let ascends = |a: &MemberKey, b: &MemberKey| a < b;
        match self.block.first() {
            None if self.block_start != self.part.rows => Err(self.damaged("it ends too early")),
            None if !self.has_skipped && self.sum.digest() != self.written_sum => {
                Err(self.damaged("the checksum of its keys does not match"))
            }
            Some(first) if last.is_some_and(|last| *first <= last) || !self.block.is_sorted_by(ascends) => {
                Err(self.damaged("its members are not sorted"))
            }
            _ => Ok(()),
        }
    }

    /// Advances to the first member with `key` or a greater key. Returns whether it has this key. Keys must ascend
    /// from call to call. Row groups without the key are not read.
    ///
    /// The checksum of all keys is not verified then. A key that is found is verified by its identifier. If a key is
    /// absent, its neighbors are verified: a damaged key is out of order, or is a neighbor of the key that it was.
    pub(in super::super) fn seek(&mut self, key: MemberKey) -> Result<bool, StateError> {
        let (high, _) = key.halves();
        self.skip_groups(high);
        let chosen =
            self.metadata.row_groups().get(self.group).and_then(largest_half).filter(|_| !self.has_ended());
        let group = self.group;
        while self.block.last().is_none_or(|last| *last < key) && !self.has_ended() {
            self.before = self.block.last().map(|last| (self.group, *last));
            self.next_block()?;
        }
        if self.group > group && chosen.is_some_and(|largest| largest > high) {
            return Err(self.damaged("its keys differ from its statistics"));
        }
        self.at += self.block.get(self.at..).unwrap_or_default().partition_point(|at| *at < key);
        let is_found = self.key() == Some(key);
        if !is_found {
            self.verify_neighbors()?;
        }
        Ok(is_found)
    }

    fn has_ended(&self) -> bool {
        self.group >= self.metadata.num_row_groups()
    }

    /// Skips the row groups in which all keys have a smaller upper half.
    fn skip_groups(&mut self, high: u64) {
        let groups = self.metadata.row_groups().get(self.group..).unwrap_or_default();
        let is_before = |group: &&RowGroupMetaData| largest_half(group).is_some_and(|largest| largest < high);
        let (mut skipped, mut rows) = (0, 0);
        for group in groups.iter().take_while(is_before) {
            (skipped, rows) = (skipped + 1, rows + u64::try_from(group.num_rows()).unwrap_or(0));
        }
        if skipped > 0 {
            self.start_group(self.group + skipped, self.group_start + rows);
            (self.block_start, self.at, self.keys, self.has_skipped) = (self.group_start, 0, None, true);
            self.block.clear();
        }
    }

    /// Verifies the identifiers of the current member and of the one before it.
    fn verify_neighbors(&mut self) -> Result<(), StateError> {
        let (row, mut packed) = (self.row(), Vec::new());
        if self.verified.replace(row) == Some(row) {
            return Ok(());
        }
        let before = match self.at.checked_sub(1) {
            Some(at) => self.block.get(at).copied(),
            None => self.before.filter(|(group, _)| *group == self.group).map(|(_, key)| key),
        };
        if before.is_some() {
            self.identifier_of(row - 1, before, &mut packed)?;
        }
        packed.clear();
        if self.key().is_some() { self.identifier(&mut packed) } else { Ok(()) }
    }

    /// Whether all members have an external id, by the statistics of the row groups.
    pub(in super::super) fn has_only_external_ids(&self) -> bool {
        let external = IdentifierKind::ExternalId.as_str().as_bytes();
        self.metadata.row_groups().iter().all(|group| {
            let Some(Statistics::ByteArray(kinds)) = group.column(KIND).statistics() else { return false };
            [kinds.min_opt(), kinds.max_opt()]
                .iter()
                .all(|kind| kind.is_some_and(|kind| kind.data() == external))
        })
    }

    fn start_group(&mut self, group: usize, first_row: u64) {
        (self.group, self.group_start) = (group, first_row);
        (self.identifiers, self.runs) = (None, None);
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
        let key = self.key();
        self.identifier_of(self.row(), key, packed)
    }

    /// Appends the packed identifier of a row of the current row group, which must have this key.
    fn identifier_of(
        &mut self,
        row: u64,
        key: Option<MemberKey>,
        packed: &mut Vec<u8>,
    ) -> Result<(), StateError> {
        let within = row - self.group_start;
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
        if whole && key == Some(MemberKey::of(self.seed, &packed[start..])) {
            Ok(())
        } else {
            Err(self.damaged("an identifier does not match its key"))
        }
    }

    /// Returns the run since which the current member has its status. `None`: it is unknown. It is not verified by a
    /// checksum, so only reports use it.
    pub(in super::super) fn run(&mut self) -> Result<Option<ByteArray>, StateError> {
        // Parts of earlier versions do not have the column.
        if self.metadata.file_metadata().schema_descr().num_columns() <= RUN || self.key().is_none() {
            return Ok(None);
        }
        let mut runs = match self.runs.take() {
            Some(runs) => runs,
            None => RunColumn { column: self.column(RUN)?, block: Vec::new(), block_start: 0 },
        };
        let found = runs.at(self.row() - self.group_start).map_err(|e| self.damaged(e))?;
        self.runs = Some(runs);
        Ok(found)
    }
}

/// The number of rows. `None`: it has not the columns of a part.
fn rows_of(metadata: &ParquetMetaData) -> Option<u64> {
    let is_part = metadata.file_metadata().schema_descr().num_columns() > IDENTIFIER;
    let mut groups = metadata.row_groups().iter().filter(|_| is_part);
    let rows = groups.try_fold(0_u64, |rows, group| rows.checked_add(u64::try_from(group.num_rows()).ok()?));
    rows.filter(|_| is_part)
}

/// The largest upper half of the keys of a row group. `None`: there are no statistics.
fn largest_half(group: &RowGroupMetaData) -> Option<u64> {
    let Some(Statistics::Int64(keys)) = group.column(KEY_HIGH).statistics() else { return None };
    keys.max_opt().map(|key| key.cast_unsigned())
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
        let is_plausible = has_plausible_lists(&*bytes, blob.len());
        return if is_plausible { Ok(()) } else { Err(damaged(NO_PART.to_owned())) };
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

/// The runs of a row group, read on demand, forwards only.
#[derive(Debug)]
struct RunColumn {
    column: PartColumn<ByteArrayType>,
    block: Vec<Option<ByteArray>>,
    block_start: u64,
}

impl RunColumn {
    fn at(&mut self, row: u64) -> Result<Option<ByteArray>, ParquetError> {
        let position = self.block_start + self.block.len() as u64;
        if row >= position {
            let skip = usize::try_from(row - position).unwrap_or(usize::MAX);
            let (mut known, mut runs) = (Vec::new(), Vec::new());
            unpanicked(|| {
                self.column.0.skip_records(skip)?;
                self.column.0.read_records(RUNS_LEN, Some(&mut known), None, &mut runs)
            })?;
            let mut runs = runs.into_iter();
            self.block = known.into_iter().map(|known| if known == 1 { runs.next() } else { None }).collect();
            self.block_start = row;
        }
        let index = usize::try_from(row - self.block_start).unwrap_or(usize::MAX);
        Ok(self.block.get(index).cloned().flatten())
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
