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
    /// Files that an older copy has replaced, and those that only the older copy has.
    replaced: Files,
    outdated: Vec<String>,
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
        if self.copies.is_empty() || !self.replaced.is_empty() {
            return;
        }
        let copy = dice.pick(&self.copies).clone();
        let files = world.files();
        let entries = ["cohorts/carts/", "cohorts/trials/", "exports/engagement/", "identity/"];
        let entry = *dice.pick(&entries);
        let of_entry = |(path, bytes): (&String, &Vec<u8>)| {
            path.starts_with(entry).then(|| (path.clone(), bytes.clone()))
        };
        let newer: Files = files.iter().filter_map(of_entry).collect();
        let older: Files = copy.iter().filter_map(of_entry).collect();
        if newer == older {
            return;
        }
        newer.keys().for_each(|path| world.replace_file(path, None, now));
        older.iter().for_each(|(path, bytes)| world.replace_file(path, Some(bytes), now));
        let mut state = world.lock();
        state.weather.count(FaultKind::OlderCopy);
        state.note(0, || format!("{entry} is restored from an older copy"));
        self.outdated = older.into_keys().filter(|path| !newer.contains_key(path)).collect();
        self.replaced = newer;
    }

    /// Repairs everything that the program has not replaced meanwhile.
    pub(super) fn repair(&mut self, world: &World, now: Duration) {
        let files = world.files();
        for (path, bytes) in std::mem::take(&mut self.replaced) {
            if !files.contains_key(&path) {
                world.replace_file(&path, Some(&bytes), now);
            }
        }
        for path in std::mem::take(&mut self.outdated) {
            world.replace_file(&path, None, now);
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
