//! A segment of Heap's, as rows: one for each person whom Heap has told of, with the one column `id`.

use super::DesiredError;
use crate::config::HeapSegmentSource;
use crate::connector::file::{ReadSummary, RowLocation, RowSink};
use crate::model::{Field, Fields, Identifier};
use crate::state::{SegmentTable, StateError, StateReader};

/// How many segments a message lists.
const LISTED_MAX: usize = 10;

/// What Heap has told of the segment.
pub(super) fn segment(source: &HeapSegmentSource, state: &StateReader) -> Result<SegmentTable, DesiredError> {
    let mut told = state.segments(&source.connection)?;
    match told.by_id.remove(&source.segment) {
        Some(segment) => Ok(segment),
        None => {
            let known = told.by_id.into_iter().map(|(id, segment)| (id, segment.name));
            Err(DesiredError::Untold { segment: source.segment, known: known.collect() })
        }
    }
}

/// The value of the one column, whichever is asked for: the config has seen to it that it is this one.
struct Id<'a>(&'a str);

impl Fields for Id<'_> {
    fn field(&self, _: usize) -> Field<'_> {
        Field::Text(self.0.as_bytes())
    }
}

/// Hands over everybody in the segment.
pub(super) fn read(
    source: &HeapSegmentSource,
    segment: &SegmentTable,
    state: &StateReader,
    sink: &mut impl RowSink,
) -> Result<ReadSummary, DesiredError> {
    let name = format!("segment {} of {}", source.segment, source.connection);
    let mut members = state.segment_members(&source.connection, segment)?;
    let mut rows = 0;
    while members.advance()?.is_some() {
        rows += 1;
        let packed = members.packed();
        let (person, _) = Identifier::unpack(packed)
            .map_err(|error| StateError::Scratch(std::io::Error::other(error.to_string())))?;
        sink.row(&Id(person.value), RowLocation { file: &name, line: rows })?;
    }
    Ok(ReadSummary { rows, ..ReadSummary::default() })
}

/// The segments that Heap has told of, for a message.
pub(super) fn others(known: &[(u64, String)]) -> String {
    if known.is_empty() {
        return String::new();
    }
    let listed: Vec<String> =
        known.iter().take(LISTED_MAX).map(|(id, name)| format!("{id} \"{name}\"")).collect();
    let more = if known.len() > LISTED_MAX { ", …" } else { "" };
    format!("; it has told of {}{more}", listed.join(", "))
}
