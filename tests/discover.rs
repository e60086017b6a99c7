//! `discover` and `import`: existing tables, segments and cohorts become a working config; existing entries are
//! never overwritten.

use crate::support::drivers::Driver;
use crate::support::postgres::Postgres;
use crate::support::*;

/// A config with one cohort from a file, and more connections.
fn with_connections(w: &Workspace, sandbox: &Sandbox, more: &str) {
    w.source("carts", users(3)).write("found-none.yaml", "# nothing yet\n");
    w.write("sync.yaml", config(&sandbox.url, &["carts"], more) + "include: [found*.yaml]\n");
}

#[test]
fn tables_with_users_become_cohorts_that_can_be_planned() {
    let Some(server) = Postgres::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    server.sql(
        r#"create schema "Acme"; create schema heap;
         create table heap.abandoned_checkout as select 'user-' || n as identity, n as user_id from generate_series(1, 9) n;
         create table heap.carts as select n as "USER_ID" from generate_series(1, 5) n;
         create table heap.pageviews (event_id int, user_id int); create table heap.user_migrations (from_user_id int, user_id int);
         create table heap.prices (cents int);
         create table "Acme"."VIP list" as select 'a@example.com' as "Email", 'x' as device_id;
         analyze"#,
    );
    with_connections(&w, &sandbox, &server.connection("user: owner, tls: off"));
    let found = w
        .run(&["discover"])
        .expect(0)
        .says(&["warehouse: 3 of 6 tables could be cohorts", "no row was read"]);
    for text in [
        "  # about 9 rows\n  # its columns: identity, user_id\n  - id: abandoned_checkout\n    name: Abandoned checkout\n    to: braze\n",
        "    source: {kind: sql, connection: warehouse, table: heap.abandoned_checkout}\n    match:\n      - external_id: identity\n      - alias: {label: heap_user_id, name: user_id}\n",
        "  - id: carts_2\n    name: Carts 2\n",
        "name: USER_ID}",
        r#"query: select * from "Acme"."VIP list"}"#,
        "external_id: Email\n      - device_id: device_id\n",
    ] {
        assert!(found.stdout.contains(text), "{text}\n{}", found.stdout);
    }
    w.write("found.yaml", &found.stdout);
    w.run(&["validate"]).expect(0).says(&["4 cohorts"]);
    w.run(&["doctor"]).expect(0);
    w.run(&["plan", "abandoned_checkout", "vip_list", "carts_2"])
        .expect(0)
        .says(&["add 9 ", "add 5 ", "add 1 "]);
    let json = w.run(&["discover", "warehouse", "--format", "json"]).expect(0).json();
    assert_eq!(json["cohorts"][0]["match"][0], "external_id: Email");
    w.run(&["discover", "lake"]).expect(64).says(&["no database `lake`", "it has `warehouse`"]);
    server.stop("fast");
    w.run(&["discover"]).expect(5).says(&["cannot be reached"]);
}

#[test]
fn tables_are_discovered_through_drivers() {
    for driver in [Driver::sqlite(), Driver::duckdb()].into_iter().flatten() {
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        driver.sql(&w.path("data.db"), "create table trials as select 'user-1' as identity, 7 as days");
        driver.sql(&w.path("data.db"), "create table prices (cents int)");
        with_connections(&w, &sandbox, &driver.connection("data.db", ""));
        let found = w.run(&["discover"]).expect(0).says(&["1 of 2 tables"]);
        w.write("found.yaml", &found.stdout);
        w.run(&["plan", "trials"]).expect(0).says(&["add 1 "]);
    }
}

#[test]
fn existing_cohorts_are_imported_once_and_nothing_is_overwritten() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    with_connections(&w, &sandbox, "");
    w.run(&["import"]).expect(0).says(&["found nothing"]);
    w.run(&["reconcile"]).expect(0);
    // The cohort is deleted from the config, and is only in the state.
    w.source("others", users(1));
    w.write("sync.yaml", config(&sandbox.url, &["others"], "") + "include: [found*.yaml]\n");
    w.run(&["import"])
        .expect(0)
        .says(&["`carts` is only in the state, with 3 members", "{ cohort: carts, members: remove }"]);
    let Some(driver) = Driver::sqlite() else { return };
    driver.sql(&w.path("data.db"), "create table carts as select 'user-1' as identity");
    let text =
        config(&sandbox.url, &["others"], &driver.connection("data.db", "")) + "include: [found*.yaml]\n";
    w.write("sync.yaml", text);
    // An id is never used for another cohort, including ids that are only in the state.
    w.run(&["import", "--out", "found.yaml"]).expect(0).says(&["wrote found.yaml: 1 cohort to review"]);
    assert!(w.read("found.yaml").contains("- id: carts_2\n"), "{}", w.read("found.yaml"));
    w.run(&["validate"]).expect(0).says(&["2 cohorts"]);
    let before = w.read("found.yaml");
    w.run(&["import", "--out", "found.yaml"])
        .expect(1)
        .says(&["cannot write found.yaml", "nothing was changed"]);
    assert_eq!(w.read("found.yaml"), before);
    w.run(&["import", "--out", "elsewhere.yaml"]).expect(0).says(&["include: [elsewhere.yaml]"]);
}

/// Names that any version of YAML would read as another type are quoted.
#[test]
fn table_names_that_yaml_would_misread_are_quoted() {
    let Some(server) = Postgres::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let names =
        ["1e3", "null", "0123", "no", "true", "1_000", "0x1f", "~", "2026-01-01", "a: b # c", "'", "-"];
    for name in names {
        server.sql(&format!("create table \"{name}\" (\"{name}\" int, identity text)"));
    }
    w.source("carts", users(3));
    let connection = server.connection("user: owner, tls: off");
    let text = config(&sandbox.url, &["carts"], &connection);
    w.write("sync.yaml", &text);
    w.run(&["import", "--out", "new/folder/found.yaml"]).expect(0).says(&["12 cohorts to review"]);
    w.write("sync.yaml", text.replace("connections:", "include: [new/folder/found.yaml]\nconnections:"));
    w.run(&["validate"]).expect(0).says(&["13 cohorts"]);
    let found = w.read("new/folder/found.yaml");
    for (id, name) in [("1e3", "1e3"), ("null", "Null"), ("0123", "0123"), ("no", "No"), ("true", "True")] {
        let is_quoted = |text: &str| ['"', '\''].iter().any(|q| found.contains(&format!("{text}{q}")));
        assert!(is_quoted(&format!("- id: \"{id}")) || is_quoted(&format!("- id: '{id}")), "{found}");
        assert!(is_quoted(&format!("name: \"{name}")) || is_quoted(&format!("name: '{name}")), "{found}");
    }
    // The hint repeats the value as written in the file.
    for written in ["1e3", "1.50", "0o17", "null", "~", "true", "+5"] {
        w.write(
            "sync.yaml",
            config(&sandbox.url, &["carts"], "").replace("id: carts", &format!("id: {written}")),
        );
        w.run(&["validate"]).expect(3).says(&[&format!("quote it: \"{written}\"")]);
    }
}
