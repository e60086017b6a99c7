//! One value of an Avro record as the source stores it: not converted, not matched.

use super::NonIdentifier;

/// A value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum AvroValue<'a> {
    /// No value.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number of 32 or 64 bits.
    Int(i64),
    /// A number of 32 bits. Its shortest decimal text is the number that the writer had.
    Float(f32),
    /// A number of 64 bits.
    Double(f64),
    /// The digits of an exact decimal, with all decimal places of its type: `19.90`.
    Decimal(&'a [u8]),
    /// A date, a time, a timestamp or a duration in ISO 8601; empty if it is out of range.
    Moment(NonIdentifier, &'a [u8]),
    /// Text that should be UTF-8, and bytes of any kind.
    Text(&'a [u8]),
    /// A list, a map or a record inside the record, as compact JSON.
    Json(&'a [u8]),
}

/// The fields of one record in the order of its schema, each looked up only when it is needed.
pub trait AvroRecord {
    /// The field at this index; [`AvroValue::Null`] beyond the last one.
    fn datum(&self, at: usize) -> AvroValue<'_>;
}

impl AvroRecord for [AvroValue<'_>] {
    #[inline]
    fn datum(&self, at: usize) -> AvroValue<'_> {
        self.get(at).copied().unwrap_or_default()
    }
}
