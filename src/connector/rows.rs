//! Rows from any source: the sink that connectors push them into, and the summary of a read.

use crate::model::Fields;

/// The position of a row in its source.
#[derive(Clone, Copy, Debug)]
pub struct RowLocation<'a> {
    /// The file or query, as messages name it.
    pub file: &'a str,
    /// The line, from 1.
    pub line: u64,
}

/// Totals of one read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSummary {
    /// Files read.
    pub files: u64,
    /// Rows in them, without header rows and blank lines.
    pub rows: u64,
    /// A file that lacks even the header row that its format requires.
    pub headerless_file: Option<String>,
    /// Hidden or temporary files that match the source's glob but were skipped.
    pub skipped_files: u64,
}

/// A row that could not be read.
#[derive(Clone, Copy, Debug)]
pub struct UnreadableRow<'a> {
    /// A stable code.
    pub reason: &'static str,
    /// A description of the defect.
    pub detail: &'a str,
    /// Its position.
    pub location: RowLocation<'a>,
}

/// The sink accepts no more rows. The sink keeps the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkStopped;

/// Receives rows.
pub trait RowSink {
    /// Receives the requested columns of a row, in the order of the request.
    ///
    /// # Errors
    /// [`SinkStopped`] to end the read.
    fn row(&mut self, fields: &impl Fields, location: RowLocation<'_>) -> Result<(), SinkStopped>;
    /// Receives a row that could not be read.
    ///
    /// # Errors
    /// [`SinkStopped`] to end the read.
    fn unreadable(&mut self, row: UnreadableRow<'_>) -> Result<(), SinkStopped>;
}

/// Counts the rows that it forwards.
#[derive(Debug)]
pub struct CountingSink<'s, S> {
    /// Receives the rows.
    pub sink: &'s mut S,
    /// Number of rows, readable or not.
    pub rows: u64,
}

impl<'s, S> CountingSink<'s, S> {
    /// Forwards rows to `sink`.
    pub fn new(sink: &'s mut S) -> Self {
        Self { sink, rows: 0 }
    }
}

impl<S: RowSink> RowSink for CountingSink<'_, S> {
    #[inline]
    fn row(&mut self, fields: &impl Fields, location: RowLocation<'_>) -> Result<(), SinkStopped> {
        self.rows += 1;
        self.sink.row(fields, location)
    }

    fn unreadable(&mut self, row: UnreadableRow<'_>) -> Result<(), SinkStopped> {
        self.rows += 1;
        self.sink.unreadable(row)
    }
}
