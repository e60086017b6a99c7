//! Progress on a terminal, warnings about waits, and the answer to Ctrl-C, each while the program still runs.

use std::fs::File;
use std::io::Read as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::*;

/// A program with a pseudo terminal as its stderr.
struct OnTerminal {
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl OnTerminal {
    fn start(mut command: Command) -> Self {
        let size = Winsize { ws_row: 40, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = openpty(&size, None).unwrap();
        command.env("TERM", "xterm").stdout(Stdio::null()).stderr(Stdio::from(terminal.slave));
        let child = command.spawn().unwrap();
        // The command holds the other end too.
        drop(command);
        let (shown, mut master) = (Arc::new(Mutex::new(String::new())), File::from(terminal.master));
        let screen = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = master.read(&mut bytes) {
                screen.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..len]));
            }
        });
        Self { child, shown }
    }

    /// Waits until the terminal shows a text while the program runs.
    #[track_caller]
    fn shows(&mut self, text: &str) {
        until(text, || self.shown.lock().unwrap().contains(text) || self.child.try_wait().unwrap().is_some());
        let shown = self.shown.lock().unwrap().clone();
        assert!(shown.contains(text), "missing: {text}\n{shown}");
        assert!(self.child.try_wait().unwrap().is_none(), "it has ended:\n{shown}");
    }

    fn interrupt(&self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
    }

    fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

/// A config for a Braze at `url` with long waits and a cohort of three.
fn patient(w: &Workspace, url: &str) {
    let retry = "retry: { attempts: 8, first_wait: 5m, longest_wait: 10m }";
    let text = config(url, &["carts"], "");
    let text = text.replace("retry: { attempts: 4, first_wait: 10ms, longest_wait: 3s }", retry);
    w.write("sync.yaml", text.replace("timeout: 2s", "timeout: 10m"));
    w.source("carts", users(3));
}

/// An address without a listener.
fn closed_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_braze_that_is_away_is_on_the_terminal_with_the_cause() {
    let w = Workspace::new();
    patient(&w, &closed_address());
    let mut run = OnTerminal::start(w.command(&["reconcile"]));
    // The warning, at once.
    run.shows("WARN");
    run.shows("Braze does not answer: connection refused; attempt 2 of 8 in ");
    // The line that moves.
    run.shows("s: Braze does not answer: connection refused; attempt 2 of 8 in ");
    run.interrupt();
    run.shows_and_ends("stopping after the requests in flight; press Ctrl-C again to stop at once", 7);
}

impl OnTerminal {
    /// Waits until the program has ended, and checks what it showed.
    #[track_caller]
    fn shows_and_ends(self, text: &str, code: i32) {
        let shown = Arc::clone(&self.shown);
        assert_eq!(self.end(), Some(code), "{}", shown.lock().unwrap());
        until(text, || shown.lock().unwrap().contains(text));
    }
}

#[test]
fn a_request_without_a_response_is_on_the_terminal_and_the_second_ctrl_c_ends_it() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    patient(&w, &sandbox.url);
    sandbox.faults(r#"[{"times":0,"do":"hang"}]"#);
    let mut run = OnTerminal::start(w.command(&["reconcile"]));
    run.shows(&format!("POST {}/partners/heap/cohorts has no response for ", sandbox.url));
    run.interrupt();
    run.shows("press Ctrl-C again to stop at once");
    run.interrupt();
    run.shows_and_ends("stopped at once", 7);
}

#[test]
fn exports_are_on_the_terminal_with_what_is_sent_and_read() {
    let types = ["users.messages.email.Open", "users.messages.email.Send"];
    for command in [&["export"][..], &["reconcile"]] {
        let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]));
        let made =
            ["sandbox", "currents", "--out", "cur", "--ids", "ids", "--events", "2500", "--hours", "1"];
        w.run(&[&made[..], &["--type", types[0], "--type", types[1]]].concat()).expect(0);
        let heap = format!(
            "  heap: {{ kind: heap, endpoint: {}, app_id: 11, requests_at_once: 1, timeout: 10m }}\n",
            sandbox.url
        );
        let export = "exports:\n  - { id: engagement, source: { kind: currents_storage, path: cur, incomplete_after: 0s }, to: heap, batch: 1000 }\n";
        w.write("sync.yaml", config(&sandbox.url, &["carts"], &heap) + export).source("carts", users(3));
        sandbox.faults(r#"[{"on":"track","skip":1,"times":0,"do":"hang"}]"#);
        let mut run = OnTerminal::start(w.command(command));
        run.shows("export engagement: 1,000 events sent, ");
        run.shows(" kB of ");
        run.shows("/api/track has no response for ");
        run.interrupt();
        run.shows("press Ctrl-C again to stop at once");
        run.interrupt();
        run.shows_and_ends("stopped at once", 7);
        let history = w.run(&["history", "-n", "1", "--format", "json"]).expect(0).json();
        let last = &history["runs"][0];
        assert_eq!((&last["result"], &last["errors"]), (&json!("stopped"), &json!([])), "{last:#}");
    }
}

#[test]
fn a_slow_source_is_on_the_terminal_and_ctrl_c_ends_it() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/carts.csv", slow.local_addr().unwrap());
    let text = config(&sandbox.url, &["carts"], "").replace("path: carts.csv", &format!("path: \"{url}\""));
    w.write("sync.yaml", text);
    let mut run = OnTerminal::start(w.command(&["reconcile"]));
    let (_connection, _) = slow.accept().unwrap();
    run.shows("reconcile, 1 s");
    run.interrupt();
    run.shows_and_ends("stopped, nothing sent", 130);
    w.run(&["history"]).expect(0).says(&["stopped: 0 requests"]);
}

/// Waits for a line of a log while the program runs.
fn log_until(lines: &mut impl Iterator<Item = std::io::Result<String>>, text: &str) {
    assert!(lines.any(|line| line.unwrap().contains(text)), "it has ended without: {text}");
}

#[test]
fn waits_are_warnings_at_once_and_ctrl_c_ends_them() {
    let limited = r#"{"status":429,"body":{"message":"slow"},"headers":[["retry-after","300"]]}"#;
    let unavailable = "Braze responds with status 503; attempt 2 of 8 in ";
    for (fault, warning, code) in [
        (r#"{"times":0,"do":{"status":503}}"#.to_owned(), unavailable, 7),
        (r#"{"on":"export_ids","times":0,"do":{"status":503}}"#.to_owned(), unavailable, 130),
        (
            format!(r#"{{"times":0,"do":{{"reply":{limited}}}}}"#),
            "Braze limits the rate (429); attempt 2 of 8 in 5 min ",
            7,
        ),
    ] {
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        patient(&w, &sandbox.url);
        if fault.contains("export_ids") {
            let key = "timeout: 10m\n    rest_api_key: { env: TEST_REST_KEY }\n";
            let text = w.read("sync.yaml").replace("timeout: 10m\n", key) + "    preflight: {}\n";
            w.write("sync.yaml", text);
        }
        sandbox.faults(&format!("[{fault}]"));
        let mut command = w.command(&["reconcile"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
        log_until(&mut lines, warning);
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
        log_until(&mut lines, "stopping after the requests in flight");
        lines.for_each(drop);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{fault}");
    }
}
