//! Trust boundary for pull requests: what a config may reference, what it may change, and what is never shown.

use std::os::unix::fs::symlink;

use crate::support::*;

/// A trusted config in a folder of its own, and a changed copy.
fn trusted_and_changed(sandbox: &Sandbox, more: &str) -> Workspace {
    let w = Workspace::new();
    w.config(sandbox, &["carts"], more).source("carts", users(5));
    w.write("trusted/sync.yaml", w.read("sync.yaml"));
    w
}

const TRUSTED: [&str; 2] = ["--trusted-config", "trusted/sync.yaml"];

fn with<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &TRUSTED].concat()
}

#[test]
fn a_change_may_alter_cohorts_segments_and_exports() {
    let sandbox = Sandbox::start();
    let w = trusted_and_changed(&sandbox, "");
    let text = w.read("sync.yaml");
    w.write("more/trials.yaml", format!("cohorts:\n{}", cohort_entry("trials", "")));
    let more = "include: [more/*.yaml]\nremoved: [ { cohort: old, members: remove } ]\n";
    w.write("sync.yaml", text.replace("path: carts.csv", "path: people.csv") + more)
        .source("people", users(3));
    w.source("trials", users(2));
    w.run(&with(&["validate"])).expect(0);
    w.run(&with(&["plan"])).expect(0).says(&["add 3", "add 2", "--trusted-config trusted/sync.yaml"]);
    // Other notation, or other files, with the same values.
    let (head, cohorts) = text.split_once("cohorts:").unwrap();
    let connections = head.split_once("connections:").unwrap().1;
    w.write("more/connections.yaml", format!("connections:{connections}"));
    let spelled =
        "version: 1\nstate: .syncline\nmemory: 256MiB\nwatch: { poll: 30000ms }\ninclude: [more/*.yaml]\n";
    w.write("sync.yaml", format!("{spelled}cohorts:{cohorts}"));
    w.run(&with(&["validate"])).expect(0);
}

