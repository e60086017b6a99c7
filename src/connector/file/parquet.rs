//! Parquet: reads only the requested columns, on several threads, while earlier rows are matched. Nested columns are
//! addressed by path, `user.id`.
//!
//! The footer is at the end of a file, so a truncated file fails at once.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::open::FileBytes;
use super::{FileError, header};
use crate::connector::columns::Columns;
use crate::connector::rows::{RowLocation, RowSink};
use crate::model::{CheckedPages, catch_parser_panic, has_plausible_lists};
use crate::object_store::CachedBlocks;

/// Rows of a batch.
const BATCH_LEN: usize = 8192;
/// Batches per thread that may wait for the matcher.
const WAITING_MAX: usize = 2;
/// Threads that decompress. One more core matches.
const THREADS_MAX: usize = 4;
/// Page headers are read byte by byte; pages bypass the buffer.
const PAGE_HEADER_LEN: usize = 4 << 10;

/// Bytes at the end of every file: the length of its metadata, and `PAR1`.
const FOOTER_END: u64 = 8;
const IMPLAUSIBLE: &str = "it claims more elements than it has bytes";

/// A message of a thread: a batch of rows, or the end of a row group.
type RowBatch = Result<Option<RecordBatch>, FileError>;

/// Reads a file.
pub(super) fn read(
    file: FileBytes,
    path: &Path,
    columns: &[Box<str>],
    name: &str,
    sink: &mut impl RowSink,
) -> Result<bool, FileError> {
    let file = PositionedFile::of(file).map_err(|source| FileError::Io { path: path.to_owned(), source })?;
    // Types come from the columns themselves, not from the writer's Arrow schema.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    check_metadata(&file).map_err(|e| damaged(path, &e))?;
    let opened = catch_parser_panic(|| ArrowReaderMetadata::load(&file, options))
        .ok_or_else(|| beyond_parsing(path))?;
    let opened = opened.map_err(|e| damaged(path, &e))?;
    let wanted = wanted(&opened, path, columns)?;
    let paths: Vec<Vec<Box<str>>> = wanted.iter().map(|(_, path)| path.clone()).collect();
    let wanted: Vec<usize> = wanted.into_iter().flat_map(|(leaves, _)| leaves).collect();
    let groups = opened.metadata().num_row_groups();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(groups);
    std::thread::scope(|scope| {
        let unpacking = (0..threads).map(|first| {
            let groups = (first..groups).step_by(threads);
            start(
                scope,
                GroupReader { file: file.of_thread(), opened: opened.clone(), wanted: wanted.clone() },
                path,
                groups,
            )
        });
        let unpacking: Vec<Receiver<RowBatch>> = unpacking.collect::<Result<_, FileError>>()?;
        let mut line = 0;
        for group in 0..groups {
            let batches = &unpacking[group % threads];
            while let Some(batch) = batches.recv().unwrap_or_else(|_| Err(beyond_parsing(path)))? {
                let rows = Columns::of(&batch, paths.iter().map(Vec::as_slice));
                for row in 0..batch.num_rows() {
                    line += 1;
                    sink.row(&rows.row(row), RowLocation { file: name, line })?;
                }
            }
        }
        Ok(true)
    })
}

/// Checks the metadata at the end of a file before the parser reads it. A file without it is left to the parser.
fn check_metadata(file: &PositionedFile) -> Result<(), ParquetError> {
    let Some(end) = file.len.checked_sub(FOOTER_END) else { return Ok(()) };
    let length = file.get_bytes(end, 4)?.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length));
    let Some(start) = end.checked_sub(u64::from(length)) else { return Ok(()) };
    let metadata = BufReader::new(file.at(start)).take(u64::from(length));
    if has_plausible_lists(metadata, file.len) {
        return Ok(());
    }
    Err(ParquetError::General(IMPLAUSIBLE.to_owned()))
}

/// A defect that the parser does not report as an error.
fn beyond_parsing(path: &Path) -> FileError {
    FileError::Damaged { path: path.to_owned(), what: "as Parquet: its metadata is inconsistent".to_owned() }
}

