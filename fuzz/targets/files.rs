//! Targets of source files: CSV, NDJSON, Avro, Parquet and compression.

use std::io::Read as _;

use syncline::config::{FileFormat, FileSource, FinalNewline};
use syncline::connector::avro::{AvroBlock, AvroBlocks, AvroHeader, AvroLimits};
use syncline::connector::file::{self, FileAccess, FileError};
use syncline::connector::rows::{ReadSummary, RowLocation, RowSink, SinkStopped, UnreadableRow};
use syncline::model::{AvroRecord as _, AvroValue, Field, Fields};

use super::{file, home};

/// The columns of the seeds.
const COLUMNS: [&str; 2] = ["id", "name"];
/// The columns of the Parquet seeds. A file that lacks one of a list is not read with this list.
const PARQUET_COLUMNS: [&[&str]; 4] = [
    &["id"],
    &["crm", "device"],
    &["text", "raw", "four", "tiny", "large", "huge", "uuid", "whole", "yes", "day", "money", "user.deep.id"],
    &["decimal_256", "float_end", "half_end", "time", "timestamp", "list"],
];
/// Bytes that a compressed input may unpack to. A run takes time in proportion to them.
const UNPACKED_LEN_MAX: usize = 16 << 20;

/// A value of a row.
#[derive(Debug, PartialEq, Eq)]
enum Cell {
    Absent,
    Text(Vec<u8>),
    Other,
}

/// Collects rows.
struct Rows {
    columns: usize,
    read: Vec<Vec<Cell>>,
    unreadable: Vec<&'static str>,
    last_line: u64,
}

impl Rows {
    fn seen(&mut self, location: RowLocation<'_>) {
        assert!(location.line >= self.last_line, "lines are in order");
        self.last_line = location.line;
    }
}

impl RowSink for Rows {
    fn row(&mut self, fields: &impl Fields, location: RowLocation<'_>) -> Result<(), SinkStopped> {
        self.seen(location);
        let cell = |at| match fields.field(at) {
            Field::Absent => Cell::Absent,
            Field::Text(text) | Field::Whole { text, .. } => Cell::Text(text.to_vec()),
            Field::Other(..) => Cell::Other,
        };
        self.read.push((0..self.columns).map(cell).collect());
        Ok(())
    }

    fn unreadable(&mut self, row: UnreadableRow<'_>) -> Result<(), SinkStopped> {
        self.seen(row.location);
        assert!(!row.detail.is_empty() && !row.reason.is_empty());
        self.unreadable.push(row.reason);
        Ok(())
    }
}

