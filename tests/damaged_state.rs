//! Damaged, outdated and lost state: an error that names the file, only for the work that needs the file.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::s3::{S3, with_keys};
use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

const SECRET: &str = "whsec_test";
const CAMPAIGN: &str = "3aca937b-9bbc-4e42-9370-05e411967b2b";

/// A cohort with a Heap segment as source.
const SEGMENT: &str = "  - id: free
    name: Free
    to: braze
    source: { kind: heap_segment, connection: heap, segment_id: 7 }
    match: [ { external_id: id } ]
    guard: { max_added: 100000%, max_removed: 100%, allow_empty: true }
";

fn post(sandbox: &Sandbox, path: &str, body: &Value) {
    let json = [("content-type", "application/json")];
    let response = http(&sandbox.url, "POST", path, &json, &body.to_string());
    assert!((200..300).contains(&response.status), "{path}: {} {}", response.status, response.body);
}

fn watch(w: &Workspace, sandbox: &Sandbox) -> Watch {
    let watch = Watch::from_command(w.command(&["watch"]).env("TEST_WEBHOOK", SECRET));
    watch.until_ready();
    let url = format!("{}/heap/heap", watch.endpoints());
    post(sandbox, "/_sandbox/heap/webhook", &json!({ "url": url, "secret": SECRET, "first_wait": 20 }));
    watch
}

fn segment(sandbox: &Sandbox, people: usize) {
    let people: Vec<String> = (0..people).map(|n| format!("seg-{n}")).collect();
    post(sandbox, "/_sandbox/heap/segments", &json!({ "id": 7, "name": "Free", "members": people }));
    post(sandbox, "/_sandbox/heap/sync", &json!({}));
}

/// Runs the program with the webhook's secret.
fn run_with(w: &Workspace, args: &[&str]) -> Run {
    let mut command = w.command(args);
    command.env("TEST_WEBHOOK", SECRET);
    run(command)
}

/// A segment of eight users, delivered by webhook and synced to Braze.
fn with_segment() -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let heap = "  heap: { kind: heap, webhook_secret: { env: TEST_WEBHOOK } }\n".to_owned() + SHORT_TIMEOUTS;
    w.write("sync.yaml", config(&sandbox.url, &["trials"], &heap) + SEGMENT).source("trials", users(30));
    let watch = watch(&w, &sandbox);
    segment(&sandbox, 8);
    until("the segment is in Braze", || sandbox.members("free").len() == 8);
    watch.until_in_sync();
    assert_eq!(watch.stop(), 0);
    (w, sandbox)
}

fn remove(path: &Path) {
    if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
}

/// The versions of a cohort, the newest last.
fn versions(w: &Workspace, cohort: &str) -> Vec<PathBuf> {
    let folder = w.path(&format!(".syncline/cohorts/{cohort}/versions"));
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// 42 members in Braze, and a state without the versions that added the last two.
fn with_older_state() -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(40)).source("trials", users(5));
    w.run(&["reconcile"]).expect(0);
    let before = versions(&w, "carts").len();
    w.source("carts", users(42));
    w.run(&["reconcile"]).expect(0);
    versions(&w, "carts").iter().skip(before).for_each(|path| remove(path));
    w.source("carts", users(40)).source("trials", users(6));
    (w, sandbox)
}

#[test]
fn a_state_that_is_older_than_its_commits_stops_that_cohort_and_is_found() {
    let (w, sandbox) = with_older_state();
    let run = w.run(&["reconcile"]).expect(1);
    let run = run.says(&[
        "cohorts/carts is older than the last commit: version",
        "syncline resync carts --yes, then syncline reconcile",
        "syncline state accept cohorts/carts",
        "added 1",
    ]);
    assert!(!run.stdout.contains("In sync"), "{}", run.stdout);
    assert_eq!((sandbox.members("carts").len(), sandbox.members("trials").len()), (42, 6));
    w.run(&["plan", "carts"]).expect(1).says(&["cohorts/carts is older"]);
    w.run(&["state", "verify"]).expect(1).says(&["cohorts/carts: older than the last commit"]);
    w.run(&["state", "gc"]).expect(0);
    let parts = w.path(".syncline/cohorts/carts/parts");
    assert_eq!(std::fs::read_dir(parts).unwrap().count(), 2, "data for a later restore is kept");
}

