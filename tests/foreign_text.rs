//! Foreign text: secrets in text of servers are removed where the text enters, and foreign names cannot act as
//! commands to a terminal, a CI runner or a Markdown page.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::json;

use crate::support::listener::Listener;
use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

/// A database that rejects every login and repeats the password. Returns its port.
fn repeating_database() -> u16 {
    fn reject(mut stream: TcpStream) -> std::io::Result<()> {
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        let mut startup = vec![0; u32::from_be_bytes(len) as usize - 4];
        stream.read_exact(&mut startup)?;
        // It requests the password in plain text.
        stream.write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3])?;
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let mut password = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
        stream.read_exact(&mut password)?;
        password.pop();
        let percent: String = password.iter().map(|byte| format!("%{byte:02X}")).collect();
        let text = String::from_utf8_lossy(&password);
        let json = serde_json::to_string(&text).unwrap();
        let message = format!("no such login, tried {text}, {json}, {percent}\x1b[2J\n::error::x");
        let fields = format!("SFATAL\0VFATAL\0C28P01\0M{message}\0\0");
        stream.write_all(b"E")?;
        stream.write_all(&u32::try_from(fields.len() + 4).unwrap().to_be_bytes())?;
        stream.write_all(fields.as_bytes())
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = reject(stream);
        }
    });
    port
}

/// Checks that the text has neither terminal escapes nor lines that a CI runner executes.
#[track_caller]
fn expect_no_commands(text: &str) {
    let is_command = |line: &str| line.trim_start().starts_with("::") || line.contains("##[");
    assert!(!text.lines().any(is_command), "{text}");
    assert!(!text.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')), "{text:?}");
}

#[test]
fn a_password_repeated_by_a_database_is_not_shown() {
    const PASSWORD: &str = "canary\"pass\\wörd";
    let (w, sandbox, port) = (Workspace::new(), Sandbox::start(), repeating_database());
    let connection = format!(
        "  pg: {{ kind: postgres, host: 127.0.0.1, port: {port}, database: d, user: u, password: {{ env: PW }}, tls: off }}\n"
    );
    let text = config(&sandbox.url, &["carts"], &connection);
    let source = "{ kind: sql, connection: pg, query: \"select 1 as identity\" }";
    w.write("sync.yaml", text.replace("{ kind: file, path: carts.csv }", source));
    for args in [
        &["plan", "--out", "a.plan"][..],
        &["plan", "--format", "json"],
        &["plan", "--format", "markdown"],
        &["plan", "--log-format", "json", "-vvv"],
        &["reconcile", "-vvv"],
        &["reconcile", "--plan", "a.plan"],
        &["doctor"],
        &["doctor", "--format", "json"],
        &["history", "--format", "json"],
    ] {
        let mut command = w.command(args);
        command.env("PW", PASSWORD);
        let run = run(command);
        for text in [&run.stdout, &run.stderr] {
            assert!(!text.contains("canary") && !text.to_lowercase().contains("%63%61"), "{args:?}: {text}");
            expect_no_commands(text);
        }
        if !args.contains(&"history") {
            run.says(&["tried [secret], "]);
        }
    }
    for (path, bytes) in w.snapshot(".") {
        let is_plan = path.ends_with("a.plan");
        // The compressed text is followed by its length, a signature and a marker.
        let bytes = if is_plan { zstd::decode_all(&bytes[..bytes.len() - 48]).unwrap() } else { bytes };
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("canary"), "{}: {text}", path.display());
        assert!(!is_plan || text.contains("tried [secret]"), "{text}");
    }
}

#[test]
fn a_short_or_common_secret_does_not_alter_our_output() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["latest_carts"], "").source("latest_carts", users(2));
    let plan = |secret: &str| {
        let mut command = w.command(&["plan", "--format", "json"]);
        command.env("AWS_ACCESS_KEY_ID", secret).env("AWS_SECRET_ACCESS_KEY", secret);
        command.env("TEST_IMPORT_KEY", secret);
        run(command).expect(0)
    };
    let expected = plan("wholly-unlike-anything").json();
    assert_eq!(expected["cohorts"][0]["id"], "latest_carts");
    for secret in ["test", "2", "\"", "{", "carts", "latest_carts", "Latest_carts", "cohort_import"] {
        assert_eq!(plan(secret).json(), expected, "{secret}");
    }
}

