//! Exports with the real program: Braze's files to Heap, each event once, despite failures.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::avro_writer::{Writer, long, text};
use crate::support::s3::S3;
use crate::support::*;

/// Types with a user in every event.
const TYPES: [&str; 6] = [
    "users.messages.email.Open",
    "users.messages.email.Send",
    "users.messages.pushnotification.Open",
    "users.behaviors.CustomEvent",
    "users.behaviors.Purchase",
    "users.behaviors.app.SessionStart",
];

/// A config with one export of the folder `cur`.
fn config(sandbox: &Sandbox, heap: &str, export: &str) -> String {
    format!(
        "version: 1
connections:
  heap:
    kind: heap
    endpoint: {}
    app_id: 11
    retry: {{ attempts: 20, first_wait: 5ms, longest_wait: 1s }}
    timeout: 5s
{heap}exports:
  - id: engagement
    source: {{ kind: currents_storage, path: cur, incomplete_after: 0s }}
    to: heap
{export}",
        sandbox.url
    )
}

/// Writes events into `cur`. Returns their ids.
fn events(w: &Workspace, number: u64, more: &[&str]) -> BTreeSet<String> {
    let number = number.to_string();
    let mut args =
        vec!["sandbox", "currents", "--out", "cur", "--ids", "ids", "--events", &number, "--hours", "2"];
    args.extend(more);
    if !more.contains(&"--type") {
        args.extend(TYPES.iter().flat_map(|event_type| ["--type", event_type]));
    }
    w.run(&args).expect(0);
    w.read("ids").lines().map(str::to_owned).collect()
}

/// Idempotency keys of the events in Heap.
fn keys(sandbox: &Sandbox) -> BTreeSet<String> {
    sandbox.get("/_sandbox/heap/events/keys").1.lines().map(str::to_owned).collect()
}

fn count(sandbox: &Sandbox) -> Value {
    serde_json::from_str(&sandbox.get("/_sandbox/heap/events/count").1).unwrap()
}

fn requests(sandbox: &Sandbox) -> Value {
    serde_json::from_str(&sandbox.get("/_sandbox/heap/requests").1).unwrap()
}

/// All rejects of all runs.
fn rejects(w: &Workspace) -> Vec<Value> {
    let files = w.snapshot(".syncline/rejects");
    let lines = files.iter().flat_map(|(_, bytes)| std::str::from_utf8(bytes).unwrap().lines());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn reasons(w: &Workspace) -> BTreeMap<String, u64> {
    let mut reasons = BTreeMap::new();
    for reject in rejects(w) {
        *reasons.entry(reject["reason"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    reasons
}

/// Ids of events that were rejected.
fn rejected(w: &Workspace) -> BTreeSet<String> {
    let id = |reject: &Value| {
        let event: Value = serde_json::from_str(reject["event"].as_str()?).ok()?;
        Some(event["id"].as_str()?.to_owned())
    };
    rejects(w).iter().filter_map(id).collect()
}

#[test]
fn every_event_is_exported_once_and_then_in_sync() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]));
    w.write("sync.yaml", config(&sandbox, "", "    anonymous: hash\n"));
    let ids = events(&w, 4_000, &["--duplicates", "0.1", "--shuffle", "--redacted", "0", "--odd-times", "0"]);
    w.run(&["export", "--dry-run"]).expect(0).says(&["events in", "at most 5 requests", "of 1 day"]);
    assert!(!w.path(".syncline").exists(), "nothing was done");
    let report = w.run(&["export", "--format", "json"]).expect(0).json();
    expect_events(&keys(&sandbox), &ids);
    assert_eq!((&report["result"], &report["format_version"]), (&json!("exported"), &json!(1)));
    let export = &report["exports"][0];
    assert_eq!(export["sent"], count(&sandbox)["received"]);
    assert!(export["sent"].as_u64().unwrap() >= ids.len() as u64);
    let before = requests(&sandbox);
    w.run(&["export"])
        .expect(0)
        .says(&["in sync, nothing new", "In sync: 1 export, 0 events to Heap in 0 requests."]);
    assert_eq!(requests(&sandbox), before);
    w.run(&["status"]).expect(0).says(&["engagement  cur to heap", "sent of"]);
    w.run(&["history"]).expect(0).says(&["engagement: ", "files read"]);
    w.run(&["state", "verify"]).expect(0).says(&["Intact"]);
    // `reconcile` exports too, and sends only the new events.
    let more =
        events(&w, 300, &["--from", "100000", "--redacted", "0", "--odd-times", "0", "--prefix", "late"]);
    w.run(&["reconcile"])
        .expect(0)
        .says(&["sent 300", "Applied: nothing was sent; 1 export, 300 events to Heap"]);
    expect_events(&keys(&sandbox), &(&ids | &more));
    w.run(&["reconcile"]).expect(0).says(&["In sync: 0 cohorts"]);
}

