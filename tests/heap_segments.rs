//! The sandbox's Segment Sync of Heap: the pages that a receiver gets, and the members that the sender expects
//! there.

use std::collections::BTreeSet;
use std::sync::Mutex;

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};

use crate::support::receiver::{Received, Receiver};
use crate::support::*;

const SECRET: &str = "whsec_test";

/// A sandbox that delivers to this receiver, with more settings.
fn sandbox(receiver: &Receiver, more: Value) -> Sandbox {
    let sandbox = Sandbox::start();
    let mut webhook = json!({ "url": receiver.url, "secret": SECRET, "first_wait": 1 });
    webhook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    sandbox.admin_post("/_sandbox/heap/webhook", &webhook.to_string());
    sandbox
}

fn define(sandbox: &Sandbox, id: i64, count: u64) {
    let segment = json!({ "id": id, "name": "Carts", "numbered": { "prefix": "u", "count": count } });
    sandbox.admin_post("/_sandbox/heap/segments", &segment.to_string());
}

#[track_caller]
fn post(sandbox: &Sandbox, path: &str) -> Value {
    let response = http(&sandbox.url, "POST", path, &[], "");
    assert!(response.status < 300, "{}: {}", response.status, response.body);
    serde_json::from_str(&response.body).unwrap()
}

fn sync(sandbox: &Sandbox) -> Value {
    post(sandbox, "/_sandbox/heap/sync")
}

fn list(sandbox: &Sandbox, path: &str) -> BTreeSet<String> {
    let (status, body) = sandbox.get(path);
    assert_eq!(status, 200, "{body}");
    body.lines().map(str::to_owned).collect()
}

/// The timestamp, if the signature is valid.
fn signed(request: &Received) -> Option<u64> {
    let (ts, hmac) = request.header("heap-hash")?.split_once(',')?;
    let (ts, hmac) = (ts.strip_prefix("ts:")?, hmac.strip_prefix("hmac:")?);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(ts.as_bytes());
    mac.update(&request.body);
    let right = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    (right == hmac).then(|| ts.parse().unwrap())
}

/// The members after these pages in this order.
fn ingest<'a>(requests: impl IntoIterator<Item = &'a Received>) -> BTreeSet<String> {
    let mut current = BTreeSet::new();
    for request in requests {
        let body = request.json();
        let ids = |key: &str| {
            let list = body["data"][key].as_array().cloned().unwrap_or_default();
            list.into_iter().map(|who| who["id"].as_str().unwrap().to_owned())
        };
        if body["action_type"] == "segment.users.drain" {
            current.clear();
        }
        current.extend(ids("add"));
        ids("remove").for_each(|id| assert!(current.remove(&id), "{id} was never added"));
    }
    current
}

