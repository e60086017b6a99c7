//! A match rule: the column of a source row with an identifier, and its kind.

use super::IdentifierKind;

/// One rule. The first rule of a cohort with a non-empty column decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatchRule {
    /// The kind of identifier.
    pub kind: IdentifierKind,
    /// The alias label; empty for the other kinds.
    pub label: Box<str>,
    /// The column of the source that holds the value.
    pub column: Box<str>,
}
