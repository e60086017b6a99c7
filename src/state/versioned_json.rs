//! Versioned JSON documents: the highest version is current; writes are put-if-absent.
//!
//! ```text
//! <folder>/000000000012.json   {"format":2,"version":12,…,"checksum":"…"}
//! ```
//!
//! # Guarantees
//! Each number is used once. A version appears complete or not at all, and a successful write is durable. If the newest
//! version is damaged, missing or of another format, reading it is an error: an older version never replaces it.
//!
//! # Expected flow
//! `entry` adds the lease and the index of newest versions. `gc` removes versions that name parts, because a reader may
//! still use the parts.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::checked::{self, CheckedFile};
use super::store::{Store, StoredFile, TEMPORARY};
use super::{StateError, format_number};
use crate::foreign::json_error;

/// How often a reader lists again after a writer has removed the listed version.
const TRIES: u32 = 4;

/// Which earlier versions a write removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retention {
    /// None of them.
    All,
    /// All but the newest ones, so many including the new one. Concurrent readers need at least two.
    Newest(u64),
}

/// The file format.
#[derive(Serialize)]
struct DocumentJson<'a, T> {
    format: u64,
    version: u64,
    #[serde(flatten)]
    content: &'a T,
}

/// The version number in a file name.
pub(super) fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".json")?.parse().ok()
}

/// The path of a version.
pub(super) fn path_of(folder: &str, number: u64) -> String {
    format!("{folder}/{number:012}.json")
}

/// The files in a folder of versions.
pub(super) struct VersionFiles {
    /// The versions, oldest first.
    pub(super) versions: Vec<(u64, StoredFile)>,
    /// Files that are no versions, such as temporary files of a crash.
    pub(super) others: Vec<StoredFile>,
}

/// The versions of one document.
pub(super) struct Versions<'a> {
    store: &'a Store,
    folder: String,
    /// Whether files are written with line breaks.
    is_pretty: bool,
}

impl<'a> Versions<'a> {
    pub(super) fn new(store: &'a Store, folder: impl Into<String>) -> Self {
        Self { store, folder: folder.into(), is_pretty: false }
    }

    /// Writes files with line breaks, for short documents that people read.
    pub(super) fn pretty(self) -> Self {
        Self { is_pretty: true, ..self }
    }

    /// The folder in the state.
    pub(super) fn folder(&self) -> &str {
        &self.folder
    }

    /// The path of a version in the state.
    pub(super) fn path_of(&self, number: u64) -> String {
        path_of(&self.folder, number)
    }

    /// Returns the existing numbers, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub(super) fn numbers(&self) -> Result<Vec<u64>, StateError> {
        let mut numbers: Vec<u64> =
            self.store.list(&self.folder)?.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Returns the newest number, even if its file is damaged. 0: there is none.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub(super) fn newest_number(&self) -> Result<u64, StateError> {
        Ok(self.numbers()?.pop().unwrap_or(0))
    }

