//! A table of Heap Connect's dumps → its rows as they stand at the newest dump: replayed from the newest full dump on,
//! each key once. It decides nothing about a row but whether it is too old.
//!
//! # Guarantees
//! A dump that is needed and cannot be read gives no rows at all. Memory is bounded whatever the size of the table.
//! A column that a dump does not have is empty in its rows; one that none of them has is an error.

use std::time::Duration;

use super::{DesiredError, SourceInputs};
use crate::config::TableSource;
use crate::connector::file::{FileError, ReadSummary, RowLocation, RowSink};
use crate::connector::heap_connect::{Dump, DumpError, DumpTable, Dumps, Manifest};
use crate::model::{Field, Fields, NonIdentifier, Timestamp};
use crate::state::{ReplayTable, StateError};

/// What tells the table from what it was; none if its rows grow old.
pub(super) fn fingerprint(
    source: &TableSource,
    from: SourceInputs<'_>,
) -> Result<Option<String>, DesiredError> {
    if source.within.is_some() {
        return Ok(None);
    }
    Ok(Some(print(&Dumps::find(&source.place, from.files())?)))
}

fn print(dumps: &Dumps) -> String {
    dumps.all().iter().map(|dump| format!("{} {:x} ", dump.id, dump.mark)).collect()
}

/// Hands over every row of the table.
pub(super) fn read(
    source: &TableSource,
    from: SourceInputs<'_>,
    columns: &[Box<str>],
    sink: &mut impl RowSink,
) -> Result<(ReadSummary, Option<String>), DesiredError> {
    let dumps = Dumps::find(&source.place, from.files())?;
    let replay = DumpReplay::new(&dumps, &source.table)?;
    let reading = replay.run(from, columns, DumpsRead { within: source.within, is_text: false }, sink)?;
    Ok((reading, source.within.is_none().then(|| print(&dumps))))
}

/// Which rows are handed over, and how.
#[derive(Clone, Copy)]
pub(super) struct DumpsRead {
    /// Those whose `time` is no older than this; none: all.
    pub(super) within: Option<Duration>,
    /// Whether each value is its text, whatever it is, or only what may name somebody.
    pub(super) is_text: bool,
}

/// A table, and the dumps that it takes to know how it stands.
pub(super) struct DumpReplay<'a> {
    dumps: &'a Dumps,
    table: &'a str,
    needed: Vec<(&'a Dump, Manifest)>,
}

impl<'a> DumpReplay<'a> {
    pub(super) fn new(dumps: &'a Dumps, table: &'a str) -> Result<Self, DesiredError> {
        Ok(Self { dumps, table, needed: needed(table, dumps)? })
    }

    /// The table in each of the dumps that has it.
    fn each(&self) -> impl Iterator<Item = (&'a Dump, &DumpTable)> {
        self.needed.iter().filter_map(|(dump, manifest)| Some((*dump, manifest.table(self.table)?)))
    }

    /// Every column that the table has in any of them, as the files name it. Reads the fronts of all files.
    pub(super) fn columns(&self) -> Result<Vec<Box<str>>, DesiredError> {
        let mut columns: Vec<Box<str>> = Vec::new();
        let mut add = |column: &str| {
            if !columns.iter().any(|known| **known == *column) {
                columns.push(column.into());
            }
        };
        for (dump, table) in self.each() {
            for file in &table.files {
                self.dumps.open(dump, table, file)?.columns().into_iter().for_each(&mut add);
            }
        }
        // Without a single file there is only what manifests say.
        if columns.is_empty() {
            let told = self.each().flat_map(|(_, table)| &table.columns);
            columns = told.map(|column| column.as_str().into()).collect();
        }
        Ok(columns)
    }

