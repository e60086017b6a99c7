//! In-memory store for unit tests, with a fault at a chosen step.
//!
//! A write has the steps of a folder: create a temporary file, write it, sync it, name it, sync the folder. A removal
//! is one step and never durable, which is the worst case. From the chosen step on every step fails, as after a crash,
//! until [`MemoryStore::restart`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Blob, PendingFile, PendingTarget, StoreError, StoredFile, TEMPORARY};
use crate::model::Timestamp;

/// What a crash ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Crash {
    /// The process: everything written stays.
    Process,
    /// The machine: everything that is not durable is lost, and removed files reappear.
    Machine,
}

#[derive(Clone, Debug, Default)]
struct MemoryFile {
    bytes: Vec<u8>,
    written: Timestamp,
}

/// Runs before the next read.
type ReadHook = Box<dyn FnOnce(&MemoryStore) + Send>;

#[derive(Default)]
struct MemoryFiles {
    visible: BTreeMap<String, MemoryFile>,
    durable: BTreeMap<String, MemoryFile>,
    /// Steps until the fault. `None`: there is no fault.
    steps_left: Option<u64>,
    /// Reads and listings fail.
    is_unreadable: bool,
    /// Milliseconds, advanced by every write.
    clock: i64,
    before_read: Option<ReadHook>,
}

/// A store in memory. Clones share the files.
#[derive(Clone, Default)]
pub(in super::super) struct MemoryStore(Arc<Mutex<MemoryFiles>>);

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().visible.keys()).finish()
    }
}

impl MemoryFiles {
    fn step(&mut self, action: &'static str, relative: &str) -> Result<(), StoreError> {
        match &mut self.steps_left {
            Some(0) => Err(StoreError::new(action, Path::new(relative), io::ErrorKind::StorageFull.into())),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn readable(&self, action: &'static str, relative: &str) -> Result<(), StoreError> {
        match self.is_unreadable {
            true => Err(StoreError::new(action, Path::new(relative), io::ErrorKind::PermissionDenied.into())),
            false => Ok(()),
        }
    }
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, MemoryFiles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `steps` steps succeed, and every later one fail.
    pub(in super::super) fn fail_after(&self, steps: u64) {
        self.lock().steps_left = Some(steps);
    }

    /// Whether a step has failed.
    pub(in super::super) fn has_failed(&self) -> bool {
        self.lock().steps_left == Some(0)
    }

    /// Lets reads and listings fail.
    pub(in super::super) fn set_unreadable(&self, is_unreadable: bool) {
        self.lock().is_unreadable = is_unreadable;
    }

    /// Calls `act` before the next read.
    pub(in super::super) fn before_read(&self, act: impl FnOnce(&Self) + Send + 'static) {
        self.lock().before_read = Some(Box::new(act));
    }

    /// Continues after a crash, without the fault.
    pub(in super::super) fn restart(&self, crash: Crash) {
        let mut all = self.lock();
        all.steps_left = None;
        if crash == Crash::Machine {
            all.visible = all.durable.clone();
        }
    }

    pub(super) fn at(relative: &str) -> PathBuf {
        Path::new("memory").join(relative)
    }

    pub(super) fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let before = self.lock().before_read.take();
        if let Some(act) = before {
            act(self);
        }
        let all = self.lock();
        all.readable("read", relative)?;
        Ok(all.visible.get(relative).map(|file| file.bytes.clone()))
    }

    pub(super) fn open_blob(&self, relative: &str) -> Result<Blob, StoreError> {
        let failed = |e| StoreError::new("open", &Self::at(relative), e);
        let bytes = self.read(relative)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let mut file = tempfile::tempfile().map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        Ok(Blob::of_file(Self::at(relative), file, bytes.len() as u64))
    }

    pub(super) fn list(&self, relative: &str) -> Result<Vec<String>, StoreError> {
        let all = self.lock();
        all.readable("list", relative)?;
        let below = all.visible.keys().filter_map(|path| below(path, relative));
        let names = below.filter_map(|path| path.split('/').next()).filter(|name| !name.starts_with('.'));
        Ok(names.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect())
    }

    pub(super) fn files(&self, relative: &str) -> Result<Vec<StoredFile>, StoreError> {
        let all = self.lock();
        all.readable("list", relative)?;
        let file = |(path, file): (&String, &MemoryFile)| {
            let name = below(path, relative).filter(|name| !name.contains('/'))?.to_owned();
            Some(StoredFile { name, bytes: file.bytes.len() as u64, written: file.written })
        };
        Ok(all.visible.iter().filter_map(file).collect())
    }

    pub(super) fn put_new(&self, relative: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        let mut all = self.lock();
        all.clock += 1;
        let written = Timestamp::from_millisecond(all.clock).unwrap_or_default();
        let (folder, _) = relative.rsplit_once('/').unwrap_or_default();
        let separator = if folder.is_empty() { "" } else { "/" };
        let temporary = format!("{folder}{separator}{TEMPORARY}{}", all.clock);
        all.step("create a file in", relative)?;
        let half = MemoryFile { bytes: bytes[..bytes.len() / 2].to_vec(), written };
        all.visible.insert(temporary.clone(), half);
        all.step("write", relative)?;
        let whole = MemoryFile { bytes: bytes.to_vec(), written };
        all.visible.insert(temporary.clone(), whole.clone());
        all.step("sync", relative)?;
        all.step("name", relative)?;
        all.visible.remove(&temporary);
        if all.visible.contains_key(relative) {
            return Ok(false);
        }
        all.visible.insert(relative.to_owned(), whole.clone());
        all.step("sync", relative)?;
        all.durable.insert(relative.to_owned(), whole);
        Ok(true)
    }

    pub(super) fn pending(&self, relative: &str) -> Result<PendingFile, StoreError> {
        let file = tempfile::tempfile();
        let file = file.map_err(|e| StoreError::new("create a file for", &Self::at(relative), e))?;
        Ok(PendingFile { file, target: PendingTarget::Memory(self.clone(), relative.to_owned()) })
    }

    pub(super) fn commit(&self, mut file: std::fs::File, relative: &str) -> Result<bool, StoreError> {
        let mut bytes = Vec::new();
        let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
        read.map_err(|e| StoreError::new("read", &Self::at(relative), e))?;
        self.put_new(relative, &bytes)
    }

    pub(super) fn remove(&self, relative: &str) -> Result<(), StoreError> {
        let mut all = self.lock();
        all.step("remove", relative)?;
        all.visible.remove(relative);
        Ok(())
    }
}

/// Returns the rest of a path below a folder.
fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    if folder.is_empty() { Some(path) } else { path.strip_prefix(folder)?.strip_prefix('/') }
}