#[test]
fn a_change_of_anything_else_stops_the_run_before_it_reads_or_sends() {
    let sandbox = Sandbox::start();
    let databases = "  pg: { kind: postgres, host: db.internal, database: d, user: u }
  wh: { kind: adbc, driver: postgresql, options: { uri: \"postgresql://warehouse/d\" } }\n";
    let w = trusted_and_changed(&sandbox, databases);
    let text = w.read("sync.yaml");
    // Nothing is read: the source does not exist.
    std::fs::remove_file(w.path("carts.csv")).unwrap();
    let evil = "https://evil.example";
    for (change, key) in [
        (text.replace(&sandbox.url, "http://127.0.0.1:9"), "connections.braze.endpoint"),
        (
            text.replace("env: TEST_IMPORT_KEY", "env: AWS_SECRET_ACCESS_KEY"),
            "connections.braze.data_import_key.env",
        ),
        (
            text.replace("{ env: TEST_IMPORT_KEY }", "{ file: /proc/self/environ }"),
            "connections.braze.data_import_key.file",
        ),
        (text.replace("    timeout: 2s", "    timeout: 3s"), "connections.braze.timeout"),
        (format!("{text}roots: [/]\n"), "roots"),
        (format!("{text}state: elsewhere\n"), "state"),
        (format!("{text}state: s3://mine/state\nbucket: {{ region: us-east-1 }}\n"), "bucket"),
        (format!("{text}allow_endpoint: [\"{evil}\"]\n"), "allow_endpoint"),
        (format!("{text}watch: {{ listen: \"127.0.0.1:1\" }}\n"), "watch"),
        (format!("{text}watch: {{ notify: [ {{ url: {{ env: TEST_REST_KEY }} }} ] }}\n"), "watch"),
        (format!("{text}memory: 1GiB\n"), "memory"),
        (text.replace("host: db.internal", "host: 169.254.169.254"), "connections.pg.host"),
        (text.replace("//warehouse", "//10.0.0.1"), "connections.wh.options.uri"),
        (
            text.replace("connections:\n", "connections:\n  dw: { kind: adbc, driver: ./evil.so }\n"),
            "connections.dw",
        ),
        (
            text.replace("connections:\n", "connections:\n  h: { kind: heap, region: us, app_id: \"1\" }\n")
                + "exports:\n  - { id: e, to: h, source: { kind: currents_http, token: { env: TEST_REST_KEY } } }\n",
            "exports.e.source.token",
        ),
    ] {
        w.write("sync.yaml", &change);
        for args in
            [&["validate"][..], &["plan"], &["reconcile"], &["check"], &["status"], &["watch"], &["doctor"]]
        {
            let run = w.run(&with(args));
            assert_eq!(run.code, 6, "{key} {args:?}: {run:?}");
            let run = run.says(&["error[not-trusted]", &format!("`{key}`"), "nothing was read or sent"]);
            assert!(!run.stderr.contains("AWS_SECRET") && !run.stderr.contains("evil.example"), "{run:?}");
        }
        let found = w.run(&with(&["validate", "--format", "json"])).expect(6).json();
        assert_eq!(found["problems"][0]["code"], "not-trusted", "{found}");
    }
    assert_eq!(sandbox.writes(), 0);
    assert!(!w.path(".syncline").exists() && !w.path("elsewhere").exists());
    // Without a trusted config, the config is the operator's own.
    w.write("sync.yaml", format!("{text}memory: 1GiB\n"));
    w.run(&["validate"]).expect(0);
}

#[test]
fn an_environment_is_compared_as_it_resolves() {
    let sandbox = Sandbox::start();
    let w = trusted_and_changed(&sandbox, "");
    let text = w.read("sync.yaml");
    let prod = "environments: { prod: { state: there } }\n";
    w.write("trusted/sync.yaml", format!("{text}{prod}"));
    w.write("sync.yaml", format!("{text}environments: {{ prod: {{ state: mine }} }}\n"));
    w.run(&with(&["plan"])).expect(0);
    w.run(&with(&["plan", "--env", "prod"])).expect(6).says(&["`state`"]);
    w.run(&with(&["validate"])).expect(6).says(&["`state`", "with `--env prod`"]);
    w.write("sync.yaml", format!("{text}{prod}").replace("prod", "test"));
    w.run(&with(&["plan", "--env", "test"])).expect(6).says(&["`environments.test`"]);
}

#[test]
fn drivers_next_to_the_config_must_equal_the_trusted_ones() {
    let sandbox = Sandbox::start();
    let w = trusted_and_changed(&sandbox, "  dw: { kind: adbc, driver: drivers/x.so }\n");
    w.write("drivers/x.so", "one").write("trusted/drivers/x.so", "one");
    w.run(&with(&["validate"])).expect(0);
    w.write("drivers/x.so", "another");
    w.run(&with(&["plan"])).expect(6).says(&["`connections.dw.driver: the file drivers/x.so`"]);
}

#[test]
fn sources_are_never_system_files() {
    let sandbox = Sandbox::start();
    let w = Workspace::new();
    let text = config(&sandbox.url, &["carts"], "") + "roots: [/]\n";
    std::fs::create_dir(w.path("in")).unwrap();
    symlink("/proc/self/environ", w.path("in/link.csv")).unwrap();
    for path in ["/proc/self/environ", "/dev/null", "in/link.csv", "in/*.csv"] {
        let source = format!("{{ kind: file, format: csv, path: {path:?} }}");
        w.write("sync.yaml", text.replace("{ kind: file, path: carts.csv }", &source));
        for format in ["human", "json", "markdown"] {
            let run = w.run(&["plan", "--format", format]);
            assert_eq!(run.code, 1, "{path}: {run:?}");
            let run = run.says(&["is outside the folders that sources may be read from"]);
            assert!(
                !format!("{run:?}").contains("TEST_IMPORT_KEY=") && !format!("{run:?}").contains(IMPORT_KEY)
            );
        }
    }
}

#[test]
fn a_query_file_is_below_the_folder_after_links_are_resolved() {
    let sandbox = Sandbox::start();
    let (w, elsewhere) = (Workspace::new(), Workspace::new());
    elsewhere.write("q.sql", "select 'canary'");
    symlink(elsewhere.path("q.sql"), w.path("link.sql")).unwrap();
    let connection = "  pg: { kind: postgres, host: 127.0.0.1, port: 1, database: d, user: u, tls: off }\n";
    let text = config(&sandbox.url, &["carts"], connection);
    let absolute = elsewhere.path("q.sql").display().to_string();
    for file in ["link.sql", "/proc/self/environ", &absolute, "."] {
        let source = format!("{{ kind: sql, connection: pg, query_file: {file:?} }}");
        w.write("sync.yaml", text.replace("{ kind: file, path: carts.csv }", &source));
        let run = w.run(&["plan"]).expect(3).says(&["error[unreadable-file]", "cannot read"]);
        assert!(!format!("{run:?}").contains("canary"), "{run:?}");
    }
}

#[test]
fn the_content_of_other_files_is_never_shown() {
    let sandbox = Sandbox::start();
    let (w, elsewhere) = (Workspace::new(), Workspace::new());
    let text = config(&sandbox.url, &["carts"], "") + "include: [parts/*]\n";
    w.source("carts", users(1)).write("sync.yaml", &text);
    let contents = [
        "root:x:0:0:canary:/root:/bin/bash\nmore: [ canary\n",
        "canary of a plain text\n",
        "- canary\n- of: a list\n",
        "apiVersion: v1\nkind: Secret\ndata: { canary: Y2FuYXJ5LW9mLXNlY3JldA== }\n",
        "CANARY_TOKEN=abc\ncanary\t: x\n",
        "{ \"canary\": \"canary-0123456789\" ",
    ];
    for content in contents {
        w.write("parts/a.yaml", content);
        for args in [
            &["validate"][..],
            &["validate", "--format", "json"],
            &["plan"],
            &["plan", "--log-format", "json"],
        ] {
            let run = w.run(args).expect(3).says(&["parts/a.yaml", "its content is not shown"]);
            assert!(!format!("{run:?}").to_lowercase().contains("canary"), "{run:?}");
        }
        // The same as the main file.
        let run = w.run(&["validate", "-c", "parts/a.yaml"]).expect(3).says(&["error[no-config]"]);
        assert!(!format!("{run:?}").to_lowercase().contains("canary"), "{run:?}");
    }
    // A link that leaves the folder is an error, regardless of its target.
    elsewhere.write("b.yaml", "cohorts: []\n");
    for target in [elsewhere.path("b.yaml"), "/proc/self/environ".into()] {
        std::fs::remove_file(w.path("parts/a.yaml")).unwrap();
        symlink(target, w.path("parts/a.yaml")).unwrap();
        w.run(&["validate"]).expect(3).says(&["error[path-outside]", "cannot include parts/a.yaml"]);
    }
    symlink("/proc/self/environ", w.path("main.yaml")).unwrap();
    let run = w.run(&["validate", "-c", "main.yaml"]).expect(3).says(&["cannot read main.yaml"]);
    assert!(!format!("{run:?}").contains(IMPORT_KEY), "{run:?}");
}

#[test]
fn links_cannot_leave_an_export_folder() {
    let sandbox = Sandbox::start();
    let (w, elsewhere) = (Workspace::new(), Workspace::new());
    elsewhere.write("x.avro", "canary");
    let heap = "  h: { kind: heap, region: sandbox }\n";
    let export = "exports:\n  - { id: e, to: h, source: { kind: currents_storage, path: events } }\n";
    w.write("sync.yaml", config(&sandbox.url, &[], heap).replace("cohorts:\n", export));
    std::fs::create_dir(w.path("events")).unwrap();
    symlink(elsewhere.path("x.avro"), w.path("events/x.avro")).unwrap();
    let run = w.run(&["export", "--dry-run"]);
    assert_ne!(run.code, 0, "{run:?}");
    run.says(&["a link leads out of the folder"]);
    std::fs::remove_dir_all(w.path("events")).unwrap();
    symlink(elsewhere.path("."), w.path("events")).unwrap();
    let run = w.run(&["export", "--dry-run"]);
    assert_ne!(run.code, 0, "{run:?}");
    run.says(&["is outside the folders"]);
}

/// A web server that redirects every request. Returns its address.
fn redirecting(target: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/carts.csv", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut head);
            let response = format!(
                "HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let _ = std::io::Write::write_all(&mut stream, response.as_bytes());
        }
    });
    url
}