fn damaged(path: &Path, error: &ParquetError) -> FileError {
    FileError::Damaged { path: path.to_owned(), what: format!("as Parquet: {error}") }
}

/// A column: its leaves and its path.
type WantedColumn = (Vec<usize>, Vec<Box<str>>);

/// The requested columns, including lists and records.
fn wanted(
    opened: &ArrowReaderMetadata,
    path: &Path,
    columns: &[Box<str>],
) -> Result<Vec<WantedColumn>, FileError> {
    let leaves = opened.parquet_schema().columns();
    let names: Vec<String> = leaves.iter().map(|column| column.path().string()).collect();
    let path = path.to_owned();
    let each = columns.iter().map(|wanted| {
        let mut indexes = (0..names.len()).filter(|at| names[*at] == **wanted);
        match (indexes.next(), indexes.next()) {
            (Some(at), None) => Ok((vec![at], parts(opened, at))),
            (Some(_), Some(_)) => {
                Err(FileError::DuplicateColumn { path: path.clone(), column: wanted.to_string() })
            }
            (None, _) => group(opened, &names, wanted)
                .ok_or_else(|| header::missing_in_names(&path, wanted, names.iter().cloned())),
        }
    });
    each.collect()
}

/// The path of a leaf. A name may contain dots.
fn parts(opened: &ArrowReaderMetadata, leaf: usize) -> Vec<Box<str>> {
    opened.parquet_schema().column(leaf).path().parts().iter().map(|part| part.as_str().into()).collect()
}

/// A column that is a list, a map or a record.
fn group(opened: &ArrowReaderMetadata, names: &[String], wanted: &str) -> Option<WantedColumn> {
    let inside = |at: &usize| names[*at].strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'));
    let leaves: Vec<usize> = (0..names.len()).filter(inside).collect();
    let (mut path, mut len) = (Vec::new(), 0);
    for part in parts(opened, *leaves.first()?) {
        len += part.len() + usize::from(!path.is_empty());
        path.push(part);
        if len == wanted.len() {
            return Some((leaves, path));
        }
    }
    None
}

/// The work of a thread.
struct GroupReader {
    file: PositionedFile,
    opened: ArrowReaderMetadata,
    wanted: Vec<usize>,
}

/// Starts a thread that decompresses some row groups.
fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    reader: GroupReader,
    path: &Path,
    groups: impl Iterator<Item = usize> + Send + 'scope,
) -> Result<Receiver<RowBatch>, FileError> {
    let (batches, unpacked) = sync_channel(WAITING_MAX);
    let (of_thread, failed) = (path.to_owned(), path.to_owned());
    let unpack = move || {
        let error = match catch_parser_panic(|| unpack(&reader, groups, &batches)) {
            Some(Ok(())) => return,
            Some(Err(error)) => damaged(&of_thread, &error),
            None => beyond_parsing(&of_thread),
        };
        // The send fails when the sink has stopped the read.
        let _ = batches.send(Err(error));
    };
    let thread = Builder::new().name("parquet".to_owned()).spawn_scoped(scope, unpack);
    thread.map_err(|source| FileError::Io { path: failed, source })?;
    Ok(unpacked)
}

