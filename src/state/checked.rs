//! JSON files with a checksum.
//!
//! The last member of the object is `checksum`: XXH3-128 of the file's path in the state and of all text before it. A
//! flipped bit, a truncated file and two swapped files give an error that names the file. Only text with a correct
//! checksum reaches the parser.

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::Xxh3;

use super::store::{Store, StoreError};
use super::{StateError, format_number};
use crate::foreign::json_error;

const BEFORE: &[u8] = b",\n  \"checksum\": \"";
const AFTER: &[u8] = b"\"\n}";
/// Hex digits of a checksum.
const DIGITS: usize = 32;

fn checksum(relative: &str, text: &[u8]) -> String {
    let mut hash = Xxh3::new();
    hash.update(relative.as_bytes());
    hash.update(b"\n");
    hash.update(text);
    format!("{:032x}", hash.digest128())
}

/// Returns the JSON object with its checksum added.
pub(super) fn seal(relative: &str, object: &[u8]) -> Vec<u8> {
    let object = object.trim_ascii_end();
    let text = object.strip_suffix(b"}").unwrap_or(object).trim_ascii_end();
    [text, BEFORE, checksum(relative, text).as_bytes(), AFTER].concat()
}

/// Whether the checksum matches the bytes and the path.
pub(super) fn is_whole(relative: &str, bytes: &[u8]) -> bool {
    let split = |bytes: &[u8]| -> Option<bool> {
        let rest = bytes.strip_suffix(AFTER)?;
        let (text, digits) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
        let text = text.strip_suffix(BEFORE)?;
        Some(checksum(relative, text).as_bytes() == digits)
    };
    split(bytes) == Some(true)
}

/// Writes a file that must not exist. Returns `false`, and changes nothing, if it does.
///
/// # Errors
/// When the store does not take it.
pub(super) fn put_new(store: &Store, relative: &str, object: &impl Serialize) -> Result<bool, StoreError> {
    let text = serde_json::to_vec_pretty(object).unwrap_or_default();
    store.put_new(relative, &seal(relative, &text))
}

/// As [`put_new`], without line breaks, for long lists.
///
/// # Errors
/// When the store does not take it.
pub(super) fn put_new_compact(
    store: &Store,
    relative: &str,
    object: &impl Serialize,
) -> Result<bool, StoreError> {
    let text = serde_json::to_vec(object).unwrap_or_default();
    store.put_new(relative, &seal(relative, &text))
}

/// A file with the correct checksum and format.
pub(super) struct CheckedFile {
    pub(super) bytes: Vec<u8>,
    /// Its version number, if it has one.
    pub(super) version: Option<u64>,
}

/// Reads a file without its content. `None`: it does not exist.
///
/// # Errors
/// When it cannot be read, is damaged, or its format is newer than this program.
pub(super) fn read_bytes(store: &Store, relative: &str) -> Result<Option<CheckedFile>, StateError> {
    let Some(bytes) = store.read(relative)? else { return Ok(None) };
    let path = store.at(relative);
    if !is_whole(relative, &bytes) {
        // A later format may compute its checksum differently.
        if let Err(newer @ StateError::Newer { .. }) = format_number::check(&bytes, &path) {
            return Err(newer);
        }
        let problem = match bytes.is_empty() {
            true => "it is empty",
            false => "its checksum does not match: it was changed or truncated, or is another file's",
        };
        return Err(StateError::Damaged { path, problem: problem.to_owned() });
    }
    let version = format_number::check(&bytes, &path)?;
    Ok(Some(CheckedFile { bytes, version }))
}

/// Reads a file. `None`: it does not exist.
///
/// # Errors
/// As [`read_bytes`], and when it is not a `T`.
pub(super) fn read<T: DeserializeOwned>(store: &Store, relative: &str) -> Result<Option<T>, StateError> {
    let Some(CheckedFile { bytes, .. }) = read_bytes(store, relative)? else { return Ok(None) };
    let damaged =
        |e: serde_json::Error| StateError::Damaged { path: store.at(relative), problem: json_error(&e) };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// The error of a file that must exist.
pub(super) fn gone(store: &Store, relative: &str) -> StateError {
    StateError::Damaged { path: store.at(relative), problem: "it is missing".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
    struct Shape {
        format: u64,
        name: String,
    }

    #[test]
    fn every_flipped_bit_truncation_and_swap_is_detected() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        let shape = |name: &str| Shape { format: format_number::SUPPORTED, name: name.to_owned() };
        assert!(put_new(&store, "a.json", &shape("one")).unwrap());
        assert!(put_new(&store, "b.json", &shape("two")).unwrap());
        assert_eq!(read::<Shape>(&store, "a.json").unwrap(), Some(shape("one")));
        let bytes = store.read("a.json").unwrap().unwrap();
        assert_eq!(serde_json::from_slice::<Shape>(&bytes).unwrap(), shape("one"), "any tool reads it");
        let mut count = 0;
        let mut expect_damaged = |bytes: &[u8]| {
            count += 1;
            let path = format!("bad/{count}.json");
            store.put_new(&path, bytes).unwrap();
            // As if the bytes had been written to `a.json`.
            assert!(!is_whole("a.json", bytes));
            assert!(read::<Shape>(&store, &path).is_err());
        };
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            expect_damaged(&bad);
        }
        (0..bytes.len()).for_each(|len| expect_damaged(&bytes[..len]));
        let other = store.read("b.json").unwrap().unwrap();
        store.put_new("c.json", &other).unwrap();
        let error = read::<Shape>(&store, "c.json").unwrap_err().to_string();
        assert!(error.contains("c.json") && error.contains("another file's"), "{error}");
    }
}
