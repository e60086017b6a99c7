//! `who`: one answer for each user and cohort, from the state, and with `--source` from the sources.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::s3::{S3, with_keys};
use crate::support::*;

const CANARY: &str = "canary-5264";
const CAMPAIGN: &str = "3aca937b-9bbc-4e42-9370-05e411967b2b";

/// A cohort with external ids, and the run that filled it.
fn filled(n: usize) -> (Workspace, Sandbox, String) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(n)).run(&["reconcile"]).expect(0);
    let run = last_run(&w);
    (w, sandbox, run)
}

fn last_run(w: &Workspace) -> String {
    let history = w.run(&["history", "--format", "json", "-n", "1"]).expect(0).json();
    history["runs"][0]["run"].as_str().unwrap().to_owned()
}

/// The answer about one user in the cohort `carts`.
#[track_caller]
fn answer(w: &Workspace, args: &[&str]) -> Value {
    let report = w.run(&[&["who"], args, &["--format", "json"]].concat()).expect(0).json();
    assert_eq!((&report["result"], report["users"].as_array().unwrap().len()), (&json!("answered"), 1));
    report["users"][0]["cohorts"][0].clone()
}

#[track_caller]
fn verdict(w: &Workspace, args: &[&str]) -> String {
    answer(w, args)["verdict"].as_str().unwrap().to_owned()
}

/// A cohort of external ids, aliases and devices.
fn with_three_rules(rows: &str) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let rules = "  - id: carts\n    name: Carts\n    to: braze\n    source: { kind: file, path: carts.csv }\n    match:\n      \
                 - external_id: identity\n      - alias: { label: crm, name: crm }\n      - device_id: device\n";
    w.write("sync.yaml", config(&sandbox.url, &[], "") + rules);
    w.write("carts.csv", format!("identity,crm,device\n{rows}")).run(&["reconcile"]).expect(0);
    (w, sandbox)
}

/// Through a merge of all parts, too.
#[test]
fn a_member_is_found_with_the_run_that_added_it() {
    let (w, _sandbox, first) = filled(5_000);
    w.source("carts", users(9_500)).run(&["reconcile", "--max-adds", "carts=9000"]).expect(0);
    let second = last_run(&w);
    let shown = w.run(&["state", "show", "carts", "--format", "json"]).expect(0).json();
    assert_eq!(shown["parts"].as_array().unwrap().len(), 1, "the parts are merged: {shown:#}");
    w.source("carts", users(9_499).chain(["late-1".to_owned()])).run(&["reconcile"]).expect(0);
    let third = last_run(&w);
    for (user, run) in [("user-7", &first), ("user-9000", &second), ("late-1", &third)] {
        let found = answer(&w, &[user]);
        assert_eq!((&found["verdict"], &found["recorded"][0]["run"]), (&json!("member"), &json!(run)));
        assert_eq!(found["recorded"][0]["as"]["kind"], "external_id");
        w.run(&["who", user]).expect(0).says(&[user, "carts  member since 20", run, "as external_id"]);
    }
    let removed = answer(&w, &["user-9499"]);
    assert_eq!((&removed["verdict"], &removed["recorded"][0]["run"]), (&json!("removed"), &json!(third)));
    assert_eq!(verdict(&w, &["user-9500"]), "not_recorded");
    w.run(&["who", "user-x"]).expect(0).says(&["not a member: never recorded", "who IDENTIFIER --source"]);
    w.run(&["state", "verify"]).expect(0);
}

#[test]
fn an_identifier_is_looked_up_as_every_kind() {
    let (w, _sandbox) = with_three_rules("u1,,\n,7,\n,,d1\n");
    for (id, kind) in [("u1", "external_id"), ("crm:7", "alias"), ("7", "alias"), ("d1", "device_id")] {
        let found = answer(&w, &[id]);
        assert_eq!(
            (&found["verdict"], &found["recorded"][0]["as"]["kind"]),
            (&json!("member"), &json!(kind)),
            "{id}"
        );
    }
    assert_eq!(verdict(&w, &["d1", "--kind", "external-id"]), "not_recorded");
    assert_eq!(verdict(&w, &["d1", "--kind", "device-id"]), "member");
    assert_eq!(verdict(&w, &["other:7"]), "not_recorded");
    for (id, code, words) in [
        ("NULL", json!("placeholder"), "no row of a source can match this identifier: placeholder instead"),
        (&"x".repeat(2_000), json!("too_long"), "can match this identifier: too long identifier"),
        ("a\nb", json!("control_character"), "a\\nb\n  carts"),
        ("crm:null", Value::Null, "not a member: never recorded"),
    ] {
        let report = w.run(&["who", id, "--format", "json"]).expect(0).json();
        assert_eq!(report["users"][0]["invalid"], code, "{id}");
        w.run(&["who", id]).expect(0).says(&[words]);
    }
    w.run(&["who", " "]).expect(64).says(&["the command line has no identifier"]);
}

