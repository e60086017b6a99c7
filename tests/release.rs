//! Release files and the installer: the archive is made from the program under test, served over HTTP, and installed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::support::web::{Fault, Web};
use crate::support::*;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// Runs a command that must succeed. Returns its stdout.
#[track_caller]
fn output_of(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    run(command).expect(0).stdout
}

/// Name of this machine's archive without `.tar.gz`.
fn archive_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let rustc = output_of("rustc", &["-vV"]);
        let target = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        format!("syncline-{VERSION}-{target}")
    })
}

/// Folder with the files of a release, made once from the program under test without its debug information.
fn release_files() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("release");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let program = folder.join("program");
        output_of("strip", &["-o", program.to_str().unwrap(), SYNCLINE]);
        let out = folder.join("files");
        let said = output_of(
            "scripts/release",
            &["--binary", program.to_str().unwrap(), "--out", out.to_str().unwrap(), "--max-size", "200"],
        );
        assert!(said.contains("MB of at most 200 MB"), "{said}");
        out
    })
}

/// A server with the files of this release. Returns it with its address for `--from`.
pub(crate) fn release_server() -> (Web, String) {
    let web = Web::start();
    let sums = fs::read(release_files().join(format!("SHA256SUMS-{}", target()))).unwrap();
    web.put(&format!("/v{VERSION}/SHA256SUMS"), sums);
    web.put(&format!("/v{VERSION}/{}.tar.gz", archive_name()), archive());
    let from = web.url.clone();
    (web, from)
}

fn archive() -> Vec<u8> {
    fs::read(release_files().join(format!("{}.tar.gz", archive_name()))).unwrap()
}

fn target() -> &'static str {
    archive_name().strip_prefix(&format!("syncline-{VERSION}-")).unwrap()
}

/// The installer, piped into `sh` as in the documentation, with its own folders for the program and temporary files.
struct Installer {
    w: Workspace,
    /// Shadows the machine's tools.
    tools: PathBuf,
}

