//! Databases behind PgBouncer in transaction mode, and rows hidden by row-level security.

use crate::support::postgres::{Bouncer, Postgres};
use crate::support::*;

/// A config with a cohort `carts` that reads this source through this port.
fn config_reading(w: &Workspace, sandbox: &Sandbox, port: u16, connection: &str, source: &str) {
    let more = format!(
        "    rest_api_key: {{ env: TEST_REST_KEY }}
  warehouse: {{ kind: postgres, host: 127.0.0.1, port: {port}, database: postgres, tls: off, {connection} }}\n"
    );
    let text = config(&sandbox.url, &["carts"], &more);
    let source = format!("{{ kind: sql, connection: warehouse, {source} }}");
    let guard = "    guard: { max_removed: 100%, max_added: 1000% }\n";
    w.write("sync.yaml", text.replace("{ kind: file, path: carts.csv }", &source) + guard);
}

/// Checks that the next client of the pool finds its server connection unchanged.
fn expect_clean(server: &Postgres, bouncer: &Bouncer) {
    for setting in ["statement_timeout", "row_security", "default_transaction_read_only"] {
        let direct = server.sql(&format!("show {setting}"));
        assert_eq!(server.sql_at(bouncer.port, &format!("show {setting}")), direct, "{setting}");
    }
    let leftovers =
        "select (select count(*) from pg_prepared_statements where statement not like 'prepare s%')
        + (select count(*) from pg_class where relpersistence = 't')";
    assert_eq!(server.sql_at(bouncer.port, leftovers).trim(), "0", "statements and temporary tables");
}

const USER: &str = "user: owner, statement_timeout: 20s";

#[test]
fn nothing_stays_on_the_server_connections_of_a_transaction_pooler() {
    let Some(server) = Postgres::start() else { return };
    // Domains, enums, composite types and casts have types that the client cannot know.
    server.sql(
        "create type stage as enum ('new'); create domain blob as bytea; create type pair as (a int, b text);
         create table carts (identity blob, stage stage, pair pair);
         insert into carts select convert_to('user-' || n, 'UTF8'), 'new', row(n, 'x')::pair from generate_series(0, 99) n;
         create table named (identity stage); insert into named values ('new');
         create table texts as select 'user-' || n as identity, 'new'::stage as stage from generate_series(0, 99) n",
    );
    // One shared server connection, and several in turn.
    for pool in ["default_pool_size = 1", "default_pool_size = 3\nserver_round_robin = 1"] {
        let Some(bouncer) = Bouncer::start(&server, pool) else { return };
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        // Leftover statements of another client must not be used.
        for name in 0..8 {
            server.sql_at(bouncer.port, &format!("prepare s{name} as select 1"));
        }
        config_reading(&w, &sandbox, bouncer.port, USER, "table: carts");
        w.run(&["reconcile"]).expect(0).says(&["added 100"]);
        for _ in 0..4 {
            w.run(&["plan"]).expect(0).says(&["In sync"]);
        }
        let query =
            "query: 'select identity, pair from carts where (pair).a < $1 and stage = $2', params: [40, new]";
        config_reading(&w, &sandbox, bouncer.port, USER, query);
        w.run(&["reconcile"]).expect(0).says(&["removed 60"]);
        assert_eq!(sandbox.members("carts"), members(users(40)));
        config_reading(&w, &sandbox, bouncer.port, USER, "table: named");
        w.run(&["reconcile"]).expect(0);
        assert_eq!(sandbox.members("carts"), members(["new".to_owned()].into_iter()));
        config_reading(&w, &sandbox, bouncer.port, USER, "query: 'select pg_sleep(60)::text as identity'");
        let text = w.read("sync.yaml").replace("statement_timeout: 20s", "statement_timeout: 100ms");
        w.write("sync.yaml", text);
        w.run(&["plan"]).expect(5).says(&["ended the query"]);
        // Writes: the mirror table, first complete and then by changes.
        let pushed = format!("{USER}, pushdown: {{ schema: syncline }}");
        config_reading(&w, &sandbox, bouncer.port, &pushed, "table: texts, diff: pushdown");
        w.run(&["reconcile"]).expect(0).says(&["added 100"]);
        server
            .sql("delete from texts where identity = 'user-7'; insert into texts values ('user-100', 'new')");
        w.run(&["reconcile"]).expect(0).says(&["added 1", "removed 1", "were transferred"]);
        w.run(&["plan"]).expect(0).says(&["In sync", "were transferred"]);
        w.run(&["doctor"]).expect(0).says(&["connected through a transaction pooler such as PgBouncer"]);
        server.sql(
            "truncate texts; insert into texts select 'user-' || n, 'new' from generate_series(0, 99) n",
        );
        expect_clean(&server, &bouncer);
    }
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    config_reading(&w, &sandbox, server.port, USER, "table: texts");
    let doctor = w.run(&["doctor"]).expect(0);
    assert!(!doctor.stdout.contains("transaction pooler"), "{}", doctor.stdout);
}

#[test]
fn rows_that_row_level_security_hides_are_an_error() {
    let Some(server) = Postgres::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    server.sql(
        "create table carts as select 'user-' || n as identity, n as at from generate_series(0, 99) n;
         create role reader login; grant select on carts to reader",
    );
    config_reading(&w, &sandbox, server.port, "user: reader", "table: carts");
    w.run(&["reconcile"]).expect(0).says(&["added 100"]);
    server.sql(
        "alter table carts enable row level security;
         create policy half on carts for select to reader using (at < 50)",
    );
    let hidden = ["row-level security hides rows from the user", "carts", "bypassrls"];
    w.run(&["reconcile"]).expect(4).says(&hidden);
    w.run(&["doctor"]).expect(11).says(&hidden);
    assert_eq!(sandbox.members("carts").len(), 100);
    server.sql("alter role reader bypassrls");
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
}
