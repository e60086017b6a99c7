//! Test workspace: a folder with a config, runs of the real program, and the sandbox.

pub(crate) mod avro;
#[path = "../../benches/support/avro.rs"]
pub(crate) mod avro_writer;
pub(crate) mod azure;
pub(crate) mod browser;
pub(crate) mod connect;
pub(crate) mod dashboard_views;
pub(crate) mod drivers;
pub(crate) mod github;
pub(crate) mod listener;
pub(crate) mod markdown;
pub(crate) mod postgres;
pub(crate) mod receiver;
pub(crate) mod reference;
pub(crate) mod s3;
pub(crate) mod watch;
pub(crate) mod web;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub(crate) const SYNCLINE: &str = env!("CARGO_BIN_EXE_syncline");
/// Default keys of the sandbox.
pub(crate) const PARTNER_KEY: &str = "sandbox-partner-api-key";
pub(crate) const IMPORT_KEY: &str = "sandbox-data-import-key";
pub(crate) const REST_KEY: &str = "sandbox-rest-api-key";

/// Variables from which the program knows a CI run and the caller of `sudo`.
pub(crate) const OPERATOR_VARIABLES: [&str; 13] = [
    "BITBUCKET_BUILD_NUMBER",
    "BUILDKITE_BUILD_URL",
    "BUILD_BUILDID",
    "BUILD_URL",
    "CIRCLE_BUILD_URL",
    "CI_JOB_URL",
    "CI_PIPELINE_URL",
    "CODEBUILD_BUILD_URL",
    "DRONE_BUILD_LINK",
    "GITHUB_RUN_ID",
    "SEMAPHORE_JOB_ID",
    "SUDO_USER",
    "TRAVIS_JOB_WEB_URL",
];

/// An edited JSON file of the state with its new checksum. `name` is its path in the state.
pub(crate) fn with_checksum(name: &str, text: &str) -> String {
    let (body, _) = text.rsplit_once(",\n  \"checksum\": \"").unwrap();
    let sum = xxhash_rust::xxh3::xxh3_128(format!("{name}\n{body}").as_bytes());
    format!("{body},\n  \"checksum\": \"{sum:032x}\"\n}}")
}

/// Lines of the journal or of rejects with new checksums. `subject` is the run, or the run with its cohort,
/// export or webhook.
pub(crate) fn with_line_checksums(subject: &str, text: &str) -> String {
    let line = |line: &str| {
        let body =
            line.rsplit_once(",\"checksum\":\"").map_or_else(|| line.trim_end_matches('}'), |(body, _)| body);
        let sum = xxhash_rust::xxh3::xxh3_64(format!("{subject}\n{body}").as_bytes());
        format!("{body},\"checksum\":\"{sum:016x}\"}}\n")
    };
    text.lines().map(line).collect()
}

/// A temporary folder for one test.
pub(crate) struct Workspace {
    home: TempDir,
}

/// Result of a run of the program.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Parses stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }

    /// Checks that the output contains all of these texts.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        let all = format!("{}\n{}", self.stdout, self.stderr);
        for text in texts {
            assert!(
                all.contains(text),
                "missing text: {text}\nstdout:\n{}\nstderr:\n{}",
                self.stdout,
                self.stderr
            );
        }
        self
    }
}