#[test]
fn resync_recovers_every_user_who_may_be_in_an_older_cohort() {
    let (w, sandbox) = with_older_state();
    w.run(&["resync", "carts", "--yes"]).expect(0).says(&["2 members of its parts are in doubt"]);
    w.run(&["state", "verify"]).expect(0);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(users(40)), "no member is left in the cohort");
    w.run(&["reconcile"]).expect(0).says(&["In sync: 2 cohorts"]);
}

#[test]
fn an_older_state_can_be_accepted_and_no_version_number_is_reused() {
    let (w, sandbox) = with_older_state();
    // The numbers of the two lost versions.
    let lost = versions(&w, "carts").len() + 2;
    w.run(&["state", "accept", "cohorts/trials"]).expect(64).says(&["these are: cohorts/carts"]);
    w.run(&["state", "accept", "cohorts/carts"]).expect(0);
    w.run(&["state", "verify"]).expect(0);
    let number = |path: &Path| path.file_stem().unwrap().to_str().unwrap().parse::<usize>().unwrap();
    assert_eq!(number(&versions(&w, "carts")[0]), lost + 1);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts").len(), 42, "the two lost versions are forgotten, as accepted");
}

/// If any one part of the state is older or missing, the other parts prove it.
#[test]
fn the_rest_of_a_state_proves_later_commits() {
    let lose: [(&str, &[&str]); 5] = [
        ("the versions and the numbers", &["heads"]),
        ("the versions and the journal", &["journal"]),
        ("the versions and the lease", &["lease.json"]),
        ("the versions, the numbers and the lease", &["heads", "lease.json"]),
        ("the versions, the journal and the lease", &["journal", "lease.json"]),
    ];
    for (case_name, more) in lose {
        let (w, sandbox) = with_older_state();
        more.iter().for_each(|name| remove(&w.path(&format!(".syncline/{name}"))));
        let run = w.run(&["reconcile"]);
        assert_eq!(run.code, 1, "{case_name}: {} {}", run.stdout, run.stderr);
        run.says(&["is older than the last commit"]);
        assert_eq!(sandbox.members("carts").len(), 42, "{case_name}");
        w.run(&["state", "verify"]).expect(1);
    }
}

#[test]
fn a_state_that_must_exist_is_never_created_by_a_run() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    w.write("sync.yaml", w.read("sync.yaml") + "state: { path: memory, must_exist: true }\n");
    for args in [&["plan"][..], &["reconcile"], &["watch"], &["state", "verify"], &["status"]] {
        w.run(args).expect(1).says(&["there is no state in", "syncline state create"]);
    }
    assert!(!w.path("memory").exists());
    w.run(&["state", "create"]).expect(0);
    w.run(&["state", "create"]).expect(64);
    w.run(&["reconcile"]).expect(0).says(&["added 3"]);
    remove(&w.path("memory"));
    w.run(&["reconcile"]).expect(1).says(&["was a cache lost, or a volume not mounted?"]);
    assert_eq!(sandbox.members("carts").len(), 3);
    w.write("sync.yaml", w.read("sync.yaml").replace("must_exist: true", "must_exists: true"));
    w.run(&["validate"]).expect(3).says(&["must_exists"]);
}

