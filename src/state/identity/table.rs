//! A table of a source as it is replayed: rows that replace each other, and what is left of them as sorted parts.
//!
//! It holds a bounded number of rows in memory and the others in temporary files, whatever the size of the table.

use tempfile::TempDir;

use super::by_key::ByKey;
use super::forget::SHARE;
use super::known::{IdentityKey, KnownIdentity, MapKey};
use super::learn::{PARTS_MAX, TEXT_LEN_MAX};
use super::map_part::{MapPart, MapWriter, path_of};
use super::merge::{MapMerge, merged};
use crate::model::{KeySeed, Timestamp};
use crate::state::immutable_file::ImmutableFile;
use crate::state::store::Store;
use crate::state::{StateError, StateWriter};

/// Rows that are gathered before they are written.
const PENDING_MAX: usize = 300_000;
/// Bytes of their texts, likewise.
const PENDING_LEN_MAX: usize = 32 << 20;
/// Temporary parts before they are merged into one.
const SCRATCH_MAX: usize = 64;

/// What is left of a table once everything was put on it.
#[derive(Debug)]
pub struct Finished {
    /// What the state had when the table was opened.
    pub(super) opened: Vec<ImmutableFile>,
    /// What it shall have.
    pub(super) files: Vec<ImmutableFile>,
}

/// A table of a source, to replay dumps onto.
pub struct ReplayTable {
    seed: KeySeed,
    label: Box<str>,
    /// What the state had when the table was opened.
    opened: Vec<ImmutableFile>,
    /// The parts of the state that still stand, the oldest first.
    base: Vec<ImmutableFile>,
    /// These, and what was put on them since.
    parts: Vec<MapPart>,
    pending: ByKey<KnownIdentity>,
    /// Bytes of their texts, as far as they were put.
    pending_len: usize,
    scratch: Store,
    _folder: TempDir,
}

impl ReplayTable {
    /// The table that the state has, or an empty one in its place.
    pub(super) fn open(
        state: &StateWriter,
        label: &str,
        opened: Vec<ImmutableFile>,
        is_anew: bool,
    ) -> Result<Self, StateError> {
        let (seed, store) = (state.reader().seed(), &state.reader().store);
        let base = if is_anew { Vec::new() } else { opened.clone() };
        let parts = base.iter().map(|file| MapPart::open(store, file)).collect::<Result<_, _>>()?;
        Ok(Self { opened, base, parts, ..Self::empty(seed, label)? })
    }

    fn empty(seed: KeySeed, label: &str) -> Result<Self, StateError> {
        let folder = tempfile::tempdir().map_err(StateError::Scratch)?;
        let scratch = Store::in_folder(folder.path());
        let (opened, base, parts, pending) = (Vec::new(), Vec::new(), Vec::new(), ByKey::default());
        let (label, pending_len) = (label.into(), 0);
        Ok(Self { seed, label, opened, base, parts, pending, pending_len, scratch, _folder: folder })
    }

