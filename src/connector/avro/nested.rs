//! Nested lists, maps and records of a record, as compact JSON.
//!
//! A few bytes can encode many values: a record of empty records takes no bytes at all. So the output is limited, and
//! with it the work.

use std::io::Write as _;

use super::bytes::{ByteReader, MalformedReason};
use super::logical::{LogicalMeaning, LogicalType};
use super::schema::{AvroType, TypeId};

/// The deepest nesting; a record type may contain itself.
const DEPTH_MAX: usize = 64;

/// The JSON that was made for one record.
#[derive(Debug)]
pub(super) struct NestedJson<'s> {
    pub(super) types: &'s [AvroType],
    made: Vec<u8>,
    len_max: usize,
}

impl<'s> NestedJson<'s> {
    pub(super) fn new(types: &'s [AvroType], len_max: usize) -> Self {
        Self { types, made: Vec::new(), len_max }
    }

    pub(super) fn clear(&mut self) {
        self.made.clear();
    }

    pub(super) fn made(&self) -> &[u8] {
        &self.made
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), MalformedReason> {
        if self.made.len() + bytes.len() > self.len_max {
            return Err("too much in one record");
        }
        self.made.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends a value as JSON. Every value appends at least one byte, so the limit bounds the work.
    pub(super) fn json(
        &mut self,
        bytes: &mut ByteReader<'_>,
        of: TypeId,
        depth: usize,
    ) -> Result<(), MalformedReason> {
        if depth > DEPTH_MAX {
            return Err("nested too deep");
        }
        let types = self.types;
        match &types[of] {
            AvroType::Null => self.push(b"null"),
            AvroType::Bool => {
                let value = bytes.bool()?;
                self.push(if value { b"true" } else { b"false" })
            }
            AvroType::Long => {
                let value = bytes.long()?;
                self.push(value.to_string().as_bytes())
            }
            AvroType::Float => {
                let value = f32::from_le_bytes(bytes.array()?);
                self.number(value.is_finite(), value)
            }
            AvroType::Double => {
                let value = f64::from_le_bytes(bytes.array()?);
                self.number(value.is_finite(), value)
            }
            AvroType::Text => {
                let (start, end) = bytes.span()?;
                self.text(&bytes.all[start..end])
            }
            AvroType::Fixed(len) => {
                let value = bytes.take(*len)?;
                self.text(value)
            }
            AvroType::LogicalNumber(_) | AvroType::LogicalBytes(..) => match logical(&types[of], bytes)? {
                (LogicalMeaning::Decimal, text) => self.push(text.as_bytes()),
                (_, text) if text.is_empty() => self.push(b"null"),
                (_, text) => self.text(text.as_bytes()),
            },
            AvroType::Enum(symbols) => {
                let name = symbol(symbols, bytes)?;
                self.text(name.as_bytes())
            }
            AvroType::Union(branches) => {
                let branch = branch(branches, bytes)?;
                self.json(bytes, branch, depth + 1)
            }
            AvroType::List(items) => self.list(bytes, *items, depth + 1),
            AvroType::Map(values) => self.map(bytes, *values, depth + 1),
            AvroType::Record(fields) => self.record(bytes, fields, depth + 1),
        }
    }

    /// Skips a value. It makes the value's JSON, so that the limit bounds the work.
    pub(super) fn pass(&mut self, bytes: &mut ByteReader<'_>, of: TypeId) -> Result<(), MalformedReason> {
        let len = self.made.len();
        self.json(bytes, of, 0)?;
        self.made.truncate(len);
        Ok(())
    }

    fn list(
        &mut self,
        bytes: &mut ByteReader<'_>,
        items: TypeId,
        depth: usize,
    ) -> Result<(), MalformedReason> {
        self.push(b"[")?;
        let mut is_first = true;
        while let Some(count) = bytes.run()? {
            for _ in 0..count {
                self.comma(&mut is_first)?;
                self.json(bytes, items, depth)?;
            }
        }
        self.push(b"]")
    }

    fn map(
        &mut self,
        bytes: &mut ByteReader<'_>,
        values: TypeId,
        depth: usize,
    ) -> Result<(), MalformedReason> {
        self.push(b"{")?;
        let mut is_first = true;
        while let Some(count) = bytes.run()? {
            for _ in 0..count {
                self.comma(&mut is_first)?;
                let (start, end) = bytes.span()?;
                self.text(&bytes.all[start..end])?;
                self.push(b":")?;
                self.json(bytes, values, depth)?;
            }
        }
        self.push(b"}")
    }

    fn record(
        &mut self,
        bytes: &mut ByteReader<'_>,
        fields: &[(Box<str>, TypeId)],
        depth: usize,
    ) -> Result<(), MalformedReason> {
        self.push(b"{")?;
        let mut is_first = true;
        for (name, of) in fields {
            self.comma(&mut is_first)?;
            self.text(name.as_bytes())?;
            self.push(b":")?;
            self.json(bytes, *of, depth)?;
        }
        self.push(b"}")
    }

    fn comma(&mut self, is_first: &mut bool) -> Result<(), MalformedReason> {
        if std::mem::take(is_first) { Ok(()) } else { self.push(b",") }
    }

    /// A number in a form that differs from whole numbers; NaN and infinities become null.
    fn number(&mut self, is_finite: bool, value: impl std::fmt::Debug) -> Result<(), MalformedReason> {
        if !is_finite {
            return self.push(b"null");
        }
        self.push(b"")?;
        write!(self.made, "{value:?}").map_err(|_| "too much in one record")
    }

    fn text(&mut self, bytes: &[u8]) -> Result<(), MalformedReason> {
        // An escape takes six bytes for one.
        if self.made.len() + 6 * bytes.len() + 2 > self.len_max {
            return Err("too much in one record");
        }
        serde_json::to_writer(&mut self.made, &String::from_utf8_lossy(bytes))
            .map_err(|_| "too much in one record")
    }
}

/// The meaning and the text of the next value, which has a logical type.
pub(super) fn logical(
    of: &AvroType,
    bytes: &mut ByteReader<'_>,
) -> Result<(LogicalMeaning, String), MalformedReason> {
    match of {
        AvroType::LogicalNumber(logical) => Ok(logical.of_number(bytes.long()?)),
        AvroType::LogicalBytes(logical, Some(len)) => Ok(logical.of_bytes(bytes.take(*len)?)),
        AvroType::LogicalBytes(LogicalType::BigDecimal, None) => {
            let (start, end) = bytes.span()?;
            let mut inner = ByteReader::new(&bytes.all[start..end]);
            let (start, end) = inner.span()?;
            let scale = inner.long()?;
            Ok(LogicalType::of_big_decimal(&inner.all[start..end], scale))
        }
        AvroType::LogicalBytes(logical, None) => {
            let (start, end) = bytes.span()?;
            Ok(logical.of_bytes(&bytes.all[start..end]))
        }
        _ => Err("a type that is not logical"),
    }
}

/// The branch of the next union.
pub(super) fn branch(branches: &[TypeId], bytes: &mut ByteReader<'_>) -> Result<TypeId, MalformedReason> {
    let branch = usize::try_from(bytes.long()?).ok().and_then(|at| branches.get(at));
    branch.copied().ok_or("a branch that the union does not have")
}

/// The symbol of the next enum.
pub(super) fn symbol<'s>(
    symbols: &'s [Box<str>],
    bytes: &mut ByteReader<'_>,
) -> Result<&'s str, MalformedReason> {
    let symbol = usize::try_from(bytes.long()?).ok().and_then(|at| symbols.get(at));
    symbol.map(|symbol| &**symbol).ok_or("a symbol that the enum does not have")
}
