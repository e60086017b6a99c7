//! Paths and globs: the files of a source, of `include:` and of an export folder. A possible match is never
//! skipped silently.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;

use crate::support::*;

/// A cohort `carts` from the files that match `pattern`, two files in the first run.
fn two_files(pattern: &str) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let text = config(&sandbox.url, &["carts"], "");
    w.write("sync.yaml", text.replace("path: carts.csv", &format!("path: '{pattern}'")));
    w.write("d/x/a.csv", csv(users(30))).write("d/y/b.csv", csv((30..40).map(|n| format!("user-{n}"))));
    (w, sandbox)
}

fn forty_members() -> (Workspace, Sandbox) {
    let (w, sandbox) = two_files("d/*/*.csv");
    w.run(&["reconcile"]).expect(0).says(&["added 40"]);
    (w, sandbox)
}

#[track_caller]
fn nothing_changes(w: &Workspace, sandbox: &Sandbox, says: &[&str]) {
    let all: Vec<&str> = ["cannot list", "nothing was removed"].iter().chain(says).copied().collect();
    w.run(&["plan"]).expect(1).says(&all);
    w.run(&["reconcile"]).expect(1).says(&all);
    assert_eq!(sandbox.members("carts"), members(users(40)));
}

#[test]
fn a_file_name_that_is_not_utf8_is_an_error() {
    let (w, sandbox) = forty_members();
    #[allow(clippy::disallowed_methods, reason = "a test's file, not the state's")]
    fs::rename(w.path("d/y/b.csv"), w.path("d/y").join(OsStr::from_bytes(b"b\xf6.csv"))).unwrap();
    nothing_changes(&w, &sandbox, &["d/y/b\u{fffd}.csv", "not valid UTF-8"]);
}

#[test]
fn a_folder_name_that_is_not_utf8_is_an_error() {
    let (w, sandbox) = forty_members();
    #[allow(clippy::disallowed_methods, reason = "a test's file, not the state's")]
    fs::rename(w.path("d/y"), w.path("d").join(OsStr::from_bytes(b"y\xf6"))).unwrap();
    nothing_changes(&w, &sandbox, &["not valid UTF-8"]);
}

#[test]
fn a_broken_link_is_an_error() {
    let (w, sandbox) = forty_members();
    fs::remove_dir_all(w.path("d/y")).unwrap();
    symlink("gone", w.path("d/y")).unwrap();
    nothing_changes(&w, &sandbox, &["d/y: it is a broken link"]);
}

#[test]
fn circular_links_are_an_error() {
    let (w, sandbox) = two_files("d/**/*.csv");
    w.run(&["reconcile"]).expect(0);
    symlink("..", w.path("d/x/up")).unwrap();
    nothing_changes(&w, &sandbox, &["d/x/up: a link points to a folder"]);
}

#[test]
fn a_folder_with_the_name_of_a_file_is_an_error() {
    let (w, sandbox) = forty_members();
    fs::remove_file(w.path("d/y/b.csv")).unwrap();
    w.write("d/y/b.csv/part-0.csv", csv((30..40).map(|n| format!("user-{n}"))));
    nothing_changes(&w, &sandbox, &["d/y/b.csv: it is a folder"]);
}

/// The program as a user without root's permissions: root can read everything.
fn run_bound(w: &Workspace, args: &[&str]) -> Run {
    let mut command = w.command(args);
    if nix::unistd::geteuid().is_root() {
        let open = |path: &std::path::Path| fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        open(&w.path(""));
        let state = w.path(".syncline");
        fs::create_dir_all(&state).unwrap();
        open(&state);
        // Parent folders of the build may be inaccessible to other users.
        let program = w.path("syncline");
        if !program.exists() {
            fs::copy(SYNCLINE, &program).unwrap();
            open(&program);
        }
        let mut bound = std::process::Command::new(program);
        bound.args(args).current_dir(w.path(""));
        bound.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        bound.uid(65_534).gid(65_534);
        command = bound;
    }
    run(command)
}