#[test]
fn a_lost_or_older_segment_table_removes_no_members() {
    for is_lost in [true, false] {
        let (w, sandbox) = with_segment();
        let folder = w.path(".syncline/segments");
        let table = w.path(".syncline/segments/heap/versions/000000000001.json");
        let first = std::fs::read(&table).unwrap();
        let watch_one = watch(&w, &sandbox);
        segment(&sandbox, 10);
        until("two more members are in Braze", || sandbox.members("free").len() == 10);
        watch_one.until_in_sync();
        watch_one.stop();
        if is_lost {
            remove(&folder);
        } else {
            for entry in std::fs::read_dir(table.parent().unwrap()).unwrap() {
                remove(&entry.unwrap().path());
            }
            w.write(".syncline/segments/heap/versions/000000000001.json", &first);
        }
        let says = ["segments/heap is older than the last commit", "ask Heap for a full sync"];
        run_with(&w, &["reconcile"]).expect(1).says(&says);
        run_with(&w, &["state", "verify"]).expect(1).says(&["segments/heap: older"]);
        run_with(&w, &["state", "accept", "segments/heap"]).expect(6).says(&["no delivery of `heap` waits"]);
        // The next delta is neither read as a full sync nor lost.
        let second = watch(&w, &sandbox);
        post(&sandbox, "/_sandbox/heap/segments/7/change", &json!({ "add": ["seg-99"] }));
        post(&sandbox, "/_sandbox/heap/sync", &json!({}));
        until("it stops", || second.log().contains("is older than the last commit"));
        second.stop();
        assert_eq!(sandbox.members("free").len(), 10, "no member was removed");
        // The waiting deliveries may be a delta; nothing proves that they are a full sync.
        run_with(&w, &["state", "accept", "segments/heap"]).expect(6).says(&[
            "none of them is a drain",
            "segment 7",
            "state accept segments/heap --full-sync",
        ]);
        run_with(&w, &["state", "verify"]).expect(1).says(&["segments/heap: older"]);
        // After the segment is disabled and enabled, Heap sends a full sync.
        let third = watch(&w, &sandbox);
        post(&sandbox, "/_sandbox/heap/segments/7/drain", &json!({}));
        segment(&sandbox, 12);
        until("the deliveries wait", || third.log().contains("is older than the last commit"));
        third.stop();
        run_with(&w, &["state", "accept", "segments/heap"])
            .expect(0)
            .says(&["are rebuilt from the deliveries"]);
        run_with(&w, &["state", "verify"]).expect(0);
        run_with(&w, &["reconcile"]).expect(0);
        assert_eq!(sandbox.members("free"), members((0..12).map(|n| format!("seg-{n}"))));
    }
}

/// A killed process leaves unfinished files.
fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// How a file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Flipped(usize),
    Cut,
    Emptied,
    Deleted,
    Swapped,
}

/// Another workspace.
fn second(sandbox: &Sandbox) -> String {
    let without_cohorts = config(&sandbox.url, &[], "");
    let (_, without_cohorts) = without_cohorts.split_once("  braze:\n").unwrap();
    format!("  second:\n{}", without_cohorts.strip_suffix("cohorts:\n").unwrap())
}

/// A cohort in the other workspace.
fn elsewhere() -> String {
    cohort_entry("elsewhere", "").replace("to: braze", "to: second")
}

/// A state with every kind of file.
fn realistic() -> (Workspace, Sandbox) {
    let (w, sandbox) = with_segment();
    let api = json!([{ "id": CAMPAIGN, "name": "Welcome", "is_api": true }]).to_string();
    sandbox.admin_post("/_sandbox/campaigns", &api);
    w.write(
        "sync.yaml",
        w.read("sync.yaml")
            .replace("    retry:", "    rest_api_key: { env: TEST_REST_KEY }\n    retry:")
            .replace("webhook_secret: { env: TEST_WEBHOOK }", &format!("webhook_secret: {{ env: TEST_WEBHOOK }}, endpoint: \"{}\", app_id: 11", sandbox.url))
            .replace("  heap:", &format!("{}  heap:", second(&sandbox)))
            + &cohort_entry("carts", &format!("    on_enter: {{ campaign: {CAMPAIGN} }}\n"))
            + &elsewhere()
            + "exports:\n  - { id: engagement, source: { kind: currents_storage, path: cur, incomplete_after: 0s }, to: heap }\n",
    );
    w.source("carts", users(10).chain(["not usable".repeat(200)])).source("elsewhere", users(3));
    w.run(&["sandbox", "currents", "--out", "cur", "--events", "20", "--hours", "2"]).expect(0);
    w.write("who.csv", "id,device\nuser-1,d1\n");
    w.run(&["validate"]).expect(0);
    run_with(&w, &["identity", "import", "who.csv", "--owner", "id", "--device", "device"]);
    let first = run_with(&w, &["reconcile"]);
    assert!([0, 7].contains(&first.code), "{} {}", first.stdout, first.stderr);
    w.source("carts", users(12));
    run_with(&w, &["reconcile"]).expect(0);
    let digest = format!("sha256:{}", "0".repeat(64));
    run_with(&w, &["approve", "carts", "--plan", &digest]).expect(0);
    // Deliveries that are not ingested yet.
    let watch = watch(&w, &sandbox);
    segment(&sandbox, 9);
    let inbox = w.path(".syncline/inbox/heap.heap");
    until("a delivery is in the inbox", || inbox.exists() || !w.snapshot(".syncline/inbox").is_empty());
    watch.kill();
    (w, sandbox)
}

