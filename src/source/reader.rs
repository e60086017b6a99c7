//! [`SourceReader`]: the interface of a source kind, with its inputs and results.

use xxhash_rust::xxh3::xxh3_128;

use super::DesiredError;
use crate::config::{Config, SourceAccess};
use crate::connector::file::{FileAccess, FileFingerprint};
use crate::connector::rows::{ReadSummary, RowSink};
use crate::model::Timestamp;
use crate::state::StateReader;

/// A kind of source. To add a kind, implement this trait for its config type;
/// ARCHITECTURE.md lists the other files.
///
/// `read` is generic, so the compiler resolves the call for every row.
pub trait SourceReader {
    /// The fingerprint of the current content; none if only a read can show a change.
    ///
    /// # Errors
    /// As for a read.
    fn fingerprint(&self, _inputs: SourceInputs<'_>) -> Result<Option<SourceFingerprint>, DesiredError> {
        Ok(None)
    }

    /// Pushes the given columns of every row into `sink`.
    ///
    /// # Errors
    /// [`DesiredError`] when the source cannot be read in full. Discard the rows then.
    fn read(
        &self,
        inputs: SourceInputs<'_>,
        columns: &[Box<str>],
        sink: &mut impl RowSink,
    ) -> Result<SourceRows, DesiredError>;

    /// Checks that the source can be read and has the given columns, for `doctor`. Reads no data row. None if there is
    /// nothing to check.
    ///
    /// # Errors
    /// [`DesiredError`] when a read would fail.
    fn check(
        &self,
        _access: ReadAccess<'_>,
        _columns: &[Box<str>],
    ) -> Result<Option<SourceCheck>, DesiredError> {
        Ok(None)
    }
}

/// The config and the credentials that a source is read with.
#[derive(Clone, Copy)]
pub struct ReadAccess<'a> {
    /// The config.
    pub config: &'a Config,
    /// Credentials of databases and object stores.
    pub secrets: &'a SourceAccess,
}

impl<'a> ReadAccess<'a> {
    pub(super) fn files(self) -> FileAccess<'a> {
        FileAccess { folder: &self.config.folder, roots: &self.config.roots, stores: &self.secrets.stores }
    }
}

/// Inputs of a read.
#[derive(Clone, Copy)]
pub struct SourceInputs<'a> {
    /// The config and the credentials.
    pub access: ReadAccess<'a>,
    /// The state, which holds Heap's segments and the identity map.
    pub state: &'a StateReader,
    /// The current time, for rows that expire.
    pub now: Timestamp,
}

/// Result of a read.
#[derive(Debug)]
pub struct SourceRows {
    /// Files and rows.
    pub summary: ReadSummary,
    /// The fingerprint of the content that was read; none if the source has no fingerprint.
    pub fingerprint: Option<SourceFingerprint>,
}

/// Result of a successful check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceCheck {
    /// The subject of the finding, such as `query`.
    pub subject: &'static str,
    /// The finding in words.
    pub summary: String,
}

/// A value that changes whenever the content of a source changes. Computed without a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceFingerprint {
    /// Names, lengths and times of files.
    Files(FileFingerprint),
    /// Versions of immutable data: of a segment table or of Heap Connect's dumps.
    Version(String),
}

impl SourceFingerprint {
    /// The fingerprint as the state stores it. None while files are too recent for their times to show a change.
    /// `rules` is the config that gives the rows their meaning.
    #[must_use]
    pub fn text(&self, rules: &str, now: Timestamp) -> Option<String> {
        match self {
            Self::Files(files) => files.text(rules, now),
            Self::Version(version) => {
                let [version, rules] = [version, rules].map(|text| xxh3_128(text.as_bytes()));
                Some(format!("{version:032x}{rules:032x}"))
            }
        }
    }
}
