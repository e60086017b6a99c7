//! A source table during import: rows that replace each other, then sorted parts.
//!
//! It keeps a bounded number of rows in memory and spills the others to temporary files.

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

/// How many rows are gathered in memory before they are spilled.
const PENDING_MAX: usize = 300_000;
/// Maximum length of their texts.
const PENDING_LEN_MAX: usize = 32 << 20;
/// How many temporary parts may exist before they are merged.
const SCRATCH_MAX: usize = 64;

/// A finished source table, ready for [`IdentityMap::import`](super::IdentityMap::import).
#[derive(Debug)]
pub struct FinishedTable {
    /// The committed files when the table was opened.
    pub(super) opened: Vec<ImmutableFile>,
    /// The new files.
    pub(super) files: Vec<ImmutableFile>,
}

/// A table of a source, onto which dumps are replayed.
pub struct ReplayTable {
    seed: KeySeed,
    label: Box<str>,
    /// The committed files when the table was opened.
    opened: Vec<ImmutableFile>,
    /// Committed parts that are still valid, oldest first.
    base: Vec<ImmutableFile>,
    /// The parts of `base`, followed by the temporary parts.
    parts: Vec<MapPart>,
    pending: ByKey<KnownIdentity>,
    /// Total length of the texts put into `pending`.
    pending_len: usize,
    scratch: Store,
    _folder: TempDir,
}

impl ReplayTable {
    /// Opens the committed table, or an empty one that replaces it.
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
        let folder = tempfile::tempdir().map_err(StateError::TemporaryFile)?;
        let scratch = Store::in_folder(folder.path());
        let (opened, base, parts, pending) = (Vec::new(), Vec::new(), Vec::new(), ByKey::default());
        let (label, pending_len) = (label.into(), 0);
        Ok(Self { seed, label, opened, base, parts, pending, pending_len, scratch, _folder: folder })
    }

    /// Creates another, empty table of the same source.
    ///
    /// # Errors
    /// When temporary files cannot be created.
    pub fn another(&self) -> Result<Self, StateError> {
        Self::empty(self.seed, &self.label)
    }

    fn key(&self, name: &str) -> MapKey {
        IdentityKey::Alias { label: &self.label, name }.key(self.seed)
    }

    /// Sets the owner of an alias, with the time of observation. `None`: no owner is known.
    ///
    /// # Errors
    /// When a temporary file cannot be written.
    pub fn link(&mut self, name: &str, owner: Option<(&str, Timestamp)>) -> Result<(), StateError> {
        self.link_hash(self.key(name), owner)
    }

    /// Sets the owner of a key of any kind.
    ///
    /// # Errors
    /// When a temporary file cannot be written.
    pub fn link_key(&mut self, handle: IdentityKey<'_>, owner: (&str, Timestamp)) -> Result<(), StateError> {
        self.link_hash(handle.key(self.seed), Some(owner))
    }

    fn link_hash(&mut self, key: MapKey, owner: Option<(&str, Timestamp)>) -> Result<(), StateError> {
        let owner = owner.filter(|(owner, _)| owner.len() <= TEXT_LEN_MAX);
        self.put(key, owner.map(|(owner, seen)| KnownIdentity::owner(owner, seen)))
    }

    /// Records that an alias was merged into another.
    ///
    /// # Errors
    /// When a temporary file cannot be written.
    pub fn join(&mut self, from: &str, into: &str) -> Result<(), StateError> {
        let is_sound = into.len() <= TEXT_LEN_MAX && from != into;
        self.put(self.key(from), is_sound.then(|| KnownIdentity::Merged(into.into())))
    }

    /// Creates a table of arbitrary rows that is never committed to the map.
    ///
    /// # Errors
    /// When temporary files cannot be created.
    pub fn of_rows(seed: KeySeed) -> Result<Self, StateError> {
        Self::empty(seed, "")
    }

    /// Sets the row of a key. Returns `false` if the row is too long.
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

    /// Visits every row, in no particular order.
    ///
    /// # Errors
    /// When a temporary file cannot be read or written, or `visit` fails.
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

    /// Marks an alias as existing, without further content, for [`Self::keep_only`].
    ///
    /// # Errors
    /// When a temporary file cannot be written.
    pub fn mark_existing(&mut self, name: &str) -> Result<(), StateError> {
        self.put_known(self.key(name), KnownIdentity::Gone)
    }

    fn put(&mut self, key: MapKey, known: Option<KnownIdentity>) -> Result<(), StateError> {
        match known {
            Some(known) => self.put_known(key, known),
            // Most rows have no owner, and need no entry unless they replace one.
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

    /// Opens a temporary part, and unlinks its file.
    fn take(&mut self, file: &ImmutableFile) -> Result<(), StateError> {
        self.parts.push(MapPart::open(&self.scratch, file)?);
        if cfg!(unix) { Ok(self.scratch.remove(&path_of(&file.id))?) } else { Ok(()) }
    }

    /// Removes every row, because the table is replaced.
    pub fn clear(&mut self) {
        self.base.clear();
        self.parts.clear();
        self.pending.clear();
        self.pending_len = 0;
    }

    /// Removes the rows that are not in the other table.
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

    /// Writes the changes as parts of the state. They take effect with [`IdentityMap::import`].
    ///
    /// # Errors
    /// When the write fails.
    ///
    /// [`IdentityMap::import`]: super::IdentityMap::import
    pub fn finish(mut self, state: &StateWriter) -> Result<FinishedTable, StateError> {
        self.spill()?;
        let files = self.written(&state.reader().store)?;
        Ok(FinishedTable { opened: self.opened, files })
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
            // Removed rows must be kept as such while an older part still has them.
            files.extend(merged(store, added, &|_, _| true)?.0);
            return Ok(files);
        }
        let (file, _) = merged(store, &self.parts, &|_, known| *known != KnownIdentity::Gone)?;
        Ok(file.into_iter().collect())
    }
}
