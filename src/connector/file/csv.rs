//! CSV and TSV (RFC 4180), stricter than most readers where leniency would lose rows.
//!
//! A quote opens a field only as its first byte. After the closing quote, only a delimiter or the end of the row may
//! follow. Otherwise the file is malformed: rows cannot be separated from there on, and merged rows would shrink the
//! cohort. Rows without quotes, nearly all of them, stay on the fast path: one search over the whole buffer and no
//! copy.
//!
//! The `csv` crate takes 1.6 times the CPU time for rows without quotes, and 0.6 times for quoted rows
//! (`cargo run --release -p syncline-readers -- 1000000`, medians of five). It cannot replace the scanner: it accepts
//! text after a closing quote, and a quote that is never closed.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2_iter, memrchr};

use super::lines::{FileLines, LineBytes};
use super::{FileError, REPEATED_HEADER, header};
use crate::connector::rows::{RowLocation, RowSink, UnreadableRow};
use crate::model::{Field, Fields};

/// A byte order mark. Concatenated files have one each.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a file with a header row. Returns `false` if the file is empty.
pub(super) fn read(
    mut lines: FileLines,
    delimiter: u8,
    columns: &[Box<str>],
    name: &str,
    sink: &mut impl RowSink,
) -> Result<bool, FileError> {
    lines.skip_mark()?;
    let mut row = CsvFields::default();
    let Some(stretch) = next(&mut lines, delimiter, &mut row)? else { return Ok(false) };
    let wanted = wanted(&lines, &row, columns)?;
    let header = row.joined(delimiter, lines.bytes());
    let table = CsvLayout { delimiter, name, width: row.cells.len(), wanted: &wanted, header: &header };
    lines.consume(stretch, row.breaks);
    loop {
        table.plain_rows(&mut lines, &mut row, sink)?;
        let Some(stretch) = next(&mut lines, delimiter, &mut row)? else { return Ok(true) };
        if row.cells.len() != table.width && !stretch.terminated {
            return Err(lines.truncated("its last row has too few fields"));
        }
        if row.cells.len() == table.width && row.joined(delimiter, lines.bytes()) == header {
            table.repeated(lines.line(), sink)?;
        } else {
            table.push(&row, lines.bytes(), lines.line(), sink)?;
        }
        lines.consume(stretch, row.breaks);
    }
}

/// The names in the header row, and whether the rows below differ from it, as data does: a column has a digit or an `@`
/// in each of them, and none in the header row. No names if the file is empty.
pub(super) fn column_names(mut lines: FileLines, delimiter: u8) -> Result<(Vec<String>, bool), FileError> {
    const ROWS: Range<usize> = 2..20;
    lines.skip_mark()?;
    let (mut row, is_value) =
        (CsvFields::default(), |text: &str| text.contains(|c: char| c.is_ascii_digit() || c == '@'));
    let Some(header) = next(&mut lines, delimiter, &mut row)? else { return Ok((Vec::new(), false)) };
    let columns = names(&lines, &row);
    let mut differs: Vec<bool> = columns.iter().map(|name| !is_value(name)).collect();
    let (mut stretch, mut rows) = (header, 0);
    while rows < ROWS.end {
        lines.consume(stretch, row.breaks);
        // Reading the whole file reports a malformed row.
        let Ok(Some(following)) = next(&mut lines, delimiter, &mut row) else { break };
        let values = names(&lines, &row);
        differs.iter_mut().enumerate().for_each(|(at, differs)| {
            *differs &= values.get(at).is_some_and(|value| is_value(value));
        });
        (stretch, rows) = (following, rows + 1);
    }
    Ok((columns, rows >= ROWS.start && differs.contains(&true)))
}

/// Settings that are the same for all rows of a file.
struct CsvLayout<'a> {
    delimiter: u8,
    name: &'a str,
    /// Number of fields of a row.
    width: usize,
    wanted: &'a [usize],
    /// The fields of the header row, each followed by a delimiter.
    header: &'a [u8],
}

