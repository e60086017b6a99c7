//! `diff: pushdown`: what is read of a real PostgreSQL, that it comes out as if everything were read, and what becomes
//! of a table that is lost, stale or edited.

use serde_json::{Value, json};

use crate::support::postgres::Postgres;
use crate::support::watch::{PATIENCE, Watch};
use crate::support::*;

const OWNER: &str = "user: owner, tls: off";
const ONE: &str = "    match: [ { external_id: identity } ]\n";

/// A cohort that is compared in the database, and also here to see whether that gives the same.
struct Case {
    server: Postgres,
    w: Workspace,
    sandbox: Sandbox,
    connection: &'static str,
    source: &'static str,
    rules: &'static str,
}

fn case(connection: &'static str, source: &'static str, rules: &'static str) -> Option<Case> {
    let server = Postgres::start()?;
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let case = Case { server, w, sandbox, connection, source, rules };
    case.asks("pushdown");
    Some(case)
}

/// The cohort's part of a result.
fn cohort(result: &Value) -> &Value {
    &result["cohorts"][0]
}

impl Case {
    fn write(&self, connection: &str, source: &str, diff: &str) {
        let more = format!("{connection}, pushdown: {{ schema: syncline }}");
        let more = format!("    rest_api_key: {{ env: TEST_REST_KEY }}\n{}", self.server.connection(&more));
        let text = config(&self.sandbox.url, &["carts"], &more);
        let source = format!("{{ kind: sql, connection: warehouse, {source}, diff: {diff} }}");
        let text = text.replace("{ kind: file, path: carts.csv }", &source);
        let guard = "    guard: { max_removed: 100%, max_added: 100000%, max_unreadable: 100000 }\n";
        self.w.write("sync.yaml", text.replace(ONE, self.rules) + guard);
    }

    fn asks(&self, diff: &str) {
        self.write(self.connection, self.source, diff);
    }

    /// Plans both ways, and fails unless they are the same; what is told of the pushdown.
    #[track_caller]
    fn same(&self) -> Value {
        let plan = || self.w.run(&["plan", "--format", "json"]).expect(0).json();
        let pushed = plan();
        self.asks("local");
        let local = plan();
        self.asks("pushdown");
        assert_eq!(pushed["digest"], local["digest"], "{pushed:#}\n{local:#}");
        assert_eq!(cohort(&pushed)["changes"], cohort(&local)["changes"]);
        let source = |plan: &Value| {
            let mut source = cohort(plan)["source"].clone();
            // Who differs by case only can be told of everybody alone.
            source.as_object_mut().unwrap().remove("case_colliding");
            source
        };
        assert_eq!(source(&pushed), source(&local));
        assert_eq!(cohort(&local)["pushdown"], Value::Null);
        cohort(&pushed)["pushdown"].clone()
    }

    /// The same, then applies it.
    #[track_caller]
    fn run(&self) -> Value {
        let told = self.same();
        let done = self.w.run(&["reconcile", "--format", "json"]).json();
        assert_eq!(cohort(&done)["pushdown"]["table_error"], Value::Null, "{done:#}");
        told
    }

    /// As with [`Self::run`]; whoever should be in the cohort is.
    #[track_caller]
    fn whole_run(&self) -> Value {
        let told = self.run();
        self.asks("local");
        assert_eq!(self.w.run(&["plan", "--format", "json"]).expect(0).json()["result"], "in_step");
        self.asks("pushdown");
        told
    }

    fn table(&self) -> String {
        let tables =
            "select 'syncline.' || quote_ident(tablename) from pg_tables where schemaname = 'syncline'";
        self.server.sql(tables).trim().to_owned()
    }
}