/// In both directions: a device leads to its owner, and an owner to the devices.
#[test]
fn the_identity_map_connects_devices_and_owners() {
    let (w, _sandbox) = with_three_rules("u1,,\n,,device-88\n");
    w.write("who.csv", "id,device\nanna-1,device-88\nu1,device-99\n");
    w.run(&["identity", "import", "who.csv", "--external-id", "id", "--device-id", "device"]).expect(0);
    let by_owner = answer(&w, &["anna-1"]);
    assert_eq!(by_owner["recorded"][0]["found_as"], "device_or_alias", "{by_owner:#}");
    assert_eq!(
        (&by_owner["verdict"], &by_owner["recorded"][0]["as"]["text"]),
        (&json!("member"), &json!("device_id dev…88"))
    );
    w.run(&["who", "anna-1", "--show-identifiers"]).expect(0).says(&["as device_id device-88", "1 entry"]);
    let by_device = answer(&w, &["device-99"]);
    assert_eq!(
        (&by_device["verdict"], &by_device["recorded"][0]["found_as"]),
        (&json!("member"), &json!("owner"))
    );
    w.run(&["reconcile"]).expect(0);
    assert_eq!(answer(&w, &["anna-1"])["recorded"][0]["as"]["kind"], "external_id", "re-keyed");
    let report = w.run(&["who", "device-88", "--format", "json"]).expect(0).json();
    assert_eq!(report["users"][0]["identity"]["owners"][0]["kind"], "device_id");
}

/// Two sources name an owner of the device. The newest evidence decides, also if both owners are asked for.
#[test]
fn an_answer_does_not_depend_on_the_other_identifiers() {
    let (w, _sandbox) = with_three_rules("u1,,\n,,device-88\n");
    let identity = "identity: [ { kind: file, path: old.csv, external_id: id, device_id: device } ]\n";
    w.write("old.csv", "id,device\nben,device-88\n").write("sync.yaml", w.read("sync.yaml") + identity);
    // The identities are imported, and no member is re-keyed.
    std::fs::remove_file(w.path("carts.csv")).unwrap();
    w.run(&["reconcile"]).expect(1);
    // Evidence has a time in seconds.
    #[allow(clippy::disallowed_methods, reason = "the program under test has the same clock")]
    let second = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let imported = second();
    until("the second is over", || second() > imported);
    w.write("new.csv", "id,device\nanna,device-88\n");
    w.run(&["identity", "import", "new.csv", "--external-id", "id", "--device-id", "device"]).expect(0);
    let found = |ids: &str| -> Vec<(String, String)> {
        let report = w.write("ids.txt", ids).run(&["who", "--file", "ids.txt", "--format", "json"]).expect(0);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let answer = |user: &Value| (text(&user["identifier"]), text(&user["cohorts"][0]["verdict"]));
        report.json()["users"].as_array().unwrap().iter().map(answer).collect()
    };
    let answers = |of: &[(&str, &str)]| -> Vec<(String, String)> {
        of.iter().map(|(user, verdict)| ((*user).to_owned(), (*verdict).to_owned())).collect()
    };
    assert_eq!(found("anna"), answers(&[("anna", "member")]));
    assert_eq!(found("ben"), answers(&[("ben", "not_recorded")]));
    assert_eq!(found("anna\nben"), answers(&[("anna", "member"), ("ben", "not_recorded")]));
    assert_eq!(found("ben\nanna"), answers(&[("ben", "not_recorded"), ("anna", "member")]));
}

