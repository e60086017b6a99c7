//! Sources in buckets and on web servers: found, read completely or not used, and not read again without a
//! change.

use crate::support::azure::Azure;
use crate::support::s3::{S3, S3_KEYS, with_keys};
use crate::support::web::{Fault, ServerFeatures, Web};
use crate::support::*;

/// A config with a cohort `carts` from this source.
fn config_reading(w: &Workspace, sandbox: &Sandbox, place: &str) {
    let text = config(&sandbox.url, &["carts"], "");
    w.write("sync.yaml", text.replace("path: carts.csv", &format!("path: {place}")));
}

/// As [`config_reading`], for files that repeat the same few users.
fn reading_many_times(w: &Workspace, sandbox: &Sandbox, place: &str) {
    config_reading(w, sandbox, place);
    w.write(
        "sync.yaml",
        w.read("sync.yaml") + "    guard: { max_added: 1000%, max_removed: 100%, allow: [duplicates] }\n",
    );
}

#[test]
fn objects_are_read_by_key_and_by_glob() {
    let Some(s3) = S3::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let store = format!("endpoint: '{}', region: us-east-1", s3.url);
    for (key, people) in
        [("day=1/a.csv", 0..1000), ("day=2/b.csv", 1000..2000), ("day=2/deep/c.csv", 2000..2500)]
    {
        s3.put(&format!("exports/{key}"), csv(people.map(|n| format!("user-{n}"))).as_bytes());
    }
    s3.put("exports/day=2/notes.txt", b"not a source");
    config_reading(&w, &sandbox, &format!("'s3://states/exports/day=1/a.csv', {store}"));
    with_keys(&w, &["reconcile"]).expect(0).says(&["added 1,000"]);
    config_reading(&w, &sandbox, &format!("'s3://states/exports/*/*.csv', {store}"));
    with_keys(&w, &["reconcile"]).expect(0).says(&["added 1,000"]);
    assert_eq!(sandbox.members("carts"), members(users(2000)));
    config_reading(&w, &sandbox, &format!("'s3://states/exports/**/*.csv', {store}"));
    with_keys(&w, &["doctor"]).expect(0).says(&["s3://states/exports/**/*.csv can be read"]);
    with_keys(&w, &["reconcile"]).expect(0).says(&["added 500"]);
    // By etags: unchanged objects are not read again, changed ones are.
    with_keys(&w, &["reconcile", "-v"]).expect(0).says(&["In sync"]);
    s3.put("exports/day=1/a.csv", csv(users(900)).as_bytes());
    with_keys(&w, &["reconcile"]).expect(0).says(&["removed 100"]);
    // An unreachable source is not an empty one.
    for (place, code, says) in [
        ("'s3://states/exports/gone-*.csv'", 1, "no file matches"),
        ("'s3://states/exports/gone.csv'", 1, "cannot read s3://states/exports/gone.csv"),
        ("'s3://nowhere/a.csv'", 1, "cannot read s3://nowhere/a.csv"),
    ] {
        config_reading(&w, &sandbox, &format!("{place}, {store}"));
        with_keys(&w, &["reconcile"]).expect(code).says(&[says, "no member was "]);
    }
    let run = with_keys(&w, &["doctor"]).expect(11).says(&["cannot read s3://nowhere/a.csv"]);
    assert!(!(run.stdout + &run.stderr).contains(S3_KEYS[1].1));
    assert_eq!(sandbox.members("carts").len(), 2400);
}

