//! Heap Connect's dumps: every order of reading ends with the identity map of one full dump of the final state.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::connect::{Cell, Dump, History, avro, history, history_with_columns};
use crate::support::s3::{S3, S3_KEYS};
use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

fn world() -> Workspace {
    let w = Workspace::new();
    w.write("sync.yaml", "version: 1\n");
    w
}

fn put(w: &Workspace, bucket: &str, dump: &[(String, Vec<u8>)]) {
    for (path, bytes) in dump {
        w.write(&format!("{bucket}/{path}"), bytes);
    }
}

fn import(w: &Workspace, bucket: &str) -> Run {
    w.run(&["identity", "import", bucket, "--layout", "heap-connect"])
}

/// All owners with the time of the evidence.
fn all_owners(w: &Workspace, history: &History) -> BTreeMap<u64, (String, String)> {
    let ids: Vec<String> = history.user_ids.iter().map(u64::to_string).collect();
    let mut args = vec!["identity", "show", "--format", "json"];
    args.extend(ids.iter().map(String::as_str));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let known = w.run(&args).expect(0).json()["known"].as_array().unwrap().clone();
    let entry = |known: &Value| {
        (text(&known["id"]).parse().unwrap(), (text(&known["external_id"]), text(&known["seen"])))
    };
    known.iter().map(entry).collect()
}

fn owners(found: &BTreeMap<u64, (String, String)>) -> BTreeMap<u64, String> {
    found.iter().map(|(id, (owner, _))| (*id, owner.clone())).collect()
}

#[track_caller]
fn check(w: &Workspace, history: &History, seed: u64, how: &str) -> BTreeMap<u64, (String, String)> {
    let found = all_owners(w, history);
    assert_eq!(owners(&found), history.owners, "seed {seed}, {how}");
    found
}

#[test]
fn every_reading_order_gives_the_same_map() {
    for seed in [1, 2, 3] {
        let history = history(seed, 40);
        let (of_end, at_once, by_dump, rarely) = (world(), world(), world(), world());
        assert!(history.owners.len() > 40 && *history.ids.last().unwrap() > 99, "seed {seed}");
        put(&of_end, "end", &history.end);
        import(&of_end, "end").expect(0);
        let end = check(&of_end, &history, seed, "one full dump of the end");
        history.dumps.iter().for_each(|dump| put(&at_once, "all", dump));
        // An incomplete dump.
        at_once.write("all/sync_900/users/part-00000-x-c000.avro", "half of it");
        import(&at_once, "all").expect(0);
        assert!(check(&at_once, &history, seed, "at once") == end, "seed {seed}: different evidence times");
        for (n, dump) in history.dumps.iter().enumerate() {
            put(&by_dump, "grows", dump);
            import(&by_dump, "grows").expect(0).says(&[&format!("dump {}", history.ids[n])]);
            if n % 5 == 0 {
                import(&by_dump, "grows/").expect(0).says(&["nothing new"]);
            }
            put(&rarely, "grows", dump);
            if n % 7 == 6 {
                import(&rarely, "grows").expect(0);
            }
        }
        assert!(check(&by_dump, &history, seed, "dump by dump") == end, "seed {seed}");
        import(&rarely, "grows").expect(0);
        assert!(check(&rarely, &history, seed, "now and then") == end, "seed {seed}");
        by_dump.run(&["state", "verify"]).expect(0);
    }
}

#[test]
fn a_real_bucket_is_read_incrementally_and_below_a_prefix() {
    let Some(s3) = S3::start() else { return };
    let (seed, w) = (7, world());
    let history = history(seed, 40);
    let (address, keys) = ("s3://states/copies/of heap", S3_KEYS);
    let import = || {
        let args = [
            "identity",
            "import",
            address,
            "--layout",
            "heap-connect",
            "--endpoint",
            &s3.url,
            "--region",
            "us-east-1",
        ];
        let mut command = w.command(&args);
        command.envs(keys);
        run(command)
    };
    import()
        .expect(1)
        .says(&["nothing was imported: there is no dump in s3://states/copies/of heap/manifests"]);
    for (step, dumps) in history.dumps.chunks(14).enumerate() {
        let folder = format!("step{step}");
        dumps.iter().for_each(|dump| put(&w, &folder, dump));
        s3.put_all("copies/of heap", &w.path(&folder));
        import().expect(0).says(&["dumps from "]);
        import().expect(0).says(&["nothing new"]);
    }
    let found = check(&w, &history, seed, "from S3");
    let of_end = world();
    put(&of_end, "end", &history.end);
    self::import(&of_end, "end").expect(0);
    assert!(check(&of_end, &history, seed, "the end") == found, "seed {seed}");
    let stats = w.run(&["identity", "stats", "--format", "json"]).expect(0).json();
    assert_eq!(
        (&stats["sources"][0]["address"], &stats["sources"][0]["dump"]),
        (&json!(address), &json!(history.ids[39]))
    );
    w.run(&["identity", "drop", address]).expect(0);
    assert_eq!(all_owners(&w, &history), BTreeMap::new());
    let mut command =
        w.command(&["identity", "import", "s3://nowhere", "--layout", "heap-connect", "--endpoint", &s3.url]);
    command.envs(keys);
    run(command).expect(5).says(&["cannot list s3://nowhere/manifests", "NoSuchBucket"]);
}

