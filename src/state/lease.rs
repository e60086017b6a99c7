//! Who holds the state: a lock on `lease.json` that the system lets go of when its holder dies.
//!
//! The file also says who the holder is, for the message to whoever comes second. Its text is no lock;
//! a crash leaves the text behind and the lock free.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{Seek as _, Write as _};

use serde::{Deserialize, Serialize};

use super::StateError;
use super::folder::{Folder, FolderError, private};
use crate::model::{Timestamp, timestamp_text};

const FILE: &str = "lease.json";

/// A process that holds a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The machine.
    pub host: String,
    /// The process on it.
    pub process: u32,
    /// Since when.
    pub since: Timestamp,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {} since {}", self.process, self.host, timestamp_text(self.since))
    }
}

#[derive(Serialize, Deserialize)]
struct Shape {
    format: u64,
    host: String,
    process: u32,
    since: String,
}

/// The lock. Dropped, it is free.
#[derive(Debug)]
pub(super) struct Lease(#[allow(dead_code, reason = "held, not read: the lock is the open file")] File);

impl Lease {
    pub(super) fn take(folder: &Folder, holder: &Holder) -> Result<Self, StateError> {
        let path = folder.at(FILE);
        let failed = |action, e| StateError::Folder(FolderError::new(action, &path, e));
        let mut file = open(folder)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateError::Held(read(folder)?.unwrap_or_else(unknown)));
            }
            Err(TryLockError::Error(e)) => return Err(failed("lock", e)),
        }
        let shape = Shape {
            format: super::format::KNOWN,
            host: holder.host.clone(),
            process: holder.process,
            since: timestamp_text(holder.since),
        };
        let text = serde_json::to_vec(&shape).unwrap_or_default();
        let written = file.rewind().and_then(|()| file.set_len(0)).and_then(|()| file.write_all(&text));
        written.map_err(|e| failed("write", e))?;
        Ok(Self(file))
    }
}

fn open(folder: &Folder) -> Result<File, FolderError> {
    let path = folder.at(FILE);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    private(&mut options);
    options.open(&path).map_err(|e| FolderError::new("open", &path, e))
}

/// What the file says; none while its holder is just writing it.
fn read(folder: &Folder) -> Result<Option<Holder>, StateError> {
    let bytes = folder.read(FILE)?.unwrap_or_default();
    let Ok(shape) = serde_json::from_slice::<Shape>(&bytes) else { return Ok(None) };
    Ok(shape.since.parse().ok().map(|since| Holder { host: shape.host, process: shape.process, since }))
}

fn unknown() -> Holder {
    Holder { host: "this machine".to_owned(), process: 0, since: Timestamp::UNIX_EPOCH }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_the_second_learns_its_name() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::new(home.path());
        let holder = |process| Holder { host: "ci-7".to_owned(), process, since: Timestamp::UNIX_EPOCH };
        let first = Lease::take(&folder, &holder(41)).unwrap();
        match Lease::take(&folder, &holder(42)) {
            Err(StateError::Held(who)) => assert_eq!(who, holder(41)),
            other => panic!("{other:?}"),
        }
        drop(first);
        Lease::take(&folder, &holder(42)).unwrap();
    }
}