#[test]
fn a_sync_delivers_changes_in_signed_pages() {
    let receiver = Receiver::start(|_| 200);
    let sandbox = sandbox(&receiver, json!({ "page_len": 10 }));
    define(&sandbox, 7, 25);
    let first = sync(&sandbox);
    assert_eq!((&first["pages"], &first["acknowledged"], &first["add"]), (&json!(3), &json!(3), &json!(25)));
    let change = json!({ "add": ["new"], "remove_numbered": { "prefix": "u", "count": 11 } });
    sandbox.admin_post("/_sandbox/heap/segments/7/change", &change.to_string());
    sandbox.admin_post("/_sandbox/heap/segments/7/rename", r#"{"name":"Carts left"}"#);
    let second = sync(&sandbox);
    assert_eq!((&second["pages"], &second["remove"]), (&json!(3), &json!(11)));
    assert_eq!(sync(&sandbox)["sent"], 0, "nothing changed");

    let received = receiver.received();
    assert_eq!(received.len(), 6);
    assert!(received.iter().all(|request| signed(request).is_some_and(|ts| ts > 1_700_000_000_000)));
    assert_eq!(ingest(&received), list(&sandbox, "/_sandbox/heap/segments/7/members"));
    assert_eq!(ingest(&received), list(&sandbox, "/_sandbox/heap/segments/7/delivered"));
    let last = received[5].json();
    let task = &second["tasks"][0]["sync_task_id"];
    assert_eq!(last["data"]["segment"], json!({ "id": 7, "name": "Carts left" }));
    assert_eq!(
        last["data"]["sync_info"],
        json!({ "page_number": 3, "total_pages": 3, "sync_task_id": task })
    );
    assert_ne!(task, &first["tasks"][0]["sync_task_id"]);
    assert!(last["data"].get("add").is_none(), "one list per page");

    post(&sandbox, "/_sandbox/heap/segments/7/drain");
    assert!(list(&sandbox, "/_sandbox/heap/segments/7/delivered").is_empty());
    assert_eq!(receiver.received()[6].json()["action_type"], "segment.users.drain");
    assert_eq!(sync(&sandbox)["add"], 15, "after a drain every member is new");
    assert_eq!(ingest(&receiver.received()), list(&sandbox, "/_sandbox/heap/segments/7/delivered"));
}

#[test]
fn pages_without_a_200_are_retried_until_given_up() {
    // Each page gets 503, 202, no response, 429, and then its final status; page 3 never gets 200.
    let seen = Mutex::new(std::collections::BTreeMap::<u64, usize>::new());
    let receiver = Receiver::start(move |request| {
        let info = &request.json()["data"]["sync_info"];
        let (page, total) = (info["page_number"].as_u64().unwrap(), info["total_pages"].as_u64().unwrap());
        if total == 2 {
            return 200; // the sync after
        }
        let mut seen = seen.lock().unwrap();
        let times = seen.entry(page).or_default();
        *times += 1;
        let statuses = [503, 202, 0, 429, if page == 3 { 403 } else { 200 }];
        statuses.get(*times - 1).copied().unwrap_or(403)
    });
    let sandbox = sandbox(&receiver, json!({ "page_len": 10, "attempts": 6, "longest_wait": 2 }));
    define(&sandbox, 7, 40);
    let done = sync(&sandbox);
    assert_eq!((&done["acknowledged"], &done["given_up"]), (&json!(3), &json!(1)), "{done}");
    // The client itself may retry once on a persistent connection.
    assert!(done["retried"].as_u64().unwrap() >= 12 && done["unanswered"].as_u64().unwrap() >= 1, "{done}");
    assert_eq!(list(&sandbox, "/_sandbox/heap/segments/7/delivered").len(), 30);
    assert_eq!(list(&sandbox, "/_sandbox/heap/segments/7/members").len(), 40);
    assert_eq!(sync(&sandbox)["add"], 0, "an abandoned page is never delivered again");
    let webhook = json!({ "url": receiver.url, "secret": SECRET, "basis": "delivered", "page_len": 5 });
    sandbox.admin_post("/_sandbox/heap/webhook", &webhook.to_string());
    assert_eq!(sync(&sandbox)["add"], 10, "unless the basis is the delivered members");
    let reported: Value = serde_json::from_str(&sandbox.get("/_sandbox/heap/deliveries").1).unwrap();
    assert_eq!((&reported["running"], &reported["given_up"]), (&json!(0), &json!(1)));
}

#[test]
fn pages_can_be_shuffled_duplicated_forged_replayed_and_lost() {
    let receiver = Receiver::start(|request| if signed(request).is_some() { 200 } else { 403 });
    let sandbox = sandbox(
        &receiver,
        json!({ "page_len": 1, "shuffle": true, "duplicates": 0.2, "bad_signatures": 0.2, "old_timestamps": 0.1,
                "lose": [5], "at_once": 8, "timestamps": "s", "wrapped": true, "id_token": "token", "seed": 3 }),
    );
    define(&sandbox, 7, 300);
    let done = sync(&sandbox);
    assert_eq!((&done["acknowledged"], &done["lost"]), (&json!(299), &json!(1)), "{done}");
    for kind in ["duplicates", "forged"] {
        assert!((30..90).contains(&done[kind].as_u64().unwrap()), "{kind}: {done}");
    }
    assert!((10..60).contains(&done["old"].as_u64().unwrap()), "{done}");
    assert_eq!((&done["forged_accepted"], &done["statuses"]["403"]), (&json!(0), &done["forged"]));
    assert_eq!(list(&sandbox, "/_sandbox/heap/segments/7/delivered").len(), 299);
    let (mut numbers, mut stamps) = (Vec::new(), Vec::new());
    for request in &receiver.received() {
        let Some(stamp) = signed(request) else { continue };
        let body = request.json();
        assert_eq!(body["heap"]["id_token"], "token");
        numbers.push(body["heap"]["data"]["sync_info"]["page_number"].as_u64().unwrap());
        stamps.push(stamp);
    }
    assert!(!numbers.is_sorted() && !numbers.contains(&5));
    let newest = stamps.iter().max().unwrap();
    assert!(*newest < 100_000_000_000, "seconds");
    assert_eq!(
        stamps.iter().filter(|stamp| newest - *stamp > 3_000).count() as u64,
        done["old"].as_u64().unwrap()
    );
}

#[test]
fn a_sync_can_run_in_the_background_and_needs_a_webhook() {
    let sandbox_without = Sandbox::start();
    assert_eq!(http(&sandbox_without.url, "POST", "/_sandbox/heap/sync", &[], "").status, 409);
    let receiver = Receiver::start(|_| 200);
    let sandbox =
        sandbox(&receiver, json!({ "page_len": 2, "both_in_one_page": true, "late_duplicates": 1.0 }));
    define(&sandbox, 7, 1);
    define(&sandbox, 8, 3);
    assert_eq!(http(&sandbox.url, "POST", "/_sandbox/heap/sync?segment=9", &[], "").status, 404);
    post(&sandbox, "/_sandbox/heap/sync?segment=8&wait=false");
    until("three pages", || receiver.received().len() == 3);
    until("the end", || sandbox.get("/_sandbox/heap/deliveries").1.contains("\"running\":0"));
    assert!(list(&sandbox, "/_sandbox/heap/segments/7/delivered").is_empty());
    let second = sync(&sandbox);
    assert_eq!(
        (&second["pages"], &second["duplicates"]),
        (&json!(1), &json!(3)),
        "pages of the previous sync"
    );
}