fn read(source: &FileSource, columns: &[Box<str>]) -> (Result<ReadSummary, FileError>, Rows) {
    let (home, mut rows) =
        (home(), Rows { columns: columns.len(), read: Vec::new(), unreadable: Vec::new(), last_line: 0 });
    let access = FileAccess { folder: &home, roots: std::slice::from_ref(&home), stores: &[] };
    let result = file::read(source, access, columns, &mut rows).map(|(summary, _)| summary);
    match &result {
        Ok(summary) => {
            assert_eq!(
                summary.rows as usize,
                rows.read.len() + rows.unreadable.len(),
                "every row is counted"
            );
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    (result, rows)
}

/// Reads a file for its own sake.
fn try_read(source: &FileSource, columns: &[&str]) {
    let (_, rows) = read(source, &named(columns));
    assert!(rows.read.iter().all(|row| row.len() == columns.len()));
}

fn named(columns: &[&str]) -> Vec<Box<str>> {
    columns.iter().map(|column| (*column).into()).collect()
}

/// A CSV file: rows equal those of the `csv` crate, where both follow RFC 4180.
pub(crate) fn csv(data: &[u8]) {
    let path = file("rows.csv", data);
    let Ok(headers) = file::csv_headers(&path) else { return };
    let Some(header) = headers.into_iter().find(|header| header.delimiter == b',') else { return };
    let is_unique = |name: &&String| header.columns.iter().filter(|other| other == name).count() == 1;
    let columns: Vec<Box<str>> =
        header.columns.iter().filter(is_unique).take(3).map(|name| name.as_str().into()).collect();
    let mut source = FileSource::new("rows.csv".to_owned());
    source.final_newline = FinalNewline::Optional;
    let (result, rows) = read(&source, &columns);
    let lone_return =
        data.iter().enumerate().any(|(at, byte)| *byte == b'\r' && data.get(at + 1) != Some(&b'\n'));
    let has_mark = data.windows(3).any(|part| part == b"\xef\xbb\xbf");
    // The crate ends rows at lone carriage returns, knows no marks of concatenated files, and merges malformed rows.
    if result.is_err() || lone_return || has_mark || !rows.unreadable.is_empty() {
        return;
    }
    let mut judge = csv::ReaderBuilder::new().flexible(true).from_reader(data);
    let names: Vec<String> = judge
        .byte_headers()
        .expect("the crate reads the header")
        .iter()
        .map(|name| String::from_utf8_lossy(name).trim().to_owned())
        .collect();
    let places: Vec<usize> = columns
        .iter()
        .map(|column| names.iter().position(|name| **name == **column).expect("a column"))
        .collect();
    let expected: Vec<Vec<Cell>> = judge
        .byte_records()
        .map(|record| {
            let record = record.expect("the crate reads the row");
            places.iter().map(|at| Cell::Text(record[*at].to_vec())).collect()
        })
        .collect();
    assert_eq!(rows.read, expected);
}

/// The header row of a CSV file under each separator.
pub(crate) fn csv_header(data: &[u8]) {
    if let Ok(headers) = file::csv_headers(&file("header.csv", data)) {
        assert!(headers.iter().all(|header| header.columns.len() <= data.len() + 1));
    }
}

/// An NDJSON file: if each line is an object for `serde_json`, the rows are its values.
pub(crate) fn ndjson(data: &[u8]) {
    file("rows.ndjson", data);
    let mut source = FileSource::new("rows.ndjson".to_owned());
    source.format = Some(FileFormat::Ndjson);
    source.final_newline = FinalNewline::Optional;
    let (result, rows) = read(&source, &named(&COLUMNS));
    let lines = data.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let objects: Result<Vec<serde_json::Map<String, serde_json::Value>>, _> =
        lines.map(serde_json::from_slice).collect();
    let (Ok(objects), Ok(_)) = (objects, result) else { return };
    assert_eq!((objects.len(), rows.unreadable.len()), (rows.read.len(), 0));
    for (object, row) in objects.iter().zip(&rows.read) {
        for (column, cell) in COLUMNS.iter().zip(row) {
            match object.get(*column) {
                Some(serde_json::Value::String(text)) => {
                    assert_eq!(*cell, Cell::Text(text.clone().into_bytes()));
                }
                None | Some(serde_json::Value::Null) => assert_eq!(*cell, Cell::Absent),
                Some(_) => assert_ne!(*cell, Cell::Absent),
            }
        }
    }
}

/// An Avro file, read block by block with small limits and by paths of nested fields.
pub(crate) fn avro(data: &[u8]) {
    let limits = AvroLimits { header_len_max: 1 << 16, block_len_max: 1 << 20, nested_len_max: 1 << 16 };
    let mut rest = data;
    let mut header = match AvroHeader::read(&mut rest, &limits) {
        Ok(header) => header,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(header.len() as usize, data.len() - rest.len());
    for at in 0..header.schema.fields().len().min(8) {
        header.schema.select(at, &["id"]);
    }
    let fields = header.schema.fields().len();
    let (mut blocks, mut block) =
        (AvroBlocks::new(rest, &header, header.len(), &limits), AvroBlock::default());
    loop {
        match blocks.advance(&mut block) {
            Ok(true) => {}
            Err(error) if error.is_of_one_block() => continue,
            Ok(false) | Err(_) => break,
        }
        assert!(block.offset() < blocks.position() && blocks.position() <= data.len() as u64);
        let mut records = block.records(&header.schema);
        let mut count = 0;
        while let Ok(Some(row)) = records.advance() {
            count += 1;
            (0..fields).for_each(|at| check_value(row.datum(at)));
        }
        assert!(count <= block.records_len());
    }
}

/// Values are what their kind says.
fn check_value(value: AvroValue<'_>) {
    match value {
        AvroValue::Json(json) | AvroValue::Decimal(json) => {
            serde_json::from_slice::<&serde_json::value::RawValue>(json).expect("valid JSON");
        }
        AvroValue::Moment(_, text) => assert!(text.is_ascii()),
        _ => {}
    }
}

/// An Avro file as a source.
pub(crate) fn avro_file(data: &[u8]) {
    file("rows.avro", data);
    try_read(&FileSource::new("rows.avro".to_owned()), &["id", "time"]);
    try_read(&FileSource::new("rows.avro".to_owned()), &["any", "point.next.x", "small", "day"]);
}

/// A Parquet file as a source.
pub(crate) fn parquet(data: &[u8]) {
    file("rows.parquet", data);
    for columns in PARQUET_COLUMNS {
        try_read(&FileSource::new("rows.parquet".to_owned()), columns);
    }
}

/// A file of any content: its kind is detected, and it is decompressed.
pub(crate) fn compressed(data: &[u8]) {
    if unpacked_len(data) > UNPACKED_LEN_MAX {
        return;
    }
    for name in ["rows", "rows.csv.gz", "rows.ndjson.zst"] {
        file(name, data);
        let mut source = FileSource::new(name.to_owned());
        try_read(&source, &["id"]);
        source.final_newline = FinalNewline::Optional;
        try_read(&source, &["id"]);
    }
}

/// The length of the unpacked content, up to the limit.
fn unpacked_len(data: &[u8]) -> usize {
    let limit = UNPACKED_LEN_MAX as u64 + 1;
    let count = |reader: &mut dyn std::io::Read| {
        std::io::copy(&mut reader.take(limit), &mut std::io::sink()).unwrap_or(0) as usize
    };
    match data {
        [0x1f, 0x8b, ..] => count(&mut flate2::read::MultiGzDecoder::new(data)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            zstd::stream::read::Decoder::new(data).map_or(0, |mut decoder| count(&mut decoder))
        }
        _ => data.len(),
    }
}