#[test]
fn rejects_of_rows_and_of_braze_have_their_reasons() {
    let (w, sandbox, _) = filled(300);
    sandbox.faults(r#"[{"on":"users","contains":"\"bad-1\"","times":0,"do":{"reply":{"status":400,"body":{"message":"bad-1 is no good"}}}}]"#);
    let long = format!("{CANARY} ").repeat(200);
    w.source("carts", users(301).chain(["bad-1".to_owned(), long.clone()])).run(&["reconcile"]).expect(0);
    let row = answer(&w, &[&long]);
    assert_eq!((&row["verdict"], &row["rejects"][0]["reason"]), (&json!("row_rejected"), &json!("too_long")));
    assert_eq!(verdict(&w, &[CANARY]), "not_recorded", "a word of a value is another identifier");
    w.run(&["who", &long]).expect(0).says(&[
        "its row was rejected in run",
        "too long identifier (",
        "carts.csv:304, column identity)",
    ]);
    w.run(&["who", "bad-1"]).expect(0).says(&["Braze rejected it since", "[user] is no good"]);
    // A later run with other rejects does not repeat what Braze has rejected.
    w.source("carts", users(302).chain(["bad-1".to_owned(), "x ".repeat(600)])).run(&["reconcile"]).expect(0);
    assert_eq!(answer(&w, &["bad-1"])["rejects"][0]["detail"], "[user] is no good");
    assert_eq!(verdict(&w, &[&long]), "not_recorded", "the row is gone");
}

/// A blocked run writes rejects, and no version.
#[test]
fn rejects_of_a_blocked_run_name_the_user() {
    let (w, _sandbox, _) = filled(20);
    w.source("carts", ["undefined".to_owned(), "null".to_owned()]).run(&["reconcile"]).expect(6);
    let row = answer(&w, &["undefined"]);
    assert_eq!(
        (&row["verdict"], &row["rejects"][0]["reason"], &row["rejects"][0]["run"]),
        (&json!("row_rejected"), &json!("placeholder"), &json!(last_run(&w)))
    );
}

/// The same value in another column is another user's.
#[test]
fn a_row_names_a_user_only_as_its_column_is_matched() {
    let (w, _sandbox) = with_three_rules("u1,7,\n7,,\n,8,\nnull,,\n");
    let kinds = [("external-id", "member", 1), ("alias", "other_user", 1), ("device-id", "not_in_source", 0)];
    for (kind, expected, rows) in kinds {
        let found = answer(&w, &["7", "--kind", kind, "--source"]);
        assert_eq!((&found["verdict"], &found["source"]["rows"]), (&json!(expected), &json!(rows)), "{kind}");
    }
    assert_eq!(verdict(&w, &["null", "--kind", "external-id"]), "row_rejected");
    assert_eq!(verdict(&w, &["null", "--kind", "device-id"]), "not_recorded");
    assert_eq!(verdict(&w, &["crm:null", "--kind", "alias"]), "not_recorded");
}

/// Exports and endpoints have rejects files with these words as a prefix.
#[test]
fn a_cohort_with_the_name_of_a_prefix_keeps_its_rejects() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["exports", "inbox"], "");
    for cohort in ["exports", "inbox"] {
        w.source(cohort, users(3).chain(["undefined".to_owned()]));
    }
    w.run(&["reconcile"]).expect(0);
    for cohort in ["exports", "inbox"] {
        assert_eq!(verdict(&w, &["undefined", "--cohort", cohort]), "row_rejected", "{cohort}");
    }
}

/// A cohort is closed when no late request can add a member.
#[test]
fn an_emptied_cohort_is_answered_from_late_requests_and_from_its_source() {
    let (w, sandbox, _) = filled(10);
    let declared = w.read("sync.yaml");
    let removed = "removed: [ { cohort: carts, members: remove } ]\n";
    let emptied = declared.split("cohorts:").next().unwrap().to_owned() + removed;
    w.source("carts", users(13)).kill_during_request(&sandbox, "users", "users");
    w.write("sync.yaml", &emptied).run(&["reconcile"]).expect(0).says(&["removed 13"]);
    for (user, expected) in [("user-3", "removed"), ("user-12", "in_doubt")] {
        assert_eq!(verdict(&w, &[user]), expected, "{user}");
    }
    let (w, _sandbox, _) = filled(10);
    let declared = w.read("sync.yaml");
    let emptied = declared.split("cohorts:").next().unwrap().to_owned() + removed;
    w.write("sync.yaml", emptied).run(&["reconcile"]).expect(0).says(&["removed 10"]);
    assert_eq!(verdict(&w, &["user-3"]), "emptied");
    w.write("sync.yaml", declared);
    assert_eq!(verdict(&w, &["user-3"]), "emptied");
    for (user, expected) in [("user-3", "not_sent"), ("user-99", "not_in_source")] {
        assert_eq!(verdict(&w, &[user, "--source"]), expected, "{user}");
    }
}

