//! Heap Connect's dumps: however they are read, the map ends as one full dump of their end leaves it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::connect::{Cell, Dump, History, avro, history, life};
use crate::support::s3::{S3, S3_KEYS};
use crate::support::watch::{PATIENCE, Watch};
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

/// Whose everybody is, with when that was seen.
fn everybody(w: &Workspace, history: &History) -> BTreeMap<u64, (String, String)> {
    let ids: Vec<String> = history.everybody.iter().map(u64::to_string).collect();
    let mut args = vec!["identity", "show", "--format", "json"];
    args.extend(ids.iter().map(String::as_str));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let known = w.run(&args).expect(0).json()["known"].as_array().unwrap().clone();
    let one = |known: &Value| {
        (text(&known["id"]).parse().unwrap(), (text(&known["external_id"]), text(&known["seen"])))
    };
    known.iter().map(one).collect()
}

fn owners(found: &BTreeMap<u64, (String, String)>) -> BTreeMap<u64, String> {
    found.iter().map(|(id, (owner, _))| (*id, owner.clone())).collect()
}

#[track_caller]
fn check(w: &Workspace, history: &History, seed: u64, how: &str) -> BTreeMap<u64, (String, String)> {
    let found = everybody(w, history);
    assert_eq!(owners(&found), history.owners, "seed {seed}, {how}");
    found
}