const USERS: [(&str, &str); 2] = [("user_id", "long"), ("identity", "string")];
const MIGRATIONS: [(&str, &str); 2] = [("from_user_id", "long"), ("to_user_id", "long")];

/// A dump with these users and merges.
fn dump(id: u64, is_full: bool, people: &[(i64, &str)], joins: &[(i64, i64)]) -> Vec<(String, Vec<u8>)> {
    let mut dump = Dump::new(id);
    let cell = |owner: &str| Cell::text((!owner.is_empty()).then_some(owner));
    let rows: Vec<Vec<Cell>> = people.iter().map(|(id, owner)| vec![Cell::Long(*id), cell(owner)]).collect();
    dump.rows("users", !is_full, &USERS, &rows);
    let rows: Vec<Vec<Cell>> =
        joins.iter().map(|(from, into)| vec![Cell::Long(*from), Cell::Long(*into)]).collect();
    dump.rows("user_migrations", false, &MIGRATIONS, &rows);
    dump.finished()
}

/// The owners of these ids, in one line.
fn owners_line(w: &Workspace, ids: &[&str]) -> String {
    let known = w.run(&[&["identity", "show", "--format", "json"], ids].concat()).expect(0).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entry = |known: &Value| format!("{}={}", text(&known["id"]), text(&known["external_id"]));
    known["known"].as_array().unwrap().iter().map(entry).collect::<Vec<_>>().join(" ")
}

#[test]
fn an_unreadable_dump_imports_nothing_and_stops_later_ones() {
    let w = world();
    put(&w, "b", &dump(1, true, &[(5, "u5"), (6, "u6")], &[]));
    import(&w, "b").expect(0).says(&["dump 1", "read 2 rows, 2 with an owner"]);
    let second = dump(2, false, &[(5, "v5")], &[]);
    put(&w, "b", &second);
    put(&w, "b", &dump(3, false, &[(6, "v6")], &[]));
    let (path, file) = ("b/manifests/sync_2.json", format!("b/{}", second[0].0));
    let (manifest, rows) = (w.read(path), std::fs::read(w.path(&file)).unwrap());
    let users = |text: &str| manifest.replacen("\"name\":\"user_migrations\"", text, 1);
    for (bad, says) in [
        (manifest[..manifest.len() / 2].to_owned(), "manifests/sync_2.json is damaged: EOF"),
        (users("\"name\":\"users\""), "sync_2.json is damaged: the table `users` is listed twice"),
        (
            manifest.replace("part-00002", "part-00009"),
            "sync_2.json: table `users` has the file s3://heap-rs3-acme/sync_2/users/part-00009",
        ),
        (manifest.replace("heap-rs3-acme/sync_2/", "heap-rs3-acme/sync_2/../"), "which belongs to no dump"),
    ] {
        w.write(path, bad);
        import(&w, "b").expect(1).says(&["nothing was imported", says]);
        assert_eq!(owners_line(&w, &["5", "6"]), "5=u5 6=u6");
    }
    w.write(path, &manifest);
    w.write(&file, &rows[..rows.len() - 9]);
    import(&w, "b").expect(1).says(&["c000.avro cannot be read as Avro"]);
    std::fs::remove_file(w.path(&file)).unwrap();
    w.write("secret.avro", &rows);
    std::os::unix::fs::symlink(w.path("secret.avro"), w.path(&file)).unwrap();
    import(&w, "b").expect(1).says(&["is outside the folders"]);
    assert_eq!(owners_line(&w, &["5", "6"]), "5=u5 6=u6");
    std::fs::remove_file(w.path(&file)).unwrap();
    w.write(&file, rows);
    import(&w, "b").expect(0).says(&["2 dumps from 2 to 3"]);
    assert_eq!(owners_line(&w, &["5", "6"]), "5=v5 6=v6");
    import(&w, "nowhere").expect(1).says(&["nothing was imported: cannot list ./nowhere"]);
    import(&w, "https://heap.test/b").expect(1).says(&["neither a folder nor a bucket"]);
    w.run(&["identity", "import", "b", "--layout", "heap-connect", "--alias", "a=b"]).expect(64);
}

