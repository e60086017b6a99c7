//! `diff: pushdown` with a real PostgreSQL: equal results to reading everything, bytes on the wire, and lost,
//! stale or edited mirror tables.

use serde_json::{Value, json};

use crate::support::postgres::Postgres;
use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

const OWNER: &str = "user: owner, tls: off";
const ONE: &str = "    match: [ { external_id: identity } ]\n";

/// A cohort that is compared in the database, and also locally to check equality.
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
    case.configure("pushdown");
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

    fn configure(&self, diff: &str) {
        self.write(self.connection, self.source, diff);
    }

    /// Plans with both kinds of diff and checks equality. Returns the pushdown report.
    #[track_caller]
    fn plan_both_ways(&self) -> Value {
        let plan = || self.w.run(&["plan", "--format", "json"]).expect(0).json();
        let pushed = plan();
        self.configure("local");
        let local = plan();
        self.configure("pushdown");
        assert_eq!(pushed["digest"], local["digest"], "{pushed:#}\n{local:#}");
        assert_eq!(cohort(&pushed)["changes"], cohort(&local)["changes"]);
        let source = |plan: &Value| {
            let mut source = cohort(plan)["source"].clone();
            // Members that differ only by case can only be counted with all members.
            source.as_object_mut().unwrap().remove("case_colliding");
            source
        };
        assert_eq!(source(&pushed), source(&local));
        assert_eq!(cohort(&local)["pushdown"], Value::Null);
        cohort(&pushed)["pushdown"].clone()
    }

    /// The same, then applies the plan.
    #[track_caller]
    fn apply_both_ways(&self) -> Value {
        let reported = self.plan_both_ways();
        let done = self.w.run(&["reconcile", "--format", "json"]).json();
        assert_eq!(cohort(&done)["pushdown"]["table_error"], Value::Null, "{done:#}");
        reported
    }

    /// As [`Self::apply_both_ways`], then checks the members in Braze.
    #[track_caller]
    fn apply_and_check_members(&self) -> Value {
        let reported = self.apply_both_ways();
        self.configure("local");
        assert_eq!(self.w.run(&["plan", "--format", "json"]).expect(0).json()["result"], "in_sync");
        self.configure("pushdown");
        reported
    }

    fn table(&self) -> String {
        let tables =
            "select 'syncline.' || quote_ident(tablename) from pg_tables where schemaname = 'syncline'";
        self.server.sql(tables).trim().to_owned()
    }
}

#[test]
fn only_differences_are_transferred() {
    let Some(case) = case(OWNER, "table: carts", ONE) else { return };
    case.server.sql("create table carts as select 'user-' || n as identity from generate_series(0, 9999) n");
    let first = case.apply_both_ways();
    assert_eq!(first["used"], false, "{first}");
    assert_eq!(case.server.sql(&format!("select count(*) from {}", case.table())).trim(), "10000");
    let second = case.plan_both_ways();
    assert_eq!((&second["used"], &second["keys_read"]), (&true.into(), &0.into()), "{second}");
    // Without changes nothing is written.
    let written = |case: &Case| {
        case.server.sql("select pg_stat_force_next_flush(), sum(n_tup_ins + n_tup_del) from pg_stat_user_tables where schemaname = 'syncline'")
    };
    let before = written(&case);
    case.apply_both_ways();
    assert_eq!(written(&case), before);
    case.server.sql(
        "delete from carts where identity in (select 'user-' || n from generate_series(0, 99) n);
         insert into carts select 'new-' || n from generate_series(0, 99) n",
    );
    let third = case.apply_both_ways();
    assert_eq!((&third["keys_read"], &third["rows"]), (&200.into(), &10_000.into()), "{third}");
    case.w.run(&["plan"]).expect(0).says(&["pushdown: 0 of 10,000 rows were transferred"]);
    // So many changes that the parts of the membership are merged, which changes no members.
    let oid = || case.server.sql(&format!("select '{}'::regclass::oid", case.table()));
    let before = oid();
    case.server.sql("update carts set identity = 'late-' || identity where identity like '%2' or identity like '%3' or identity like '%4'");
    case.apply_both_ways();
    let merged = case.apply_and_check_members();
    assert_eq!((&merged["used"], &merged["keys_read"]), (&true.into(), &0.into()), "{merged}");
    assert_eq!(oid(), before, "the table was updated, not rebuilt");
    assert_eq!(case.sandbox.members("carts").len(), 10_000);
}

const RULES: &str = "    match: [ { external_id: identity }, { alias: { label: \"it's \\\\a:\", name: crm } }, { device_id: device } ]\n";

/// Rows of every kind, generated by the database from a number and a seed.
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

