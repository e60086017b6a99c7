//! The kinds of sources. A new kind is one line here; ARCHITECTURE.md lists the other files.

use super::DesiredError;
use super::reader::{ReadAccess, SourceCheck, SourceFingerprint, SourceInputs, SourceReader, SourceRows};
use crate::config::SourceConfig;
use crate::connector::rows::RowSink;

/// Calls the reader of a source's kind.
macro_rules! dispatch {
    ($source:expr, $reader:ident => $call:expr) => {
        match $source {
            SourceConfig::File($reader) => $call,
            SourceConfig::HeapSegment($reader) => $call,
            SourceConfig::Sql($reader) => $call,
            SourceConfig::HeapConnect($reader) => $call,
            SourceConfig::DumpQuery($reader) => $call,
        }
    };
}

impl SourceReader for SourceConfig {
    fn fingerprint(&self, inputs: SourceInputs<'_>) -> Result<Option<SourceFingerprint>, DesiredError> {
        dispatch!(self, reader => reader.fingerprint(inputs))
    }

    fn read(
        &self,
        inputs: SourceInputs<'_>,
        columns: &[Box<str>],
        sink: &mut impl RowSink,
    ) -> Result<SourceRows, DesiredError> {
        dispatch!(self, reader => reader.read(inputs, columns, sink))
    }

    fn check(
        &self,
        access: ReadAccess<'_>,
        columns: &[Box<str>],
    ) -> Result<Option<SourceCheck>, DesiredError> {
        dispatch!(self, reader => reader.check(access, columns))
    }
}
