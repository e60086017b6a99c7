//! Files in which the sandbox's state survives a restart: one log of facts per vendor, each fact written before
//! its request is answered.
//!
//! Facts are written and not synced: the sandbox must survive a killed process, not a power failure. A last
//! line without its newline was never answered, so it is dropped.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SandboxError;

/// The memory folder, locked by this process.
#[derive(Debug)]
pub(super) struct MemoryFolder {
    folder: PathBuf,
    _lock: File,
}

/// A log of facts, open for appending.
#[derive(Debug)]
pub(super) struct FactLog {
    file: File,
}

impl MemoryFolder {
    /// Opens and locks the folder.
    pub(super) fn open(folder: &Path) -> Result<Self, SandboxError> {
        let failed = |source| SandboxError::Memory { path: folder.to_owned(), source };
        let lock = lock(folder).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(SandboxError::MemoryInUse(folder.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    fn failed(&self, source: io::Error) -> SandboxError {
        SandboxError::Memory { path: self.folder.clone(), source }
    }

    /// Calls `apply` with every fact of a log. Returns how many there were.
    pub(super) fn replay<F: DeserializeOwned>(
        &self,
        list: &str,
        apply: impl FnMut(F),
    ) -> Result<u64, SandboxError> {
        replay(&self.folder.join(list), apply).map_err(|e| self.failed(e))
    }

    /// Replaces a log.
    pub(super) fn rewrite<F: Serialize>(
        &self,
        list: &str,
        facts: impl Iterator<Item = F>,
    ) -> Result<(), SandboxError> {
        rewrite(&self.folder, list, facts).map_err(|e| self.failed(e))
    }

    /// Opens a log for appending.
    pub(super) fn open_log(&self, list: &str) -> Result<FactLog, SandboxError> {
        let file = options().append(true).create(true).open(self.folder.join(list));
        file.map(|file| FactLog { file }).map_err(|e| self.failed(e))
    }
}

impl FactLog {
    /// Appends facts in one write.
    pub(super) fn append<F: Serialize>(&mut self, facts: &[F]) -> io::Result<()> {
        let mut lines = Vec::new();
        for fact in facts {
            serde_json::to_writer(&mut lines, fact)?;
            lines.push(b'\n');
        }
        self.file.write_all(&lines)
    }
}

fn lock(folder: &Path) -> io::Result<File> {
    make_private(folder)?;
    options().write(true).create(true).truncate(false).open(folder.join("lock"))
}

/// Reads a log and truncates an unfinished last line.
fn replay<F: DeserializeOwned>(path: &Path, mut apply: impl FnMut(F)) -> io::Result<u64> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let (mut reader, mut line, mut whole, mut lines) = (BufReader::new(file), Vec::new(), 0, 0);
    while reader.read_until(b'\n', &mut line)? > 0 {
        if !line.ends_with(b"\n") {
            OpenOptions::new().write(true).open(path)?.set_len(whole)?;
            break;
        }
        apply(serde_json::from_slice(&line)?);
        whole += line.len() as u64;
        lines += 1;
        line.clear();
    }
    Ok(lines)
}

fn rewrite<F: Serialize>(folder: &Path, list: &str, facts: impl Iterator<Item = F>) -> io::Result<()> {
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    let mut writer = BufWriter::new(new.as_file_mut());
    for fact in facts {
        serde_json::to_writer(&mut writer, &fact)?;
        writer.write_all(b"\n")?;
    }
    writer.flush()?;
    drop(writer);
    new.persist(folder.join(list)).map(drop).map_err(|e| e.error)
}

#[cfg(unix)]
fn options() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

#[cfg(unix)]
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn options() -> OpenOptions {
    OpenOptions::new()
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(memory: &MemoryFolder) -> Vec<u64> {
        let mut facts = Vec::new();
        memory.replay("list", |fact| facts.push(fact)).unwrap();
        facts
    }

    #[test]
    fn unfinished_facts_are_dropped_and_complete_ones_survive_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let memory = MemoryFolder::open(home.path()).unwrap();
        assert!(matches!(MemoryFolder::open(home.path()), Err(SandboxError::MemoryInUse(_))));
        let mut list = memory.open_log("list").unwrap();
        list.append(&[1, 2]).unwrap();
        list.file.write_all(b"3").unwrap();
        assert_eq!(facts(&memory), [1, 2]);
        list.append(&[4]).unwrap();
        drop((memory, list));
        let memory = MemoryFolder::open(home.path()).unwrap();
        assert_eq!(facts(&memory), [1, 2, 4]);
        memory.rewrite("list", [7, 8].iter()).unwrap();
        assert_eq!(facts(&memory), [7, 8]);
    }
}
