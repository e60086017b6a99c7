//! Writer of one part: writes one row group at a time, and hashes the file as it is written.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Encoding, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type, TypePtr};

use super::super::StateError;
use super::super::immutable_file::HashingWriter;
use super::super::store::{PendingFile, Store, StoreError};
use super::reference::PartRef;
use super::seal::{KEYS, KeySum, PartFooter};
use super::{PartFolder, path_of};
use crate::model::{ChangeOp, Identifier, IdentifierKind, KeySeed, MemberKey, RowSet};
use crate::random;

/// Members per row group. One group is in memory while it is written.
const GROUP_LEN: usize = 64 << 10;
/// Bytes per page, the unit that is read for one identifier.
const PAGE_LEN: usize = 64 << 10;

/// Writes one part.
pub struct PartWriter {
    id: Box<str>,
    op: ChangeOp,
    seed: KeySeed,
    file: PendingFile,
    parquet: SerializedFileWriter<HashingWriter>,
    group: RowGroup,
    rows: u64,
    last: Option<MemberKey>,
    sum: KeySum,
    /// The run of the members that follow.
    run: Option<ByteArray>,
}

impl PartWriter {
    pub(in super::super) fn create<'a>(
        store: &Store,
        folder: impl Into<PartFolder<'a>>,
        op: ChangeOp,
        seed: KeySeed,
    ) -> Result<Self, StateError> {
        Self::create_as(store, folder.into(), op, seed, properties())
    }

    fn create_as(
        store: &Store,
        folder: PartFolder<'_>,
        op: ChangeOp,
        seed: KeySeed,
        properties: WriterProperties,
    ) -> Result<Self, StateError> {
        let id: Box<str> = random::unique_id().to_string().into();
        let file = store.pending(&path_of(folder, &id))?;
        let sink = file.writer().map_err(|e| StoreError::new("open", &file.path(), e))?;
        let parquet = SerializedFileWriter::new(HashingWriter::new(sink), schema(), Arc::new(properties))
            .map_err(|e| write_error(&file, e))?;
        Ok(Self {
            id,
            op,
            seed,
            file,
            parquet,
            group: RowGroup::default(),
            rows: 0,
            last: None,
            sum: KeySum::default(),
            run: None,
        })
    }

    /// Sets the run since which the members that follow have their status. `None`: it is unknown.
    pub fn set_run(&mut self, run: Option<impl Into<ByteArray>>) {
        self.run = run.map(Into::into);
    }

    /// Appends a member. Members must arrive in strictly ascending key order.
    ///
    /// # Errors
    /// When the write fails, or the order is wrong.
    pub fn push(&mut self, packed: &[u8]) -> Result<(), StateError> {
        let key = MemberKey::of(self.seed, packed);
        if self.last.is_some_and(|last| key <= last) {
            return Err(self.damaged("its members are not sorted"));
        }
        self.last = Some(key);
        let (identifier, _) = Identifier::unpack(packed).map_err(|e| self.damaged(&e.to_string()))?;
        self.group.push(key, identifier, self.run.as_ref());
        self.rows += 1;
        if self.group.high.len() == GROUP_LEN { self.flush() } else { Ok(()) }
    }

    /// Commits the file to disk. No version names it yet, and no row is acknowledged.
    ///
    /// # Errors
    /// When the write fails.
    pub fn finish(mut self) -> Result<PartRef, StateError> {
        self.flush()?;
        self.parquet.append_key_value_metadata(KeyValue::new(KEYS.to_owned(), self.sum.digest()));
        let flushed = self.parquet.flush().map_err(ParquetError::from);
        flushed.map_err(|e| write_error(&self.file, e))?;
        self.parquet.inner_mut().keep();
        let closed = self.parquet.into_inner().and_then(|sink| Ok(sink.close_with_kept()?));
        let (bytes, checksum, footer) = closed.map_err(|e| write_error(&self.file, e))?;
        self.file.commit_new()?;
        let (acknowledged, rejected) = (RowSet::default(), RowSet::default());
        let (id, op, rows, footer, noted) = (self.id, self.op, self.rows, PartFooter::of(&footer), false);
        Ok(PartRef { id, op, rows, bytes, checksum, footer, acknowledged, rejected, noted })
    }

    fn flush(&mut self) -> Result<(), StateError> {
        if self.group.high.is_empty() {
            return Ok(());
        }
        let group = std::mem::take(&mut self.group);
        let bytes = |keys: &[i64]| keys.iter().flat_map(|key| key.to_le_bytes()).collect::<Vec<u8>>();
        self.sum.update(&bytes(&group.high), &bytes(&group.low));
        let written = self.parquet.next_row_group().and_then(|out| group.write(out, self.op));
        written.map_err(|e| write_error(&self.file, e))
    }

    fn damaged(&self, problem: &str) -> StateError {
        StateError::Damaged { path: self.file.path(), problem: problem.to_owned() }
    }
}