#[test]
fn every_kind_of_damage_of_every_file_is_handled() {
    let (w, _sandbox) = realistic();
    let root = w.path(".syncline");
    let files: Vec<(PathBuf, Vec<u8>)> =
        w.snapshot(".syncline").into_iter().filter(|(path, _)| !is_temporary(path)).collect();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    let kinds = |path: &Path| name(path).split('/').next().unwrap().to_owned();
    let have: std::collections::BTreeSet<String> = files.iter().map(|(path, _)| kinds(path)).collect();
    for kind in [
        "cohorts",
        "segments",
        "exports",
        "inbox",
        "triggers",
        "approvals",
        "journal",
        "workspaces",
        "rejects",
        "format.json",
        "format.copy.json",
        "lease.json",
        "heads",
    ] {
        assert!(have.contains(kind), "{kind} is missing of {have:?}");
    }
    let mut seen = std::collections::BTreeMap::new();
    for (path, bytes) in &files {
        let relative = name(path);
        // Two files of each folder are representative.
        let folder = path.parent().unwrap().to_owned();
        let count: &mut u32 = seen.entry((folder, path.extension().map(ToOwned::to_owned))).or_default();
        *count += 1;
        if *count > 2 || bytes.is_empty() {
            continue;
        }
        let last = bytes.len() - 1;
        let damages = [
            Damage::Flipped(0),
            Damage::Flipped(last / 3),
            Damage::Flipped(last),
            Damage::Cut,
            Damage::Emptied,
            Damage::Deleted,
            Damage::Swapped,
        ];
        for damage in damages {
            let Some(bad) = damaged(damage, path, bytes, &files) else { continue };
            match bad {
                Some(bad) => drop(w.write(path.to_str().unwrap(), bad)),
                None => remove(path),
            }
            judge(&w, &relative, damage);
            w.write(path.to_str().unwrap(), bytes);
        }
    }
    run_with(&w, &["plan"]).expect(0);
}

/// The damaged bytes: empty if the file is deleted, `None` if the damage does not apply.
#[allow(clippy::option_option, reason = "no damage, and no file, are two things")]
fn damaged(
    damage: Damage,
    path: &Path,
    bytes: &[u8],
    files: &[(PathBuf, Vec<u8>)],
) -> Option<Option<Vec<u8>>> {
    Some(match damage {
        Damage::Flipped(at) => {
            let mut bad = bytes.to_vec();
            bad[at] ^= 0x10;
            Some(bad)
        }
        Damage::Cut => Some(bytes[..bytes.len() / 2].to_vec()),
        Damage::Emptied => Some(Vec::new()),
        Damage::Deleted => None,
        Damage::Swapped => {
            let is_like = |other: &Path| {
                other != path && other.extension() == path.extension() && other.parent() != path.parent()
            };
            Some(files.iter().find(|(other, other_bytes)| is_like(other) && other_bytes != bytes)?.1.clone())
        }
    })
}

