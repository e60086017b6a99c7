//! [`BlockCode`]: the stable code of each violation of the guard.

use crate::model::stable_codes;

stable_codes! {
    /// The stable code of a violation of the guard. Scripts may rely on it; messages may change.
    BlockCode {
        /// Too large a share of the members would leave.
        RemovedShare = "removed_share",
        /// Too many users would enter, by their share of the members.
        AddedShare = "added_share",
        /// More members would leave than the config allows.
        RemovedCount = "removed_count",
        /// More users would enter than the config allows.
        AddedCount = "added_count",
        /// More members would leave than you allowed for this run.
        RemovedCeiling = "removed_ceiling",
        /// More users would enter than you allowed for this run.
        AddedCeiling = "added_ceiling",
        /// Most members would leave, most users of the source are new, and a limit blocks one side.
        Exchanged = "exchanged",
        /// The source has no members, and all recorded members would leave.
        Emptied = "emptied",
        /// The source is empty, and the cohort was never filled.
        EmptySource = "empty_source",
        /// All rows of the source are rejected.
        AllRejected = "all_rejected",
        /// A file of the source has no header row.
        NoHeader = "no_header",
        /// Rows could not be read.
        Unreadable = "unreadable",
        /// Identifiers end in `.0`.
        DecimalIds = "decimal_ids",
        /// Identifiers are numbers in exponent notation.
        ExponentIds = "exponent_ids",
        /// Nearly all rows repeat an identifier.
        Duplicates = "duplicates",
        /// The cohort is protected and would be emptied.
        Protected = "protected",
        /// Braze would truncate the array attribute.
        ArrayFull = "array_full",
        /// Another cohort in the workspace has the same name.
        NameTaken = "name_taken",
        /// The recorded members are in another workspace.
        WorkspaceChanged = "workspace_changed",
    }
}

impl BlockCode {
    /// Whether an approval of the plan lifts it.
    #[must_use]
    pub fn can_be_approved(self) -> bool {
        match self {
            Self::RemovedShare
            | Self::AddedShare
            | Self::RemovedCount
            | Self::AddedCount
            | Self::Exchanged
            | Self::Emptied
            | Self::EmptySource
            | Self::AllRejected
            | Self::Unreadable
            | Self::DecimalIds
            | Self::ExponentIds
            | Self::Duplicates => true,
            // An approved plan with the same changes would let a failed export empty the cohort.
            Self::NoHeader
            | Self::RemovedCeiling
            | Self::AddedCeiling
            | Self::Protected
            | Self::ArrayFull
            | Self::NameTaken
            | Self::WorkspaceChanged => false,
        }
    }
}