impl CsvLayout<'_> {
    /// Pushes the complete rows in the buffer before its first quote. One search finds the ends of fields and rows.
    /// [`next`] reads the rest: a row that contains a quote or continues beyond the buffer.
    fn plain_rows(
        &self,
        lines: &mut FileLines,
        row: &mut CsvFields,
        sink: &mut impl RowSink,
    ) -> Result<(), FileError> {
        let bytes = lines.bytes();
        let unquoted = memchr(b'"', bytes).unwrap_or(bytes.len());
        let Some(last) = memrchr(b'\n', &bytes[..unquoted]) else { return Ok(()) };
        let (mut start, mut breaks) = (after_mark(bytes, 0), 0);
        let mut row_start = start;
        row.clear();
        for end in memchr2_iter(self.delimiter, b'\n', &bytes[..=last]) {
            if bytes[end] == b'\n' {
                let field = &bytes[start..end];
                if !(row.cells.is_empty() && is_blank(field)) {
                    let row_end = start + without_return(field);
                    row.push(start, row_end, false);
                    let line = lines.line() + breaks;
                    if self.is_header(row, &bytes[row_start..row_end]) {
                        self.repeated(line, sink)?;
                    } else {
                        self.push(row, bytes, line, sink)?;
                    }
                    row.clear();
                }
                breaks += 1;
                start = after_mark(bytes, end + 1);
                row_start = start;
            } else {
                row.push(start, end, false);
                start = end + 1;
            }
        }
        lines.consume(LineBytes { len: last, terminated: true }, breaks);
        Ok(())
    }

    /// Whether a row without quotes repeats the header row. Most rows differ in length.
    #[inline]
    fn is_header(&self, row: &CsvFields, line: &[u8]) -> bool {
        line.len() + 1 == self.header.len() && row.cells.len() == self.width && self.header.starts_with(line)
    }

    /// Concatenated files have a header row each.
    fn repeated(&self, line: u64, sink: &mut impl RowSink) -> Result<(), FileError> {
        let location = RowLocation { file: self.name, line };
        let detail = "it repeats the header row";
        Ok(sink.unreadable(UnreadableRow { reason: REPEATED_HEADER, detail, location })?)
    }

    #[inline]
    fn push(
        &self,
        row: &CsvFields,
        bytes: &[u8],
        line: u64,
        sink: &mut impl RowSink,
    ) -> Result<(), FileError> {
        let location = RowLocation { file: self.name, line };
        if row.cells.len() == self.width {
            return Ok(sink.row(&WantedFields { row, bytes, wanted: self.wanted }, location)?);
        }
        let detail = format!("{} fields where the header has {}", row.cells.len(), self.width);
        Ok(sink.unreadable(UnreadableRow { reason: "wrong_field_count", detail: &detail, location })?)
    }
}

/// Finds the requested columns in the header row.
fn wanted(lines: &FileLines, row: &CsvFields, columns: &[Box<str>]) -> Result<Vec<usize>, FileError> {
    let path = || lines.path().to_owned();
    let names = names(lines, row);
    let find = |column: &str| {
        let mut indexes = names.iter().enumerate().filter(|(_, name)| **name == *column).map(|(at, _)| at);
        match (indexes.next(), indexes.next()) {
            (Some(at), None) => Ok(at),
            (Some(_), Some(_)) => {
                Err(FileError::DuplicateColumn { path: path(), column: column.to_string() })
            }
            (None, _) => Err(header::missing_in_row(&path(), column, &names)),
        }
    };
    columns.iter().map(|column| find(column)).collect()
}

/// The fields of the header row as column names.
fn names(lines: &FileLines, row: &CsvFields) -> Vec<String> {
    let name = |at| String::from_utf8_lossy(row.cell(at, lines.bytes())).trim().to_owned();
    (0..row.cells.len()).map(name).collect()
}

/// The fields of one row, as ranges of the buffer or of `side`.
#[derive(Default)]
struct CsvFields {
    cells: Vec<CsvField>,
    /// Unquoted content of quoted fields.
    side: Vec<u8>,
    /// Line breaks in the row, its own included.
    breaks: u64,
}

struct CsvField {
    start: usize,
    end: usize,
    quoted: bool,
}

impl CsvFields {
    #[inline]
    fn cell<'a>(&'a self, at: usize, bytes: &'a [u8]) -> &'a [u8] {
        let CsvField { start, end, quoted } = self.cells[at];
        if quoted { &self.side[start..end] } else { &bytes[start..end] }
    }

    /// The fields, each followed by a delimiter, without quotes.
    fn joined(&self, delimiter: u8, bytes: &[u8]) -> Vec<u8> {
        let mut joined = Vec::new();
        for at in 0..self.cells.len() {
            joined.extend_from_slice(self.cell(at, bytes));
            joined.push(delimiter);
        }
        joined
    }

    #[inline]
    fn clear(&mut self) {
        self.cells.clear();
        self.side.clear();
    }

