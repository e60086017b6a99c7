//! Erasure of one user from recorded memberships and segment tables.
//!
//! # Guarantees
//! Parts are streamed, so memory does not grow with the number of members. The new parts are committed as a version
//! before the old ones are removed: after a crash the state is intact, and a second erasure completes the first. The
//! status of other users does not change.

use std::collections::{BTreeMap, BTreeSet};

use super::entry_files::EntryFiles;
use super::find_members::{IdentifierFilter, RecordedUser, is_packed, without_outcomes};
use super::membership::{LateRequest, Membership};
use super::part::{PartFolder, PartRef, PartWriter, folder_of, path_of};
use super::{MembershipCursor, MirrorNote, SegmentTable, StateError, StateWriter, heap_segments};
use crate::model::{ChangeOp, CohortId, ConnectionName, MemberKey, Timestamp};

/// A file from which entries were erased, or that was removed because a newer one has replaced it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErasedFile {
    /// Its path in the state, as it was.
    pub path: String,
    /// How many entries of the user were in it. `None`: a superseded file, which was not read.
    pub entries: Option<u64>,
}

fn row_numbers(rows: Vec<(u64, MemberKey)>) -> Vec<u64> {
    rows.into_iter().map(|(row, _)| row).collect()
}

/// A part that contained the user.
#[derive(Clone)]
struct RewrittenPart {
    /// The user's rows in the old part.
    rows: Vec<u64>,
    /// The new part. `None`: no row is left.
    part: Option<PartRef>,
}

impl RewrittenPart {
    /// Returns the new part with the row states of the old one.
    fn after(&self, old: &PartRef) -> Option<PartRef> {
        let (acknowledged, rejected) =
            (old.acknowledged.without(&self.rows), old.rejected.without(&self.rows));
        self.part.clone().map(|part| PartRef { acknowledged, rejected, noted: old.noted, ..part })
    }
}

/// Rewrites the parts of one folder, each once.
struct PartRewrites<'a> {
    state: &'a StateWriter,
    folder: PartFolder<'a>,
    keys: &'a BTreeSet<MemberKey>,
    by_id: BTreeMap<Box<str>, Option<RewrittenPart>>,
    files: Vec<ErasedFile>,
}

impl<'a> PartRewrites<'a> {
    fn new(state: &'a StateWriter, folder: PartFolder<'a>, keys: &'a BTreeSet<MemberKey>) -> Self {
        Self { state, folder, keys, by_id: BTreeMap::new(), files: Vec::new() }
    }

    /// Writes a part without the user. `None`: the user is not in it.
    fn rewrite(&mut self, part: &PartRef) -> Result<Option<RewrittenPart>, StateError> {
        if let Some(done) = self.by_id.get(&part.id) {
            return Ok(done.clone());
        }
        let reader = self.state.reader();
        let rows = row_numbers(reader.rows_of(self.folder, part, self.keys)?);
        let done = if rows.is_empty() {
            None
        } else {
            let entries = Some(rows.len() as u64);
            self.files.push(ErasedFile { path: path_of(self.folder, &part.id), entries });
            let new = if rows.len() as u64 == part.rows { None } else { Some(self.copied(part)?) };
            Some(RewrittenPart { rows, part: new })
        };
        self.by_id.insert(part.id.clone(), done.clone());
        Ok(done)
    }

    fn copied(&self, part: &PartRef) -> Result<PartRef, StateError> {
        let reader = self.state.reader();
        let mut cursor = reader.cursor(self.folder, part)?;
        cursor.advance()?;
        let mut writer = PartWriter::create(&reader.store, self.folder, part.op, reader.seed())?;
        let mut packed = Vec::new();
        while let Some(key) = cursor.key() {
            if !self.keys.contains(&key) {
                packed.clear();
                cursor.identifier(&mut packed)?;
                writer.set_run(cursor.run()?);
                writer.push(&packed)?;
            }
            cursor.advance()?;
        }
        writer.finish()
    }

    /// Returns these parts without the user.
    fn all(&mut self, parts: &[PartRef]) -> Result<Vec<PartRef>, StateError> {
        let mut all = Vec::with_capacity(parts.len());
        for part in parts {
            match self.rewrite(part)? {
                Some(rewritten) => all.extend(rewritten.after(part)),
                None => all.push(part.clone()),
            }
        }
        Ok(all)
    }

    /// Returns the parts of late requests without the user. A request that may still add the user is kept, because the
    /// request that settles it needs the identifier.
    fn late(&mut self, all: &[LateRequest]) -> Result<Vec<LateRequest>, StateError> {
        let mut left = Vec::with_capacity(all.len());
        for late in all {
            let rows = row_numbers(self.state.reader().rows_of(self.folder, &late.part, self.keys)?);
            if late.part.op == ChangeOp::Add && rows.iter().any(|row| late.rows.contains(*row)) {
                left.push(late.clone());
                continue;
            }
            match self.rewrite(&late.part)? {
                Some(rewritten) => {
                    let (part, rows) = (rewritten.after(&late.part), late.rows.without(&rewritten.rows));
                    let part = part.filter(|_| !rows.is_empty());
                    left.extend(part.map(|part| LateRequest { part, rows, until: late.until }));
                }
                None => left.push(late.clone()),
            }
        }
        Ok(left)
    }
}

