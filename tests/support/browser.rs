//! Headless Chromium for tests, driven through ChromeDriver by the W3C WebDriver protocol.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::skip_test;

pub(crate) struct Browser {
    driver: Child,
    /// Host and port of ChromeDriver.
    address: String,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// `None` if the browser is not installed; with `CI` set that is a failure.
    pub(crate) fn start() -> Option<Self> {
        let is_installed = |program: &str| {
            let status =
                Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        if !(is_installed("chromedriver") && is_installed("chromium")) {
            return skip_test("a browser is needed: apt-get install chromium chromium-driver");
        }
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromedriver");
        // Files of the browser are deleted with the profile.
        command.arg("--port=0").env("HOME", profile.path()).env("TMPDIR", profile.path());
        let mut driver = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let started = "started successfully on port ";
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| Some(line.split_once(started)?.1.trim_end_matches('.').to_owned()));
        // Drain the output: a closed pipe would end the driver.
        std::thread::spawn(move || lines.for_each(drop));
        let address = format!("127.0.0.1:{}", port.expect("ChromeDriver prints its port"));
        let mut browser = Self { driver, address, session: String::new(), _profile: profile };
        browser.session = browser.new_session();
        Some(browser)
    }

    fn new_session(&self) -> String {
        let profile = self._profile.path().join("profile");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let session = self.call("POST", "/session", &capabilities);
        session["sessionId"].as_str().unwrap_or_else(|| panic!("{session}")).to_owned()
    }

    /// Sends one request to the driver. Returns the value of the response.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, response) =
            send_request(&self.address, method, path, &body).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(status, 200, "{method} {path}: {response}");
        serde_json::from_str::<Value>(&response).unwrap()["value"].take()
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}/{path}", self.session), body)
    }

    /// Sends one command of the Chrome DevTools protocol.
    #[track_caller]
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Opens a page and waits until it is loaded.
    #[track_caller]
    pub(crate) fn open(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    /// Runs a function body in the page, such as `return document.title`. Returns its result.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Sets the size of the page, also below the minimum size of a window.
    #[track_caller]
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Sets the preferred color scheme: `light` or `dark`.
    #[track_caller]
    pub(crate) fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// The whole page as PNG, in base64.
    #[track_caller]
    pub(crate) fn screenshot(&self) -> String {
        let whole = json!({ "captureBeyondViewport": true, "format": "png" });
        self.devtools("Page.captureScreenshot", &whole)["data"].as_str().unwrap().to_owned()
    }

    /// Console messages since the last call: script errors, loading errors, and violations of the content
    /// security policy.
    #[track_caller]
    pub(crate) fn console(&self) -> Vec<String> {
        let entries = self.post("se/log", &json!({ "type": "browser" }));
        entries.as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser, a child of the driver. The test may be failing already, so errors are ignored.
        let _ = send_request(&self.address, "DELETE", &format!("/session/{}", self.session), "");
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Sends one request. ChromeDriver keeps connections open, so the response ends by its length.
fn send_request(address: &str, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let (kind, length) = ("application/json; charset=utf-8", body.len());
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let (mut reader, mut status, mut length) = (BufReader::new(stream), 0, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once([' ', ':']) {
            None => break,
            Some((name, value)) if name.starts_with("HTTP/") => status = value[..3].parse().unwrap_or(0),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap_or(0);
            }
            Some(_) => {}
        }
    }
    let mut response = vec![0; length];
    reader.read_exact(&mut response)?;
    Ok((status, String::from_utf8_lossy(&response).into_owned()))
}