/// Checks that `plan` and `state verify` report the damage, and that nothing panics.
fn judge(w: &Workspace, relative: &str, damage: Damage) {
    let case_name = format!("{relative} {damage:?}");
    let plan = run_with(w, &["plan"]);
    let verify = run_with(w, &["state", "verify"]);
    for run in [&plan, &verify] {
        assert!((0..=9).contains(&run.code), "{case_name}: exit {}: {} {}", run.code, run.stdout, run.stderr);
        assert!(
            !run.stderr.contains("panicked") && !run.stderr.contains("bug in"),
            "{case_name}: {}",
            run.stderr
        );
    }
    let kind = relative.split('/').next().unwrap();
    // Nothing depends on a lost log or a used approval, and a lost delivery never existed.
    let may_be_unseen = match damage {
        Damage::Deleted => ["journal", "rejects", "approvals", "inbox", "checks", "pushdown"].contains(&kind),
        Damage::Emptied => kind == "inbox",
        Damage::Swapped | Damage::Flipped(_) | Damage::Cut => false,
    };
    let found = format!("{}{}", verify.stdout, verify.stderr);
    let place: String = relative.split('/').take(2).collect::<Vec<_>>().join("/");
    let is_older_copy = relative.ends_with(".json") && damage == Damage::Deleted;
    let named =
        found.contains(relative) || (is_older_copy && (found.contains(&place) || found.contains(kind)));
    let is_superseded = is_older_copy && verify.code == 0;
    assert!(named || may_be_unseen || is_superseded, "{case_name}: not found by verify: {found}");
    // Other cohorts are applied, and so are the cohorts of another workspace.
    let said = format!("{}{}", plan.stdout, plan.stderr);
    match kind {
        "format.json" => {
            assert_eq!(plan.code, 1, "{case_name}: {said}");
            assert!(
                said.contains("format.json") && said.contains("format.copy.json over it"),
                "{case_name}: {said}"
            );
        }
        "workspaces" => {
            let is_of = |name: &str| relative.starts_with(&format!("workspaces/{name}/"));
            let (stopped, goes_on) =
                if is_of("second") { ("elsewhere", "trials") } else { ("trials", "elsewhere") };
            assert!(said.contains(goes_on), "{case_name}: {said}");
            if plan.code != 0 {
                let names_it = said.contains(relative) || said.contains(&place);
                assert!(
                    names_it && said.contains(stopped) && said.contains("syncline state a"),
                    "{case_name}: {said}"
                );
            }
        }
        "heads" | "journal" | "rejects" | "lease.json" | "format.copy.json" => {
            assert_eq!(plan.code, 0, "{case_name}: {said}");
        }
        _ if relative.starts_with("cohorts/trials") => {
            assert!(plan.stdout.contains("elsewhere"), "{case_name}: {said}");
        }
        _ => assert!(plan.stdout.contains("trials"), "{case_name}: {said}"),
    }
}

/// Flips a bit in the middle of a file of the state.
fn flip(w: &Workspace, relative: &str) {
    let path = w.path(&format!(".syncline/{relative}"));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    w.write(path.to_str().unwrap(), bytes);
}

/// Two workspaces with a cohort each.
fn two_workspaces() -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox.url, &["trials"], &second(&sandbox)) + &elsewhere());
    w.source("trials", users(5)).source("elsewhere", users(3));
    w.run(&["reconcile"]).expect(0);
    (w, sandbox)
}

#[test]
fn damaged_key_fingerprints_stop_one_workspace_until_its_keys_are_adopted() {
    let (w, sandbox) = two_workspaces();
    flip(&w, "workspaces/braze/versions/000000000001.json");
    w.source("trials", users(6)).source("elsewhere", users(4));
    let says = ["workspaces/braze/versions/000000000001.json is damaged", "syncline state adopt braze"];
    w.run(&["plan"]).expect(1).says(&says).says(&["elsewhere"]);
    w.run(&["reconcile"]).expect(1).says(&says).says(&["added 1"]);
    assert_eq!((sandbox.members("trials").len(), sandbox.members("elsewhere").len()), (5, 4));
    w.run(&["state", "verify"]).expect(1).says(&says[..1]);
    w.run(&["state", "adopt", "braze"]).expect(0).says(&["adopted"]);
    w.run(&["state", "verify"]).expect(0);
    w.run(&["reconcile"]).expect(0).says(&["added 1"]);
    assert_eq!(sandbox.members("trials").len(), 6);
    let mut other = w.command(&["reconcile"]);
    other.env("TEST_IMPORT_KEY", "of-another-workspace");
    run(other).expect(6);
}