    /// Hands over the rows that are left.
    pub(super) fn run(
        &self,
        from: SourceInputs<'_>,
        columns: &[Box<str>],
        taken: DumpsRead,
        sink: &mut impl RowSink,
    ) -> Result<ReadSummary, DesiredError> {
        let mut rows = DumpTexts::new(taken.within.is_some(), from, columns, sink)?;
        let mut missing: Vec<&Box<str>> = columns.iter().collect();
        let mut required: Vec<Box<str>> = vec![key_of(self.table).into()];
        required.extend(taken.within.map(|_| "time".into()));
        for (dump, table) in self.each() {
            for file in &table.files {
                let opened = self.dumps.open(dump, table, file)?;
                missing.retain(|column| !opened.has(column));
                rows.files.push(opened.path().display().to_string());
                let read = if taken.is_text {
                    opened.read_as_text(&required, columns, &mut rows)
                } else {
                    opened.read(&required, columns, &mut rows)
                };
                rows.failed.take().map_or(Ok(()), Err)?;
                read?;
            }
        }
        if let Some(column) = missing.first().filter(|_| !rows.files.is_empty()) {
            let (table, column) = (self.table.to_owned(), column.to_string());
            return Err(DumpError::NoColumn { path: self.dumps.path(), table, column }.into());
        }
        let oldest = taken.within.and_then(|within| from.now.checked_sub(within).ok());
        rows.hand_over(oldest)
    }
}

/// The column that tells a row from any other. Source: Heap Connect, S3 specification.
fn key_of(table: &str) -> &'static str {
    match table {
        "users" => "user_id",
        "user_migrations" => "from_user_id",
        _ => "event_id",
    }
}

/// The dumps from the newest full one of the table on.
fn needed<'a>(name: &str, dumps: &'a Dumps) -> Result<Vec<(&'a Dump, Manifest)>, DesiredError> {
    let (mut needed, mut is_there) = (Vec::new(), false);
    let path = || dumps.path();
    for dump in dumps.all().iter().rev() {
        let manifest = dumps.manifest(dump)?;
        let table = manifest.table(name);
        is_there |= table.is_some();
        // Heap writes it whole each time, whatever it says.
        let is_full = table.is_some_and(|table| !table.is_incremental || table.name == "user_migrations");
        needed.push((dump, manifest));
        if is_full {
            needed.reverse();
            return Ok(needed);
        }
    }
    let table = name.to_owned();
    if is_there {
        return Err(DumpError::NoBeginning { path: path(), table }.into());
    }
    let newest = needed.first().map(|(_, manifest)| &manifest.tables);
    let found = newest.into_iter().flatten().map(|table| table.name.clone()).collect();
    Err(DumpError::NoTable { path: path(), table, found }.into())
}

/// Rows on their way through the replay, each as one text: where it stands, its time, and its columns.
struct DumpTexts<'a, S> {
    sink: &'a mut S,
    table: ReplayTable,
    files: Vec<String>,
    /// The first of the columns that are handed over, and how many there are.
    first: usize,
    len: usize,
    row: String,
    unreadable: u64,
    failed: Option<DesiredError>,
}

impl<'a, S: RowSink> DumpTexts<'a, S> {
    fn new(
        has_time: bool,
        from: SourceInputs<'_>,
        columns: &[Box<str>],
        sink: &'a mut S,
    ) -> Result<Self, DesiredError> {
        let table = ReplayTable::of_rows(from.state.seed())?;
        let first = 1 + usize::from(has_time);
        let (files, row, len) = (Vec::new(), String::new(), columns.len());
        Ok(Self { sink, table, files, first, len, row, unreadable: 0, failed: None })
    }

    /// Keeps a row in the place of any before it with the same key. `false` if it has none.
    fn put(&mut self, fields: &impl Fields, line: u64) -> Result<bool, StateError> {
        let Some(key) = text(fields.field(0)) else { return Ok(false) };
        let time = if self.first > 1 { fields.field(1).text().unwrap_or_default() } else { b"" };
        let time = std::str::from_utf8(time).unwrap_or_default();
        self.row = format!("{} {line} {time}\n", self.files.len() - 1);
        for field in (0..self.len).map(|at| fields.field(self.first + at)) {
            keep(field, &mut self.row);
        }
        self.table.put_row(key, &self.row)
    }

    /// Hands over the rows that are left and no older than this.
    fn hand_over(self, oldest: Option<Timestamp>) -> Result<ReadSummary, DesiredError> {
        let Self { sink, table, files, len, unreadable, .. } = self;
        let mut reading =
            ReadSummary { files: files.len() as u64, rows: unreadable, ..ReadSummary::default() };
        table.for_each(|row| {
            let kept =
                Kept::parse(row, len).ok_or_else(|| std::io::Error::other("a row that is not whole"))?;
            let place =
                RowLocation { file: files.get(kept.file).map_or("", String::as_str), line: kept.line };
            match (oldest, kept.time) {
                (Some(_), None) => {
                    reading.rows += 1;
                    sink.unreadable("no_time", "its `time` is not in milliseconds", place)?;
                }
                (Some(oldest), Some(time)) if time < oldest => {}
                _ => {
                    reading.rows += 1;
                    sink.row(&kept, place)?;
                }
            }
            Ok::<(), DesiredError>(())
        })?;
        Ok(reading)
    }
}