fn write_error(file: &PendingFile, error: ParquetError) -> StateError {
    let source = match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(io) => *io,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    };
    StoreError::new("write", &file.path(), source).into()
}

/// The members of one row group, by column.
#[derive(Default)]
struct RowGroup {
    high: Vec<i64>,
    low: Vec<i64>,
    kinds: Vec<IdentifierKind>,
    /// All labels and identifiers, concatenated; the written values are slices of it.
    text: Vec<u8>,
    ends: Vec<(u32, u32)>,
    /// The runs that are known, and for each member whether its run is.
    runs: Vec<ByteArray>,
    runs_known: Vec<i16>,
}

impl RowGroup {
    fn push(&mut self, key: MemberKey, identifier: Identifier<'_>, run: Option<&ByteArray>) {
        self.runs_known.push(i16::from(run.is_some()));
        self.runs.extend(run.cloned());
        let (high, low) = key.halves();
        self.high.push(high.cast_signed());
        self.low.push(low.cast_signed());
        self.kinds.push(identifier.kind);
        self.text.extend_from_slice(identifier.label.as_bytes());
        let label_end = self.text.len();
        self.text.extend_from_slice(identifier.value.as_bytes());
        // A group is 64 Ki identifiers of at most 1,223 bytes, far below 4 GiB.
        #[allow(clippy::cast_possible_truncation, reason = "bounded by GROUP_LEN times PACKED_LEN_MAX")]
        self.ends.push((label_end as u32, self.text.len() as u32));
    }

    fn write(
        self,
        mut out: SerializedRowGroupWriter<'_, HashingWriter>,
        op: ChangeOp,
    ) -> Result<(), ParquetError> {
        let rows = self.high.len();
        let text = Bytes::from(self.text);
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end as usize));
        let (mut labels, mut defined, mut values) =
            (Vec::new(), Vec::with_capacity(rows), Vec::with_capacity(rows));
        for ((start, (label_end, end)), kind) in starts.zip(&self.ends).zip(&self.kinds) {
            let (label_end, end) = (*label_end as usize, *end as usize);
            defined.push(i16::from(*kind == IdentifierKind::Alias));
            if *kind == IdentifierKind::Alias {
                labels.push(ByteArray::from(text.slice(start..label_end)));
            }
            values.push(ByteArray::from(text.slice(label_end..end)));
        }
        let constant = |text: &'static str| ByteArray::from(Bytes::from_static(text.as_bytes()));
        let kinds: Vec<ByteArray> = self.kinds.iter().map(|kind| constant(kind.as_str())).collect();
        column::<Int64Type>(&mut out, |c| c.write_batch(&self.high, None, None))?;
        column::<Int64Type>(&mut out, |c| c.write_batch(&self.low, None, None))?;
        column::<ByteArrayType>(&mut out, |c| c.write_batch(&vec![constant(op.as_str()); rows], None, None))?;
        column::<ByteArrayType>(&mut out, |c| c.write_batch(&kinds, None, None))?;
        column::<ByteArrayType>(&mut out, |c| c.write_batch(&labels, Some(&defined), None))?;
        column::<ByteArrayType>(&mut out, |c| c.write_batch(&values, None, None))?;
        column::<ByteArrayType>(&mut out, |c| c.write_batch(&self.runs, Some(&self.runs_known), None))?;
        out.close().map(drop)
    }
}

