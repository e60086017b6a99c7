//! Replays a table of Heap Connect's dumps: from the newest full dump to the newest dump, with one row per key.
//!
//! # Guarantees
//! If a required dump cannot be read, the replay yields no rows. Memory is bounded regardless of the table's size.
//! A column that a dump lacks is empty in its rows. A column that all dumps lack is an error.

use std::time::Duration;

use super::{DesiredError, SourceInputs};
use crate::connector::file::AvroValues;
use crate::connector::heap_connect::{Dump, DumpError, DumpTable, Dumps, Manifest};
use crate::connector::rows::{CountingSink, ReadSummary, RowLocation, RowSink, SinkStopped, UnreadableRow};
use crate::model::{Field, Fields, NonIdentifier, Timestamp};
use crate::state::{ReplayTable, StateError};

/// Options of a replay.
#[derive(Clone, Copy)]
pub(super) struct DumpsRead {
    /// Maximum age of rows by their `time`; none: all rows.
    pub(super) within: Option<Duration>,
    /// How values become cells.
    pub(super) values: AvroValues,
}

/// A table with the dumps that its replay requires.
pub(super) struct DumpReplay<'a> {
    dumps: &'a Dumps,
    table: &'a str,
    required: Vec<(&'a Dump, Manifest)>,
}

impl<'a> DumpReplay<'a> {
    pub(super) fn new(dumps: &'a Dumps, table: &'a str) -> Result<Self, DesiredError> {
        Ok(Self { dumps, table, required: required_dumps(table, dumps)? })
    }

    /// The table in each dump that contains it.
    fn tables(&self) -> impl Iterator<Item = (&'a Dump, &DumpTable)> {
        self.required.iter().filter_map(|(dump, manifest)| Some((*dump, manifest.table(self.table)?)))
    }

    /// All columns of the table, by the names in the files. Reads the headers of all files.
    pub(super) fn columns(&self) -> Result<Vec<Box<str>>, DesiredError> {
        let mut columns: Vec<Box<str>> = Vec::new();
        let mut add = |column: &str| {
            if !columns.iter().any(|other| **other == *column) {
                columns.push(column.into());
            }
        };
        for (dump, table) in self.tables() {
            for file in &table.files {
                self.dumps.open(dump, table, file)?.columns().into_iter().for_each(&mut add);
            }
        }
        // Without files, only the manifests list columns.
        if columns.is_empty() {
            let listed = self.tables().flat_map(|(_, table)| &table.columns);
            columns = listed.map(|column| column.as_str().into()).collect();
        }
        Ok(columns)
    }

    /// Pushes the current rows into `sink`.
    pub(super) fn run(
        &self,
        inputs: SourceInputs<'_>,
        columns: &[Box<str>],
        options: DumpsRead,
        sink: &mut impl RowSink,
    ) -> Result<ReadSummary, DesiredError> {
        let mut rows = ReplayRows::new(options.within.is_some(), inputs, columns, sink)?;
        let mut missing: Vec<&Box<str>> = columns.iter().collect();
        let mut required: Vec<Box<str>> = vec![key_of(self.table).into()];
        required.extend(options.within.map(|_| "time".into()));
        for (dump, table) in self.tables() {
            for file in &table.files {
                let opened = self.dumps.open(dump, table, file)?;
                missing.retain(|column| !opened.has(column));
                rows.files.push(opened.path().display().to_string());
                let read = opened.read(&required, columns, options.values, &mut rows);
                rows.failed.take().map_or(Ok(()), Err)?;
                read?;
            }
        }
        if let Some(column) = missing.first().filter(|_| !rows.files.is_empty()) {
            let (table, column) = (self.table.to_owned(), column.to_string());
            return Err(DumpError::NoColumn { path: self.dumps.path(), table, column }.into());
        }
        let oldest = options.within.and_then(|within| inputs.now.checked_sub(within).ok());
        rows.push_into_sink(oldest)
    }
}

/// The primary key of a table. Source: Heap Connect, S3 specification.
fn key_of(table: &str) -> &'static str {
    match table {
        "users" => "user_id",
        "user_migrations" => "from_user_id",
        _ => "event_id",
    }
}

