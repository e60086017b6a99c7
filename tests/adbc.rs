//! Cohorts from warehouses through ADBC drivers, with real ones: SQLite's and DuckDB's.

use crate::support::drivers::Driver;
use crate::support::*;

/// A config with a cohort `carts` that reads through this connection.
fn config_with(w: &Workspace, sandbox: &Sandbox, connection: &str, source: &str) {
    let text = config(&sandbox.url, &["carts"], connection);
    let source = format!("{{ kind: sql, connection: warehouse, {source} }}");
    w.write("sync.yaml", text.replace("{ kind: file, path: carts.csv }", &source));
}

/// Calls `test` with each installed driver and a file that contains these users in the table `carts`.
fn for_each_driver(check: impl Fn(&Workspace, &Sandbox, &Driver)) {
    for driver in [Driver::sqlite(), Driver::duckdb()].into_iter().flatten() {
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        let rows = "with recursive n(i) as (select 0 union all select i + 1 from n where i < 9999) \
            select 'user-' || i as identity, i as age from n";
        driver.sql(&w.path("data.db"), &format!("create table carts as {rows}"));
        check(&w, &sandbox, &driver);
    }
}

#[test]
fn a_table_and_a_query_with_values_are_cohorts() {
    for_each_driver(|w, sandbox, driver| {
        let connection = driver.connection("data.db", "");
        config_with(w, sandbox, &connection, "table: carts");
        w.run(&["reconcile"]).expect(0).says(&["added 10,000"]);
        assert_eq!(sandbox.members("carts"), members(users(10_000)));
        w.run(&["reconcile"]).expect(0).says(&["In sync: 1 cohort, 10,000 members, 0 requests"]);
        let query =
            "query: \"select identity from carts where age < cast(? as integer) and identity like ?\"";
        config_with(w, sandbox, &connection, &format!("{query}, params: [9900, 'user-%']"));
        w.run(&["reconcile"]).expect(0).says(&["removed 100"]);
    });
}

#[test]
fn numbers_and_bytes_are_identifiers_and_nulls_are_rejects() {
    for_each_driver(|w, sandbox, driver| {
        let connection = driver.connection("data.db", "");
        for (values, expected) in [
            ("(1), (9007199254740993)", ["external_id 1", "external_id 9007199254740993"]),
            ("('a,b'), (null), (''), ('ü')", ["external_id a,b", "external_id ü"]),
            ("(cast('ab' as blob)), (cast('cd' as blob))", ["external_id ab", "external_id cd"]),
        ] {
            let query = format!("query: \"with v(identity) as (values {values}) select * from v\"");
            config_with(w, sandbox, &connection, &query);
            let text = w.read("sync.yaml") + "    guard: { max_removed: 100%, max_added: 1000% }\n";
            w.write("sync.yaml", text);
            w.run(&["reconcile"]).expect(0);
            assert_eq!(sandbox.members("carts"), expected.map(str::to_owned).into(), "{values}");
        }
    });
}

#[test]
fn each_failure_has_its_own_message_and_removes_no_members() {
    for_each_driver(|w, sandbox, driver| {
        let connection = driver.connection("data.db", "");
        config_with(w, sandbox, &connection, "table: carts");
        w.run(&["reconcile"]).expect(0);
        let attempt = |connection: &str, source: &str| {
            config_with(w, sandbox, connection, source);
            w.run(&["reconcile"])
        };
        attempt(&connection, "table: nowhere").expect(1).says(&["rejects the query", "nowhere"]);
        attempt(&connection, "query: \"select 1 as identify\"")
            .expect(1)
            .says(&["no column `identity`", "Did you mean `identify`?"]);
        attempt(&connection, "query: \"delete from carts returning identity\"")
            .expect(1)
            .says(&["rejects the query"]);
        let closes = "query: \"select identity from carts) as asked; delete from carts; select * from (select 1 as identity\"";
        attempt(&connection, closes).expect(1).says(&["more than one statement"]);
        let endless = "query: \"with recursive n(i) as (select 0 union all select i + 1 from n) \
            select 'user-' || i as identity from n\"";
        let short = driver.connection("data.db", ", statement_timeout: 1s");
        attempt(&short, endless).expect(5).says(&["took longer than 1 s", "statement_timeout"]);
        let nowhere = driver.connection("nowhere/data.db", "");
        attempt(&nowhere, "table: carts")
            .expect(5)
            .says(&["cannot be reached", "no member was added or removed"]);
        w.write("broken.db", "this is not a database".repeat(100));
        let broken = driver.connection("broken.db", "");
        let run = attempt(&broken, "table: carts");
        assert!([1, 5].contains(&run.code), "{run:?}");
        attempt(&connection, "table: carts").expect(0);
        assert_eq!(
            sandbox.members("carts"),
            members(users(10_000)),
            "no member left, and nothing was written"
        );
    });
}

