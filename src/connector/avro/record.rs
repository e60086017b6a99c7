//! Records of a block, read one by one.

use super::bytes::{ByteReader, MalformedReason};
use super::error::{AvroError, AvroProblem};
use super::logical::LogicalMeaning;
use super::nested::{NestedJson, branch, logical, symbol};
use super::schema::{AvroSchema, AvroType, FieldOp, PlainType, TypeId};
use crate::model::{AvroRecord, AvroValue, NonIdentifier};

/// The value of a field, or its range in a buffer. Ranges let slots outlive a record.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum FieldSlot {
    #[default]
    Null,
    Bool(bool),
    Long(i64),
    Float(f32),
    Double(f64),
    /// Bytes of the block.
    Text(u32, u32),
    /// Bytes that were made for this record, and their kind.
    Made(u32, u32, MadeBytes),
}

/// The kind of made bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum MadeBytes {
    Text,
    Json,
    Decimal,
    Moment(NonIdentifier),
}

/// The records of a block. Each row borrows the reader until the next call.
#[derive(Debug)]
pub struct Records<'b> {
    bytes: ByteReader<'b>,
    schema: &'b AvroSchema,
    slots: Vec<FieldSlot>,
    nested: NestedJson<'b>,
    read: u64,
    records: u64,
    block_offset: u64,
    is_over: bool,
}

/// One record: its fields in the order of the schema.
#[derive(Clone, Copy, Debug)]
pub struct AvroRow<'r> {
    block: &'r [u8],
    made: &'r [u8],
    slots: &'r [FieldSlot],
}

impl AvroRecord for AvroRow<'_> {
    #[inline]
    fn datum(&self, at: usize) -> AvroValue<'_> {
        match self.slots.get(at).copied().unwrap_or_default() {
            FieldSlot::Null => AvroValue::Null,
            FieldSlot::Bool(value) => AvroValue::Bool(value),
            FieldSlot::Long(value) => AvroValue::Int(value),
            FieldSlot::Float(value) => AvroValue::Float(value),
            FieldSlot::Double(value) => AvroValue::Double(value),
            FieldSlot::Text(start, end) => AvroValue::Text(part(self.block, start, end)),
            FieldSlot::Made(start, end, made) => {
                let bytes = part(self.made, start, end);
                match made {
                    MadeBytes::Text => AvroValue::Text(bytes),
                    MadeBytes::Json => AvroValue::Json(bytes),
                    MadeBytes::Decimal => AvroValue::Decimal(bytes),
                    MadeBytes::Moment(of) => AvroValue::Moment(of, bytes),
                }
            }
        }
    }
}

impl AvroRow<'_> {
    /// The number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the record has no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

fn part(bytes: &[u8], start: u32, end: u32) -> &[u8] {
    &bytes[start as usize..end as usize]
}

/// A range in a block; blocks are shorter than 4 GiB.
fn text((start, end): (usize, usize)) -> FieldSlot {
    #[allow(clippy::cast_possible_truncation, reason = "Blocks holds a block to u32::MAX bytes")]
    FieldSlot::Text(start as u32, end as u32)
}

impl<'b> Records<'b> {
    pub(super) fn new(
        bytes: &'b [u8],
        schema: &'b AvroSchema,
        records: u64,
        block_offset: u64,
        nested_len_max: usize,
    ) -> Self {
        Self {
            bytes: ByteReader::new(bytes),
            schema,
            slots: vec![FieldSlot::Null; schema.ops.len() + schema.paths.len()],
            nested: NestedJson::new(&schema.types, nested_len_max),
            read: 0,
            records,
            block_offset,
            is_over: false,
        }
    }

