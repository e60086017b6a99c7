//! Several processes on one state, in a folder and in a bucket: who stands by leads as well as whoever led
//! before, and what was answered with 200 counts, whoever answered it.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::s3::S3;
use crate::support::watch::{PATIENCE, Watch};
use crate::support::*;

/// The config changes while a process stands by: what it leads with is the config of then, not of its start.
#[test]
fn whoever_takes_over_goes_by_the_config_of_now() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], PATIENCE).source("carts", users(50)).source("trials", users(20));
    let first = Watch::start(&w);
    first.until_in_step();
    let second = Watch::from_command(&mut w.command(&["watch"]));
    until("it stands by", || second.get("/readyz").body.contains("standing by"));
    let named = |name: &str| sandbox.names().contains(&("carts".to_owned(), name.to_owned()));
    let passes = || first.metric("syncline_pass_duration_seconds_count");
    let passed = passes();
    w.replace("sync.yaml", &w.read("sync.yaml").replace("name: Carts", "name: Full carts"));
    until("the first has told the name", || named("Full carts") && passes() > passed);
    until("the second knows of it", || second.ready()["config_digest"] == first.ready()["config_digest"]);
    let names = || sandbox.requests()["names"].as_u64().unwrap();
    let before = names();
    first.kill();
    second.until_ready();
    second.until_in_step();
    assert!(named("Full carts"), "{:?}", sandbox.names());
    assert_eq!(names(), before, "nobody was told an old name");
}
