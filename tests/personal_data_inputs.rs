//! Identifiers of users in what commands read: files of identities, databases, events, deliveries, saved plans, damaged
//! states, first configs. Canary people appear in no log at any verbosity and in no output that was not asked about them.

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};

use crate::personal_data::{CANARY, people, person};
use crate::support::avro_writer::{Writer, long, text};
use crate::support::drivers::Driver;
use crate::support::postgres::Postgres;
use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

/// The most verbose log, in both forms.
const LOGS: [&[&str]; 2] = [&["-vvv"], &["-vvv", "--log-format", "json"]];

/// Runs of commands, with every text that names a person.
#[derive(Default)]
struct Leaks {
    runs: usize,
    found: Vec<String>,
}

impl Leaks {
    fn note(&mut self, what: &str, text: &str) {
        // Text in UTF-16 has a zero in each character, which may be escaped.
        let plain = text.to_lowercase().replace("\\u{0}", "").replace("\\u0000", "").replace('\0', "");
        for (at, _) in plain.match_indices(CANARY).take(1) {
            let around: String = plain[..at].chars().rev().take(200).collect();
            let after: String = plain[at..].chars().take(200).collect();
            self.found.push(format!("{what}: {}{after}", around.chars().rev().collect::<String>()));
        }
    }

    /// All output of a command.
    fn of_output(&mut self, w: &Workspace, case: &str, args: &[&str]) {
        let run = self.run(w, args);
        assert_ne!(run.code, 64, "{args:?}: {}", run.stderr);
        self.note(&format!("{args:?} ({case})"), &format!("{}{}", run.stdout, run.stderr));
    }

    /// Runs a command with each form of the log in turn.
    fn run(&mut self, w: &Workspace, args: &[&str]) -> Run {
        self.runs += 1;
        w.run(&[args, LOGS[self.runs.count_ones() as usize % LOGS.len()]].concat())
    }

    /// The log of a command that was asked about a person.
    fn of_log(&mut self, w: &Workspace, case: &str, args: &[&str]) {
        let run = self.run(w, args);
        self.note(&format!("log of {args:?} ({case})"), &run.stderr);
    }

    #[track_caller]
    fn expect_none(self) {
        assert!(self.found.is_empty(), "{} leaks:\n{}", self.found.len(), self.found.join("\n"));
    }
}

