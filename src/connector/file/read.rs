//! Reads every file of a source, in every supported format, and checks that no file changed meanwhile.

use std::path::Path;

use super::content::DetectedContent;
use super::find::FileAccess;
use super::fingerprint::FileFingerprint;
use super::found::{FoundFile, FoundFiles};
use super::stamp::FileStamp;
use super::{FileError, avro, csv, find, lines, ndjson, open, parquet};
use crate::config::{FileFormat, FileSource};
use crate::connector::rows::{CountingSink, ReadSummary, RowSink};
use crate::foreign::shown_path;

/// Reads every file of a source.
///
/// # Errors
/// [`FileError`] when the source cannot be read in full. Discard the rows then.
pub fn read(
    source: &FileSource,
    from: FileAccess<'_>,
    columns: &[Box<str>],
    sink: &mut impl RowSink,
) -> Result<(ReadSummary, FileFingerprint), FileError> {
    let FoundFiles { files, skipped } = find::files(source, from)?;
    let (mut reading, mut seen) =
        (ReadSummary { skipped_files: skipped, ..ReadSummary::default() }, ndjson::SeenKeys::default());
    let mut stamps = Vec::with_capacity(files.len());
    for found in &files {
        reading.files += 1;
        stamps.push(read_file(source, found, columns, (&mut reading, &mut seen), sink)?);
    }
    seen.check(columns)?;
    let now = find::files(source, from)?.files;
    if !files.iter().map(FoundFile::path).eq(now.iter().map(FoundFile::path)) {
        return Err(FileError::FilesChanged { pattern: source.pattern.clone() });
    }
    if now.len() > 1 || source.is_remote() {
        check_unchanged(&now, &stamps)?;
    }
    Ok((reading, FileFingerprint::new(&files, &stamps)))
}

/// Several files must be one snapshot: a user that moved from a file that was read late to one that was read early
/// would be missing.
fn check_unchanged(files: &[FoundFile], stamps: &[FileStamp]) -> Result<(), FileError> {
    for (found, before) in files.iter().zip(stamps) {
        if found.stamp()? != *before {
            return Err(FileError::Changed { path: found.path().to_owned() });
        }
    }
    Ok(())
}

fn read_file(
    source: &FileSource,
    found: &FoundFile,
    columns: &[Box<str>],
    (reading, seen): (&mut ReadSummary, &mut ndjson::SeenKeys),
    sink: &mut impl RowSink,
) -> Result<FileStamp, FileError> {
    let path = found.path();
    let name = shown_path(path);
    let mut counted = CountingSink::new(sink);
    let (handle, watch) = open::open(found)?;
    let read = read_rows(source, (handle, path), columns, seen, &mut counted);
    // An incomplete download is reported as such, before any parser error that it caused.
    watch.came_whole()?;
    let headed = read?;
    reading.rows += counted.rows;
    if !headed {
        reading.headerless_file = Some(name);
    }
    watch.unchanged()
}

/// Reads the rows of one file. Returns `false` if a required header row is missing.
fn read_rows(
    source: &FileSource,
    (handle, path): (open::FileBytes, &Path),
    columns: &[Box<str>],
    seen: &mut ndjson::SeenKeys,
    sink: &mut impl RowSink,
) -> Result<bool, FileError> {
    let name = path.display().to_string();
    let failed = |source| FileError::Io { path: path.to_owned(), source };
    let again = handle.again().map_err(failed)?;
    if source.format.or_else(|| FileFormat::from_name(path)) == Some(FileFormat::Parquet) {
        // Parquet is read at positions. Only an unreadable file is inspected from its start.
        let read = parquet::read(handle, path, columns, &name, sink);
        let Err(damaged @ FileError::Damaged { .. }) = read else { return read };
        let format = DetectedContent::of(again, path)
            .and_then(|content| content.format(Some(FileFormat::Parquet), path));
        return Err(format.err().unwrap_or(damaged));
    }
    let content = DetectedContent::of(handle, path)?;
    let format = content.format(source.format, path)?;
    let lines = |input| lines::FileLines::new(input, path, source.final_newline);
    match format {
        FileFormat::Parquet => parquet::read(again, path, columns, &name, sink),
        FileFormat::Avro => avro::read(content.input.reader, path, columns, sink),
        FileFormat::Csv => csv::read(lines(content.input), source.delimiter, columns, &name, sink),
        FileFormat::Tsv => csv::read(lines(content.input), b'\t', columns, &name, sink),
        FileFormat::Ndjson => ndjson::read(lines(content.input), columns, &name, seen, sink),
    }
}