/// Blocks explain an answer. Their record is not needed to know members.
#[test]
fn blocks_are_reported_for_removed_cohorts_and_may_be_unreadable() {
    let (w, sandbox, _) = filled(20);
    w.write("sync.yaml", w.read("sync.yaml") + "    protect: true\n").run(&["reconcile"]).expect(0);
    w.config(&sandbox, &["trials"], "removed: [{ cohort: carts, members: remove }]\n")
        .source("trials", users(1));
    w.run(&["reconcile"]).expect(6).says(&["the cohort is protected"]);
    let blocked = answer(&w, &["user-1", "--cohort", "carts"]);
    assert_eq!((&blocked["verdict"], &blocked["blocked"]["removes"]), (&json!("member"), &json!(true)));
    let (path, bytes) = w.snapshot(".syncline/outcomes").pop().unwrap();
    let path = path.strip_prefix(w.path("")).unwrap().to_str().unwrap().to_owned();
    w.write(&path, &bytes[..bytes.len() / 2]);
    let unknown = answer(&w, &["user-1", "--cohort", "carts"]);
    let error = unknown["blocked"]["error"].as_str().unwrap();
    assert!(unknown["verdict"] == "member" && error.contains("is damaged"), "{unknown:#}");
    w.run(&["who", "user-1"])
        .expect(0)
        .says(&["member since", "unknown until the next run whether the guard"]);
}

#[test]
fn the_source_explains_what_the_state_cannot() {
    let (w, _sandbox) = with_three_rules("u1,,\nu2,,\nu3,,\n[REDACTED],,device-7\n");
    assert_eq!(verdict(&w, &["device-7"]), "not_recorded");
    let rejected = answer(&w, &["device-7", "--source"]);
    let sample = &rejected["source"]["samples"][0];
    assert_eq!((&rejected["verdict"], &sample["reason"]), (&json!("row_rejected"), &json!("placeholder")));
    w.run(&["who", "device-7", "--source"])
        .expect(0)
        .says(&["its row is rejected: placeholder instead of an identifier", "carts.csv:5, column identity"]);
    w.write("carts.csv", "identity,crm,device\nu1,,\nu2,,device-2\nnew-1,,\n");
    for (id, verdict) in
        [("new-1", "not_sent"), ("u9", "not_in_source"), ("device-2", "other_user"), ("u1", "member")]
    {
        assert_eq!(answer(&w, &[id, "--source"])["verdict"], verdict, "{id}");
    }
    w.run(&["who", "u3", "--source"])
        .expect(0)
        .says(&["member since", "! not in the source: the next run removes the user"]);
    w.run(&["who", "u1", "--source"]).expect(0).says(&["source row: carts.csv:2, as external_id"]);
    assert_eq!(verdict(&w, &["u3", "--source"]), "member", "until it is removed");
    w.write("carts.csv", "crm\n1\n");
    let failed = w.run(&["who", "u1", "--source", "--format", "json"]).expect(1).json();
    assert_eq!(failed["result"], "in_part");
    assert_eq!(failed["users"][0]["cohorts"][0]["verdict"], "member", "the state is still read");
}

