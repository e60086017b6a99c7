//! One value of a typed record, as the source holds it: not converted, not judged.

/// A value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Datum<'a> {
    /// There is none.
    #[default]
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number of 32 or 64 bits.
    Int(i64),
    /// A number of 32 bits. Its shortest decimal text is what was meant by it.
    Float(f32),
    /// A number of 64 bits.
    Double(f64),
    /// Text that should be UTF-8, and bytes of any kind.
    Text(&'a [u8]),
    /// A list, a map or a record inside the record, as compact JSON.
    Json(&'a [u8]),
}

/// The fields of one record in the order of its schema, each looked up only when it is asked for.
pub trait Record {
    /// The field at this place; [`Datum::Null`] beyond the last one.
    fn datum(&self, at: usize) -> Datum<'_>;
}

impl Record for [Datum<'_>] {
    #[inline]
    fn datum(&self, at: usize) -> Datum<'_> {
        self.get(at).copied().unwrap_or_default()
    }
}