#[test]
fn an_object_is_read_in_ranges_with_retries() {
    let (web, w, sandbox) = (Web::start(), Workspace::new(), Sandbox::start());
    let people = csv((0..1_000_000).map(|n| format!("user-{}", n % 5000)));
    web.put("/exports/carts.csv", people.as_bytes());
    reading_many_times(&w, &sandbox, &format!("'{}/exports/carts.csv'", web.url));
    web.faults(&[Fault::Cut, Fault::Status(503), Fault::Cut]);
    w.run(&["reconcile"]).expect(0).says(&["added 5,000"]);
    assert_eq!(sandbox.members("carts"), members(users(5000)));
    assert!(web.ranges().len() > 2, "it has more than 8 MiB");
    // Its etag shows that nothing changed.
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    assert_eq!(web.ranges(), Vec::<String>::new());
    // An incomplete transfer is not a smaller file.
    web.put("/exports/carts.csv", csv(users(10)).as_bytes());
    web.faults(&[const { Fault::Cut }; 40]);
    w.run(&["reconcile"]).expect(5).says(&["cannot read http://127.0.0.1", "no member was added or removed"]);
    web.faults(&[const { Fault::Status(403) }; 2]);
    w.run(&["reconcile"]).expect(4).says(&["cannot read http://127.0.0.1"]);
    web.faults(&[]);
    assert_eq!(sandbox.members("carts"), members(users(5000)));
}

/// A mix of two files is neither of them.
#[test]
fn an_object_replaced_during_the_read_is_an_error() {
    let (web, w, sandbox) = (Web::start(), Workspace::new(), Sandbox::start());
    let long = |first: usize| csv((0..1_000_000).map(|n| format!("user-{}", first + n % 5000)));
    web.put("/carts.csv", long(0));
    reading_many_times(&w, &sandbox, &format!("'{}/carts.csv'", web.url));
    w.run(&["reconcile"]).expect(0);
    web.put("/carts.csv", long(1000));
    web.ranges();
    web.faults(&[Fault::Replace(long(1000).into_bytes()), Fault::Replace(long(3000).into_bytes())]);
    w.run(&["reconcile"]).expect(1).says(&["changed while it was read", "no member was added or removed"]);
    assert_eq!(sandbox.members("carts"), members(users(5000)));
    w.run(&["reconcile", "--max-removes", "carts=5000"]).expect(0).says(&["removed 3,000", "added 3,000"]);
}

/// Parquet is read in parts: only the needed ranges, and all of one version.
#[test]
fn a_parquet_object_is_read_by_ranges() {
    let (web, w, sandbox) = (Web::start(), Workspace::new(), Sandbox::start());
    let kinds = std::fs::read(root().join("tests/parquet/kinds.parquet")).unwrap();
    web.put("/kinds.parquet", kinds.clone());
    config_reading(&w, &sandbox, &format!("'{}/kinds.parquet'", web.url));
    w.write("sync.yaml", w.read("sync.yaml").replace("external_id: identity", "external_id: uuid"));
    web.faults(&[Fault::Cut]);
    w.run(&["reconcile"]).expect(0).says(&["added 2"]);
    web.put("/kinds.parquet", [kinds.as_slice(), b"x"].concat());
    web.faults(&[const { Fault::Status(500) }; 40]);
    w.run(&["reconcile"]).expect(5).says(&["cannot read http://127.0.0.1", "no member was added or removed"]);
    web.faults(&[]);
    w.run(&["reconcile"]).expect(1).says(&["as Parquet"]);
    assert_eq!(sandbox.members("carts").len(), 2);
}

/// The same in Azure, with the state in the same account.
#[test]
fn azure_blobs_are_sources_and_hold_the_state() {
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
    config_reading(&w, &sandbox, &format!("'az://states/exports/*/*.csv', endpoint: '{}'", azure.url));
    let place = format!("state: az://states/team/prod\nbucket: {{ endpoint: '{}' }}\n", azure.url);
    w.write("sync.yaml", w.read("sync.yaml") + &place);
    // A rejected login is not an empty bucket.
    run_with(&["reconcile"], "AAAA").expect(1).says(&["cannot read az://states/team/prod"]);
    keyed(&["doctor"]).expect(0).says(&["az://states/exports/*/*.csv can be read"]);
    keyed(&["reconcile"]).expect(0).says(&["added 2,000"]);
    assert_eq!(sandbox.members("carts"), members(users(2000)));
    keyed(&["reconcile", "-v"]).expect(0).says(&["In sync"]);
    azure.put("exports/day=1/a.csv", csv(users(900)).as_bytes());
    keyed(&["reconcile"]).expect(0).says(&["removed 100"]);
    keyed(&["state", "verify"]).expect(0).says(&["Intact: 1 cohort"]);
    assert!(!w.path(".syncline").exists(), "no state is on this machine");
}

