//! Source files → rows, streaming: CSV, TSV and NDJSON, plain or compressed, Parquet and Avro; one file or a
//! glob, on this machine, in a bucket, or on a web server.
//!
//! # Guarantees
//! Either every row of every file is handed over, each as fields or as unreadable with its reason, or
//! there is an error: a file that is cut short, replaced, or changed while it is read never runs for
//! a smaller one. Memory does not grow with the files.
//!
//! # Assumptions
//! Whoever writes a file writes it under another name first and renames it, or the reading fails.

mod avro;
mod content;
mod csv;
mod error;
mod find;
mod fingerprint;
mod header;
mod json_values;
mod lines;
mod ndjson;
mod open;
mod parquet;
mod remote;

use std::path::{Path, PathBuf};

pub(in crate::connector) use avro::AvroFile;
pub use error::FileError;
pub(in crate::connector) use find::{FoundFile, real};
pub use fingerprint::{FileFingerprint, fingerprint};

use crate::config::{FileSource, Format};
use crate::model::Fields;
use content::Content;
use find::Files;
use open::FileStamp;
pub(in crate::connector) use open::{open_file, read_whole};

/// The reason of a reject that is a header row in the middle of a file: it can name no member.
pub const REPEATED_HEADER: &str = "repeated_header";

/// Where a row stands.
#[derive(Clone, Copy, Debug)]
pub struct RowLocation<'a> {
    /// The file, as messages name it.
    pub file: &'a str,
    /// The line, from 1.
    pub line: u64,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSummary {
    /// Files read.
    pub files: u64,
    /// Rows in them, header rows and blank lines apart.
    pub rows: u64,
    /// A file without even a header row, where there should be one.
    pub hollow: Option<String>,
    /// Hidden or temporary files that the source's glob would name otherwise.
    pub skipped: u64,
    /// What tells these files from any others.
    pub fingerprint: Option<FileFingerprint>,
}

/// Takes rows. To end the reading it fails with [`FileError::Stopped`].
pub trait RowSink {
    /// Takes the wanted columns of a row, in the order in which they were asked for.
    ///
    /// # Errors
    /// To end the reading.
    fn row(&mut self, fields: &impl Fields, place: RowLocation<'_>) -> Result<(), FileError>;
    /// Takes note of a row that could not be read: a stable word, and what is wrong with it.
    ///
    /// # Errors
    /// To end the reading.
    fn unreadable(
        &mut self,
        reason: &'static str,
        detail: &str,
        place: RowLocation<'_>,
    ) -> Result<(), FileError>;
}

/// Counts what it runs on.
struct Counted<'a, S> {
    sink: &'a mut S,
    rows: u64,
}

impl<S: RowSink> RowSink for Counted<'_, S> {
    #[inline]
    fn row(&mut self, fields: &impl Fields, place: RowLocation<'_>) -> Result<(), FileError> {
        self.rows += 1;
        self.sink.row(fields, place)
    }

    fn unreadable(
        &mut self,
        reason: &'static str,
        detail: &str,
        place: RowLocation<'_>,
    ) -> Result<(), FileError> {
        self.rows += 1;
        self.sink.unreadable(reason, detail, place)
    }
}

/// Where files are read from.
#[derive(Clone, Copy)]
pub struct FileAccess<'a> {
    /// Where relative paths start.
    pub folder: &'a Path,
    /// The folders that may be read from.
    pub roots: &'a [PathBuf],
    /// What the environment says of object stores.
    pub stores: &'a [(String, String)],
}

/// Reads every file of a source.
///
/// # Errors
/// [`FileError`] when the source cannot be read in full; what the sink was given is then of no use.
pub fn read(
    source: &FileSource,
    from: FileAccess<'_>,
    columns: &[Box<str>],
    sink: &mut impl RowSink,
) -> Result<ReadSummary, FileError> {
    let Files { files, skipped } = find::files(source, from)?;
    let (mut reading, mut seen) =
        (ReadSummary { skipped, ..ReadSummary::default() }, ndjson::SeenKeys::default());
    let mut stamps = Vec::with_capacity(files.len());
    for found in &files {
        reading.files += 1;
        stamps.push(one(source, found, columns, (&mut reading, &mut seen), sink)?);
    }
    seen.check(columns)?;
    let now = find::files(source, from)?.files;
    if !files.iter().map(FoundFile::path).eq(now.iter().map(FoundFile::path)) {
        return Err(FileError::FilesChanged { pattern: source.pattern.clone() });
    }
    if now.len() > 1 || source.is_remote() {
        one_snapshot(&now, &stamps)?;
    }
    reading.fingerprint = Some(FileFingerprint::new(&files, &stamps));
    Ok(reading)
}

/// Several files are one cohort only as they stood together: whoever moved from one that was read late
/// to one that was read early is in none of what was read.
fn one_snapshot(files: &[FoundFile], stamps: &[FileStamp]) -> Result<(), FileError> {
    for (found, before) in files.iter().zip(stamps) {
        if found.stamp()? != *before {
            return Err(FileError::Changed { path: found.path().to_owned() });
        }
    }
    Ok(())
}

fn one(
    source: &FileSource,
    found: &FoundFile,
    columns: &[Box<str>],
    (reading, seen): (&mut ReadSummary, &mut ndjson::SeenKeys),
    sink: &mut impl RowSink,
) -> Result<FileStamp, FileError> {
    let path = found.path();
    let name = path.display().to_string();
    let mut counted = Counted { sink, rows: 0 };
    let (handle, watch) = open::open(found)?;
    let read = rows(source, (handle, path), columns, seen, &mut counted);
    // Whatever a parser made of it: what did not come is not damaged.
    watch.came_whole()?;
    let headed = read?;
    reading.rows += counted.rows;
    if !headed {
        reading.hollow = Some(name);
    }
    watch.unchanged()
}

/// Reads the rows of one file. Whether there was a header row, where there should be one.
fn rows(
    source: &FileSource,
    (handle, path): (open::FileBytes, &Path),
    columns: &[Box<str>],
    seen: &mut ndjson::SeenKeys,
    sink: &mut impl RowSink,
) -> Result<bool, FileError> {
    let name = path.display().to_string();
    let failed = |source| FileError::Io { path: path.to_owned(), source };
    let again = handle.again().map_err(failed)?;
    if source.format.or_else(|| Format::from_name(path)) == Some(Format::Parquet) {
        // It is read at positions: only a file that cannot be read is looked at from its start.
        let read = parquet::read(handle, path, columns, &name, sink);
        let Err(damaged @ FileError::Damaged { .. }) = read else { return read };
        let format = Content::of(again, path).and_then(|content| content.format(Some(Format::Parquet), path));
        return Err(format.err().unwrap_or(damaged));
    }
    let content = Content::of(handle, path)?;
    let format = content.format(source.format, path)?;
    let lines = |input| lines::Lines::new(input, path, source.final_newline);
    match format {
        Format::Parquet => parquet::read(again, path, columns, &name, sink),
        Format::Avro => avro::read(content.input.reader, path, columns, sink),
        Format::Csv => csv::read(lines(content.input), source.delimiter, columns, &name, sink),
        Format::Tsv => csv::read(lines(content.input), b'\t', columns, &name, sink),
        Format::Ndjson => ndjson::read(lines(content.input), columns, &name, seen, sink),
    }
}
