//! One value of a source row as the source stores it: not trimmed, not matched.

/// A value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field<'a> {
    /// The source has no value: null, or a key that is absent.
    #[default]
    Absent,
    /// Text in any encoding, or a whole number in its decimal form.
    Text(&'a [u8]),
    /// A whole number that is stored with a fraction of zeros.
    Whole {
        /// The number, `123`.
        id: &'a [u8],
        /// The stored text, `123.00`.
        text: &'a [u8],
    },
    /// A value that cannot be an identifier, and its text; empty if it has none.
    Other(NonIdentifier, &'a [u8]),
}

impl<'a> Field<'a> {
    /// The text of a scalar, for campaign properties. Lists, objects, NaN and infinity have none.
    #[must_use]
    pub fn text(self) -> Option<&'a [u8]> {
        match self {
            Self::Absent | Self::Other(NonIdentifier::NotANumber | NonIdentifier::Infinite, _) => None,
            Self::Other(_, []) => None,
            Self::Text(text) | Self::Whole { text, .. } | Self::Other(_, text) => Some(text),
        }
    }
}

/// Why a value cannot be an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NonIdentifier {
    /// A number with a fraction.
    Fraction,
    /// A floating-point number so large that neighboring whole numbers are stored as the same one: `float` from 2^24
    /// on, `double` from 2^53 on.
    Imprecise,
    /// Minus zero.
    NegativeZero,
    /// NaN.
    NotANumber,
    /// An infinite number.
    Infinite,
    /// A date.
    Date,
    /// A time of day.
    Time,
    /// A date and a time of day.
    Timestamp,
    /// A duration.
    Duration,
    /// A list.
    List,
    /// An object, a record or a map.
    Object,
    /// Another type that has no text form as identifier.
    Unsupported,
}

impl NonIdentifier {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Fraction,
        Self::Imprecise,
        Self::NegativeZero,
        Self::NotANumber,
        Self::Infinite,
        Self::Date,
        Self::Time,
        Self::Timestamp,
        Self::Duration,
        Self::List,
        Self::Object,
        Self::Unsupported,
    ];

    /// The stable code in rejects and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fraction => "fraction",
            Self::Imprecise => "imprecise_number",
            Self::NegativeZero => "negative_zero",
            Self::NotANumber => "not_a_number",
            Self::Infinite => "infinite_number",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::List => "list",
            Self::Object => "object",
            Self::Unsupported => "unsupported_type",
        }
    }

    /// Whether the row may contain a user that cannot be read. NaN, infinity and minus zero mean a missing value, in
    /// text as in typed columns.
    #[must_use]
    pub fn is_unreadable(self) -> bool {
        !matches!(self, Self::NegativeZero | Self::NotANumber | Self::Infinite)
    }
}

/// The wanted fields of one row, each looked up only when it is needed.
pub trait Fields {
    /// The field at this index among the wanted columns.
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