/// Without an etag and a time, a change cannot be detected: the file is read in every run.
#[test]
fn a_web_file_without_tag_and_time_is_read_in_every_run() {
    let (web, w, sandbox) = (Web::start(), Workspace::new(), Sandbox::start());
    web.set_features(ServerFeatures { tag: None, modified: false, ..ServerFeatures::default() });
    web.put("/carts.csv", csv(users(40)));
    config_reading(&w, &sandbox, &format!("'{}/carts.csv'", web.url));
    w.run(&["reconcile"]).expect(0).says(&["added 40"]);
    // The same length.
    web.put("/carts.csv", csv((1..10).chain(11..41).chain([99]).map(|n| format!("user-{n}"))));
    w.run(&["reconcile"]).expect(0).says(&["added 2", "removed 2"]);
    web.plain_requests();
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    assert_eq!(web.plain_requests(), 1, "ranges could not be verified, so it is read in one request");
}

#[test]
fn a_weak_etag_is_compared_and_never_sent() {
    let (web, w, sandbox) = (Web::start(), Workspace::new(), Sandbox::start());
    web.set_features(ServerFeatures { tag: Some("W/"), modified: false, ..ServerFeatures::default() });
    let long = |first: usize| csv((0..1_000_000).map(|n| format!("user-{}", first + n % 5000)));
    web.put("/carts.csv", long(0));
    reading_many_times(&w, &sandbox, &format!("'{}/carts.csv'", web.url));
    w.run(&["reconcile"]).expect(0).says(&["added 5,000"]);
    assert!(web.ranges().len() > 1, "it has more than 8 MiB");
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    // The same content with a strong etag is unchanged.
    web.set_features(ServerFeatures { modified: false, ..ServerFeatures::default() });
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    assert_eq!(web.ranges(), Vec::<String>::new());
    web.set_features(ServerFeatures { tag: Some("W/"), modified: false, ..ServerFeatures::default() });
    web.put("/carts.csv", long(1000));
    web.faults(&[Fault::Replace(long(1000).into_bytes()), Fault::Replace(long(3000).into_bytes())]);
    w.run(&["reconcile"]).expect(1).says(&["changed while it was read", "no member was added or removed"]);
    assert_eq!(sandbox.members("carts"), members(users(5000)));
}

#[test]
fn servers_without_head_ranges_or_lengths_are_supported() {
    let parquet = std::fs::read(root().join("tests/parquet/people.snappy.parquet")).unwrap();
    for (head, ranges, length) in [
        (false, true, true),
        (true, false, true),
        (false, false, true),
        (true, false, false),
        (false, false, false),
    ] {
        let (web, w, sandbox) = (Web::start(), Workspace::new(), Sandbox::start());
        web.set_features(ServerFeatures { head, ranges, length, ..ServerFeatures::default() });
        web.put("/carts.csv", csv(users(40)));
        config_reading(&w, &sandbox, &format!("'{}/carts.csv'", web.url));
        w.run(&["reconcile"]).expect(0).says(&["added 40"]);
        assert_eq!(sandbox.members("carts"), members(users(40)));
        // Its etag is known without its content.
        w.run(&["reconcile"]).expect(0).says(&["In sync"]);
        if length {
            web.put("/carts.csv", csv(users(10)));
            web.faults(&[const { Fault::Cut }; 40]);
            w.run(&["reconcile"]).expect(5).says(&["cannot read http://127.0.0.1"]);
            assert_eq!(sandbox.members("carts"), members(users(40)));
            web.faults(&[]);
        }
        web.put("/p.parquet", parquet.clone());
        config_reading(&w, &sandbox, &format!("'{}/p.parquet'", web.url));
        w.write("sync.yaml", w.read("sync.yaml").replace("external_id: identity", "external_id: id"));
        // The guard blocks the removals: nearly all members would leave.
        w.run(&["plan"]).expect(6).says(&["2 users in 4 rows of 1 file"]);
        config_reading(&w, &sandbox, &format!("'{}/gone.csv'", web.url));
        w.run(&["reconcile"]).expect(1).says(&["cannot read http://127.0.0.1", "404"]);
    }
}