#[test]
fn names_of_files_and_columns_cannot_be_commands() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let text = config(&sandbox.url, &["carts"], "");
    w.write("sync.yaml", text.replace("path: carts.csv", "path: \"in/*.csv\""));
    let name = "in/a\x1b[31m\n::error::\u{202e}x##[group]y.csv";
    w.write(name, "\x1b]0;t\x07\n@octocat\n");
    for args in [
        &["plan"][..],
        &["plan", "--format", "markdown"],
        &["plan", "--format", "json"],
        &["reconcile", "-vv"],
        &["reconcile", "-vv", "--log-format", "json"],
        &["doctor"],
        &["history"],
    ] {
        let run = w.run(args);
        expect_no_commands(&run.stdout);
        expect_no_commands(&run.stderr);
        if args.contains(&"json") && args[0] == "plan" {
            let error = run.json()["failed"][0]["error"].as_str().unwrap().to_owned();
            assert!(error.contains(name), "JSON has the exact name: {error}");
        }
    }
    // Rejected rows are named by their file.
    w.write(name, "identity\nuser-1\n\n\x01\x02\n");
    for args in [&["plan"][..], &["plan", "--format", "markdown"], &["reconcile"]] {
        let run = w.run(args);
        expect_no_commands(&run.stdout);
        expect_no_commands(&run.stderr);
    }
}

#[test]
fn markdown_shows_names_literally() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let name = "a | b <img src=x> @octocat [x](https://evil.example) `code` ::error::";
    let text = config(&sandbox.url, &["carts"], "").replace("name: Carts", &format!("name: \"{name}\""));
    w.write("sync.yaml", text).source("carts", users(1));
    let shown = w.run(&["plan", "--format", "markdown"]).expect(0).stdout;
    let expected = "``a \\| b <img src=x> @octocat [x](https://evil.example) `code` ::error::``";
    assert!(shown.contains(expected), "{shown}");
    expect_no_commands(&shown);
}

/// The name of a segment, as any user of Heap may choose it.
const SEGMENT: &str = "x\x1b[2J\u{9b}1m\u{202e}\r\n::error::owned\n##[error]y | <img src=x> @octocat \
    [l](https://evil.example) `c` &lt;";

/// Posts JSON to the sandbox's admin API.
fn post(sandbox: &Sandbox, path: &str, body: &serde_json::Value) {
    let response =
        http(&sandbox.url, "POST", path, &[("content-type", "application/json")], &body.to_string());
    assert!((200..300).contains(&response.status), "{path}: {} {}", response.status, response.body);
}