    #[inline]
    fn push(&mut self, start: usize, end: usize, quoted: bool) {
        self.cells.push(CsvField { start, end, quoted });
    }
}

/// The requested fields of a row.
struct WantedFields<'a> {
    row: &'a CsvFields,
    bytes: &'a [u8],
    wanted: &'a [usize],
}

impl Fields for WantedFields<'_> {
    #[inline]
    fn field(&self, at: usize) -> Field<'_> {
        Field::Text(self.row.cell(self.wanted[at], self.bytes))
    }
}

/// Finds the fields of the next non-blank row. The row stays in the buffer until it is consumed.
fn next(lines: &mut FileLines, delimiter: u8, row: &mut CsvFields) -> Result<Option<LineBytes>, FileError> {
    row.clear();
    loop {
        let Some(stretch) = lines.stretch(0)? else { return Ok(None) };
        if lines.bytes().starts_with(MARK) {
            lines.advance(MARK.len(), 0);
            continue;
        }
        row.breaks = u64::from(stretch.terminated);
        let line = &lines.bytes()[..stretch.len];
        if is_blank(line) {
            lines.consume(stretch, row.breaks);
        } else if memchr(b'"', line).is_none() {
            split(line, delimiter, row);
            return Ok(Some(stretch));
        } else {
            return quoted(lines, delimiter, row, stretch).map(Some);
        }
    }
}

/// The start of a row after a byte order mark.
#[inline]
fn after_mark(bytes: &[u8], start: usize) -> usize {
    let is_marked = bytes.get(start) == Some(&MARK[0]) && bytes[start..].starts_with(MARK);
    if is_marked { start + MARK.len() } else { start }
}

#[inline]
fn split(line: &[u8], delimiter: u8, row: &mut CsvFields) {
    let mut start = 0;
    for end in memchr_iter(delimiter, line) {
        row.push(start, end, false);
        start = end + 1;
    }
    row.push(start, without_return(line).max(start), false);
}

fn is_blank(line: &[u8]) -> bool {
    matches!(line, b"" | b"\r")
}

/// The length of a line without the carriage return of a CRLF.
fn without_return(line: &[u8]) -> usize {
    line.len() - usize::from(line.ends_with(b"\r"))
}

/// Splits a row with quotes, over as many lines as they span.
fn quoted(
    lines: &mut FileLines,
    delimiter: u8,
    row: &mut CsvFields,
    mut stretch: LineBytes,
) -> Result<LineBytes, FileError> {
    let mut at = 0;
    loop {
        let line = &lines.bytes()[..stretch.len];
        if line.get(at) == Some(&b'"') {
            (stretch, at) = quoted_field(lines, row, stretch, at + 1)?;
            let rest = &lines.bytes()[at..stretch.len];
            match rest {
                b"" | b"\r" => return Ok(stretch),
                [next, ..] if *next == delimiter => at += 1,
                _ => {
                    return Err(
                        lines.malformed("text after a closing quote: rows cannot be separated from here on")
                    );
                }
            }
        } else if let Some(end) = memchr(delimiter, &line[at..]) {
            row.push(at, at + end, false);
            at += end + 1;
        } else {
            row.push(at, without_return(line).max(at), false);
            return Ok(stretch);
        }
    }
}