/// A listing in S3's format.
fn listing(keys: &[&str], bytes: &[u8]) -> String {
    let entries = keys.iter().map(|key| {
        let key = key.replace('&', "&amp;").replace('<', "&lt;").replace('\u{1}', "&#x1;");
        let (len, tag) = (bytes.len(), xxhash_rust::xxh3::xxh3_64(bytes));
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-11-27T10:00:00.000Z</LastModified>\
             <ETag>&quot;{tag:x}&quot;</ETag><Size>{len}</Size></Contents>"
        )
    });
    let entries: String = entries.collect();
    format!("<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>")
}

/// Each key is requested with its own characters, encoded once: the server has only these addresses.
#[test]
fn object_keys_are_used_exactly() {
    let keys = [
        ("a//b.csv", "a//b.csv"),
        ("day=2026-11-27 10%3A00/~x#1.csv", "day%3D2026-11-27%2010%253A00/~x%231.csv"),
        ("ö&<>+=\"'(1),@:;$.csv", "%C3%B6%26%3C%3E%2B%3D%22%27%281%29%2C%40%3A%3B%24.csv"),
        ("a%2Fb%25.csv", "a%252Fb%2525.csv"),
        (" a .csv", "%20a%20.csv"),
        ("a...csv", "a...csv"),
        ("a\u{1}\n\u{7f}.csv", "a%01%0A%7F.csv"),
    ];
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let bytes = csv(users(3));
    for (key, address) in keys {
        let web = Web::start();
        let store = format!("endpoint: '{}', region: us-east-1", web.url);
        web.put(&format!("/b/in/{address}"), bytes.clone());
        let path = serde_json::to_string(&format!("s3://b/in/{key}")).unwrap().replace('\u{7f}', "\\u007f");
        config_reading(&w, &sandbox, &format!("{path}, {store}"));
        with_keys(&w, &["plan"]).expect(0).says(&["3 users in 3 rows of 1 file"]);
        // Next to keys that no client can request.
        let others = ["in/", "in/../x.txt", "in/\u{1}", "in//", "in/./.csv.txt"];
        let all: Vec<String> = [format!("in/{key}")].into_iter().chain(others.map(str::to_owned)).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        web.put("/b?list-type=2&prefix=in%2F", listing(&all, bytes.as_bytes()));
        config_reading(&w, &sandbox, &format!("'s3://b/in/**/*.csv', {store}"));
        with_keys(&w, &["plan"]).expect(0).says(&["3 users in 3 rows of 1 file"]);
    }
}

#[test]
fn an_impossible_key_is_an_error_if_the_pattern_matches_it() {
    let (web, w, sandbox) = (Web::start(), Workspace::new(), Sandbox::start());
    let (store, bytes) = (format!("endpoint: '{}', region: us-east-1", web.url), csv(users(40)));
    web.put("/b/in/a.csv", bytes.clone());
    web.put(
        "/b?list-type=2&prefix=in%2F",
        listing(&["in/a.csv", "in/.b.csv", "in/_tmp/c.csv"], bytes.as_bytes()),
    );
    config_reading(&w, &sandbox, &format!("'s3://b/in/**/*.csv', {store}"));
    with_keys(&w, &["reconcile"]).expect(0).says(&["added 40"]);
    let json = with_keys(&w, &["plan", "--format", "json"]).expect(0).json();
    assert_eq!(json["cohorts"][0]["source"]["skipped_files"], 2, "{json}");
    for key in ["in/x/../b.csv", "in/./b.csv"] {
        web.put("/b?list-type=2&prefix=in%2F", listing(&["in/a.csv", key], bytes.as_bytes()));
        let run = with_keys(&w, &["reconcile"]).expect(1).says(&[
            "cannot read s3://b/in/",
            "its key has",
            "nothing was removed",
        ]);
        assert!(!(run.stdout + &run.stderr).contains("credentials"));
    }
    config_reading(&w, &sandbox, &format!("'s3://b/in/../a.csv', {store}"));
    with_keys(&w, &["reconcile"]).expect(1).says(&["s3://b/in/../a.csv", "its key has the component `..`"]);
    assert_eq!(sandbox.members("carts"), members(users(40)));
}