#[test]
fn faults_and_kills_neither_lose_nor_duplicate_events() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]));
    w.write("sync.yaml", config(&sandbox, "", "    anonymous: hash\n    batch: 100\n"));
    let ids =
        events(&w, 20_000, &["--duplicates", "0.1", "--shuffle", "--redacted", "0", "--odd-times", "0"]);
    sandbox.faults(
        r#"[{"on":"track","times":0,"share":0.05,"do":{"status":503}},
            {"on":"track","times":0,"share":0.05,"do":{"status":429}},
            {"on":"track","times":0,"share":0.05,"do":"reset"},
            {"on":"track","times":0,"share":0.05,"do":"lose_answer"},
            {"on":"track","times":0,"share":0.5,"do":{"delay":3}}]"#,
    );
    let mut killed = 0;
    for round in 0..20u64 {
        let mut child = w.command(&["export"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + (round * 37) % 150));
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(killed > 8, "the kill must hit a running process: {killed}");
    w.run(&["export"]).expect(0);
    expect_events(&keys(&sandbox), &ids);
    let reported = count(&sandbox);
    assert_eq!(reported["stored"], ids.len(), "each event once: {reported}");
    sandbox.faults("[]");
    w.run(&["export"]).expect(0).says(&["In sync"]);
    w.run(&["state", "verify"]).expect(0).says(&["Intact"]);
}

/// Fails the test unless Heap has these events and no others.
#[track_caller]
fn expect_events(found: &BTreeSet<String>, expected: &BTreeSet<String>) {
    let few =
        |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).take(3).cloned().collect::<Vec<_>>();
    assert!(
        found == expected,
        "{} found, {} expected; missing {:?}, not expected {:?}",
        found.len(),
        expected.len(),
        few(expected, found),
        few(found, expected)
    );
}

/// A file of email opens with these fields besides id, time and external_user_id.
fn opens(rows: &[(&str, i64, Option<&str>, Option<&str>)], codec: &'static str) -> Vec<u8> {
    named("dataexport.S3.inner.users.messages.email.Open", rows, codec)
}

/// The same with another type.
fn named(name: &str, rows: &[(&str, i64, Option<&str>, Option<&str>)], codec: &'static str) -> Vec<u8> {
    let schema = r#"{"type":"record","name":"NAME","fields":[
        {"name":"id","type":"string"},{"name":"time","type":"long"},
        {"name":"external_user_id","type":["null","string"]},{"name":"user_id","type":["null","string"]}]}"#;
    let schema = schema.replace("NAME", name);
    let (mut writer, mut data) = (Writer::new(&schema, codec), Vec::new());
    for (id, time, external, braze) in rows {
        text(&mut data, id);
        long(&mut data, *time);
        for value in [external, braze] {
            long(&mut data, i64::from(value.is_some()));
            value.iter().for_each(|value| text(&mut data, value));
        }
    }
    writer.block(rows.len() as i64, &data);
    writer.bytes
}

const NOW: i64 = 1_767_225_600;

#[test]
fn damaged_events_are_rejects_and_the_rest_is_delivered() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]));
    w.write("sync.yaml", config(&sandbox, "", "    anonymous: hash\n    pii: keep\n"));
    let odd = [
        "--garbage",
        "--odd-times",
        "0.05",
        "--large",
        "0.1",
        "--redacted",
        "0.1",
        "--unknown-types",
        "0.05",
    ];
    let ids = events(&w, 1_500, &odd);
    let null =
        ["--broken", "0.05", "--from", "5000", "--prefix", "broken", "--odd-times", "0", "--redacted", "0"];
    let broken = events(&w, 300, &null);
    // An unknown schema, and no schema.
    w.write("cur/event_type=users.new.Thing/x.avro", opens(&[("new1", NOW, Some("u1"), None)], "deflate"));
    w.write("cur/none.avro", b"Obj\x01\x02\x16avro.schema\x04{}\0");
    w.write("cur/nowhere.avro", named("Open", &[("n1", NOW, Some("u1"), None)], "null"));
    // A flipped bit in the second block damages only that block.
    let (one, two) = (
        opens(&[("b1", NOW, Some("u1"), None)], "snappy"),
        opens(&[("b2", NOW, Some("u1"), None)], "snappy"),
    );
    let header = opens(&[], "snappy").len() - 18;
    let mut blocks = [&one[..], &two[header..], &one[header..]].concat();
    let flipped = one.len() + 6;
    blocks[flipped] ^= 0xff;
    w.write("cur/blocks.avro", &blocks);
    let run = w.run(&["export"]).expect(0);
    let reasons = reasons(&w);
    for reason in
        ["time_in_future", "identity_placeholder", "not_avro", "damaged", "unusable_schema", "no_event_type"]
    {
        assert!(reasons.contains_key(reason), "{reason}: {reasons:?}\n{}", run.stdout);
    }
    assert!(run.stdout.contains("events of unknown types"), "{}", run.stdout);
    let mut expected: BTreeSet<String> = ids.union(&broken).cloned().collect();
    expected.extend(["new1", "b1"].map(str::to_owned));
    let (keys, rejected) = (keys(&sandbox), rejected(&w));
    let lost: Vec<&String> =
        expected.iter().filter(|id| !keys.contains(*id) && !rejected.contains(*id)).collect();
    assert!(lost.is_empty() && keys.is_disjoint(&rejected), "{lost:?}");
    assert!(rejected.len() > 50 && keys.len() > 1_000);
    w.run(&["export"]).expect(0).says(&["In sync"]);
}