impl Installer {
    fn new() -> Self {
        let w = Workspace::new();
        fs::set_permissions(w.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["tools", "tmp", "home"] {
            fs::create_dir(w.path(folder)).unwrap();
        }
        fs::set_permissions(w.path("tmp"), fs::Permissions::from_mode(0o777)).unwrap();
        let tools = w.path("tools");
        Self { w, tools }
    }

    /// A tool that prints this text.
    fn fake(self, name: &str, script: &str) -> Self {
        self.w.write(&format!("tools/{name}"), format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.tools.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-s", "--"]).args(args);
        command.stdin(Stdio::from(fs::File::open(root().join("scripts/install.sh")).unwrap()));
        command.env_clear().env("HOME", self.w.path("home")).env("TMPDIR", self.w.path("tmp"));
        command.env("PATH", format!("{}:/usr/bin:/bin", self.tools.display())).current_dir(self.w.path(""));
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        run(self.command(args))
    }

    /// Installs into `bin` and expects an error with these texts, which leaves no file behind.
    #[track_caller]
    fn fails(&self, args: &[&str], texts: &[&str]) {
        self.run(&[args, &["--to", "bin"]].concat()).expect(1).says(texts);
        self.expect_nothing_left();
        assert!(!self.w.path("bin/syncline").exists());
    }

    #[track_caller]
    fn expect_nothing_left(&self) {
        assert_eq!(self.w.snapshot("tmp"), []);
        let in_bin = self.w.snapshot("bin").into_iter().map(|(path, _)| path);
        assert_eq!(
            in_bin.filter(|path| !path.ends_with("syncline")).collect::<Vec<_>>(),
            Vec::<PathBuf>::new()
        );
    }
}

#[test]
fn release_archive_contains_program_manual_completions_and_licenses() {
    let file = release_files().join(format!("{}.tar.gz", archive_name()));
    let listed = output_of("tar", &["-tzf", file.to_str().unwrap()]);
    let names: BTreeSet<&str> =
        listed.lines().map(|line| line.strip_prefix(archive_name()).unwrap().trim_matches('/')).collect();
    let expected = [
        "",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "LICENSES-THIRD-PARTY.txt",
        "README.md",
        "completions",
        "completions/_syncline",
        "completions/syncline.bash",
        "completions/syncline.fish",
        "man",
        "man/syncline.1",
        "syncline",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    let unpacked = |name: &str| {
        output_of("tar", &["-xzOf", file.to_str().unwrap(), &format!("{}/{name}", archive_name())])
    };
    assert!(unpacked("man/syncline.1").contains(".TH syncline 1"));
    assert!(unpacked("completions/_syncline").starts_with("#compdef syncline"));
    assert_eq!(unpacked("LICENSE-MIT"), fs::read_to_string(root().join("LICENSE-MIT")).unwrap());
    let licenses = unpacked("LICENSES-THIRD-PARTY.txt");
    let (_, serde) = licenses.split_once("\n==== serde v1").unwrap();
    let serde = serde.split("\n==== ").next().unwrap();
    assert!(serde.contains("MIT OR Apache-2.0") && serde.contains("Permission is hereby granted"), "{serde}");
    assert!(!licenses.contains("==== syncline") && !licenses.contains("==== proptest"));
    let folder = release_files();
    let sums = fs::read_to_string(folder.join(format!("SHA256SUMS-{}", target()))).unwrap();
    assert!(sums.ends_with(&format!("  {}.tar.gz\n", archive_name())), "{sums}");
    assert!(folder.join("install.sh").is_file());
}

#[test]
fn release_rejects_a_large_archive_another_version_and_another_tag() {
    let out = Workspace::new();
    let try_release = |args: &[&str]| {
        let mut command = Command::new(root().join("scripts/release"));
        command.args(args).args(["--out", out.path("").to_str().unwrap()]);
        run(command)
    };
    let program = out.path("program").to_str().unwrap().to_owned();
    let program_of_version = |version: &str| {
        out.write("program", format!("#!/bin/sh\necho syncline {version}\n"));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    program_of_version(VERSION);
    try_release(&["--binary", &program, "--max-size", "0"]).expect(1).says(&[
        "the archive has 0.",
        "MB; at most 0 are allowed",
        "cargo bloat",
    ]);
    program_of_version("0.0.1");
    try_release(&["--binary", &program]).expect(1).says(&["is `syncline 0.0.1`, not syncline"]);
    try_release(&["--tag", "v9.9.9"]).expect(1).says(&["the tag is v9.9.9, but Cargo.toml has version"]);
    try_release(&["--taget", "x"]).expect(1).says(&["unknown argument `--taget`"]);
}

/// A new machine without Rust: the installer, then the first two commands.
#[test]
fn release_installs_and_the_program_reaches_in_sync() {
    let (installer, (_web, from)) = (Installer::new(), release_server());
    let bin = installer.w.path("new/bin");
    let installed = installer.run(&["--from", &from, "--to", bin.to_str().unwrap()]).expect(0);
    assert_eq!(
        installed.stdout,
        format!(
            "installed syncline {VERSION} ({}) as {bin}/syncline\n\
             {bin} is not in PATH; add it: export PATH=\"{bin}:$PATH\"\n",
            target(),
            bin = bin.display()
        )
    );
    installer.expect_nothing_left();
    fs::create_dir(installer.w.path("project")).unwrap();
    let syncline = |args: &[&str]| {
        let mut command = Command::new(bin.join("syncline"));
        command.args(args).env_clear().current_dir(installer.w.path("project"));
        run(command).expect(0).stdout
    };
    syncline(&["init"]);
    syncline(&["reconcile"]);
    assert!(syncline(&["reconcile"]).lines().last().unwrap().starts_with("In sync:"));
}

#[test]
fn release_installs_by_wget_over_an_older_version_and_by_default_into_the_home() {
    if !Path::new("/usr/bin/wget").exists() {
        return skip_test("wget is missing: apt-get install wget").unwrap_or_default();
    }
    let (installer, (_web, from)) = (Installer::new(), release_server());
    // Only these tools exist: no curl, no sha256sum.
    let only = installer.w.path("only");
    fs::create_dir(&only).unwrap();
    for tool in
        "awk cat chmod cp cut getconf grep gzip id mkdir mktemp mv rm sed sh shasum perl tail tar tr uname wget"
            .split(' ')
    {
        let found = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool));
        symlink(found.iter().find(|path| path.exists()).unwrap(), only.join(tool)).unwrap();
    }
    installer.w.write("home/.local/bin/syncline", "an older version");
    // The default is another one for root.
    let installer = installer.fake("id", "echo 1000");
    let mut command = installer.command(&["--from", &from, "--version", &format!("v{VERSION}")]);
    command.env("PATH", format!("{}:{}", installer.tools.display(), only.display()));
    run(command).expect(0).says(&[&format!("installed syncline {VERSION}")]);
    let program = installer.w.path("home/.local/bin/syncline");
    assert_eq!(output_of(program.to_str().unwrap(), &["--version"]), format!("syncline {VERSION}\n"));
    assert_eq!(fs::metadata(program).unwrap().permissions().mode() & 0o777, 0o755);
    installer.expect_nothing_left();
}

#[test]
fn release_installer_rejects_wrong_and_incomplete_downloads() {
    let (installer, (web, from)) = (Installer::new(), release_server());
    let at = format!("/v{VERSION}/{}.tar.gz", archive_name());
    let bytes = archive();
    let mut changed = bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let sums = fs::read(release_files().join(format!("SHA256SUMS-{}", target()))).unwrap();
    let expected = String::from_utf8(sums.clone()).unwrap();
    let wrong = [
        "the checksum of",
        "is wrong; nothing was installed",
        "expected ",
        expected.split(' ').next().unwrap(),
    ];
    for wrong_bytes in [changed, bytes[..middle].to_vec(), Vec::new()] {
        web.put(&at, wrong_bytes);
        installer.fails(&["--from", &from], &wrong);
    }
    web.put(&at, bytes);
    // The first request is for the checksums, the second one for the archive.
    web.faults(&[Fault::Replace(sums), Fault::Cut]);
    installer.fails(&["--from", &from], &["cannot download", &at, "--from URL"]);
    // A server that is not there.
    let cannot_download = ["cannot download http://127.0.0.1:9/v", "check the network and the proxy"];
    installer.fails(&["--from", "http://127.0.0.1:9"], &cannot_download);
    installer.run(&["--from", &from, "--to", "bin"]).expect(0);
}

#[test]
fn release_installer_rejects_another_programs_archive() {
    let (installer, (web, from)) = (Installer::new(), release_server());
    let w = Workspace::new();
    let name = archive_name();
    w.write(&format!("{name}/syncline"), "#!/bin/sh\necho syncline 0.0.1\n");
    fs::set_permissions(w.path(&format!("{name}/syncline")), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = w.path("").display().to_string();
    let put = |program: Option<&str>| {
        if let Some(program) = program {
            w.write(&format!("{name}/syncline"), program);
        }
        output_of("tar", &["-czf", &format!("{folder}/a.tar.gz"), "-C", &folder, name]);
        let sum = output_of("sha256sum", &[&format!("{folder}/a.tar.gz")]);
        let sum = sum.split(' ').next().unwrap();
        web.put(&format!("/v{VERSION}/SHA256SUMS"), format!("{sum}  {name}.tar.gz\n"));
        web.put(&format!("/v{VERSION}/{name}.tar.gz"), fs::read(w.path("a.tar.gz")).unwrap());
    };
    put(None);
    let contains =
        format!("the archive of version {VERSION} contains `syncline 0.0.1`; nothing was installed");
    installer.fails(&["--from", &from], &[&contains]);
    put(Some("#!/bin/sh\necho missing library >&2\nexit 1\n"));
    installer.fails(&["--from", &from], &["does not run on this machine", "missing library", "--to FOLDER"]);
}

#[test]
fn release_installer_errors_name_the_remedy() {
    let (installer, (web, from)) = (Installer::new(), release_server());
    let no_version = format!("there is no version 9.9.9 at {from}");
    installer.fails(
        &["--from", &from, "--version", "9.9.9"],
        &[&no_version, &format!("the versions: {REPOSITORY}/releases")],
    );
    for version in ["latest", "1.2", "1.2.3/../..", "1.2.3 4"] {
        installer.fails(&["--version", version], &["is not a version", "three numbers"]);
    }
    for from in
        ["http://example.com", "http://127.0.0.1.example.com", "http://localhost@example.com", "ftp://x"]
    {
        installer.fails(&["--from", from], &["is not an https:// address", "this machine only"]);
    }
    installer.run(&["--too", "x"]).expect(1).says(&["unknown argument `--too`", "--help"]);
    installer.run(&["--to"]).expect(1).says(&["--to needs a value"]);
    installer.run(&["--help"]).expect(0).says(&["Usage: install.sh", VERSION]);
    // No checksum of this machine's archive.
    web.put(&format!("/v{VERSION}/SHA256SUMS"), format!("00  syncline-{VERSION}-other-os.tar.gz\n"));
    let missing = format!("version {VERSION} has no archive for {}", target());
    installer.fails(&["--from", &from], &[&missing, "it has: other-os"]);
}

#[test]
fn release_installer_chooses_the_archive_of_the_system() {
    // A release for another system only: the error names the archive that was looked for.
    let web = Web::start();
    web.put(&format!("/v{VERSION}/SHA256SUMS"), format!("00  syncline-{VERSION}-other-os.tar.gz\n"));
    let from = web.url.clone();
    let uname = |system: &str, machine: &str| {
        let script = format!("[ \"$1\" = -s ] && echo {system} || echo {machine}");
        Installer::new().fake("uname", &script).fake("sysctl", "exit 1")
    };
    let wants = |installer: Installer, target: &str| {
        let missing = format!("version {VERSION} has no archive for {target}");
        installer.fails(&["--from", &from], &[&missing, "it has: "]);
    };
    wants(uname("Darwin", "arm64"), "aarch64-apple-darwin");
    wants(uname("Darwin", "x86_64"), "x86_64-apple-darwin");
    wants(uname("Darwin", "x86_64").fake("sysctl", "echo 1"), "aarch64-apple-darwin");
    let glibc = |version: &str| format!("[ \"$1\" = LONG_BIT ] && echo 64 || echo {version}");
    let arm = || uname("Linux", "aarch64");
    wants(arm().fake("getconf", &glibc("glibc 2.35")), "aarch64-unknown-linux-gnu");
    wants(arm().fake("getconf", &glibc("glibc 2.34")), "aarch64-unknown-linux-musl");
    wants(arm().fake("getconf", "exit 1"), "aarch64-unknown-linux-musl");
    let remedy = ["archives exist for Linux and macOS", "cargo install --locked --git"];
    for (installer, what) in [
        (uname("Linux", "riscv64"), "the processor riscv64"),
        (uname("FreeBSD", "amd64"), "the system FreeBSD"),
        (arm().fake("getconf", "echo 32"), "a 32-bit system"),
    ] {
        let text = format!("there is no archive for {what}");
        installer.fails(&["--from", &from], &[&text, remedy[0], remedy[1]]);
    }
}

#[test]
fn release_installer_needs_a_folder_that_it_may_write_to() {
    let (installer, (_web, from)) = (Installer::new(), release_server());
    installer.w.write("file", "").write("taken/syncline/file", "");
    fs::create_dir(installer.w.path("closed")).unwrap();
    fs::set_permissions(installer.w.path("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    let remedies = ["choose a folder of your own: --to FOLDER", "a user who may write there"];
    for folder in ["closed", "closed/bin", "file/bin", "file"] {
        let mut command = installer.command(&["--from", &from, "--to", folder]);
        if nix::unistd::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        run(command).expect(1).says(&[&format!("cannot write to {folder}"), remedies[0], remedies[1]]);
    }
    let taken = installer.run(&["--from", &from, "--to", "taken"]).expect(1);
    taken.says(&["taken/syncline is a folder", "--to FOLDER"]);
    assert_eq!(installer.w.snapshot("tmp"), []);
}

/// A pipe that breaks gives `sh` a part of the script.
#[test]
fn release_installer_that_arrives_incomplete_does_nothing() {
    let (installer, (_web, from)) = (Installer::new(), release_server());
    let script = fs::read_to_string(root().join("scripts/install.sh")).unwrap();
    let ends: Vec<usize> = script.match_indices('\n').map(|(at, _)| at).collect();
    // After a line, or within one.
    let cuts = ends.iter().enumerate().map(|(n, end)| if n % 2 == 0 { *end } else { end.saturating_sub(7) });
    for cut in cuts.filter(|cut| *cut < script.len() - "main \"$@\"\n".len()) {
        installer.w.write("part.sh", &script[..cut]);
        let mut command = installer.command(&["--from", &from, "--to", "bin"]);
        command.stdin(Stdio::from(fs::File::open(installer.w.path("part.sh")).unwrap()));
        let found = run(command);
        assert_eq!(found.stdout, "", "cut at {cut}");
        assert!(!installer.w.path("bin").exists(), "cut at {cut}");
    }
}

#[test]
fn release_formula_has_all_archives() {
    let w = Workspace::new();
    let targets = [
        "aarch64-apple-darwin",
        "x86_64-apple-darwin",
        "aarch64-unknown-linux-gnu",
        "x86_64-unknown-linux-gnu",
    ];
    let sums: Vec<String> = (1..)
        .zip(targets)
        .map(|(n, target)| format!("{}  syncline-{VERSION}-{target}.tar.gz\n", n.to_string().repeat(64)))
        .collect();
    w.write("all", sums.concat()).write("incomplete", sums[1..].concat());
    let formula = |file: &str| {
        let mut command = Command::new(root().join("scripts/formula"));
        command.arg(w.path(file));
        run(command)
    };
    let text = formula("all").expect(0).stdout;
    for (n, target) in (1..).zip(targets) {
        let lines = format!(
            "url \"{REPOSITORY}/releases/download/v{VERSION}/syncline-{VERSION}-{target}.tar.gz\"\n      sha256 \"{}\"",
            n.to_string().repeat(64)
        );
        assert!(text.contains(&lines), "{text}");
    }
    assert!(text.contains("bin.install \"syncline\"") && text.contains(env!("CARGO_PKG_DESCRIPTION")));
    formula("incomplete").expect(1).says(&["does not list syncline-", "aarch64-apple-darwin"]);
}

/// Files that name the repository or the version.
fn files_with_addresses() -> Vec<PathBuf> {
    let places = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "action.yml",
        "docs",
        "examples/deploy",
        "scripts",
        ".github",
    ];
    places.iter().flat_map(|place| files_below(&root().join(place))).filter(|path| path.is_file()).collect()
}

/// The text with the repository and version of Cargo.toml. The owner stands before `/syncline`.
fn with_addresses(text: &str) -> String {
    let owner = REPOSITORY.strip_prefix("https://github.com/").unwrap().strip_suffix("/syncline").unwrap();
    let mut text = text.to_owned();
    for before in ["https://github.com/", "ghcr.io/", "uses: ", "--repo "] {
        let mut parts = text.split(before);
        let mut new = parts.next().unwrap().to_owned();
        for part in parts {
            let found = part.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap();
            let ours = part[found.len()..]
                .strip_prefix("/syncline")
                .filter(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-'));
            new.push_str(before);
            match ours {
                Some(rest) if !found.is_empty() => new.push_str(&format!("{owner}/syncline{rest}")),
                _ => new.push_str(part),
            }
        }
        text = new;
    }
    // Versions: in the installer, of the action, of the image.
    for before in ["\nVERSION=", "/syncline@v", "/syncline:", "--tag v", "/download/v", "--version "] {
        let mut parts = text.split(before);
        let mut new = parts.next().unwrap().to_owned();
        for part in parts {
            let found =
                part.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap().trim_end_matches('.');
            let version = if found.matches('.').count() == 2 { VERSION } else { found };
            new.push_str(&format!("{before}{version}{}", &part[found.len()..]));
        }
        text = new;
    }
    text
}

/// With `SYNCLINE_UPDATE_DOCS=1` it writes the files instead.
#[test]
#[allow(clippy::disallowed_methods, reason = "the switch that writes the files")]
fn release_address_and_version_are_those_of_the_manifest() {
    let (mut addresses, update) = (0, std::env::var_os("SYNCLINE_UPDATE_DOCS").is_some());
    for path in files_with_addresses() {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let must_be = with_addresses(&text);
        addresses += text.matches(&format!("{REPOSITORY}/")).count();
        if update && text != must_be {
            fs::write(&path, must_be).unwrap();
            continue;
        }
        let first = text.lines().zip(must_be.lines()).find(|(is, must_be)| is != must_be);
        assert!(text == must_be, "{}: {first:?}", path.display());
    }
    assert!(update || addresses > 3, "{addresses}");
    let installer = fs::read_to_string(root().join("scripts/install.sh")).unwrap();
    assert!(installer.contains(&format!("\nREPOSITORY={REPOSITORY}\n")));
    assert_eq!(
        with_addresses(
            "https://github.com/a/syncline/x ghcr.io/b/syncline:0.0.9-static https://github.com/c/other"
        ),
        format!("{REPOSITORY}/x ghcr.io/{}/syncline:{VERSION}-static https://github.com/c/other", {
            REPOSITORY.split('/').nth(3).unwrap()
        })
    );
}

fn workflows() -> Vec<(PathBuf, String)> {
    let folders = [".github/workflows", "examples/deploy/github"].map(|folder| root().join(folder));
    let files = folders.iter().flat_map(|folder| files_below(folder)).chain([root().join("action.yml")]);
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "yml"));
    files.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn release_workflows_pin_every_action_by_digest() {
    let mut pinned = 0;
    for (path, text) in workflows() {
        for line in
            text.lines().filter(|line| line.trim_start().trim_start_matches("- ").starts_with("uses:"))
        {
            let (_, action) = line.split_once("uses:").unwrap();
            let action = action.trim();
            // Our own release: its digest does not exist before the tag.
            let ours = format!("{}/syncline@v{VERSION}", REPOSITORY.split('/').nth(3).unwrap());
            if action == ours {
                continue;
            }
            let (name, rest) = action.split_once('@').unwrap_or_else(|| panic!("{}: {line}", path.display()));
            let (digest, version) =
                rest.split_once(" # v").unwrap_or_else(|| panic!("{}: {line}", path.display()));
            assert!(!name.starts_with("./"), "{line}");
            let is_digest = digest.len() == 40 && digest.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
            assert!(is_digest && version.split('.').all(|n| n.parse::<u32>().is_ok()), "{line}");
            pinned += 1;
        }
    }
    assert!(pinned > 5, "{pinned}");
}

#[test]
fn release_workflows_have_least_permissions_and_no_expressions_in_scripts() {
    for (path, text) in workflows() {
        let workflow: Value =
            serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let is_action = path.ends_with("action.yml");
        assert!(is_action || workflow["permissions"].is_object(), "{}: no permissions", path.display());
        let jobs = workflow["jobs"].as_object().into_iter().flat_map(|jobs| jobs.values());
        for job in jobs.chain([&workflow["runs"]]).filter(|job| job["steps"].is_array()) {
            assert!(is_action || job["timeout-minutes"].is_u64(), "{}: no time limit", path.display());
            for step in job["steps"].as_array().unwrap() {
                let script = step["run"].as_str().unwrap_or_default();
                assert!(!script.contains("${{"), "{}: {script}", path.display());
                let is_checkout =
                    step["uses"].as_str().is_some_and(|uses| uses.starts_with("actions/checkout@"));
                assert!(!is_checkout || step["with"]["persist-credentials"] == false, "{}", path.display());
            }
        }
    }
}
