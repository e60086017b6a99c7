//! Versioned JSON documents: the highest version is current; writes are put-if-absent.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::membership::number_of;
use super::store::{Store, TEMPORARY};
use super::{StateError, checked, format_number};

#[derive(Serialize, Deserialize)]
struct DocumentJson<T> {
    format: u64,
    #[serde(flatten)]
    content: T,
}

fn path_of(folder: &str, number: u64) -> String {
    format!("{folder}/{number:012}.json")
}

/// Returns the newest document in a folder, with its version.
///
/// # Errors
/// When it cannot be read or is damaged.
pub(super) fn newest<T: DeserializeOwned>(
    store: &Store,
    folder: &str,
) -> Result<Option<(u64, T)>, StateError> {
    let names = store.list(folder)?;
    let Some(number) = names.iter().filter_map(|name| number_of(name)).max() else { return Ok(None) };
    let shape: DocumentJson<T> = checked::existing(store, &path_of(folder, number))?;
    Ok(Some((number, shape.content)))
}

/// Writes the version after `before`, which is 0 if there is none. Version `before` stays for concurrent readers, and
/// the one before it is removed.
///
/// # Errors
/// When the write fails, or another process wrote first.
pub(super) fn put(
    store: &Store,
    folder: &str,
    before: u64,
    content: &impl Serialize,
) -> Result<(), StateError> {
    if !checked::put_new_compact(
        store,
        &path_of(folder, before + 1),
        &DocumentJson { format: format_number::SUPPORTED, content },
    )? {
        return Err(StateError::LeaseLost);
    }
    match before.checked_sub(1).filter(|old| *old > 0) {
        Some(old) => Ok(store.remove(&path_of(folder, old))?),
        None => Ok(()),
    }
}

/// Removes earlier versions and temporary files of a crash from a folder.
///
/// # Errors
/// When the folder cannot be listed, or a file cannot be removed.
pub(super) fn remove_others(store: &Store, folder: &str, kept: u64) -> Result<(), StateError> {
    for file in store.files(folder)? {
        let is_old = number_of(&file.name).is_some_and(|number| number < kept);
        if is_old || file.name.starts_with(TEMPORARY) {
            store.remove(&format!("{folder}/{}", file.name))?;
        }
    }
    Ok(())
}