impl<S: RowSink> RowSink for DumpTexts<'_, S> {
    fn row(&mut self, fields: &impl Fields, place: RowLocation<'_>) -> Result<(), FileError> {
        match self.put(fields, place.line) {
            Ok(true) => Ok(()),
            Ok(false) => self.unreadable("no_key", "it has no key, or too much in it", place),
            Err(error) => {
                self.failed = Some(error.into());
                Err(FileError::Stopped)
            }
        }
    }

    fn unreadable(
        &mut self,
        reason: &'static str,
        detail: &str,
        place: RowLocation<'_>,
    ) -> Result<(), FileError> {
        self.unreadable += 1;
        self.sink.unreadable(reason, detail, place)
    }
}

/// The identifier that a field is.
fn text(field: Field<'_>) -> Option<&str> {
    match field {
        Field::Text(id) | Field::Whole { id, .. } => std::str::from_utf8(id).ok(),
        Field::Absent | Field::Other(..) => None,
    }
}

/// Appends a field as [`kept`] reads it: what it is, the length of the identifier in it, its own length, and its text.
fn keep(field: Field<'_>, row: &mut String) {
    let unsupported = Kept::OTHER + NonIdentifier::ALL.len() - 1;
    let not_utf8 = (unsupported, 0, "");
    let (of, id, text) = match field {
        Field::Absent => (0, 0, ""),
        Field::Text(text) | Field::Whole { text, .. } => {
            let id = if let Field::Whole { id, .. } = field { id.len() } else { text.len() };
            std::str::from_utf8(text).map_or(not_utf8, |text| (1, id, text))
        }
        Field::Other(why, text) => {
            let at = NonIdentifier::ALL.iter().position(|known| *known == why).unwrap_or_default();
            (Kept::OTHER + at, 0, std::str::from_utf8(text).unwrap_or_default())
        }
    };
    row.push_str(&format!("{of}:{id}:{}:{text}", text.len()));
}

/// Reads a field, and returns what follows it.
fn kept(row: &str) -> Option<(Field<'_>, &str)> {
    let mut parts = row.splitn(4, ':');
    let mut number = || parts.next()?.parse::<usize>().ok();
    let (of, id, len) = (number()?, number()?, number()?);
    let (text, rest) = parts.next()?.split_at_checked(len)?;
    let text = text.as_bytes();
    let field = match of {
        0 => Field::Absent,
        1 if id == len => Field::Text(text),
        1 => Field::Whole { id: text.get(..id)?, text },
        of => Field::Other(*NonIdentifier::ALL.get(of.checked_sub(Kept::OTHER)?)?, text),
    };
    Some((field, rest))
}

/// A row as it comes out of the replay.
struct Kept<'r> {
    file: usize,
    line: u64,
    time: Option<Timestamp>,
    fields: Vec<Field<'r>>,
}

impl Fields for Kept<'_> {
    fn field(&self, at: usize) -> Field<'_> {
        self.fields.get(at).copied().unwrap_or_default()
    }
}

impl<'r> Kept<'r> {
    /// The first number of the fields that are no identifiers.
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
            let (field, after) = kept(rest)?;
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
    fn fields_are_kept_as_they_are() {
        let fields = [
            Field::Absent,
            Field::Text(b"a:b\n"),
            Field::Whole { id: b"12", text: b"12.00" },
            Field::Other(NonIdentifier::Fraction, b"1.5"),
            Field::Other(NonIdentifier::List, b""),
            Field::Text(b""),
        ];
        let mut row = String::new();
        fields.iter().for_each(|field| keep(*field, &mut row));
        keep(Field::Text(b"\xff"), &mut row);
        let mut rest = row.as_str();
        for field in fields {
            let (found, after) = kept(rest).unwrap();
            assert_eq!(found, field);
            rest = after;
        }
        assert_eq!(kept(rest), Some((Field::Other(NonIdentifier::Unsupported, b""), "")));
    }
}
