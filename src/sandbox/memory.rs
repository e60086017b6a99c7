//! The sandbox's memory: facts in a file, each written before its request is answered.
//!
//! Written is enough, synced is not needed: what the sandbox must survive is a killed process, not a
//! machine without power. A last line without its end was never answered and is dropped.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use super::SandboxError;
use super::world::{Fact, World};

const FILE: &str = "facts.ndjson";
/// Lines after which the list is written anew from the world that it makes.
const LINES_MAX: u64 = 20_000;

#[derive(Debug)]
pub(super) struct Memory {
    file: File,
    _lock: File,
}

impl Memory {
    /// Opens the memory and teaches `world` what it holds.
    pub(super) fn open(folder: &Path, world: &mut World) -> Result<Self, SandboxError> {
        let failed = |source| SandboxError::Memory { path: folder.to_owned(), source };
        let lock = lock(folder).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SandboxError::MemoryInUse(folder.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let lines = recall(folder, world).map_err(failed)?;
        if lines > LINES_MAX {
            compact(folder, world).map_err(failed)?;
        }
        let file = options().append(true).create(true).open(folder.join(FILE)).map_err(failed)?;
        Ok(Self { file, _lock: lock })
    }

    /// Keeps a fact.
    pub(super) fn keep(&mut self, fact: &Fact) -> io::Result<()> {
        let mut line = serde_json::to_vec(fact)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }
}

fn lock(folder: &Path) -> io::Result<File> {
    make_private(folder)?;
    options().write(true).create(true).truncate(false).open(folder.join("lock"))
}

/// Reads the list; cuts off a line that was never finished.
fn recall(folder: &Path, world: &mut World) -> io::Result<u64> {
    let path = folder.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let (mut reader, mut line, mut whole, mut lines) = (BufReader::new(file), Vec::new(), 0, 0);
    while reader.read_until(b'\n', &mut line)? > 0 {
        if !line.ends_with(b"\n") {
            OpenOptions::new().write(true).open(&path)?.set_len(whole)?;
            break;
        }
        world.learn(serde_json::from_slice(&line)?);
        whole += line.len() as u64;
        lines += 1;
        line.clear();
    }
    Ok(lines)
}

fn compact(folder: &Path, world: &World) -> io::Result<()> {
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    let mut writer = BufWriter::new(new.as_file_mut());
    for fact in world.facts() {
        serde_json::to_writer(&mut writer, &fact)?;
        writer.write_all(b"\n")?;
    }
    writer.flush()?;
    drop(writer);
    new.persist(folder.join(FILE)).map(drop).map_err(|e| e.error)
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
    use super::super::People;
    use super::super::world::Change;
    use super::*;

    fn add(user: &str) -> Fact {
        let change = Change { user_ids: vec![user.to_owned()], ..Change::default() };
        Fact::Changed { cohort_id: "c".to_owned(), cohort_changes: vec![change] }
    }

    fn members(folder: &Path) -> usize {
        let mut world = World::new(People::Any);
        drop(Memory::open(folder, &mut world).unwrap());
        world.size("c")
    }

    #[test]
    fn it_remembers_whole_facts_only() {
        let home = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(home.path(), &mut World::new(People::Any)).unwrap();
        assert!(matches!(
            Memory::open(home.path(), &mut World::new(People::Any)),
            Err(SandboxError::MemoryInUse(_))
        ));
        memory.keep(&add("u1")).unwrap();
        memory.keep(&add("u2")).unwrap();
        memory.file.write_all(b"{\"fact\":\"chan").unwrap();
        drop(memory);
        assert_eq!(members(home.path()), 2);
        let mut memory = Memory::open(home.path(), &mut World::new(People::Any)).unwrap();
        memory.keep(&add("u3")).unwrap();
        drop(memory);
        assert_eq!(members(home.path()), 3);
    }

    #[test]
    fn a_long_memory_is_written_anew() {
        let home = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(home.path(), &mut World::new(People::Any)).unwrap();
        for n in 0..=LINES_MAX {
            memory.keep(&add(&format!("u{}", n % 10))).unwrap();
        }
        drop(memory);
        assert_eq!(members(home.path()), 10);
        assert!(fs::metadata(home.path().join(FILE)).unwrap().len() < 2_000);
        assert_eq!(members(home.path()), 10);
    }
}
