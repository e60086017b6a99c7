//! Cohorts from queries over Heap Connect's dumps, with real engines: DuckDB and SQLite.

use std::collections::BTreeMap;

use crate::support::connect::{Cell, Dump, avro};
use crate::support::drivers::Driver;
use crate::support::markdown::code_blocks;
use crate::support::*;

const USERS: [(&str, &str); 3] = [("user_id", "long"), ("identity", "string"), ("Company Size", "long")];
const CHECKOUT: [(&str, &str); 5] = [
    ("event_id", "long"),
    ("user_id", "long"),
    ("time", "long"),
    ("price", "double"),
    ("is_gift", "boolean"),
];
const MIGRATIONS: [(&str, &str); 2] = [("from_user_id", "long"), ("to_user_id", "long")];

/// More rows than one insert has.
const PEOPLE: i64 = 10_000;

fn put(w: &Workspace, dump: Dump) {
    for (path, bytes) in dump.finished() {
        w.write(&format!("dumps/{path}"), bytes);
    }
}

fn user(id: i64, identity: Option<&str>) -> Vec<Cell> {
    vec![Cell::Long(id), Cell::text(identity), Cell::Long(id % 7)]
}

fn event(id: i64, user: i64, price: f64, is_gift: bool) -> Vec<Cell> {
    vec![Cell::Long(id), Cell::Long(user), Cell::Long(1_000 * id), Cell::Real(price), Cell::Bool(is_gift)]
}

/// A full dump and an incremental one: a user has another identity, an event is repeated, an event has an
/// additional and a missing column, anonymous users are identified.
fn history(w: &Workspace) {
    let mut dump = Dump::new(8);
    let named = |id| format!("user-{id}");
    let all_users: Vec<Vec<Cell>> = (0..PEOPLE).map(|id| user(id, Some(&named(id)))).collect();
    let (first, second) = all_users.split_at(all_users.len() / 3);
    let files = vec![avro(&USERS, "snappy", first), avro(&USERS, "deflate", second)];
    dump.table("users", false, &["user_id", "identity", "Company Size"], files);
    dump.rows("user_migrations", false, &MIGRATIONS, &[vec![Cell::Long(90_000), Cell::Long(4)]]);
    let events = [event(1, 1, 10.5, true), event(2, 2, 99.99, true), event(3, 3, 12.25, false)];
    dump.rows("checkout", false, &CHECKOUT, &events);
    put(w, dump);
    let mut dump = Dump::new(9);
    let changed = [user(2, Some("two")), user(PEOPLE, Some("new")), user(PEOPLE + 1, None)];
    dump.rows("users", true, &USERS, &changed);
    let migrations = [[90_000, 5], [90_001, 6]].map(|pair| pair.map(Cell::Long).to_vec());
    dump.rows("user_migrations", false, &MIGRATIONS, &migrations);
    let columns = [("user_id", "long"), ("coupon", "string"), ("event_id", "long"), ("price", "double")];
    let row = |id, user, price, coupon: &str| {
        vec![Cell::Long(user), Cell::Text(coupon.to_owned()), Cell::Long(id), Cell::Real(price)]
    };
    let events = [row(3, 3, 700.125, "it's"), row(4, 90_000, 50.0, "x"), row(5, 90_001, 1.5, "x")];
    dump.rows("checkout", true, &columns, &events);
    put(w, dump);
}

/// A config with this cohort.
fn config_with(w: &Workspace, sandbox: &Sandbox, connection: &str, source: &str) {
    let text = config(&sandbox.url, &["carts"], connection);
    let source = format!("{{ kind: heap_connect, path: dumps, connection: warehouse, {source} }}");
    w.write("sync.yaml", text.replace("{ kind: file, path: carts.csv }", &source));
}

fn query(tables: &str, query: &str) -> String {
    format!("tables: [{tables}], query: \"{query}\"")
}

/// Calls `test` with each installed driver and a file that contains tables of the same names.
fn for_each_driver(check: impl Fn(&Workspace, &Sandbox, &Driver)) {
    for driver in [Driver::sqlite(), Driver::duckdb()].into_iter().flatten() {
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        w.write("own/README", "a database of its own");
        for table in ["users", "blocked"] {
            let rows = "select 'two' as identity, '2' as user_id";
            driver.sql(&w.path("own/data.db"), &format!("create table {table} as {rows}"));
        }
        history(&w);
        check(&w, &sandbox, &driver);
    }
}

fn users_of(sandbox: &Sandbox) -> String {
    let all: Vec<String> = sandbox.members("carts").into_iter().collect();
    all.join(", ").replace("external_id ", "")
}

/// An event joined with its user after both dumps, following merges.
const JOIN: &str = "select u.identity from checkout c left join user_migrations m on m.from_user_id = c.user_id \
    join users u on u.user_id = coalesce(m.to_user_id, c.user_id)";