#[test]
fn a_table_without_a_full_dump_or_the_column_is_an_error() {
    let w = world();
    put(&w, "b", &dump(4, false, &[(5, "u5")], &[]));
    import(&w, "b").expect(1).says(&["no dump has all rows of the table `users`", "--layout heap-users"]);
    let mut bare = Dump::new(5);
    bare.rows("users", false, &[("user_id", "string")], &[vec![Cell::Long(5)]]);
    put(&w, "b", &bare.finished());
    import(&w, "b").expect(1).says(&["no dump of the table `users` has a column `identity`"]);
    w.run(&["identity", "stats"]).expect(0).says(&["0 entries"]);
    // It is in a later dump.
    put(&w, "b", &dump(6, false, &[(5, "u5")], &[(4, 5)]));
    import(&w, "b").expect(0).says(&["2 dumps from 5 to 6", "1 with an owner, 1 merged"]);
    assert_eq!(owners_line(&w, &["4", "5"]), "4=u5 5=u5");
    let by = |column: &str| {
        w.run(&["identity", "import", "b", "--layout", "heap-connect", "--external-id", column])
    };
    by("email").expect(1).says(&["no dump of the table `users` has a column `email`"]);
}

#[test]
fn late_or_restarted_dumps_are_read_from_the_start() {
    let w = world();
    put(&w, "b", &dump(9, true, &[(5, "u5"), (6, "u6"), (7, "u7")], &[(1, 5)]));
    put(&w, "b", &dump(11, false, &[(5, "w5")], &[(1, 6)]));
    import(&w, "b").expect(0);
    assert_eq!(owners_line(&w, &["1", "5", "6"]), "1=u6 5=w5 6=u6");
    // A dump between the two with a manifest that arrives late: the higher dump number wins.
    put(&w, "b", &dump(10, false, &[(5, "v5"), (6, "v6")], &[]));
    import(&w, "b").expect(0).says(&["3 dumps from 9 to 11; their earlier data is replaced"]);
    assert_eq!(owners_line(&w, &["1", "5", "6"]), "1=v6 5=w5 6=v6");
    // Old dumps are deleted, and so are ids missing from a later full dump. A damaged dump before the full one
    // is irrelevant.
    std::fs::remove_file(w.path("b/manifests/sync_9.json")).unwrap();
    w.write("b/manifests/sync_12.json", "no manifest");
    put(&w, "b", &dump(100, true, &[(5, "x5"), (6, "")], &[]));
    import(&w, "b").expect(0).says(&["dump 100"]);
    assert_eq!(owners_line(&w, &["1", "5", "6", "7"]), "5=x5");
    // The same dump, written again.
    let row = |owner| avro(&USERS, "null", &[vec![Cell::Long(5), Cell::text(Some(owner))]]);
    let mut second = Dump::new(100);
    second.table("users", false, &[], (0..11).map(|n| row(if n == 10 { "y5" } else { "z5" })).collect());
    second.rows("user_migrations", false, &MIGRATIONS, &[]);
    put(&w, "b", &second.finished());
    import(&w, "b").expect(0).says(&["dump 100"]);
    assert_eq!(owners_line(&w, &["5"]), "5=y5");
    // Another history with numbers from one.
    std::fs::remove_dir_all(w.path("b")).unwrap();
    put(&w, "b", &dump(1, true, &[(8, "u8")], &[]));
    import(&w, "b").expect(0).says(&["dump 1; their earlier data is replaced"]);
    assert_eq!(owners_line(&w, &["5", "8"]), "8=u8");
    w.run(&["forget", "u8"]).expect(0).says(&["erased 1 entry of the identity map"]);
    assert_eq!(owners_line(&w, &["8"]), "");
}

