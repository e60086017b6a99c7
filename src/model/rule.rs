//! A match rule: which column of a source row names a person, and as what.

use super::IdentifierKind;

/// One rule. A cohort's rules run in order; the first whose column is not empty decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatchRule {
    /// How Braze will know the person.
    pub kind: IdentifierKind,
    /// The alias label; empty for the other kinds.
    pub label: Box<str>,
    /// The column of the source that holds the value.
    pub column: Box<str>,
}