    /// Lists the folder, including temporary files.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub(super) fn files(&self) -> Result<VersionFiles, StateError> {
        let mut files = VersionFiles { versions: Vec::new(), others: Vec::new() };
        for file in self.store.files(&self.folder)? {
            match number_of(&file.name) {
                Some(number) => files.versions.push((number, file)),
                None => files.others.push(file),
            }
        }
        files.versions.sort_unstable_by_key(|(number, _)| *number);
        Ok(files)
    }

    /// Returns the newest version with its number. `convert` returns `None` if a value is out of range.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub(super) fn newest<J: DeserializeOwned, T>(
        &self,
        convert: impl Fn(J, u64) -> Option<T>,
    ) -> Result<Option<(u64, T)>, StateError> {
        let mut tries = TRIES;
        loop {
            let Some(number) = self.numbers()?.pop() else { return Ok(None) };
            match self.find(number, &convert)? {
                Some(content) => return Ok(Some((number, content))),
                None if tries == 1 => return Err(checked::gone(self.store, &self.path_of(number))),
                None => tries -= 1,
            }
        }
    }

    /// Returns a version that must exist.
    ///
    /// # Errors
    /// When it cannot be read, is missing or damaged.
    pub(super) fn read<J: DeserializeOwned, T>(
        &self,
        number: u64,
        convert: impl Fn(J, u64) -> Option<T>,
    ) -> Result<T, StateError> {
        self.find(number, &convert)?.ok_or_else(|| checked::gone(self.store, &self.path_of(number)))
    }

    fn find<J: DeserializeOwned, T>(
        &self,
        number: u64,
        convert: &impl Fn(J, u64) -> Option<T>,
    ) -> Result<Option<T>, StateError> {
        let file = self.path_of(number);
        let Some(CheckedFile { bytes, version }) = checked::read_bytes(self.store, &file)? else {
            return Ok(None);
        };
        let damaged = |problem: &dyn ToString| StateError::Damaged {
            path: self.store.at(&file),
            problem: problem.to_string(),
        };
        match version {
            None => return Err(damaged(&"it has no version number")),
            Some(version) if version != number => return Err(damaged(&"it is another version")),
            Some(_) => {}
        }
        let shape = serde_json::from_slice(&bytes).map_err(|e| damaged(&json_error(&e)))?;
        convert(shape, number).map(Some).ok_or_else(|| damaged(&"a value is out of range"))
    }

    /// Writes a version. Returns `false`, and changes nothing, if its number is taken.
    ///
    /// # Errors
    /// When the write fails. It may have taken effect.
    pub(super) fn put(
        &self,
        number: u64,
        content: &impl Serialize,
        retention: Retention,
    ) -> Result<bool, StateError> {
        let document = DocumentJson { format: format_number::SUPPORTED, version: number, content };
        let path = self.path_of(number);
        let is_new = match self.is_pretty {
            true => checked::put_new(self.store, &path, &document)?,
            false => checked::put_new_compact(self.store, &path, &document)?,
        };
        if !is_new {
            return Ok(false);
        }
        if let Retention::Newest(kept) = retention
            && let Err(error) = self.remove_before((number + 1).saturating_sub(kept))
        {
            // The version is committed, and the next write removes what is left.
            tracing::warn!("earlier versions in {} were not removed: {error}", self.folder);
        }
        Ok(true)
    }

    /// Removes the versions before `number`, and temporary files of a crash. Returns the removed paths.
    ///
    /// # Errors
    /// When the folder cannot be listed, or a file cannot be removed.
    pub(super) fn remove_before(&self, number: u64) -> Result<Vec<String>, StateError> {
        let VersionFiles { versions, others } = self.files()?;
        let old = versions.into_iter().filter(|(old, _)| *old < number).map(|(_, file)| file);
        let temporary = others.into_iter().filter(|file| file.name.starts_with(TEMPORARY));
        let paths: Vec<String> =
            old.chain(temporary).map(|file| format!("{}/{}", self.folder, file.name)).collect();
        paths.iter().try_for_each(|path| self.store.remove(path))?;
        Ok(paths)
    }

    /// Removes one version.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(super) fn remove(&self, number: u64) -> Result<(), StateError> {
        Ok(self.store.remove(&self.path_of(number))?)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::store::{Crash, MemoryStore};
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Content {
        text: String,
    }

    fn content(text: &dyn ToString) -> Content {
        Content { text: text.to_string() }
    }

    fn memory() -> (MemoryStore, Store) {
        let memory = MemoryStore::default();
        (memory.clone(), Store::Memory(memory))
    }

    fn newest(versions: &Versions<'_>) -> Result<Option<(u64, Content)>, StateError> {
        versions.newest(|content, _| Some(content))
    }

    #[test]
    fn each_number_is_used_once_and_the_newest_is_current() {
        let store = Store::in_memory();
        let versions = Versions::new(&store, "a");
        assert_eq!((newest(&versions).unwrap(), versions.newest_number().unwrap()), (None, 0));
        for number in [1, 2, 10] {
            assert!(versions.put(number, &content(&number), Retention::All).unwrap());
        }
        assert!(!versions.put(2, &content(&"another"), Retention::Newest(1)).unwrap());
        assert_eq!(versions.numbers().unwrap(), [1, 2, 10]);
        assert_eq!(newest(&versions).unwrap(), Some((10, content(&10))));
        let second = versions.read(2, |content: Content, number| Some((content, number)));
        assert_eq!(second.unwrap(), (content(&2), 2));
        let bytes = store.read("a/000000000010.json").unwrap().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with(r#"{"format":2,"version":10,"text":"10","#), "{text}");
    }

    #[test]
    fn a_write_removes_versions_beyond_those_that_are_kept() {
        let store = Store::in_memory();
        let versions = Versions::new(&store, "a");
        for number in 1..=7 {
            assert!(versions.put(number, &content(&number), Retention::Newest(3)).unwrap());
        }
        assert_eq!(versions.numbers().unwrap(), [5, 6, 7]);
        store.put_new(&format!("a/{TEMPORARY}x"), b"half").unwrap();
        let removed = versions.remove_before(7).unwrap();
        assert_eq!(removed, [path_of("a", 5), path_of("a", 6), format!("a/{TEMPORARY}x")]);
        assert_eq!(store.files("a").unwrap().len(), 1);
    }

    #[test]
    fn a_crash_at_every_step_leaves_the_old_or_the_new_version() {
        for crash in [Crash::Process, Crash::Machine] {
            let mut outcomes = std::collections::BTreeSet::new();
            for steps in 0.. {
                let (memory, store) = memory();
                let versions = Versions::new(&store, "a");
                for number in 1..=3 {
                    assert!(versions.put(number, &content(&number), Retention::All).unwrap());
                }
                memory.fail_after(steps);
                let written = versions.put(4, &content(&4), Retention::Newest(2));
                let has_failed = memory.has_failed();
                memory.restart(crash);
                let (number, found) = newest(&versions).unwrap().unwrap();
                assert_eq!(found, content(&number), "{crash:?} after {steps} steps");
                assert!(number == 3 || number == 4, "{crash:?} after {steps} steps: {number}");
                assert!(written.is_err() || number == 4, "a successful write is durable: {steps}");
                outcomes.insert((written.is_ok(), number));
                // The next write completes what the crash interrupted.
                assert!(versions.put(number + 1, &content(&(number + 1)), Retention::Newest(2)).unwrap());
                assert_eq!(
                    versions.numbers().unwrap(),
                    [number, number + 1],
                    "{crash:?} after {steps} steps"
                );
                assert!(versions.files().unwrap().others.is_empty(), "no temporary file: {steps}");
                if !has_failed {
                    break;
                }
            }
            let named_but_not_synced = if crash == Crash::Process { Some((false, 4)) } else { None };
            let expected = [Some((false, 3)), named_but_not_synced, Some((true, 4))];
            assert_eq!(outcomes, expected.into_iter().flatten().collect(), "{crash:?}");
        }
    }

    #[test]
    fn a_failed_removal_of_old_versions_is_no_failed_write() {
        let (memory, store) = memory();
        let versions = Versions::new(&store, "a");
        for number in 1..=2 {
            assert!(versions.put(number, &content(&number), Retention::All).unwrap());
        }
        memory.fail_after(5);
        assert!(versions.put(3, &content(&3), Retention::Newest(1)).unwrap());
        assert!(memory.has_failed());
        assert!(versions.remove_before(3).is_err(), "an explicit removal reports its failure");
        memory.restart(Crash::Process);
        assert_eq!(versions.numbers().unwrap(), [1, 2, 3]);
        assert!(versions.put(4, &content(&4), Retention::Newest(1)).unwrap());
        assert_eq!(versions.numbers().unwrap(), [4]);
    }

    #[test]
    fn an_unreadable_newest_version_is_never_an_older_one_or_none() {
        let store = Store::in_memory();
        let versions = Versions::new(&store, "a");
        assert!(versions.put(1, &content(&"old"), Retention::All).unwrap());
        let object = |text: &str| checked::seal(&path_of("a", 2), text.as_bytes());
        let elsewhere = checked::seal(&path_of("b", 2), br#"{"format":2,"version":2,"text":""}"#);
        for (bytes, problem) in [
            (Vec::new(), "it is empty"),
            (object(r#"{"format":2,"version":2,"text":"x"}"#)[..30].to_vec(), "its checksum does not match"),
            (elsewhere, "its checksum does not match"),
            (object(r#"{"format":2,"version":1,"text":"x"}"#), "it is another version"),
            (object(r#"{"format":2,"text":"x"}"#), "it has no version number"),
            (object(r#"{"format":2,"version":2,"text":7}"#), "invalid type: integer `…`"),
            (object(r#"{"format":1,"version":2,"text":"x"}"#), "format 1 is not supported any more"),
            (
                object(r#"{"format":3,"version":2,"text":"x"}"#),
                "has format 3; this program supports format 2",
            ),
        ] {
            store.put_new(&path_of("a", 2), &bytes).unwrap();
            let error = newest(&versions).unwrap_err().to_string();
            assert!(error.contains("a/000000000002.json") && error.contains(problem), "{error}");
            assert_eq!(versions.newest_number().unwrap(), 2);
            versions.remove(2).unwrap();
        }
        let out_of_range = versions.newest(|_: Content, _| None::<()>).unwrap_err().to_string();
        assert!(out_of_range.ends_with("is damaged: a value is out of range"), "{out_of_range}");
        let missing = versions.read(7, |content: Content, _| Some(content)).unwrap_err().to_string();
        assert!(missing.ends_with("a/000000000007.json is damaged: it is missing"), "{missing}");
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_not_empty() {
        let (memory, store) = memory();
        let versions = Versions::new(&store, "a");
        memory.set_unreadable(true);
        assert!(matches!(newest(&versions), Err(StateError::Store(_))));
        assert!(versions.newest_number().is_err() && versions.files().is_err());
        memory.set_unreadable(false);
        assert_eq!(newest(&versions).unwrap(), None);
    }

    #[test]
    fn a_reader_finds_the_version_that_replaced_the_listed_one() {
        let (memory, store) = memory();
        let versions = Versions::new(&store, "a");
        assert!(versions.put(1, &content(&1), Retention::All).unwrap());
        memory.before_read(|memory| {
            let store = Store::Memory(memory.clone());
            let versions = Versions::new(&store, "a");
            assert!(versions.put(2, &content(&2), Retention::Newest(1)).unwrap());
        });
        assert_eq!(newest(&versions).unwrap(), Some((2, content(&2))));
    }
}
