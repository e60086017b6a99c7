//! Avro object container files: reads only the requested fields by the file's own schema. Fields of nested records
//! are addressed by path, `user.id`.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::found::FoundFile;
use super::open::{self, ChangeDetector};
use super::{FileError, header};
use crate::connector::avro::{AvroBlock, AvroBlocks, AvroError, AvroHeader, AvroLimits, AvroSchema};
use crate::connector::cells::{CellRow, ColumnCells};
use crate::connector::rows::{RowLocation, RowSink};
use crate::model::{AvroRecord, AvroValue, NonIdentifier};

const BUFFER_LEN: usize = 256 << 10;

/// How values become cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AvroValues {
    /// By their type. Fractions, booleans and JSON are no identifiers.
    Typed,
    /// Each as text.
    Text,
}

/// Reads a file that must contain all requested columns.
pub(super) fn read(
    file: Box<dyn Read>,
    path: &Path,
    columns: &[Box<str>],
    sink: &mut impl RowSink,
) -> Result<bool, FileError> {
    OpenedAvroFile::new(file, path)?.read(columns, &[], AvroValues::Typed, sink)?;
    Ok(true)
}

/// A file after its header was read.
struct OpenedAvroFile {
    path: PathBuf,
    input: BufReader<Box<dyn Read>>,
    header: AvroHeader,
}

impl OpenedAvroFile {
    fn new(file: Box<dyn Read>, path: &Path) -> Result<Self, FileError> {
        let mut input = BufReader::with_capacity(BUFFER_LEN, file);
        let header = AvroHeader::read(&mut input, &AvroLimits::default()).map_err(|e| damaged(path, &e))?;
        Ok(Self { path: path.to_owned(), input, header })
    }

    /// Pushes all rows with the required and the optional columns. Returns the number of rows.
    fn read(
        self,
        required: &[Box<str>],
        optional: &[Box<str>],
        values: AvroValues,
        sink: &mut impl RowSink,
    ) -> Result<u64, FileError> {
        let cell = if values == AvroValues::Text { text_cell } else { cell };
        let Self { path, input, mut header } = self;
        let mut wanted: Vec<Option<usize>> = Vec::with_capacity(required.len() + optional.len());
        for column in required {
            let index = field_index(&mut header.schema, column);
            wanted.push(Some(index.ok_or_else(|| missing(&header.schema, &path, column))?));
        }
        wanted.extend(optional.iter().map(|column| field_index(&mut header.schema, column)));
        let mut blocks = AvroBlocks::new(input, &header, header.len(), &AvroLimits::default());
        let (mut block, mut line, name) = (AvroBlock::default(), 0, path.display().to_string());
        let mut cells: Vec<ColumnCells> = wanted.iter().map(|_| ColumnCells::with_capacity(1)).collect();
        while blocks.advance(&mut block).map_err(|e| damaged(&path, &e))? {
            let mut records = block.records(&header.schema);
            while let Some(record) = records.advance().map_err(|e| damaged(&path, &e))? {
                line += 1;
                for (cells, wanted) in cells.iter_mut().zip(&wanted) {
                    cells.clear();
                    match wanted {
                        Some(at) => cell(record.datum(*at), cells),
                        None => cells.absent(),
                    }
                }
                sink.row(&CellRow(&cells), RowLocation { file: &name, line })?;
            }
        }
        Ok(line)
    }
}

/// One Avro file, regardless of its name.
pub(in crate::connector) struct AvroFile {
    opened: OpenedAvroFile,
    watch: ChangeDetector,
}

impl AvroFile {
    pub(in crate::connector) fn open(found: &FoundFile) -> Result<Self, FileError> {
        let (handle, watch) = open::open(found)?;
        let opened = OpenedAvroFile::new(handle.reader(), found.path());
        // An incomplete download is reported as such, before any parser error that it caused.
        watch.came_whole()?;
        Ok(Self { opened: opened?, watch })
    }

    /// Whether the schema has this field.
    pub(in crate::connector) fn has(&self, column: &str) -> bool {
        self.opened.header.schema.fields().contains(&column)
    }

    /// The fields of the schema, in order.
    pub(in crate::connector) fn columns(&self) -> Vec<&str> {
        self.opened.header.schema.fields()
    }

    pub(in crate::connector) fn path(&self) -> &Path {
        &self.opened.path
    }

    /// Pushes all rows with the required and the optional columns. Returns the number of rows.
    pub(in crate::connector) fn read(
        self,
        required: &[Box<str>],
        optional: &[Box<str>],
        values: AvroValues,
        sink: &mut impl RowSink,
    ) -> Result<u64, FileError> {
        let read = self.opened.read(required, optional, values, sink);
        self.watch.came_whole()?;
        let rows = read?;
        self.watch.unchanged()?;
        Ok(rows)
    }
}

fn damaged(path: &Path, error: &AvroError) -> FileError {
    FileError::Damaged { path: path.to_owned(), what: format!("as Avro: {error}") }
}

fn missing(schema: &AvroSchema, path: &Path, column: &str) -> FileError {
    header::missing_in_names(path, column, schema.fields().into_iter().map(str::to_owned))
}

/// The position of a column: of a field, or of a value inside one.
fn field_index(schema: &mut AvroSchema, column: &str) -> Option<usize> {
    let at = |schema: &AvroSchema, name: &str| schema.fields().iter().position(|field| *field == name);
    if let Some(whole) = at(schema, column) {
        return Some(whole);
    }
    let (first, rest) = column.split_once('.')?;
    let field = at(schema, first)?;
    schema.select(field, &rest.split('.').collect::<Vec<_>>())
}

fn cell(datum: AvroValue<'_>, cells: &mut ColumnCells) {
    match datum {
        AvroValue::Null => cells.absent(),
        AvroValue::Json([b'[', ..]) => cells.other(NonIdentifier::List, b""),
        AvroValue::Json(_) => cells.other(NonIdentifier::Object, b""),
        AvroValue::Bool(value) => cells.boolean(value),
        AvroValue::Int(number) => cells.number(number),
        AvroValue::Float(number) => cells.single(number),
        AvroValue::Double(number) => cells.double(number),
        AvroValue::Decimal(text) => cells.decimal(text),
        AvroValue::Moment(of, text) => cells.other(of, text),
        AvroValue::Text(text) => cells.text(text),
    }
}

fn text_cell(datum: AvroValue<'_>, cells: &mut ColumnCells) {
    match datum {
        AvroValue::Null | AvroValue::Moment(_, []) => cells.absent(),
        AvroValue::Bool(value) => cells.boolean(value),
        AvroValue::Int(number) => cells.number(number),
        AvroValue::Float(number) => cells.text(number.to_string().as_bytes()),
        AvroValue::Double(number) => cells.text(number.to_string().as_bytes()),
        AvroValue::Decimal(text)
        | AvroValue::Moment(_, text)
        | AvroValue::Text(text)
        | AvroValue::Json(text) => {
            cells.text(text);
        }
    }
}
