//! Sources that are imported as a whole: their tables as of the last import, and how far each source was read.

use std::sync::Arc;

use super::known::{KnownIdentity, MapKey};
use super::learn::IdentityMap;
use super::map_part::MapPart;
use super::source_state::{SourceBookmark, SourceName, SourceState, SourceTable};
use super::table::{FinishedTable, ReplayTable};
use crate::state::immutable_file::ImmutableFile;
use crate::state::{StateError, StateWriter};

impl IdentityMap {
    fn source(&self, name: &SourceName) -> Option<&SourceState> {
        self.sources.iter().find(|source| source.name == *name)
    }

    /// Returns the state that the map belongs to.
    #[must_use]
    pub fn state(&self) -> Arc<StateWriter> {
        Arc::clone(&self.state)
    }

    /// Returns how far a source was read. `None`: it was never imported.
    #[must_use]
    pub fn bookmark(&self, name: &SourceName) -> Option<&SourceBookmark> {
        self.source(name).map(|source| &source.bookmark)
    }

    /// Opens a table of a source, or an empty one, to replay dumps onto it. Changes take effect with
    /// [`IdentityMap::import`].
    ///
    /// # Errors
    /// When it cannot be read, or there is no room for temporary files.
    pub fn table(
        &self,
        name: &SourceName,
        which: SourceTable,
        is_anew: bool,
    ) -> Result<ReplayTable, StateError> {
        let opened = self.source(name).map_or_else(Vec::new, |source| match which {
            SourceTable::Users => source.users.clone(),
            SourceTable::Joins => source.joins.clone(),
        });
        ReplayTable::open(&self.state, &name.label, opened, is_anew)
    }

    /// Replaces the tables of a source and commits them together with how far it was read. Returns `false`, and changes
    /// nothing, if the tables have changed since they were opened.
    ///
    /// # Errors
    /// As [`IdentityMap::commit`].
    pub fn import(
        &mut self,
        name: &SourceName,
        bookmark: SourceBookmark,
        users: FinishedTable,
        joins: FinishedTable,
    ) -> Result<bool, StateError> {
        let known = self.sources.iter().position(|known| known.name == *name);
        let before = known.map(|at| &self.sources[at]);
        let (of_users, of_joins) = before.map_or_else(Default::default, |t| (&t.users[..], &t.joins[..]));
        if of_users != users.opened || of_joins != joins.opened {
            return Ok(false);
        }
        let source = SourceState { name: name.clone(), bookmark, users: users.files, joins: joins.files };
        match known {
            Some(at) => self.sources[at] = source,
            None => self.sources.push(source),
        }
        self.open_sources()?;
        self.count_update();
        self.write()?;
        self.put()?;
        Ok(true)
    }