#[test]
fn the_numbers_and_the_key_seed_survive_the_loss_of_one_file() {
    let (w, sandbox) = two_workspaces();
    let newest = w.snapshot(".syncline/heads").into_iter().map(|(path, _)| path).max().unwrap();
    let name = newest.file_name().unwrap().to_str().unwrap().to_owned();
    for file in [format!("heads/{name}"), format!("heads/copies/{name}")] {
        flip(&w, &file);
        w.run(&["state", "verify"]).expect(0).says(&[&format!("{file} is damaged")]);
        w.run(&["plan"]).expect(0).says(&["trials"]);
        flip(&w, &file);
    }
    flip(&w, &format!("heads/{name}"));
    flip(&w, &format!("heads/copies/{name}"));
    w.run(&["plan"]).expect(1).says(&["heads/", "is older than the last commit", "state accept heads/"]);
    w.run(&["state", "accept", &format!("heads/{name}")]).expect(0);
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    flip(&w, "format.json");
    for args in [&["plan"][..], &["reconcile"], &["state", "verify"]] {
        w.run(args).expect(1).says(&["format.json is damaged", "format.copy.json over it"]);
    }
    std::fs::copy(w.path(".syncline/format.copy.json"), w.path(".syncline/format.json")).unwrap();
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    flip(&w, "format.copy.json");
    w.run(&["state", "verify"]).expect(0).says(&["format.copy.json: it is damaged or missing"]);
    w.run(&["reconcile"]).expect(0);
    assert!(!w.run(&["state", "verify"]).expect(0).stdout.contains("format.copy.json"));
    assert_eq!(sandbox.members("trials").len(), 5);
}

/// Runs the remedies that the error of a damaged cohort lists.
#[test]
fn a_damaged_cohort_can_be_sent_again() {
    let (w, sandbox) = older_or_whole();
    let version = versions(&w, "carts").pop().unwrap();
    let name = version.strip_prefix(w.path(".syncline")).unwrap().to_str().unwrap().to_owned();
    flip(&w, &name);
    w.source("carts", users(41)).source("trials", users(6));
    w.run(&["reconcile"]).expect(1).says(&[&name, "delete the file", "syncline resync carts", "added 1"]);
    remove(&version);
    w.run(&["resync", "carts", "--yes"]).expect(0);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(users(41)));
    w.run(&["state", "verify"]).expect(0);
    // Some parts are superseded, so all of them are damaged.
    for (part, _) in w.snapshot(".syncline/cohorts/carts/parts") {
        flip(&w, part.strip_prefix(w.path(".syncline")).unwrap().to_str().unwrap());
    }
    let name = "cohorts/carts/parts/";
    w.source("carts", users(43));
    let says = ["move the folder cohorts/carts", "state accept cohorts/carts"];
    w.run(&["reconcile"]).expect(1).says(&[name]).says(&says);
    #[allow(clippy::disallowed_methods, reason = "the operator moves the folder")]
    std::fs::rename(w.path(".syncline/cohorts/carts"), w.path("away")).unwrap();
    w.run(&["state", "accept", "cohorts/carts"]).expect(0);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(users(43)));
    w.run(&["state", "verify"]).expect(0);
}

/// 42 members in Braze, sent by two runs.
fn older_or_whole() -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(40)).source("trials", users(5));
    w.run(&["reconcile"]).expect(0);
    w.source("carts", users(42));
    w.run(&["reconcile"]).expect(0);
    (w, sandbox)
}

#[test]
fn a_flipped_bit_of_the_journal_costs_one_line_and_is_reported() {
    let (w, _sandbox) = older_or_whole();
    let (path, bytes) = w.snapshot(".syncline/journal").remove(0);
    // A digit of a number: the line stays valid JSON.
    let text = String::from_utf8(bytes).unwrap();
    let line = text.lines().position(|line| line.contains("\"added\":40")).unwrap() + 1;
    w.write(path.to_str().unwrap(), text.replace("\"added\":40", "\"added\":50"));
    let name = path.strip_prefix(w.path(".syncline")).unwrap().to_str().unwrap().to_owned();
    let history =
        w.run(&["history"]).expect(0).says(&["added 2", &name, &format!("the first is line {line}")]);
    assert!(!history.stdout.contains("added 50"), "{}", history.stdout);
    let found = format!("{name}: line {line} is damaged");
    w.run(&["state", "verify"]).expect(0).says(&[&found]);
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
}