/// The newest full dump of the table and all later dumps.
fn required_dumps<'a>(name: &str, dumps: &'a Dumps) -> Result<Vec<(&'a Dump, Manifest)>, DesiredError> {
    let (mut required, mut is_found) = (Vec::new(), false);
    let path = || dumps.path();
    for dump in dumps.all().iter().rev() {
        let manifest = dumps.manifest(dump)?;
        let table = manifest.table(name);
        is_found |= table.is_some();
        // Heap writes this table in full each time, regardless of the manifest.
        let is_full = table.is_some_and(|table| !table.is_incremental || table.name == "user_migrations");
        required.push((dump, manifest));
        if is_full {
            required.reverse();
            return Ok(required);
        }
    }
    let table = name.to_owned();
    if is_found {
        return Err(DumpError::NoBeginning { path: path(), table }.into());
    }
    let newest = required.first().map(|(_, manifest)| &manifest.tables);
    let found = newest.into_iter().flatten().map(|table| table.name.clone()).collect();
    Err(DumpError::NoTable { path: path(), table, found }.into())
}

/// Collects rows for the replay, each encoded as one text: location, time and columns.
struct ReplayRows<'a, S> {
    sink: CountingSink<'a, S>,
    table: ReplayTable,
    files: Vec<String>,
    /// Index of the first requested column, and the number of requested columns.
    first: usize,
    len: usize,
    row: String,
    failed: Option<DesiredError>,
}

impl<'a, S: RowSink> ReplayRows<'a, S> {
    fn new(
        has_time: bool,
        inputs: SourceInputs<'_>,
        columns: &[Box<str>],
        sink: &'a mut S,
    ) -> Result<Self, DesiredError> {
        let table = ReplayTable::of_rows(inputs.state.seed())?;
        let first = 1 + usize::from(has_time);
        let (files, row, len) = (Vec::new(), String::new(), columns.len());
        Ok(Self { sink: CountingSink::new(sink), table, files, first, len, row, failed: None })
    }

    /// Stores a row and replaces an earlier row with the same key. Returns `false` if the row has no key.
    fn put(&mut self, fields: &impl Fields, line: u64) -> Result<bool, StateError> {
        let Some(key) = text(fields.field(0)) else { return Ok(false) };
        let time = if self.first > 1 { fields.field(1).text().unwrap_or_default() } else { b"" };
        let time = std::str::from_utf8(time).unwrap_or_default();
        self.row = format!("{} {line} {time}\n", self.files.len() - 1);
        for field in (0..self.len).map(|at| fields.field(self.first + at)) {
            encode(field, &mut self.row);
        }
        self.table.put_row(key, &self.row)
    }

    /// Pushes the stored rows that are not older than `oldest` into the sink.
    fn push_into_sink(self, oldest: Option<Timestamp>) -> Result<ReadSummary, DesiredError> {
        let Self { mut sink, table, files, len, .. } = self;
        table.for_each(|row| {
            let row = ReplayedRow::parse(row, len)
                .ok_or_else(|| std::io::Error::other("a stored row is incomplete"))?;
            let location =
                RowLocation { file: files.get(row.file).map_or("", String::as_str), line: row.line };
            match (oldest, row.time) {
                (Some(_), None) => {
                    let detail = "its `time` is not in milliseconds";
                    sink.unreadable(UnreadableRow { reason: "no_time", detail, location })?;
                }
                (Some(oldest), Some(time)) if time < oldest => {}
                _ => sink.row(&row, location)?,
            }
            Ok::<(), DesiredError>(())
        })?;
        Ok(ReadSummary { files: files.len() as u64, rows: sink.rows, ..ReadSummary::default() })
    }
}

impl<S: RowSink> RowSink for ReplayRows<'_, S> {
    fn row(&mut self, fields: &impl Fields, location: RowLocation<'_>) -> Result<(), SinkStopped> {
        match self.put(fields, location.line) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let detail = "it has no key, or its values are too long";
                self.unreadable(UnreadableRow { reason: "no_key", detail, location })
            }
            Err(error) => {
                self.failed = Some(error.into());
                Err(SinkStopped)
            }
        }
    }

    fn unreadable(&mut self, row: UnreadableRow<'_>) -> Result<(), SinkStopped> {
        self.sink.unreadable(row)
    }
}