impl StateWriter {
    /// Erases one user, who is not a member, from the recorded membership of a cohort, and removes superseded versions
    /// and parts. A late request that may still add the user is kept.
    ///
    /// # Errors
    /// When a file cannot be read, written or removed. Erasing again completes it.
    pub fn erase_recorded(
        &self,
        cohort: &CohortId,
        recorded: &RecordedUser,
        now: Timestamp,
    ) -> Result<Vec<ErasedFile>, StateError> {
        let Some(version) = self.reader().version(cohort)? else {
            // The first run was killed before it sent anything.
            return self.remove_superseded(&EntryFiles::of_cohort(self.reader(), cohort), 0, &[]);
        };
        let mut rewrites = PartRewrites::new(self, PartFolder::Cohort(cohort), &recorded.keys);
        let (parts, late) = (rewrites.all(&version.parts)?, rewrites.late(&version.late)?);
        let mut files = rewrites.files;
        let mut newest = version;
        if (&parts, &late) != (&newest.parts, &newest.late) {
            let note = self.reader().mirror_note(cohort)?.filter(|note| note.version == newest.number);
            // The rejected user may return with the source, so the source must be read again.
            let source = newest.source.take().filter(|_| !recorded.is_rejected);
            newest = Membership { number: newest.number + 1, written_at: now, source, parts, late, ..newest };
            self.commit(cohort, &newest)?;
            if let Some(note) = note {
                // The members are unchanged, and so is the mirror table.
                self.put_mirror_note(cohort, Some(&MirrorNote { version: newest.number, ..note }))?;
            }
        }
        let kept: Vec<Box<str>> = newest.all_parts().map(|part| part.id.clone()).collect();
        let entry = EntryFiles::of_cohort(self.reader(), cohort);
        files.extend(self.remove_superseded(&entry, newest.number, &kept)?);
        Ok(files.into_iter().fold(Vec::new(), without_twice))
    }

    /// Erases one user from the segment tables of a Heap connection, and removes superseded versions and parts. Returns
    /// the segments that listed the user as well.
    ///
    /// # Errors
    /// As [`Self::erase_recorded`].
    pub fn erase_from_segments(
        &self,
        heap: &ConnectionName,
        is_theirs: IdentifierFilter<'_>,
    ) -> Result<(Vec<ErasedFile>, Vec<u64>), StateError> {
        let mut all = self.reader().segments(heap)?;
        let (mut files, mut listed) = (Vec::new(), Vec::new());
        let before = all.clone();
        for (number, segment) in &mut all.by_id {
            let mut members = self.reader().segment_members(heap, segment)?;
            let mut is_listed = false;
            while members.advance()?.is_some() {
                is_listed |= is_packed(members.packed(), is_theirs);
            }
            listed.extend(is_listed.then_some(*number));
            files.extend(self.erase_from_segment(heap, segment, is_theirs)?);
        }
        if all != before {
            all.number += 1;
            self.commit_segments(heap, &all)?;
        }
        let parts = all.by_id.values().flat_map(SegmentTable::parts).map(|part| part.id.clone());
        let changes = all.by_id.values().flat_map(|segment| &segment.changes).map(|file| file.id.clone());
        let kept: Vec<Box<str>> = parts.chain(changes).collect();
        let entry = EntryFiles::of_segments(self.reader(), heap);
        files.extend(self.remove_superseded(&entry, all.number, &kept)?);
        Ok((files.into_iter().fold(Vec::new(), without_twice), listed))
    }

    fn erase_from_segment(
        &self,
        heap: &ConnectionName,
        segment: &mut SegmentTable,
        is_theirs: IdentifierFilter<'_>,
    ) -> Result<Vec<ErasedFile>, StateError> {
        let (reader, folder) = (self.reader(), PartFolder::Segments(heap));
        let mut keys = BTreeSet::new();
        for part in segment.parts() {
            let mut members =
                MembershipCursor::of_parts(&reader.store, folder, &[without_outcomes(part)], reader.seed())?;
            while let Some((key, _)) = members.advance_any()? {
                if is_packed(members.packed()?, is_theirs) {
                    keys.insert(key);
                }
            }
        }
        let mut rewrites = PartRewrites::new(self, folder, &keys);
        let base: Vec<PartRef> = segment.base.iter().cloned().collect();
        segment.base = rewrites.all(&base)?.pop();
        for sync in &mut segment.syncs {
            sync.adds = rewrites.all(&sync.adds)?;
            sync.removes = rewrites.all(&sync.removes)?;
        }
        let mut files = rewrites.files;
        let mut changed = Vec::with_capacity(segment.changes.len());
        for file in &segment.changes {
            let mut changes = reader.changes_in(heap, file)?;
            let rows = changes.len();
            changes.retain(|change| !is_packed(&change.packed, is_theirs));
            if changes.len() == rows {
                changed.push(file.clone());
                continue;
            }
            let path = format!("{}/{}{}", folder_of(folder), file.id, heap_segments::SUFFIX);
            files.push(ErasedFile { path, entries: Some((rows - changes.len()) as u64) });
            if !changes.is_empty() {
                changed.push(self.write_changes(heap, &changes)?);
            }
        }
        segment.changes = changed;
        Ok(files)
    }

    /// Removes earlier versions, parts that `kept` does not contain, and temporary files of a crash.
    fn remove_superseded(
        &self,
        entry: &EntryFiles<'_>,
        newest: u64,
        kept: &[Box<str>],
    ) -> Result<Vec<ErasedFile>, StateError> {
        self.check_lease()?;
        let versions = entry.versions.remove_before(newest)?;
        let removed = versions.into_iter().chain(self.remove_parts_but(entry, kept)?);
        Ok(removed.map(|path| ErasedFile { path, entries: None }).collect())
    }
}

/// Adds a file unless it is already listed with its erased entries.
fn without_twice(mut files: Vec<ErasedFile>, file: ErasedFile) -> Vec<ErasedFile> {
    if !files.iter().any(|other| other.entries.is_some() && other.path == file.path) {
        files.push(file);
    }
    files
}
