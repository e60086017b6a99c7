//! The sandbox's REST API of Braze, called without our client: as strict as Braze's documents.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::*;

const JSON: (&str, &str) = ("content-type", "application/json");
const KEY: &str = "sandbox-rest-api-key";

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

fn ask(sandbox: &Sandbox, path: &str) -> (u16, Value) {
    let response = http(&sandbox.url, "GET", path, &[("authorization", &bearer(KEY))], "");
    (response.status, serde_json::from_str(&response.body).unwrap())
}

fn send(sandbox: &Sandbox, path: &str, body: &Value) -> (u16, Value) {
    let headers = [JSON, ("authorization", &bearer(KEY))];
    let response = http(&sandbox.url, "POST", path, &headers, &body.to_string());
    (response.status, serde_json::from_str(&response.body).unwrap())
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then(|| value.trim().to_owned())
    })
}

fn texts(list: &Value, key: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

/// The id of an item created through the admin API.
fn id_of(sandbox: &Sandbox, shelf: &str, name: &str) -> String {
    let all: Value = serde_json::from_str(&sandbox.get(&format!("/_sandbox/{shelf}")).1).unwrap();
    let found = all.as_array().unwrap().iter().find(|item| item["name"] == name);
    found.unwrap()["id"].as_str().unwrap().to_owned()
}

/// Adds users to a cohort through the partner API.
fn fill(sandbox: &Sandbox, cohort: &str, ids: &[&str]) {
    let keys = json!({ "partner_api_key": PARTNER_KEY, "client_secret": IMPORT_KEY, "cohort_id": cohort });
    let with = |more: Value| {
        let mut body = keys.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let headers = [JSON, ("user-agent", "partner-Acme-Test/1.0")];
    let name = with(json!({ "name": cohort.to_uppercase(), "created_at": "2026-01-01T00:00:00Z" }));
    assert_eq!(http(&sandbox.url, "POST", "/partners/heap/cohorts", &headers, &name).status, 201);
    let members = with(json!({ "cohort_changes": [{ "user_ids": ids }] }));
    assert_eq!(http(&sandbox.url, "POST", "/partners/heap/cohorts/users", &headers, &members).status, 201);
}

#[test]
fn requests_need_a_key_with_the_permission() {
    let sandbox = Sandbox::start();
    let list = |headers: &[(&str, &str)]| http(&sandbox.url, "GET", "/segments/list", headers, "");
    assert_eq!(list(&[]).status, 401);
    assert_eq!(list(&[("authorization", KEY)]).status, 401);
    let wrong = list(&[("authorization", "Bearer wrong")]);
    assert_eq!((wrong.status, &*wrong.body), (401, r#"{"message":"Invalid API key: wrong"}"#));
    assert_eq!(header(&wrong, "x-ratelimit-remaining").as_deref(), Some(""), "present and empty");
    let fine = list(&[("authorization", "bearer sandbox-rest-api-key")]);
    assert_eq!((fine.status, &*fine.body), (200, r#"{"message":"success","segments":[]}"#));
    let left = header(&fine, "x-ratelimit-remaining").unwrap().parse::<u64>().unwrap();
    assert_eq!(left, 249_999, "a 401 does not count");
    assert_eq!(header(&fine, "x-ratelimit-reset").unwrap().parse::<u64>().unwrap() % 3600, 0);

    sandbox.admin_post("/_sandbox/keys", r#"[{"key": "lists-only", "permissions": ["segments.list"]}]"#);
    let with =
        |path: &str| http(&sandbox.url, "GET", path, &[("authorization", "Bearer lists-only")], "").status;
    assert_eq!((with("/segments/list"), with("/segments/details"), with("/campaigns/list")), (200, 403, 403));
    assert_eq!(with("/segments/list/"), 404, "no trailing slash");
    let plain = http(&sandbox.url, "POST", "/users/track", &[("authorization", &bearer(KEY))], "{}");
    assert_eq!(plain.status, 415);
}

#[test]
fn lists_have_pages_of_a_hundred() {
    let sandbox = Sandbox::start();
    let segments: Vec<Value> =
        (0..350).map(|n| json!({ "name": format!("S{n}"), "archived": n == 7 })).collect();
    sandbox.admin_post("/_sandbox/segments", &json!(segments).to_string());
    let page = |query: &str| texts(&ask(&sandbox, &format!("/segments/list{query}")).1["segments"], "name");
    let lengths: Vec<usize> = (0..5).map(|n| page(&format!("?page={n}")).len()).collect();
    assert_eq!(
        lengths,
        [100, 100, 100, 49, 0],
        "archived segments are not listed, and pages beyond the end are empty"
    );
    assert_eq!((&*page("")[0], &*page("?sort_direction=desc")[0]), ("S0", "S349"), "the oldest first");
    assert_eq!(ask(&sandbox, "/segments/list?page=x").0, 400);

    let campaigns = json!([
        { "name": "Old", "archived": true, "updated_at": "2024-01-01T00:00:00+00:00" },
        { "name": "New", "tags": ["heap"], "is_api": true },
    ]);
    sandbox.admin_post("/_sandbox/campaigns", &campaigns.to_string());
    let names =
        |query: &str| texts(&ask(&sandbox, &format!("/campaigns/list{query}")).1["campaigns"], "name");
    assert_eq!(names(""), ["New"]);
    assert_eq!(names("?include_archived=true"), ["Old", "New"]);
    assert_eq!(names("?include_archived=true&last_edit.time%5Bgt%5D=2025-01-01T00:00:00"), ["New"]);
    let id = id_of(&sandbox, "campaigns", "Old");
    let (status, details) = ask(&sandbox, &format!("/campaigns/details?campaign_id={id}"));
    assert_eq!((status, &details["archived"], &details["draft"]), (200, &json!(true), &json!(false)));
    for key in ["segment_id", "segments", "audience", "target"] {
        assert!(details.get(key).is_none(), "Braze does not expose the target of a campaign");
    }
}

#[test]
fn the_size_of_a_segment_follows_its_cohorts() {
    let sandbox = Sandbox::start();
    fill(&sandbox, "carts", &["u1", "u2", "u3"]);
    fill(&sandbox, "free", &["u3", "u4"]);
    let segments = json!([
        { "name": "Win back", "include": ["carts"], "exclude": ["free"], "created_at": "2026-01-01T00:00:00+00:00" },
        { "name": "Any", "include": ["carts", "free"] },
        { "name": "Both", "include": ["carts", "free"], "all": true, "analytics_tracking_enabled": false },
        { "name": "Secretive", "include": ["carts"], "description": "opaque" },
    ]);
    sandbox.admin_post("/_sandbox/segments", &segments.to_string());
    let details = |name: &str| {
        ask(&sandbox, &format!("/segments/details?segment_id={}", id_of(&sandbox, "segments", name)))
    };
    let win_back = details("Win back").1;
    assert_eq!(win_back["description"], "Heap Cohorts includes CARTS AND Heap Cohorts does not include FREE");
    assert!(win_back.get("id").is_none() && win_back.get("archived").is_none(), "neither is exposed");
    assert_eq!(details("Secretive").1["description"], "opaque");
    let size = |name: &str| {
        let id = id_of(&sandbox, "segments", name);
        let path = format!("/segments/data_series?segment_id={id}&length=2");
        ask(&sandbox, &path).1["data"].as_array().unwrap().last().map(|day| day["size"].as_u64().unwrap())
    };
    assert_eq!([size("Win back"), size("Any"), size("Both")], [Some(2), Some(4), None]);
    fill(&sandbox, "free", &["u1"]);
    assert_eq!(size("Win back"), Some(1), "the size follows membership");
    let id = id_of(&sandbox, "segments", "Any");
    let series = |more: &str| ask(&sandbox, &format!("/segments/data_series?segment_id={id}{more}")).0;
    assert_eq!([series(""), series("&length=101"), series("&length=1&ending_at=x")], [400; 3]);
    let unknown = "3aca937b-9bbc-4e42-9370-05e411967b2b";
    let at = |id: &str| ask(&sandbox, &format!("/segments/details?segment_id={id}")).0;
    assert_eq!((at("non-existing"), at(unknown)), (400, 400));
    let other = Sandbox::with(&["--unknown-id", "404"]);
    assert_eq!(ask(&other, &format!("/canvas/details?canvas_id={unknown}")).0, 404);
}

#[test]
fn users_are_exported_in_groups_of_fifty() {
    let sandbox = Sandbox::with(&["--profiles", "created", "--rest-limit", "export_ids=3/3600"]);
    let ids = json!([
        { "external_id": "u1", "aliases": [{ "alias_label": "crm", "alias_name": "7" }],
          "attributes": { "email": "u1@x.test", "plan": "free" } },
        { "device_ids": ["d2"] },
    ]);
    sandbox.admin_post("/_sandbox/users", &ids.to_string());
    let fields = json!(["external_id", "custom_attributes", "email", "user_aliases"]);
    let ask = |body: Value| send(&sandbox, "/users/export/ids", &body);
    let (status, body) = ask(json!({ "external_ids": ["u1", "u9"], "fields_to_export": fields }));
    assert_eq!(status, 201);
    assert_eq!(body["invalid_user_ids"], json!(["u9"]));
    let user = json!({
        "external_id": "u1", "email": "u1@x.test", "custom_attributes": { "plan": "free" },
        "user_aliases": [{ "alias_label": "crm", "alias_name": "7" }],
    });
    assert_eq!(body["users"], json!([user]));
    assert_eq!(ask(json!({ "external_ids": ["u1"] })).0, 400, "the fields are required");
    let many: Vec<String> = users(51).collect();
    assert_eq!(ask(json!({ "external_ids": many, "fields_to_export": fields })).0, 400);
    assert_eq!(
        ask(json!({ "device_id": "d2", "fields_to_export": ["external_id"] })).0,
        429,
        "a limit of its own"
    );
    assert_eq!(self::ask(&sandbox, "/segments/list").0, 200, "separate from other limits");
}

/// A response with a binary body.
fn raw(sandbox: &Sandbox, path: &str) -> String {
    let address = sandbox.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_segment_export_is_an_archive_that_is_ready_later() {
    let sandbox = Sandbox::with(&["--export-takes", "300"]);
    fill(&sandbox, "carts", &["u1", "u2"]);
    sandbox.admin_post("/_sandbox/segments", r#"[{"name": "S", "include": ["carts"]}]"#);
    let id = id_of(&sandbox, "segments", "S");
    let body = json!({ "segment_id": id, "fields_to_export": ["external_id"] });
    let (status, export) = send(&sandbox, "/users/export/segment", &body);
    assert_eq!(status, 201);
    assert_eq!(send(&sandbox, "/users/export/segment", &body).0, 429, "one export at a time");
    let url = export["url"].as_str().unwrap().strip_prefix(&sandbox.url).unwrap().to_owned();
    assert_eq!(http(&sandbox.url, "GET", &url, &[], "").status, 403, "not ready");
    let mut archive = String::new();
    until("the archive", || {
        archive = raw(&sandbox, &url);
        archive.starts_with("HTTP/1.1 200")
    });
    for member in [r#"{"external_id":"u1"}"#, r#"{"external_id":"u2"}"#] {
        assert!(archive.contains(member), "stored as it is: {archive}");
    }
}

#[test]
fn attributes_are_tracked_and_errors_are_listed() {
    let sandbox = Sandbox::with(&["--profiles", "created"]);
    sandbox.admin_post(
        "/_sandbox/users",
        r#"[{"external_id": "u0"}, {"external_id": "u1"}, {"external_id": "u3"}]"#,
    );
    let add = |id: &str| json!({ "external_id": id, "_update_existing_only": true, "heap_cohorts": { "add": ["carts"] } });
    let track = |objects: &[Value]| send(&sandbox, "/users/track", &json!({ "attributes": objects }));
    let many: Vec<Value> = users(76).map(|id| add(&id)).collect();
    assert_eq!(track(&many).0, 400, "at most 75 objects");
    let (status, body) =
        track(&[add("u0"), json!({ "heap_cohorts": true }), add("unknown"), add(&"x".repeat(988))]);
    assert_eq!((status, &body["attributes_processed"]), (201, &json!(2)), "{body}");
    let places: Vec<&Value> =
        body["errors"].as_array().unwrap().iter().map(|error| &error["index"]).collect();
    assert_eq!(places, [&json!(1), &json!(3)]);
    assert_eq!(body["errors"][1]["type"], "EXTERNAL_USER_ID_TOO_LARGE");
    assert_eq!(sandbox.get("/_sandbox/profiles/unknown").0, 404, "no profile is created");
    assert_eq!(sandbox.requests()["ignored"], 1, "and the response does not mention it");
    let attribute = |id: &str| -> Value {
        let profile: Value =
            serde_json::from_str(&sandbox.get(&format!("/_sandbox/profiles/{id}")).1).unwrap();
        profile["attributes"]["heap_cohorts"].clone()
    };
    assert_eq!(attribute("u0"), json!(["carts"]));

    let rejects = json!([
        { "external_id": "u1", "type": "BLACKLISTED_EXTERNAL_USER_ID" },
        { "external_id": "u3", "type": "internal error", "indexed": false },
    ]);
    sandbox.admin_post("/_sandbox/rejects", &rejects.to_string());
    let (status, body) = track(&[add("u0"), add("u1"), add("u3")]);
    assert_eq!(status, 201);
    assert_eq!(
        body["errors"],
        json!([
            { "type": "BLACKLISTED_EXTERNAL_USER_ID", "input_array": "attributes", "index": 1 },
            { "type": "internal error" },
        ])
    );
    let (status, body) = track(&[add("u1")]);
    assert_eq!(status, 400);
    assert!(body["message"].as_str().unwrap().starts_with("Valid data must be provided"), "{body}");
    assert_eq!(sandbox.requests()["rest"]["data_points"], 3);
    let removed = json!({ "external_id": "u0", "heap_cohorts": { "remove": ["carts"] } });
    assert_eq!(track(&[removed]).0, 201);
    assert_eq!(attribute("u0"), json!([]));
}

#[test]
fn the_rate_limit_of_track_has_both_header_forms() {
    let limit = ["--rest-limit", "track=1/3600"];
    let track = |sandbox: &Sandbox| {
        let headers = [JSON, ("authorization", &*bearer(KEY))];
        let body = json!({ "attributes": [{ "external_id": "u", "a": true }] }).to_string();
        http(&sandbox.url, "POST", "/users/track", &headers, &body)
    };
    let plain = Sandbox::with(&limit);
    let (first, second) = (track(&plain), track(&plain));
    assert!(header(&first, "x-ratelimit-reset").unwrap().parse::<u64>().unwrap() > 1_000_000_000);
    assert_eq!(second.status, 429);
    assert_eq!(header(&second, "x-ratelimit-remaining").as_deref(), Some("0"));
    let in_seconds = Sandbox::with(&[&limit[..], &["--track-in-seconds"]].concat());
    let (first, second) = (track(&in_seconds), track(&in_seconds));
    assert!(header(&first, "x-ratelimit-reset").unwrap().parse::<u64>().unwrap() <= 3600);
    assert_eq!((second.status, header(&second, "x-ratelimit-reset")), (429, None));
    assert!(header(&second, "x-ratelimit-retry-after").unwrap().parse::<u64>().unwrap() <= 3600);
}

#[test]
fn users_are_identified_and_merged() {
    let alias = |name: &str| json!({ "alias_label": "crm", "alias_name": name });
    let run = |switches: &[&str]| {
        let sandbox = Sandbox::with(&[&["--profiles", "created"], switches].concat());
        sandbox.admin_post(
            "/_sandbox/users",
            r#"[{"external_id": "u1"}, {"external_id": "u2"}, {"external_id": "u3"}]"#,
        );
        let mut known = alias("1");
        known["external_id"] = "u1".into();
        let mut unknown_owner = alias("8");
        unknown_owner["external_id"] = "unknown".into();
        let aliases = json!({ "user_aliases": [known, alias("9"), unknown_owner] });
        let (status, body) = send(&sandbox, "/users/alias/new", &aliases);
        assert_eq!((status, &body["aliases_processed"]), (201, &json!(3)));
        // The profile with only an alias becomes u4, a new external id.
        let identify = json!({ "aliases_to_identify": [{ "external_id": "u4", "user_alias": alias("9") }] });
        assert_eq!(send(&sandbox, "/users/identify", &identify).0, 201);
        let profile: Value = serde_json::from_str(&sandbox.get("/_sandbox/profiles/u4").1).unwrap();
        assert_eq!(profile["aliases"], json!([alias("9")]));
        assert_eq!(sandbox.get("/_sandbox/profiles/unknown").0, 404);
        fill(&sandbox, "carts", &["u1", "u2"]);
        let merge = json!({ "merge_updates": [
            { "identifier_to_merge": { "external_id": "u1" }, "identifier_to_keep": { "external_id": "u3" } },
        ] });
        assert_eq!(send(&sandbox, "/users/merge", &merge).0, 202);
        assert_eq!(send(&sandbox, "/users/merge", &json!({ "merge_updates": "x" })).0, 400);
        assert_eq!(sandbox.get("/_sandbox/profiles/u1").0, 404, "u1 no longer exists");
        let delete = json!({ "external_ids": ["u2"] });
        assert_eq!(send(&sandbox, "/users/delete", &delete).1["deleted"], 1);
        sandbox.members("carts")
    };
    assert!(run(&[]).is_empty(), "Braze does not list membership as merged data");
    assert_eq!(run(&["--merge-keeps-membership"]), members(["u3".to_owned()]));
}

#[test]
fn triggers_reach_existing_users_in_the_target() {
    let sandbox = Sandbox::start();
    fill(&sandbox, "carts", &["u1", "u2"]);
    sandbox.admin_post("/_sandbox/segments", r#"[{"name": "S", "include": ["carts"]}]"#);
    let segment = id_of(&sandbox, "segments", "S");
    let api = |name: &str, enabled: bool| json!([{ "name": name, "is_api": true, "enabled": enabled, "segment_id": segment }]);
    sandbox.admin_post("/_sandbox/campaigns", &api("C", true).to_string());
    sandbox.admin_post("/_sandbox/canvases", &api("V", false).to_string());
    let to = |ids: &[&str]| ids.iter().map(|id| json!({ "external_user_id": id })).collect::<Vec<_>>();
    let campaign = id_of(&sandbox, "campaigns", "C");
    let trigger = |recipients: Vec<Value>| {
        send(
            &sandbox,
            "/campaigns/trigger/send",
            &json!({ "campaign_id": campaign, "recipients": recipients }),
        )
    };
    let (status, body) = trigger(to(&["u1", "u9"]));
    assert_eq!((status, body["dispatch_id"].as_str().unwrap().len()), (201, 32));
    assert_eq!(trigger(users(51).map(|id| json!({ "external_user_id": id })).collect()).0, 400);
    assert_eq!(trigger(vec![json!({ "external_user_id": "u1", "email": "a@x.test" })]).0, 400);
    assert_eq!(trigger(vec![]).0, 400);
    let canvas = id_of(&sandbox, "canvases", "V");
    let (status, body) =
        send(&sandbox, "/canvas/trigger/send", &json!({ "canvas_id": canvas, "recipients": to(&["u1"]) }));
    assert_eq!(status, 201);
    assert!(body["notice"].as_str().unwrap().starts_with("The Canvas is paused"), "{body}");
    let sends: Value = serde_json::from_str(&sandbox.get("/_sandbox/sends").1).unwrap();
    assert_eq!((&sends[0]["reached"], &sends[1]["reached"]), (&json!(["external_id u1"]), &json!([])));
}

#[test]
fn faults_and_memory_apply_to_the_rest_api() {
    let w = Workspace::new();
    let memory = w.path("memory");
    let start = || Sandbox::with(&["--memory", memory.to_str().unwrap()]);
    let sandbox = start();
    fill(&sandbox, "carts", &["u1"]);
    sandbox.admin_post("/_sandbox/segments", r#"[{"name": "S", "include": ["carts"]}]"#);
    sandbox.faults(r#"[{"on": "segments_list", "skip": 1, "do": {"status": 503}}, {"on": "users_track", "do": "lose_answer"}]"#);
    let statuses: Vec<u16> = (0..3).map(|_| ask(&sandbox, "/segments/list").0).collect();
    assert_eq!(statuses, [200, 503, 200]);
    let headers = [JSON, ("authorization", &*bearer(KEY))];
    let body = json!({ "attributes": [{ "external_id": "u1", "a": true }] }).to_string();
    assert!(
        try_http(&sandbox.url, "POST", "/users/track", &headers, &body).is_none(),
        "executed without a response"
    );
    drop(sandbox);
    let sandbox = start();
    let profile: Value = serde_json::from_str(&sandbox.get("/_sandbox/profiles/u1").1).unwrap();
    assert_eq!(profile["attributes"]["a"], true);
    let segments: Value = serde_json::from_str(&sandbox.get("/_sandbox/segments").1).unwrap();
    assert_eq!((&segments[0]["name"], &segments[0]["size"]), (&json!("S"), &json!(1)));
}
