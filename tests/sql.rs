//! Cohorts from queries, with a real PostgreSQL.

use crate::support::postgres::Postgres;
use crate::support::*;

/// A config with a cohort `carts` from this database.
fn config_with(w: &Workspace, sandbox: &Sandbox, server: &Postgres, connection: &str, source: &str) {
    let text = config(&sandbox.url, &["carts"], &server.connection(connection));
    let source = format!("{{ kind: sql, connection: warehouse, {source} }}");
    w.write("sync.yaml", text.replace("{ kind: file, path: carts.csv }", &source));
}

const OWNER: &str = "user: owner, tls: off";

#[test]
fn a_table_a_query_and_a_file_with_a_query_are_cohorts() {
    let Some(server) = Postgres::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    server.sql(
        "create schema \"Acme\"; create table \"Acme\".carts (identity text, age int);
         insert into \"Acme\".carts select 'user-' || n, n from generate_series(0, 119999) n",
    );
    config_with(&w, &sandbox, &server, OWNER, "table: Acme.carts");
    w.run(&["reconcile"]).expect(0).says(&["added 120,000"]);
    assert_eq!(sandbox.members("carts"), members(users(120_000)));
    w.run(&["reconcile"]).expect(0).says(&["In sync: 1 cohort, 120,000 members, 0 requests"]);
    // Parameters of any type.
    let query = r#"query: "select identity from \"Acme\".carts where age < $1 and identity like $2;", params: [119000, 'user-%']"#;
    config_with(&w, &sandbox, &server, OWNER, query);
    w.run(&["plan"]).expect(0).says(&["remove 1,000"]);
    w.write(
        "sql/carts.sql",
        "select identity -- who left\nfrom \"Acme\".carts\nwhere age < 119500 -- and so on\n",
    );
    config_with(&w, &sandbox, &server, OWNER, "query_file: sql/carts.sql");
    w.run(&["reconcile"]).expect(0).says(&["removed 500"]);
    config_with(&w, &sandbox, &server, OWNER, "query_file: sql/gone.sql");
    w.run(&["validate"]).expect(3).says(&["error[unreadable-file]", "gone.sql", "named here"]);
}

#[test]
fn numbers_uuids_and_bytes_are_identifiers_and_nulls_are_rejects() {
    let Some(server) = Postgres::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    for (values, expected) in [
        ("(1::bigint), (9007199254740993)", ["external_id 1", "external_id 9007199254740993"]),
        (
            "('550E8400-E29B-41D4-A716-446655440000'::uuid), ('00000000-0000-0000-0000-000000000001')",
            [
                "external_id 00000000-0000-0000-0000-000000000001",
                "external_id 550e8400-e29b-41d4-a716-446655440000",
            ],
        ),
        (r"('ab'::bytea), ('cd')", ["external_id ab", "external_id cd"]),
        ("('a,\"b'), (null), (''), ('ü')", ["external_id a,\"b", "external_id ü"]),
    ] {
        let query =
            format!("query: \"select * from (values {}) as v(identity)\"", values.replace('"', "\\\""));
        config_with(&w, &sandbox, &server, OWNER, &query);
        let text = w.read("sync.yaml") + "    guard: { max_removed: 100%, max_added: 1000% }\n";
        w.write("sync.yaml", text);
        w.run(&["reconcile"]).expect(0);
        assert_eq!(sandbox.members("carts"), expected.map(str::to_owned).into_iter().collect(), "{values}");
    }
}

#[test]
fn each_failure_has_its_own_message_and_code_and_removes_no_members() {
    let Some(server) = Postgres::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    server.sql(
        "create table carts as select 'user-' || n as identity from generate_series(0, 99) n;
         create table secret (identity text); create role reader login password 'r1ght-w0rd';
         grant select on carts to reader",
    );
    config_with(&w, &sandbox, &server, OWNER, "table: carts");
    w.run(&["reconcile"]).expect(0);
    let hba = format!("{}/pg_hba.conf", server.data());
    let rules = "host all reader 127.0.0.1/32 scram-sha-256\nhost all owner 127.0.0.1/32 trust\nlocal all all trust\n";
    std::io::Write::write_all(&mut std::fs::File::create(hba).unwrap(), rules.as_bytes()).unwrap();
    server.sql("select pg_reload_conf()");
    let reader = "user: reader, tls: off, password: { env: TEST_PASSWORD }";
    let attempt = |connection: &str, source: &str, password: &str| {
        config_with(&w, &sandbox, &server, connection, source);
        let mut command = w.command(&["reconcile"]);
        command.env("TEST_PASSWORD", password);
        let attempt = run(command);
        assert!(!attempt.stderr.contains(password) && !attempt.stdout.contains(password));
        attempt
    };
    attempt(reader, "table: carts", "wr0ng-w0rd").expect(4).says(&["rejects the user", "check `user:`"]);
    attempt(reader, "table: secret", "r1ght-w0rd").expect(4).says(&[
        "lacks a permission",
        "permission denied",
        "grant",
    ]);
    attempt(OWNER, "query: \"select identity from nowhere\"", "n0-w0rd")
        .expect(1)
        .says(&["rejects the query", "nowhere"]);
    attempt(OWNER, "query: \"select 1 as identify\"", "n0-w0rd")
        .expect(1)
        .says(&["no column `identity`", "Did you mean `identify`?"]);
    attempt(OWNER, "query: \"select 1 as identity, 2 as identity\"", "n0-w0rd")
        .expect(1)
        .says(&["two columns `identity`", "`as`"]);
    attempt(OWNER, "query: \"select $1::text as identity\"", "n0-w0rd")
        .expect(1)
        .says(&["its placeholders do not fit the number of values in `params`, 0"]);
    let writes = "query: \"with gone as (delete from carts returning identity) select * from gone\"";
    attempt(OWNER, writes, "n0-w0rd").expect(1);
    assert_eq!(server.sql("select count(*) from carts").trim(), "100", "no query writes anything");
    server.sql("create function eat() returns text language sql as $$ delete from carts; select 'x' $$");
    attempt(OWNER, "query: \"select eat() as identity\"", "n0-w0rd")
        .expect(1)
        .says(&["would write", "must not write"]);
    let short = "user: owner, tls: off, statement_timeout: 100ms";
    attempt(short, "query: \"select pg_sleep(5)::text as identity\"", "n0-w0rd")
        .expect(5)
        .says(&["ended the query", "statement_timeout"]);
    attempt("user: owner", "table: carts", "n0-w0rd").expect(1).says(&["cannot be trusted"]);
    attempt("user: owner, tls: off", "table: carts", "n0-w0rd").expect(0);
    server.stop("fast");
    attempt(OWNER, "table: carts", "n0-w0rd")
        .expect(5)
        .says(&["cannot be reached", "no member was added or removed"]);
    assert_eq!(sandbox.members("carts").len(), 100);
}