/// A member with Heap's user id is re-keyed as the dumps change, in both directions.
#[test]
fn members_are_rekeyed_and_reverted_as_dumps_change() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let rules = config(&sandbox.url, &["carts"], "");
    w.write(
        "sync.yaml",
        rules.replace("{ external_id: identity }", "{ alias: { label: heap_user_id, name: identity } }"),
    );
    w.source("carts", ["5".to_owned(), "6".to_owned(), "7".to_owned()]);
    let members = || sandbox.members("carts").into_iter().collect::<Vec<_>>().join(", ");
    put(&w, "b", &dump(1, true, &[(5, "u5"), (6, "u6")], &[(7, 6)]));
    import(&w, "b").expect(0);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(members(), "external_id u5, external_id u6");
    put(&w, "b", &dump(2, true, &[(6, "u6")], &[]));
    import(&w, "b").expect(0);
    w.run(&["reconcile", "--max-removes", "carts=3"]).expect(0);
    assert_eq!(members(), "alias heap_user_id:5, alias heap_user_id:7, external_id u6");
    w.run(&["state", "verify"]).expect(0);
    w.run(&["state", "gc"]).expect(0);
}

/// If an import fails at any step, the map is the one before or after, and the next import succeeds.
#[test]
fn an_import_killed_at_any_step_is_completed_by_the_next() {
    let seed = 11;
    let history = history(seed, 12);
    let w = world();
    let (before, after) = history.dumps.split_at(6);
    before.iter().for_each(|dump| put(&w, "b", dump));
    import(&w, "b").expect(0);
    let first = all_owners(&w, &history);
    after.iter().for_each(|dump| put(&w, "b", dump));
    let (mut died, mut done) = (0, 0);
    for step in 1.. {
        let mut command = w.command(&["identity", "import", "b", "--layout", "heap-connect"]);
        let how = if step % 2 == 0 { "die" } else { "full" };
        command.env("SYNCLINE_FAIL_AT", format!("{step}:{how}"));
        if run(command).code == 0 {
            break;
        }
        died += 1;
        let found = all_owners(&w, &history);
        // Steps after the commit are housekeeping.
        let is_done = owners(&found) == history.owners;
        assert!(found == first || is_done, "step {step}");
        done += u32::from(is_done);
    }
    assert!(died - done > 5 && done > 0, "{died} {done}");
    check(&w, &history, seed, "after all that");
}

/// Identity sources of the config are imported before cohorts are planned; a plan shows pending imports.
#[test]
fn configured_identity_sources_are_imported_before_planning() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let rules = "{ alias: { label: heap_user_id, name: identity } }, { device_id: identity }";
    let text = config(&sandbox.url, &["carts"], "").replace("{ external_id: identity }", rules);
    let identity = "identity:
  - { kind: heap_connect, path: dumps }
  - { kind: file, path: who.csv, external_id: id, device_id: device, alias: { label: heap_user_id, name: heap } }
";
    w.write("sync.yaml", text + identity);
    w.source("carts", ["5".to_owned(), "6".to_owned(), "8".to_owned()]);
    let members = || sandbox.members("carts").into_iter().collect::<Vec<_>>().join(", ");
    put(&w, "dumps", &dump(1, true, &[(5, "u5"), (6, "u6")], &[]));
    w.write("who.csv", "id,device,heap\nu8,d8,8\n");
    // A file written moments ago may change again within the same timestamp.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    w.run(&["doctor"])
        .says(&["the newest is dump 1, with 2 tables", "who.csv can be read and has the columns"]);
    let news = "has new identity data";
    w.run(&["plan"]).expect(0).says(&[&format!("dumps {news}"), &format!("who.csv {news}"), "+ add 3"]);
    w.run(&["identity", "stats"]).expect(0).says(&["0 entries"]);
    w.run(&["reconcile"]).expect(0).says(&["dumps: dump 1", "who.csv: read 1 row, 2 with an owner"]);
    assert_eq!(members(), "external_id u5, external_id u6, external_id u8");
    let second = w.run(&["plan"]).expect(0);
    assert!(!second.stderr.contains(news), "{}", second.stderr);
    let second = w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    assert!(!second.stderr.contains("dumps"), "{}", second.stderr);
    // An unreadable source removes no identities and is reported.
    put(&w, "dumps", &dump(2, true, &[(5, "v5"), (6, "u6")], &[]));
    let manifest = w.read("dumps/manifests/sync_2.json");
    w.write("dumps/manifests/sync_2.json", &manifest[..50]);
    w.replace("who.csv", "id,device\n");
    let reported = [
        "! identity dumps: nothing was imported: ",
        "sync_2.json is damaged",
        "! identity who.csv: nothing was imported: ",
        "has no column `heap`",
        "cohorts use the identity map as it is",
        "In sync",
    ];
    w.run(&["doctor"]).expect(11).says(&["sync_2.json is damaged", "has no column `heap`"]);
    w.run(&["reconcile"]).expect(1).says(&reported);
    assert_eq!(members(), "external_id u5, external_id u6, external_id u8");
    w.write("dumps/manifests/sync_2.json", manifest);
    w.replace("who.csv", "id,device,heap\nu8,d8,\n");
    w.run(&["reconcile", "--max-removes", "carts=3"]).expect(0).says(&["dumps: dump 2"]);
    assert_eq!(members(), "alias heap_user_id:8, external_id u6, external_id v5");
    w.run(&["state", "verify"]).expect(0);
}

