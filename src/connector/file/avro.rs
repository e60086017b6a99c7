//! Avro object container files: each by its own schema, only the wanted fields. Fields of records within records
//! are named by their path, `user.id`.

use std::io::{BufReader, Read};
use std::path::Path;

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

/// Reads a file.
pub(super) fn read(
    file: impl Read,
    path: &Path,
    columns: &[Box<str>],
    name: &str,
    sink: &mut impl Sink,
) -> Result<bool, FileError> {
    let mut input = BufReader::with_capacity(BUFFER_LEN, file);
    let limits = Limits::default();
    let header = Header::read(&mut input, &limits).map_err(|e| damaged(path, &e))?;
    let fields = header.schema.fields();
    let wanted = wanted(&fields, path, columns)?;
    let mut blocks = Blocks::new(input.by_ref(), &header, header.len(), &limits);
    let (mut block, mut line) = (Block::default(), 0);
    let mut cells: Vec<Cells> = columns.iter().map(|_| Cells::with_capacity(1)).collect();
    while blocks.advance(&mut block).map_err(|e| damaged(path, &e))? {
        let mut records = block.records(&header.schema);
        while let Some(record) = records.advance().map_err(|e| damaged(path, &e))? {
            line += 1;
            for (cells, (at, rest)) in cells.iter_mut().zip(&wanted) {
                cells.clear();
                cell(record.datum(*at), rest, cells);
            }
            sink.row(&Row(&cells), Place { file: name, line })?;
        }
    }
    Ok(true)
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
        let whole = fields.iter().position(|field| *field == &**column).map(|at| (at, Vec::new()));
        let nested = || {
            let (first, rest) = column.split_once('.')?;
            let at = fields.iter().position(|field| *field == first)?;
            Some((at, rest.split('.').collect()))
        };
        whole.or_else(nested).ok_or_else(|| FileError::MissingColumn {
            path: path.to_owned(),
            column: column.to_string(),
            found: fields.iter().map(|field| (*field).to_owned()).collect(),
        })
    });
    each.collect()
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
