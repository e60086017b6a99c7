//! Restricts the files that a config may name: regular files below an allowed folder, after links are resolved, and no
//! files of `/proc`, `/sys` or `/dev`.

use std::io;
use std::path::{Path, PathBuf};

/// System folders with files for processes and devices.
const SPECIAL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// The reason why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum DisallowedFile {
    /// It is in a system folder.
    #[error("it is in {}, which contains no regular files", .0.display())]
    Special(PathBuf),
    /// A link leads out of the folder.
    #[error("it is a link that leads out of the config's folder")]
    Outside,
    /// It is a folder, a pipe or a device.
    #[error("it is not a regular file")]
    Irregular,
    /// The system reported an error.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Whether a path without links is in `/proc`, `/sys` or `/dev`.
#[must_use]
pub fn is_special(real: &Path) -> bool {
    SPECIAL.iter().any(|folder| real.starts_with(folder)) || is_on_special(real)
}

/// Whether the path is in another mount of `proc` or `sysfs`.
#[cfg(target_os = "linux")]
fn is_on_special(real: &Path) -> bool {
    const PROC_MAGIC: u32 = 0x9fa0;
    const SYSFS_MAGIC: u32 = 0x6265_6572;
    let kind = rustix::fs::statfs(real).map(|found| u32::try_from(found.f_type).unwrap_or(0));
    kind.is_ok_and(|kind| [PROC_MAGIC, SYSFS_MAGIC].contains(&kind))
}

#[cfg(not(target_os = "linux"))]
fn is_on_special(_: &Path) -> bool {
    false
}

/// Checks that a path resolves to a regular file below a folder.
pub(super) fn check(file: &Path, folder: &Path) -> Result<(), DisallowedFile> {
    let real = file.canonicalize()?;
    if is_special(&real) {
        return Err(DisallowedFile::Special(real));
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if !real.starts_with(folder.canonicalize()?) {
        return Err(DisallowedFile::Outside);
    }
    if real.metadata()?.is_file() { Ok(()) } else { Err(DisallowedFile::Irregular) }
}

/// Checks the main file. You name it, so it may be a link or a pipe, but not a link into a system folder.
pub(super) fn check_main(file: &Path) -> Result<(), DisallowedFile> {
    let is_named = SPECIAL.iter().any(|folder| file.starts_with(folder));
    match file.canonicalize() {
        Ok(real) if !is_named && is_special(&real) => Err(DisallowedFile::Special(real)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_system() {
        assert!(is_special(Path::new("/proc/self/environ")) && is_special(Path::new("/dev/shm/x")));
        assert!(!is_special(Path::new("/process")) && !is_special(Path::new("/srv/proc/x")));
    }
}