#[test]
fn events_are_joined_with_users_and_temporary_tables_are_removed() {
    for_each_driver(|w, sandbox, driver| {
        let own = w.snapshot("own");
        for file in ["own/data.db", "\":memory:\""] {
            let connection = driver.connection(file, "");
            let tables = "checkout, users, user_migrations";
            let expect_result = |rest: &str, expected: &str| {
                config_with(w, sandbox, &connection, rest);
                let text = w.read("sync.yaml") + "    guard: { max_removed: 100%, max_added: 1000% }\n";
                w.write("sync.yaml", text);
                w.run(&["reconcile"]).expect(0);
                assert_eq!(users_of(sandbox), expected, "{rest}");
            };
            expect_result(&query(tables, JOIN), "two, user-1, user-3, user-5, user-6");
            let number = |what: &str| format!("{JOIN} where cast(c.price as double precision) {what}");
            expect_result(&query(tables, &number("between 10.5 and 99.99")), "two, user-1, user-5");
            expect_result(&query(tables, &format!("{JOIN} where c.price = '700.125'")), "user-3");
            // Columns that a dump lacks are null.
            expect_result(&query(tables, &format!("{JOIN} where c.is_gift = 'true'")), "two, user-1");
            expect_result(
                &query(tables, &format!("{JOIN} where c.is_gift is null")),
                "user-3, user-5, user-6",
            );
            let params = ", params: [\"it's\", 4]";
            let coupon =
                format!("{JOIN} where c.coupon = ? and cast(c.event_id as bigint) < cast(? as bigint)");
            expect_result(&(query(tables, &coupon) + params), "user-3");
            w.write("lately.sql", format!("{JOIN}\nwhere cast(c.time as bigint) >= 2000;\n"));
            expect_result(&format!("tables: [{tables}], query_file: lately.sql"), "two");
            // Each row once, and no rows of the file's own table.
            let all = format!(
                "select identity from users where cast(user_id as bigint) >= {PEOPLE} \
                 and (select count(*) from users) = {}",
                PEOPLE + 2
            );
            expect_result(&query("users", &all), "new");
            let quoted =
                "select identity from users where \\\"Company Size\\\" = '3' and length(user_id) = 1";
            expect_result(&query("users", quoted), "user-3");
        }
        assert_eq!(w.snapshot("own"), own, "the database is unchanged");
        // Tables of the database itself can be queried as well.
        config_with(
            w,
            sandbox,
            &driver.connection("own/data.db", ""),
            &query("checkout", "select b.identity from blocked b join checkout using (user_id)"),
        );
        w.run(&["reconcile", "--max-removes", "carts=9"]).expect(0);
        assert_eq!(users_of(sandbox), "two");
        w.run(&["doctor"]).says(&["the newest is dump 9, with 3 tables"]);
        assert_eq!(w.snapshot("own"), own, "the database is unchanged");
    });
}

/// A table that could not be read completely proves no absence.
#[test]
fn an_incomplete_dump_changes_no_membership() {
    for_each_driver(|w, sandbox, driver| {
        let connection = driver.connection("own/data.db", "");
        let without = "select identity from users where cast(user_id as bigint) < 10 \
            and user_id not in (select user_id from checkout)";
        config_with(w, sandbox, &connection, &query("users, checkout", without));
        w.run(&["reconcile"]).expect(0);
        let all = "user-0, user-4, user-5, user-6, user-7, user-8, user-9";
        assert_eq!(users_of(sandbox), all);
        let manifest = w.read("dumps/manifests/sync_9.json");
        let expect_error = |says: &[&str]| {
            w.run(&["reconcile"]).expect(1).says(says);
            assert_eq!(users_of(sandbox), all);
        };
        w.write("dumps/manifests/sync_9.json", &manifest[..60]);
        expect_error(&["sync_9.json is damaged"]);
        w.write(
            "dumps/manifests/sync_9.json",
            manifest.replace("checkout/part-00002", "checkout/part-00009"),
        );
        expect_error(&["table `checkout` has the file", "which does not exist"]);
        w.write("dumps/manifests/sync_9.json", &manifest);
        let files: BTreeMap<_, _> = w.snapshot("dumps/sync_9/checkout").into_iter().collect();
        let (path, bytes) = files.first_key_value().unwrap();
        let name = format!("dumps/sync_9/checkout/{}", path.file_name().unwrap().to_str().unwrap());
        w.write(&name, &bytes[..bytes.len() - 5]);
        expect_error(&[&name, "cannot be read as Avro"]);
        let mut lacks = event(7, 7, 1.0, true);
        lacks[0] = Cell::Null;
        w.write(&name, avro(&CHECKOUT, "null", &[event(6, 6, 1.0, true), lacks]));
        expect_error(&[&name, "row 2", "it has no key"]);
        w.write(&name, bytes);
        w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    });
}

