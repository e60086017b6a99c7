//! What a person has allowed a run to do to a cohort.

use super::Percentage;

/// The limits that the guard holds a plan to, as the config states them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardLimits {
    /// Largest share of the members that one run may remove.
    pub removed_share_max: Percentage,
    /// Largest share of the members that one run may add.
    pub added_share_max: Percentage,
    /// Largest number of members that one run may remove, if limited.
    pub removed_max: Option<u64>,
    /// Largest number of members that one run may add, if limited.
    pub added_max: Option<u64>,
    /// Rows that may be unreadable before removals are withheld: an unreadable row may be a member.
    pub unreadable_max: u64,
    /// An empty source may empty the cohort.
    pub allow_empty: bool,
    /// A refusal of one side stops the other side too.
    pub atomic: bool,
    /// More than half of the identifiers may end in `.0`.
    pub allow_decimal_ids: bool,
    /// Identifiers may be numbers in exponent notation.
    pub allow_exponent_ids: bool,
    /// More than 90% of the rows may repeat an identifier.
    pub allow_duplicates: bool,
    /// Shares count only from this many members up: two of three is no catastrophe.
    pub from_members: u64,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self {
            removed_share_max: Percentage::from_percent(30),
            added_share_max: Percentage::from_percent(500),
            removed_max: None,
            added_max: None,
            unreadable_max: 0,
            allow_empty: false,
            atomic: false,
            allow_decimal_ids: false,
            allow_exponent_ids: false,
            allow_duplicates: false,
            from_members: 10,
        }
    }
}

/// What a person has allowed for this one run: ceilings, not switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// At most this many members may be removed, whatever the config's limits say.
    pub removes: Option<u64>,
    /// At most this many members may be added, whatever the config's limits say.
    pub adds: Option<u64>,
}