#[test]
fn only_what_differs_comes_over_the_wire() {
    let Some(case) = case(OWNER, "table: carts", ONE) else { return };
    case.server.sql("create table carts as select 'user-' || n as identity from generate_series(0, 9999) n");
    let first = case.run();
    assert_eq!(first["used"], false, "{first}");
    assert_eq!(case.server.sql(&format!("select count(*) from {}", case.table())).trim(), "10000");
    let second = case.same();
    assert_eq!((&second["used"], &second["keys_read"]), (&true.into(), &0.into()), "{second}");
    // Nothing is written when nothing has changed.
    let written = |case: &Case| {
        case.server.sql("select pg_stat_force_next_flush(), sum(n_tup_ins + n_tup_del) from pg_stat_user_tables where schemaname = 'syncline'")
    };
    let before = written(&case);
    case.run();
    assert_eq!(written(&case), before);
    case.server.sql(
        "delete from carts where identity in (select 'user-' || n from generate_series(0, 99) n);
         insert into carts select 'new-' || n from generate_series(0, 99) n",
    );
    let third = case.run();
    assert_eq!((&third["keys_read"], &third["rows"]), (&200.into(), &10_000.into()), "{third}");
    case.w.run(&["plan"]).expect(0).says(&["pushdown: 0 of 10,000 rows came over the wire"]);
    // So much is changed that the runs of the record are merged, which changes nobody.
    let oid = || case.server.sql(&format!("select '{}'::regclass::oid", case.table()));
    let before = oid();
    case.server.sql("update carts set identity = 'late-' || identity where identity like '%2' or identity like '%3' or identity like '%4'");
    case.run();
    let merged = case.whole_run();
    assert_eq!((&merged["used"], &merged["keys_read"]), (&true.into(), &0.into()), "{merged}");
    assert_eq!(oid(), before, "it was brought up to date, and not made again");
    assert_eq!(case.sandbox.members("carts").len(), 10_000);
}

const RULES: &str = "    match: [ { external_id: identity }, { alias: { label: \"it's \\\\a:\", name: crm } }, { device_id: device } ]\n";

/// Rows of all sorts, made by the database from a number and a seed.
fn corpus(seed: u32) -> String {
    format!(
        r#"truncate carts; insert into carts select
        case h % 23 when 0 then null when 1 then '' when 2 then ' u' || n / 3 || ' ' when 3 then 'u' || n / 3
            when 4 then 'Zoë-' || n / 5 when 5 then (array['NULL','null','0','[Redacted]','Undefined','-','00000000-0000-0000-0000-000000000000'])[1 + n % 7]
            when 6 then 'n.a.' when 7 then repeat('x', 985 + n % 5) when 8 then 'a' || chr(1 + n % 31) || 'b'
            when 9 then '  ' when 10 then 'a b' || n / 4 when 11 then E'back\\slash' || n / 9 when 12 then 'qu''ote"' || n / 7
            when 13 then E'u' || n / 3 || E'\n' when 14 then chr(160) || 'u' || n / 3 when 15 then ' n.a. '
            when 16 then 'ü' || n / 9 else 'u' || n end,
        case h % 7 when 0 then null when 1 then '' when 2 then 'c' || n / 2 when 3 then ' c' || n / 2 when 4 then 'N.A.' else 'n.a.' end,
        case h % 5 when 0 then null when 1 then 'd' || n / 2 when 2 then repeat('d', 988) else 'D-' || n end
        from (select n, abs(hashint4(n * 31 + case when n % 10 = 0 then {seed} else 0 end)) as h from generate_series(1, 3000) n) as made"#
    )
}

/// Some of them are refused.
const REFUSED: &str = r#"[
    { "on": "users", "holding": "\"u30\"", "times": 0, "do": { "reply": { "status": 400, "body": { "message": "no" } } } },
    { "on": "users", "holding": "\"c7\"", "times": 0, "do": { "reply": { "status": 400, "body": { "message": "no" } } } }
]"#;

#[test]
fn whatever_is_in_the_rows_it_comes_out_as_read_here() {
    let source = "table: carts, null_values: [n.a., ' odd ', 'ö']";
    let Some(case) = case(OWNER, source, RULES) else { return };
    case.server.sql("create table carts (identity text, crm text, device text)");
    let mut used = 0;
    for seed in 1..=7 {
        case.server.sql(&corpus(seed));
        // Some are refused, some have no answer.
        case.sandbox.faults(match seed {
            2 => REFUSED,
            4 => r#"[{ "on": "users", "times": 0, "do": "lose_answer" }]"#,
            _ => "[]",
        });
        let told = if seed < 5 { case.run() } else { case.whole_run() };
        used += u64::from(told["used"] == true);
        let (rows, read) = (told["rows"].as_u64(), told["keys_read"].as_u64());
        assert!(told["used"] == false || (rows == Some(3000) && read < rows), "{told}");
        let twice = case.same();
        assert_eq!(twice["used"], true, "{twice}");
    }
    assert!(used >= 5, "{used}");
}

#[test]
fn numbers_uuids_and_bytes_come_out_as_read_here() {
    let Some(case) = case(OWNER, "table: carts", ONE) else { return };
    for (kind, value, used) in [
        ("bigint", "n", true),
        ("uuid", "md5(n::text)::uuid", true),
        ("bytea", "n::text::bytea", false),
        ("char(9)", "'u' || n", true),
    ] {
        case.server.sql(&format!(
            "drop table if exists carts;
             create table carts as select ({value})::{kind} as identity from generate_series(0, 99) n"
        ));
        case.run();
        case.server.sql("insert into carts select * from carts limit 7; delete from carts where ctid in (select ctid from carts limit 10)");
        let told = case.run();
        assert_eq!(told["used"], used, "{kind}: {told}");
        assert!(used || told["why"].as_str().unwrap().contains("holds bytes"), "{told}");
    }
}

