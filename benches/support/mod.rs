//! Shared by the benchmarks: the program and its sandbox as processes.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

pub(crate) const SYNCLINE: &str = env!("CARGO_BIN_EXE_syncline");

/// A sandbox process, killed on drop.
pub(crate) struct Sandbox(Child, pub(crate) String);

impl Sandbox {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(SYNCLINE)
            .args(["sandbox", "--port", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, line.trim().strip_prefix("sandbox on ").unwrap().to_owned())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