/// Some of these are rejected.
const REJECTED: &str = r#"[
    { "on": "users", "contains": "\"u30\"", "times": 0, "do": { "reply": { "status": 400, "body": { "message": "no" } } } },
    { "on": "users", "contains": "\"c7\"", "times": 0, "do": { "reply": { "status": 400, "body": { "message": "no" } } } }
]"#;

#[test]
fn random_rows_give_the_same_result_as_reading_them() {
    let source = "table: carts, null_values: [n.a., ' odd ', 'ö']";
    let Some(case) = case(OWNER, source, RULES) else { return };
    case.server.sql("create table carts (identity text, crm text, device text)");
    let mut used = 0;
    for seed in 1..=7 {
        case.server.sql(&corpus(seed));
        // Some are rejected, some get no response.
        case.sandbox.faults(match seed {
            2 => REJECTED,
            4 => r#"[{ "on": "users", "times": 0, "do": "lose_answer" }]"#,
            _ => "[]",
        });
        let reported = if seed < 5 { case.apply_both_ways() } else { case.apply_and_check_members() };
        used += u64::from(reported["used"] == true);
        let (rows, read) = (reported["rows"].as_u64(), reported["keys_read"].as_u64());
        assert!(reported["used"] == false || (rows == Some(3000) && read < rows), "{reported}");
        let twice = case.plan_both_ways();
        assert_eq!(twice["used"], true, "{twice}");
    }
    assert!(used >= 5, "{used}");
}

#[test]
fn numbers_uuids_and_bytes_give_the_same_result_as_reading_them() {
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
        case.apply_both_ways();
        case.server.sql("insert into carts select * from carts limit 7; delete from carts where ctid in (select ctid from carts limit 10)");
        let reported = case.apply_both_ways();
        assert_eq!(reported["used"], used, "{kind}: {reported}");
        assert!(used || reported["reason"].as_str().unwrap().contains("holds bytes"), "{reported}");
    }
}