#[test]
fn a_truncated_file_is_continued_once_it_is_complete() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]));
    let text = config(&sandbox, "", "    anonymous: hash\n");
    w.write("sync.yaml", text.replace("incomplete_after: 0s", "incomplete_after: 1h"));
    let block = |n: i64| opens(&[(&format!("c{n}"), NOW + n, Some("u1"), None)], "null");
    let header = opens(&[], "null").len() - 18;
    let complete = [&block(1)[..], &block(2)[header..], &block(3)[header..]].concat();
    w.write("cur/open.avro", &complete[..complete.len() - 30]);
    w.write("cur/late.avro", &complete[..header / 2]);
    w.run(&["export"]).expect(0).says(&["sent 2", "2 files are incomplete; the next run reads the rest"]);
    w.run(&["export"]).expect(0).says(&["In sync"]);
    w.write("cur/open.avro", &complete);
    w.run(&["export"]).expect(0).says(&["read 1 event in 1 file, sent 1"]);
    assert_eq!(count(&sandbox)["received"], 3, "a finished file is not read again");
    // A different file of the same name is read from its start.
    let other = opens(&[("other", NOW, Some("u2"), None)], "deflate");
    w.write("cur/late.avro", &other);
    w.run(&["export"]).expect(0).says(&["sent 1"]);
    w.write("cur/short.avro", &complete[..complete.len() - 30]);
    w.run(&["export"]).expect(0).says(&["1 file is incomplete"]);
    w.write("sync.yaml", &text);
    w.run(&["export"]).expect(0).says(&["1 event rejected: 1 truncated file"]);
    w.run(&["export"]).expect(0).says(&["In sync"]);
    let short = rejects(&w).into_iter().find(|reject| reject["file"] == "short.avro").unwrap();
    assert!(short["detail"].as_str().unwrap().contains("its rest never arrived"), "{short}");
    assert_eq!(keys(&sandbox).len(), 4);
}

#[test]
fn unsent_events_of_a_truncated_file_are_read_again() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]));
    let text = config(&sandbox, "", "").replace("attempts: 20", "attempts: 1");
    w.write("sync.yaml", text.replace("incomplete_after: 0s", "incomplete_after: 1h"));
    let block = |n: i64| opens(&[(&format!("c{n}"), NOW + n, Some("u1"), None)], "null");
    let header = opens(&[], "null").len() - 18;
    let complete = [&block(1)[..], &block(2)[header..], &block(3)[header..]].concat();
    w.write("cur/open.avro", &complete[..complete.len() - 30]);
    sandbox.faults(r#"[{"on":"track","times":0,"do":{"status":503}}]"#);
    w.run(&["export"]).expect(5);
    sandbox.faults("[]");
    w.run(&["export"]).expect(0).says(&["sent 2", "1 file is incomplete; the next run reads the rest"]);
    w.run(&["export"]).expect(0).says(&["In sync"]);
    assert_eq!(keys(&sandbox), BTreeSet::from(["c1", "c2"].map(str::to_owned)));
    // Another file of that name, no longer than the part that was read of the first.
    let other = opens(&[("other", NOW, Some("u2"), None)], "null");
    assert!(other.len() < complete.len() - 30);
    w.write("cur/open.avro", &other);
    w.run(&["export"]).expect(0).says(&["sent 1"]);
    w.run(&["export"]).expect(0).says(&["In sync"]);
    assert!(keys(&sandbox).contains("other"));
}

#[test]
fn one_very_active_user_delays_no_other() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--heap-minute", "4000"]));
    let limits = "    limits: { per_identity: 1000, per_app: 15000, window: 4s }\n";
    w.write("sync.yaml", config(&sandbox, limits, "    anonymous: drop\n"));
    let rows: Vec<String> = (0..4_000).map(|n| format!("hot{n}")).collect();
    let hot: Vec<_> = rows.iter().map(|id| (id.as_str(), NOW, Some("hot"), None)).collect();
    w.write("cur/a/hot.avro", opens(&hot, "snappy"));
    let (ids, user_ids): (Vec<String>, Vec<String>) =
        (0..1_000).map(|n| (format!("o{n}"), format!("p{n}"))).unzip();
    let others: Vec<_> = ids
        .iter()
        .zip(&user_ids)
        .map(|(id, user_id)| (id.as_str(), NOW, Some(user_id.as_str()), None))
        .collect();
    w.write("cur/b/others.avro", opens(&others, "snappy"));
    let mut child = w.command(&["export"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the other exports are done", || {
        keys(&sandbox).iter().filter(|key| key.starts_with('o')).count() == 1_000
    });
    let hot = keys(&sandbox).iter().filter(|key| key.starts_with("hot")).count();
    assert!(hot <= 1_000, "like an absent user: {hot}");
    let counters = requests(&sandbox);
    assert!(counters["statuses"].get("429").is_none(), "the rate limits are respected: {counters}");
    // Waiting events survive the process. The next process does not know the recent rate and gets the limits
    // from the state.
    child.kill().unwrap();
    child.wait().unwrap();
    w.run(&["export"]).expect(0);
    assert_eq!(keys(&sandbox).len(), 5_000);
    w.run(&["export"]).expect(0).says(&["In sync"]);
    w.run(&["state", "verify"]).expect(0).says(&["Intact"]);
}