fn utf16(text: &str) -> Vec<u8> {
    [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
}

/// Files that cannot be used, or not in full.
fn bad_files() -> Vec<(&'static str, Vec<u8>)> {
    let (one, two) = (person(1), person(2));
    let zipped = gzip(format!("id,device,heap\n{one},{two},7\n").as_bytes());
    vec![
        ("ids.csv", format!("{one},{two},7\n").into_bytes()),
        ("ids.csv", format!("{one};{two};7\n").into_bytes()),
        ("ids.csv", format!("{CANARY}\n{CANARY}s\n").into_bytes()),
        ("ids.csv", format!("id,device,{one}\n{one},{two},7\n").into_bytes()),
        ("ids.csv", format!("id,device,device\n{one},{two},7\n").into_bytes()),
        ("ids.csv", format!("id,device,heap\n\"{one},{two},7\n").into_bytes()),
        ("ids.csv", format!("id,device,heap\n{one}\n{one},{two},7,{two}\n").into_bytes()),
        ("ids.csv", format!("id,device,heap\n{one},{two}\u{1},{}\n", two.repeat(60)).into_bytes()),
        ("ids.csv", format!("id,device,heap\n{one},d,{one}\n{two},d,{one}\n").into_bytes()),
        ("ids.csv", utf16(&format!("id,device,heap\n{one},{two},7\n"))),
        ("ids.csv", utf16(&format!("{one},{two},7\n"))[2..].to_vec()),
        ("ids.csv", [one.as_bytes(), b"\xe9\xff,", two.as_bytes(), b",7\n"].concat()),
        ("ids.csv.gz", zipped[..zipped.len() - 9].to_vec()),
        ("ids.csv.zst", one.clone().into_bytes()),
        ("ids.parquet", format!("PAR1{one}PAR1").into_bytes()),
        ("ids.avro", format!("Obj\u{1}{one}").into_bytes()),
        ("ids.avro", [Writer::new(EVENT_SCHEMA, "null").bytes, one.clone().into_bytes()].concat()),
        ("ids.ndjson", format!("{{\"id\":\"{one}\",\"device\":{{\"{two}\":1}}}}\n").into_bytes()),
        ("ids.ndjson", format!("{{\"id\":\"{one}\"\n[\"{two}\"]\n\"{one}\"\n").into_bytes()),
        ("ids.ndjson", format!("{one}\n").into_bytes()),
        ("ids.ndjson", format!("{{\"{one}\":1}}\n").into_bytes()),
    ]
}

#[test]
fn no_person_is_shown_by_imports_of_identities() {
    let mut leaks = Leaks::default();
    for (number, (name, bytes)) in bad_files().into_iter().enumerate() {
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        let identity =
            format!("identity:\n  - {{ kind: file, path: {name}, external_id: id, device_id: device }}\n");
        w.write("sync.yaml", config(&sandbox.url, &["carts"], "") + &identity).source("carts", people(2));
        w.write(name, bytes);
        let case = format!("{number} {name}");
        let columns = ["--external-id", "id", "--device-id", "device", "--alias", "heap=heap"];
        leaks.of_output(&w, &case, &[&["identity", "import", name], &columns[..]].concat());
        for layout in ["heap-users", "heap-user-migrations"] {
            leaks.of_output(&w, &case, &["identity", "import", name, "--layout", layout]);
        }
        leaks.of_output(&w, &case, &["identity", "import", ".", "--layout", "heap-connect"]);
        for args in [&["plan"][..], &["reconcile"], &["doctor"], &["identity", "stats"], &["status"]] {
            leaks.of_output(&w, &case, args);
        }
        leaks.of_log(&w, &case, &["identity", "show", &person(2)]);
    }
    leaks.expect_none();
}

#[test]
fn no_person_is_shown_by_first_configs() {
    let mut leaks = Leaks::default();
    for (number, (name, bytes)) in bad_files().into_iter().enumerate() {
        let w = Workspace::new();
        w.write(name, bytes);
        for args in
            [&["init", "new", "--from-csv", name][..], &["init", "new", "--from-csv", name, "--column", "id"]]
        {
            let run = w.run(args);
            leaks.note(&format!("{args:?} ({number})"), &format!("{}{}", run.stdout, run.stderr));
            leaks.note(&format!("files of {args:?} ({number})"), &w.read_all("new"));
        }
    }
    leaks.expect_none();
}

/// A value that ends the quotes of any message.
fn quoted_person() -> String {
    format!("o''x\"{CANARY}`y")
}

#[test]
fn no_person_is_shown_by_errors_of_postgresql() {
    let Some(server) = Postgres::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let mut leaks = Leaks::default();
    server.sql(&format!(
        "create table people as select '{}'::text as identity;
         create table quoted as select '{}'::text as identity;
         create table named as select '{CANARY}'::text as identity;
         create function refuse(text) returns text language plpgsql as
           $$ begin raise exception 'no consent of %', $1 using hint = $1, detail = $1; end $$;
         create function dynamic(text) returns text language plpgsql as
           $$ begin execute 'select ' || quote_ident($1); return $1; end $$;
         create function internal(text) returns text language plpgsql as
           $$ begin raise exception '%', $1 using errcode = 'XX000'; end $$;
         create function noisy(text) returns text language plpgsql as
           $$ begin raise warning 'seen %', $1; return $1; end $$;
         create function check_of(text) returns text language plpgsql as
           $$ begin raise exception 'value % violates it', $1 using errcode = '23514'; end $$",
        person(1),
        quoted_person(),
    ));
    let queries = [
        "identity::int",
        "identity::date",
        "identity::uuid",
        "identity::jsonb",
        "identity::inet",
        "('{' || identity)::int[]",
        "to_date(identity, 'YYYY')",
        "to_number(identity, '99')",
        "regexp_replace('a', '(' || identity, '')",
        "refuse(identity)",
        "dynamic(identity)",
        "internal(identity)",
        "noisy(identity)",
        "check_of(identity)",
    ];
    for (query, table) in
        queries.iter().flat_map(|query| ["people", "quoted", "named"].map(|table| (query, table)))
    {
        let text = config(&sandbox.url, &["people"], &server.connection("user: owner, tls: off"));
        let source = format!(
            "{{ kind: sql, connection: warehouse, query: \"select {query} as identity from {table}\" }}"
        );
        w.write("sync.yaml", text.replace("{ kind: file, path: people.csv }", &source));
        for args in [
            &["plan"][..],
            &["plan", "--format", "markdown"],
            &["reconcile"],
            &["doctor"],
            &["discover"],
            &["status"],
            &["history"],
        ] {
            leaks.of_output(&w, query, args);
        }
        leaks.of_log(&w, query, &["who", &person(1), "--source"]);
    }
    leaks.expect_none();
}

#[test]
fn no_person_is_shown_by_errors_of_drivers() {
    let mut leaks = Leaks::default();
    for driver in [Driver::sqlite(), Driver::duckdb()].into_iter().flatten() {
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        for (table, value) in
            [("people", person(1)), ("quoted", quoted_person()), ("named", CANARY.to_owned())]
        {
            let rows = format!("select '{value}' as identity");
            let numbers = "select '1' as identity from (with recursive n(i) as (select 0 union all select i + 1 from n where i < 3000) select i from n)";
            driver.sql(&w.path("data.db"), &format!("create table {table} as {rows}"));
            driver
                .sql(&w.path("data.db"), &format!("create table {table}_late as {numbers} union all {rows}"));
        }
        w.write("headerless.csv", format!("{},{}\n{},b\n", person(1), person(2), person(3)));
        for query in [
            "select cast(identity as integer) as identity from people",
            "select cast(identity as date) as identity from people",
            "select cast(identity as uuid) as identity from people",
            "select json_extract(identity, '$.a') as identity from people",
            "select json_extract('[1]', identity) as identity from people",
            "select strptime(identity, '%Y') as identity from people",
            "select error(identity) as identity from people",
            "select regexp_matches('a', '(' || identity) as identity from people",
            "select identity from (select 1 as identity union all select identity from people)",
            "select cast(identity as bigint) as identity from people_late",
            "select identity from read_csv('headerless.csv')",
            "select * from read_csv('headerless.csv', header = true)",
        ] {
            for table in ["people", "quoted", "named"] {
                let query = &query.replace("people", table);
                let text = config(&sandbox.url, &["people"], &driver.connection("data.db", ""));
                let source = format!("{{ kind: sql, connection: warehouse, query: \"{query}\" }}");
                w.write("sync.yaml", text.replace("{ kind: file, path: people.csv }", &source));
                for args in [
                    &["plan"][..],
                    &["plan", "--format", "markdown"],
                    &["reconcile"],
                    &["doctor"],
                    &["discover"],
                ] {
                    leaks.of_output(&w, query, args);
                }
            }
        }
    }
    leaks.expect_none();
}

const EVENT_SCHEMA: &str = r#"{"type":"record","name":"users_messages_email_Open","fields":[
    {"name":"id","type":"string"},{"name":"time","type":"long"},
    {"name":"external_user_id","type":["null","string"]},{"name":"user_id","type":["null","string"]},
    {"name":"email_address","type":["null","string"]}]}"#;

