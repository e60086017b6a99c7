//! Fingerprint of a source's files, computed without reading them.

use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::Xxh3;

use super::FileError;
use super::find::{self, FileAccess};
use super::found::FoundFile;
use super::stamp::FileStamp;
use crate::config::FileSource;
use crate::model::Timestamp;

/// A file that changed less than this before the read may change again without a new time.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Hash of names, lengths, inodes and times of the files of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFingerprint {
    hash: u128,
    newest: Option<SystemTime>,
}

impl FileFingerprint {
    pub(super) fn new(files: &[FoundFile], stamps: &[FileStamp]) -> Self {
        let mut hasher = Xxh3::new();
        let mut newest = Some(SystemTime::UNIX_EPOCH);
        let nanoseconds = |time: Option<SystemTime>| {
            time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos())
        };
        for (found, stamp) in files.iter().zip(stamps) {
            hasher.update(found.path().as_os_str().as_encoded_bytes());
            hasher.update(&[0]);
            for number in [stamp.len, stamp.inode] {
                hasher.update(&number.to_le_bytes());
            }
            for time in [stamp.modified, stamp.changed] {
                hasher.update(&nanoseconds(time).to_le_bytes());
                // Without times, a change cannot be detected.
                newest = newest.zip(time).map(|(a, b)| a.max(b));
            }
        }
        Self { hash: hasher.digest128(), newest }
    }

    /// The fingerprint as the state stores it. None while the files are too recent for their times to show a change.
    /// `rules` is the config that gives the rows their meaning.
    #[must_use]
    pub fn text(&self, rules: &str, now: Timestamp) -> Option<String> {
        let newest = Timestamp::try_from(self.newest?).ok()?;
        let settled = Duration::try_from(now.duration_since(newest)).is_ok_and(|age| age >= SETTLED_AFTER);
        let rules = xxhash_rust::xxh3::xxh3_128(rules.as_bytes());
        settled.then(|| format!("{:032x}{rules:032x}", self.hash))
    }
}

/// The current fingerprint of a source's files.
///
/// # Errors
/// [`FileError`] when no file matches, or one is not accessible.
pub fn fingerprint(source: &FileSource, from: FileAccess<'_>) -> Result<FileFingerprint, FileError> {
    let files = find::files(source, from)?.files;
    let stamps: Vec<FileStamp> = files.iter().map(FoundFile::stamp).collect::<Result<_, _>>()?;
    Ok(FileFingerprint::new(&files, &stamps))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(at: u64, len: u64, now: i64) -> Option<String> {
        let time = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(at));
        let stamp = FileStamp { len, modified: time, changed: time, inode: 7 };
        let print = FileFingerprint::new(&[FoundFile::Local("a.csv".into())], &[stamp]);
        print.text("rules", Timestamp::from_second(now).unwrap())
    }

    #[test]
    fn a_recent_file_has_no_fingerprint() {
        assert_eq!(text(100, 1, 101), None);
        assert_eq!(text(100, 1, 99), None, "a clock that runs behind the disk's");
        assert!(text(100, 1, 102).is_some());
        assert_eq!(text(100, 1, 102), text(100, 1, 500));
        assert_ne!(text(100, 1, 500), text(100, 2, 500));
        assert_ne!(text(100, 1, 500), text(101, 1, 500));
    }
}
