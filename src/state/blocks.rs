//! What the guard blocks in a cohort, and since when.
//!
//! ```text
//! blocks/<cohort>/000000000001.json   versioned JSON
//! ```
//!
//! It is information for reports: the guard decides anew in each run and does not read it.

use serde::{Deserialize, Serialize};

use super::checks::CheckTime;
use super::store::Store;
use super::versioned_json::{Retention, Versions};
use super::{StateError, StateReader, StateWriter, entry};
use crate::model::CohortId;

/// What the guard blocks in a cohort. The default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedBlock {
    /// The first of the consecutive runs that were blocked.
    pub since: Option<BlockStart>,
    /// Additions are blocked.
    pub adds: bool,
    /// Removals are blocked.
    pub removes: bool,
}

/// The start of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockStart {
    /// The run.
    pub run: String,
    /// The time.
    pub at: CheckTime,
}

fn versions<'a>(store: &'a Store, cohort: &CohortId) -> Versions<'a> {
    entry::versions(store, &format!("blocks/{cohort}"))
}

fn newest(store: &Store, cohort: &CohortId) -> Result<Option<(u64, RecordedBlock)>, StateError> {
    versions(store, cohort).newest(|block, _| Some(block))
}

impl StateReader {
    /// Returns what the last run with this cohort has blocked.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn block(&self, cohort: &CohortId) -> Result<RecordedBlock, StateError> {
        Ok(newest(&self.store, cohort)?.map(|(_, block)| block).unwrap_or_default())
    }
}

impl StateWriter {
    /// Records what a run blocks in a cohort. A block that continues keeps its start, and nothing is written if nothing
    /// has changed.
    ///
    /// # Errors
    /// When the state cannot be read or written, or another process may be writing.
    pub fn put_block(&self, cohort: &CohortId, block: RecordedBlock) -> Result<(), StateError> {
        let store = &self.reader().store;
        let found = match newest(store, cohort) {
            // A damaged file is replaced: only the start of the block is lost.
            Err(StateError::Damaged { .. }) => Some((versions(store, cohort).newest_number()?, None)),
            found => found?.map(|(number, block)| (number, Some(block))),
        };
        let (number, before) = found.unwrap_or((0, Some(RecordedBlock::default())));
        let started = before.as_ref().and_then(|before| before.since.clone());
        let block = RecordedBlock { since: block.since.map(|start| started.unwrap_or(start)), ..block };
        if before.as_ref() == Some(&block) {
            return Ok(());
        }
        self.check_lease()?;
        match versions(store, cohort).put(number + 1, &block, Retention::Newest(2))? {
            true => Ok(()),
            false => Err(StateError::LeaseLost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, Timestamp};
    use crate::state::{Holder, Location};

    #[test]
    fn a_block_keeps_its_start_until_nothing_is_blocked() {
        let home = tempfile::tempdir().unwrap();
        let since = Timestamp::UNIX_EPOCH;
        let holder = Holder { host: String::new(), process: 1, since, renewal: None };
        let location = Location::Folder(home.path().to_owned());
        let state = StateWriter::open(&location, &holder, Clock::new(|| Timestamp::UNIX_EPOCH), 7).unwrap();
        let cohort = CohortId::new("carts").unwrap();
        let files = || std::fs::read_dir(home.path().join("blocks/carts")).map_or(0, Iterator::count);
        let put = |run: &str, adds: bool, removes: bool| {
            let start = BlockStart { run: run.to_owned(), at: CheckTime(since) };
            let block = RecordedBlock { since: (adds || removes).then_some(start), adds, removes };
            state.put_block(&cohort, block).unwrap();
            let block = state.reader().block(&cohort).unwrap();
            assert_eq!((block.adds, block.removes), (adds, removes));
            block.since.map(|start| start.run)
        };
        assert_eq!((put("a", false, false), files()), (None, 0), "nothing is written");
        assert_eq!(put("b", false, true).as_deref(), Some("b"));
        assert_eq!((put("c", false, true).as_deref(), files()), (Some("b"), 1));
        assert_eq!((put("d", true, true).as_deref(), files()), (Some("b"), 2));
        assert_eq!(put("e", false, false), None);
        assert_eq!(put("f", true, false).as_deref(), Some("f"));
        let newest = home.path().join("blocks/carts/000000000004.json");
        std::io::Write::write_all(&mut std::fs::File::create(newest).unwrap(), b"{").unwrap();
        assert!(state.reader().block(&cohort).is_err(), "a damaged block is not the absence of one");
        assert_eq!(put("g", false, false), None, "and is replaced");
    }
}
