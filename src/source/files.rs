//! Source kind: files, local, in a bucket or on a web server.

use super::DesiredError;
use super::reader::{ReadAccess, SourceCheck, SourceFingerprint, SourceInputs, SourceReader, SourceRows};
use crate::config::FileSource;
use crate::connector::file::{self, FileError};
use crate::connector::rows::{RowLocation, RowSink, SinkStopped, UnreadableRow};
use crate::model::Fields;

impl SourceReader for FileSource {
    fn fingerprint(&self, inputs: SourceInputs<'_>) -> Result<Option<SourceFingerprint>, DesiredError> {
        Ok(Some(SourceFingerprint::Files(file::fingerprint(self, inputs.access.files())?)))
    }

    fn read(
        &self,
        inputs: SourceInputs<'_>,
        columns: &[Box<str>],
        sink: &mut impl RowSink,
    ) -> Result<SourceRows, DesiredError> {
        let (summary, fingerprint) = file::read(self, inputs.access.files(), columns, sink)?;
        Ok(SourceRows { summary, fingerprint: Some(SourceFingerprint::Files(fingerprint)) })
    }

    fn check(
        &self,
        access: ReadAccess<'_>,
        columns: &[Box<str>],
    ) -> Result<Option<SourceCheck>, DesiredError> {
        match file::read(self, access.files(), columns, &mut StopAtFirstRow) {
            Ok(_) | Err(FileError::Stopped) => {}
            Err(error) => return Err(error.into()),
        }
        let summary = format!("{} can be read and has the columns", self.pattern);
        Ok(Some(SourceCheck { subject: "source", summary }))
    }
}

/// Ends the read at the first row: the header has been checked by then.
struct StopAtFirstRow;

impl RowSink for StopAtFirstRow {
    fn row(&mut self, _: &impl Fields, _: RowLocation<'_>) -> Result<(), SinkStopped> {
        Err(SinkStopped)
    }

    fn unreadable(&mut self, _: UnreadableRow<'_>) -> Result<(), SinkStopped> {
        Err(SinkStopped)
    }
}