/// An Avro file with events of these users.
fn events(schema: &str, users: &[&str], time: i64) -> Vec<u8> {
    let (mut file, mut data) = (Writer::new(schema, "deflate"), Vec::new());
    for (number, user) in users.iter().enumerate() {
        text(&mut data, &format!("{user}-{number}"));
        long(&mut data, time);
        for value in [user, user, user] {
            long(&mut data, 1);
            text(&mut data, value);
        }
    }
    file.block(users.len().try_into().unwrap(), &data);
    file.bytes
}

#[test]
fn no_person_is_shown_by_exports_of_files() {
    let mut leaks = Leaks::default();
    let one = person(1);
    let long_id = one.repeat(60);
    let good = events(EVENT_SCHEMA, &[&one], 1_767_225_600);
    let mut flipped = good.clone();
    let middle = flipped.len() - 30;
    flipped[middle] ^= 0x55;
    let cases = [
        good.clone(),
        flipped,
        good[..good.len() - 20].to_vec(),
        events(EVENT_SCHEMA, &[&one], i64::MAX),
        events(EVENT_SCHEMA, &["", &long_id, "\u{1}xanthippe"], -1),
        events(&EVENT_SCHEMA.replace("Open", &format!("O.{CANARY}")), &[&one], 1_767_225_600),
        events(&EVENT_SCHEMA.replace("\"id\"", &format!("\"{CANARY}\"")), &[&one], 1_767_225_600),
        one.clone().into_bytes(),
    ];
    for (number, bytes) in cases.into_iter().enumerate() {
        for reply in [
            Value::Null,
            json!({ "status": 400, "body": { "message": format!("invalid: {one}") } }),
            json!({ "status": 500, "body": one }),
        ] {
            let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]));
            if !reply.is_null() {
                let fault = json!([{ "on": "track", "times": 0, "do": { "reply": reply } }]);
                sandbox.faults(&fault.to_string());
            }
            let more = format!(
                "  heap: {{ kind: heap, endpoint: {}, app_id: 11, retry: {{ attempts: 2, first_wait: 5ms }} }}\n",
                sandbox.url
            );
            let export = "exports:\n  - { id: posted, source: { kind: currents_storage, path: cur, incomplete_after: 0s }, to: heap }\n";
            w.write("sync.yaml", config(&sandbox.url, &["carts"], &more) + export).source("carts", people(2));
            let folder = "cur/dataexport.prod-01.S3.integration.x/event_type=users.messages.email.Open/date=2026-01-01-00/1/part";
            w.write(&format!("{folder}/one.avro"), &bytes);
            // A key with an address of a user.
            w.write(&format!("{folder}/{one}.avro"), &bytes);
            let case = format!("{number} {reply}");
            for args in [
                &["export", "--dry-run"][..],
                &["export"],
                &["reconcile"],
                &["replay"],
                &["replay", "--yes"],
                &["doctor"],
                &["status"],
                &["history"],
                &["plan"],
            ] {
                leaks.of_output(&w, &case, args);
            }
            leaks.of_log(&w, &case, &["forget", &one]);
        }
    }
    leaks.expect_none();
}