#[test]
fn held_events_are_sent_once_their_user_is_known_or_rejected_later() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox, "", "    anonymous: hold\n"));
    w.write("cur/1.avro", opens(&[("h1", NOW, None, Some("b1")), ("h2", NOW, None, Some("b2"))], "null"));
    w.run(&["export"]).expect(0).says(&["read 2 events in 1 file, sent 0", "2 events held"]);
    w.write("cur/2.avro", opens(&[("t1", NOW, Some("u1"), Some("b1"))], "null"));
    w.run(&["export"]).expect(0).says(&["sent 2", "1 event held"]);
    let (_, events) = sandbox.get("/_sandbox/heap/events?identity=u1");
    assert!(events.contains("\"h1\"") && events.contains("\"t1\""), "{events}");
    // From now on the user is known.
    w.write("cur/3.avro", opens(&[("h3", NOW, None, Some("b1"))], "null"));
    w.run(&["export"]).expect(0).says(&["sent 1"]);
    w.run(&["state", "verify"]).expect(0).says(&["Intact"]);
    w.write("sync.yaml", config(&sandbox, "", "    anonymous: hold\n    hold: { age: 0s }\n"));
    w.run(&["export"]).expect(0).says(&["1 event rejected: 1 event of never identified users"]);
    // Once the user is identified, the reject can be replayed.
    w.write("cur/4.avro", opens(&[("t2", NOW, Some("u2"), Some("b2"))], "null"));
    w.run(&["export"]).expect(0).says(&["sent 1"]);
    w.run(&["replay"]).expect(0).says(&[
        "1 event of never identified users (never_identified)",
        "nothing was sent; to send it: syncline replay --yes",
    ]);
    w.run(&["replay", "--yes"]).expect(0).says(&["sent 1"]);
    assert!(sandbox.get("/_sandbox/heap/events?identity=u2").1.contains("\"h2\""));
    w.run(&["replay"]).expect(0).says(&["nothing to replay"]);
    w.write("sync.yaml", config(&sandbox, "", "    anonymous: hold\n    hold: { count: 1 }\n"));
    w.write("cur/5.avro", opens(&[("h4", NOW, None, Some("b8")), ("h5", NOW, None, Some("b9"))], "null"));
    w.run(&["export"]).expect(0).says(&["1 event held", "1 event beyond the limit of held events"]);
}

#[test]
fn old_identities_take_no_space() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox, "", ""));
    let learn = |n: i64| {
        let (id, braze) = (format!("t{n}"), format!("b{n}"));
        w.write(&format!("cur/{n}.avro"), opens(&[(&id, NOW, Some("u1"), Some(&braze))], "null"));
        w.run(&["export"]).expect(0).says(&["sent 1"]);
    };
    (0..20).for_each(learn);
    let count = |folder: &str| w.snapshot(&format!(".syncline/identity/{folder}")).len();
    assert!(count("versions") >= 20, "another process may be reading them");
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    for (path, _) in w.snapshot(".syncline/identity") {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    learn(20);
    assert!(count("versions") <= 2 && count("parts") < 16, "{} {}", count("versions"), count("parts"));
    w.run(&["state", "verify"]).expect(0).says(&["Intact"]);
}

#[test]
fn rejects_are_deleted_after_their_retention() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox, "", ""));
    let reject = |n: i64| {
        let id = format!("r{n}");
        w.write(&format!("cur/{n}.avro"), opens(&[(&id, 4_000_000_000 + n, Some("u1"), None)], "null"));
        w.run(&["export"]).expect(0).says(&["1 event with a time in the future"]);
    };
    reject(1);
    let run = |name: &str| w.path(&format!(".syncline/rejects/{name}"));
    let (first, line) = w.snapshot(".syncline/rejects").remove(0);
    w.write(".syncline/rejects/20200101t000000000z-000000/exports.engagement.ndjson", line);
    std::fs::remove_file(first).unwrap();
    w.write(".syncline/rejects/20200102t000000000z-000000/carts.ndjson", "{}\n");
    reject(2);
    assert!(!run("20200101t000000000z-000000").exists());
    assert!(run("20200102t000000000z-000000/carts.ndjson").exists(), "the keys belong to other events");
    w.run(&["replay"]).expect(0).says(&["1 event with a time in the future"]);
}

#[test]
fn held_events_respect_the_rate_limit_of_their_user() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]));
    let limits = "    limits: { per_identity: 2, per_app: off, window: 300ms }\n";
    w.write("sync.yaml", config(&sandbox, limits, "    anonymous: hold\n"));
    let rows = [
        ("h1", NOW, None, Some("b1")),
        ("h2", NOW, None, Some("b1")),
        ("h3", NOW, None, Some("b1")),
        ("h4", NOW, None, Some("b1")),
        ("x1", NOW, Some("u2"), None),
        ("x2", NOW, Some("u2"), None),
        ("x3", NOW, Some("u2"), None),
    ];
    w.write("cur/1.avro", opens(&rows, "null"));
    w.run(&["export"]).expect(0).says(&["sent 3", "4 events held"]);
    w.write("cur/2.avro", opens(&[("t1", NOW, Some("u1"), Some("b1"))], "null"));
    w.run(&["export"]).expect(0).says(&["sent 5"]);
    assert_eq!(keys(&sandbox).len(), 8);
    // Rejects that are sent again are the same ones.
    let late: Vec<_> = ["r1", "r2", "r3", "r4"].map(|id| (id, 4_000_000_000, Some("u3"), None)).to_vec();
    w.write("cur/3.avro", opens(&late, "null"));
    w.run(&["export"]).expect(0).says(&["4 events with a time in the future"]);
    w.write("sync.yaml", config(&sandbox, limits, "    anonymous: hold\n    future_max: off\n"));
    w.run(&["replay", "--yes"]).expect(0).says(&["sent 4"]);
    w.run(&["replay"]).expect(0).says(&["nothing to replay"]);
    assert_eq!(keys(&sandbox).len(), 12);
}