/// Reads a field from behind its opening quote to behind its closing quote.
fn quoted_field(
    lines: &mut FileLines,
    row: &mut CsvFields,
    mut stretch: LineBytes,
    mut at: usize,
) -> Result<(LineBytes, usize), FileError> {
    let start = row.side.len();
    loop {
        let line = &lines.bytes()[..stretch.len];
        let Some(found) = memchr(b'"', &line[at..]) else {
            row.side.extend_from_slice(&line[at..]);
            row.side.push(b'\n');
            at = stretch.len + 1;
            let more = if stretch.terminated { lines.stretch(at)? } else { None };
            stretch = more.ok_or_else(|| lines.truncated("a quote is never closed"))?;
            row.breaks += u64::from(stretch.terminated);
            continue;
        };
        let doubled = line.get(at + found + 1) == Some(&b'"');
        row.side.extend_from_slice(&line[at..at + found + usize::from(doubled)]);
        at += found + 1 + usize::from(doubled);
        if !doubled {
            row.push(start, row.side.len(), true);
            return Ok((stretch, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::open::FileInput;
    use super::*;
    use crate::config::FinalNewline;
    use crate::connector::rows::SinkStopped;

    /// Returns its bytes in small pieces, so that rows span pieces.
    struct Pieces(Vec<u8>, usize, usize);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.2.min(buffer.len()).min(self.0.len() - self.1);
            buffer[..len].copy_from_slice(&self.0[self.1..self.1 + len]);
            self.1 += len;
            Ok(len)
        }
    }

    type Rows = Vec<(u64, Result<Vec<String>, String>)>;

    /// Collects rows with this number of columns.
    struct Kept(usize, Rows);

    impl RowSink for Kept {
        fn row(&mut self, fields: &impl Fields, location: RowLocation<'_>) -> Result<(), SinkStopped> {
            let text = |at| match fields.field(at) {
                Field::Text(text) => String::from_utf8_lossy(text).into_owned(),
                _ => unreachable!(),
            };
            self.1.push((location.line, Ok((0..self.0).map(text).collect())));
            Ok(())
        }

        fn unreadable(&mut self, row: UnreadableRow<'_>) -> Result<(), SinkStopped> {
            self.1.push((row.location.line, Err(format!("{}: {}", row.reason, row.detail))));
            Ok(())
        }
    }

    fn lines(text: &[u8], piece: usize, newline: FinalNewline) -> FileLines {
        FileLines::new(FileInput::plain(Pieces(text.to_owned(), 0, piece)), Path::new("f.csv"), newline)
    }

    fn rows(text: &[u8], columns: &[&str], piece: usize, newline: FinalNewline) -> Result<Rows, FileError> {
        let columns: Vec<Box<str>> = columns.iter().map(|c| (*c).into()).collect();
        let mut kept = Kept(columns.len(), Vec::new());
        let headed = read(lines(text, piece, newline), b',', &columns, "f.csv", &mut kept)?;
        assert_eq!(headed, !text.is_empty());
        Ok(kept.1)
    }

    fn check(text: &str, columns: &[&str], expected: &[(u64, &[&str])]) {
        let expected: Rows = expected
            .iter()
            .map(|(line, row)| (*line, Ok(row.iter().map(|f| (*f).to_owned()).collect())))
            .collect();
        for piece in [1, 3, 4096] {
            assert_eq!(
                rows(text.as_bytes(), columns, piece, FinalNewline::Required).unwrap(),
                expected,
                "{text:?}"
            );
        }
    }

    fn error(text: &str, newline: FinalNewline) -> String {
        rows(text.as_bytes(), &["a"], 2, newline).unwrap_err().to_string()
    }

    #[test]
    fn columns_by_name_in_the_order_asked_for() {
        check("a,b\r\n1,2\r\n\r\n3,\r\n", &["b", "a"], &[(2, &["2", "1"]), (4, &["", "3"])]);
        check("\u{feff}a , b\n x,y\n", &["a"], &[(2, &[" x"])]);
        check("a\nx\ny\n", &["a"], &[(2, &["x"]), (3, &["y"])]);
        check("", &["a"], &[]);
    }

    #[test]
    fn quotes_hold_anything() {
        check(
            "a,b\n\"x,\"\"y\"\"\n\nz\",1\n2,3\n",
            &["a", "b"],
            &[(2, &["x,\"y\"\n\nz", "1"]), (5, &["2", "3"])],
        );
        check("\"a\",\"b\"\r\n\"\",\"2\"\r\n", &["a", "b"], &[(2, &["", "2"])]);
        check("a,b\n5\" nail,x\"y\n", &["a", "b"], &[(2, &["5\" nail", "x\"y"])]);
    }

    #[test]
    fn the_header_again_is_a_reject_and_marks_are_dropped() {
        let again = || Err("repeated_header: it repeats the header row".to_owned());
        let row = |text: &str| Ok(vec![text.to_owned()]);
        let text = "\u{feff}a,b\n1,2\n\u{feff}a,b\r\n3,4\n\u{feff}\"a\",b\n\u{feff}5,6\n\u{feff}\"7\",8\na,\"b\"\na,x\nb,a\n\u{feff}\n";
        let expected = [
            (2, row("1")),
            (3, again()),
            (4, row("3")),
            (5, again()),
            (6, row("5")),
            (7, row("7")),
            (8, again()),
            (9, row("a")),
            (10, row("b")),
        ];
        for piece in [1, 3, 4096] {
            assert_eq!(rows(text.as_bytes(), &["a"], piece, FinalNewline::Required).unwrap(), expected);
        }
        let quoted = rows(b"\"a,b\",c\na,b,c\n\"a,b\",c\n", &["c"], 4096, FinalNewline::Required).unwrap();
        assert_eq!(
            quoted
                .iter()
                .map(|(_, row)| row.as_ref().unwrap_err().split(':').next().unwrap())
                .collect::<Vec<_>>(),
            ["wrong_field_count", "repeated_header"]
        );
    }

    #[test]
    fn a_row_of_another_width_is_rejected_with_its_line() {
        let found = rows(b"a,b\n1\n1,2,3\n1,2\n", &["a"], 5, FinalNewline::Required).unwrap();
        let bad = |count: usize| Err(format!("wrong_field_count: {count} fields where the header has 2"));
        assert_eq!(found, [(2, bad(1)), (3, bad(3)), (4, Ok(vec!["1".to_owned()]))]);
    }

    #[test]
    fn what_would_lose_rows_is_an_error() {
        let cut = "f.csv is truncated: it does not end with a line break (line 3)";
        assert_eq!(error("a,b\n1,2\n3", FinalNewline::Required), cut);
        assert_eq!(
            error("a,b\n1,2\n3", FinalNewline::Optional),
            "f.csv is truncated: its last row has too few fields (line 3)"
        );
        assert_eq!(
            error("a,b\n1,\"2\n3,4\n", FinalNewline::Required),
            "f.csv is truncated: a quote is never closed (line 2)"
        );
        assert!(
            error("a,b\n\"1\"x,2\n", FinalNewline::Required)
                .starts_with("f.csv:2: text after a closing quote")
        );
        assert!(
            error(&format!("a\n\"{}", "x\n".repeat(1 << 20)), FinalNewline::Required)
                .contains("longer than 1 MiB")
        );
        assert_eq!(error("b,c\n", FinalNewline::Required), "f.csv has no column `a`");
        assert_eq!(error("a,a\n", FinalNewline::Required), "f.csv has two columns `a`");
        assert_eq!(rows(b"a\n1", &["a"], 9, FinalNewline::Optional).unwrap().len(), 1);
    }

    proptest! {
        /// The `csv` crate is the reference for well-formed files.
        #[test]
        fn it_reads_what_the_judge_wrote(
            table in proptest::collection::vec(proptest::collection::vec("[a\",\n\r é]{0,6}", 3), 0..12),
            piece in 1usize..40,
        ) {
            let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(Vec::new());
            writer.write_record(["a", "b", "c"]).unwrap();
            table.iter().for_each(|row| writer.write_record(row).unwrap());
            let text = writer.into_inner().unwrap();
            let found = rows(&text, &["a", "b", "c"], piece, FinalNewline::Required).unwrap();
            let found: Vec<Vec<String>> = found.into_iter().map(|(_, row)| row.unwrap()).collect();
            prop_assert_eq!(found, table);
        }

        /// Piece sizes do not change the result: one byte at a time, the fast path never has a whole row.
        #[test]
        fn the_fast_path_reads_what_the_careful_one_reads(
            text in "a,b(\r?\n\u{feff}?[a\",é\r]{0,4},?[\"ab]{0,3}){0,12}\n?",
            piece in 2usize..60,
            optional in any::<bool>(),
        ) {
            let newline = if optional { FinalNewline::Optional } else { FinalNewline::Required };
            let shown = |piece| rows(text.as_bytes(), &["b", "a"], piece, newline).map_err(|e| e.to_string());
            prop_assert_eq!(shown(1), shown(piece));
            prop_assert_eq!(shown(1), shown(1 << 20));
        }

        #[test]
        fn no_bytes_make_it_fail_otherwise(text in "[a\",\n\r]{0,60}", piece in 1usize..9) {
            none_fewer_than_the_judge(&text, piece);
        }
    }

    /// For any bytes: an error, or at least as many rows as there are line breaks outside quotes.
    fn none_fewer_than_the_judge(text: &str, piece: usize) {
        let text = format!("a\n{text}\n");
        if let Ok(found) = rows(text.as_bytes(), &["a"], piece, FinalNewline::Required) {
            let mut judge = csv::ReaderBuilder::new();
            judge.flexible(true).terminator(csv::Terminator::Any(b'\n'));
            let mut judge = judge.from_reader(text.as_bytes());
            let judged = judge.byte_records().filter_map(Result::ok).count();
            let blank = text.lines().skip(1).filter(|line| line.trim_matches('\r').is_empty()).count();
            assert!(found.len() + blank >= judged, "{} {} {:?}", found.len(), judged, text);
        }
    }

    #[test]
    fn a_quote_after_a_bare_return() {
        none_fewer_than_the_judge("a\r\"", 1);
    }
}