#[test]
fn no_person_is_shown_by_sources_with_users_in_their_names() {
    let mut leaks = Leaks::default();
    for text in [
        csv(people(3)),
        format!("{},Berlin\n", person(1)),
        String::new(),
        format!("identity\n\"{}\n", person(1)),
    ] {
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        let folder = config(&sandbox.url, &["carts"], "").replace("path: carts.csv", "path: 'lists/*.csv'");
        w.write("sync.yaml", folder).write("lists/a.csv", csv(people(1)));
        w.write(&format!("lists/{}.csv", person(7)), text);
        for args in [
            &["plan"][..],
            &["plan", "--format", "markdown"],
            &["reconcile"],
            &["doctor"],
            &["status"],
            &["history"],
        ] {
            leaks.of_output(&w, "a user's name", args);
        }
    }
    leaks.expect_none();
}

#[test]
fn no_person_is_logged_by_who_and_forget() {
    let mut leaks = Leaks::default();
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n  heap: { kind: heap, app_id: 11, endpoint: 'http://127.0.0.1:9', api_key: { env: TEST_REST_KEY }, retry: { attempts: 2, first_wait: 5ms } }\n").source("carts", people(3));
    w.run(&["reconcile"]).expect(0);
    w.write("ask.txt", format!("{}\n{}\u{1}\n\n{}\n", person(1), person(2), person(3).repeat(50)));
    w.write("ask.bin", [person(1).as_bytes(), b"\xff\xfe\n"].concat());
    let one = person(1);
    let odd = format!("{}\u{1}", person(2));
    let all = |leaks: &mut Leaks, case: &str| {
        for who in [&one, &odd, &one.repeat(60), &person(9)] {
            leaks.of_log(&w, case, &["who", who]);
            leaks.of_log(&w, case, &["who", who, "--source"]);
            leaks.of_log(&w, case, &["identity", "show", who]);
            leaks.of_log(&w, case, &["forget", who]);
            leaks.of_log(&w, case, &["forget", who, "--heap", "heap", "--yes"]);
        }
        leaks.of_log(&w, case, &["who", "--file", "ask.txt"]);
        leaks.of_log(&w, case, &["who", "--file", "ask.bin"]);
        leaks.of_log(&w, case, &["who", "--file", &person(1)]);
    };
    all(&mut leaks, "forgotten");
    w.source("carts", people(3));
    // Every file of the state is damaged, one by one.
    w.run(&["reconcile"]);
    for (path, bytes) in w.snapshot(".syncline") {
        let name = path.display().to_string();
        let broken = [&bytes[..bytes.len() / 2], one.as_bytes(), &bytes[bytes.len() / 2..]].concat();
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), &broken).unwrap();
        leaks.of_log(&w, &name, &["who", &one]);
        leaks.of_log(&w, &name, &["forget", &one]);
        for args in [
            &["plan"][..],
            &["reconcile"],
            &["state", "verify"],
            &["status"],
            &["history"],
            &["state", "show", "carts"],
            &["state", "ls"],
        ] {
            leaks.of_output(&w, &name, args);
        }
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), &bytes).unwrap();
    }
    leaks.expect_none();
}

