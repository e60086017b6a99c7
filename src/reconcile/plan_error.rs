//! Why a cohort cannot be planned, and who can fix it.

use std::io::ErrorKind;

use crate::config::CohortConfig;
use crate::connector::file::FileError;
use crate::connector::heap_connect::DumpError;
use crate::connector::sql::SqlErrorKind;
use crate::contained::Panicked;
use crate::model::ConnectionName;
use crate::source::DesiredError;
use crate::state::StateError;

/// Why a cohort cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Its source cannot be read in full.
    #[error(transparent)]
    Desired(#[from] DesiredError),
    /// Its recorded membership cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The key fingerprints of its workspace cannot be read, so its keys cannot be checked.
    #[error("{1}")]
    Workspace(ConnectionName, #[source] StateError),
    /// The members are not sorted.
    #[error("the {0} is not sorted; its data is damaged")]
    Order(&'static str),
    /// It could not be planned when the plan was saved.
    #[error("it could not be planned when the plan was made: {0}")]
    Saved(String),
    /// A bug stopped the planning.
    #[error(transparent)]
    Internal(#[from] Panicked),
    /// Its members are in a connection that the config no longer has.
    #[error("its members are in connection `{0}`, which the config does not have")]
    NoConnection(String),
}

/// The kind of a planning error, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailedKind {
    /// A database or a store rejects the credentials.
    Credentials,
    /// A database or a store cannot be reached.
    Unavailable,
    /// Any other error.
    Other,
    /// A bug of this program.
    Internal,
}

impl PlanError {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> FailedKind {
        match self {
            Self::Desired(error) => kind_of_source(error),
            Self::Internal(_) => FailedKind::Internal,
            Self::State(_)
            | Self::Workspace(..)
            | Self::Order(_)
            | Self::Saved(_)
            | Self::NoConnection(_) => FailedKind::Other,
        }
    }

    /// File and line of the key of the cohort that the error is about.
    pub(super) fn line_in<'c>(&self, cohort: &'c CohortConfig) -> &'c str {
        const FILES: [&str; 4] = ["source.path", "source.url", "source.connection", "source"];
        const QUERY: [&str; 3] = ["source.query", "source.query_file", "source.table"];
        let column = |column: &str| cohort.line_of(&[&format!("match.{column}")]);
        let Self::Desired(error) = self else { return &cohort.declared_at };
        match error {
            DesiredError::File(error) | DesiredError::Dump(DumpError::File(error)) => match error {
                FileError::MissingColumn { column: name, .. }
                | FileError::NoHeader { column: name, .. }
                | FileError::DuplicateColumn { column: name, .. } => column(name),
                _ => cohort.line_of(&FILES),
            },
            DesiredError::Dump(DumpError::NoColumn { column: name, .. }) => column(name),
            DesiredError::Dump(DumpError::NoTable { .. } | DumpError::NoBeginning { .. }) => {
                cohort.line_of(&["source.table", "source.tables", "source"])
            }
            DesiredError::Dump(_) => cohort.line_of(&FILES),
            DesiredError::Sql(error) => match &error.kind {
                SqlErrorKind::MissingColumn { column: name, .. } | SqlErrorKind::DuplicateColumn(name) => {
                    column(name)
                }
                SqlErrorKind::Query
                | SqlErrorKind::Writes
                | SqlErrorKind::Timeout
                | SqlErrorKind::TypeGuess(_) => cohort.line_of(&QUERY),
                _ => cohort.line_of(&["source.connection", "source"]),
            },
            DesiredError::SegmentNotReceived { .. } => cohort.line_of(&["source.segment_id"]),
            DesiredError::Stopped | DesiredError::Scratch(_) | DesiredError::State(_) => &cohort.declared_at,
        }
    }

    /// Whether an operator must act, because a retry alone does not help.
    #[must_use]
    pub fn needs_operator(&self) -> bool {
        let is_temporary = match self {
            Self::Desired(DesiredError::Stopped | DesiredError::SegmentNotReceived { .. }) => true,
            Self::Desired(DesiredError::File(error) | DesiredError::Dump(DumpError::File(error))) => {
                error.is_change()
            }
            Self::Desired(DesiredError::State(error)) | Self::State(error) | Self::Workspace(_, error) => {
                error.is_transient()
            }
            _ => false,
        };
        !is_temporary && self.kind() != FailedKind::Unavailable
    }

    /// Whether the cohort only waits for the first delivery of its source.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::Desired(DesiredError::SegmentNotReceived { .. }))
    }
}

/// The kind of an error of a source.
fn kind_of_source(error: &DesiredError) -> FailedKind {
    match error {
        DesiredError::File(error) => kind_of_store(error.remote_kind()),
        DesiredError::Dump(error) => kind_of_store(error.remote_kind()),
        DesiredError::Sql(error) => kind_of_database(&error.kind),
        DesiredError::Stopped
        | DesiredError::Scratch(_)
        | DesiredError::State(_)
        | DesiredError::SegmentNotReceived { .. } => FailedKind::Other,
    }
}

fn kind_of_database(kind: &SqlErrorKind) -> FailedKind {
    match kind {
        SqlErrorKind::Credentials | SqlErrorKind::Permission | SqlErrorKind::RowSecurity => {
            FailedKind::Credentials
        }
        SqlErrorKind::Unreachable | SqlErrorKind::Busy | SqlErrorKind::Broken | SqlErrorKind::Timeout => {
            FailedKind::Unavailable
        }
        SqlErrorKind::Certificate
        | SqlErrorKind::Query
        | SqlErrorKind::TypeGuess(_)
        | SqlErrorKind::Writes
        | SqlErrorKind::TempTable(_)
        | SqlErrorKind::Driver
        | SqlErrorKind::MissingColumn { .. }
        | SqlErrorKind::DuplicateColumn(_)
        | SqlErrorKind::Stopped
        | SqlErrorKind::Local => FailedKind::Other,
    }
}

/// The kind of a store's error.
fn kind_of_store(kind: Option<ErrorKind>) -> FailedKind {
    match kind {
        Some(ErrorKind::PermissionDenied) => FailedKind::Credentials,
        Some(ErrorKind::Other) => FailedKind::Unavailable,
        _ => FailedKind::Other,
    }
}
