//! `syncline watch` in a process of its own, and what can be asked of it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Response, Workspace, http, until};

pub(crate) struct Watch {
    child: Child,
    log: Arc<Mutex<String>>,
}

/// Lines of a config for `watch`, on free ports and with little patience.
pub(crate) const PATIENCE: &str = "watch:
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
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                written.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn told(&self, before: &str) -> Option<String> {
        let log = self.log();
        let line = log.lines().find_map(|line| line.strip_prefix(before))?;
        Some(line.trim_end_matches('/').to_owned())
    }

    /// The URL of the doors.
    pub(crate) fn doors(&self) -> String {
        format!("http://{}", self.told("doors on ").unwrap_or_else(|| panic!("no doors: {}", self.log())))
    }

    /// The URL of the admin address.
    pub(crate) fn admin(&self) -> String {
        until("the admin address is told", || self.told("dashboard on ").is_some());
        self.told("dashboard on ").unwrap()
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

    /// Waits until every cohort that it has is in step.
    #[track_caller]
    pub(crate) fn until_in_step(&self) {
        until("all is in step", || {
            self.ready()["not_in_step"].as_object().is_some_and(serde_json::Map::is_empty)
        });
    }

    /// Waits until its log holds a text, so many times.
    #[track_caller]
    pub(crate) fn until_logs(&self, text: &str, times: usize) {
        until(&format!("it logs {times} times: {text}"), || self.log().matches(text).count() >= times);
    }

    /// A number that its metrics tell; 0 if they do not.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Tells it to stop, and gives its exit code.
    pub(crate) fn stop(mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Waits until it has ended well, and gives all that it has logged.
    pub(crate) fn ended_well(mut self) -> String {
        assert!(self.child.wait().unwrap().success());
        self.log()
    }

    /// As by `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether the process has ended by itself.
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