    /// Opens the owner tables of all sources.
    pub(super) fn open_sources(&mut self) -> Result<(), StateError> {
        let store = &self.state.reader().store;
        let files = self.sources.iter().map(|source| &source.users);
        let open = |files: &Vec<ImmutableFile>| files.iter().map(|file| MapPart::open(store, file)).collect();
        self.users = files.map(open).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Looks up a key in the sources' tables.
    pub(super) fn in_sources(&self, key: MapKey) -> Result<Option<KnownIdentity>, StateError> {
        let mut best: Option<KnownIdentity> = None;
        for parts in &self.users {
            let mut found = None;
            for part in parts.iter().rev() {
                found = part.get(key)?;
                if found.is_some() {
                    break;
                }
            }
            let found = found.filter(|known| *known != KnownIdentity::Gone);
            best = match (found, best) {
                (Some(found), Some(best)) if !found.overrides(&best) => Some(best),
                (found, best) => found.or(best),
            };
        }
        Ok(best)
    }

    /// Removes all tables of a source. Returns whether it had any.
    ///
    /// # Errors
    /// As [`IdentityMap::commit`].
    pub fn remove_source(&mut self, name: &SourceName) -> Result<bool, StateError> {
        let before = self.sources.len();
        self.sources.retain(|source| source.name != *name);
        let is_known = self.sources.len() < before;
        if is_known {
            self.open_sources()?;
            self.write()?;
            self.put()?;
        }
        Ok(is_known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, Timestamp};
    use crate::state::{Holder, IdentityKey, Location, OwnerEvidence};

    const LABEL: &str = "heap_user_id";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn state(home: &tempfile::TempDir) -> Arc<StateWriter> {
        let holder = Holder { host: "h".to_owned(), process: 1, since: at(1), renewal: None };
        let location = Location::Folder(home.path().to_owned());
        Arc::new(StateWriter::open(&location, &holder, Clock::new(|| Timestamp::UNIX_EPOCH), 7).unwrap())
    }

    fn name() -> SourceName {
        SourceName { address: "a".to_owned(), label: LABEL.to_owned() }
    }

    fn owner(state: &StateWriter, name: &str) -> Option<String> {
        let owners = state.reader().owners().unwrap()?;
        let found = owners.answers().evidence(IdentityKey::Alias { label: LABEL, name }).unwrap();
        found.map(|evidence| match evidence {
            OwnerEvidence::Owner { owner, .. } => owner,
            OwnerEvidence::Gone => "gone".to_owned(),
        })
    }

    /// Imports a dump: rows with their owner, and merges.
    fn import_dump(
        state: &Arc<StateWriter>,
        dump: u64,
        is_full: bool,
        rows: &[(&str, &str)],
        joins: &[(&str, &str)],
    ) {
        let mut map = IdentityMap::open(state).unwrap();
        let mut users = map.table(&name(), SourceTable::Users, is_full).unwrap();
        for (id, owner) in rows {
            let owner = (!owner.is_empty()).then(|| (*owner, at(1_000)));
            users.link(id, owner).unwrap();
        }
        let mut table = map.table(&name(), SourceTable::Joins, true).unwrap();
        joins.iter().for_each(|(from, into)| table.join(from, into).unwrap());
        let bookmark = SourceBookmark { dump, from: 1, seen: vec![(1, 2)], ..SourceBookmark::default() };
        let (users, table) = (users.finish(state).unwrap(), table.finish(state).unwrap());
        assert!(map.import(&name(), bookmark, users, table).unwrap());
        assert_eq!(map.bookmark(&name()).unwrap().dump, dump);
    }

    #[test]
    fn rows_that_a_source_no_longer_has_are_removed() {
        let home = tempfile::tempdir().unwrap();
        let state = state(&home);
        let many: Vec<(String, String)> = (0..100).map(|n| (format!("m{n}"), format!("u{n}"))).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(id, owner)| (id.as_str(), owner.as_str())).collect();
        import_dump(
            &state,
            1,
            true,
            &[&many[..], &[("5", "u5"), ("6", "u6"), ("7", "u7")]].concat(),
            &[("4", "5")],
        );
        let shown =
            |ids: &[&str]| ids.iter().map(|id| owner(&state, id).unwrap_or_default()).collect::<Vec<_>>();
        assert_eq!(shown(&["4", "5", "6", "m99"]), ["u5", "u5", "u6", "u99"]);
        // A few rows become a small part beside the large one. A row without an owner removes the earlier one.
        import_dump(&state, 2, false, &[("5", "v5"), ("6", "")], &[("5", "7")]);
        assert_eq!(shown(&["4", "5", "6", "7", "m99"]), ["", "u7", "", "u7", "u99"]);
        import_dump(&state, 3, false, &[], &[]);
        assert_eq!(shown(&["4", "5", "6", "7"]), ["", "v5", "", "u7"]);
        let stats = state.reader().identity_stats().unwrap();
        assert_eq!((stats.sources[0].dump, stats.parts), (3, 2));
        import_dump(&state, 4, true, &[("5", "w5"), ("8", "u8")], &[("9", "8")]);
        assert_eq!(shown(&["5", "7", "8", "9", "m99"]), ["w5", "", "u8", "u8", ""]);
        let mut map = IdentityMap::open(&state).unwrap();
        // Single entries coexist with the source: the newest evidence wins.
        map.link(IdentityKey::Alias { label: LABEL, name: "5" }, "old", at(999)).unwrap();
        map.link(IdentityKey::Alias { label: LABEL, name: "8" }, "new", at(1_001)).unwrap();
        map.commit().unwrap();
        assert_eq!(shown(&["5", "8", "9"]), ["w5", "new", "new"]);
        assert_eq!(map.erase("u8").unwrap(), 2, "including the alias merged into it");
        assert_eq!(shown(&["5", "9"]), ["w5", ""]);
        assert!(map.remove_source(&name()).unwrap() && !map.remove_source(&name()).unwrap());
        assert_eq!(shown(&["5", "8"]), ["old", "new"]);
        assert_eq!(map.part_ids().len(), 1);
    }

    #[test]
    fn rows_spill_to_disk_and_a_list_of_remaining_rows_removes_the_others() {
        let home = tempfile::tempdir().unwrap();
        let state = state(&home);
        let mut map = IdentityMap::open(&state).unwrap();
        let mut users = map.table(&name(), SourceTable::Users, true).unwrap();
        let mut existing = map.table(&name(), SourceTable::Users, true).unwrap();
        for n in 0..310_000 {
            users.link(&n.to_string(), Some((&format!("u{}", n % 7), at(1)))).unwrap();
            if n % 2 == 0 {
                existing.mark_existing(&n.to_string()).unwrap();
            }
        }
        users.link("8", None).unwrap();
        users.keep_only(existing).unwrap();
        users.link("3", Some(("u3", at(2)))).unwrap();
        let joins = map.table(&name(), SourceTable::Joins, true).unwrap();
        let (users, joins) = (users.finish(&state).unwrap(), joins.finish(&state).unwrap());
        assert!(map.import(&name(), SourceBookmark::default(), users, joins).unwrap());
        let stats = state.reader().identity_stats().unwrap();
        assert_eq!((stats.entries, stats.parts), (155_000, 1));
        let shown = ["2", "3", "4", "5", "8", "309998"].map(|id| owner(&state, id));
        assert_eq!(shown.map(Option::unwrap_or_default), ["u2", "u3", "u4", "", "", "u3"]);
        // Tables that were opened before another import of the same source are not committed.
        let table =
            |map: &IdentityMap, which| map.table(&name(), which, true).unwrap().finish(&state).unwrap();
        let (users, joins) = (table(&map, SourceTable::Users), table(&map, SourceTable::Joins));
        let (mut other, bookmark) = (table(&map, SourceTable::Users), SourceBookmark::default);
        other.files = users.opened.iter().take(0).cloned().collect();
        assert!(map.import(&name(), bookmark(), other, table(&map, SourceTable::Joins)).unwrap());
        assert!(!map.import(&name(), bookmark(), users, joins).unwrap());
    }
}
