//! A real browser for a test: headless Chromium behind ChromeDriver, spoken to by the W3C WebDriver protocol.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct Browser {
    driver: Child,
    /// Its host and port.
    address: String,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// None if the browser is not installed; where tests must not pass by skipping, that is a failure.
    pub(crate) fn start() -> Option<Self> {
        let there = |program: &str| {
            let status =
                Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        if !(there("chromedriver") && there("chromium")) {
            let how = "a browser is needed: apt-get install chromium chromium-driver";
            #[allow(clippy::disallowed_methods, reason = "only a test asks where it runs")]
            let must = std::env::var_os("CI").is_some();
            assert!(!must, "{how}");
            #[allow(clippy::print_stderr, reason = "a test that is left out says so")]
            {
                eprintln!("not tested: {how}");
            }
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromedriver");
        // Whatever the browser writes goes with the test.
        command.arg("--port=0").env("HOME", profile.path()).env("TMPDIR", profile.path());
        let mut driver = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let started = "started successfully on port ";
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| Some(line.split_once(started)?.1.trim_end_matches('.').to_owned()));
        // Nobody reads on, and what is written to a closed pipe would end it.
        std::thread::spawn(move || lines.for_each(drop));
        let address = format!("127.0.0.1:{}", port.expect("ChromeDriver tells its port"));
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
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let made = self.call("POST", "/session", &wanted);
        made["sessionId"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    }

    /// One request to the driver, and the value that it answers with.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) =
            ask(&self.address, method, path, &body).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(status, 200, "{method} {path}: {answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["value"].take()
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}/{path}", self.session), body)
    }

    /// One command of the browser's own protocol.
    #[track_caller]
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Opens a page and waits until it is loaded.
    #[track_caller]
    pub(crate) fn open(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    /// What the body of a function gives in the page: `return document.title`.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Makes the page so many pixels wide and high, also narrower than a window can be.
    #[track_caller]
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// What the reader prefers: `light` or `dark`.
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

    /// What the browser has written to the console since it was last asked: errors of scripts and of loading,
    /// and what a policy has kept the page from.
    #[track_caller]
    pub(crate) fn console(&self) -> Vec<String> {
        let entries = self.post("se/log", &json!({ "type": "browser" }));
        entries.as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser, which is the driver's child and not ours. The test may be failing already, so nothing
        // is asserted.
        let _ = ask(&self.address, "DELETE", &format!("/session/{}", self.session), "");
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// One request. ChromeDriver leaves the connection open whatever it is asked, so the answer ends by its length.
fn ask(address: &str, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
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
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer)?;
    Ok((status, String::from_utf8_lossy(&answer).into_owned()))
}