#[test]
fn users_deleted_in_braze_are_erased() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox, "", "    anonymous: hold\n"));
    let tie = opens(&[("t1", NOW, Some("user-one"), Some("b1")), ("h1", NOW, None, Some("b2"))], "null");
    w.write("cur/1.avro", tie);
    w.run(&["export"]).expect(0).says(&["sent 1", "1 event held"]);
    let erased_events = [("d1", NOW, None, Some("b1")), ("d2", NOW, None, Some("b2"))];
    w.write("cur/2.avro", named("users.UserDeleteRequest", &erased_events, "null"));
    w.run(&["export"]).expect(0);
    w.write("cur/3.avro", opens(&[("h3", NOW, None, Some("b1"))], "null"));
    w.run(&["export"]).expect(0).says(&["sent 0", "1 event held"]);
    assert_eq!(keys(&sandbox), BTreeSet::from(["t1".to_owned()]));
    let identity = w.snapshot(".syncline/identity/parts");
    let versions = w.snapshot(".syncline/identity/versions");
    let newest: Value = serde_json::from_slice(&versions.last().unwrap().1).unwrap();
    for part in newest["parts"].as_array().unwrap() {
        let id = part["id"].as_str().unwrap();
        let (_, bytes) = identity.iter().find(|(path, _)| path.to_str().unwrap().contains(id)).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"user-one"), "the external id is erased");
    }
}

#[test]
fn erasure_of_users_deleted_in_braze_ignores_rate_limits() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let limits = "    limits: { per_identity: 1, per_app: off, window: 300ms }\n";
    w.write("sync.yaml", config(&sandbox, limits, ""));
    let ties = [
        ("t1", NOW, Some("u1"), Some("b1")),
        ("t2", NOW, Some("u1"), Some("b1")),
        ("t3", NOW, Some("u2"), Some("b2")),
        ("t4", NOW, Some("u2"), Some("b2")),
    ];
    w.write("cur/1.avro", opens(&ties, "null"));
    let erased_events = [("d1", NOW, None, Some("b1"))];
    w.write("cur/2.avro", named("users.UserDeleteRequest", &erased_events, "null"));
    w.run(&["export"]).expect(0);
    assert_eq!(keys(&sandbox), BTreeSet::from(["t1", "t3", "t4"].map(str::to_owned)));
    w.run(&["export"]).expect(0).says(&["In sync"]);
}

#[test]
fn one_invalid_event_is_found_by_bisection_and_can_be_replayed() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox, "", ""));
    let ids: Vec<String> = (0..500).map(|n| format!("e{n}")).collect();
    let user_ids: Vec<String> = (0..500).map(|n| format!("p{n}")).collect();
    let rows: Vec<_> =
        ids.iter().zip(&user_ids).map(|(id, p)| (id.as_str(), NOW, Some(p.as_str()), None)).collect();
    w.write("cur/1.avro", opens(&rows, "snappy"));
    sandbox.faults(
        r#"[{"on":"track","times":0,"contains":"\"e77\"","do":{"reply":{"status":400,"body":"postBody.events[0] is odd"}}},
            {"on":"track","times":0,"contains":"\"e78\"","do":{"status":413}}]"#,
    );
    w.run(&["export"]).expect(0).says(&["sent 498", "2 events that Heap rejected"]);
    let found = rejects(&w);
    let details: BTreeSet<&str> = found.iter().map(|reject| reject["detail"].as_str().unwrap()).collect();
    assert_eq!(details, BTreeSet::from(["postBody.events[0] is odd", "too large (413)"]));
    assert_eq!(keys(&sandbox).len(), 498);
    w.run(&["export"]).expect(0).says(&["In sync"]);
    sandbox.faults("[]");
    let picked = w.run(&["replay", "--reason", "rejected_by_heap", "--format", "json"]).expect(0).json();
    assert_eq!(picked["exports"][0]["events"], 2);
    w.run(&["replay", "--reason", "no_id"]).expect(0).says(&["nothing to replay"]);
    w.run(&["replay", "--yes"]).expect(0).says(&["sent 2"]);
    assert_eq!(keys(&sandbox).len(), 500);
    assert!(rejects(&w).is_empty(), "the rejects are gone");
}