    /// The number of records returned.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read
    }

    /// The next record; `None` at the end of the block.
    ///
    /// # Errors
    /// [`AvroError`] when it cannot be read, or when bytes follow the last record. The block returns no more records
    /// afterwards.
    pub fn advance(&mut self) -> Result<Option<AvroRow<'_>>, AvroError> {
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
        Ok(Some(AvroRow { block: self.bytes.all, made: self.nested.made(), slots: &self.slots }))
    }

    fn error(&self, what: MalformedReason) -> AvroError {
        let problem = AvroProblem::Record { record: self.read, offset: self.bytes.at, what };
        AvroError::of_one_block(self.block_offset, problem)
    }

    fn fill(&mut self) -> Result<(), MalformedReason> {
        self.nested.clear();
        let schema = self.schema;
        let mut bytes = self.bytes;
        let (slots, selected) = self.slots.split_at_mut(schema.ops.len());
        for (field, (slot, op)) in slots.iter_mut().zip(&schema.ops).enumerate() {
            let plain = match *op {
                FieldOp::Plain(plain) => plain,
                FieldOp::Optional(null, plain) => match bytes.long()? {
                    branch if branch == null => {
                        *slot = FieldSlot::Null;
                        continue;
                    }
                    branch if branch == 1 - null => plain,
                    _ => return Err("a branch that the union does not have"),
                },
                FieldOp::Other(of) => {
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
fn read_plain(bytes: &mut ByteReader<'_>, plain: PlainType) -> Result<FieldSlot, MalformedReason> {
    Ok(match plain {
        PlainType::Text => text(bytes.span()?),
        PlainType::Long => FieldSlot::Long(bytes.long()?),
        PlainType::Bool => FieldSlot::Bool(bytes.bool()?),
        PlainType::Float => FieldSlot::Float(f32::from_le_bytes(bytes.array()?)),
        PlainType::Double => FieldSlot::Double(f64::from_le_bytes(bytes.array()?)),
    })
}

impl NestedJson<'_> {
    /// A value of any type. Values that fit no slot become JSON.
    fn slot(&mut self, bytes: &mut ByteReader<'_>, of: TypeId) -> Result<FieldSlot, MalformedReason> {
        let plain = match &self.types[of] {
            AvroType::Null => return Ok(FieldSlot::Null),
            AvroType::Bool => PlainType::Bool,
            AvroType::Long => PlainType::Long,
            AvroType::Float => PlainType::Float,
            AvroType::Double => PlainType::Double,
            AvroType::Text => PlainType::Text,
            AvroType::Fixed(len) => {
                let start = bytes.at;
                bytes.take(*len)?;
                return Ok(text((start, bytes.at)));
            }
            AvroType::Enum(symbols) => {
                let name = symbol(symbols, bytes)?;
                return self.make(MadeBytes::Text, |nested| nested.push(name.as_bytes()));
            }
            // Avro forbids a union directly in a union, so the recursion is one step deep.
            AvroType::Union(branches) => {
                let branch = branch(branches, bytes)?;
                return match &self.types[branch] {
                    AvroType::Union(_) => Err("a union in a union"),
                    _ => self.slot(bytes, branch),
                };
            }
            AvroType::List(_) | AvroType::Map(_) | AvroType::Record(_) => {
                return self.make(MadeBytes::Json, |nested| nested.json(bytes, of, 0));
            }
            AvroType::LogicalNumber(_) | AvroType::LogicalBytes(..) => {
                let (meaning, text) = logical(&self.types[of], bytes)?;
                let made = match meaning {
                    LogicalMeaning::Decimal => MadeBytes::Decimal,
                    LogicalMeaning::Text => MadeBytes::Text,
                    LogicalMeaning::Moment(of) => MadeBytes::Moment(of),
                };
                return self.make(made, |nested| nested.push(text.as_bytes()));
            }
        };
        read_plain(bytes, plain)
    }

    /// The value at a path of names within a value; null if there is none.
    fn find(
        &mut self,
        bytes: &mut ByteReader<'_>,
        of: TypeId,
        names: &[Box<str>],
    ) -> Result<FieldSlot, MalformedReason> {
        let Some((first, rest)) = names.split_first() else { return self.slot(bytes, of) };
        let types = self.types;
        match &types[of] {
            AvroType::Union(branches) => {
                let branch = branch(branches, bytes)?;
                match &types[branch] {
                    AvroType::Union(_) => Err("a union in a union"),
                    _ => self.find(bytes, branch, names),
                }
            }
            AvroType::Record(fields) => {
                for (name, of) in fields {
                    if name == first {
                        return self.find(bytes, *of, rest);
                    }
                    self.pass(bytes, *of)?;
                }
                Ok(FieldSlot::Null)
            }
            AvroType::Map(values) => {
                while let Some(count) = bytes.run()? {
                    for _ in 0..count {
                        let (start, end) = bytes.span()?;
                        if &bytes.all[start..end] == first.as_bytes() {
                            return self.find(bytes, *values, rest);
                        }
                        self.pass(bytes, *values)?;
                    }
                }
                Ok(FieldSlot::Null)
            }
            _ => Ok(FieldSlot::Null),
        }
    }

    fn make(
        &mut self,
        made: MadeBytes,
        make: impl FnOnce(&mut Self) -> Result<(), MalformedReason>,
    ) -> Result<FieldSlot, MalformedReason> {
        let start = self.made().len();
        make(self)?;
        let to_u32 = |at: usize| u32::try_from(at).map_err(|_| "too much in one record");
        Ok(FieldSlot::Made(to_u32(start)?, to_u32(self.made().len())?, made))
    }
}
