//! Parquet: of each row group only the wanted columns are read, on threads of their own, while the rows before
//! them are matched. Nested columns are named by their path, `user.id`.
//!
//! A file without its footer is no file, so one that is cut short is told at once.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};

use bytes::Bytes;
use parquet::basic::LogicalType;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{
    BoolType, ByteArrayType, DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type, Int64Type,
    Int96Type,
};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader as _, Length, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::cells::{Cells, Row};
use super::guard::guarded;
use super::{FileError, Place, Sink};

/// A file that several threads read at positions of their own.
#[derive(Clone, Debug)]
struct Anywhere {
    file: Arc<File>,
    len: u64,
}

impl Length for Anywhere {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Anywhere {
    type T = BufReader<At>;

    fn get_read(&self, start: u64) -> Result<BufReader<At>, ParquetError> {
        Ok(BufReader::with_capacity(PAGE_HEADER_LEN, At { file: Arc::clone(&self.file), position: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = Vec::new();
        let at = At { file: Arc::clone(&self.file), position: start };
        // What the file claims is not taken as room before it is there.
        if at.take(length as u64).read_to_end(&mut bytes)? < length {
            return Err(ParquetError::EOF("the file ends before it should".to_owned()));
        }
        Ok(bytes.into())
    }
}

/// One place in a file.
struct At {
    file: Arc<File>,
    position: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = super::open::read_at(&self.file, buffer, self.position)?;
        self.position += len as u64;
        Ok(len)
    }
}

/// Rows that are handed over at once.
const BATCH_LEN: usize = 8192;
/// Batches that may wait for whoever matches them, of each thread.
const WAITING_MAX: usize = 2;
/// Threads that unpack. One core matches meanwhile.
const THREADS_MAX: usize = 4;

/// Headers of pages are read byte by byte; the page itself goes past the buffer.
const PAGE_HEADER_LEN: usize = 4 << 10;

/// What a thread hands over: the cells of some rows, or the end of a row group.
type Batch = Result<Option<Vec<Cells>>, FileError>;

/// Reads a file.
pub(super) fn read(
    file: File,
    path: &Path,
    columns: &[Box<str>],
    name: &str,
    sink: &mut impl Sink,
) -> Result<bool, FileError> {
    let damaged = |e: ParquetError| damaged(path, &e);
    let len = file.metadata().map_err(|source| FileError::Io { path: path.to_owned(), source })?.len();
    let file = Anywhere { file: Arc::new(file), len };
    let opened = guarded(|| SerializedFileReader::new(file.clone())).ok_or_else(|| beyond_parsing(path))?;
    let reader = opened.map_err(damaged)?;
    let wanted = wanted(&reader, path, columns)?;
    let groups = reader.num_row_groups();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(groups);
    std::thread::scope(|scope| {
        let unpacking = (0..threads).map(|first| {
            let groups = (first..groups).step_by(threads);
            start(scope, file.clone(), path, wanted.clone(), groups)
        });
        let unpacking: Vec<Receiver<Batch>> = unpacking.collect::<Result<_, FileError>>()?;
        let mut line = 0;
        for group in 0..groups {
            let batches = &unpacking[group % threads];
            while let Some(cells) = batches.recv().unwrap_or_else(|_| Err(beyond_parsing(path)))? {
                let rows = cells.first().map_or(0, Cells::len);
                for row in 0..rows {
                    line += 1;
                    sink.row(&Row { cells: &cells, row }, Place { file: name, line })?;
                }
            }
        }
        Ok(true)
    })
}

/// What the parser gave up on without an error.
fn beyond_parsing(path: &Path) -> FileError {
    FileError::Damaged { path: path.to_owned(), what: "as Parquet: it contradicts itself".to_owned() }
}

fn damaged(path: &Path, error: &ParquetError) -> FileError {
    FileError::Damaged { path: path.to_owned(), what: format!("as Parquet: {error}") }
}

/// The wanted columns by their places among the leaves.
fn wanted(
    reader: &SerializedFileReader<Anywhere>,
    path: &Path,
    columns: &[Box<str>],
) -> Result<Vec<usize>, FileError> {
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let names: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
    let path = path.to_owned();
    let each = columns.iter().map(|wanted| {
        let mut found = (0..names.len()).filter(|at| names[*at] == **wanted);
        match (found.next(), found.next()) {
            (Some(at), None) => Ok(at),
            (Some(_), Some(_)) => {
                Err(FileError::DuplicateColumn { path: path.clone(), column: wanted.to_string() })
            }
            (None, _) => {
                let (column, found) = (wanted.to_string(), names.clone());
                Err(FileError::MissingColumn { path: path.clone(), column, found })
            }
        }
    });
    each.collect()
}

/// Starts a thread that unpacks some row groups.
fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    file: Anywhere,
    path: &Path,
    wanted: Vec<usize>,
    groups: impl Iterator<Item = usize> + Send + 'scope,
) -> Result<Receiver<Batch>, FileError> {
    let (batches, unpacked) = sync_channel(WAITING_MAX);
    let (of_thread, failed) = (path.to_owned(), path.to_owned());
    let unpack = move || {
        let error = match guarded(|| unpack(file, &wanted, groups, &batches)) {
            Some(Ok(())) => return,
            Some(Err(error)) => damaged(&of_thread, &error),
            None => beyond_parsing(&of_thread),
        };
        // Whoever takes the rows may take no more: then nobody is told.
        let _ = batches.send(Err(error));
    };
    let thread = Builder::new().name("parquet".to_owned()).spawn_scoped(scope, unpack);
    thread.map_err(|source| FileError::Io { path: failed, source })?;
    Ok(unpacked)
}

fn unpack(
    file: Anywhere,
    wanted: &[usize],
    groups: impl Iterator<Item = usize>,
    batches: &SyncSender<Batch>,
) -> Result<(), ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    for group in groups {
        let group = reader.get_row_group(group)?;
        let rows = group.metadata().num_rows();
        let mut left = usize::try_from(rows)
            .map_err(|_| ParquetError::General(format!("a row group claims to have {rows} rows")))?;
        let columns = wanted.iter().map(|at| Ok((schema.column(*at), group.get_column_reader(*at)?)));
        let mut columns = columns.collect::<Result<Vec<_>, ParquetError>>()?;
        while left > 0 {
            let len = left.min(BATCH_LEN);
            let cells = columns.iter_mut().map(|(shape, reader)| cells(reader, shape, len));
            let cells = cells.collect::<Result<Vec<Cells>, ParquetError>>()?;
            if cells.iter().any(|cells| cells.len() != len) {
                return Err(ParquetError::EOF(
                    "a column has fewer values than its row group has rows".to_owned(),
                ));
            }
            if batches.send(Ok(Some(cells))).is_err() {
                return Ok(());
            }
            left -= len;
        }
        if batches.send(Ok(None)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The next cells of a column.
fn cells(reader: &mut ColumnReader, shape: &ColumnDescriptor, len: usize) -> Result<Cells, ParquetError> {
    if shape.max_rep_level() > 0 {
        return skipped(reader, len, "a list");
    }
    let logical = shape.logical_type_ref();
    let signed = !matches!(logical, Some(LogicalType::Integer(kind)) if !kind.is_signed);
    match (reader, logical) {
        (ColumnReader::ByteArrayColumnReader(r), _) => {
            typed::<ByteArrayType>(r, shape, len, |value, cells| cells.text(value.data()))
        }
        (ColumnReader::FixedLenByteArrayColumnReader(r), Some(LogicalType::Uuid)) => {
            typed::<FixedLenByteArrayType>(r, shape, len, |value, cells| uuid(value.data(), cells))
        }
        (ColumnReader::FixedLenByteArrayColumnReader(r), None) => {
            typed::<FixedLenByteArrayType>(r, shape, len, |value, cells| cells.text(value.data()))
        }
        (ColumnReader::Int32ColumnReader(r), None | Some(LogicalType::Integer(_))) => {
            typed::<Int32Type>(r, shape, len, |value, cells| match signed {
                true => cells.number(i64::from(*value)),
                false => cells.number(i64::from(value.cast_unsigned())),
            })
        }
        (ColumnReader::Int64ColumnReader(r), None | Some(LogicalType::Integer(_))) => {
            typed::<Int64Type>(r, shape, len, |value, cells| match signed {
                true => cells.number(*value),
                false => cells.whole(value.cast_unsigned()),
            })
        }
        (ColumnReader::BoolColumnReader(r), _) => {
            typed::<BoolType>(r, shape, len, |_, cells| cells.not_text("true or false"))
        }
        (ColumnReader::FloatColumnReader(r), _) => {
            typed::<FloatType>(r, shape, len, |value, cells| cells.float(f64::from(*value)))
        }
        (ColumnReader::DoubleColumnReader(r), _) => {
            typed::<DoubleType>(r, shape, len, |value, cells| cells.float(*value))
        }
        (ColumnReader::Int96ColumnReader(r), _) => {
            typed::<Int96Type>(r, shape, len, |_, cells| cells.not_text("a time"))
        }
        (reader, _) => skipped(reader, len, "not a text and not a whole number"),
    }
}

/// Reads values of a type, each of which becomes one cell.
fn typed<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    shape: &ColumnDescriptor,
    len: usize,
    mut cell: impl FnMut(&T::T, &mut Cells),
) -> Result<Cells, ParquetError> {
    let (mut defined, mut values) = (Vec::with_capacity(len), Vec::with_capacity(len));
    let mut cells = Cells::with_capacity(len);
    while cells.len() < len {
        defined.clear();
        values.clear();
        let optional = shape.max_def_level() > 0;
        let (rows, _, _) =
            reader.read_records(len - cells.len(), optional.then_some(&mut defined), None, &mut values)?;
        if rows == 0 {
            break;
        }
        if !optional {
            values.iter().for_each(|value| cell(value, &mut cells));
            continue;
        }
        let mut values = values.iter();
        for level in &defined {
            match values.as_slice().first().filter(|_| *level == shape.max_def_level()) {
                Some(value) => {
                    cell(value, &mut cells);
                    values.next();
                }
                None => cells.absent(),
            }
        }
    }
    Ok(cells)
}

/// Cells of a column that can name nobody.
fn skipped(reader: &mut ColumnReader, len: usize, what: &'static str) -> Result<Cells, ParquetError> {
    macro_rules! skip {
        ($($kind:ident),+) => {
            match reader { $(ColumnReader::$kind(reader) => reader.skip_records(len)?),+ }
        };
    }
    let rows = skip!(
        BoolColumnReader,
        Int32ColumnReader,
        Int64ColumnReader,
        Int96ColumnReader,
        FloatColumnReader,
        DoubleColumnReader,
        ByteArrayColumnReader,
        FixedLenByteArrayColumnReader
    );
    let mut cells = Cells::with_capacity(rows);
    (0..rows).for_each(|_| cells.not_text(what));
    Ok(cells)
}

/// A UUID as everybody writes it.
fn uuid(bytes: &[u8], cells: &mut Cells) {
    match uuid::Uuid::from_slice(bytes) {
        Ok(id) => cells.text(id.hyphenated().encode_lower(&mut [0; 36]).as_bytes()),
        Err(_) => cells.not_text("not a UUID"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fields;

    #[derive(Default)]
    struct Counting(u64);

    impl Sink for Counting {
        fn row(&mut self, fields: &impl Fields, _: Place<'_>) -> Result<(), FileError> {
            std::hint::black_box(fields.field(0));
            self.0 += 1;
            Ok(())
        }

        fn unreadable(&mut self, _: &'static str, _: &str, _: Place<'_>) -> Result<(), FileError> {
            self.0 += 1;
            Ok(())
        }
    }

    fn count(bytes: &[u8], column: &str) -> Result<u64, FileError> {
        use std::io::Write as _;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut counting = Counting::default();
        read(file, Path::new("f.parquet"), &[column.into()], "f.parquet", &mut counting)?;
        Ok(counting.0)
    }

    /// Wherever a file is damaged: all its rows or an error, and nothing worse.
    #[test]
    fn damage_is_told_and_nothing_worse() {
        let whole = include_bytes!("../../../tests/parquet/kinds.parquet");
        let columns = ["text", "huge", "user.deep.id"];
        columns.iter().for_each(|column| assert_eq!(count(whole, column).unwrap(), 3));
        for at in (0..whole.len()).step_by(5) {
            for flip in [0xff, 0x01, 0x80] {
                let mut bytes = whole.to_vec();
                bytes[at] ^= flip;
                for column in columns {
                    assert!(
                        matches!(count(&bytes, column), Ok(3) | Err(_)),
                        "{column} with byte {at} ^ {flip}"
                    );
                }
            }
        }
        for len in 0..whole.len() {
            assert!(count(&whole[..len], "text").is_err(), "of {len} bytes");
        }
    }
}