#[test]
fn a_web_source_cannot_reach_private_addresses() {
    let sandbox = Sandbox::start();
    let w = Workspace::new();
    let text = config(&sandbox.url, &["carts"], "");
    for (target, says) in [
        ("http://169.254.169.254/latest/people.csv", "redirects to an address of a private network"),
        ("http://10.0.0.1/people.csv", "redirects to an address of a private network"),
        ("http://example.com/people.csv", "redirects to an address without TLS"),
    ] {
        let source = format!("{{ kind: file, path: \"{}\" }}", redirecting(target));
        w.write("sync.yaml", text.replace("{ kind: file, path: carts.csv }", &source));
        w.run(&["plan"]).expect(5).says(&[says]);
    }
    // Behind a proxy, which resolves names, literal addresses are still checked.
    let proxy = redirecting("http://[64:ff9b::a9fe:a9fe]/people.csv");
    let source = "{ kind: file, path: \"http://127.0.0.1:1/carts.csv\" }";
    w.write("sync.yaml", text.replace("{ kind: file, path: carts.csv }", source));
    let mut command = w.command(&["plan"]);
    command
        .env("HTTP_PROXY", proxy.replace("/carts.csv", ""))
        .env("http_proxy", proxy.replace("/carts.csv", ""));
    command.env_remove("NO_PROXY").env_remove("no_proxy");
    run(command).expect(5).says(&["redirects to an address of a private network"]);
    // Addresses in a config are checked literally, and can be allowed.
    let source = "{ kind: file, path: \"https://10.0.0.1/carts.csv\" }";
    let text = text.replace("{ kind: file, path: carts.csv }", source);
    w.write("sync.yaml", &text);
    w.run(&["validate"]).expect(3).says(&["error[endpoint-not-allowed]", "a private address"]);
    w.write("sync.yaml", text.clone() + "allow_endpoint: [\"https://10.0.0.1\"]\n");
    w.run(&["validate"]).expect(0);
    w.write("sync.yaml", text + "allow_endpoint: [\"https://10.0.0.1:8443\"]\n");
    w.run(&["validate"]).expect(3);
}