#[test]
fn no_person_is_shown_by_saved_plans() {
    let mut leaks = Leaks::default();
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", people(3));
    w.run(&["plan", "--out", "saved.plan"]).expect(0);
    let plan = std::fs::read(w.path("saved.plan")).unwrap();
    let text = String::from_utf8_lossy(&plan).into_owned();
    for broken in [
        plan[..plan.len() / 2].to_vec(),
        person(1).into_bytes(),
        format!("{{\"syncline_plan\":\"{}\"}}\n", person(1)).into_bytes(),
        text.replacen(&person(1), &person(5), 1).into_bytes(),
        text.replace("\"carts\"", &format!("\"{}\"", person(1))).into_bytes(),
        format!("{text}{}", person(1)).into_bytes(),
        gzip(person(1).as_bytes()),
    ] {
        w.write("broken.plan", broken);
        leaks.of_output(&w, "saved plan", &["reconcile", "--plan", "broken.plan"]);
    }
    leaks.of_output(&w, "out", &["plan", "--out", "again.plan"]);
    leaks.expect_none();
}

#[test]
fn no_person_is_shown_by_checks_of_segments() {
    let mut leaks = Leaks::default();
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let segments = "    rest_api_key: { env: TEST_REST_KEY }\nsegments:\n  - { id: win_back, connection: braze, segment: { name: Win back }, include: [carts] }\n";
    w.config(&sandbox, &["carts"], segments).source("carts", people(3));
    w.run(&["reconcile"]).expect(0);
    for reply in [
        json!({ "status": 400, "body": { "message": person(1) } }),
        json!({ "status": 200, "body": { "segments": person(1) } }),
        json!({ "status": 200, "body": person(1) }),
        json!({ "status": 500, "body": person(1) }),
    ] {
        for on in ["segments_list", "segments_details", "campaigns_list"] {
            sandbox.faults(&json!([{ "on": on, "times": 0, "do": { "reply": reply } }]).to_string());
        }
        for args in [&["check"][..], &["check", "--format", "markdown"], &["doctor"], &["plan"]] {
            leaks.of_output(&w, &reply.to_string(), args);
        }
    }
    leaks.expect_none();
}

#[allow(clippy::disallowed_methods, reason = "Heap signs by the clock")]
fn signature(body: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"whsec_test").unwrap();
    mac.update(format!("{now}{body}").as_bytes());
    format!("ts:{now},hmac:{}", base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes()))
}