#[test]
fn keys_of_other_files_do_not_stop_an_export() {
    let (web, w, sandbox) = (Web::start(), Workspace::new(), Sandbox::start());
    w.write(
        "sync.yaml",
        format!(
            "version: 1\nconnections: {{ heap: {{ kind: heap, endpoint: '{}', app_id: '11' }} }}\n\
             exports: [ {{ id: e, source: {{ kind: currents_storage, url: 's3://b/in', endpoint: '{}', region: us-east-1 }}, to: heap }} ]\n",
            sandbox.url, web.url
        ),
    );
    let top = "/b?delimiter=%2F&list-type=2&prefix=in%2F";
    web.put(top, listing(&["in/", "in//notes.txt", "in/../x", "in/\u{1}"], b"x"));
    with_keys(&w, &["export"]).expect(0);
    web.put(top, listing(&["in/../x.avro"], b"x"));
    with_keys(&w, &["export"])
        .expect(1)
        .says(&["cannot read s3://b/in/../x.avro", "its key has the component `..`"]);
}

/// Keys that the store's client cannot express as a path: the server has only these addresses, by key and by
/// glob.
#[test]
fn a_key_with_a_leading_slash_is_read() {
    let (web, w, sandbox) = (Web::start(), Workspace::new(), Sandbox::start());
    let (store, bytes) = (format!("endpoint: '{}', region: us-east-1", web.url), csv(users(3)));
    web.put("/b//in/a.csv", bytes.clone());
    web.put("/b///%0Db.csv", csv(users(5)));
    web.put("/b?list-type=2&prefix=%2Fin%2F", listing(&["/in/a.csv", "/in/../x.txt"], bytes.as_bytes()));
    for (key, people) in [("/in/a.csv", 3), ("/in/*.csv", 3), ("//\\rb.csv", 5)] {
        config_reading(&w, &sandbox, &format!("\"s3://b/{key}\", {store}"));
        let says = format!("{people} users in {people} rows of 1 file");
        with_keys(&w, &["plan"]).expect(0).says(&[&says]);
    }
    // A missing one is an error that names it.
    config_reading(&w, &sandbox, &format!("\"s3://b//in/\\n.csv\", {store}"));
    with_keys(&w, &["plan"]).expect(1).says(&["cannot read s3://b//in/\\n.csv", "not found"]);
}

#[test]
fn unusual_keys_of_a_real_store_are_read_and_hide_no_others() {
    let Some(s3) = S3::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let store = format!("endpoint: '{}', region: us-east-1", s3.url);
    // This server accepts no line feed in a key.
    for (n, key) in ["in/a.csv", "in/\u{1}b.csv", "in/c\r.csv", "in/d\u{7f}//e.csv"].into_iter().enumerate() {
        s3.put(key, csv([format!("user-{n}")]).as_bytes());
    }
    s3.put("/in/f.csv", csv(["user-9".to_owned()]).as_bytes());
    config_reading(&w, &sandbox, &format!("'s3://states/in/**/*.csv', {store}"));
    with_keys(&w, &["reconcile"]).expect(0).says(&["added 4"]);
    config_reading(&w, &sandbox, &format!("'s3://states//in/*.csv', {store}"));
    with_keys(&w, &["plan"]).expect(0).says(&["1 user in 1 row of 1 file"]);
    // The signature covers the sent address. (This server rejects any signed listing.)
    let keys = s3.check_signatures();
    let signed = |secret: &str| {
        let mut command = w.command(&["plan"]);
        command.env(keys[0].0, &keys[0].1).env(keys[1].0, secret);
        run(command)
    };
    for key in ["in/a.csv", "in/\u{1}b.csv", "/in/f.csv"] {
        let path = serde_json::to_string(&format!("s3://states/{key}")).unwrap();
        config_reading(&w, &sandbox, &format!("{path}, {store}"));
        signed(&keys[1].1).expect(0).says(&["1 user in 1 row of 1 file"]);
        signed("not-the-secret-of-this-key").expect(4).says(&["403"]);
    }
}
