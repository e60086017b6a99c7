//! Rejected rows of a source: counted by reason, with a few samples; all are written to the reject log of the state.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use super::matching::Unmatched;
use crate::connector::file::REPEATED_HEADER;
use crate::connector::rows::{ReadSummary, RowLocation, UnreadableRow};
use crate::model::{IdShapes, MatchTally, reason_words};
use crate::state::{Reject, RejectLog, SpoolFile, StateError};

const SAMPLE_LEN: usize = 3;
/// Longest value that a reject quotes, in characters.
const VALUE_LEN_MAX: usize = 200;

/// Rejected rows of one source.
#[derive(Debug, Default)]
pub struct RowRejects {
    counts: BTreeMap<&'static str, u64>,
    unreadable: u64,
    samples: Vec<String>,
    /// Shapes of the identifiers of the matched rows.
    pub(super) shapes: IdShapes,
    spool: SpoolFile,
}

impl RowRejects {
    /// The counts of the whole source, without re-keys.
    pub(super) fn tally(&self, summary: &ReadSummary, duplicates: u64) -> MatchTally {
        MatchTally {
            rows: summary.rows,
            files: summary.files,
            skipped_files: summary.skipped_files,
            duplicates,
            rekeyed: 0,
            ambiguous: 0,
            shapes: self.shapes,
            case_colliding: None,
            unreadable: self.unreadable,
            rejects: self.counts.iter().map(|(reason, number)| ((*reason).to_owned(), *number)).collect(),
            samples: self.samples.clone(),
        }
    }

    /// Number of rejected rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn unreadable(&mut self, row: UnreadableRow<'_>) -> io::Result<()> {
        let UnreadableRow { reason, detail, location } = row;
        self.unreadable += u64::from(reason != REPEATED_HEADER);
        let reject = Reject {
            reason,
            detail,
            file: Some(location.file),
            line: Some(location.line),
            ..Reject::default()
        };
        self.add(reason, &reject, detail)
    }

    pub(super) fn unmatched(
        &mut self,
        unmatched: &Unmatched<'_>,
        location: RowLocation<'_>,
    ) -> io::Result<()> {
        let reason = unmatched.reason.as_str();
        self.unreadable += u64::from(unmatched.reason.is_unreadable());
        let value: String = String::from_utf8_lossy(unmatched.value).chars().take(VALUE_LEN_MAX).collect();
        let (file, line, column) = (Some(location.file), Some(location.line), unmatched.column);
        let reject = Reject { reason, file, line, column, value: &value, ..Reject::default() };
        self.add(reason, &reject, column)
    }

    fn add(&mut self, reason: &'static str, reject: &Reject<'_>, about: &str) -> io::Result<()> {
        *self.counts.entry(reason).or_default() += 1;
        if self.samples.len() < SAMPLE_LEN {
            let position = format!("{}:{}", reject.file.unwrap_or_default(), reject.line.unwrap_or_default());
            let about = if about.is_empty() { String::new() } else { format!(" ({about})") };
            self.samples.push(format!("{position}: {}{about}", reason_words(reason, 1)));
        }
        self.spool.write_all(&reject.line())
    }

    /// Copies all rejects to the reject log of the state.
    ///
    /// # Errors
    /// When the spool or the log fails.
    pub fn copy_to(&mut self, log: &mut RejectLog) -> Result<(), StateError> {
        self.spool.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.spool.read(&mut buffer)? {
                0 => return Ok(()),
                len => log.push(&buffer[..len])?,
            }
        }
    }
}
