//! In-memory store for unit tests and the simulation, with faults.
//!
//! A write has the steps of a folder: create a temporary file, write it, sync it, name it, sync the folder. A removal
//! is one step and never durable, which is the worst case. From the chosen step on every step fails, as after a crash,
//! until [`MemoryStore::restart`].
//!
//! A simulated process has its own handle, made by [`MemoryStore::of_process`]. Its [`StoreFaults`] decide the result of
//! each step, and whether the process still runs. The files are shared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Blob, GrowingFile, PendingFile, PendingTarget, StoreError, StoredFile, TEMPORARY};
use crate::model::Timestamp;

/// Decides the steps of one simulated process. It is called without a lock, so that it can let other processes run.
pub(crate) trait StoreFaults: Send + Sync {
    /// Called before a step that changes a file.
    fn before_write(&self, action: &'static str, relative: &str) -> io::Result<()>;

    /// Called before a file or a folder is read.
    fn before_read(&self, action: &'static str, relative: &str) -> io::Result<()>;

    /// The time of a write.
    fn now(&self) -> Timestamp;

    /// Whether the process still runs. A lock of a process that has ended is free.
    fn is_alive(&self) -> bool;
}

/// What a crash ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process: everything written stays.
    Process,
    /// The machine: everything that is not durable is lost, and removed files reappear.
    Machine,
}

#[derive(Clone, Debug, Default)]
struct MemoryFile {
    bytes: Vec<u8>,
    written: Timestamp,
    /// How many of the bytes are on disk for certain, if the name is.
    synced_len: usize,
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
    /// The process that holds the lock on the state.
    locked_by: Option<Arc<dyn StoreFaults>>,
}

/// A store in memory. Clones share the files.
#[derive(Clone, Default)]
pub struct MemoryStore {
    files: Arc<Mutex<MemoryFiles>>,
    process: Option<Arc<dyn StoreFaults>>,
}

/// The lock on a state in memory. Dropping it releases it.
#[derive(Debug)]
pub(in super::super) struct MemoryLock(MemoryStore);

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut all = self.0.lock();
        let is_ours = all.locked_by.as_ref().zip(self.0.process.as_ref());
        if is_ours.is_some_and(|(holder, process)| Arc::ptr_eq(holder, process)) {
            all.locked_by = None;
        }
    }
}

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

    /// Makes the names in a folder durable, with the bytes that were synced.
    fn sync_folder(&mut self, folder: &str) {
        let in_folder = |path: &&String| path.rsplit_once('/').unwrap_or_default().0 == folder;
        let paths: Vec<String> = self.visible.keys().filter(in_folder).cloned().collect();
        for path in paths {
            let file = self.visible[&path].clone();
            let bytes = file.bytes[..file.synced_len].to_vec();
            self.durable.insert(path, MemoryFile { bytes, ..file });
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
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same files, as a process with these faults uses them.
    pub(crate) fn of_process(&self, process: Arc<dyn StoreFaults>) -> Self {
        Self { files: Arc::clone(&self.files), process: Some(process) }
    }

    /// Takes the lock on the state. `None`: another process that still runs holds it.
    pub(in super::super) fn try_lock(&self) -> Option<MemoryLock> {
        let mut all = self.lock();
        if all.locked_by.as_ref().is_some_and(|holder| holder.is_alive()) {
            return None;
        }
        all.locked_by = self.process.clone();
        Some(MemoryLock(self.clone()))
    }

    /// Whether a process that still runs holds the lock.
    pub(in super::super) fn is_locked(&self) -> bool {
        self.lock().locked_by.as_ref().is_some_and(|holder| holder.is_alive())
    }

    /// All files with their contents, as another process sees them.
    pub(crate) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        self.lock().visible.iter().map(|(path, file)| (path.clone(), file.bytes.clone())).collect()
    }

    /// Makes everything durable.
    pub(crate) fn sync_all(&self) {
        let mut all = self.lock();
        all.visible.values_mut().for_each(|file| file.synced_len = file.bytes.len());
        all.durable = all.visible.clone();
    }

    /// Replaces a file, as a fault of the disk or a restored copy does. `None`: it is deleted.
    pub(crate) fn replace(&self, relative: &str, bytes: Option<&[u8]>, now: Timestamp) {
        let mut all = self.lock();
        let written = all.visible.get(relative).map_or(now, |file| file.written);
        let MemoryFiles { visible, durable, .. } = &mut *all;
        for files in [visible, durable] {
            match bytes {
                None => drop(files.remove(relative)),
                Some(bytes) => {
                    let file = MemoryFile { bytes: bytes.to_vec(), written, synced_len: bytes.len() };
                    files.insert(relative.to_owned(), file);
                }
            }
        }
    }

    /// One step of a write.
    fn step(&self, action: &'static str, relative: &str) -> Result<MutexGuard<'_, MemoryFiles>, StoreError> {
        if let Some(process) = &self.process {
            let allowed = process.before_write(action, relative);
            allowed.map_err(|e| StoreError::new(action, &Self::at(relative), e))?;
        }
        let mut all = self.lock();
        all.step(action, relative)?;
        Ok(all)
    }

    /// One step of a read.
    fn begin_read(
        &self,
        action: &'static str,
        relative: &str,
    ) -> Result<MutexGuard<'_, MemoryFiles>, StoreError> {
        if let Some(process) = &self.process {
            let allowed = process.before_read(action, relative);
            allowed.map_err(|e| StoreError::new(action, &Self::at(relative), e))?;
        }
        let all = self.lock();
        all.readable(action, relative)?;
        Ok(all)
    }

    /// The time of the next write, and a number that no other write has.
    fn tick(&self) -> (Timestamp, i64) {
        let mut all = self.lock();
        all.clock += 1;
        let by_count = || Timestamp::from_millisecond(all.clock).unwrap_or_default();
        (self.process.as_ref().map_or_else(by_count, |process| process.now()), all.clock)
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
    pub(crate) fn restart(&self, crash: Crash) {
        let mut all = self.lock();
        all.steps_left = None;
        if crash == Crash::Machine {
            all.visible = all.durable.clone();
        }
    }

    /// Continues after a crash of the machine. `survives` decides for each change that is not durable how many of its bytes
    /// are on disk; `None`: all of them. A removed file reappears if none are.
    pub(crate) fn restart_torn(&self, mut survives: impl FnMut(&str, usize) -> Option<usize>) {
        let mut all = self.lock();
        let MemoryFiles { visible, durable, .. } = &mut *all;
        let paths: BTreeSet<String> = visible.keys().chain(durable.keys()).cloned().collect();
        for path in paths {
            let (seen, synced) = (visible.get(&path), durable.get(&path));
            let len = seen.map_or(0, |file| file.bytes.len());
            if seen.map(|file| &file.bytes) == synced.map(|file| &file.bytes) {
                continue;
            }
            let kept = match (seen, synced, survives(&path, len)) {
                (Some(file), _, None) => Some(file.clone()),
                (None, _, None) => None,
                (_, synced, Some(0)) => synced.cloned(),
                (Some(file), _, Some(len)) => {
                    let len = len.clamp(file.synced_len, file.bytes.len());
                    Some(MemoryFile { bytes: file.bytes[..len].to_vec(), ..file.clone() })
                }
                (None, synced, Some(_)) => synced.cloned(),
            };
            for files in [&mut *visible, &mut *durable] {
                match &kept {
                    Some(file) => drop(files.insert(path.clone(), file.clone())),
                    None => drop(files.remove(&path)),
                }
            }
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
        let all = self.begin_read("read", relative)?;
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
        let all = self.begin_read("list", relative)?;
        let below = all.visible.keys().filter_map(|path| below(path, relative));
        let names = below.filter_map(|path| path.split('/').next()).filter(|name| !name.starts_with('.'));
        Ok(names.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect())
    }

    pub(super) fn files(&self, relative: &str) -> Result<Vec<StoredFile>, StoreError> {
        let all = self.begin_read("list", relative)?;
        let file = |(path, file): (&String, &MemoryFile)| {
            let name = below(path, relative).filter(|name| !name.contains('/'))?.to_owned();
            Some(StoredFile { name, bytes: file.bytes.len() as u64, written: file.written })
        };
        Ok(all.visible.iter().filter_map(file).collect())
    }

    pub(super) fn put_new(&self, relative: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        let (written, number) = self.tick();
        let (folder, _) = relative.rsplit_once('/').unwrap_or_default();
        let separator = if folder.is_empty() { "" } else { "/" };
        let temporary = format!("{folder}{separator}{TEMPORARY}{number}");
        let half = MemoryFile { bytes: bytes[..bytes.len() / 2].to_vec(), written, synced_len: 0 };
        self.step("create a file in", relative)?.visible.insert(temporary.clone(), half);
        let mut whole = MemoryFile { bytes: bytes.to_vec(), written, synced_len: 0 };
        self.step("write", relative)?.visible.insert(temporary.clone(), whole.clone());
        whole.synced_len = whole.bytes.len();
        self.step("sync", relative)?.visible.insert(temporary.clone(), whole.clone());
        let mut all = self.step("name", relative)?;
        all.visible.remove(&temporary);
        if all.visible.contains_key(relative) {
            return Ok(false);
        }
        all.visible.insert(relative.to_owned(), whole.clone());
        drop(all);
        self.step("sync", relative)?.sync_folder(folder);
        Ok(true)
    }

    /// Replaces a file in place, which may not be durable.
    pub(in super::super) fn overwrite(&self, relative: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let (written, _) = self.tick();
        let file = MemoryFile { bytes: bytes.to_vec(), written, synced_len: 0 };
        self.step("write", relative)?.visible.insert(relative.to_owned(), file);
        Ok(())
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

    /// Creates an append-only file.
    pub(super) fn growing(&self, relative: &str) -> Result<GrowingFile, StoreError> {
        let (written, _) = self.tick();
        let file = MemoryFile { bytes: Vec::new(), written, synced_len: 0 };
        let mut all = self.step("create", relative)?;
        if all.visible.contains_key(relative) {
            return Err(StoreError::exists(&Self::at(relative)));
        }
        all.visible.insert(relative.to_owned(), file.clone());
        drop(all);
        self.step("sync", relative)?.durable.insert(relative.to_owned(), file);
        Ok(GrowingFile::Memory { store: self.clone(), relative: relative.to_owned(), torn: false })
    }

    /// Appends to a file. A failed step leaves half of the bytes.
    pub(super) fn append(&self, relative: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let (written, _) = self.tick();
        let allowed = self.step("append to", relative).map(drop);
        let kept = if allowed.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let may_write = self.process.as_ref().is_none_or(|process| process.is_alive());
        if let Some(file) = self.lock().visible.get_mut(relative).filter(|_| may_write) {
            file.bytes.extend_from_slice(kept);
            file.written = written;
        }
        allowed
    }

    /// Makes appended bytes durable.
    pub(super) fn sync(&self, relative: &str) -> Result<(), StoreError> {
        let mut all = self.step("sync", relative)?;
        if let Some(file) = all.visible.get_mut(relative) {
            file.synced_len = file.bytes.len();
            let file = file.clone();
            all.durable.insert(relative.to_owned(), file);
        }
        Ok(())
    }

    pub(super) fn remove(&self, relative: &str) -> Result<(), StoreError> {
        self.step("remove", relative)?.visible.remove(relative);
        Ok(())
    }
}

/// Returns the rest of a path below a folder.
fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    if folder.is_empty() { Some(path) } else { path.strip_prefix(folder)?.strip_prefix('/') }
}
