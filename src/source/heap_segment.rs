//! Source kind: a Heap segment that arrives by webhook. Each member is a row with the single column `id`.

use super::DesiredError;
use super::reader::{SourceFingerprint, SourceInputs, SourceReader, SourceRows};
use crate::config::HeapSegmentSource;
use crate::connector::rows::{ReadSummary, RowLocation, RowSink};
use crate::model::{Field, Fields, Identifier};
use crate::state::{SegmentTable, StateError, StateReader};

impl SourceReader for HeapSegmentSource {
    fn fingerprint(&self, inputs: SourceInputs<'_>) -> Result<Option<SourceFingerprint>, DesiredError> {
        Ok(Some(SourceFingerprint::Version(find(self, inputs.state)?.fingerprint())))
    }

    fn read(
        &self,
        inputs: SourceInputs<'_>,
        _: &[Box<str>],
        sink: &mut impl RowSink,
    ) -> Result<SourceRows, DesiredError> {
        let segment = find(self, inputs.state)?;
        let name = format!("segment {} of {}", self.segment, self.connection);
        let mut members = inputs.state.segment_members(&self.connection, &segment)?;
        let mut rows = 0;
        while members.advance()?.is_some() {
            rows += 1;
            let (member, _) = Identifier::unpack(members.packed())
                .map_err(|error| StateError::TemporaryFile(std::io::Error::other(error.to_string())))?;
            let location = RowLocation { file: &name, line: rows };
            sink.row(&IdColumn(member.value), location)?;
        }
        Ok(SourceRows {
            summary: ReadSummary { rows, ..ReadSummary::default() },
            fingerprint: Some(SourceFingerprint::Version(segment.fingerprint())),
        })
    }
}

/// The segment's table in the state.
fn find(source: &HeapSegmentSource, state: &StateReader) -> Result<SegmentTable, DesiredError> {
    let mut segments = state.segments(&source.connection)?;
    segments.by_id.remove(&source.segment).ok_or_else(|| {
        let received = segments.by_id.into_iter().map(|(id, segment)| (id, segment.name));
        DesiredError::SegmentNotReceived { segment: source.segment, received: received.collect() }
    })
}

/// The value of the column `id`. The config allows no other column.
struct IdColumn<'a>(&'a str);

impl Fields for IdColumn<'_> {
    fn field(&self, _: usize) -> Field<'_> {
        Field::Text(self.0.as_bytes())
    }
}