#[test]
fn doubt_blocks_and_pending_triggers_are_reported() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let api = json!([{ "id": CAMPAIGN, "name": "Welcome", "is_api": true }]).to_string();
    sandbox.admin_post("/_sandbox/campaigns", &api);
    w.config(&sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n");
    let quiet = ", quiet: { from: \"00:00\", to: \"23:59\", time_zone: UTC }";
    w.write("sync.yaml", w.read("sync.yaml") + &format!("    on_enter: {{ campaign: {CAMPAIGN}{quiet} }}\n"));
    w.source("carts", users(100)).run(&["reconcile"]).expect(0);
    w.source("carts", users(101)).run(&["reconcile"]).expect(0);
    assert_eq!(answer(&w, &["user-100"])["triggers"][0]["transition"], "enter");
    w.run(&["who", "user-100"]).expect(0).says(&["trigger `on_enter` is pending since 20"]);
    assert_eq!(answer(&w, &["user-1"])["blocked"], Value::Null);
    w.source("carts", users(10)).run(&["reconcile"]).expect(6);
    let run = last_run(&w);
    w.run(&["reconcile"]).expect(6);
    let blocked = answer(&w, &["user-99", "--source"]);
    assert_eq!(
        (&blocked["verdict"], &blocked["blocked"]["run"]),
        (&json!("member"), &json!(run)),
        "{blocked:#}"
    );
    w.run(&["who", "user-99", "--source"]).expect(0).says(&[
        "not in the source: the guard blocks the removal",
        "the guard blocks removals of this cohort since 20",
        "; its plan waits for an approval",
    ]);
    assert_eq!(answer(&w, &["user-99"])["blocked"]["approval"], "missing");
    assert_eq!(answer(&w, &["new-user"])["blocked"]["adds"], false);
    let report = w.run(&["reconcile"]).expect(6).stdout;
    let (_, command) = report.split_once("to approve exactly this plan: ").unwrap();
    run_pasted(&w, command.lines().next().unwrap()).expect(0);
    assert_eq!(answer(&w, &["user-99"])["blocked"]["approval"], "given");
    w.run(&["who", "user-99"])
        .expect(0)
        .says(&["its plan is approved until 20", ", and the next run applies it"]);
    w.source("carts", users(101)).run(&["reconcile"]).expect(0);
    assert_eq!(answer(&w, &["user-99"])["blocked"], Value::Null, "nothing is blocked any more");
    w.source("carts", users(101).chain([CANARY.to_owned()])).kill_during_request(&sandbox, "users", "users");
    assert_eq!(verdict(&w, &[CANARY]), "in_doubt");
    w.run(&["who", CANARY]).expect(0).says(&["in doubt since 20", "the next run settles it"]);
}

/// A user with several identifiers is a member with those that Braze has a profile for.
#[test]
fn users_without_a_profile_are_not_members() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--profiles", "created"]));
    let anna = json!({ "external_id": "anna", "aliases": [{ "alias_label": "crm", "alias_name": "7" }] });
    sandbox.admin_post("/_sandbox/users", &json!([anna]).to_string());
    w.config(&sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n");
    let rules = "{ external_id: identity }, { alias: { label: crm, name: crm } }";
    let yaml = w.read("sync.yaml").replace("{ external_id: identity }", rules);
    w.write("sync.yaml", yaml + "    preflight: { retry_unknown: 1ms }\n");
    w.write("carts.csv", "identity,crm\nanna,\nuser-1,\n7,\n,7\n").run(&["reconcile"]).expect(0);
    assert_eq!(verdict(&w, &["anna"]), "member");
    let both = answer(&w, &["7"]);
    let profiles: Vec<(&Value, bool)> = (both["recorded"].as_array().unwrap().iter())
        .map(|found| (&found["as"]["kind"], found["no_profile"].is_object()))
        .collect();
    assert_eq!(both["verdict"], "member", "by the alias: {both:#}");
    assert!(
        profiles.contains(&(&json!("alias"), false)) && profiles.contains(&(&json!("external_id"), true))
    );
    w.run(&["who", "7"])
        .expect(0)
        .says(&["as alias crm", "! as external_id: Braze has no profile of the user"]);
    assert_eq!(verdict(&w, &["7", "--kind", "external-id"]), "no_profile");
    let without = answer(&w, &["user-1"]);
    assert_eq!(
        (&without["verdict"], &without["recorded"][0]["no_profile"]["exists_now"]),
        (&json!("no_profile"), &json!(false))
    );
    w.run(&["who", "user-1"]).expect(0).says(&["not a member: Braze has no profile of the user since 20"]);
    // The profile alone does not make a member: Braze has dropped the user.
    sandbox.admin_post("/_sandbox/users", &json!([{ "external_id": "user-1" }]).to_string());
    w.run(&["reconcile"]).expect(0).says(&["1 user formerly unknown to Braze, with a profile now"]);
    assert!(!sandbox.members("carts").contains("external_id user-1"));
    assert_eq!(verdict(&w, &["user-1"]), "no_profile");
    w.run(&["who", "user-1"])
        .expect(0)
        .says(&["not a member: Braze had no profile", "the next run sends the user"]);
    w.run(&["reconcile"]).expect(0);
    assert!(sandbox.members("carts").contains("external_id user-1"));
    assert_eq!(verdict(&w, &["user-1"]), "member");
}

