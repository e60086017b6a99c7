//! Sources in buckets and on web servers: found, read whole or not at all, and not read again for nothing.

use crate::support::azure::Azure;
use crate::support::s3::{S3, S3_KEYS};
use crate::support::web::{Fault, Web};
use crate::support::*;

/// A config whose cohort `carts` is read from here.
fn reading(w: &Workspace, sandbox: &Sandbox, place: &str) {
    let text = config(&sandbox.url, &["carts"], "");
    w.write("sync.yaml", text.replace("path: carts.csv", &format!("path: {place}")));
}

/// The same program with S3's credentials.
fn with_keys(w: &Workspace, args: &[&str]) -> Run {
    let mut command = w.command(args);
    command.envs(S3_KEYS);
    run(command)
}

#[test]
fn objects_of_a_bucket_by_key_and_by_glob() {
    let Some(s3) = S3::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let store = format!("endpoint: '{}', region: us-east-1", s3.url);
    for (key, people) in
        [("day=1/a.csv", 0..1000), ("day=2/b.csv", 1000..2000), ("day=2/deep/c.csv", 2000..2500)]
    {
        s3.put(&format!("exports/{key}"), csv(people.map(|n| format!("user-{n}"))).as_bytes());
    }
    s3.put("exports/day=2/notes.txt", b"not a source");
    reading(&w, &sandbox, &format!("'s3://states/exports/day=1/a.csv', {store}"));
    with_keys(&w, &["reconcile"]).expect(0).says(&["added 1,000"]);
    reading(&w, &sandbox, &format!("'s3://states/exports/*/*.csv', {store}"));
    with_keys(&w, &["reconcile"]).expect(0).says(&["added 1,000"]);
    assert_eq!(sandbox.members("carts"), members(users(2000)));
    reading(&w, &sandbox, &format!("'s3://states/exports/**/*.csv', {store}"));
    with_keys(&w, &["doctor"]).expect(0).says(&["s3://states/exports/**/*.csv can be read"]);
    with_keys(&w, &["reconcile"]).expect(0).says(&["added 500"]);
    // By the objects' tags: the same ones are not read again, and another one is.
    with_keys(&w, &["reconcile", "-v"]).expect(0).says(&["In step"]);
    s3.put("exports/day=1/a.csv", csv(users(900)).as_bytes());
    with_keys(&w, &["reconcile"]).expect(0).says(&["removed 100"]);
    // What cannot be found or reached is not empty.
    for (place, code, says) in [
        ("'s3://states/exports/gone-*.csv'", 1, "no file matches"),
        ("'s3://states/exports/gone.csv'", 1, "cannot read s3://states/exports/gone.csv"),
        ("'s3://nowhere/a.csv'", 1, "cannot read s3://nowhere/a.csv"),
    ] {
        reading(&w, &sandbox, &format!("{place}, {store}"));
        with_keys(&w, &["reconcile"]).expect(code).says(&[says, "nobody was "]);
    }
    let run = with_keys(&w, &["doctor"]).expect(11).says(&["cannot read s3://nowhere/a.csv"]);
    assert!(!(run.stdout + &run.stderr).contains(S3_KEYS[1].1));
    assert_eq!(sandbox.members("carts").len(), 2400);
}

#[test]
fn an_object_is_read_in_ranges_that_are_asked_for_again() {
    let (web, w, sandbox) = (Web::start(), Workspace::new(), Sandbox::start());
    let people = csv((0..1_000_000).map(|n| format!("user-{}", n % 5000)));
    web.put("/exports/carts.csv", people.as_bytes());
    reading(&w, &sandbox, &format!("'{}/exports/carts.csv'", web.url));
    web.faults(&[Fault::Cut, Fault::Status(503), Fault::Cut]);
    w.run(&["reconcile"]).expect(0).says(&["added 5,000"]);
    assert_eq!(sandbox.members("carts"), members(users(5000)));
    assert!(web.ranges().len() > 2, "it has more than 8 MiB");
    // Its tag tells that there is nothing to read.
    w.run(&["reconcile"]).expect(0).says(&["In step"]);
    assert_eq!(web.ranges(), Vec::<String>::new());
    // Bytes that never all come are no smaller file.
    web.put("/exports/carts.csv", csv(users(10)).as_bytes());
    web.faults(&[const { Fault::Cut }; 40]);
    w.run(&["reconcile"]).expect(5).says(&["cannot read http://127.0.0.1", "nobody was added or removed"]);
    web.faults(&[const { Fault::Status(403) }; 2]);
    w.run(&["reconcile"]).expect(4).says(&["cannot read http://127.0.0.1"]);
    web.faults(&[]);
    assert_eq!(sandbox.members("carts"), members(users(5000)));
}

