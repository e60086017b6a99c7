//! Checks of the machine: disk space and open files.

use std::io;
use std::path::{Path, PathBuf};

use super::DoctorFindings;
use crate::cli::args::Command;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::output::count;
use crate::config::{Config, StateLocation};

/// Bytes of a member in a temporary file, and in the state.
const MEMBER_LEN: u64 = 64;
/// Minimum free space, for cohorts of any size.
const FREE_SPACE_MIN: u64 = 256 << 20;
/// `watch` has 256 connections open at most, and files.
const OPEN_FILES_MIN: u64 = 1024;
/// With fewer, a command may fail at any file or connection, and the runtime panics.
const OPEN_FILES_LEAST: u64 = 64;

/// `members_max` is the number of members of the largest cohort.
pub(super) fn check(config: &Config, members_max: u64, findings: &mut DoctorFindings) {
    findings.about("this machine");
    let needed = FREE_SPACE_MIN.max(2 * members_max * MEMBER_LEN);
    free_space(
        &std::env::temp_dir(),
        "for temporary files",
        needed,
        "set TMPDIR to a disk with more space",
        findings,
    );
    if let StateLocation::Folder(path) = &config.state {
        let there = existing(path);
        free_space(
            &there,
            "for the state",
            needed,
            "free some space, or move the state to another disk",
            findings,
        );
    }
    let Some(limit) = open_files_max() else { return };
    let says = format!("{} files may be open at once", count(limit));
    if limit < OPEN_FILES_MIN {
        findings.note("limits", says, "raise it: `ulimit -n 4096`, or LimitNOFILE= of the service");
    } else {
        findings.passed("limits", says);
    }
}

fn free_space(path: &Path, what: &str, needed: u64, remedy: &str, findings: &mut DoctorFindings) {
    let name = path.display();
    match free(path) {
        Ok(None) => {}
        Ok(Some(free)) => {
            let says = format!("{} MiB free in {name} {what}", count(free >> 20));
            if free < needed {
                let remedy = format!("the largest cohort may need {} MiB: {remedy}", count(needed >> 20));
                findings.failed("disk", says, remedy);
            } else {
                findings.passed("disk", says);
            }
        }
        Err(error) => {
            findings.failed("disk", format!("cannot read the free space of {name}: {error}"), remedy);
        }
    }
}

/// Bytes that this user may still write there; `None` on systems that do not report it.
fn free(path: &Path) -> io::Result<Option<u64>> {
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(path)?;
        Ok(Some(disk.f_bavail.saturating_mul(disk.f_frsize)))
    }
    #[cfg(not(unix))]
    path.metadata().map(|_| None)
}

/// Whether as many files may be open as a command needs that reads a state or talks to a vendor.
pub(in crate::cli) fn enough_open_files(command: &Command) -> Result<(), CommandError> {
    use Command::{Completions, Init, Man, Schema, Validate};
    let needs_few = matches!(command, Validate(_) | Schema(_) | Init(_) | Completions(_) | Man);
    match open_files_max() {
        Some(limit) if limit < OPEN_FILES_LEAST && !needs_few => {
            let what =
                format!("only {limit} files may be open at once; at least {OPEN_FILES_LEAST} are needed");
            Err(CommandError::new(Exit::Failed, what)
                .hint("raise the limit: `ulimit -n 4096`, or LimitNOFILE= of the service"))
        }
        _ => Ok(()),
    }
}

fn open_files_max() -> Option<u64> {
    #[cfg(unix)]
    {
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current
    }
    #[cfg(not(unix))]
    None
}

/// Whether this user may write into a folder, without writing.
pub(super) fn may_write(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        Ok(access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?)
    }
    #[cfg(not(unix))]
    folder.metadata().map(|_| ())
}

/// The folder itself, or the nearest above it that is there.
pub(super) fn existing(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|folder| folder.exists() && !folder.as_os_str().is_empty());
    there.unwrap_or(Path::new(".")).to_owned()
}
