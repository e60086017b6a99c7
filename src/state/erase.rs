//! Erasure of one user from the identity map, held events, inboxes and rejects. Files are rewritten without the user;
//! superseded files are removed immediately instead of after an hour.

use super::entry_files::EntryFiles;
use super::inbox::ClosedFile;
use super::store::TEMPORARY;
use super::{DeliveryContents, ExportProgress, IdentityMap, StateError, StateWriter};
use crate::model::{ExportId, Timestamp};
use crate::random;

impl StateWriter {
    /// Erases an id from the identity map and removes superseded files. Returns how many entries were erased.
    ///
    /// # Errors
    /// When the map cannot be read or written.
    pub fn erase_identity(&self, map: &mut IdentityMap, id: &str) -> Result<u64, StateError> {
        let erased = map.erase(id)?;
        self.remove_parts_but(&EntryFiles::of_identity(self.reader()), &map.part_ids())?;
        Ok(erased)
    }

    /// Removes superseded files of the identity map. The open map must be committed, and must stay the newest until
    /// this returns.
    ///
    /// # Errors
    /// When it cannot be read, or a file cannot be removed.
    pub fn tidy_identity(&self, _: &IdentityMap, now: Timestamp) -> Result<(), StateError> {
        self.remove(&super::gc::of(&EntryFiles::of_identity(self.reader()), now)?)
    }

    /// Removes parts that a crash left or a newer version replaced: they may contain the user. Returns their paths.
    pub(super) fn remove_parts_but(
        &self,
        entry: &EntryFiles<'_>,
        kept: &[Box<str>],
    ) -> Result<Vec<String>, StateError> {
        self.check_lease()?;
        let mut removed = Vec::new();
        for file in entry.store.files(&entry.parts)? {
            if !entry.id_of(&file.name).is_some_and(|id| kept.iter().any(|kept| **kept == *id)) {
                let path = format!("{}/{}", entry.parts, file.name);
                entry.store.remove(&path)?;
                removed.push(path);
            }
        }
        Ok(removed)
    }

    /// Removes incomplete files that a crash left among inboxes and rejects.
    ///
    /// # Errors
    /// When it cannot be listed or removed.
    pub fn remove_half_written(&self) -> Result<(), StateError> {
        self.check_lease()?;
        let store = &self.reader().store;
        for above in ["inbox", "rejects"] {
            for below in store.list(above)? {
                let folder = format!("{above}/{below}");
                for file in store.files(&folder)?.iter().filter(|file| file.name.starts_with(TEMPORARY)) {
                    store.remove(&format!("{folder}/{}", file.name))?;
                }
            }
        }
        Ok(())
    }

    /// Rewrites the files of held events without those that are picked, including events that were already released.
    /// Returns how many were still held. Files that no version names are removed.
    ///
    /// # Errors
    /// When they cannot be read or written. Then nothing was erased.
    pub fn erase_held_events(
        &self,
        export: &ExportId,
        record: &mut ExportProgress,
        is_picked: &dyn Fn(&super::HeldEvent<'_>) -> bool,
    ) -> Result<u64, StateError> {
        let (mut erased, mut is_changed) = (0, false);
        for file in &mut record.held {
            let mut is_there = false;
            let mut writer = self.held_writer(export)?;
            let mut rows = self.reader().held_events(export, file)?;
            while let Some((row, waiting)) = rows.advance()? {
                let (is_settled, is_picked) = (file.settled.contains(row), is_picked(&waiting));
                is_there |= is_picked;
                erased += u64::from(!is_settled && is_picked);
                if !is_settled && !is_picked {
                    writer.push(&waiting)?;
                }
            }
            if is_there {
                *file = writer.finish()?;
                is_changed = true;
            }
        }
        if is_changed {
            record.number += 1;
            self.commit_export(export, record)?;
        }
        let kept: Vec<Box<str>> = record.held.iter().map(|file| file.file.id.clone()).collect();
        self.remove_parts_but(&EntryFiles::of_export(self.reader(), export), &kept)?;
        Ok(erased)
    }

    /// Replaces a file of an inbox by these deliveries. Damaged ones are copied as they are, before the others.
    ///
    /// # Errors
    /// When the write fails. Then a delivery may exist twice, which must be harmless.
    pub fn replace_deliveries(
        &self,
        file: &ClosedFile,
        contents: &DeliveryContents,
    ) -> Result<(), StateError> {
        self.check_lease()?;
        let store = &self.reader().store;
        if !(contents.deliveries.is_empty() && contents.damaged.is_empty()) {
            let random = random::unique_number();
            let began = file.path.rsplit_once('-').map_or(file.path.as_str(), |(began, _)| began);
            let mut bytes = contents.damaged.concat();
            contents.deliveries.iter().for_each(|delivery| delivery.write(&mut bytes));
            store.create(&format!("{began}-{random:016x}.log"), &bytes)?;
        }
        Ok(store.remove(&file.path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::exports::held_folder_of;
    use super::super::{HeldEvent, HoldReason, Holder, Location};
    use super::*;
    use crate::model::Clock;

    #[test]
    fn erasure_removes_released_events_and_incomplete_files() {
        let home = tempfile::tempdir().unwrap();
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        let holder = Holder { host: String::new(), process: 1, since: clock.now(), renewal: None };
        let location = Location::Folder(home.path().to_owned());
        let state = StateWriter::open(&location, &holder, clock, 7).unwrap();
        let export = ExportId::new("e").unwrap();
        let mut writer = state.held_writer(&export).unwrap();
        for who in ["gone", "stays"] {
            let (since, awaited) = (clock.now(), HoldReason::Limit { who });
            writer.push(&HeldEvent { is_profile: false, since, awaited, event: b"{}" }).unwrap();
        }
        let mut file = writer.finish().unwrap();
        file.settle(0, false);
        let mut record = ExportProgress { number: 1, held: vec![file], ..ExportProgress::default() };
        state.commit_export(&export, &record).unwrap();
        let folder = home.path().join("inbox/currents.e");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::File::create(folder.join(format!("{TEMPORARY}x"))).unwrap();
        let is_gone = |waiting: &HeldEvent<'_>| waiting.awaited == HoldReason::Limit { who: "gone" };
        assert_eq!(state.erase_held_events(&export, &mut record, &is_gone).unwrap(), 0);
        state.remove_half_written().unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        let files = state.reader().store.files(&held_folder_of(&export)).unwrap();
        let path = format!("{}/{}", held_folder_of(&export), files[0].name);
        let bytes = state.reader().store.read(&path).unwrap().unwrap();
        let has = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        assert!(files.len() == 1 && has(b"stays") && !has(b"gone"));
        assert_eq!(state.reader().export(&export).unwrap().held_len(), 1);
    }
}
