//! Re-keys: a member that was sent by a device or an alias is now addressed by the external id of its owner.

mod followups;
mod rekeyed;
mod spool_cursor;

pub(super) use followups::{RekeyFollowups, plan_followups};
pub(super) use rekeyed::RekeyedMembers;
pub(super) use spool_cursor::SpoolCursor;