impl Workspace {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.home.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(path).unwrap().write_all(text.as_ref()).unwrap();
        self
    }

    /// Replaces a file atomically, by a rename.
    pub(crate) fn replace(&self, relative: &str, text: &str) {
        self.write("new.tmp", text);
        #[allow(clippy::disallowed_methods, reason = "a test's file, not the state's")]
        fs::rename(self.path("new.tmp"), self.path(relative)).unwrap();
    }

    pub(crate) fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap()
    }

    /// The text of all files below a folder.
    pub(crate) fn read_all(&self, relative: &str) -> String {
        self.snapshot(relative).iter().map(|(_, bytes)| String::from_utf8_lossy(bytes)).collect()
    }

    /// A command of the program in this folder, without variables that change its output.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(SYNCLINE);
        command.args(args).current_dir(self.home.path()).stdin(Stdio::null());
        let others = ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "RUST_BACKTRACE", "http_proxy", "HTTP_PROXY"];
        for name in others.iter().chain(&OPERATOR_VARIABLES) {
            command.env_remove(name);
        }
        command.env("TEST_IMPORT_KEY", IMPORT_KEY).env("TEST_PARTNER_KEY", PARTNER_KEY);
        command.env("TEST_REST_KEY", REST_KEY);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        run(self.command(args))
    }

    /// Runs `reconcile` and `state verify`: nothing is sent, and the state is whole.
    #[track_caller]
    pub(crate) fn assert_in_sync(&self, sandbox: &Sandbox) {
        let before = sandbox.writes();
        self.run(&["reconcile"]).expect(0).says(&["In sync"]);
        assert_eq!(sandbox.writes(), before);
        self.run(&["state", "verify"]).expect(0);
    }

    /// Runs `reconcile` and kills it while the sandbox has received a request for `endpoint` and not executed it.
    /// `counter` is the sandbox's counter of such requests.
    #[track_caller]
    pub(crate) fn kill_during_request(&self, sandbox: &Sandbox, endpoint: &str, counter: &str) {
        let count = || sandbox.requests()[counter].as_u64().unwrap();
        let before = count();
        sandbox.faults(&format!(r#"[{{"on": "{endpoint}", "do": "hold_and_hang"}}]"#));
        let mut command = self.command(&["reconcile"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the request is out", || count() > before);
        child.kill().unwrap();
        child.wait().unwrap();
        sandbox.faults("[]");
    }

    /// Writes a config with these cohorts, each from `<id>.csv`, for this sandbox.
    pub(crate) fn config(&self, sandbox: &Sandbox, cohorts: &[&str], more: &str) -> &Self {
        self.write("sync.yaml", config(&sandbox.url, cohorts, more))
    }

    /// Writes a source with one external id per row.
    pub(crate) fn source(&self, id: &str, ids: impl IntoIterator<Item = String>) -> &Self {
        self.replace(&format!("{id}.csv"), &csv(ids));
        self
    }

    /// All files below a folder with their content, to detect changes.
    pub(crate) fn snapshot(&self, relative: &str) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            let Ok(entries) = fs::read_dir(folder) else { return };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    match fs::read(&path) {
                        Ok(bytes) => found.push((path, bytes)),
                        // A running program has deleted it.
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        Err(error) => panic!("{}: {error}", path.display()),
                    }
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.path(relative), &mut found);
        found.sort();
        found
    }
}

/// Runs a command as pasted.
pub(crate) fn run_pasted(w: &Workspace, command: &str) -> Run {
    let bin = Path::new(SYNCLINE).parent().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(w.path(""));
    shell.env("PATH", format!("{}:/usr/bin:/bin", bin.display())).env("NO_COLOR", "1");
    shell.env("TEST_IMPORT_KEY", IMPORT_KEY).env("TEST_PARTNER_KEY", PARTNER_KEY);
    run(shell)
}

/// All files below a folder, sorted; the file itself if `path` is one.
pub(crate) fn files_below(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.flat_map(|path| files_below(&path)).collect();
    files.sort();
    files
}

/// A CSV with external ids.
pub(crate) fn csv(ids: impl IntoIterator<Item = String>) -> String {
    let mut text = "identity\n".to_owned();
    ids.into_iter().for_each(|id| text.push_str(&format!("{id}\n")));
    text
}

pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

/// `user-0` to `user-(n-1)`.
pub(crate) fn users(n: usize) -> impl Iterator<Item = String> + Clone {
    (0..n).map(|i| format!("user-{i}"))
}

/// Members in the sandbox's format for these external ids.
pub(crate) fn members(ids: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    ids.into_iter().map(|id| format!("external_id {id}")).collect()
}

pub(crate) fn config(url: &str, cohorts: &[&str], more: &str) -> String {
    let mut text = format!(
        "version: 1
connections:
  braze:
    kind: braze
    endpoint: {url}
    data_import_key: {{ env: TEST_IMPORT_KEY }}
    partner_api_key: {{ env: TEST_PARTNER_KEY }}
    retry: {{ attempts: 4, first_wait: 10ms, longest_wait: 3s }}
    timeout: 2s
{more}cohorts:
"
    );
    for cohort in cohorts {
        text.push_str(&cohort_entry(cohort, ""));
    }
    text
}

/// A config that sends one cohort by attribute to the sandbox inside the program.
pub(crate) fn in_program_config() -> String {
    let connections = "connections: { braze: { kind: braze, instance: sandbox } }";
    format!("version: 1\n{connections}\ncohorts:\n{}", cohort_entry("carts", "    deliver: attribute\n"))
}

/// A cohort entry for a config. Its name is the capitalized id.
pub(crate) fn cohort_entry(id: &str, more: &str) -> String {
    let name = id[..1].to_uppercase() + &id[1..];
    format!(
        "  - id: {id}
    name: {name}
    to: braze
    source: {{ kind: file, path: {id}.csv }}
    match: [ {{ external_id: identity }} ]
{more}"
    )
}

pub(crate) fn run(mut command: Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A sandbox in its own process, so that killing the program does not affect it.
pub(crate) struct Sandbox {
    child: Child,
    pub(crate) url: String,
}

impl Sandbox {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(args: &[&str]) -> Self {
        Self::from_command(Command::new(SYNCLINE).args(["sandbox", "--port", "0"]).args(args))
    }

    pub(crate) fn from_command(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("sandbox on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, url }
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let response = http(&self.url, "GET", path, &[], "");
        (response.status, response.body)
    }

    /// The members of a cohort in the sandbox.
    #[track_caller]
    pub(crate) fn members(&self, cohort: &str) -> BTreeSet<String> {
        match self.get(&format!("/_sandbox/cohorts/{cohort}/members")) {
            (200, body) => body.lines().map(str::to_owned).collect(),
            (404, _) => BTreeSet::new(),
            (status, body) => panic!("{status}: {body}"),
        }
    }

    /// The sandbox's counters.
    pub(crate) fn requests(&self) -> Value {
        serde_json::from_str(&self.get("/_sandbox/requests").1).unwrap()
    }

    /// Requests for names and members so far.
    pub(crate) fn writes(&self) -> u64 {
        let requests = self.requests();
        requests["names"].as_u64().unwrap() + requests["users"].as_u64().unwrap()
    }

    /// Names of the cohorts, by id.
    pub(crate) fn names(&self) -> Vec<(String, String)> {
        let cohorts: Value = serde_json::from_str(&self.get("/_sandbox/cohorts").1).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        cohorts.as_array().unwrap().iter().map(|c| (text(&c["cohort_id"]), text(&c["name"]))).collect()
    }

    #[track_caller]
    pub(crate) fn admin_post(&self, path: &str, body: &str) {
        let response = http(&self.url, "POST", path, &[("content-type", "application/json")], body);
        assert_eq!(response.status, 204, "{}", response.body);
    }

    #[track_caller]
    pub(crate) fn faults(&self, plan: &str) {
        self.admin_post("/_sandbox/faults", plan);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A complete response.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

/// Sends one request over a new connection. Status 0: no response.
#[track_caller]
pub(crate) fn http(url: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let response = try_http(url, method, path, headers, body);
    response.unwrap_or(Response { status: 0, headers: String::new(), body: String::new() })
}

/// The same; `None` without a response.
#[track_caller]
pub(crate) fn try_http(
    url: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<Response> {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    // A server that rejects a body may close before it has read it.
    let _ = write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer in time: {method} {path}"),
        _ => {}
    }
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Some(Response { status, headers: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// Waits until the condition holds; fails the test after two minutes, which a busy machine may need.
#[track_caller]
pub(crate) fn until(expected: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < give_up, "timed out: {expected}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The folder of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Skips a test without its server or driver. `tests/skipped.rs` prints the reason after all tests. With `CI` set, it fails
/// instead.
pub(crate) fn skip_test<T>(how: &str) -> Option<T> {
    #[allow(clippy::disallowed_methods, reason = "only tests read the environment")]
    let is_required = std::env::var_os("CI").is_some();
    assert!(!is_required, "{how}");
    // Of this run of Cargo only: its process starts this one and the one that prints.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped");
    let folder = folder.join(std::os::unix::process::parent_id().to_string());
    fs::create_dir_all(&folder).unwrap();
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default().replace("::", ".");
    let reason: String = how.chars().filter(char::is_ascii_alphanumeric).take(60).collect();
    #[allow(clippy::disallowed_methods, reason = "a test's own data")]
    fs::write(folder.join(format!("{test}-{reason}")), how).unwrap();
    None
}
