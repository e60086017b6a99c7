//! The types between pushdown and its callers.

use crate::connector::rows::RowSink;
use crate::model::{ChangeOp, DeliveryMethod, MatchRule};

/// Receives the differences.
pub trait Differences {
    /// Receives the rows that the database cannot match.
    fn rows(&mut self) -> &mut impl RowSink;

    /// Receives a member in its text form: in the source but not in the mirror table, or the reverse.
    ///
    /// # Errors
    /// Returns `false` to end the read.
    fn differs(&mut self, op: ChangeOp, member: &str) -> bool;
}

/// The rules that match rows to members.
#[derive(Clone, Copy, Debug)]
pub struct MemberRules<'a> {
    /// The rules, in order.
    pub rules: &'a [MatchRule],
    /// The columns of the rules.
    pub columns: &'a [Box<str>],
    /// The delivery of the cohort.
    pub delivery: &'a DeliveryMethod,
    /// Whether a device or an alias may be re-keyed to its owner.
    pub may_rekey: bool,
}

/// The user's rights in the schema for mirror tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The server's description, if it is not supported.
    pub unfit: Option<String>,
    /// The schema exists.
    pub exists: bool,
    /// The user may create schemas.
    pub may_make: bool,
    /// The user may use the schema.
    pub may_use: bool,
    /// The user may create tables in it.
    pub may_create: bool,
    /// The user may create temporary tables.
    pub may_make_temporary: bool,
}