fn unpack(
    reader: &GroupReader,
    groups: impl Iterator<Item = usize>,
    batches: &SyncSender<RowBatch>,
) -> Result<(), ParquetError> {
    for group in groups {
        let rows = reader.opened.metadata().row_group(group).num_rows();
        let mut left = usize::try_from(rows)
            .map_err(|_| ParquetError::General(format!("a row group claims to have {rows} rows")))?;
        let leaves = ProjectionMask::leaves(reader.opened.parquet_schema(), reader.wanted.iter().copied());
        let unpacked =
            ParquetRecordBatchReaderBuilder::new_with_metadata(reader.file.clone(), reader.opened.clone())
                .with_row_groups(vec![group])
                .with_projection(leaves)
                .with_batch_size(BATCH_LEN)
                .build()?;
        for batch in unpacked {
            let batch = batch.map_err(of_arrow)?;
            left = left.checked_sub(batch.num_rows()).ok_or_else(|| contradiction(group))?;
            if batches.send(Ok(Some(batch))).is_err() {
                return Ok(());
            }
        }
        if left > 0 {
            return Err(contradiction(group));
        }
        if batches.send(Ok(None)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn contradiction(group: usize) -> ParquetError {
    ParquetError::EOF(format!("row group {group} has a different number of rows than its metadata says"))
}

fn of_arrow(error: ArrowError) -> ParquetError {
    match error {
        ArrowError::ParquetError(text) => ParquetError::General(text),
        error => error.into(),
    }
}

/// A file that several threads read at their own positions.
#[derive(Clone)]
struct PositionedFile {
    bytes: Arc<PositionedReader>,
    len: u64,
    checked: CheckedPages,
}

/// Bytes with random access.
#[allow(clippy::large_enum_variant, reason = "there is one for each file and thread")]
enum PositionedReader {
    File(File),
    Object(CachedBlocks),
}

impl PositionedFile {
    fn of(handle: FileBytes) -> io::Result<Self> {
        let (len, bytes) = match handle {
            FileBytes::File(file) => (file.metadata()?.len(), PositionedReader::File(file)),
            FileBytes::Object(object) => (object.len, PositionedReader::Object(CachedBlocks::new(object))),
        };
        Ok(Self { bytes: Arc::new(bytes), len, checked: CheckedPages::default() })
    }

    /// A copy for another thread, with its own cache.
    fn of_thread(&self) -> Self {
        match &*self.bytes {
            PositionedReader::File(_) => self.clone(),
            PositionedReader::Object(blocks) => {
                let bytes = Arc::new(PositionedReader::Object(blocks.anew()));
                Self { bytes, ..self.clone() }
            }
        }
    }

    fn at(&self, position: u64) -> FilePosition {
        FilePosition { bytes: Arc::clone(&self.bytes), position }
    }
}

impl Length for PositionedFile {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for PositionedFile {
    type T = BufReader<FilePosition>;

    fn get_read(&self, start: u64) -> Result<BufReader<FilePosition>, ParquetError> {
        let read = || BufReader::with_capacity(PAGE_HEADER_LEN, self.at(start));
        let left = self.len.saturating_sub(start);
        if left > FOOTER_END && !self.checked.may_read(start, read(), left) {
            return Err(ParquetError::General(IMPLAUSIBLE.to_owned()));
        }
        Ok(read())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = Vec::new();
        // The file's claims are checked before memory is allocated.
        if self.at(start).take(length as u64).read_to_end(&mut bytes)? < length {
            return Err(ParquetError::EOF("the file is truncated".to_owned()));
        }
        Ok(bytes.into())
    }
}

/// A position in a file.
struct FilePosition {
    bytes: Arc<PositionedReader>,
    position: u64,
}

impl Read for FilePosition {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = match &*self.bytes {
            PositionedReader::File(file) => read_at(file, buffer, self.position)?,
            PositionedReader::Object(blocks) => blocks.read_at(buffer, self.position)?,
        };
        self.position += len as u64;
        Ok(len)
    }
}

/// Reads bytes at a position without moving the file's cursor. Returns 0 at the end.
#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, position)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::rows::{SinkStopped, UnreadableRow};
    use crate::model::Fields;

    #[derive(Default)]
    struct Counting(u64);

    impl RowSink for Counting {
        fn row(&mut self, fields: &impl Fields, _: RowLocation<'_>) -> Result<(), SinkStopped> {
            std::hint::black_box(fields.field(0));
            self.0 += 1;
            Ok(())
        }

        fn unreadable(&mut self, _: UnreadableRow<'_>) -> Result<(), SinkStopped> {
            self.0 += 1;
            Ok(())
        }
    }

    fn count(bytes: &[u8], column: &str) -> Result<u64, FileError> {
        use std::io::Write as _;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut counting = Counting::default();
        read(FileBytes::File(file), Path::new("f.parquet"), &[column.into()], "f.parquet", &mut counting)?;
        Ok(counting.0)
    }

    /// A file with a damaged byte yields all its rows or an error.
    #[test]
    fn damaged_files_are_reported_and_cause_no_panic() {
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
