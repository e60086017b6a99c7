//! People of one side of one sync, gathered and sorted: what becomes a run. It knows nothing of segments.

use crate::model::{ConnectionName, EXTERNAL_ID_LEN_MAX, Identifier, Key, Kind, Op};
use crate::state::{RunRef, StateError, StateWriter, told};

/// Why somebody cannot be kept, as a stable word.
pub(super) type Reason = &'static str;

/// People in any order, each perhaps more than once.
#[derive(Debug, Default)]
pub(super) struct People {
    packed: Vec<u8>,
    ends: Vec<usize>,
}

impl People {
    /// Adds somebody by the value that Heap was told to send: it is kept as it is, and matched later.
    pub(super) fn push(&mut self, value: &str) -> Result<(), Reason> {
        match value.trim().len() {
            0 => return Err("no_identifier"),
            len if len > EXTERNAL_ID_LEN_MAX => return Err("too_long"),
            _ => {}
        }
        Identifier { kind: Kind::ExternalId, label: "", value: value.trim() }.pack_into(&mut self.packed);
        self.ends.push(self.packed.len());
        Ok(())
    }

    /// Writes them as a run, in the order of their keys and each once. None: there is nobody.
    pub(super) fn write(
        &self,
        state: &StateWriter,
        heap: &ConnectionName,
        op: Op,
    ) -> Result<Option<RunRef>, StateError> {
        let seed = state.reader().seed();
        let mut members: Vec<(Key, &[u8])> =
            self.each().map(|packed| (Key::of(seed, packed), packed)).collect();
        members.sort_unstable();
        members.dedup();
        if members.is_empty() {
            return Ok(None);
        }
        let mut run = state.segment_run(heap, op)?;
        members.iter().try_for_each(|(_, packed)| run.push(packed))?;
        run.finish().map(|run| Some(told(run)))
    }

    fn each(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.packed[start..*end])
    }
}
