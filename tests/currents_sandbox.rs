//! The sandbox's Currents: the same events as files and over HTTP, and Braze's reactions to responses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use syncline_sandbox::currents::{Codec, EventMix, bodies, examples};

use crate::support::receiver::{Received, Receiver};
use crate::support::*;

/// All Avro files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            assert_eq!(path.extension().unwrap(), "avro", "no other file is left");
            found.push(path);
        }
    }
    found.sort();
    found
}

/// All records by id, with the type from the path.
fn records(folder: &Path) -> BTreeMap<String, (String, Map<String, Value>)> {
    let mut all = BTreeMap::new();
    for path in files(folder) {
        let parts: Vec<&str> = path.to_str().unwrap().split('/').rev().take(6).collect();
        let [file, zone, schema_id, date, event_type, export] = parts[..] else { panic!("{path:?}") };
        let event_type = event_type.strip_prefix("event_type=").unwrap();
        assert!(
            file.starts_with(&format!("{export}+"))
                && export.starts_with("dataexport.prod-01.S3.integration.")
        );
        assert!(date.starts_with("date=2026-03-0") && date.len() == 18 && !zone.is_empty(), "{date}");
        assert!(schema_id.parse::<u32>().is_ok());
        let (name, rows) = avro::read(&std::fs::read(&path).unwrap());
        assert_eq!(name, format!("dataexport.S3.inner.{event_type}"));
        for row in rows {
            let id = row["id"].as_str().unwrap().to_owned();
            all.insert(id, (event_type.to_owned(), row));
        }
    }
    all
}