#[test]
fn query_parameters_keep_their_numbers_in_any_query() {
    let source = r#"query: "with syncline_rows as (select * from carts) select identity, 1 as asked from syncline_rows where n < $1 and identity like $2 -- so", params: [900, 'us%']"#;
    let Some(case) = case(OWNER, source, ONE) else { return };
    case.server
        .sql("create table carts as select n, 'user-' || n as identity from generate_series(0, 999) n");
    case.apply_both_ways();
    case.server.sql("update carts set n = n + 100 where n < 500");
    assert_eq!(case.apply_both_ways()["used"], true);
    // A query with other columns, or one that would write, has the usual error.
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
fn a_lost_stale_or_edited_mirror_table_is_rebuilt() {
    let Some(case) = case(OWNER, "table: carts", ONE) else { return };
    case.server.sql("create table carts as select 'user-' || n as identity from generate_series(0, 999) n");
    case.apply_both_ways();
    let w = &case.w;
    let table = case.table();
    let sql = |text: String| drop(case.server.sql(&text));
    let harms: [(&str, &dyn Fn(), &str); 6] = [
        ("dropped", &|| sql(format!("drop table {table}")), "does not exist"),
        (
            "edited",
            &|| sql(format!("update {table} set member = 'e:mallory' where member = 'e:user-500'")),
            "holds other members",
        ),
        (
            "emptied in part",
            &|| sql(format!("delete from {table} where member like '%7'")),
            "members in its mirror table: 9",
        ),
        (
            "twice",
            &|| sql(format!("insert into {table} select * from {table} limit 1")),
            "members in its mirror table: 1001",
        ),
        (
            "another table",
            &|| sql(format!("drop table {table}; create table {table} (n int)")),
            "cannot be read",
        ),
        (
            "the note is lost",
            &|| std::fs::remove_dir_all(w.path(".syncline/mirror_tables")).unwrap(),
            "it has no mirror table yet",
        ),
    ];
    for (at, (what, harm, why)) in harms.iter().enumerate() {
        harm();
        case.server.sql(&format!(
            "insert into carts values ('late-{at}'); delete from carts where identity = 'user-{at}'"
        ));
        let reported = case.apply_both_ways();
        assert_eq!(reported["used"], false, "{what}: {reported}");
        assert!(reported["reason"].as_str().unwrap().contains(why), "{what}: {reported}");
        w.run(&["plan"]).expect(0).says(&["pushdown: 0 of 1,000 rows"]);
        assert_eq!(case.table(), table, "{what}");
    }
    // A run without pushdown changes the membership and drops the mirror table.
    case.write(OWNER, "table: carts", "local");
    case.server.sql("insert into carts values ('unseen')");
    w.run(&["reconcile"]).expect(0).says(&["added 1"]);
    assert_eq!(case.table(), "", "no user is left in an unused table");
    case.write(OWNER, "table: carts", "pushdown");
    assert_eq!(case.apply_both_ways()["used"], false);
    assert_eq!(case.plan_both_ways()["used"], true);
}

#[test]
fn without_write_permission_the_source_is_read_in_full_and_reported() {
    let Some(case) = case("user: reader, tls: off", "table: carts", ONE) else { return };
    case.server.sql(
        "create table carts as select 'user-' || n as identity from generate_series(0, 99) n;
         create schema syncline; create role reader login; grant select on carts to reader",
    );
    let (w, sandbox) = (&case.w, &case.sandbox);
    w.run(&["doctor"]).expect(11).says(&[
        "cannot create tables in schema `syncline`",
        "grant usage, create on schema \"syncline\" to \"reader\"",
    ]);
    let reported = w.run(&["reconcile"]).expect(0);
    reported.says(&["added 100", "could not be written", "permission denied for schema syncline"]);
    assert_eq!(sandbox.members("carts").len(), 100);
    case.server.sql("grant usage, create on schema syncline to reader");
    w.run(&["doctor"]).expect(0).says(&["mirror tables can be created in schema `syncline`"]);
    assert_eq!(case.apply_both_ways()["used"], false);
    assert_eq!(case.plan_both_ways()["used"], true);
    // A missing schema is created with sufficient permissions.
    case.server.sql("drop schema syncline cascade");
    w.run(&["doctor"]).expect(11).says(&["create schema \"syncline\" authorization \"reader\""]);
    case.server.sql("grant create on database postgres to reader");
    w.run(&["doctor"]).expect(0);
    case.apply_both_ways();
    assert_eq!(case.plan_both_ways()["used"], true);
}

/// A crash between the mirror table and its note, or between the membership and both, leaves nothing that is
/// trusted.
#[test]
fn a_kill_before_the_mirror_table_is_written_is_recovered() {
    let Some(case) = case(OWNER, "table: carts", ONE) else { return };
    case.server.sql("create table carts as select 'user-' || n as identity from generate_series(0, 999) n");
    case.apply_both_ways();
    let table = case.table();
    case.server.sql("delete from carts where identity like '%9'; insert into carts select 'new-' || n from generate_series(0, 9) n");
    // The table cannot be written while another session locks it.
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
    until("the connection is held", || {
        waits("query like '%pg_sleep(60)' and state = 'active' and wait_event = 'PgSleep'")
    });
    let mut run = case.w.command(&["reconcile"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    until("the run waits for the lock", || {
        waits("application_name = 'syncline' and wait_event_type = 'Lock'")
    });
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
    let reported = case.apply_both_ways();
    assert!(
        reported["used"] == false && reported["reason"].as_str().unwrap().contains("has version"),
        "{reported}"
    );
    case.server.sql("insert into carts values ('last')");
    assert_eq!(case.apply_both_ways()["keys_read"], 1);
    // Killed after the table was written and before its note.
    let notes = case.w.snapshot(".syncline/mirror_tables");
    case.server.sql("insert into carts values ('later'); delete from carts where identity = 'last'");
    assert_eq!(case.apply_both_ways()["keys_read"], 2);
    std::fs::remove_dir_all(case.w.path(".syncline/mirror_tables")).unwrap();
    for (path, bytes) in notes {
        case.w.write(path.strip_prefix(case.w.path("")).unwrap().to_str().unwrap(), bytes);
    }
    let reported = case.apply_and_check_members();
    assert!(
        reported["used"] == false && reported["reason"].as_str().unwrap().contains("has version"),
        "{reported}"
    );
    assert_eq!(case.apply_and_check_members()["used"], true);
}

#[test]
fn an_erased_user_is_in_no_mirror_table() {
    let Some(case) = case(OWNER, "table: carts", ONE) else { return };
    case.server.sql("create table carts as select 'user-' || n as identity from generate_series(0, 99) n");
    case.apply_both_ways();
    let table = case.table();
    case.w.run(&["forget", "user-7"]).expect(6).says(&["a member of cohort carts"]);
    case.server.sql("delete from carts where identity = 'user-7'");
    case.apply_both_ways();
    assert_eq!(
        case.server.sql(&format!("select count(*) from {table} where member like '%user-7'")).trim(),
        "0"
    );
    let said = case.w.run(&["forget", "user-7"]).expect(0).says(&["of recorded memberships"]);
    assert!(!said.stdout.contains(&table));
    assert_eq!(case.apply_both_ways()["used"], true, "the table is as current as before");
    // Removing a cohort drops its mirror table.
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

/// Devices with known owners are re-keyed by this machine, which has the identity map.
#[test]
fn new_owners_rekey_their_devices() {
    let rules = "    match: [ { external_id: identity }, { device_id: device } ]\n";
    let Some(case) = case(OWNER, "table: carts", rules) else { return };
    case.server.sql(
        "create table carts as select case when n % 2 = 0 then 'u' || n end as identity, 'd' || n as device
         from generate_series(0, 99) n",
    );
    case.apply_both_ways();
    assert_eq!(case.plan_both_ways()["keys_read"], 0);
    case.w.write("who.csv", "id,device\nu1,d1\nu2,d3\nu500,d5\n");
    let import = ["identity", "import", "who.csv", "--external-id", "id", "--device-id", "device"];
    case.w.run(&import).expect(0);
    let reported = case.apply_and_check_members();
    assert_eq!((&reported["used"], &reported["keys_read"]), (&true.into(), &100.into()), "{reported}");
    let found = case.sandbox.members("carts");
    for (who, is_there) in [("u1", true), ("u500", true)] {
        assert_eq!(found.contains(&format!("external_id {who}")), is_there);
    }
    assert!(
        !found.contains("device_id d1") && !found.contains("device_id d3") && found.contains("device_id d7")
    );
    case.server.sql("insert into carts values (null, 'd1001'), ('u1', 'd1')");
    assert_eq!(case.apply_and_check_members()["used"], true);
}

#[test]
fn properties_are_read_and_a_delivery_change_completes() {
    const CAMPAIGN: &str = "3aca937b-9bbc-4e42-9370-05e411967b2b";
    let with = "    match: [ { external_id: identity } ]
    on_enter: { campaign: 3aca937b-9bbc-4e42-9370-05e411967b2b, properties: { total: cart_total } }\n";
    let Some(mut case) = case(OWNER, "table: carts", with) else { return };
    let campaign = json!([{ "id": CAMPAIGN, "name": "Welcome", "is_api": true }]);
    case.sandbox.admin_post("/_sandbox/campaigns", &campaign.to_string());
    case.server.sql(
        "create table carts as select 'user-' || n as identity, n as cart_total from generate_series(0, 9) n",
    );
    case.apply_both_ways();
    case.server.sql("insert into carts values ('user-77', 770)");
    assert_eq!(case.apply_both_ways()["keys_read"], 1);
    let sends: Value = serde_json::from_str(&case.sandbox.get("/_sandbox/sends").1).unwrap();
    assert_eq!(sends[0]["recipients"][0]["trigger_properties"], json!({ "total": "770" }));
    // With the other delivery, and with a device that it does not reach.
    let rules =
        "    match: [ { external_id: identity }, { device_id: cart_total } ]\n    deliver: attribute\n";
    case.rules = rules;
    case.configure("pushdown");
    case.server.sql("insert into carts values (null, 771)");
    assert_eq!(case.apply_both_ways(), Value::Null, "nothing is compared while all members leave");
    assert_eq!(case.sandbox.members("carts").len(), 0);
    case.apply_both_ways();
    case.server.sql("insert into carts values ('user-78', 780), (null, 772)");
    let reported = case.apply_both_ways();
    assert_eq!((&reported["used"], &reported["keys_read"]), (&true.into(), &3.into()), "{reported}");
    let (_, there) = case.sandbox.get("/_sandbox/attributes/syncline_cohorts/carts");
    assert_eq!(there.lines().count(), 12, "each identifier has a profile: {there}");
}

/// `watch` also builds and maintains the mirror table of an existing cohort.
#[test]
fn watch_builds_the_mirror_table_of_a_cohort_in_sync() {
    let Some(case) = case(OWNER, "table: carts", ONE) else { return };
    case.server.sql("create table carts as select 'user-' || n as identity from generate_series(0, 99) n");
    case.configure("local");
    case.w.run(&["reconcile"]).expect(0);
    assert_eq!(case.table(), "");
    case.configure("pushdown");
    let often = format!("{SHORT_TIMEOUTS}  schedule: {{ every: 1s }}\n");
    case.w.write("sync.yaml", case.w.read("sync.yaml") + &often);
    let _watch = Watch::start(&case.w);
    until("the mirror table exists", || !case.table().is_empty());
    let count = || case.server.sql(&format!("select count(*) from {}", case.table()));
    assert_eq!(count().trim(), "100");
    case.server.sql("delete from carts where identity = 'user-7'");
    until("the mirror table is updated", || count().trim() == "99");
    assert_eq!(case.sandbox.members("carts").len(), 99);
}