/// A request without an answer may be handled after later ones.
#[test]
fn late_requests_are_reported_until_they_are_over() {
    let (w, sandbox, _) = filled(10);
    w.source("carts", users(13)).kill_during_request(&sandbox, "users", "users");
    w.source("carts", users(10)).run(&["reconcile"]).expect(0).says(&["removed 3"]);
    let late = answer(&w, &["user-12"]);
    let found = &late["recorded"][0];
    assert_eq!(
        (&late["verdict"], &found["standing"], &found["late"][0]["operation"]),
        (&json!("in_doubt"), &json!("removed"), &json!("add")),
        "{late:#}"
    );
    w.run(&["who", "user-12"]).expect(0).says(&["a late request may still change it until 20"]);
    assert_eq!(verdict(&w, &["user-3"]), "member");
    sandbox.faults(r#"[{"on": "users", "times": 0, "do": "hold"}]"#);
    w.source("carts", users(9)).run(&["reconcile"]).expect(5);
    sandbox.faults("[]");
    assert_eq!(verdict(&w, &["user-9"]), "in_doubt");
    w.source("carts", users(10)).run(&["reconcile"]).expect(0);
    assert_eq!(verdict(&w, &["user-9"]), "member");
    w.run(&["who", "user-9"]).expect(0).says(&["may still remove the user until 20"]);
}

/// It only reads, so it needs no lease.
#[test]
fn a_look_up_works_while_a_run_holds_the_state() {
    let (w, sandbox, _) = filled(3);
    sandbox.faults(r#"[{"on": "users", "do": "hang"}]"#);
    let mut run = w.source("carts", users(4)).command(&["reconcile"]).spawn().unwrap();
    until("the request is out", || sandbox.requests()["users"] == 2);
    w.run(&["reconcile"]).expect(8);
    assert_eq!((verdict(&w, &["user-1"]), verdict(&w, &["user-3"])), ("member".into(), "in_doubt".into()));
    w.run(&["who", "user-3"]).expect(0).says(&["in doubt since 20", "no answer"]);
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn identifiers_that_differ_by_case_are_other_users() {
    let (w, _sandbox) =
        with_three_rules("anna@example.com,,\nBen@Example.com,,\nwith space,,\n,\"a: b\",\n,,AB-12\n");
    for member in ["anna@example.com", "Ben@Example.com", " with space ", "a: b", "crm:a: b", "AB-12"] {
        let found = answer(&w, &[member]);
        assert_eq!((&found["verdict"], &found["case_variants"]), (&json!("member"), &json!([])), "{member}");
    }
    let other = answer(&w, &["Anna@Example.com"]);
    assert_eq!(
        (&other["verdict"], &other["case_variants"][0]["standing"]),
        (&json!("not_recorded"), &json!("member"))
    );
    w.run(&["who", "Anna@Example.com"])
        .expect(0)
        .says(&["differs only by upper and lower case", "another user"]);
    // The state is sorted by the exact identifier, so the reverse takes the source.
    let other = answer(&w, &["ben@example.com", "--source"]);
    assert_eq!(
        (&other["verdict"], &other["source"]["case_variant"]["line"]),
        (&json!("not_in_source"), &json!(3))
    );
    w.run(&["who", "ben@example.com", "--source"])
        .expect(0)
        .says(&["row carts.csv:3 has an identifier which"]);
}

#[test]
fn triggers_that_braze_rejected_are_reported() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let api = json!([{ "id": CAMPAIGN, "name": "Welcome", "is_api": true }]).to_string();
    sandbox.admin_post("/_sandbox/campaigns", &api);
    w.config(&sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n");
    w.write("sync.yaml", w.read("sync.yaml") + &format!("    on_enter: {{ campaign: {CAMPAIGN} }}\n"));
    w.source("carts", users(100)).run(&["reconcile"]).expect(0);
    let bad = json!({ "reply": { "status": 400, "body": { "message": "user-101 is no good" } } });
    let fault = json!([{ "on": "campaigns_trigger", "contains": "\"user-101\"", "times": 0, "do": bad }]);
    sandbox.faults(&fault.to_string());
    w.source("carts", users(103)).run(&["reconcile"]).expect(0);
    assert_eq!(answer(&w, &["user-101"])["rejects"][0]["reason"], "trigger_rejected");
    w.run(&["who", "user-101"]).expect(0).says(&[
        "member since 20",
        "! trigger that Braze rejected in run 20",
        "is no good",
    ]);
    assert_eq!(answer(&w, &["user-102"])["rejects"], json!([]));
}

/// A part that cannot be read is never the answer "not a member", and other cohorts are answered.
#[test]
fn a_damaged_cohort_is_an_error_of_its_own() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "vip"], "").source("carts", users(50)).source("vip", users(50));
    w.run(&["reconcile"]).expect(0);
    let (path, bytes) = w.snapshot(".syncline/cohorts/carts/parts").remove(0);
    let path = path.strip_prefix(w.path("")).unwrap().to_str().unwrap().to_owned();
    w.write(&path, &bytes[..bytes.len() - 9]);
    let report = w.run(&["who", "user-1", "user-70", "--format", "json"]).expect(1).json();
    assert_eq!(report["result"], "in_part");
    for (at, vip) in [(0, "member"), (1, "not_recorded")] {
        let cohorts = &report["users"][at]["cohorts"];
        assert_eq!((&cohorts[0]["verdict"], &cohorts[1]["verdict"]), (&json!("unreadable"), &json!(vip)));
    }
    w.run(&["who", "user-1"]).expect(1).says(&["could not be read", "is damaged"]);
    std::fs::remove_file(w.path(&path)).unwrap();
    let missing = w.run(&["who", "user-1", "--format", "json"]).expect(1).json();
    assert_eq!(missing["users"][0]["cohorts"][0]["verdict"], "unreadable", "{missing:#}");
    assert_eq!(missing["users"][0]["cohorts"][1]["verdict"], "member");
    w.run(&["who", "user-1", "--cohort", "vip"]).expect(0);
    // Without the identity map, another identifier of the user may be the member.
    w.write("map.csv", "id,device\nuser-1,device-1\n");
    w.run(&["identity", "import", "map.csv", "--external-id", "id", "--device-id", "device"]).expect(0);
    w.run(&["who", "user-70", "--cohort", "vip"]).expect(0);
    let (path, bytes) = w.snapshot(".syncline/identity/parts").remove(0);
    let path = path.strip_prefix(w.path("")).unwrap().to_str().unwrap().to_owned();
    w.write(&path, &bytes[..bytes.len() - 9]);
    let failed = w.run(&["who", "user-70", "--cohort", "vip"]).expect(1);
    assert!(!failed.stdout.contains("not a member"), "{failed:?}");
    w.run(&["who", "user-1", "--cohort", "other"]).expect(64).says(&["no cohort `other`"]);
}