#[test]
fn each_mistake_in_a_query_has_its_own_message() {
    for_each_driver(|w, sandbox, driver| {
        let own = w.snapshot("own");
        let connection = driver.connection("own/data.db", "");
        let expect_result = |tables: &str, text: &str, says: &[&str]| {
            config_with(w, sandbox, &connection, &query(tables, text));
            w.run(&["reconcile"]).expect(1).says(says);
        };
        let refuses = "database `warehouse` rejects the query";
        expect_result("users", "select identity from users where handle = 'x'", &[refuses, "handle"]);
        expect_result(
            "users",
            "select identity as identify from users",
            &["no column `identity`", "Did you mean `identify`?"],
        );
        expect_result(
            "users",
            "select identity from users join checkout using (user_id)",
            &[refuses, "checkout"],
        );
        expect_result("users", "delete from blocked returning identity", &[refuses]);
        let two =
            "select identity from users) as asked; delete from blocked; select * from (select 1 as identity";
        expect_result("users", two, &["more than one statement"]);
        expect_result(
            "users, orders",
            "select identity from users",
            &["no dump has a table `orders`", "the newest dump has: users, user_migrations, checkout"],
        );
        let mut dump = Dump::new(10);
        let columns = [("event_id", "long"), ("plan", "string"), ("Plan", "string")];
        dump.rows("signup", false, &columns, &[vec![Cell::Long(1), Cell::Null, Cell::Null]]);
        put(w, dump);
        expect_result(
            "signup",
            "select plan as identity from signup",
            &["database `warehouse` rejects the temporary table `signup`", "`Plan` and `plan` are the same"],
        );
        assert_eq!(w.snapshot("own"), own, "the database is unchanged");
        assert_eq!(sandbox.writes(), 0);
    });
}

/// A table without rows still has its columns.
#[test]
fn a_table_without_rows_is_an_empty_table() {
    for_each_driver(|w, sandbox, driver| {
        let mut dump = Dump::new(10);
        dump.rows("signup", false, &[("event_id", "long"), ("user_id", "long")], &[]);
        dump.table("refund", false, &["event_id", "user_id"], Vec::new());
        put(w, dump);
        let no_rows = "select identity from users where user_id in ('1', '2') \
            and user_id not in (select user_id from signup) and user_id not in (select user_id from refund)";
        let connection = driver.connection("\":memory:\"", "");
        // Options of the driver may be secrets.
        let hidden =
            connection.replace("options: {", "secrets: {").replace("\":memory:\"", "{ env: HIDDEN }");
        config_with(w, sandbox, &hidden, &query("users, signup, refund", no_rows));
        let mut command = w.command(&["reconcile"]);
        command.env("HIDDEN", ":memory:");
        run(command).expect(0).says(&["added 2"]);
        assert_eq!(users_of(sandbox), "two, user-1");
    });
}

/// The example of the documentation, verbatim.
#[test]
fn the_example_of_the_documentation_works_in_duckdb() {
    let Some(driver) = Driver::duckdb() else { return };
    let page = std::fs::read_to_string(root().join("docs/guides/heap-connect.md")).unwrap();
    let blocks = code_blocks(&page);
    let block = blocks.iter().find(|block| block.note == "example: heap-connect-query").unwrap();
    let (_, example) = block.text.split_once("source:\n      kind: heap_connect\n").unwrap();
    let example = example.replace("s3://heap-rs3-acme", "dumps");
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    history(&w);
    #[allow(clippy::disallowed_methods, reason = "events of late, for a query that asks the clock")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let event = |id, user, price, days: i64| {
        let mut cells = event(id, user, price, false);
        cells[2] = Cell::Long(now as i64 - days * 86_400_000);
        cells
    };
    let mut dump = Dump::new(10);
    let events =
        [event(1, 1, 99.5, 1), event(2, 1, 1.0, 29), event(3, 3, 100.0, 1), event(4, 90_001, 101.0, 2)];
    dump.rows("checkout", true, &CHECKOUT, &events);
    put(&w, dump);
    let mut dump = Dump::new(11);
    dump.rows("checkout", true, &CHECKOUT, &[event(5, 7, 500.0, 31)]);
    put(&w, dump);
    let connection = driver.connection("\":memory:\"", "").replace("warehouse:", "duck:");
    let text = config(&sandbox.url, &["carts"], &connection);
    let source = format!("source:\n      kind: heap_connect\n{}", example.trim_end());
    w.write("sync.yaml", text.replace("source: { kind: file, path: carts.csv }", &source));
    w.run(&["reconcile"]).expect(0);
    assert_eq!(users_of(&sandbox), "user-1, user-6");
}