/// From Heap's webhook to every output: log, status, plans, dashboard, notifications, generated config.
#[test]
fn a_name_from_heap_cannot_be_a_command() {
    let (w, sandbox, ops) = (Workspace::new(), Sandbox::start(), Listener::start());
    let heap =
        "  heap: { kind: heap, webhook_secret: { env: TEST_WEBHOOK }, webhook: { incomplete_after: 1s } }\n";
    let more = format!(
        "{heap}{SHORT_TIMEOUTS}  notify: [ {{ url: {{ env: OPS }} }}, {{ url: {{ env: OPS }}, format: slack }} ]\n"
    );
    let text = config(&sandbox.url, &["free", "typo", "file"], &more)
        .replace("external_id: identity", "external_id: id");
    let segment = |n: u64| format!("{{ kind: heap_segment, connection: heap, segment_id: {n} }}");
    let text = text.replace("{ kind: file, path: free.csv }", &segment(7));
    let text = text.replace("{ kind: file, path: typo.csv }", &segment(9));
    w.write("sync.yaml", text.replace("path: file.csv", "path: \"in/*.csv\""));
    // Its notification names the file.
    w.write("in/\x1b[31m\n::error::\u{202e}<b>.csv", "other\nuser-1\n");
    let mut command = w.command(&["watch", "-v"]);
    let watch = Watch::from_command(command.env("TEST_WEBHOOK", "whsec_test").env("OPS", ops.url()));
    watch.until_ready();
    let webhook = |lose: &[u64]| {
        let url = format!("{}/heap/heap", watch.endpoints());
        let body =
            json!({ "url": url, "secret": "whsec_test", "page_len": 10, "first_wait": 20, "lose": lose });
        post(&sandbox, "/_sandbox/heap/webhook", &body);
    };
    let sync = |id: u64, people: std::ops::Range<usize>| {
        let members: Vec<String> = users(people.end).skip(people.start).collect();
        post(&sandbox, "/_sandbox/heap/segments", &json!({ "id": id, "name": SEGMENT, "members": members }));
        post(&sandbox, "/_sandbox/heap/sync", &json!({}));
    };
    webhook(&[]);
    sync(7, 0..25);
    sync(8, 0..3);
    until("the members are sent", || sandbox.members("free").len() == 25);
    webhook(&[2]);
    sync(7, 20..60);
    until("the missing page is logged", || watch.log().contains("pages [2] of"));
    // Other notifications may concern the cohorts of segments.
    let named = |posts: Vec<(String, serde_json::Value)>| {
        let texts = posts.into_iter().map(|(_, body)| body["text"].as_str().unwrap().to_owned());
        texts.filter(|text| text.contains("\\u{1b}[31m\\n::error::\\u{202e}")).collect::<Vec<_>>()
    };
    until("the failure is notified to both", || named(ops.posts()).len() >= 2);
    until("the wait names the segments", || watch.get("/").body.contains("::error::owned"));

    let log = watch.log();
    assert!(log.contains("x\\u{1b}[2J\\u{9b}1m\\u{202e}\\r\\n::error::owned\\n#\\#[error]y"), "{log}");
    expect_no_commands(&log);
    let page = watch.get("/").body;
    assert!(
        page.contains("&lt;img src=x&gt;") && !page.contains("<img") && !page.contains("<b>.csv"),
        "{page}"
    );
    assert!(!page.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')), "{page:?}");
    expect_no_commands(&watch.get("/metrics").body);
    ops.posts().iter().for_each(|(_, body)| expect_no_commands(body["text"].as_str().unwrap()));
    assert!(named(ops.posts()).iter().any(|text| text.contains("&lt;b&gt;.csv")), "{:?}", ops.posts());
    assert_eq!(watch.stop(), 0);

    let name = SEGMENT.to_owned();
    for args in [
        &["status"][..],
        &["status", "--format", "json"],
        &["plan"],
        &["plan", "--format", "markdown"],
        &["plan", "--format", "json"],
        &["import"],
        &["history"],
        &["reconcile", "-vv"],
        &["reconcile", "-vv", "--log-format", "json"],
        &["check"],
        &["doctor"],
    ] {
        let run = w.run(args);
        expect_no_commands(&run.stdout);
        expect_no_commands(&run.stderr);
        match args {
            ["status", "--format", "json"] => {
                let segments = run.json()["heap_connections"][0]["segments"].clone();
                assert_eq!((&segments[0]["name"], &segments[1]["name"]), (&json!(name), &json!(name)));
            }
            ["status"] => drop(run.says(&["segment 8 \"x\\u{1b}[2J", "::error::owned\\n"])),
            // The waiting cohort shows Heap's name in a code span, where markup has no effect.
            ["plan"] => drop(run.says(&["waits: ", "7 \"x\\u{1b}[2J", "<img src=x>"])),
            ["plan", "--format", "markdown"] => {
                let line = run.stdout.lines().find(|line| line.contains("`typo`")).unwrap();
                let (_, code) = line.split_once("waits, ").unwrap();
                let fence = "``";
                assert!(code.starts_with(fence) && code.ends_with(fence), "{line}");
                assert!(
                    code.contains("y \\| <img src=x> @octocat") && !code[2..code.len() - 2].contains(fence),
                    "{line}"
                );
            }
            _ => {}
        }
    }
}
