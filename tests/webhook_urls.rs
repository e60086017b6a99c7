//! The complete URLs of the webhook endpoints: at the start of `watch`, in `doctor`, and on the dashboard.

use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

const SECRETS: [(&str, &str); 2] =
    [("TEST_WEBHOOK", "whsec-of-heap-4711"), ("TEST_TOKEN", "token-of-braze-4712")];

/// A config with an endpoint for Heap and one for Braze.
fn config_with(watch: &str) -> String {
    format!(
        "version: 1
connections:
  braze: {{ kind: braze, instance: sandbox }}
  segments: {{ kind: heap, region: us, webhook_secret: {{ env: TEST_WEBHOOK }} }}
  events: {{ kind: heap, region: sandbox }}
{watch}cohorts:
  - id: free
    name: Free
    to: braze
    source: {{ kind: heap_segment, connection: segments, segment_id: 7 }}
    match: [ {{ external_id: id }} ]
exports:
  - {{ id: engagement, source: {{ kind: currents_http, token: {{ env: TEST_TOKEN }} }}, to: events }}
"
    )
}

fn command(w: &Workspace, args: &[&str]) -> std::process::Command {
    let mut command = w.command(args);
    command.envs(SECRETS);
    command
}

/// The URLs that the log of `watch` shows, for Heap and for Braze.
fn logged_urls(log: &str) -> [String; 2] {
    [
        "Heap's webhook for connection `segments` is received at ",
        "Braze Currents for export `engagement` is received at ",
    ]
    .map(|before| log.lines().find_map(|line| line.strip_prefix(before)).unwrap().to_owned())
}

fn without_secrets(text: &str) {
    for (_, secret) in SECRETS {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn shown_urls_are_those_that_the_server_serves() {
    let w = Workspace::new();
    w.write("sync.yaml", config_with(SHORT_TIMEOUTS));
    let watch = Watch::from_command(&mut command(&w, &["watch"]));
    watch.until_ready();
    let log = watch.log();
    assert!(log.contains("set `watch.public_url` to show these URLs as Heap and Braze reach them"), "{log}");
    let urls = logged_urls(&log);
    let paths = urls.clone().map(|url| url.strip_prefix(&watch.endpoints()).unwrap().to_owned());
    assert_eq!(paths, ["/heap/segments", "/currents/engagement"]);
    let page = watch.get("/").body;
    for ((url, path), status) in urls.iter().zip(&paths).zip([400, 401]) {
        // Without a signature an endpoint answers 400, without a token 401, and any other path 404.
        assert_eq!(http(&watch.endpoints(), "POST", path, &[], "{}").status, status, "{path}");
        assert!(page.contains(&format!("<code>{url}</code>")), "{page}");
    }
    assert_eq!(http(&watch.endpoints(), "POST", "/heap", &[], "{}").status, 404);
    without_secrets(&format!("{log}{page}"));

    // A public address replaces the local one, also without a restart.
    let public = SHORT_TIMEOUTS.to_owned() + "  public_url: https://sync.example.com/braze/\n";
    w.replace("sync.yaml", &config_with(&public));
    until("the dashboard shows the public address", || {
        let page = watch.get("/").body;
        let url = |path: &str| format!("<code>https://sync.example.com/braze{path}</code>");
        paths.iter().all(|path| page.contains(&url(path)))
    });
    assert_eq!(watch.stop(), 0);
    let watch = Watch::from_command(&mut command(&w, &["watch"]));
    watch.until_ready();
    let log = watch.log();
    let urls = paths.map(|path| format!("https://sync.example.com/braze{path}"));
    assert_eq!(logged_urls(&log), urls);
    assert!(!log.contains("public_url"), "{log}");
    assert_eq!(watch.stop(), 0);
}

#[test]
fn doctor_shows_the_urls() {
    let w = Workspace::new();
    for (watch, base, mark) in [
        ("", "http://127.0.0.1:8080", "!"),
        ("watch: { listen: 0.0.0.0:8443, behind_proxy: true }\n", "http://127.0.0.1:8443", "!"),
        ("watch: { listen: '[::]:8443', tls: { certificate: a, key: b } }\n", "https://[::1]:8443", "!"),
        ("watch: { public_url: 'https://sync.example.com' }\n", "https://sync.example.com", "ok"),
    ] {
        w.write("sync.yaml", config_with(watch));
        let found = run(command(&w, &["doctor"]));
        without_secrets(&found.stdout);
        let found = found.says(&[
            &format!("{mark} Heap's webhook for connection `segments` is received at {base}/heap/segments\n"),
            &format!(
                "{mark} Braze Currents for export `engagement` is received at {base}/currents/engagement\n"
            ),
        ]);
        assert_eq!(found.stdout.contains("set `watch.public_url` to the address"), mark == "!");
        // A connection that only receives events has no endpoint.
        assert!(!found.stdout.contains("connection `events` is received"), "{}", found.stdout);
    }
}
