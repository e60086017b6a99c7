//! Guard limits and per-run ceilings.

use super::Percentage;

/// The limits of the guard, as the config declares them.
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
    /// How many rows may be unreadable before removals are blocked: an unreadable row may be a member.
    pub unreadable_max: u64,
    /// An empty source may empty the cohort.
    pub allow_empty: bool,
    /// A block of one side also blocks the other.
    pub atomic: bool,
    /// More than half of the identifiers may end in `.0`.
    pub allow_decimal_ids: bool,
    /// Identifiers may be numbers in exponent notation.
    pub allow_exponent_ids: bool,
    /// More than 90% of the rows may repeat an identifier.
    pub allow_duplicates: bool,
    /// Minimum number of members for share limits: two of three members are no mass removal.
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

/// Ceilings that an operator allows for one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// At most this many members may be removed, regardless of the limits in the config.
    pub removes: Option<u64>,
    /// At most this many members may be added, regardless of the limits in the config.
    pub adds: Option<u64>,
}
