//! The records of a block, one after the other.

use super::bytes::{Bytes, Wrong};
use super::error::{AvroError, Problem};
use super::logical::Meaning;
use super::nested::{Nested, branch, logical, symbol};
use super::schema::{Op, Plain, Schema, Type, TypeId};
use crate::model::{Datum, NonIdentifier, Record};

/// Where the value of a field is. It names its bytes by their place, so that the slots outlive a record.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Slot {
    #[default]
    Null,
    Bool(bool),
    Long(i64),
    Float(f32),
    Double(f64),
    /// Bytes of the block.
    Text(u32, u32),
    /// Bytes that were made for this record, and what they are.
    Made(u32, u32, Made),
}

/// What made bytes are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Made {
    Text,
    Json,
    Decimal,
    Moment(NonIdentifier),
}

/// The records of a block. Each is lent until the next one is asked for.
#[derive(Debug)]
pub struct Records<'b> {
    bytes: Bytes<'b>,
    schema: &'b Schema,
    slots: Vec<Slot>,
    nested: Nested<'b>,
    read: u64,
    records: u64,
    block_offset: u64,
    is_over: bool,
}

/// One record: its fields in the order of the schema.
#[derive(Clone, Copy, Debug)]
pub struct Row<'r> {
    block: &'r [u8],
    made: &'r [u8],
    slots: &'r [Slot],
}

impl Record for Row<'_> {
    #[inline]
    fn datum(&self, at: usize) -> Datum<'_> {
        match self.slots.get(at).copied().unwrap_or_default() {
            Slot::Null => Datum::Null,
            Slot::Bool(value) => Datum::Bool(value),
            Slot::Long(value) => Datum::Int(value),
            Slot::Float(value) => Datum::Float(value),
            Slot::Double(value) => Datum::Double(value),
            Slot::Text(start, end) => Datum::Text(part(self.block, start, end)),
            Slot::Made(start, end, made) => {
                let bytes = part(self.made, start, end);
                match made {
                    Made::Text => Datum::Text(bytes),
                    Made::Json => Datum::Json(bytes),
                    Made::Decimal => Datum::Decimal(bytes),
                    Made::Moment(of) => Datum::Moment(of, bytes),
                }
            }
        }
    }
}

impl Row<'_> {
    /// How many fields it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it has no fields at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

fn part(bytes: &[u8], start: u32, end: u32) -> &[u8] {
    &bytes[start as usize..end as usize]
}

/// Places in a block, which is never longer than these can say.
fn text((start, end): (usize, usize)) -> Slot {
    #[allow(clippy::cast_possible_truncation, reason = "Blocks holds a block to u32::MAX bytes")]
    Slot::Text(start as u32, end as u32)
}

impl<'b> Records<'b> {
    pub(super) fn new(
        bytes: &'b [u8],
        schema: &'b Schema,
        records: u64,
        block_offset: u64,
        nested_len_max: usize,
    ) -> Self {
        Self {
            bytes: Bytes::new(bytes),
            schema,
            slots: vec![Slot::Null; schema.ops.len() + schema.paths.len()],
            nested: Nested::new(&schema.types, nested_len_max),
            read: 0,
            records,
            block_offset,
            is_over: false,
        }
    }

    /// How many records have been lent.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read
    }

    /// The next record; none at the end of the block.
    ///
    /// # Errors
    /// [`AvroError`] when it cannot be read, or when there are bytes left behind the last one. Nothing
    /// more comes from this block then.
    pub fn advance(&mut self) -> Result<Option<Row<'_>>, AvroError> {
        if self.is_over {
            return Ok(None);
        }
        if self.read == self.records {
            self.is_over = true;
            return if self.bytes.left() == 0 {
                Ok(None)
            } else {
                Err(self.error("more bytes than records"))
            };
        }
        if let Err(what) = self.fill() {
            self.is_over = true;
            return Err(self.error(what));
        }
        self.read += 1;
        Ok(Some(Row { block: self.bytes.all, made: self.nested.made(), slots: &self.slots }))
    }

    fn error(&self, what: Wrong) -> AvroError {
        let problem = Problem::Record { record: self.read, offset: self.bytes.at, what };
        AvroError::of_one_block(self.block_offset, problem)
    }

    fn fill(&mut self) -> Result<(), Wrong> {
        self.nested.clear();
        let schema = self.schema;
        let mut bytes = self.bytes;
        let (slots, selected) = self.slots.split_at_mut(schema.ops.len());
        for (field, (slot, op)) in slots.iter_mut().zip(&schema.ops).enumerate() {
            let plain = match *op {
                Op::Plain(plain) => plain,
                Op::Optional(null, plain) => match bytes.long()? {
                    branch if branch == null => {
                        *slot = Slot::Null;
                        continue;
                    }
                    branch if branch == 1 - null => plain,
                    _ => return Err("a branch that the union has not"),
                },
                Op::Other(of) => {
                    for (slot, path) in selected.iter_mut().zip(&schema.paths) {
                        if path.field == field {
                            *slot = self.nested.find(&mut bytes.clone(), of, &path.names)?;
                        }
                    }
                    *slot = self.nested.slot(&mut bytes, of)?;
                    continue;
                }
            };
            *slot = read_plain(&mut bytes, plain)?;
        }
        self.bytes = bytes;
        Ok(())
    }
}