fn column<T: DataType>(
    out: &mut SerializedRowGroupWriter<'_, HashingWriter>,
    write: impl FnOnce(&mut ColumnWriterImpl<'_, T>) -> Result<usize, ParquetError>,
) -> Result<(), ParquetError> {
    let Some(mut column) = out.next_column()? else {
        return Err(ParquetError::General("the schema has too few columns".to_owned()));
    };
    write(column.typed::<T>())?;
    column.close()
}

fn schema() -> TypePtr {
    let key = |name| {
        Type::primitive_type_builder(name, Physical::INT64)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(Some(LogicalType::integer(64, false)))
    };
    let text = |name, repetition| {
        Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
            .with_repetition(repetition)
            .with_logical_type(Some(LogicalType::String))
    };
    let columns = [
        key("key_high"),
        key("key_low"),
        text("op", Repetition::REQUIRED),
        text("kind", Repetition::REQUIRED),
        text("alias_label", Repetition::OPTIONAL),
        text("identifier", Repetition::REQUIRED),
        text("run", Repetition::OPTIONAL),
    ];
    let fields = columns.into_iter().filter_map(|column| column.build().ok()).map(Arc::new).collect();
    let group = Type::group_type_builder("member").with_fields(fields).build();
    Arc::new(group.unwrap_or_else(|e| unreachable!("a constant schema: {e}")))
}

fn properties() -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_data_page_size_limit(PAGE_LEN)
        .set_write_batch_size(1024)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(concat!("syncline ", env!("CARGO_PKG_VERSION")).to_owned());
    for name in ["op", "kind", "alias_label", "run"] {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), true);
    }
    for name in ["key_high", "key_low", "identifier"] {
        properties = properties.set_column_encoding(ColumnPath::from(name), Encoding::PLAIN);
    }
    properties.build()
}

#[cfg(test)]
mod tests {
    use parquet::basic::{Compression, ZstdLevel};

    use super::super::PartCursor;
    use super::*;
    use crate::model::CohortId;

    /// Earlier versions compressed the identifiers.
    #[test]
    fn a_part_is_read_with_and_without_compressed_identifiers() {
        let home = tempfile::tempdir().unwrap();
        let (store, cohort, seed) = (Store::in_folder(home.path()), CohortId::new("c").unwrap(), KeySeed(7));
        let mut members: Vec<(MemberKey, Vec<u8>)> = (0..100_000)
            .map(|n| {
                let mut packed = Vec::new();
                Identifier {
                    kind: IdentifierKind::ALL[n % 3],
                    label: ["", "crm", ""][n % 3],
                    value: &format!("user-{n}"),
                }
                .pack_into(&mut packed);
                (MemberKey::of(seed, &packed), packed)
            })
            .collect();
        members.sort();
        for compression in [Compression::UNCOMPRESSED, Compression::ZSTD(ZstdLevel::default())] {
            let column = ColumnPath::from("identifier");
            let properties = properties().into_builder().set_column_compression(column, compression).build();
            let mut writer =
                PartWriter::create_as(&store, PartFolder::Cohort(&cohort), ChangeOp::Add, seed, properties)
                    .unwrap();
            members.iter().for_each(|(_, packed)| writer.push(packed).unwrap());
            let part = writer.finish().unwrap();
            let blob = store.open_blob(&path_of(&cohort, &part.id)).unwrap();
            let mut cursor = PartCursor::open(blob, &part, seed).unwrap();
            for (row, (key, packed)) in members.iter().enumerate() {
                cursor.advance().unwrap();
                assert_eq!(cursor.key(), Some(*key));
                // Rows near and far apart, across page and group ends, with whole pages skipped.
                if row % 7_001 < 40 || row % 65_536 < 2 {
                    let mut found = Vec::new();
                    cursor.identifier(&mut found).unwrap();
                    assert_eq!(&found, packed, "row {row}");
                }
            }
            cursor.advance().unwrap();
            assert_eq!(cursor.key(), None);
        }
    }
}
