//! Rows that name nobody: counted by reason, a few shown, all of them kept for the state's reject log.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use crate::connector::file::{REPEATED_HEADER, ReadSummary, RowLocation};
use crate::matching::Unmatched;
use crate::model::{IdShapes, MatchTally};
use crate::state::{Reject, RejectLog, SpoolFile, StateError};

const SAMPLE_LEN: usize = 3;
/// Longest value that a reject repeats, in characters.
const VALUE_LEN_MAX: usize = 200;

/// Rejects of one source.
#[derive(Debug, Default)]
pub struct RowRejects {
    counts: BTreeMap<&'static str, u64>,
    unreadable: u64,
    samples: Vec<String>,
    /// What the identifiers of the other rows look like.
    pub(super) shapes: IdShapes,
    lines: SpoolFile,
}

impl RowRejects {
    /// The numbers of the whole source.
    #[must_use]
    pub fn matched(&self, reading: &ReadSummary, duplicates: u64, moved: u64) -> MatchTally {
        MatchTally {
            rows: reading.rows,
            files: reading.files,
            skipped_files: reading.skipped,
            duplicates,
            moved,
            ambiguous: 0,
            shapes: self.shapes,
            case_colliding: None,
            unreadable: self.unreadable,
            rejects: self.counts.iter().map(|(reason, number)| ((*reason).to_owned(), *number)).collect(),
            samples: self.samples.clone(),
        }
    }

    /// How many rows there were.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn unreadable(
        &mut self,
        reason: &'static str,
        detail: &str,
        place: RowLocation<'_>,
    ) -> io::Result<()> {
        self.unreadable += u64::from(reason != REPEATED_HEADER);
        let reject =
            Reject { reason, detail, file: Some(place.file), line: Some(place.line), ..Reject::default() };
        self.keep(reason, &reject, detail)
    }

    pub(super) fn unmatched(&mut self, unmatched: &Unmatched<'_>, place: RowLocation<'_>) -> io::Result<()> {
        let reason = unmatched.reason.as_str();
        self.unreadable += u64::from(unmatched.reason.is_unreadable());
        let value: String = String::from_utf8_lossy(unmatched.value).chars().take(VALUE_LEN_MAX).collect();
        let (file, line, column) = (Some(place.file), Some(place.line), unmatched.column);
        let reject = Reject { reason, file, line, column, value: &value, ..Reject::default() };
        self.keep(reason, &reject, column)
    }

    fn keep(&mut self, reason: &'static str, reject: &Reject<'_>, about: &str) -> io::Result<()> {
        *self.counts.entry(reason).or_default() += 1;
        if self.samples.len() < SAMPLE_LEN {
            let place = format!("{}:{}", reject.file.unwrap_or_default(), reject.line.unwrap_or_default());
            let about = if about.is_empty() { String::new() } else { format!(" ({about})") };
            self.samples.push(format!("{place}: {reason}{about}"));
        }
        self.lines.write_all(&reject.line())
    }

    /// Copies every reject into the state's log.
    ///
    /// # Errors
    /// When either disk fails.
    pub fn copy_to(&mut self, log: &mut RejectLog) -> Result<(), StateError> {
        self.lines.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.lines.read(&mut buffer)? {
                0 => return Ok(()),
                len => log.push(&buffer[..len])?,
            }
        }
    }
}