#[inline]
fn read_plain(bytes: &mut Bytes<'_>, plain: Plain) -> Result<Slot, Wrong> {
    Ok(match plain {
        Plain::Text => text(bytes.span()?),
        Plain::Long => Slot::Long(bytes.long()?),
        Plain::Bool => Slot::Bool(bytes.bool()?),
        Plain::Float => Slot::Float(f32::from_le_bytes(bytes.array()?)),
        Plain::Double => Slot::Double(f64::from_le_bytes(bytes.array()?)),
    })
}

impl Nested<'_> {
    /// A value of any type. What a slot cannot hold is made into JSON.
    fn slot(&mut self, bytes: &mut Bytes<'_>, of: TypeId) -> Result<Slot, Wrong> {
        let plain = match &self.types[of] {
            Type::Null => return Ok(Slot::Null),
            Type::Bool => Plain::Bool,
            Type::Long => Plain::Long,
            Type::Float => Plain::Float,
            Type::Double => Plain::Double,
            Type::Text => Plain::Text,
            Type::Fixed(len) => {
                let start = bytes.at;
                bytes.take(*len)?;
                return Ok(text((start, bytes.at)));
            }
            Type::Enum(symbols) => {
                let name = symbol(symbols, bytes)?;
                return self.make(Made::Text, |nested| nested.push(name.as_bytes()));
            }
            // A union directly in a union is against the rules, so this goes one step deep.
            Type::Union(branches) => {
                let branch = branch(branches, bytes)?;
                return match &self.types[branch] {
                    Type::Union(_) => Err("a union in a union"),
                    _ => self.slot(bytes, branch),
                };
            }
            Type::List(_) | Type::Map(_) | Type::Record(_) => {
                return self.make(Made::Json, |nested| nested.json(bytes, of, 0));
            }
            Type::LogicalNumber(_) | Type::LogicalBytes(..) => {
                let (meaning, text) = logical(&self.types[of], bytes)?;
                let made = match meaning {
                    Meaning::Decimal => Made::Decimal,
                    Meaning::Text => Made::Text,
                    Meaning::Moment(of) => Made::Moment(of),
                };
                return self.make(made, |nested| nested.push(text.as_bytes()));
            }
        };
        read_plain(bytes, plain)
    }

    /// The value at these names inside a value of any type; null if there is none.
    fn find(&mut self, bytes: &mut Bytes<'_>, of: TypeId, names: &[Box<str>]) -> Result<Slot, Wrong> {
        let Some((first, rest)) = names.split_first() else { return self.slot(bytes, of) };
        let types = self.types;
        match &types[of] {
            Type::Union(branches) => {
                let branch = branch(branches, bytes)?;
                match &types[branch] {
                    Type::Union(_) => Err("a union in a union"),
                    _ => self.find(bytes, branch, names),
                }
            }
            Type::Record(fields) => {
                for (name, of) in fields {
                    if name == first {
                        return self.find(bytes, *of, rest);
                    }
                    self.pass(bytes, *of)?;
                }
                Ok(Slot::Null)
            }
            Type::Map(values) => {
                while let Some(count) = bytes.run()? {
                    for _ in 0..count {
                        let (start, end) = bytes.span()?;
                        if &bytes.all[start..end] == first.as_bytes() {
                            return self.find(bytes, *values, rest);
                        }
                        self.pass(bytes, *values)?;
                    }
                }
                Ok(Slot::Null)
            }
            _ => Ok(Slot::Null),
        }
    }

    fn make(&mut self, made: Made, make: impl FnOnce(&mut Self) -> Result<(), Wrong>) -> Result<Slot, Wrong> {
        let start = self.made().len();
        make(self)?;
        let place = |at: usize| u32::try_from(at).map_err(|_| "too much in one record");
        Ok(Slot::Made(place(start)?, place(self.made().len())?, made))
    }
}