#[test]
fn many_identifiers_come_from_a_file_or_stdin() {
    let (w, _sandbox, _) = filled(200);
    let ids: String = users(1_250).map(|id| format!("{id}\r\n\n{id}\n")).collect();
    let report =
        w.write("ids.txt", ids).run(&["who", "--file", "ids.txt", "--format", "json"]).expect(0).json();
    let users_found = report["users"].as_array().unwrap();
    assert_eq!((users_found.len(), &report["result"]), (1_250, &json!("answered")), "each once");
    let text = w.run(&["who", "--file", "ids.txt"]).expect(0).stdout;
    assert_eq!(text.split("\n\n").count(), 1_251, "a paragraph for each, and one hint");
    assert!(text.trim_end().ends_with("IDENTIFIER --source"), "{text}");
    for (at, user) in users_found.iter().enumerate() {
        let expected = if at < 200 { "member" } else { "not_recorded" };
        assert_eq!(
            (&user["identifier"], &user["cohorts"][0]["verdict"]),
            (&json!(format!("user-{at}")), &json!(expected))
        );
    }
    let mut command = w.command(&["who", "--file", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"user-7").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("member since"));
    w.write("many.txt", users(10_001).map(|id| id + "\n").collect::<String>());
    let many = w.run(&["who", "--file", "many.txt", "--source"]).expect(64);
    many.says(&["many.txt has more than 10,000 identifiers"]);
    let all = w.run(&["who", "--file", "many.txt", "--format", "json"]).expect(0).json();
    assert_eq!(all["users"].as_array().unwrap().len(), 10_001, "without sources, there is no limit");
    // A defect behind the first pieces ends the answers, and the document is still whole.
    w.write(
        "late.txt",
        [users(1_200).map(|id| id + "\n").collect::<String>().as_bytes(), b"\xff\n"].concat(),
    );
    let late = w.run(&["who", "--file", "late.txt", "--format", "json"]).expect(64);
    assert_eq!(
        (late.json()["result"].clone(), late.json()["users"].as_array().unwrap().len()),
        (json!("error"), 1_000)
    );
    assert!(late.stderr.contains("late.txt:1201: the line is not UTF-8"), "{}", late.stderr);
    w.write("long.txt", "x".repeat(70_000))
        .run(&["who", "--file", "long.txt"])
        .expect(64)
        .says(&["long.txt:1"]);
    w.write("bad.txt", b"user-1\n\xff\n").run(&["who", "--file", "bad.txt"]).expect(64).says(&["bad.txt:2"]);
    w.run(&["who", "--file", "none.txt"]).expect(1).says(&["cannot read none.txt"]);
    w.write("empty.txt", "\n").run(&["who", "--file", "empty.txt"]).expect(64).says(&["has no identifier"]);
    w.run(&["who"]).expect(64);
}