#[test]
fn files_have_the_same_events_in_every_codec() {
    let w = Workspace::new();
    let mut last = None;
    for codec in ["null", "deflate", "snappy", "zstd"] {
        let args =
            ["sandbox", "currents", "--out", codec, "--events", "600", "--seed", "7", "--codec", codec];
        let said = w.run(&[&args[..], &["--ids", "ids", "--hours", "2", "--rows-max", "5"]].concat());
        said.expect(0).says(&["wrote 600 events, 600 distinct"]);
        let records = records(&w.path(codec));
        assert!(records.keys().map(String::as_str).eq(sorted(&w.read("ids")).iter().copied()));
        let types: BTreeSet<_> = records.values().map(|(name, _)| name.as_str()).collect();
        assert!(types.len() > 85, "{}", types.len());
        assert!(last.is_none_or(|last| last == records), "{codec}");
        last = Some(records);
    }
    w.run(&["sandbox", "currents", "--out", "x", "--type", "users.Nothing"])
        .expect(64)
        .says(&["users.Nothing"]);
    w.run(&["sandbox", "--port", "0", "currents", "--out", "x"]).expect(64);
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn files_can_be_truncated_garbage_late_and_repeated() {
    let sandbox = Sandbox::start();
    let w = Workspace::new();
    let body = json!({ "out": w.path("out"), "events": 2_000, "duplicates": 0.2, "late": true, "cut": true,
                       "garbage": true, "codec": "deflate", "prefix": "currents/acme", "hours": 1 });
    let headers = [("content-type", "application/json")];
    let response = http(&sandbox.url, "POST", "/_sandbox/currents/files", &headers, &body.to_string());
    let written: Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!(written["distinct"], 2_000);
    assert!((2_300..2_500).contains(&written["events"].as_u64().unwrap()), "{written}");
    assert!(w.path("out/currents/acme").is_dir());
    let cut = &written["cut"];
    let (whole, lost) = (cut["whole"].as_array().unwrap().len(), cut["lost"].as_array().unwrap().len());
    assert!(whole > 100 && lost > 0 && whole + lost == 200, "{whole} {lost}");
    let mut bad: Vec<String> =
        written["garbage"].as_array().unwrap().iter().map(|p| p.as_str().unwrap().to_owned()).collect();
    bad.push(cut["path"].as_str().unwrap().to_owned());
    for path in &bad {
        let bytes = std::fs::read(path).unwrap();
        assert!(std::panic::catch_unwind(|| avro::read(&bytes)).is_err(), "{path} can be read");
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(records(&w.path("out")).len(), 2_000);
    let late =
        files(&w.path("out")).iter().filter(|p| !p.to_str().unwrap().contains("date=2026-03-01-00")).count();
    assert!(late > 20, "{late}");
    let body = json!({ "out": w.path("out"), "evnets": 1 }).to_string();
    let response = http(&sandbox.url, "POST", "/_sandbox/currents/files", &headers, &body);
    assert!(response.status == 400 && response.body.contains("evnets"), "{}", response.body);
}

fn post(sandbox: &Sandbox, body: &Value) -> Value {
    let headers = [("content-type", "application/json")];
    let response = http(&sandbox.url, "POST", "/_sandbox/currents/post", &headers, &body.to_string());
    assert_eq!(response.status, 200, "{}", response.body);
    serde_json::from_str(&response.body).unwrap()
}

/// The ids in a request; none in a probe.
fn ids(request: &Received) -> Vec<String> {
    if request.body.is_empty() {
        return Vec::new();
    }
    let body = request.json();
    let events = body["events"].as_array().unwrap();
    events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

fn acknowledged(sandbox: &Sandbox) -> BTreeSet<String> {
    sandbox.get("/_sandbox/currents/acknowledged").1.lines().map(str::to_owned).collect()
}

#[test]
fn events_are_posted_in_batches_after_two_probes() {
    let receiver = Receiver::start(|_| 200);
    let sandbox = Sandbox::start();
    let done = post(
        &sandbox,
        &json!({ "url": receiver.url, "token": "t0ken", "events": 600, "seed": 7, "batch": 20, "at_once": 4,
                 "duplicates": 0.1, "shuffle": true, "hours": 2 }),
    );
    let received = receiver.received();
    assert!(received[0].body.is_empty() && received[1].body == br#"{"events":[]}"#);
    let batches = &received[2..];
    for request in &received {
        assert_eq!(request.header("authorization"), Some("Bearer t0ken"));
        assert_eq!(request.header("braze-currents-version"), Some("1"));
    }
    assert!(batches.iter().all(|request| (1..=20).contains(&ids(request).len())));
    let sent: Vec<String> = batches.iter().flat_map(ids).collect();
    let distinct: BTreeSet<String> = sent.iter().cloned().collect();
    assert_eq!((distinct.len(), sent.len() as u64), (600, done["acknowledged"].as_u64().unwrap()));
    assert!(sent.len() > 630, "duplicates: {}", sent.len());
    assert_eq!(acknowledged(&sandbox), distinct);
    let w = Workspace::new();
    let args = ["sandbox", "currents", "--out", "out", "--events", "600", "--seed", "7", "--hours", "2"];
    w.run(&args).expect(0);
    assert!(records(&w.path("out")).keys().eq(&distinct), "the same events as files");
    let mix = EventMix { events: 600, seed: 7, hours: 2, ..EventMix::default() };
    let again: usize = bodies(&mix, 100)
        .unwrap()
        .map(|body| String::from_utf8(body).unwrap().matches("\"event_type\"").count())
        .sum();
    assert_eq!(again, 600);
}

#[test]
fn responses_cause_split_drop_halve_and_retry() {
    // One invalid event fails its batch; more than five events are too many; every third response is missing or
    // 503.
    let bad = |id: &str| id.starts_with('0');
    let turn = std::sync::atomic::AtomicU32::new(0);
    let receiver = Receiver::start(move |request| {
        let ids = ids(request);
        match turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            n if n % 9 == 8 => 0,
            n if n % 9 == 5 => 503,
            _ if ids.len() > 5 => 413,
            _ if ids.iter().any(|id| bad(id)) => 400,
            _ => 202,
        }
    });
    let sandbox = Sandbox::start();
    let done = post(
        &sandbox,
        &json!({ "url": receiver.url, "events": 300, "seed": 3, "first_wait": 1, "mixed": true, "probe": false }),
    );
    let dropped: Vec<&str> =
        done["dropped"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert!(dropped.len() > 5 && dropped.iter().all(|id| bad(id)), "{done}");
    let good = acknowledged(&sandbox);
    assert!(good.iter().all(|id| !bad(id)));
    assert_eq!(good.len() + dropped.len(), 300, "{done}");
    for key in ["split", "halved", "retried", "unanswered"] {
        assert!(done[key].as_u64().unwrap() > 0, "{key}: {done}");
    }
    assert_eq!((&done["given_up"], &done["stopped"]), (&json!([]), &Value::Null));
}

#[test]
fn a_rejected_token_stops_the_post() {
    let sandbox = Sandbox::start();
    let refusing = Receiver::start(|_| 401);
    let done = post(&sandbox, &json!({ "url": refusing.url, "events": 300 }));
    assert_eq!((&done["stopped"], &done["requests"]), (&json!(401), &json!(1)), "the probe showed it");
    let later = Receiver::start(|request| if ids(request).is_empty() { 204 } else { 403 });
    let done = post(&sandbox, &json!({ "url": later.url, "events": 300, "gzip": false }));
    assert_eq!((&done["stopped"], &done["requests"], &done["unsent"]), (&json!(403), &json!(3), &json!(300)));
    assert!(acknowledged(&sandbox).is_empty());
    let reported: Value = serde_json::from_str(&sandbox.get("/_sandbox/currents/posts").1).unwrap();
    assert_eq!((&reported["running"], &reported["requests"]), (&json!(0), &json!(4)));
}

#[test]
fn every_type_has_an_example_in_its_formats() {
    let examples = examples(1, Codec::Snappy);
    assert_eq!(examples.len(), 97);
    assert_eq!(examples.iter().filter(|e| e.avro.is_some() && e.http.is_some()).count(), 93);
    for example in &examples {
        let Some((avro, http)) = example.avro.as_ref().zip(example.http.as_ref()) else { continue };
        let (_, rows) = avro::read(avro);
        let http: Value = serde_json::from_str(http).unwrap();
        let mut flat: BTreeMap<String, Value> = BTreeMap::new();
        for part in [&http, &http["user"], &http["properties"]] {
            for (key, value) in part.as_object().unwrap() {
                if let "custom_properties" | "purchase_properties" = key.as_str() {
                    flat.insert("properties".to_owned(), value.to_string().into());
                } else if !["event_type", "user", "properties"].contains(&key.as_str()) {
                    flat.insert(key.clone(), value.clone());
                }
            }
        }
        let row: BTreeMap<String, Value> =
            rows[0].clone().into_iter().filter(|(_, value)| !value.is_null()).collect();
        assert_eq!(flat, row, "{}", example.event_type);
        assert!(example.path.contains(&format!("/event_type={}/", example.event_type)));
    }
}