#[test]
fn a_history_ends_in_the_same_map_however_it_is_read() {
    for seed in [1, 2, 3] {
        let history = history(seed, 40);
        let (of_end, at_once, by_dump, rarely) = (world(), world(), world(), world());
        assert!(history.owners.len() > 40 && *history.ids.last().unwrap() > 99, "seed {seed}");
        put(&of_end, "end", &history.end);
        import(&of_end, "end").expect(0);
        let end = check(&of_end, &history, seed, "one full dump of the end");
        history.dumps.iter().for_each(|dump| put(&at_once, "all", dump));
        // One that is not complete yet.
        at_once.write("all/sync_900/users/part-00000-x-c000.avro", "half of it");
        import(&at_once, "all").expect(0);
        assert!(check(&at_once, &history, seed, "at once") == end, "seed {seed}: seen at other times");
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
fn a_bucket_on_a_real_server_in_steps_and_under_a_prefix() {
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
        .says(&["nothing was learned: there is no dump in s3://states/copies/of heap/manifests"]);
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
    assert_eq!(everybody(&w, &history), BTreeMap::new());
    let mut command =
        w.command(&["identity", "import", "s3://nowhere", "--layout", "heap-connect", "--endpoint", &s3.url]);
    command.envs(keys);
    run(command).expect(5).says(&["cannot list s3://nowhere/manifests", "NoSuchBucket"]);
}

const USERS: [(&str, &str); 2] = [("user_id", "long"), ("identity", "string")];
const MIGRATIONS: [(&str, &str); 2] = [("from_user_id", "long"), ("to_user_id", "long")];

/// A dump with these people and merges.
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

/// Whose these are, in one line.
fn shown(w: &Workspace, ids: &[&str]) -> String {
    let known = w.run(&[&["identity", "show", "--format", "json"], ids].concat()).expect(0).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one = |known: &Value| format!("{}={}", text(&known["id"]), text(&known["external_id"]));
    known["known"].as_array().unwrap().iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_cannot_be_read_teaches_nothing_and_nothing_beyond_it_does() {
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
        (users("\"name\":\"users\""), "sync_2.json is damaged: the table `users` is there twice"),
        (
            manifest.replace("part-00002", "part-00009"),
            "sync_2.json: table `users` has the file s3://heap-rs3-acme/sync_2/users/part-00009",
        ),
        (manifest.replace("heap-rs3-acme/sync_2/", "heap-rs3-acme/sync_2/../"), "which is of no dump"),
    ] {
        w.write(path, bad);
        import(&w, "b").expect(1).says(&["nothing was learned", says]);
        assert_eq!(shown(&w, &["5", "6"]), "5=u5 6=u6");
    }
    w.write(path, &manifest);
    w.write(&file, &rows[..rows.len() - 9]);
    import(&w, "b").expect(1).says(&["c000.avro cannot be read as Avro"]);
    std::fs::remove_file(w.path(&file)).unwrap();
    w.write("secret.avro", &rows);
    std::os::unix::fs::symlink(w.path("secret.avro"), w.path(&file)).unwrap();
    import(&w, "b").expect(1).says(&["is outside the folders"]);
    assert_eq!(shown(&w, &["5", "6"]), "5=u5 6=u6");
    std::fs::remove_file(w.path(&file)).unwrap();
    w.write(&file, rows);
    import(&w, "b").expect(0).says(&["2 dumps from 2 to 3"]);
    assert_eq!(shown(&w, &["5", "6"]), "5=v5 6=v6");
    import(&w, "nowhere").expect(1).says(&["nothing was learned: cannot list ./nowhere"]);
    import(&w, "https://heap.test/b").expect(1).says(&["neither a folder nor a bucket"]);
    w.run(&["identity", "import", "b", "--layout", "heap-connect", "--alias", "a=b"]).expect(64);
}

#[test]
fn a_table_without_a_beginning_or_without_the_column_is_an_error() {
    let w = world();
    put(&w, "b", &dump(4, false, &[(5, "u5")], &[]));
    import(&w, "b").expect(1).says(&["no dump has all rows of the table `users`", "--layout heap-users"]);
    let mut bare = Dump::new(5);
    bare.rows("users", false, &[("user_id", "string")], &[vec![Cell::Long(5)]]);
    put(&w, "b", &bare.finished());
    import(&w, "b").expect(1).says(&["no dump of the table `users` has a column `identity`"]);
    w.run(&["identity", "stats"]).expect(0).says(&["0 entries"]);
    // It comes with a later one.
    put(&w, "b", &dump(6, false, &[(5, "u5")], &[(4, 5)]));
    import(&w, "b").expect(0).says(&["2 dumps from 5 to 6", "1 with an owner, 1 merged"]);
    assert_eq!(shown(&w, &["4", "5"]), "4=u5 5=u5");
    let by = |column: &str| {
        w.run(&["identity", "import", "b", "--layout", "heap-connect", "--external-id", column])
    };
    by("email").expect(1).says(&["no dump of the table `users` has a column `email`"]);
}

#[test]
fn what_comes_late_or_begins_again_is_read_from_its_beginning() {
    let w = world();
    put(&w, "b", &dump(9, true, &[(5, "u5"), (6, "u6"), (7, "u7")], &[(1, 5)]));
    put(&w, "b", &dump(11, false, &[(5, "w5")], &[(1, 6)]));
    import(&w, "b").expect(0);
    assert_eq!(shown(&w, &["1", "5", "6"]), "1=u6 5=w5 6=u6");
    // A dump between the two, whose manifest comes after the other's: the other has the last word.
    put(&w, "b", &dump(10, false, &[(5, "v5"), (6, "v6")], &[]));
    import(&w, "b").expect(0).says(&["3 dumps from 9 to 11; what they said before is set aside"]);
    assert_eq!(shown(&w, &["1", "5", "6"]), "1=v6 5=w5 6=v6");
    // Old dumps go, and so does what is in a later full dump no more. One before it may be as bad as it likes.
    std::fs::remove_file(w.path("b/manifests/sync_9.json")).unwrap();
    w.write("b/manifests/sync_12.json", "no manifest");
    put(&w, "b", &dump(100, true, &[(5, "x5"), (6, "")], &[]));
    import(&w, "b").expect(0).says(&["dump 100"]);
    assert_eq!(shown(&w, &["1", "5", "6", "7"]), "5=x5");
    // The same dump, told anew.
    let row = |owner| avro(&USERS, "null", &[vec![Cell::Long(5), Cell::text(Some(owner))]]);
    let mut again = Dump::new(100);
    again.table("users", false, &[], (0..11).map(|n| row(if n == 10 { "y5" } else { "z5" })).collect());
    again.rows("user_migrations", false, &MIGRATIONS, &[]);
    put(&w, "b", &again.finished());
    import(&w, "b").expect(0).says(&["dump 100"]);
    assert_eq!(shown(&w, &["5"]), "5=y5");
    // Another history, which counts from one.
    std::fs::remove_dir_all(w.path("b")).unwrap();
    put(&w, "b", &dump(1, true, &[(8, "u8")], &[]));
    import(&w, "b").expect(0).says(&["dump 1; what they said before is set aside"]);
    assert_eq!(shown(&w, &["5", "8"]), "8=u8");
    w.run(&["forget", "u8"]).expect(0).says(&["erased 1 entry of the identity map"]);
    assert_eq!(shown(&w, &["8"]), "");
}

/// A member who is known by Heap's number is moved as the dumps say, and back.
#[test]
fn members_follow_what_dumps_say_and_take_back() {
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

/// Whatever step of an import fails, the map is the one before or the one after, and the next import ends well.
#[test]
fn an_import_that_dies_anywhere_is_done_again() {
    let seed = 11;
    let history = history(seed, 12);
    let w = world();
    let (before, after) = history.dumps.split_at(6);
    before.iter().for_each(|dump| put(&w, "b", dump));
    import(&w, "b").expect(0);
    let first = everybody(&w, &history);
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
        let found = everybody(&w, &history);
        // What comes after the commit is housekeeping.
        let is_done = owners(&found) == history.owners;
        assert!(found == first || is_done, "step {step}");
        done += u32::from(is_done);
    }
    assert!(died - done > 5 && done > 0, "{died} {done}");
    check(&w, &history, seed, "after all that");
}

/// The sources that the config names are learned from before cohorts are planned; a plan says what there is to learn.
#[test]
fn what_the_config_names_is_learned_first() {
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
    // A file that has only just been written may change again and show the same time.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    w.run(&["doctor"])
        .says(&["the newest is dump 1, with 2 tables", "who.csv can be read, and has the columns"]);
    let news = "has something new of who is who";
    w.run(&["plan"]).expect(0).says(&[&format!("dumps {news}"), &format!("who.csv {news}"), "+ add 3"]);
    w.run(&["identity", "stats"]).expect(0).says(&["0 entries"]);
    w.run(&["reconcile"]).expect(0).says(&["dumps: dump 1", "who.csv: read 1 row, 2 with an owner"]);
    assert_eq!(members(), "external_id u5, external_id u6, external_id u8");
    let again = w.run(&["plan"]).expect(0);
    assert!(!again.stderr.contains(news), "{}", again.stderr);
    let again = w.run(&["reconcile"]).expect(0).says(&["In step"]);
    assert!(!again.stderr.contains("dumps"), "{}", again.stderr);
    // What cannot be read takes nothing back, and is told.
    put(&w, "dumps", &dump(2, true, &[(5, "v5"), (6, "u6")], &[]));
    let manifest = w.read("dumps/manifests/sync_2.json");
    w.write("dumps/manifests/sync_2.json", &manifest[..50]);
    w.replace("who.csv", "id,device\n");
    let told = [
        "! identity dumps: nothing was learned: ",
        "sync_2.json is damaged",
        "! identity who.csv: nothing was learned: ",
        "has no column `heap`",
        "cohorts go on with what was known before",
        "In step",
    ];
    w.run(&["doctor"]).expect(11).says(&["sync_2.json is damaged", "has no column `heap`"]);
    w.run(&["reconcile"]).expect(1).says(&told);
    assert_eq!(members(), "external_id u5, external_id u6, external_id u8");
    w.write("dumps/manifests/sync_2.json", manifest);
    w.replace("who.csv", "id,device,heap\nu8,d8,\n");
    w.run(&["reconcile", "--max-removes", "carts=3"]).expect(0).says(&["dumps: dump 2"]);
    assert_eq!(members(), "alias heap_user_id:8, external_id u6, external_id v5");
    w.run(&["state", "verify"]).expect(0);
}

/// A running `watch` looks by itself whether there is a new dump.
#[test]
fn a_running_watch_learns_from_new_dumps() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let rules = "{ alias: { label: heap_user_id, name: identity } }";
    let text = config(&sandbox.url, &["carts"], &format!("{PATIENCE}  poll: 100ms\n"))
        .replace("{ external_id: identity }", rules);
    w.write("sync.yaml", text + "identity:\n  - { kind: heap_connect, path: dumps }\n");
    w.source("carts", ["5".to_owned(), "6".to_owned()]);
    put(&w, "dumps", &dump(1, true, &[(5, "u5")], &[]));
    let watch = Watch::from_command(&mut w.command(&["watch"]));
    watch.until_ready();
    let is = |expected: &str| sandbox.members("carts").into_iter().collect::<Vec<_>>().join(", ") == expected;
    until("the first dump counts at once", || is("alias heap_user_id:6, external_id u5"));
    assert_eq!(sandbox.requests()["users"], json!(1), "nobody was sent under another name first");
    put(&w, "dumps", &dump(2, false, &[(6, "u6")], &[]));
    until("and so does the next", || is("external_id u5, external_id u6"));
    w.write("dumps/manifests/sync_3.json", "no manifest");
    put(&w, "dumps", &dump(4, false, &[(6, "v6")], &[]));
    until("a bad one is told", || {
        watch.log().contains("who is who cannot be learned from dumps; what was known stays")
    });
    assert!(is("external_id u5, external_id u6"));
    std::fs::remove_file(w.path("dumps/manifests/sync_3.json")).unwrap();
    until("a bad one holds nobody up for long", || is("external_id u5, external_id v6"));
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

/// Who did something in the last days, by the customer's own id: rows as they stand after replay, moved by the dumps'
/// own `users` and `user_migrations`.
#[test]
fn a_cohort_of_who_did_something_lately() {
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
    // Rows that are told again replace what they were; a column may go and another come, in another order.
    let mut dump = people(11, false, &[(7, "u7")]);
    let columns = [("time", "long"), ("event_id", "string"), ("more", "string"), ("user_id", "double")];
    let again = |cells: Vec<Cell>| vec![cells[2].clone(), cells[0].clone(), Cell::Null, cells[1].clone()];
    dump.rows(
        "checkout",
        true,
        &columns,
        &[again(event(3, 6, 40)), again(event(6, 9, 0)), again(event(6, 9, 0))],
    );
    put(&w, "dumps", &dump.finished());
    w.run(&["plan"]).expect(0).says(&["has something new of who is who"]);
    let run = w.run(&["reconcile", "--max-removes", "carts=9", "--format", "json"]).expect(0).json();
    assert_eq!(run["cohorts"][0]["source"]["rows"], json!(4), "{run}");
    assert_eq!(members(), "alias heap_user_id:9, external_id u5, external_id u7");
    w.run(&["reconcile"]).expect(0).says(&["In step"]);
    w.run(&["doctor"]).says(&["the newest is dump 11, with 3 tables"]);
    // A file that is gone, or a column that never was: nobody leaves.
    let manifest = w.read("dumps/manifests/sync_11.json");
    w.write(
        "dumps/manifests/sync_11.json",
        manifest.replace("sync_11/checkout/part-00002", "sync_11/checkout/part-00007"),
    );
    w.run(&["reconcile"]).expect(1).says(&[
        "table `checkout` has the file s3://heap-rs3-acme/sync_11/checkout/part-00007",
        "which is not there",
    ]);
    w.write("dumps/manifests/sync_11.json", manifest);
    w.write("sync.yaml", w.read("sync.yaml").replace("name: user_id", "name: users.identity"));
    w.run(&["reconcile"]).expect(1).says(&["no dump of the table `checkout` has a column `users.identity`"]);
    assert_eq!(members(), "alias heap_user_id:9, external_id u5, external_id u7");
}

/// A table as a whole is not read again while its dumps are what they were.
#[test]
fn a_cohort_of_all_users_of_a_history() {
    let (seed, w, sandbox) = (21, Workspace::new(), Sandbox::start());
    let history = life(seed, 15, false);
    let source = "{ kind: heap_connect, path: dumps, table: users }";
    w.write(
        "sync.yaml",
        config(&sandbox.url, &["carts"], "").replace("{ kind: file, path: carts.csv }", source),
    );
    history.dumps.iter().for_each(|dump| put(&w, "dumps", dump));
    w.run(&["reconcile"]).expect(0);
    let (of_dumps, other) = (sandbox.members("carts"), Sandbox::start());
    w.run(&["reconcile"]).expect(0).says(&["In step"]);
    let again = w.run(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(again["cohorts"][0]["source"]["read"], json!(false));
    assert!(of_dumps.len() > 10, "seed {seed}");
    // The same from one full dump of the end.
    let end = Workspace::new();
    end.write(
        "sync.yaml",
        config(&other.url, &["carts"], "").replace("{ kind: file, path: carts.csv }", source),
    );
    put(&end, "dumps", &history.end);
    end.run(&["reconcile"]).expect(0);
    assert_eq!(of_dumps, other.members("carts"), "seed {seed}");
}