/// Nothing is sent yet, and cohorts that the config does not declare.
#[test]
fn cohorts_of_the_config_and_of_the_state_are_answered() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "");
    assert_eq!(verdict(&w, &["user-1"]), "nothing_sent");
    w.source("carts", users(5)).run(&["reconcile"]).expect(0);
    w.config(&sandbox, &["vip"], "");
    w.run(&["who", "user-1"]).expect(0).says(&[
        "vip    not a member: nothing was sent to the cohort yet",
        "carts  member since",
        "the cohort is orphaned",
    ]);
}

#[test]
fn a_user_is_found_in_a_state_in_a_bucket() {
    let Some(s3) = S3::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox.url, &["carts"], "") + &s3.config("5s"));
    let run_command = |args: &[&str]| with_keys(&w, args);
    let long = format!("{CANARY} ").repeat(200);
    w.source("carts", users(20).chain([long.clone()]));
    run_command(&["reconcile"]).expect(0);
    run_command(&["who", "user-3"]).expect(0).says(&["carts  member since 20"]);
    run_command(&["who", &long]).expect(0).says(&["its row was rejected in run", "too long"]);
    run_command(&["who", "user-30"]).expect(0).says(&["never recorded"]);
}

/// Identifiers of users are in no log, and those that were not asked for in no output. The state is not changed.
#[test]
fn logs_have_no_identifiers_and_nothing_is_written() {
    let (w, _sandbox) =
        with_three_rules(&format!("u1,,\n,,{CANARY}\n{},,\n", format!("{CANARY} ").repeat(200)));
    w.write("map.csv", format!("id,device\nu2,{CANARY}\n"));
    w.run(&["identity", "import", "map.csv", "--external-id", "id", "--device-id", "device"]).expect(0);
    let before = w.snapshot(".syncline");
    for more in [&["-v"][..], &["-vv"], &["-vvv"], &["-vvv", "--log-format", "json"]] {
        let asked = w.run(&[&["who", CANARY, "--source"], more].concat()).expect(0);
        assert!(asked.stdout.contains(CANARY) && !asked.stderr.contains(CANARY), "{}", asked.stderr);
        let other = w.run(&[&["who", "u2", "--source"], more].concat()).expect(0);
        assert!(other.stdout.contains("member since"), "{}", other.stdout);
        assert!(!format!("{other:?}").contains(CANARY), "{other:?}");
        let json = w.run(&[&["who", "u2", "--format", "json"], more].concat()).expect(0);
        assert!(!format!("{json:?}").contains(CANARY), "{json:?}");
    }
    assert!(w.snapshot(".syncline") == before, "nothing is written");
}