/// A server that stops in the middle of the rows has not sent all of them.
#[test]
fn a_server_that_dies_during_a_query_gives_no_plan() {
    let Some(server) = Postgres::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    server.sql("create table carts as select 'user-' || n as identity from generate_series(0, 299999) n");
    config_with(&w, &sandbox, &server, OWNER, "table: carts");
    w.run(&["reconcile"]).expect(0);
    // Each row is slow, so that the server stops in the middle.
    let slow = "query: \"select identity from carts where pg_sleep(0.00002) is not null\"";
    config_with(&w, &sandbox, &server, OWNER, slow);
    let plan = w
        .command(&["plan"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let plan = plan.unwrap();
    until("the query runs", || {
        server.sql("select count(*) from pg_stat_activity where application_name = 'syncline' and state = 'active'").trim() != "0"
    });
    std::thread::sleep(std::time::Duration::from_millis(700));
    server.stop("immediate");
    let output = plan.wait_with_output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("not planned") && !text.contains("remove 1"), "{text}");
    assert_eq!(sandbox.members("carts").len(), 300_000);
}

#[test]
fn tls_requires_a_certificate_for_the_servers_name() {
    let Some(server) = Postgres::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    server.sql("create table carts as select 'user-' || n as identity from generate_series(0, 9) n");
    server.stop("fast");
    let generated = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let write = |name: &str, text: &str| {
        let path = server.home().join(name);
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let _ = std::process::Command::new("chown").arg("postgres").arg(&path).status();
        path.display().to_string()
    };
    let (certificate, key) =
        (write("tls.crt", &generated.cert.pem()), write("tls.key", &generated.signing_key.serialize_pem()));
    server.start_again(&format!("-c ssl=on -c ssl_cert_file={certificate} -c ssl_key_file={key}"));
    config_with(&w, &sandbox, &server, "user: owner", "table: carts");
    w.run(&["plan"]).expect(1).says(&["cannot be trusted", "ca: file.pem"]);
    w.write("ca.pem", generated.cert.pem());
    config_with(&w, &sandbox, &server, "user: owner, ca: ca.pem", "table: carts");
    w.run(&["reconcile"]).expect(0).says(&["added 10"]);
}

/// SQLSTATE 53300 ends once a connection is free, so the query is retried.
#[test]
fn a_server_without_a_free_connection_is_retried() {
    let Some(server) = Postgres::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    server.sql(
        "create table carts as select 'user-' || n as identity from generate_series(0, 4) n;
         create role reader login connection limit 1; grant select on carts to reader",
    );
    let reader = |limit: &str| format!("user: reader, tls: off, connect_timeout: {limit}");
    config_with(&w, &sandbox, &server, &reader("1s"), "table: carts");
    // Another client uses the role's only connection.
    let port = server.port.to_string();
    let mut other = std::process::Command::new(server.program("psql"))
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "reader",
            "-d",
            "postgres",
            "-c",
            "select pg_sleep(600)",
        ])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("the client is connected", || {
        server.sql("select count(*) from pg_stat_activity where usename = 'reader'").trim() == "1"
    });
    w.run(&["plan"]).expect(5).says(&["accepts no connection at present", "connect_timeout:"]);
    config_with(&w, &sandbox, &server, &reader("60s"), "table: carts");
    let mut command = w.command(&["reconcile"]);
    let mut child =
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("; attempt 2 in ")), "it had ended");
    server.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'reader'");
    other.wait().unwrap();
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    assert_eq!(sandbox.members("carts"), members(users(5)));
}