/// The text of a field that may be an identifier.
fn text(field: Field<'_>) -> Option<&str> {
    match field {
        Field::Text(id) | Field::Whole { id, .. } => std::str::from_utf8(id).ok(),
        Field::Absent | Field::Other(..) => None,
    }
}

/// Appends a field in the encoding that [`decode`] reads: its type, the length of its identifier, its length, its text.
fn encode(field: Field<'_>, row: &mut String) {
    let unsupported = ReplayedRow::OTHER + NonIdentifier::ALL.len() - 1;
    let not_utf8 = (unsupported, 0, "");
    let (code, id, text) = match field {
        Field::Absent => (0, 0, ""),
        Field::Text(text) | Field::Whole { text, .. } => {
            let id = if let Field::Whole { id, .. } = field { id.len() } else { text.len() };
            std::str::from_utf8(text).map_or(not_utf8, |text| (1, id, text))
        }
        Field::Other(why, text) => {
            let at = NonIdentifier::ALL.iter().position(|other| *other == why).unwrap_or_default();
            (ReplayedRow::OTHER + at, 0, std::str::from_utf8(text).unwrap_or_default())
        }
    };
    row.push_str(&format!("{code}:{id}:{}:{text}", text.len()));
}

/// Decodes a field. Returns it with the rest of the row.
fn decode(row: &str) -> Option<(Field<'_>, &str)> {
    let mut parts = row.splitn(4, ':');
    let mut number = || parts.next()?.parse::<usize>().ok();
    let (code, id, len) = (number()?, number()?, number()?);
    let (text, rest) = parts.next()?.split_at_checked(len)?;
    let text = text.as_bytes();
    let field = match code {
        0 => Field::Absent,
        1 if id == len => Field::Text(text),
        1 => Field::Whole { id: text.get(..id)?, text },
        code => Field::Other(*NonIdentifier::ALL.get(code.checked_sub(ReplayedRow::OTHER)?)?, text),
    };
    Some((field, rest))
}

/// A decoded row.
struct ReplayedRow<'r> {
    file: usize,
    line: u64,
    time: Option<Timestamp>,
    fields: Vec<Field<'r>>,
}

impl Fields for ReplayedRow<'_> {
    fn field(&self, at: usize) -> Field<'_> {
        self.fields.get(at).copied().unwrap_or_default()
    }
}

impl<'r> ReplayedRow<'r> {
    /// The first type code of fields that are not identifiers.
    const OTHER: usize = 2;

    fn parse(row: &'r str, len: usize) -> Option<Self> {
        let (head, mut rest) = row.split_once('\n')?;
        let mut head = head.splitn(3, ' ');
        let (file, line) = (head.next()?.parse().ok()?, head.next()?.parse().ok()?);
        let time = head.next()?;
        let millis = time.parse().ok().and_then(|time| Timestamp::from_millisecond(time).ok());
        let time = millis.or_else(|| time.parse().ok());
        let mut fields = Vec::with_capacity(len);
        for _ in 0..len {
            let (field, after) = decode(rest)?;
            fields.push(field);
            rest = after;
        }
        Some(Self { file, line, time, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_fields_are_decoded_unchanged() {
        let fields = [
            Field::Absent,
            Field::Text(b"a:b\n"),
            Field::Whole { id: b"12", text: b"12.00" },
            Field::Other(NonIdentifier::Fraction, b"1.5"),
            Field::Other(NonIdentifier::List, b""),
            Field::Text(b""),
        ];
        let mut row = String::new();
        fields.iter().for_each(|field| encode(*field, &mut row));
        encode(Field::Text(b"\xff"), &mut row);
        let mut rest = row.as_str();
        for field in fields {
            let (found, after) = decode(rest).unwrap();
            assert_eq!(found, field);
            rest = after;
        }
        assert_eq!(decode(rest), Some((Field::Other(NonIdentifier::Unsupported, b""), "")));
    }
}