#[test]
fn a_missing_or_invalid_driver_is_an_error() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("drivers/text.so", "no library");
    for driver in ["warehouse_of_tomorrow", "drivers/gone.so", "drivers/text.so"] {
        let connection = format!("  warehouse: {{ kind: adbc, driver: {driver} }}\n");
        config_with(&w, &sandbox, &connection, "table: carts");
        w.run(&["reconcile"]).expect(1).says(&["the driver of database `warehouse`", "install the driver"]);
    }
    assert_eq!(sandbox.writes(), 0);
}

/// SQLite's driver and DuckDB's CSV reader derive the type of a column from its first rows. A later row of
/// another type is not a broken connection: the message names the column and the cast.
#[test]
fn a_type_derived_from_the_first_rows_has_its_own_message() {
    for_each_driver(|w, sandbox, driver| {
        let connection = driver.connection("data.db", "");
        config_with(w, sandbox, &connection, "table: carts");
        w.run(&["reconcile"]).expect(0);
        let mixed = |sql: &str| {
            let query = if driver.option == "uri" {
                let value = "case when age < 5000 then age else 'user-' || age end";
                format!("select 'x' as other, {} as identity from carts", sql.replace("identity", value))
            } else {
                let ids = (0..60_000).map(|n| if n < 50_000 { n.to_string() } else { format!("user-{n}") });
                w.write("ids.csv", csv(ids));
                let all = if sql == "identity" { "" } else { ", all_varchar = true" };
                format!("select identity from read_csv('{}'{all})", w.path("ids.csv").display())
            };
            config_with(w, sandbox, &connection, &format!("query: \"{query}\""));
            w.run(&["plan"])
        };
        mixed("identity").expect(1).says(&[
            "took the type of column `identity` from its first rows, and a later row has another type",
            "cast(identity as text)",
        ]);
        let plan = mixed("cast(identity as text)");
        assert!([0, 2, 6].contains(&plan.code), "every row is read after the cast: {plan:?}");
        assert_eq!(sandbox.members("carts"), members(users(10_000)), "no member was added or removed");
    });
}

/// Error texts of a driver may contain its options.
#[test]
fn a_secret_that_a_driver_repeats_is_not_shown() {
    for_each_driver(|w, sandbox, driver| {
        let connection = driver.connection("data.db", "");
        let connection = connection.replace("options: {", "secrets: {").replace("data.db", "{ env: HIDDEN }");
        config_with(w, sandbox, &connection, "table: carts");
        let mut command = w.command(&["reconcile", "-vvv"]);
        command.env("HIDDEN", "nowhere/canary-of-the-mine.db");
        let run = run(command).expect(5).says(&["cannot be reached"]);
        assert!(!(run.stdout + &run.stderr).contains("canary"));
        let mut command = w.command(&["reconcile"]);
        command.env_remove("HIDDEN");
        let lacks = crate::support::run(command).expect(4);
        lacks.says(&["connection `warehouse` has no", driver.option, "set HIDDEN"]);
        let mut command = w.command(&["reconcile"]);
        command.env("HIDDEN", "data.db");
        crate::support::run(command).expect(0).says(&["added 10,000"]);
    });
}