/// What comes of two files is neither of them.
#[test]
fn an_object_that_is_replaced_while_it_is_read_is_refused() {
    let (web, w, sandbox) = (Web::start(), Workspace::new(), Sandbox::start());
    let long = |first: usize| csv((0..1_000_000).map(|n| format!("user-{}", first + n % 5000)));
    web.put("/carts.csv", long(0));
    reading(&w, &sandbox, &format!("'{}/carts.csv'", web.url));
    w.run(&["reconcile"]).expect(0);
    web.put("/carts.csv", long(1000));
    web.ranges();
    web.faults(&[Fault::Replace(long(1000).into_bytes()), Fault::Replace(long(3000).into_bytes())]);
    w.run(&["reconcile"]).expect(1).says(&["changed while it was read", "nobody was added or removed"]);
    assert_eq!(sandbox.members("carts"), members(users(5000)));
    w.run(&["reconcile", "--max-removes", "carts=5000"]).expect(0).says(&["removed 3,000", "added 3,000"]);
}

/// Parquet is read here and there: only what is needed of it, and nothing of what it was before.
#[test]
fn a_parquet_object_is_read_by_blocks() {
    let (web, w, sandbox) = (Web::start(), Workspace::new(), Sandbox::start());
    let kinds = std::fs::read(root().join("tests/parquet/kinds.parquet")).unwrap();
    web.put("/kinds.parquet", kinds.clone());
    reading(&w, &sandbox, &format!("'{}/kinds.parquet'", web.url));
    w.write("sync.yaml", w.read("sync.yaml").replace("external_id: identity", "external_id: uuid"));
    web.faults(&[Fault::Cut]);
    w.run(&["reconcile"]).expect(0).says(&["added 2"]);
    web.put("/kinds.parquet", [kinds.as_slice(), b"x"].concat());
    web.faults(&[const { Fault::Status(500) }; 40]);
    w.run(&["reconcile"]).expect(5).says(&["cannot read http://127.0.0.1", "nobody was added or removed"]);
    web.faults(&[]);
    w.run(&["reconcile"]).expect(1).says(&["as Parquet"]);
    assert_eq!(sandbox.members("carts").len(), 2);
}

/// The same in Azure, with the state beside it.
#[test]
fn blobs_of_azure_and_a_state_there() {
    let Some(azure) = Azure::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let run_with = |args: &[&str], key: &str| {
        let mut command = w.command(args);
        command.envs(Azure::keys()).env("AZURE_STORAGE_ACCOUNT_KEY", key);
        run(command)
    };
    let keyed = |args: &[&str]| run_with(args, Azure::keys()[1].1);
    for (key, people) in [("day=1/a.csv", 0..1000), ("day=2/b.csv", 1000..2000)] {
        azure.put(&format!("exports/{key}"), csv(people.map(|n| format!("user-{n}"))).as_bytes());
    }
    reading(&w, &sandbox, &format!("'az://states/exports/*/*.csv', endpoint: '{}'", azure.url));
    let place = format!("state: az://states/team/prod\nbucket: {{ endpoint: '{}' }}\n", azure.url);
    w.write("sync.yaml", w.read("sync.yaml") + &place);
    // Who is not let in has not found a bucket that lacks something.
    run_with(&["reconcile"], "AAAA").expect(1).says(&["cannot read az://states/team/prod"]);
    keyed(&["doctor"]).expect(0).says(&["az://states/exports/*/*.csv can be read"]);
    keyed(&["reconcile"]).expect(0).says(&["added 2,000"]);
    assert_eq!(sandbox.members("carts"), members(users(2000)));
    keyed(&["reconcile", "-v"]).expect(0).says(&["In step"]);
    azure.put("exports/day=1/a.csv", csv(users(900)).as_bytes());
    keyed(&["reconcile"]).expect(0).says(&["removed 100"]);
    keyed(&["state", "verify"]).expect(0).says(&["Whole: 1 cohort"]);
    assert!(!w.path(".syncline").exists(), "nothing of the state is here");
}