/// A running `watch` checks for new dumps.
#[test]
fn watch_imports_new_dumps() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let rules = "{ alias: { label: heap_user_id, name: identity } }";
    let text = config(&sandbox.url, &["carts"], &format!("{SHORT_TIMEOUTS}  poll: 100ms\n"))
        .replace("{ external_id: identity }", rules);
    w.write("sync.yaml", text + "identity:\n  - { kind: heap_connect, path: dumps }\n");
    w.source("carts", ["5".to_owned(), "6".to_owned()]);
    put(&w, "dumps", &dump(1, true, &[(5, "u5")], &[]));
    let watch = Watch::from_command(&mut w.command(&["watch"]));
    watch.until_ready();
    let is = |expected: &str| sandbox.members("carts").into_iter().collect::<Vec<_>>().join(", ") == expected;
    until("the first dump is imported", || is("alias heap_user_id:6, external_id u5"));
    assert_eq!(sandbox.requests()["users"], json!(1), "no user was sent under another identifier first");
    put(&w, "dumps", &dump(2, false, &[(6, "u6")], &[]));
    until("the next dump is imported", || is("external_id u5, external_id u6"));
    w.write("dumps/manifests/sync_3.json", "no manifest");
    put(&w, "dumps", &dump(4, false, &[(6, "v6")], &[]));
    until("an invalid dump is reported", || {
        watch.log().contains("cannot import identities from dumps; the imported ones stay")
    });
    assert!(is("external_id u5, external_id u6"));
    std::fs::remove_file(w.path("dumps/manifests/sync_3.json")).unwrap();
    until("an invalid dump does not delay later imports", || is("external_id u5, external_id v6"));
}

const EVENTS: [(&str, &str); 4] =
    [("event_id", "long"), ("user_id", "long"), ("time", "long"), ("plan", "string")];

fn event(id: i64, user: i64, days_ago: i64) -> Vec<Cell> {
    #[allow(
        clippy::disallowed_methods,
        reason = "events of the last days, for a program that asks the clock"
    )]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let time = i64::try_from(now).unwrap() - days_ago * 86_400_000;
    vec![Cell::Long(id), Cell::Long(user), Cell::Long(time), Cell::text(Some("pro"))]
}