#[test]
fn values_of_a_query_keep_their_numbers_and_a_query_may_be_anything() {
    let source = r#"query: "with syncline_rows as (select * from carts) select identity, 1 as asked from syncline_rows where n < $1 and identity like $2 -- so", params: [900, 'us%']"#;
    let Some(case) = case(OWNER, source, ONE) else { return };
    case.server
        .sql("create table carts as select n, 'user-' || n as identity from generate_series(0, 999) n");
    case.run();
    case.server.sql("update carts set n = n + 100 where n < 500");
    assert_eq!(case.run()["used"], true);
    // A query that names other columns, or would write, is told as ever.
    let w = &case.w;
    case.write(OWNER, "query: \"select 1 as identify\"", "pushdown");
    w.run(&["plan"]).expect(1).says(&["no column `identity`"]);
    case.server.sql("create function eat() returns text language sql as $$ delete from carts; select 'x' $$");
    case.write(OWNER, "query: \"select eat() as identity\"", "pushdown");
    w.run(&["plan"]).expect(1).says(&["would write"]);
    let slow = "query: \"select pg_sleep(5)::text as identity\"";
    let short = "user: owner, tls: off, statement_timeout: 100ms";
    case.write(short, slow, "pushdown");
    w.run(&["plan"]).expect(5).says(&["ended the query"]);
}

#[test]
fn a_table_that_is_lost_stale_or_edited_is_noticed_and_built_again() {
    let Some(case) = case(OWNER, "table: carts", ONE) else { return };
    case.server.sql("create table carts as select 'user-' || n as identity from generate_series(0, 999) n");
    case.run();
    let w = &case.w;
    let table = case.table();
    let sql = |text: String| drop(case.server.sql(&text));
    let harms: [(&str, &dyn Fn(), &str); 6] = [
        ("dropped", &|| sql(format!("drop table {table}")), "is not there"),
        (
            "edited",
            &|| sql(format!("update {table} set member = 'e:mallory' where member = 'e:user-500'")),
            "holds others",
        ),
        ("emptied in part", &|| sql(format!("delete from {table} where member like '%7'")), "holds 9"),
        ("twice", &|| sql(format!("insert into {table} select * from {table} limit 1")), "holds 1001"),
        (
            "another table",
            &|| sql(format!("drop table {table}; create table {table} (n int)")),
            "cannot be read",
        ),
        (
            "the note is lost",
            &|| std::fs::remove_dir_all(w.path(".syncline/pushdown")).unwrap(),
            "no table of its members yet",
        ),
    ];
    for (at, (what, harm, why)) in harms.iter().enumerate() {
        harm();
        case.server.sql(&format!(
            "insert into carts values ('late-{at}'); delete from carts where identity = 'user-{at}'"
        ));
        let told = case.run();
        assert_eq!(told["used"], false, "{what}: {told}");
        assert!(told["why"].as_str().unwrap().contains(why), "{what}: {told}");
        w.run(&["plan"]).expect(0).says(&["pushdown: 0 of 1,000 rows"]);
        assert_eq!(case.table(), table, "{what}");
    }
    // A run that does not know of the table moves the record on, and takes the table away.
    case.write(OWNER, "table: carts", "local");
    case.server.sql("insert into carts values ('unseen')");
    w.run(&["reconcile"]).expect(0).says(&["added 1"]);
    assert_eq!(case.table(), "", "nobody is left in a table that nobody keeps");
    case.write(OWNER, "table: carts", "pushdown");
    assert_eq!(case.run()["used"], false);
    assert_eq!(case.same()["used"], true);
}

#[test]
fn whoever_may_not_write_reads_in_full_and_is_told() {
    let Some(case) = case("user: reader, tls: off", "table: carts", ONE) else { return };
    case.server.sql(
        "create table carts as select 'user-' || n as identity from generate_series(0, 99) n;
         create schema syncline; create role reader login; grant select on carts to reader",
    );
    let (w, sandbox) = (&case.w, &case.sandbox);
    w.run(&["doctor"]).expect(11).says(&[
        "may not make tables in schema `syncline`",
        "grant usage, create on schema \"syncline\" to \"reader\"",
    ]);
    let told = w.run(&["reconcile"]).expect(0);
    told.says(&["added 100", "could not be written", "permission denied for schema syncline"]);
    assert_eq!(sandbox.members("carts").len(), 100);
    case.server.sql("grant usage, create on schema syncline to reader");
    w.run(&["doctor"]).expect(0).says(&["tables of members can be kept in schema `syncline`"]);
    assert_eq!(case.run()["used"], false);
    assert_eq!(case.same()["used"], true);
    // A schema that is not there is made by whoever may.
    case.server.sql("drop schema syncline cascade");
    w.run(&["doctor"]).expect(11).says(&["create schema \"syncline\" authorization \"reader\""]);
    case.server.sql("grant create on database postgres to reader");
    w.run(&["doctor"]).expect(0);
    case.run();
    assert_eq!(case.same()["used"], true);
}

