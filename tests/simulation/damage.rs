//! Damage to the files of the state while no process runs: flipped bits, and parts restored from an older copy. It is
//! repaired before the final check, as an operator would do with a backup.

use std::collections::BTreeMap;
use std::time::Duration;

use super::dice::Dice;
use super::faults::FaultKind;
use super::world::World;

/// Files by path.
type Files = BTreeMap<String, Vec<u8>>;

/// A flipped bit.
#[derive(Debug)]
struct BitFlip {
    path: String,
    at: usize,
    mask: u8,
    flipped: u8,
}

/// The damage that was done.
#[derive(Debug, Default)]
pub(super) struct Damage {
    flips: Vec<BitFlip>,
    /// Copies of the state at earlier moments.
    copies: Vec<Files>,
    /// An entry of which an older copy was restored.
    restored: Option<RestoredEntry>,
}

/// An entry of which an older copy was restored.
#[derive(Debug)]
struct RestoredEntry {
    prefix: &'static str,
    older: Files,
    newer: Files,
}

/// The files of an entry.
fn files_of(prefix: &str, files: &Files) -> Files {
    let of_entry = files.iter().filter(|(path, _)| path.starts_with(prefix));
    of_entry.map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
}

/// Replaces the files of an entry.
fn replace(world: &World, from: &Files, to: &Files, now: Duration) {
    from.keys().for_each(|path| world.replace_file(path, None, now));
    to.iter().for_each(|(path, bytes)| world.replace_file(path, Some(bytes), now));
}

impl Damage {
    /// Copies the state, as a backup does.
    pub(super) fn back_up(&mut self, world: &World) {
        self.copies.push(world.files());
    }

    /// Does some damage.
    pub(super) fn strike(&mut self, world: &World, dice: &mut Dice, now: Duration) {
        if dice.once_in(2) {
            self.flip(world, dice, now);
        } else {
            self.restore_older(world, dice, now);
        }
    }

    fn flip(&mut self, world: &World, dice: &mut Dice, now: Duration) {
        let files = world.files();
        let paths: Vec<&String> = files.keys().filter(|path| !files[*path].is_empty()).collect();
        if paths.is_empty() {
            return;
        }
        let path = (*dice.pick(&paths)).clone();
        let mut bytes = files[&path].clone();
        let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
        let mask = 1 << dice.below(8);
        bytes[at] ^= mask;
        world.replace_file(&path, Some(&bytes), now);
        let mut state = world.lock();
        state.weather.count(FaultKind::BitFlip);
        state.note(0, || format!("a bit of {path} flips"));
        self.flips.push(BitFlip { path, at, mask, flipped: bytes[at] });
    }

    /// Restores one entry from an older copy.
    fn restore_older(&mut self, world: &World, dice: &mut Dice, now: Duration) {
        if self.copies.is_empty() || self.restored.is_some() {
            return;
        }
        // A file that was removed long ago must not reappear beside the older copy.
        world.store.sync_all();
        let copy = dice.pick(&self.copies).clone();
        let prefix = *dice.pick(&["cohorts/carts/", "cohorts/trials/", "exports/engagement/", "identity/"]);
        let (newer, older) = (files_of(prefix, &world.files()), files_of(prefix, &copy));
        if newer == older {
            return;
        }
        replace(world, &newer, &older, now);
        let mut state = world.lock();
        state.weather.count(FaultKind::OlderCopy);
        state.note(0, || format!("{prefix} is restored from an older copy"));
        self.restored = Some(RestoredEntry { prefix, older, newer });
    }

    /// Repairs the damage. An entry that the program has changed since is left as it is: the program found it sound.
    pub(super) fn repair(&mut self, world: &World, now: Duration) {
        if let Some(RestoredEntry { prefix, older, newer }) = self.restored.take() {
            let current = files_of(prefix, &world.files());
            let mut versions = current.keys().filter(|path| path.contains("/versions/"));
            if versions.all(|path| older.contains_key(path)) {
                replace(world, &current, &newer, now);
            }
        }
        for BitFlip { path, at, mask, flipped } in self.flips.drain(..).rev() {
            let mut bytes = world.files().remove(&path).unwrap_or_default();
            if bytes.get(at) == Some(&flipped) {
                bytes[at] ^= mask;
                world.replace_file(&path, Some(&bytes), now);
            }
        }
    }
}

/// Whether the name of a user is in a file. Parts are Parquet, which is read with the library alone.
pub(super) fn mentions(path: &str, bytes: &[u8], user: &str) -> bool {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    if !path.ends_with(".parquet") {
        return has_word(bytes, user);
    }
    let file = SerializedFileReader::new(bytes::Bytes::copy_from_slice(bytes)).unwrap();
    let rows = file.get_row_iter(None).unwrap();
    rows.map(Result::unwrap).any(|row| {
        row.get_column_iter().any(|(_, field)| match field {
            parquet::record::Field::Bytes(value) => has_word(value.data(), user),
            other => has_word(other.to_string().as_bytes(), user),
        })
    })
}

fn has_word(bytes: &[u8], word: &str) -> bool {
    let is_part = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let found = memchr::memmem::find_iter(bytes, word);
    let mut found = found.filter(|at| {
        !is_part(at.checked_sub(1).and_then(|before| bytes.get(before)))
            && !is_part(bytes.get(at + word.len()))
    });
    found.next().is_some()
}