/// The same in a bucket, for one file of each kind.
#[test]
fn damaged_files_in_a_bucket_are_named_and_stop_what_needs_them() {
    let Some(s3) = S3::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let text = config(&sandbox.url, &["trials", "carts"], &second(&sandbox)) + &elsewhere();
    w.write("sync.yaml", text + &s3.config("5s"));
    w.source("trials", users(5)).source("elsewhere", users(3));
    w.source("carts", users(5).chain(["not usable".repeat(200)]));
    let run_command = |args: &[&str]| with_keys(&w, args);
    run_command(&["reconcile"]).expect(0);
    let keys = s3.keys("team/prod/");
    let newest = |kind: &str| {
        keys.iter().filter(|key| key.starts_with(&format!("team/prod/{kind}"))).max().unwrap().clone()
    };
    // The file, and whether the cohorts `trials` and `elsewhere` are applied.
    for (kind, goes_on) in [
        ("format.json", &[][..]),
        ("workspaces/braze/", &["elsewhere"]),
        ("cohorts/trials/versions/", &["elsewhere"]),
        ("cohorts/trials/parts/", &["elsewhere"]),
        ("heads/0", &["trials", "elsewhere"]),
        ("journal/", &["trials", "elsewhere"]),
        ("rejects/", &["trials", "elsewhere"]),
    ] {
        let key = newest(kind);
        let bytes = s3.get(&key);
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 0x10;
        let relative = key.strip_prefix("team/prod/").unwrap();
        for bad in [Some(flipped), None] {
            let case_name = format!("{key} {}", if bad.is_some() { "flipped" } else { "deleted" });
            match &bad {
                Some(bad) => s3.put(&key, bad),
                None => s3.delete(&key),
            }
            // Members outside the state, so that parts are read.
            w.source("trials", users(6));
            let (plan, verify) = (run_command(&["plan"]), run_command(&["state", "verify"]));
            let said = format!("{}{}", plan.stdout, plan.stderr);
            assert!(!said.contains("panicked"), "{case_name}: {said}");
            assert!(goes_on.iter().all(|id| plan.stdout.contains(id)), "{case_name}: {said}");
            assert_eq!(plan.code, i32::from(goes_on.len() < 2), "{case_name}: {said}");
            let found = format!("{}{}", verify.stdout, verify.stderr);
            let place = relative.split('/').take(2).collect::<Vec<_>>().join("/");
            let may_be_unseen = bad.is_none() && ["journal/", "rejects/"].contains(&kind);
            let is_named = found.contains(relative) || (bad.is_none() && found.contains(&place));
            assert!(is_named || may_be_unseen, "{case_name}: {found}");
            if bad.is_some() && goes_on.len() < 2 {
                assert!(said.contains(relative), "{case_name}: {said}");
            }
            s3.put(&key, &bytes);
        }
    }
    // Older than the commits: file by file, as in a folder.
    let lost = newest("cohorts/trials/versions/");
    s3.delete(&lost);
    run_command(&["reconcile"])
        .expect(1)
        .says(&["cohorts/trials is older than the last commit", "syncline resync trials"]);
    run_command(&["resync", "trials", "--yes"]).expect(0);
    run_command(&["reconcile"]).expect(0);
    run_command(&["state", "verify"]).expect(0);
    assert_eq!(sandbox.members("trials"), members(users(6)));
}

/// Flips one bit after the other in a part until the parser panics: the error names the file, and other cohorts
/// are applied.
#[test]
fn a_part_that_panics_the_parser_is_an_error_of_one_cohort() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(10)).source("trials", users(10));
    w.run(&["reconcile"]).expect(0);
    w.source("carts", (3..13).map(|n| format!("user-{n}")));
    let runs = w.path(".syncline/cohorts/carts/parts");
    let path = std::fs::read_dir(runs).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(&path).unwrap();
    for at in (4..bytes.len()).step_by(bytes.len() / 60) {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        w.write(path.to_str().unwrap(), &bad);
        let run = w.run(&["plan"]);
        assert!([0, 1].contains(&run.code), "byte {at}: {} {}", run.stdout, run.stderr);
        if run.code == 1 {
            assert!(
                run.stdout.contains(path.file_name().unwrap().to_str().unwrap()),
                "byte {at}: {}",
                run.stdout
            );
        }
        assert!(run.stdout.contains("trials"), "byte {at}: {}", run.stdout);
    }
}