#[test]
fn no_person_is_shown_by_bad_bodies_of_webhooks() {
    for format in ["text", "json"] {
        let mut leaks = Leaks::default();
        let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]));
        let more = format!(
            "  heap: {{ kind: heap, endpoint: {}, app_id: 11, webhook_secret: {{ env: TEST_WEBHOOK }}, retry: {{ attempts: 2, first_wait: 10ms }} }}\n{SHORT_TIMEOUTS}",
            sandbox.url
        );
        let exports = "exports:\n  - { id: posted, source: { kind: currents_http, token: { env: TEST_TOKEN } }, to: heap, flush_every: 50ms }\n";
        let segment = "{ kind: heap_segment, connection: heap, segment_id: 7 }";
        let free = cohort_entry("free", "").replace("{ kind: file, path: free.csv }", segment);
        w.write(
            "sync.yaml",
            config(&sandbox.url, &[], &more)
                + &free.replace("external_id: identity", "external_id: id")
                + exports,
        );
        let mut command = w.command(&["watch", "-vvv", "--log-format", format]);
        command.env("TEST_WEBHOOK", "whsec_test").env("TEST_TOKEN", "t0ken");
        let watch = Watch::from_command(&mut command);
        watch.until_ready();
        let endpoints = watch.endpoints();
        let one = person(1);
        let heap_bodies = [
            one.clone(),
            json!(one).to_string(),
            json!({ "action_type": one, "data": { "segment": { "id": 7 } } }).to_string(),
            json!({ "action_type": "segment.users.sync", "data": { "segment": { "id": one }, "add": { "users": [one] } } }).to_string(),
            json!({ "action_type": "segment.users.sync", "data": { "segment": { "id": 7, "name": [one] }, "add": one } }).to_string(),
            json!({ "action_type": "segment.users.sync", "data": { "segment": { "id": 7, "name": "S" }, "sync_info": { "page_number": one, "total_pages": 1 }, "add": [{ "id": one }] } }).to_string(),
            json!({ "action_type": "segment.users.sync", "data": { "segment": { "id": 7 }, "add": { "users": [{ "id": { "x": one } }, 7, one] } } }).to_string(),
            json!({ "action_type": "segment.users.drain", "data": one }).to_string(),
            format!("{{\"data\":{}", "[".repeat(200) + &one),
        ];
        for body in &heap_bodies {
            let _ = http(&endpoints, "POST", "/heap/heap", &[("heap-hash", &signature(body))], body);
        }
        let token = ("authorization", "Bearer t0ken");
        for body in [
            one.clone(),
            json!([one]).to_string(),
            json!({ "events": one }).to_string(),
            json!({ one.clone(): [] }).to_string(),
            json!({ "events": [{ "event_type": one, "id": "e1", "time": 1_767_225_600, "user": { "external_user_id": one } }] }).to_string(),
            json!({ "events": [{ "event_type": "users.messages.email.Open", "id": [one], "time": one, "user": one }] }).to_string(),
            json!({ "events": [{ "event_type": "users.messages.email.Open", "id": one, "time": 1e30, "user": { "external_user_id": one.repeat(60) } }] }).to_string(),
        ] {
            for headers in [&[token][..], &[token, ("content-type", "application/json")], &[token, ("content-type", &one)], &[token, ("content-encoding", &one)]] {
                let _ = http(&endpoints, "POST", "/currents/posted", headers, &body);
            }
        }
        let _ = http(&endpoints, &one, "/currents/posted", &[token], "");
        let _ = http(&endpoints, "GET", &format!("/currents/{one}"), &[], "");
        let _ =
            http(&endpoints, "POST", "/heap/heap", &[("transfer-encoding", &one), ("heap-hash", &one)], &one);
        let _ = http(&watch.admin(), "GET", &format!("/cohorts/{one}?q={one}"), &[], "");
        let segment = json!({ "action_type": "segment.users.sync", "data": { "segment": { "id": 7, "name": "S" }, "add": { "users": [{ "id": one }] } } }).to_string();
        let _ = http(&endpoints, "POST", "/heap/heap", &[("heap-hash", &signature(&segment))], &segment);
        until("deliveries are ingested", || watch.log().contains("deliveries ingested"));
        for path in ["/", "/metrics", "/readyz", "/history", "/cohorts/free"] {
            leaks.note(path, &watch.get(path).body);
        }
        let log = watch.log();
        assert_eq!(watch.stop(), 0);
        leaks.note("the log", &log);
        leaks.of_output(&w, "after watch", &["status"]);
        leaks.of_output(&w, "after watch", &["history"]);
        leaks.of_output(&w, "after watch", &["plan"]);
        leaks.of_output(&w, "after watch", &["replay"]);
        leaks.of_output(&w, "after watch", &["import"]);
        leaks.expect_none();
    }
}