/// Whoever comes between the table and the note of it, or between the record and both, leaves nothing that is trusted.
#[test]
fn killed_before_the_table_is_written_the_next_run_is_right() {
    let Some(case) = case(OWNER, "table: carts", ONE) else { return };
    case.server.sql("create table carts as select 'user-' || n as identity from generate_series(0, 999) n");
    case.run();
    let table = case.table();
    case.server.sql("delete from carts where identity like '%9'; insert into carts select 'new-' || n from generate_series(0, 9) n");
    // The table cannot be written while somebody else holds it.
    let hold = format!("begin; lock table {table} in exclusive mode; select pg_sleep(60)");
    let (port, sql) = (case.server.port.to_string(), hold.as_str());
    let psql = std::process::Command::new(case.server.program("psql"))
        .args(["-h", "127.0.0.1", "-p", &port, "-U", "owner", "-d", "postgres", "-qAtc", sql])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let mut psql = psql.unwrap();
    let waits = |what: &str| {
        case.server.sql(&format!("select count(*) from pg_stat_activity where {what}")).trim() != "0"
    };
    until("it is held", || {
        waits("query like '%pg_sleep(60)' and state = 'active' and wait_event = 'PgSleep'")
    });
    let mut run = case.w.command(&["reconcile"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    until("the run waits for it", || waits("application_name = 'syncline' and wait_event_type = 'Lock'"));
    run.kill().unwrap();
    run.wait().unwrap();
    psql.kill().unwrap();
    psql.wait().unwrap();
    case.server.sql("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = 'postgres'");
    assert_eq!(
        case.sandbox.members("carts"),
        members(
            (0..1000)
                .filter(|n| n % 10 != 9)
                .map(|n| format!("user-{n}"))
                .chain((0..10).map(|n| format!("new-{n}")))
        ),
        "it was killed after it had sent"
    );
    let told = case.run();
    assert!(told["used"] == false && told["why"].as_str().unwrap().contains("of version"), "{told}");
    case.server.sql("insert into carts values ('last')");
    assert_eq!(case.run()["keys_read"], 1);
    // Killed after the table was written, and before the note of it was.
    let notes = case.w.snapshot(".syncline/pushdown");
    case.server.sql("insert into carts values ('later'); delete from carts where identity = 'last'");
    assert_eq!(case.run()["keys_read"], 2);
    std::fs::remove_dir_all(case.w.path(".syncline/pushdown")).unwrap();
    for (path, bytes) in notes {
        case.w.write(path.strip_prefix(case.w.path("")).unwrap().to_str().unwrap(), bytes);
    }
    let told = case.whole_run();
    assert!(told["used"] == false && told["why"].as_str().unwrap().contains("of version"), "{told}");
    assert_eq!(case.whole_run()["used"], true);
}

#[test]
fn whoever_is_erased_is_in_no_table_once_they_are_in_no_record() {
    let Some(case) = case(OWNER, "table: carts", ONE) else { return };
    case.server.sql("create table carts as select 'user-' || n as identity from generate_series(0, 99) n");
    case.run();
    let table = case.table();
    case.w.run(&["forget", "user-7"]).expect(6).says(&["a member of cohort carts"]);
    case.server.sql("delete from carts where identity = 'user-7'");
    case.run();
    assert_eq!(
        case.server.sql(&format!("select count(*) from {table} where member like '%user-7'")).trim(),
        "0"
    );
    let said = case.w.run(&["forget", "user-7"]).expect(0).says(&["of recorded memberships"]);
    assert!(!said.stdout.contains(&table));
    assert_eq!(case.run()["used"], true, "the table is as good as before");
    // A cohort that goes takes its table along.
    let text = config(
        &case.sandbox.url,
        &[],
        &case.server.connection("user: owner, tls: off, pushdown: { schema: syncline }"),
    );
    case.w
        .write("sync.yaml", text.replace("cohorts:\n", "removed: [ { cohort: carts, members: remove } ]\n"));
    case.w.run(&["reconcile"]).expect(0).says(&["removed 99"]);
    assert_eq!((case.table(), case.sandbox.members("carts").len()), (String::new(), 0));
}

/// Devices whose owner is known are moved by this machine, which alone knows.
#[test]
fn owners_that_become_known_move_their_devices() {
    let rules = "    match: [ { external_id: identity }, { device_id: device } ]\n";
    let Some(case) = case(OWNER, "table: carts", rules) else { return };
    case.server.sql(
        "create table carts as select case when n % 2 = 0 then 'u' || n end as identity, 'd' || n as device
         from generate_series(0, 99) n",
    );
    case.run();
    assert_eq!(case.same()["keys_read"], 0);
    case.w.write("who.csv", "id,device\nu1,d1\nu2,d3\nu500,d5\n");
    let import = ["identity", "import", "who.csv", "--external-id", "id", "--device-id", "device"];
    case.w.run(&import).expect(0);
    let told = case.whole_run();
    assert_eq!((&told["used"], &told["keys_read"]), (&true.into(), &100.into()), "{told}");
    let found = case.sandbox.members("carts");
    for (who, is_there) in [("u1", true), ("u500", true)] {
        assert_eq!(found.contains(&format!("external_id {who}")), is_there);
    }
    assert!(
        !found.contains("device_id d1") && !found.contains("device_id d3") && found.contains("device_id d7")
    );
    case.server.sql("insert into carts values (null, 'd1001'), ('u1', 'd1')");
    assert_eq!(case.whole_run()["used"], true);
}

#[test]
fn properties_are_read_and_a_move_goes_all_the_way() {
    const CAMPAIGN: &str = "3aca937b-9bbc-4e42-9370-05e411967b2b";
    let with = "    match: [ { external_id: identity } ]
    on_enter: { campaign: 3aca937b-9bbc-4e42-9370-05e411967b2b, properties: { total: cart_total } }\n";
    let Some(mut case) = case(OWNER, "table: carts", with) else { return };
    let campaign = json!([{ "id": CAMPAIGN, "name": "Welcome", "is_api": true }]);
    case.sandbox.door("/_sandbox/campaigns", &campaign.to_string());
    case.server.sql(
        "create table carts as select 'user-' || n as identity, n as cart_total from generate_series(0, 9) n",
    );
    case.run();
    case.server.sql("insert into carts values ('user-77', 770)");
    assert_eq!(case.run()["keys_read"], 1);
    let sends: Value = serde_json::from_str(&case.sandbox.get("/_sandbox/sends").1).unwrap();
    assert_eq!(sends[0]["recipients"][0]["trigger_properties"], json!({ "total": "770" }));
    // By the other way of delivery, and with a device that is not reached by it.
    let rules =
        "    match: [ { external_id: identity }, { device_id: cart_total } ]\n    deliver: attribute\n";
    case.rules = rules;
    case.asks("pushdown");
    case.server.sql("insert into carts values (null, 771)");
    assert_eq!(case.run(), Value::Null, "nobody is compared while everybody leaves");
    assert_eq!(case.sandbox.members("carts").len(), 0);
    case.run();
    case.server.sql("insert into carts values ('user-78', 780), (null, 772)");
    let told = case.run();
    assert_eq!((&told["used"], &told["keys_read"]), (&true.into(), &3.into()), "{told}");
    let (_, there) = case.sandbox.get("/_sandbox/attributes/syncline_cohorts/carts");
    assert_eq!(there.lines().count(), 11, "attributes make nobody whom Braze does not know: {there}");
}

/// What is there already is built for, and kept up, by a server too.
#[test]
fn a_server_builds_the_table_of_a_cohort_that_is_in_step() {
    let Some(case) = case(OWNER, "table: carts", ONE) else { return };
    case.server.sql("create table carts as select 'user-' || n as identity from generate_series(0, 99) n");
    case.asks("local");
    case.w.run(&["reconcile"]).expect(0);
    assert_eq!(case.table(), "");
    case.asks("pushdown");
    let often = format!("{PATIENCE}  schedule: {{ every: 1s }}\n");
    case.w.write("sync.yaml", case.w.read("sync.yaml") + &often);
    let _watch = Watch::start(&case.w);
    until("the table is there", || !case.table().is_empty());
    let count = || case.server.sql(&format!("select count(*) from {}", case.table()));
    assert_eq!(count().trim(), "100");
    case.server.sql("delete from carts where identity = 'user-7'");
    until("it is kept up", || count().trim() == "99");
    assert_eq!(case.sandbox.members("carts").len(), 99);
}