#[test]
fn invalid_events_at_the_start_delay_no_valid_ones() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]));
    w.write("sync.yaml", config(&sandbox, "", ""));
    let ids: Vec<String> =
        (0..300).map(|n| if n < 40 { format!("bad{n}") } else { format!("e{n}") }).collect();
    let rows: Vec<_> = ids.iter().map(|id| (id.as_str(), NOW, Some("u1"), None)).collect();
    w.write("cur/1.avro", opens(&rows, "snappy"));
    sandbox.faults(
        r#"[{"on":"track","times":0,"contains":"\"bad","do":{"reply":{"status":400,"body":"odd"}}}]"#,
    );
    w.run(&["export"]).expect(0).says(&["sent 260", "40 events that Heap rejected"]);
    assert_eq!(keys(&sandbox).len(), 260);
}

#[test]
fn a_wrong_environment_rejects_no_event() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox, "", "    anonymous: hash\n").replace("app_id: 11", "app_id: 12"));
    events(&w, 300, &[]);
    w.run(&["export"])
        .expect(1)
        .says(&["stopped: Heap rejects the events: postBody is not of a known app_id", "Failed:"]);
    assert!(!reasons(&w).contains_key("rejected_by_heap"));
    w.write("sync.yaml", config(&sandbox, "", "    anonymous: hash\n"));
    w.run(&["export"]).expect(0);
    assert!(keys(&sandbox).len() > 250);
}

#[test]
fn an_unreachable_heap_is_reported_and_retried() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let text = config(&sandbox, "", "    anonymous: hash\n").replace("attempts: 20", "attempts: 2");
    w.write("sync.yaml", &text);
    let ids = events(&w, 200, &["--redacted", "0", "--odd-times", "0"]);
    sandbox.faults(r#"[{"on":"track","times":0,"do":{"status":503}}]"#);
    w.run(&["export"]).expect(5).says(&["Heap is not available: status 503"]);
    sandbox.faults(r#"[{"on":"track","times":0,"do":{"status":404}}]"#);
    w.run(&["export"]).expect(1).says(&["Heap responded with status 404"]);
    sandbox.faults(r#"[{"on":"track","times":0,"do":{"status":403}}]"#);
    w.run(&["reconcile"]).expect(4).says(&["Heap rejects the environment"]);
    sandbox.faults("[]");
    w.run(&["export"]).expect(0);
    expect_events(&keys(&sandbox), &ids);
}

#[test]
#[cfg(unix)]
fn an_unreadable_file_is_reported_and_read_again() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox, "", ""));
    w.write("cur/1.avro", opens(&[("a1", NOW, Some("u1"), None)], "null"));
    let socket = std::os::unix::net::UnixListener::bind(w.path("cur/2.avro")).unwrap();
    w.run(&["export"]).expect(7).says(&["sent 1", "cannot open", "Exported in part"]);
    w.run(&["export"]).expect(1).says(&["nothing was sent", "cannot open"]);
    drop(socket);
    std::fs::remove_file(w.path("cur/2.avro")).unwrap();
    // Opening a pipe like a file would block without end.
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
    nix::unistd::mkfifo(&w.path("cur/2.avro"), mode).unwrap();
    w.run(&["export"]).expect(1).says(&["cannot open", "it is a pipe and not a file"]);
    std::fs::remove_file(w.path("cur/2.avro")).unwrap();
    w.write("cur/2.avro", opens(&[("a2", NOW, Some("u1"), None)], "null"));
    w.run(&["export"]).expect(0).says(&["sent 1"]);
}

#[test]
fn a_missing_source_is_not_an_empty_one() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox, "", ""));
    w.run(&["export"]).expect(1).says(&["stopped: cannot list cur"]);
    w.run(&["export", "--dry-run"]).expect(1).says(&["cannot list cur"]);
    w.run(&["export", "nothing"])
        .expect(64)
        .says(&["the config has no export `nothing`", "it has `engagement`"]);
    let unset = config(&sandbox, "", "").replace("app_id: 11", "app_id: { env: NOT_SET_AT_ALL }");
    w.write("sync.yaml", unset);
    w.run(&["export"]).expect(4).says(&["NOT_SET_AT_ALL"]);
}

#[test]
fn days_can_be_selected_and_sent_again() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox, "", ""));
    for day in 1..=5 {
        let (id, time) = (format!("d{day}"), 1_761_955_200 + 86_400 * day);
        let file = opens(&[(&id, time, Some("u1"), None)], "null");
        w.write(
            &format!("cur/event_type=users.messages.email.Open/date=2025-11-0{}-13/7/z/x.avro", day + 1),
            file,
        );
    }
    w.run(&["export", "--since", "2025-11-03", "--until", "2025-11-05"]).expect(0).says(&["sent 2"]);
    assert_eq!(keys(&sandbox), BTreeSet::from(["d2", "d3"].map(str::to_owned)));
    w.run(&["export"]).expect(0).says(&["sent 3"]);
    w.run(&["export"]).expect(0).says(&["In sync"]);
    let days = ["replay", "--files", "--since", "2025-11-03", "--until", "2025-11-04T00:00Z"];
    w.run(&days).expect(0).says(&["1 event in 1 file of 1 day", "nothing was sent"]);
    w.run(&[&days[..], &["--yes"]].concat()).expect(0).says(&["sent 1"]);
    assert_eq!((&count(&sandbox)["duplicates"], &count(&sandbox)["stored"]), (&json!(1), &json!(5)));
    w.run(&["export"]).expect(0).says(&["In sync"]);
    w.run(&["export", "--since", "soon"]).expect(64);
}

