//! The git revision of the config: the commit that its working tree has checked out.
//!
//! The files of the repository are read, and no `git` is run: a working tree may configure programs for `git` to start.

use std::fs;
use std::path::{Path, PathBuf};

/// Digits of a commit id that are shown.
const SHOWN: usize = 12;
/// The longest file of a repository that is read: `packed-refs` of a large one.
const FILE_LEN_MAX: u64 = 16 << 20;

/// The commit that is checked out where `folder` lies, shortened. `None` outside of a repository, or if the repository
/// stores its references in a form that is not known here.
pub(super) fn revision(folder: &Path) -> Option<String> {
    // A config file without a folder lies in the current one.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let folder = fs::canonicalize(folder).ok()?;
    let repository = folder.ancestors().find_map(|at| repository(&at.join(".git")))?;
    let head = text(&repository.join("HEAD"))?;
    let commit = match head.strip_prefix("ref: ") {
        None => head,
        Some(name) => reference(&repository, name)?,
    };
    let is_commit = commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| commit[..SHOWN].to_owned())
}

/// The folder of a repository: `.git` itself, or the folder that a linked working tree names in that file.
fn repository(at: &Path) -> Option<PathBuf> {
    if at.is_dir() {
        return Some(at.to_owned());
    }
    let named = text(at)?;
    Some(at.parent()?.join(named.strip_prefix("gitdir: ")?))
}

/// The commit of a branch. The branches of a linked working tree are those of its main repository.
fn reference(repository: &Path, name: &str) -> Option<String> {
    let shared = text(&repository.join("commondir")).map(|folder| repository.join(folder));
    let folders = [Some(repository.to_owned()), shared];
    folders.into_iter().flatten().find_map(|folder| {
        text(&folder.join(name)).or_else(|| {
            let packed = text(&folder.join("packed-refs"))?;
            let mut lines = packed.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(_, packed)| *packed == name).map(|(commit, _)| commit.to_owned())
        })
    })
}

fn text(file: &Path) -> Option<String> {
    let is_small = fs::metadata(file).is_ok_and(|found| found.is_file() && found.len() <= FILE_LEN_MAX);
    is_small.then(|| fs::read_to_string(file).ok()).flatten().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn the_commit_is_found_as_git_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let write = |path: &str, text: &str| {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::File::create(at(path)).unwrap().write_all(text.as_bytes()).unwrap();
        };
        fs::create_dir_all(at("work/config")).unwrap();
        let shown = || revision(&at("work/config"));
        assert_eq!(shown(), None, "outside of a repository");
        write("work/.git/HEAD", "ref: refs/heads/main\n");
        assert_eq!(shown(), None, "a branch without a commit");
        write("work/.git/packed-refs", &format!("# pack-refs with: peeled\n{COMMIT} refs/heads/main\n"));
        assert_eq!(shown().as_deref(), Some("0123456789ab"), "a packed branch");
        write("work/.git/refs/heads/main", "ffffffffffffffffffffffffffffffffffffffff\n");
        assert_eq!(shown().as_deref(), Some("ffffffffffff"), "a newer commit of the branch");
        write("work/.git/HEAD", &format!("{COMMIT}\n"));
        assert_eq!(shown().as_deref(), Some("0123456789ab"), "a detached head");
        write("tree/.git", "gitdir: ../work/.git/worktrees/tree\n");
        write("work/.git/worktrees/tree/HEAD", "ref: refs/heads/main\n");
        write("work/.git/worktrees/tree/commondir", "../..\n");
        assert_eq!(revision(&at("tree")).as_deref(), Some("ffffffffffff"), "a linked working tree");
        write("work/.git/HEAD", "not a commit\n");
        assert_eq!(shown(), None);
    }
}