#[test]
fn an_inaccessible_folder_is_an_error() {
    let (w, sandbox) = two_files("d/*/*.csv");
    run_bound(&w, &["reconcile"]).expect(0).says(&["added 40"]);
    fs::set_permissions(w.path("d/y"), Permissions::from_mode(0o000)).unwrap();
    for args in [["plan"], ["reconcile"]] {
        run_bound(&w, &args).expect(1).says(&["cannot list d/y", "nothing was removed"]);
    }
    fs::set_permissions(w.path("d/y"), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(sandbox.members("carts"), members(users(40)));
}

#[test]
fn hidden_and_temporary_files_are_skipped_and_counted() {
    let (w, sandbox) = two_files("d/**/*', format: 'csv");
    let old = csv(["old-1".to_owned()]);
    for name in [
        "d/x/.a.csv",
        "d/x/._a.csv",
        "d/_temporary/0/part-0.csv",
        "d/.staging/part-1.csv",
        "d/_SUCCESS",
        "d/x/c.csv.crdownload",
        "d/x/c.csv.part",
        "d/x/c.csv.tmp",
    ] {
        w.write(name, &old);
    }
    w.run(&["plan"]).expect(0).says(&["8 hidden or temporary entries skipped"]);
    let json = w.run(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(json["cohorts"][0]["source"]["skipped_files"], 8, "{json}");
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(users(40)));
}

#[test]
fn hidden_files_that_the_pattern_names_are_read() {
    let (w, sandbox) = two_files("d/_*/.*.csv");
    w.write("d/_in/.a.csv", csv(users(3))).write("d/_in/b.csv", csv(users(5)));
    w.run(&["reconcile"]).expect(0).says(&["added 3"]);
    assert_eq!(sandbox.members("carts"), members(users(3)));
}

#[test]
fn only_hidden_files_count_as_no_files() {
    let (w, sandbox) = two_files("e/*.csv");
    w.write("e/.a.csv", csv(users(3)));
    w.run(&["reconcile"])
        .expect(1)
        .says(&["no file matches e/*.csv; 1 hidden or temporary entry was skipped"]);
    assert_eq!(sandbox.requests()["removed"], 0);
}

/// A pipe would block without end, as would some devices.
#[test]
fn pipes_sockets_and_devices_are_an_error_at_once() {
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
    for pattern in ["in/*.csv", "in/p.csv"] {
        let (w, _sandbox) = two_files(pattern);
        fs::create_dir(w.path("in")).unwrap();
        nix::unistd::mkfifo(&w.path("in/p.csv"), mode).unwrap();
        w.run(&["reconcile"]).expect(1).says(&["in/p.csv", "it is a pipe and not a file"]);
        fs::remove_file(w.path("in/p.csv")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(w.path("in/p.csv")).unwrap();
        w.run(&["reconcile"]).expect(1).says(&["in/p.csv", "it is a socket and not a file"]);
        drop(socket);
    }
    let (w, sandbox) = two_files("/dev/zero");
    let text = config(&sandbox.url, &["carts"], "roots: [/dev]\n");
    w.write("sync.yaml", text.replace("path: carts.csv", "path: /dev/zero, format: csv"));
    w.run(&["reconcile"]).expect(1).says(&["/dev/zero"]);
}

#[test]
fn included_files_are_all_read_or_reported() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write(
        "sync.yaml",
        config(&sandbox.url, &[], "include: ['cohorts/*.yaml']\n").replace("cohorts:\n", ""),
    );
    w.write("cohorts/a.yaml", format!("cohorts:\n{}", cohort_entry("carts", "")));
    w.write("cohorts/.draft.yaml", "cohorts: nonsense")
        .write("cohorts/._a.yaml", b"\x00\x05\x16\x07".as_slice());
    w.source("carts", users(40));
    w.run(&["validate"]).expect(0);
    w.run(&["reconcile"]).expect(0).says(&["added 40"]);
    let odd = w.path("cohorts").join(OsStr::from_bytes(b"b\xf6.yaml"));
    fs::File::create(&odd).and_then(|mut file| file.write_all(b"cohorts: []")).unwrap();
    w.run(&["validate"]).expect(3).says(&["cannot list cohorts/b\u{fffd}.yaml", "not valid UTF-8"]);
    fs::remove_file(odd).unwrap();
    symlink("gone.yaml", w.path("cohorts/b.yaml")).unwrap();
    w.run(&["validate"]).expect(3).says(&["cannot list cohorts/b.yaml", "is a broken link"]);
    fs::remove_file(w.path("cohorts/b.yaml")).unwrap();
    nix::unistd::mkfifo(&w.path("cohorts/b.yaml"), nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    w.run(&["validate"]).expect(3).says(&["cohorts/b.yaml", "it is a pipe and not a file"]);
    assert_eq!(sandbox.members("carts"), members(users(40)));
}

/// An export must not skip files either: their events would be lost permanently.
#[test]
fn an_export_folder_is_listed_completely_or_is_an_error() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write(
        "sync.yaml",
        format!(
            "version: 1\nconnections: {{ heap: {{ kind: heap, endpoint: '{}', app_id: '11' }} }}\n\
             exports: [ {{ id: e, source: {{ kind: currents_storage, path: in }}, to: heap }} ]\n",
            sandbox.url
        ),
    );
    w.write("in/event_type=a.B/readme.txt", "").write("in/_temporary/x.avro", "not finished");
    w.run(&["export"]).expect(0);
    let odd = w.path("in/event_type=a.B").join(OsStr::from_bytes(b"\xf6.avro"));
    fs::File::create(&odd).unwrap();
    w.run(&["export"]).expect(1).says(&["cannot list", "not valid UTF-8"]);
    fs::remove_file(odd).unwrap();
    symlink("gone.avro", w.path("in/event_type=a.B/x.avro")).unwrap();
    w.run(&["export"]).expect(1).says(&["cannot list", "is a broken link"]);
    fs::remove_file(w.path("in/event_type=a.B/x.avro")).unwrap();
    symlink("..", w.path("in/event_type=a.B/up")).unwrap();
    w.run(&["export"]).expect(1).says(&["cannot list", "a link points to a folder"]);
}
