//! Avro object container files: each by its own schema, only the wanted fields. Fields of records within records
//! are named by their path, `user.id`.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::find::Found;
use super::open::{self, Watch};
use super::{FileError, Place, Sink};
use crate::connector::cells::Cells;
use crate::connector::currents::avro::{AvroError, Block, Blocks, Header, Limits};
use crate::model::{Datum, Field, Fields, Record};

const BUFFER_LEN: usize = 256 << 10;

/// The wanted columns of one record, a cell each.
struct Row<'a>(&'a [Cells]);

impl Fields for Row<'_> {
    fn field(&self, at: usize) -> Field<'_> {
        self.0.get(at).map_or(Field::Absent, |cells| cells.field(0))
    }
}

/// How a value becomes a cell: of a field, or of what is at a path within it.
type ToCell = fn(Datum<'_>, &[&str], &mut Cells);

/// Reads a file, each of whose columns must be there.
pub(super) fn read(
    file: Box<dyn Read>,
    path: &Path,
    columns: &[Box<str>],
    sink: &mut impl Sink,
) -> Result<bool, FileError> {
    Opened::new(file, path)?.read(columns, &[], cell, sink)?;
    Ok(true)
}

/// A file whose front was read.
struct Opened {
    path: PathBuf,
    input: BufReader<Box<dyn Read>>,
    header: Header,
}

impl Opened {
    fn new(file: Box<dyn Read>, path: &Path) -> Result<Self, FileError> {
        let mut input = BufReader::with_capacity(BUFFER_LEN, file);
        let header = Header::read(&mut input, &Limits::default()).map_err(|e| damaged(path, &e))?;
        Ok(Self { path: path.to_owned(), input, header })
    }

    /// Hands over all rows: of each the columns that must be there, and those that may be. How many there were.
    fn read(
        self,
        required: &[Box<str>],
        optional: &[Box<str>],
        cell: ToCell,
        sink: &mut impl Sink,
    ) -> Result<u64, FileError> {
        let Self { path, input, header } = self;
        let fields = header.schema.fields();
        let mut wanted: Vec<Option<(usize, Vec<&str>)>> =
            wanted(&fields, &path, required)?.into_iter().map(Some).collect();
        wanted.extend(optional.iter().map(|column| place(&fields, column)));
        let mut blocks = Blocks::new(input, &header, header.len(), &Limits::default());
        let (mut block, mut line, name) = (Block::default(), 0, path.display().to_string());
        let mut cells: Vec<Cells> = wanted.iter().map(|_| Cells::with_capacity(1)).collect();
        while blocks.advance(&mut block).map_err(|e| damaged(&path, &e))? {
            let mut records = block.records(&header.schema);
            while let Some(record) = records.advance().map_err(|e| damaged(&path, &e))? {
                line += 1;
                for (cells, wanted) in cells.iter_mut().zip(&wanted) {
                    cells.clear();
                    match wanted {
                        Some((at, rest)) => cell(record.datum(*at), rest, cells),
                        None => cells.absent(),
                    }
                }
                sink.row(&Row(&cells), Place { file: &name, line })?;
            }
        }
        Ok(line)
    }
}

/// One Avro file, whatever its name ends with.
pub(in crate::connector) struct AvroFile {
    opened: Opened,
    watch: Watch,
}

impl AvroFile {
    pub(in crate::connector) fn open(found: &Found) -> Result<Self, FileError> {
        let (handle, watch) = open::open(found)?;
        let opened = Opened::new(handle.reader(), found.path());
        // Whatever a parser made of it: what did not come is not damaged.
        watch.came_whole()?;
        Ok(Self { opened: opened?, watch })
    }

    /// Whether its schema has this field.
    pub(in crate::connector) fn has(&self, column: &str) -> bool {
        self.opened.header.schema.fields().contains(&column)
    }

    /// The fields of its schema, in their order.
    pub(in crate::connector) fn columns(&self) -> Vec<&str> {
        self.opened.header.schema.fields()
    }

    pub(in crate::connector) fn path(&self) -> &Path {
        &self.opened.path
    }

    /// Hands over all rows: of each the columns that must be there, and those that may be. How many there were.
    pub(in crate::connector) fn read(
        self,
        required: &[Box<str>],
        optional: &[Box<str>],
        sink: &mut impl Sink,
    ) -> Result<u64, FileError> {
        self.read_each(required, optional, cell, sink)
    }

    /// The same, with each value as its text: fractions, yes and no, and JSON as well, which can name nobody.
    pub(in crate::connector) fn read_as_text(
        self,
        required: &[Box<str>],
        optional: &[Box<str>],
        sink: &mut impl Sink,
    ) -> Result<u64, FileError> {
        self.read_each(required, optional, text_cell, sink)
    }

    fn read_each(
        self,
        required: &[Box<str>],
        optional: &[Box<str>],
        cell: ToCell,
        sink: &mut impl Sink,
    ) -> Result<u64, FileError> {
        let read = self.opened.read(required, optional, cell, sink);
        self.watch.came_whole()?;
        let rows = read?;
        self.watch.unchanged()?;
        Ok(rows)
    }
}

fn damaged(path: &Path, error: &AvroError) -> FileError {
    FileError::Damaged { path: path.to_owned(), what: format!("as Avro: {error}") }
}

/// The wanted columns: which field, and the path within it.
fn wanted<'c>(
    fields: &[&str],
    path: &Path,
    columns: &'c [Box<str>],
) -> Result<Vec<(usize, Vec<&'c str>)>, FileError> {
    let each = columns.iter().map(|column| {
        place(fields, column).ok_or_else(|| FileError::MissingColumn {
            path: path.to_owned(),
            column: column.to_string(),
            found: fields.iter().map(|field| (*field).to_owned()).collect(),
        })
    });
    each.collect()
}

