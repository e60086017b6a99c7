//! Identifier values: one table of expected results for every format, and the trigger properties from the same
//! values.
//!
//! `tests/values/make.py` generates the Parquet and Avro files with other programs.

use serde_json::Value;

use crate::support::drivers::Driver;
use crate::support::postgres::Postgres;
use crate::support::*;

/// The formats, as indices of [`Case::values`] from the third on.
const CSV: usize = 0;
const NDJSON: usize = 1;
const POSTGRES: usize = 2;
const SQLITE: usize = 3;
const DUCKDB: usize = 4;

/// A case: the identifier or the code of the reject, equal for every format, and the notation of text formats
/// and databases. Empty: the format has no such value. Parquet and Avro have it in a column of this name.
struct Case {
    name: &'static str,
    expected: Result<&'static str, &'static str>,
    values: [&'static str; 5],
}

const fn case(
    name: &'static str,
    expected: Result<&'static str, &'static str>,
    values: [&'static str; 5],
) -> Case {
    Case { name, expected, values }
}

const UUID: &str = "0190c2a1-7c3b-7000-8000-0000000000ab";

#[rustfmt::skip]
const CASES: [Case; 40] = [
    case("text", Ok("u1"), ["u1", r#""u1""#, "'u1'", "'u1'", "'u1'"]),
    case("whole", Ok("123"), ["123", "123", "123", "123", "123"]),
    case("decimal_whole", Ok("123"), ["", "123.00", "123::numeric(38,2)", "", "123::decimal(38,2)"]),
    case("decimal_large", Ok("12345678901234567890123"), ["12345678901234567890123", "12345678901234567890123", "12345678901234567890123::numeric", "'12345678901234567890123'", "12345678901234567890123::decimal(38,0)"]),
    case("decimal_256", Ok("10000000000000000000000000000000000000000"), ["", "", "1e40::numeric", "", ""]),
    case("decimal_fraction", Err("fraction"), ["", "19.90", "19.90::numeric(9,2)", "", "19.90::decimal(9,2)"]),
    case("decimal_one_byte", Ok("49"), ["", "", "", "", ""]),
    case("decimal_four_bytes", Ok("1413896505"), ["", "", "", "", ""]),
    case("double_whole", Ok("123"), ["", "123.0", "123::float8", "123.0", "123::double"]),
    case("double_fraction", Err("fraction"), ["", "1.5", "1.5::float8", "1.5", "1.5::double"]),
    case("double_large", Ok("1000000000000000"), ["", "1e15", "1e15::float8", "1e15", "1e15::double"]),
    case("double_last", Ok("9007199254740991"), ["", "9007199254740991.0", "9007199254740991::float8", "9007199254740991.0", "9007199254740991::double"]),
    case("double_end", Err("imprecise_number"), ["", "9007199254740992.0", "9007199254740992::float8", "9007199254740992.0", "9007199254740992::double"]),
    case("float_last", Ok("16777215"), ["", "", "16777215::float4", "", "16777215::float"]),
    case("float_end", Err("imprecise_number"), ["", "", "16777216::float4", "", "16777216::float"]),
    case("half_end", Err("imprecise_number"), ["", "", "", "", ""]),
    case("zero", Err("placeholder"), ["0", "0.0", "0::float8", "0.0", "0::double"]),
    case("minus_zero", Err("negative_zero"), ["-0", "-0.0", "'-0'::float8", "-0.0", "'-0'::double"]),
    case("nan", Err("not_a_number"), ["NaN", "NaN", "'NaN'::float8", "", "'NaN'::double"]),
    case("nan_decimal", Err("not_a_number"), ["nan", r#""NaN""#, "'NaN'::numeric", "'NaN'", "'nan'"]),
    case("infinity", Err("infinite_number"), ["Infinity", "Infinity", "'Infinity'::float8", "9e999", "'Infinity'::double"]),
    case("minus_infinity", Err("infinite_number"), ["-inf", "-Infinity", "'-Infinity'::numeric", "-9e999", "'-Infinity'::double"]),
    case("boolean", Err("placeholder"), ["true", "true", "true", "'true'", "true"]),
    case("date", Err("date"), ["", "", "date '2026-01-01'", "", "date '2026-01-01'"]),
    case("time", Err("time"), ["", "", "time '12:30'", "", "time '12:30'"]),
    case("timestamp", Err("timestamp"), ["", "", "timestamptz '2026-01-01 12:30+00'", "", "timestamptz '2026-01-01 12:30:00+00'"]),
    case("interval", Err("duration"), ["", "", "interval '1 day'", "", "interval '1 day'"]),
    case("list", Err("list"), ["", r#"["u1"]"#, "array['u1']", "", "['u1']"]),
    case("object", Err("object"), ["", r#"{"id":"u1"}"#, "", "", "{'id': 'u1'}"]),
    case("map", Err("object"), ["", "", "", "", "map {'id': 'u1'}"]),
    case("json_text", Ok("u1"), ["", "", r#"'"u1"'::jsonb"#, "", ""]),
    case("json_escaped", Ok("u\"é"), ["", r#""u\"\u00e9""#, r#"'"u\"\u00e9"'::json"#, "", ""]),
    case("json_number", Ok("123"), ["", "", "'123.00'::jsonb", "", ""]),
    case("json_list", Err("list"), ["", "", r#"'["u1"]'::jsonb"#, "", ""]),
    case("json_object", Err("object"), ["", "", r#"'{"id": "u1"}'::json"#, "", ""]),
    case("json_null", Err("no_identifier"), ["", "null", "'null'::jsonb", "", ""]),
    case("uuid", Ok(UUID), [UUID, r#""0190c2a1-7c3b-7000-8000-0000000000ab""#, "'0190c2a1-7c3b-7000-8000-0000000000ab'::uuid", "'0190c2a1-7c3b-7000-8000-0000000000ab'", "'0190c2a1-7c3b-7000-8000-0000000000ab'::uuid"]),
    case("user.id", Ok("n1"), ["", "", "", "", ""]),
    case("user.born", Err("date"), ["", "", "", "", ""]),
    case("nothing", Err("no_identifier"), ["", "null", "null::text", "null", "null::varchar"]),
];

/// The id of a case's cohort.
fn id(case: &Case) -> String {
    case.name.replace('.', "_")
}

/// Reconciles one cohort per case of the format, and compares the results.
fn check(format: &str, connection: &str, source: &str, w: &Workspace, has: impl Fn(&Case) -> bool) {
    let sandbox = Sandbox::start();
    let cases: Vec<&Case> = CASES.iter().filter(|case| has(case)).collect();
    assert!(cases.len() > 10, "{format}");
    let ids: Vec<String> = cases.iter().map(|case| id(case)).collect();
    let mut text = config(&sandbox.url, &[], connection);
    for (case, id) in cases.iter().zip(&ids) {
        let entry = cohort_entry(id, "").replace(&format!("{{ kind: file, path: {id}.csv }}"), source);
        text.push_str(&entry.replace("external_id: identity", &format!("external_id: {}", case.name)));
    }
    w.write("sync.yaml", text);
    let run = w.run(&["reconcile", "--format", "json"]);
    assert!(run.stdout.contains("\"cohorts\""), "{format}: {run:?}");
    let report = run.json();
    let mut wrong = Vec::new();
    for (case, id) in cases.iter().zip(&ids) {
        let found = report["cohorts"].as_array().unwrap().iter().find(|cohort| cohort["id"] == id.as_str());
        let rejects =
            &found.unwrap_or_else(|| panic!("{format} {}: {run:?}", case.name))["source"]["rejects"];
        let reason = rejects.as_object().and_then(|rejects| rejects.keys().next());
        let member = sandbox.members(id).into_iter().next();
        let found = match (&member, reason) {
            (Some(member), None) => Ok(member.strip_prefix("external_id ").unwrap()),
            (None, Some(reason)) => Err(reason.as_str()),
            other => panic!("{format} {}: {other:?} {report:#}", case.name),
        };
        if found != case.expected {
            wrong.push(format!("{}: {found:?} and not {:?}", case.name, case.expected));
        }
    }
    assert!(wrong.is_empty(), "{format}:\n{}", wrong.join("\n"));
}

/// `value as name` of each case, for a database.
fn selected(format: usize) -> String {
    let values = CASES.iter().filter(|case| !case.values[format].is_empty());
    let values = values.map(|case| format!("{} as {}", case.values[format], quoted(case.name)));
    values.collect::<Vec<_>>().join(", ")
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

#[test]
fn in_csv() {
    let w = Workspace::new();
    let has = |case: &Case| !case.values[CSV].is_empty();
    let [names, values] = [|case: &Case| case.name, |case: &Case| case.values[CSV]]
        .map(|part| CASES.iter().filter(|case| has(case)).map(part).collect::<Vec<_>>().join(","));
    w.write("f.csv", format!("{names}\n{values}\n"));
    check("CSV", "", "{ kind: file, path: f.csv }", &w, has);
}

#[test]
fn in_ndjson() {
    let w = Workspace::new();
    let has = |case: &Case| !case.values[NDJSON].is_empty();
    let pairs = CASES.iter().filter(|case| has(case));
    let pairs = pairs.map(|case| format!("\"{}\": {}", case.name, case.values[NDJSON])).collect::<Vec<_>>();
    w.write("f.ndjson", format!("{{{}}}\n", pairs.join(", ")));
    check("NDJSON", "", "{ kind: file, path: f.ndjson }", &w, has);
}

/// Whether a case's column is among these.
fn is_among(columns: &[&str], case: &Case) -> bool {
    columns.contains(&case.name.split('.').next().unwrap())
}

#[test]
fn in_parquet() {
    let w = Workspace::new();
    w.write("f.parquet", include_bytes!("values/values.parquet"));
    let missing =
        ["decimal_one_byte", "decimal_four_bytes", "double_large", "nan_decimal", "interval", "json_escaped"];
    check("Parquet", "", "{ kind: file, path: f.parquet }", &w, |case| !is_among(&missing, case));
}

#[test]
fn in_avro() {
    let w = Workspace::new();
    w.write("f.avro", include_bytes!("values/values.avro"));
    let missing = ["decimal_256", "double_large", "half_end", "nan_decimal", "interval"];
    let has = |case: &Case| !is_among(&missing, case) && !case.name.starts_with("json");
    check("Avro", "", "{ kind: file, path: f.avro }", &w, has);
}

#[test]
fn in_postgresql() {
    let Some(server) = Postgres::start() else { return };
    server.sql(&format!("create table people as select {}", selected(POSTGRES)));
    // Server settings that change the text of numbers and dates.
    server.sql("alter role owner set extra_float_digits = 0; alter role owner set datestyle = 'German'");
    let connection = server.connection("user: owner, tls: off");
    let source = "{ kind: sql, connection: warehouse, table: people }";
    check("PostgreSQL", &connection, source, &Workspace::new(), |case| !case.values[POSTGRES].is_empty());
}

#[test]
fn in_postgresql_with_pushdown() {
    let Some(server) = Postgres::start() else { return };
    server.sql(&format!("create table people as select {}", selected(POSTGRES)));
    server.sql("alter role owner set extra_float_digits = 0; alter role owner set datestyle = 'German'");
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let connection = server.connection("user: owner, tls: off, pushdown: { schema: syncline }");
    let has = |case: &&Case| !case.values[POSTGRES].is_empty();
    let written = |diff: &str| {
        let mut text = config(&sandbox.url, &[], &connection);
        for case in CASES.iter().filter(has) {
            let source = format!("{{ kind: sql, connection: warehouse, table: people, diff: {diff} }}");
            let entry = cohort_entry(&id(case), "")
                .replace(&format!("{{ kind: file, path: {}.csv }}", id(case)), &source)
                .replace("external_id: identity", &format!("external_id: {}", case.name));
            text.push_str(&entry);
        }
        w.write("sync.yaml", text);
        w.run(&["plan", "--format", "json"]).json()
    };
    // Every cohort with members has a mirror table after the first run.
    written("pushdown");
    let run = w.run(&["reconcile"]);
    assert!(!format!("{run:?}").contains("could not be written"), "{run:?}");
    server.sql("insert into people select * from people");
    let (pushed, local) = (written("pushdown"), written("local"));
    assert_eq!(pushed["digest"], local["digest"]);
    let mut used = 0;
    for (pushed, local) in
        pushed["cohorts"].as_array().unwrap().iter().zip(local["cohorts"].as_array().unwrap())
    {
        assert_eq!(pushed["source"]["rejects"], local["source"]["rejects"], "{}", pushed["id"]);
        assert_eq!(pushed["changes"], local["changes"], "{}", pushed["id"]);
        used += u64::from(pushed["pushdown"]["used"] == true);
    }
    assert!(used > 8, "{pushed:#}");
    // The server derives the members from whole numbers and JSON texts.
    for name in ["decimal_whole", "double_whole", "double_last", "float_last", "json_text"] {
        let found = |cohort: &&Value| cohort["id"] == name;
        let cohort = pushed["cohorts"].as_array().unwrap().iter().find(found).unwrap();
        assert_eq!(
            (&cohort["pushdown"]["used"], &cohort["pushdown"]["keys_read"]),
            (&true.into(), &0.into()),
            "{name}: {}",
            cohort["pushdown"]
        );
    }
}

fn in_driver(format: usize, driver: Option<Driver>) {
    let Some(driver) = driver else { return };
    let w = Workspace::new();
    driver.sql(&w.path("data.db"), &format!("create table people as select {}", selected(format)));
    let connection = driver.connection("data.db", "");
    let source = "{ kind: sql, connection: warehouse, table: people }";
    check("ADBC", &connection, source, &w, |case| !case.values[format].is_empty());
}

#[test]
fn in_sqlite() {
    in_driver(SQLITE, Driver::sqlite());
}

#[test]
fn in_duckdb() {
    in_driver(DUCKDB, Driver::duckdb());
}

/// NaN in a typed column is no identifier, as the same word in a CSV; removals are applied.
#[test]
fn nan_in_a_typed_column_does_not_block_removals() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("people.csv", "whole,nan\n123,\n124,\n");
    let source = |path: &str| {
        let text = config(&sandbox.url, &["people"], "").replace("people.csv", path);
        let rules = "[ { external_id: nan }, { external_id: whole } ]";
        w.write(
            "sync.yaml",
            text.replace("[ { external_id: identity } ]", rules)
                + "    guard: { max_removed: 100%, allow_empty: true }\n",
        );
    };
    source("people.csv");
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("people").len(), 2);
    w.write("people.parquet", include_bytes!("values/values.parquet"));
    w.write("people.avro", include_bytes!("values/values.avro"));
    w.write("nan.csv", "whole,nan\n123,NaN\n");
    for path in ["nan.csv", "people.parquet", "people.avro"] {
        source(path);
        let plan = w.run(&["plan", "--format", "json"]).json();
        let source = &plan["cohorts"][0]["source"];
        assert_eq!(source["rejects"]["not_a_number"], 1, "{path}");
        assert_eq!(plan["cohorts"][0]["blocked"], Value::Array(Vec::new()), "{path} {plan:#}");
    }
}

/// A CSV without its header row: user data appears in no plan, log, dashboard or notification.
#[test]
fn a_first_row_of_data_is_not_shown() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("people.csv", "identity,phone\nanna.private@example.com,+4915112345678\n");
    w.write("sync.yaml", config(&sandbox.url, &["people"], ""));
    w.run(&["reconcile"]).expect(0);
    for text in [
        "anna.private@example.com,+4915112345678\n",
        "anna.private;4915112345678\n",
        "Anna,Berlin\n",
        "anna17\nben18\n",
    ] {
        w.write("people.csv", text);
        for args in [
            &["plan"][..],
            &["plan", "--format", "markdown"],
            &["plan", "--format", "json"],
            &["reconcile", "-vvv"],
            &["doctor"],
            &["status"],
            &["history"],
        ] {
            let run = w.run(args);
            let shown = format!("{}{}", run.stdout, run.stderr).to_lowercase();
            for part in ["anna", "4915112345678", "berlin"] {
                assert!(!shown.contains(part), "{args:?} {text}: {run:?}");
            }
        }
    }
    w.write("people.csv", "anna.private@example.com,+4915112345678\n");
    w.run(&["plan"]).expect(1).says(&["its first row looks like data, not like a header row"]);
}

/// `on_enter` sends the text of every scalar, except configured null values.
#[test]
fn properties_keep_every_scalar() {
    const CAMPAIGN: &str = "3aca937b-9bbc-4e42-9370-05e411967b2b";
    let sandbox = Sandbox::start();
    sandbox.admin_post(
        "/_sandbox/campaigns",
        &format!(r#"[{{"id":"{CAMPAIGN}","name":"W","enabled":true,"is_api":true}}]"#),
    );
    let long = "x".repeat(4097);
    let columns = [
        "decimal_fraction",
        "decimal_whole",
        "double_fraction",
        "boolean",
        "date",
        "timestamp",
        "time",
        "whole",
        "user.id",
    ];
    type Format<'a> = (&'a str, &'a [u8], &'a [Option<&'a str>]);
    let formats: [Format<'_>; 3] = [
        ("parquet", include_bytes!("values/values.parquet"), &[Some("19.90"), Some("123.00"), Some("1.5"), Some("true"), Some("2026-01-01"), Some("2026-01-01T12:30:00Z"), Some("12:30:00"), Some("123"), Some("n1")]),
        ("avro", include_bytes!("values/values.avro"), &[Some("19.90"), Some("123.00"), Some("1.5"), Some("true"), Some("2026-01-01"), Some("2026-01-01T12:30:00Z"), Some("12:30:00"), Some("123"), Some("n1")]),
        ("ndjson", br#"{"text":"u1","decimal_fraction":19.90,"decimal_whole":"n.a.","double_fraction":1.5,"boolean":false,"date":["2026"],"timestamp":null,"time":"LONG","whole":123,"user":{"id":"n1"}}"#, &[Some("19.90"), None, Some("1.5"), Some("false"), None, None, None, Some("123"), Some("n1")]),
    ];
    for (format, bytes, expected) in formats {
        let w = Workspace::new();
        let before = serde_json::from_str::<Value>(&sandbox.get("/_sandbox/sends").1).unwrap();
        let id = format!("by_{format}");
        let properties: Vec<String> =
            columns.iter().map(|column| format!("{}: {column}", column.replace('.', "_"))).collect();
        let write = |path: &str| {
            let text = config(&sandbox.url, &[&id], "    rest_api_key: { env: TEST_REST_KEY }\n");
            let source =
                format!("{{ kind: file, path: {path}, null_values: [n.a.], final_newline: optional }}");
            let text = text
                .replace(&format!("{{ kind: file, path: {id}.csv }}"), &source)
                .replace("external_id: identity", "external_id: text");
            w.write("sync.yaml", format!("{text}    on_enter: {{ campaign: {CAMPAIGN}, properties: {{ {} }} }}\n    guard: {{ max_removed: 100%, allow_empty: true }}\n", properties.join(", ")));
        };
        w.write("first.csv", format!("text,{}\nu0{}\n", columns.join(","), ",".repeat(columns.len())));
        write("first.csv");
        w.run(&["reconcile"]).expect(0);
        let bytes = String::from_utf8(bytes.to_vec())
            .map(|text| text.replace("LONG", &long).into_bytes())
            .unwrap_or(bytes.to_vec());
        w.write(&format!("second.{format}"), bytes);
        write(&format!("second.{format}"));
        w.run(&["reconcile"]).expect(0);
        let sends = serde_json::from_str::<Value>(&sandbox.get("/_sandbox/sends").1).unwrap();
        let sent = sends.as_array().unwrap().iter().skip(before.as_array().unwrap().len()).find_map(|send| {
            let properties = &send["trigger_properties"];
            if properties.is_null() {
                send["recipients"][0]["trigger_properties"].as_object().cloned()
            } else {
                properties.as_object().cloned()
            }
        });
        let sent = sent.unwrap_or_else(|| panic!("{format}: {sends:#}"));
        for (column, expected) in columns.iter().zip(expected) {
            let found = sent.get(&column.replace('.', "_")).and_then(Value::as_str);
            assert_eq!(found, *expected, "{format} {column} {sent:?}");
        }
    }
}

/// Codes of the blocks of a plan.
fn block_codes(w: &Workspace) -> Vec<String> {
    let plan = w.run(&["plan", "--format", "json"]).json();
    let blocks = plan["cohorts"][0]["blocked"].as_array().unwrap_or_else(|| panic!("{plan:#}"));
    blocks.iter().map(|block| block["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn identifiers_that_look_damaged_are_blocked_unless_allowed() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let write = |allow: &str| {
        let text = config(&sandbox.url, &["people"], "");
        w.write(
            "sync.yaml",
            format!("{text}    guard: {{ max_removed: 100%, max_added: 100000%, allow: [{allow}] }}\n"),
        );
    };
    let ids = |ids: &[&str]| csv(ids.iter().map(|id| (*id).to_owned()));
    let repeated = |rows: usize, ids: usize| csv((0..rows).map(move |row| format!("u{}", row % ids)));
    for (source, code) in [
        (ids(&["1.0", "2.0", "u3"]), Some("decimal_ids")),
        (ids(&["1.0", "2.0", "u3", "u4"]), None),
        (ids(&["u1", "u2", "1.23457E+11"]), Some("exponent_ids")),
        (ids(&["u1", "1e15", "12e45"]), None),
        (repeated(110, 10), Some("duplicates")),
        (repeated(100, 10), None),
    ] {
        w.write("people.csv", source);
        write("");
        assert_eq!(block_codes(&w), code.into_iter().collect::<Vec<_>>());
        let Some(code) = code else { continue };
        w.run(&["reconcile"]).expect(6).says(&[&format!("guard: {{ allow: [{code}] }}"), "probably"]);
        assert_eq!(sandbox.writes(), 0, "{code}");
        write(code);
        assert_eq!(block_codes(&w), Vec::<String>::new());
    }
    w.run(&["reconcile"]).expect(0);
}

#[test]
fn damaged_identifiers_are_found_by_the_database_too() {
    let Some(server) = Postgres::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let connection = server.connection("user: owner, tls: off, pushdown: { schema: syncline }");
    let source = "{ kind: sql, connection: warehouse, table: people, diff: pushdown }";
    let text =
        config(&sandbox.url, &["people"], &connection).replace("{ kind: file, path: people.csv }", source);
    w.write("sync.yaml", text + "    guard: { max_removed: 100%, max_added: 100000% }\n");
    server.sql("create table people as select 'u' || n as identity from generate_series(1, 20) n");
    w.run(&["reconcile"]).expect(0);
    for (update, code) in [
        ("update people set identity = substr(identity, 2) || '.0'", "decimal_ids"),
        (
            "update people set identity = '1.2345E+1' || substr(identity, 1, 1) where identity like '1%'",
            "exponent_ids",
        ),
        ("insert into people select 'v' from generate_series(1, 999)", "duplicates"),
    ] {
        server.sql(update);
        assert!(block_codes(&w).contains(&code.to_owned()), "{code} {:?}", block_codes(&w));
        let plan = w.run(&["plan", "--format", "json"]).json();
        assert_eq!(plan["cohorts"][0]["pushdown"]["used"], true, "{plan:#}");
    }
}

/// Identifiers that look equal are counted with those that differ by case.
#[test]
fn invisible_characters_and_unicode_twins_are_reported() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let ids = ["u1", "u\u{200b}1", "u2", "u2\u{ad}", "zo\u{eb}", "zoe\u{308}", "x\u{feff}y", "\u{200b}"];
    w.write("people.csv", csv(ids.iter().map(|id| (*id).to_owned())));
    w.write("sync.yaml", config(&sandbox.url, &["people"], ""));
    let source = &w.run(&["plan", "--format", "json"]).json()["cohorts"][0]["source"];
    assert_eq!((&source["case_colliding"], &source["invisible"]), (&6.into(), &3.into()), "{source:#}");
    assert_eq!(source["rejects"], serde_json::json!({ "no_identifier": 1 }));
    w.run(&["plan"]).says(&["6 members with the same id but for", "3 rows with invisible characters"]);
}