/// Users with an event in the last days, by the customer's own id: current rows, with merges from the dumps'
/// own `users` and `user_migrations`.
#[test]
fn a_cohort_of_recent_events_follows_dumps_and_merges() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let text = config(&sandbox.url, &["carts"], "")
        .replace("{ external_id: identity }", "{ alias: { label: heap_user_id, name: user_id } }")
        .replace(
            "{ kind: file, path: carts.csv }",
            "{ kind: heap_connect, path: dumps, table: checkout, within: 30d }",
        );
    w.write("sync.yaml", text + "identity:\n  - { kind: heap_connect, path: dumps }\n");
    let members = || sandbox.members("carts").into_iter().collect::<Vec<_>>().join(", ");
    w.run(&["reconcile"]).expect(1).says(&["cannot list"]);
    let people = |id, is_full: bool, people: &[(i64, &str)]| {
        let mut dump = Dump::new(id);
        let rows: Vec<Vec<Cell>> =
            people.iter().map(|(id, owner)| vec![Cell::Long(*id), Cell::text(Some(owner))]).collect();
        dump.rows("users", !is_full, &USERS, &rows);
        dump.rows("user_migrations", false, &MIGRATIONS, &[vec![Cell::Long(4), Cell::Long(5)]]);
        dump
    };
    put(&w, "dumps", &people(8, true, &[(5, "u5"), (6, "u6")]).finished());
    w.run(&["reconcile"])
        .expect(1)
        .says(&["no dump has a table `checkout`", "the newest dump has: users, user_migrations"]);
    let mut dump = people(9, false, &[]);
    dump.rows("checkout", true, &EVENTS, &[event(1, 5, 1)]);
    put(&w, "dumps", &dump.finished());
    w.run(&["reconcile"]).expect(1).says(&["no dump has all rows of the table `checkout`"]);
    let mut dump = people(10, false, &[]);
    dump.rows(
        "checkout",
        false,
        &EVENTS,
        &[event(1, 4, 1), event(2, 5, 2), event(3, 6, 29), event(4, 7, 3), event(5, 8, 31)],
    );
    put(&w, "dumps", &dump.finished());
    w.run(&["reconcile"]).expect(0).says(&["added 3"]);
    assert_eq!(members(), "alias heap_user_id:7, external_id u5, external_id u6");
    // Repeated rows replace earlier ones; columns may be added, dropped and reordered.
    let mut dump = people(11, false, &[(7, "u7")]);
    let columns = [("time", "long"), ("event_id", "string"), ("more", "string"), ("user_id", "double")];
    let second = |cells: Vec<Cell>| vec![cells[2].clone(), cells[0].clone(), Cell::Null, cells[1].clone()];
    dump.rows(
        "checkout",
        true,
        &columns,
        &[second(event(3, 6, 40)), second(event(6, 9, 0)), second(event(6, 9, 0))],
    );
    put(&w, "dumps", &dump.finished());
    w.run(&["plan"]).expect(0).says(&["has new identity data"]);
    let run = w.run(&["reconcile", "--max-removes", "carts=9", "--format", "json"]).expect(0).json();
    assert_eq!(run["cohorts"][0]["source"]["rows"], json!(4), "{run}");
    assert_eq!(members(), "alias heap_user_id:9, external_id u5, external_id u7");
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    w.run(&["doctor"]).says(&["the newest is dump 11, with 3 tables"]);
    // With a missing file or an unknown column, no member is removed.
    let manifest = w.read("dumps/manifests/sync_11.json");
    w.write(
        "dumps/manifests/sync_11.json",
        manifest.replace("sync_11/checkout/part-00002", "sync_11/checkout/part-00007"),
    );
    w.run(&["reconcile"]).expect(1).says(&[
        "table `checkout` has the file s3://heap-rs3-acme/sync_11/checkout/part-00007",
        "which does not exist",
    ]);
    w.write("dumps/manifests/sync_11.json", manifest);
    w.write("sync.yaml", w.read("sync.yaml").replace("name: user_id", "name: users.identity"));
    w.run(&["reconcile"]).expect(1).says(&["no dump of the table `checkout` has a column `users.identity`"]);
    assert_eq!(members(), "alias heap_user_id:9, external_id u5, external_id u7");
}

/// A whole table is not read again while its dumps are unchanged.
#[test]
fn a_cohort_of_a_whole_table_is_read_once_per_dump() {
    let (seed, w, sandbox) = (21, Workspace::new(), Sandbox::start());
    let history = history_with_columns(seed, 15, false);
    let source = "{ kind: heap_connect, path: dumps, table: users }";
    w.write(
        "sync.yaml",
        config(&sandbox.url, &["carts"], "").replace("{ kind: file, path: carts.csv }", source),
    );
    history.dumps.iter().for_each(|dump| put(&w, "dumps", dump));
    w.run(&["reconcile"]).expect(0);
    let (of_dumps, other) = (sandbox.members("carts"), Sandbox::start());
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    let second = w.run(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(second["cohorts"][0]["source"]["read"], json!(false));
    assert!(of_dumps.len() > 10, "seed {seed}");
    // The same from one full dump of the final state.
    let end = Workspace::new();
    end.write(
        "sync.yaml",
        config(&other.url, &["carts"], "").replace("{ kind: file, path: carts.csv }", source),
    );
    put(&end, "dumps", &history.end);
    end.run(&["reconcile"]).expect(0);
    assert_eq!(of_dumps, other.members("carts"), "seed {seed}");
}