    /// Another table of the same source, with nothing in it.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub fn another(&self) -> Result<Self, StateError> {
        Self::empty(self.seed, &self.label)
    }

    fn key(&self, name: &str) -> MapKey {
        IdentityKey::Alias { label: &self.label, name }.key(self.seed)
    }

    /// The row of this alias says whose it is, and since when; or that nobody knows.
    ///
    /// # Errors
    /// When a temporary file cannot be written.
    pub fn tie(&mut self, name: &str, owner: Option<(&str, Timestamp)>) -> Result<(), StateError> {
        self.tie_key(self.key(name), owner)
    }

    /// The same of whatever somebody is known by.
    ///
    /// # Errors
    /// When a temporary file cannot be written.
    pub fn tie_handle(
        &mut self,
        handle: IdentityKey<'_>,
        owner: (&str, Timestamp),
    ) -> Result<(), StateError> {
        self.tie_key(handle.key(self.seed), Some(owner))
    }

    fn tie_key(&mut self, key: MapKey, owner: Option<(&str, Timestamp)>) -> Result<(), StateError> {
        let owner = owner.filter(|(owner, _)| owner.len() <= TEXT_LEN_MAX);
        self.put(key, owner.map(|(owner, seen)| KnownIdentity::owner(owner, seen)))
    }

    /// The row of this alias says which other it has become.
    ///
    /// # Errors
    /// When a temporary file cannot be written.
    pub fn join(&mut self, from: &str, into: &str) -> Result<(), StateError> {
        let is_sound = into.len() <= TEXT_LEN_MAX && from != into;
        self.put(self.key(from), is_sound.then(|| KnownIdentity::Merged(into.into())))
    }

    /// A table of rows of any kind, which is never put into the map.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub fn of_rows(seed: KeySeed) -> Result<Self, StateError> {
        Self::empty(seed, "")
    }

    /// The row of this key is this text. `false` if it is too long to be kept.
    ///
    /// # Errors
    /// When a temporary file cannot be written.
    pub fn put_row(&mut self, key: &str, row: &str) -> Result<bool, StateError> {
        let is_short = row.len() <= TEXT_LEN_MAX;
        if is_short {
            self.put_known(self.key(key), KnownIdentity::owner(row, Timestamp::UNIX_EPOCH))?;
        }
        Ok(is_short)
    }

    /// Every row, in no order that means anything.
    ///
    /// # Errors
    /// When a temporary file cannot be read or written, or `each` fails.
    pub fn for_each<E: From<StateError>>(
        mut self,
        mut each: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        self.spill()?;
        let mut all = MapMerge::new(&self.parts)?;
        while let Some((_, known)) = all.advance()? {
            each(known.parts().2)?;
        }
        Ok(())
    }

    /// There is a row of this alias. It says no more than that: of use to [`Table::keep_only`].
    ///
    /// # Errors
    /// When a temporary file cannot be written.
    pub fn there(&mut self, name: &str) -> Result<(), StateError> {
        self.put_known(self.key(name), KnownIdentity::Gone)
    }

    fn put(&mut self, key: MapKey, known: Option<KnownIdentity>) -> Result<(), StateError> {
        match known {
            Some(known) => self.put_known(key, known),
            // Most people are nobody's, and need no entry unless there is another.
            None if self.parts.iter().any(|part| part.may_have(key)) => {
                self.put_known(key, KnownIdentity::Gone)
            }
            None => {
                self.pending.remove(&key);
                Ok(())
            }
        }
    }

    fn put_known(&mut self, key: MapKey, known: KnownIdentity) -> Result<(), StateError> {
        self.pending_len += known.parts().2.len();
        self.pending.insert(key, known);
        let is_full = self.pending.len() >= PENDING_MAX || self.pending_len >= PENDING_LEN_MAX;
        if is_full { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<(), StateError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut writer = MapWriter::create(&self.scratch, self.pending.len() as u64)?;
        self.pending_len = 0;
        let mut entries: Vec<(MapKey, KnownIdentity)> = self.pending.drain().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries.iter().try_for_each(|(key, known)| writer.push(*key, known))?;
        let file = writer.finish()?;
        self.take(&file)?;
        if self.parts.len() < self.base.len() + SCRATCH_MAX {
            return Ok(());
        }
        let (file, _) = merged(&self.scratch, &self.parts[self.base.len()..], &|_, _| true)?;
        self.parts.truncate(self.base.len());
        file.iter().try_for_each(|file| self.take(file))
    }

    /// Opens a temporary part, and leaves nothing of it behind that has a name.
    fn take(&mut self, file: &ImmutableFile) -> Result<(), StateError> {
        self.parts.push(MapPart::open(&self.scratch, file)?);
        if cfg!(unix) { Ok(self.scratch.remove(&path_of(&file.id))?) } else { Ok(()) }
    }

    /// Forgets every row: the table is replaced.
    pub fn clear(&mut self) {
        self.base.clear();
        self.parts.clear();
        self.pending.clear();
        self.pending_len = 0;
    }

    /// Forgets the rows that are not in the other table.
    ///
    /// # Errors
    /// When a temporary file cannot be read or written.
    pub fn keep_only(&mut self, mut other: Self) -> Result<(), StateError> {
        self.spill()?;
        other.spill()?;
        let (mut ours, mut theirs) = (MapMerge::new(&self.parts)?, MapMerge::new(&other.parts)?);
        let rows_max = self.parts.iter().map(MapPart::rows).sum();
        let mut writer = MapWriter::create(&self.scratch, rows_max)?;
        let mut there = theirs.advance()?;
        while let Some((key, known)) = ours.advance()? {
            while there.as_ref().is_some_and(|(there, _)| *there < key) {
                there = theirs.advance()?;
            }
            if known != KnownIdentity::Gone && there.as_ref().is_some_and(|(there, _)| *there == key) {
                writer.push(key, &known)?;
            }
        }
        let file = writer.finish()?;
        drop(ours);
        self.clear();
        self.take(&file)
    }

    /// Writes what changed as parts of the state, which nobody finds before [`IdentityMap::teach`].
    ///
    /// # Errors
    /// When the disk does not take it.
    ///
    /// [`IdentityMap::teach`]: super::IdentityMap::teach
    pub fn finish(mut self, state: &StateWriter) -> Result<Finished, StateError> {
        self.spill()?;
        let files = self.written(&state.reader().store)?;
        Ok(Finished { opened: self.opened, files })
    }

    fn written(&mut self, store: &Store) -> Result<Vec<ImmutableFile>, StateError> {
        let mut files = std::mem::take(&mut self.base);
        let (base, added) = self.parts.split_at(files.len());
        if added.is_empty() {
            return Ok(files);
        }
        let added_rows: u64 = added.iter().map(MapPart::rows).sum();
        let small: u64 = base.iter().skip(1).map(MapPart::rows).sum::<u64>() + added_rows;
        let is_small = base.first().is_some_and(|large| small < large.rows() / SHARE);
        if is_small && base.len() < PARTS_MAX {
            // What was there before and is no more must be said as long as an older part says otherwise.
            files.extend(merged(store, added, &|_, _| true)?.0);
            return Ok(files);
        }
        let (file, _) = merged(store, &self.parts, &|_, known| *known != KnownIdentity::Gone)?;
        Ok(file.into_iter().collect())
    }
}