#[test]
fn settings_apply_to_the_events() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let export =
        "    events: { include: [\"users.messages.**\", users.profile.Update], exclude: [\"**.Send\"] }
    identity: [\"property:custom_properties.email\", braze_user_id]
    naming: { prefix: braze-, property_prefix: b_, overrides: { users.messages.email.Open: Opened } }
    properties: { drop: [timezone] }
    profiles: true
    connector_id: c1
    since: 2026-01-01
";
    w.write("sync.yaml", config(&sandbox, "", export));
    w.write(
        "cur/1.avro",
        opens(&[("s1", NOW, Some("u1"), Some("b1")), ("old", NOW - 1, Some("u1"), Some("b1"))], "null"),
    );
    events(
        &w,
        100,
        &[
            "--type",
            "users.profile.Update",
            "--type",
            "users.messages.email.Send",
            "--one-way",
            "--redacted",
            "0",
            "--odd-times",
            "0",
        ],
    );
    let report = w.run(&["export", "--format", "json"]).expect(0).json();
    let export = &report["exports"][0];
    assert_eq!((&export["sent"], &export["ignored"]["out_of_range"]), (&json!(1), &json!(1)));
    assert!(
        export["users_updated"].as_u64().unwrap() > 5
            && export["ignored"]["not_selected"].as_u64().unwrap() > 5,
        "{export}"
    );
    let stored: Value = serde_json::from_str(&sandbox.get("/_sandbox/heap/events").1).unwrap();
    assert_eq!(
        (&stored["event"], &stored["identity"], &stored["idempotency_key"]),
        (&json!("Opened"), &json!("b1"), &json!("c1:s1"))
    );
}

#[test]
fn a_bucket_is_read_like_a_folder() {
    let Some(s3) = S3::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]));
    let source = format!(
        "source: {{ kind: currents_storage, url: 's3://states/braze', endpoint: '{}', region: us-east-1 }}",
        s3.url
    );
    let folder = "source: { kind: currents_storage, path: cur, incomplete_after: 0s }";
    w.write("sync.yaml", config(&sandbox, "", "    anonymous: hash\n").replace(folder, &source));
    let run_command = |args: &[&str]| {
        let mut command = w.command(args);
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        run(command)
    };
    let put = |folder: &str| {
        let script = "import boto3,os,sys; s=boto3.client('s3',endpoint_url=sys.argv[1],region_name='us-east-1',\
            aws_access_key_id='test',aws_secret_access_key='test')\n\
            for base,_,files in os.walk(sys.argv[2]):\n\
            \x20 for f in files:\n\
            \x20   p=os.path.join(base,f); s.upload_file(p,'states','braze/'+os.path.relpath(p,sys.argv[2]))";
        let folder = w.path(folder);
        let args = ["-c", script, &s3.url, folder.to_str().unwrap()];
        assert!(std::process::Command::new("python3").args(args).status().unwrap().success());
    };
    run_command(&["export"]).expect(0).says(&["In sync"]);
    let two = [
        "--type",
        "users.messages.email.Open",
        "--type",
        "users.behaviors.Purchase",
        "--redacted",
        "0",
        "--odd-times",
        "0",
        "--unknown-types",
        "0",
    ];
    let ids = events(&w, 400, &two);
    put("cur");
    run_command(&["export"]).expect(0);
    expect_events(&keys(&sandbox), &ids);
    run_command(&["export"]).expect(0).says(&["In sync"]);
    // A file outside partitions is found, at any position in the listing.
    for (n, folder) in ["0", "date", "z"].into_iter().enumerate() {
        let plain = format!("plain{n}/event_type=users.messages.email.Open/{folder}/x.avro");
        w.write(&plain, opens(&[(&format!("p{n}"), NOW, Some("u1"), None)], "null"));
        put(&format!("plain{n}"));
        run_command(&["export"]).expect(0).says(&["sent 1"]);
    }
    // A late file of a long past hour is found by the daily full listing.
    let late = "late/event_type=users.messages.email.Open/date=2020-01-01-00/1/z/x.avro";
    w.write(late, opens(&[("late", NOW, Some("u1"), None)], "null"));
    put("late");
    run_command(&["export", "--since", "2020-01-01"]).expect(0);
    assert!(
        run_command(&["status", "--format", "json"]).expect(0).json()["exports"][0]["counts"]["sent"]
            .as_u64()
            >= Some(400)
    );
    let wrong = w.read("sync.yaml").replace("s3://states", "s3://no-such-bucket");
    w.write("sync.yaml", wrong);
    run_command(&["export"]).expect(1).says(&["stopped: cannot list s3://no-such-bucket"]);
}