fn place<'c>(fields: &[&str], column: &'c str) -> Option<(usize, Vec<&'c str>)> {
    let whole = fields.iter().position(|field| *field == column).map(|at| (at, Vec::new()));
    let nested = || {
        let (first, rest) = column.split_once('.')?;
        let at = fields.iter().position(|field| *field == first)?;
        Some((at, rest.split('.').collect()))
    };
    whole.or_else(nested)
}

fn cell(datum: Datum<'_>, rest: &[&str], cells: &mut Cells) {
    match datum {
        Datum::Null => cells.absent(),
        Datum::Json(json) => nested(json, rest, cells),
        _ if !rest.is_empty() => cells.absent(),
        Datum::Bool(_) => cells.not_text("true or false"),
        Datum::Int(number) => cells.number(number),
        Datum::Float(number) => cells.float(f64::from(number)),
        Datum::Double(number) => cells.float(number),
        Datum::Text(text) => cells.text(text),
    }
}

fn text_cell(datum: Datum<'_>, rest: &[&str], cells: &mut Cells) {
    match datum {
        Datum::Null => cells.absent(),
        _ if !rest.is_empty() => cells.absent(),
        Datum::Bool(value) => cells.text(if value { b"true" } else { b"false" }),
        Datum::Int(number) => cells.number(number),
        Datum::Float(number) => cells.text(number.to_string().as_bytes()),
        Datum::Double(number) => cells.text(number.to_string().as_bytes()),
        Datum::Text(text) | Datum::Json(text) => cells.text(text),
    }
}

fn nested(json: &[u8], path: &[&str], cells: &mut Cells) {
    let value: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
    let found = path.iter().try_fold(&value, |value, key| value.get(key));
    match found {
        None | Some(serde_json::Value::Null) => cells.absent(),
        Some(serde_json::Value::String(text)) => cells.text(text.as_bytes()),
        Some(serde_json::Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => cells.number(number),
            (None, Some(number)) => cells.float(number),
            (None, None) => cells.not_text("not a whole number"),
        },
        Some(serde_json::Value::Bool(_)) => cells.not_text("true or false"),
        Some(serde_json::Value::Array(_)) => cells.not_text("a list"),
        Some(serde_json::Value::Object(_)) => cells.not_text("an object"),
    }
}
