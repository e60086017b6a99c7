//! The sandbox's memory: facts in a file, each written before its request is answered.
//!
//! Written is enough, synced is not needed: what the sandbox must survive is a killed process, not a
//! machine without power. A last line without its end was never answered and is dropped.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SandboxError;

/// A folder with lists of facts, held by this process alone.
#[derive(Debug)]
pub(super) struct Memory {
    folder: PathBuf,
    _lock: File,
}

/// One list of facts, to be made longer.
#[derive(Debug)]
pub(super) struct Facts {
    file: File,
}

impl Memory {
    /// Takes the folder.
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

    /// Gives `learn` every fact of a list and says how many there were.
    pub(super) fn recall<F: DeserializeOwned>(
        &self,
        list: &str,
        learn: impl FnMut(F),
    ) -> Result<u64, SandboxError> {
        recall(&self.folder.join(list), learn).map_err(|e| self.failed(e))
    }

    /// Writes a list anew.
    pub(super) fn rewrite<F: Serialize>(
        &self,
        list: &str,
        facts: impl Iterator<Item = F>,
    ) -> Result<(), SandboxError> {
        rewrite(&self.folder, list, facts).map_err(|e| self.failed(e))
    }

    /// Opens a list to make it longer.
    pub(super) fn append(&self, list: &str) -> Result<Facts, SandboxError> {
        let file = options().append(true).create(true).open(self.folder.join(list));
        file.map(|file| Facts { file }).map_err(|e| self.failed(e))
    }
}

impl Facts {
    /// Keeps facts, all in one write.
    pub(super) fn keep<F: Serialize>(&mut self, facts: &[F]) -> io::Result<()> {
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

/// Reads a list; cuts off a line that was never finished.
fn recall<F: DeserializeOwned>(path: &Path, mut learn: impl FnMut(F)) -> io::Result<u64> {
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
        learn(serde_json::from_slice(&line)?);
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

    fn known(memory: &Memory) -> Vec<u64> {
        let mut known = Vec::new();
        memory.recall("list", |fact| known.push(fact)).unwrap();
        known
    }

    #[test]
    fn it_remembers_whole_facts_only() {
        let home = tempfile::tempdir().unwrap();
        let memory = Memory::open(home.path()).unwrap();
        assert!(matches!(Memory::open(home.path()), Err(SandboxError::MemoryInUse(_))));
        let mut list = memory.append("list").unwrap();
        list.keep(&[1, 2]).unwrap();
        list.file.write_all(b"3").unwrap();
        assert_eq!(known(&memory), [1, 2]);
        list.keep(&[4]).unwrap();
        drop((memory, list));
        let memory = Memory::open(home.path()).unwrap();
        assert_eq!(known(&memory), [1, 2, 4]);
        memory.rewrite("list", [7, 8].iter()).unwrap();
        assert_eq!(known(&memory), [7, 8]);
    }
}
