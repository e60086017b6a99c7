//! `syncline watch` as a process for tests, with its log and its admin endpoints.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Response, Workspace, http, until};

pub(crate) struct Watch {
    child: Child,
    /// Its standard error output. A file, because what is read from a pipe may be behind the other replies.
    log: File,
}

/// Config lines for `watch` with free ports and short timeouts.
pub(crate) const SHORT_TIMEOUTS: &str = "watch:
  listen: 127.0.0.1:0
  admin: 127.0.0.1:0
  debounce: 50ms
  retry: { first_wait: 100ms, longest_wait: 1s }
  grace: 5s
";

impl Watch {
    pub(crate) fn start(w: &Workspace) -> Self {
        let started = Self::from_command(&mut w.command(&["watch"]));
        started.until_ready();
        started
    }

    pub(crate) fn from_command(command: &mut Command) -> Self {
        let log = tempfile::tempfile().unwrap();
        let child = command.stdout(Stdio::null()).stderr(log.try_clone().unwrap()).spawn().unwrap();
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        let mut written = vec![0; self.log.metadata().unwrap().len().try_into().unwrap()];
        self.log.read_exact_at(&mut written, 0).unwrap();
        String::from_utf8_lossy(&written).into_owned()
    }

    fn logged_value(&self, before: &str) -> Option<String> {
        let log = self.log();
        let message = |line: &str| match serde_json::from_str::<Value>(line) {
            Ok(line) => line["message"].as_str().unwrap_or_default().to_owned(),
            Err(_) => line.to_owned(),
        };
        let value = |line: &str| message(line).strip_prefix(before).map(str::to_owned);
        Some(log.lines().find_map(value)?.trim_end_matches('/').to_owned())
    }

    /// The URL of the webhook endpoints.
    pub(crate) fn endpoints(&self) -> String {
        format!(
            "http://{}",
            self.logged_value("endpoints on ").unwrap_or_else(|| panic!("no endpoints: {}", self.log()))
        )
    }

    /// The URL of the admin address.
    pub(crate) fn admin(&self) -> String {
        until("the admin address is logged", || self.logged_value("dashboard on ").is_some());
        self.logged_value("dashboard on ").unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        http(&self.admin(), "GET", path, &[], "")
    }

    pub(crate) fn ready(&self) -> Value {
        serde_json::from_str(&self.get("/readyz").body).unwrap()
    }

    pub(crate) fn until_ready(&self) {
        until("it is ready", || self.get("/readyz").status == 200);
    }

    /// Waits until every cohort is in sync.
    #[track_caller]
    pub(crate) fn until_in_sync(&self) {
        until("all cohorts are in sync", || {
            self.ready()["not_in_sync"].as_object().is_some_and(serde_json::Map::is_empty)
        });
    }

    /// Waits until the log contains a text this number of times.
    #[track_caller]
    pub(crate) fn until_logs(&self, text: &str, times: usize) {
        until(&format!("it logs {times} times: {text}"), || self.log().matches(text).count() >= times);
    }

    /// The value of a metric; 0 if it is absent.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Sends SIGTERM. Returns the exit code.
    pub(crate) fn stop(mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Waits for a successful exit. Returns the log.
    pub(crate) fn ended_well(mut self) -> String {
        assert!(self.child.wait().unwrap().success());
        self.log()
    }

    /// Kills the process, as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        let id = nix::sys::wait::Id::Pid(Pid::from_raw(self.child.id().try_into().unwrap()));
        let flags = nix::sys::wait::WaitPidFlag::WEXITED
            | nix::sys::wait::WaitPidFlag::WNOHANG
            | nix::sys::wait::WaitPidFlag::WNOWAIT;
        !matches!(nix::sys::wait::waitid(id, flags), Ok(nix::sys::wait::WaitStatus::StillAlive))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