#[test]
fn an_erased_user_is_in_no_file_of_the_state() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let more =
        "    api_key: { env: TEST_API_KEY }\n    limits: { per_identity: 1, per_app: off, window: 1h }\n";
    let braze = format!(
        "  braze:\n    kind: braze\n    endpoint: {}\n    data_import_key: {{ env: TEST_IMPORT_KEY }}\n    partner_api_key: {{ env: TEST_PARTNER_KEY }}\n",
        sandbox.url
    );
    let export = "    anonymous: hold\n";
    let cohorts = format!("cohorts:\n{}", cohort_entry("carts", ""));
    w.write("sync.yaml", config(&sandbox, &format!("{more}{braze}{cohorts}"), export));
    w.source("carts", ["user-one".to_owned(), "u2".to_owned()]);
    w.run(&["reconcile", "carts"]).expect(0);
    let rows = [
        ("t1", NOW, Some("user-one"), Some("b1")),
        ("t2", NOW, Some("user-one"), None),
        ("t3", NOW, Some("u2"), Some("b2")),
        ("f1", 4_000_000_000, Some("user-one"), None),
        ("f2", 4_000_000_000, Some("user-one-two"), None),
        ("h1", NOW, None, Some("b9")),
    ];
    w.write("cur/1.avro", opens(&rows, "null"));
    // One event of user-one is sent; the other waits for the rate limit, up to an hour. The run is stopped.
    let mut child = w.command(&["export"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the run waits", || {
        let versions = w.snapshot(".syncline/exports");
        versions.iter().any(|(path, bytes)| {
            path.extension().is_some_and(|it| it == "json")
                && String::from_utf8_lossy(bytes).contains("\"awaiting_user\":1")
        })
    });
    child.kill().unwrap();
    child.wait().unwrap();
    // A crash may leave a file that no version references. The user is in it as well.
    let held_folder = ".syncline/exports/engagement/held";
    let name = w.snapshot(held_folder)[0].0.clone();
    let left_over = w.path(held_folder).join("00000000-0000-4000-8000-000000000000.events");
    std::fs::copy(name, &left_over).unwrap();
    let has = |text: &str| {
        w.snapshot(".syncline").iter().any(|(path, bytes)| {
            !path.to_str().unwrap().contains("cohorts")
                && bytes.windows(text.len()).any(|part| part == text.as_bytes())
        })
    };
    assert!(has("user-one"));
    w.run(&["forget", "user-one"]).expect(6).says(&["not erased: the user is a member of cohort carts"]);
    assert!(has("user-one") && left_over.exists());
    w.source("carts", ["u2".to_owned()]);
    w.run(&["reconcile", "carts"]).expect(0).says(&["removed 1"]);
    let said = w.run(&["forget", "user-one"]).expect(0);
    said.says(&[
        "erased 1 entry of the identity map",
        "erased 1 event that waited",
        "erased 1 reject",
        "erased 2 entries of recorded memberships",
        "  exports/engagement",
    ]);
    for (path, bytes) in w.snapshot(".syncline") {
        let text = String::from_utf8_lossy(&bytes).replace("user-one-two", "");
        assert!(!text.contains("\"user-one\"") && !text.contains("\\\"user-one\\\""), "{path:?}");
        assert!(!path.to_str().unwrap().contains("cohorts") || !text.contains("user-one"), "{path:?}");
    }
    assert!(!left_over.exists());
    w.run(&["forget", "b9"]).expect(0).says(&["erased 1 event that waited"]);
    w.run(&["forget", "user-one"]).expect(0).says(&["nothing to erase"]);
    w.run(&["state", "verify"]).expect(0);
    let run_command = |args: &[&str], key: &str| {
        let mut command = w.command(args);
        command.env("TEST_API_KEY", key);
        run(command)
    };
    w.source("carts", ["u3".to_owned()]);
    w.run(&["reconcile", "carts", "--max-removes", "carts=1"]).expect(0);
    let before = w.snapshot(".syncline/cohorts");
    let unconfirmed = run_command(&["forget", "u2", "--heap", "heap"], "sandbox-heap-api-key").expect(64);
    unconfirmed.says(&["nothing was erased", "forget IDENTIFIER --heap heap --yes"]);
    run_command(&["forget", "u2", "--heap", "other", "--yes"], "wrong")
        .expect(64)
        .says(&["no Heap connection `other`"]);
    w.run(&["forget", "u2", "--heap", "heap", "--yes"])
        .expect(4)
        .says(&["TEST_API_KEY", "nothing was erased"]);
    w.run(&["forget", "u2", "--yes"]).expect(64);
    assert!(
        w.snapshot(".syncline/cohorts") == before,
        "nothing is erased before it is certain that Heap can be asked"
    );
    assert!(!sandbox.get("/_sandbox/heap/deletions").1.contains("u2"));
    run_command(&["forget", "u3", "--heap", "heap", "--yes"], "sandbox-heap-api-key")
        .expect(6)
        .says(&["not erased"]);
    assert!(!sandbox.get("/_sandbox/heap/deletions").1.contains("u3"), "a member is not deleted in Heap");
    run_command(&["forget", "u2", "--heap", "heap", "--yes"], "wrong")
        .expect(4)
        .says(&["Heap rejects the API key"]);
    let counters =
        run_command(&["forget", "u2", "--heap", "heap", "--yes", "--format", "json"], "sandbox-heap-api-key")
            .expect(0)
            .json();
    assert!(sandbox.get("/_sandbox/heap/deletions").1.contains(counters["heap_request"].as_str().unwrap()));
    w.run(&["forget", " "]).expect(64);
}
