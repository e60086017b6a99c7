//! The header row of a CSV file under each usual separator, for a config that does not exist yet.

use std::path::Path;

use super::content::DetectedContent;
use super::found::FoundFile;
use super::lines::FileLines;
use super::{FileError, csv, header, open};
use crate::config::{FileFormat, FinalNewline};

/// The usual separators, the most frequent first.
const SEPARATORS: [(FileFormat, u8); 4] =
    [(FileFormat::Csv, b','), (FileFormat::Tsv, b'\t'), (FileFormat::Csv, b';'), (FileFormat::Csv, b'|')];

/// The column names of a file, if its fields have this separator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvHeader {
    /// CSV, or TSV for tabs.
    pub format: FileFormat,
    /// The separator.
    pub delimiter: u8,
    /// The names, in order.
    pub columns: Vec<String>,
    /// The rows below look like data, and the first row does not.
    pub is_above_data: bool,
}

/// The header row of a local file under each usual separator that its quotes allow. The first one is of commas, if
/// they are possible.
///
/// # Errors
/// [`FileError`] when the file is not text, or its first row cannot be read with any separator.
pub fn csv_headers(path: &Path) -> Result<Vec<CsvHeader>, FileError> {
    let found = FoundFile::Local(path.to_owned());
    let (mut headers, mut first_error) = (Vec::new(), None);
    for (format, delimiter) in SEPARATORS {
        let (handle, _) = open::open(&found)?;
        let content = DetectedContent::of(handle, path)?;
        content.format(Some(format), path)?;
        let lines = FileLines::new(content.input, path, FinalNewline::Optional);
        match csv::column_names(lines, delimiter) {
            Ok((columns, is_above_data)) => {
                headers.push(CsvHeader { format, delimiter, columns, is_above_data });
            }
            // With another separator the quotes can be right.
            Err(error @ (FileError::Malformed { .. } | FileError::Truncated { .. })) => {
                first_error.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match first_error {
        Some(error) if headers.is_empty() => Err(error),
        _ => Ok(headers),
    }
}

/// The error for a file with none of the columns that were looked for. A first row that looks like user data is not
/// shown.
#[must_use]
pub fn no_such_column(path: &Path, column: &str, header: &CsvHeader) -> FileError {
    match header::missing_in_row(path, column, &header.columns) {
        FileError::MissingColumn { path, column, found } if found.is_empty() && header.is_above_data => {
            FileError::MissingColumn { path, column, found: header.columns.clone() }
        }
        error => error,
    }
}
