//! One value of a source row, as it stands in the source: not trimmed, not judged.

/// A value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field<'a> {
    /// The source says that there is none.
    #[default]
    Absent,
    /// Text, in whatever encoding; a whole number in its decimal form.
    Text(&'a [u8]),
    /// Something that no identifier can be: a list, say. What it is, in a word.
    NotText(&'static str),
}

/// The wanted fields of one row, each looked up only when it is asked for.
pub trait Fields {
    /// The field at this place among the wanted columns.
    fn field(&self, at: usize) -> Field<'_>;
}

impl Fields for [Field<'_>] {
    fn field(&self, at: usize) -> Field<'_> {
        self.get(at).copied().unwrap_or_default()
    }
}

impl<const N: usize> Fields for [Field<'_>; N] {
    fn field(&self, at: usize) -> Field<'_> {
        self.as_slice().field(at)
    }
}
