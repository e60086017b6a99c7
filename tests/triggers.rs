//! Triggers: `on_enter` and `on_exit` send a campaign or a Canvas at most once per transition.

use serde_json::{Value, json};

use crate::support::*;

const CAMPAIGN: &str = "3aca937b-9bbc-4e42-9370-05e411967b2b";
const CANVAS: &str = "3aca937b-9bbc-4e42-9370-05e411967b2c";

/// A cohort of ten users with these triggers, after its first run.
fn filled(triggers: &str) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let api = |id: &str, name: &str| json!([{ "id": id, "name": name, "is_api": true }]).to_string();
    sandbox.admin_post("/_sandbox/campaigns", &api(CAMPAIGN, "Welcome"));
    sandbox.admin_post("/_sandbox/canvases", &api(CANVAS, "Goodbye"));
    w.config(&sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n");
    w.write("sync.yaml", w.read("sync.yaml") + triggers);
    w.source("carts", users(10));
    w.run(&["reconcile"]).expect(0).says(&["added 10"]);
    (w, sandbox)
}

fn enter(more: &str) -> String {
    format!("    on_enter: {{ campaign: {CAMPAIGN}{more} }}\n")
}

/// All triggered sends.
fn sends(sandbox: &Sandbox) -> Vec<Value> {
    let all: Value = serde_json::from_str(&sandbox.get("/_sandbox/sends").1).unwrap();
    all.as_array().unwrap().clone()
}

/// Recipients in the order of the sends.
fn recipients(sandbox: &Sandbox) -> Vec<String> {
    let all = sends(sandbox);
    let recipients = all.iter().flat_map(|send| send["recipients"].as_array().unwrap());
    let mut recipients: Vec<String> =
        recipients.map(|recipient| recipient["external_user_id"].as_str().unwrap().to_owned()).collect();
    recipients.sort();
    recipients
}

fn sorted(recipients: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut recipients: Vec<String> = recipients.into_iter().collect();
    recipients.sort();
    recipients
}

#[test]
fn users_who_enter_or_leave_trigger_once() {
    let triggers = format!("{}    on_exit: {{ canvas: {CANVAS} }}\n", enter(""));
    let (w, sandbox) = filled(&triggers);
    assert_eq!(sends(&sandbox).len(), 0, "the first fill triggers nothing");
    w.source("carts", users(12).skip(1));
    w.run(&["plan"]).expect(0).says(&[
        &format!("> on_enter triggers campaign {CAMPAIGN}: for 2 users now"),
        &format!("> on_exit triggers Canvas {CANVAS}: for 1 user now"),
    ]);
    assert_eq!(sends(&sandbox).len(), 0, "a plan triggers nothing");
    w.run(&["reconcile"]).expect(0).says(&["on_enter triggered campaign", "for 2 users", "for 1 user"]);
    let all = sends(&sandbox);
    assert_eq!((all.len(), &all[0]["kind"], &all[1]["kind"]), (2, &json!("campaign"), &json!("canvas")));
    assert_eq!(recipients(&sandbox), ["user-0", "user-10", "user-11"]);
    for args in [&["reconcile"][..], &["resync", "carts", "--yes"], &["reconcile"]] {
        w.run(args).expect(0);
    }
    assert_eq!(recipients(&sandbox).len(), 3, "one trigger per entry");
}

#[test]
fn the_first_fill_triggers_nothing_by_default() {
    let (w, sandbox) = filled("");
    w.source("carts", users(20));
    let plan = w.run(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(plan["cohorts"][0]["triggers"], Value::Null);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sends(&sandbox).len(), 0);
    assert!(!w.path(".syncline/triggers").exists());
}

#[test]
fn properties_come_from_columns() {
    let (w, sandbox) = filled(&enter(", properties: { total: cart_total, who: identity }"));
    let rows: String = users(11).map(|id| format!("{id},{}\n", id.len() * 10)).collect();
    w.replace("carts.csv", &format!("identity,cart_total\n{rows}"));
    w.run(&["reconcile"]).expect(0);
    let recipient = sends(&sandbox)[0]["recipients"][0].clone();
    assert_eq!(recipient["external_user_id"], "user-10");
    assert_eq!(recipient["trigger_properties"], json!({ "total": "70", "who": "user-10" }));
}

/// A user gets at most 32 KiB of properties, each value at most 4 KiB. Omitted properties are counted, also
/// when a saved plan is applied.
#[test]
fn properties_over_the_limits_are_left_out_and_counted() {
    let names: Vec<String> = (0..10).map(|n| format!("p{n}")).collect();
    let columns: Vec<String> = names.iter().map(|name| format!("{name}: {name}")).collect();
    let (w, sandbox) = filled(&enter(&format!(", properties: {{ {} }}", columns.join(", "))));
    let row = |who: &str, len: usize| format!("{who},{}\n", vec!["x".repeat(len); 10].join(","));
    let mut text = format!("identity,{}\n", names.join(","));
    (0..10).for_each(|n| text += &row(&format!("user-{n}"), 5_000));
    // Ten values of 4,000 bytes are more than 32 KiB; 5,000 bytes are too long for a value; 10 bytes are fine.
    w.write("carts.csv", text + &row("many", 4_000) + &row("long", 5_000) + &row("fine", 10));
    let says = [
        "on_enter: property `p0` left out for 1 user: a value is at most 4 KiB, all values of a user 32 KiB",
        "property `p8` left out for 2 users",
    ];
    w.run(&["plan"]).expect(0).says(&says);
    let plan = w.run(&["plan", "--format", "json"]).expect(0).json();
    let left_out = |n: usize| json!(if n < 8 { 1 } else { 2 });
    let expected: Value = names.iter().enumerate().map(|(n, name)| (name.clone(), left_out(n))).collect();
    assert_eq!(plan["cohorts"][0]["triggers"]["list"][0]["omitted_properties"], expected);
    w.run(&["plan", "--out", "saved"]).expect(0);
    w.run(&["reconcile", "--plan", "saved"]).expect(0).says(&says);
    let lens = |who: &str| {
        let all = sends(&sandbox);
        let mut all = all.iter().flat_map(|send| send["recipients"].as_array().unwrap());
        let recipient = all.find(|recipient| recipient["external_user_id"] == who).unwrap();
        let properties = recipient["trigger_properties"].as_object().cloned().unwrap_or_default();
        properties.values().map(|value| value.as_str().unwrap().len()).collect::<Vec<_>>()
    };
    assert_eq!((lens("many"), lens("long"), lens("fine")), (vec![4_000; 8], vec![], vec![10; 10]));
}

/// A request has at most 512 KiB of properties.
#[test]
fn properties_of_a_request_are_limited() {
    let names: Vec<String> = (0..5).map(|n| format!("p{n}")).collect();
    let columns: Vec<String> = names.iter().map(|name| format!("{name}: {name}")).collect();
    let (w, sandbox) = filled(&enter(&format!(", properties: {{ {} }}", columns.join(", "))));
    let rows = users(50).map(|who| format!("{who},{}\n", vec!["x".repeat(4_000); 5].join(",")));
    w.write("carts.csv", format!("identity,{}\n{}", names.join(","), rows.collect::<String>()));
    w.write("sync.yaml", w.read("sync.yaml") + "    guard: { max_added: 1000% }\n");
    let run = w.run(&["reconcile"]).expect(0).says(&["for 40 users"]);
    assert!(!run.stdout.contains("left out"), "{run:?}");
    let each: Vec<usize> =
        sends(&sandbox).iter().map(|send| send["recipients"].as_array().unwrap().len()).collect();
    assert_eq!(each, [26, 14], "26 times 20,010 bytes are less than 512 KiB, and 27 times are more");
    assert_eq!(recipients(&sandbox), sorted(users(50).skip(10)));
}

#[test]
fn a_trigger_without_a_response_is_reported_and_never_repeated() {
    for fault in [json!("lose_answer"), json!({ "status": 503 })] {
        let (w, sandbox) = filled(&enter(""));
        sandbox.faults(&json!([{ "on": "campaigns_trigger", "do": fault }]).to_string());
        w.source("carts", users(13));
        let report = w.run(&["reconcile", "--format", "json"]).expect(7).json();
        assert_eq!(report["cohorts"][0]["triggers"]["list"][0]["unanswered"], 3);
        assert!(w.read_all(".syncline/rejects").contains("trigger_unanswered"));
        let sent = recipients(&sandbox).len();
        w.run(&["reconcile"]).expect(0);
        assert_eq!(recipients(&sandbox).len(), sent, "no second trigger");
        // A user who leaves and enters again at once is not triggered again.
        w.source("carts", users(10));
        w.run(&["reconcile"]).expect(0);
        w.source("carts", users(13));
        w.run(&["reconcile"]).expect(0);
        assert_eq!(recipients(&sandbox).len(), sent, "the users are in cool-down");
    }
}

#[test]
fn a_crash_during_a_trigger_request_is_reported_by_the_next_run() {
    let (w, sandbox) = filled(&enter(""));
    sandbox.faults(r#"[{"on": "campaigns_trigger", "do": "hang_after"}]"#);
    w.source("carts", users(13));
    let mut run = w.command(&["reconcile"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    until("the trigger is sent", || recipients(&sandbox).len() == 3);
    run.kill().unwrap();
    run.wait().unwrap();
    w.run(&["plan"]).expect(0).says(&["3 users triggered without an answer"]);
    w.run(&["reconcile"])
        .expect(7)
        .says(&["3 users triggered without an answer: perhaps executed, not repeated"]);
    assert!(w.read_all(".syncline/rejects").contains("trigger_unanswered"));
    w.run(&["reconcile"]).expect(0);
    assert_eq!(recipients(&sandbox).len(), 3);
}

#[test]
fn triggers_that_braze_did_not_accept_are_retried() {
    let (w, sandbox) = filled(&enter(""));
    let limited = r#"{"reply": {"status": 429, "headers": [["x-ratelimit-retry-after", "1"]]}}"#;
    sandbox.faults(&format!(r#"[{{"on": "campaigns_trigger", "do": {limited}}}]"#));
    w.source("carts", users(13));
    w.run(&["reconcile"]).expect(7).says(&["on_enter: the rate limit is used up"]);
    assert_eq!(recipients(&sandbox).len(), 0);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(recipients(&sandbox), sorted(users(13).skip(10)));
}

#[test]
fn a_cap_limits_each_run_and_the_rest_waits() {
    let (w, sandbox) = filled(&enter(", at_most: 60"));
    w.source("carts", users(150)).run(&["reconcile", "--max-adds", "carts=140"]).expect(0);
    assert_eq!((sends(&sandbox).len(), recipients(&sandbox).len()), (2, 60), "fifty per request");
    w.run(&["plan"]).expect(0).says(&["for 60 users now; 20 wait for the next run"]);
    w.run(&["reconcile"]).expect(0);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(recipients(&sandbox), sorted(users(150).skip(10)));
    w.run(&["reconcile"]).expect(0);
    assert_eq!(recipients(&sandbox).len(), 140);
}

#[test]
fn quiet_hours_delay_triggers_and_drop_them_for_users_who_left() {
    let quiet = ", quiet: { from: \"00:00\", to: \"23:59\", time_zone: UTC }";
    let (w, sandbox) = filled(&enter(quiet));
    w.source("carts", users(14));
    w.run(&["plan"]).expect(0).says(&["4 wait until ", "the end of the quiet hours"]);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sends(&sandbox).len(), 0);
    w.source("carts", users(12));
    w.run(&["reconcile"]).expect(0);
    w.write("sync.yaml", w.read("sync.yaml").replace(quiet, ""));
    w.run(&["reconcile"]).expect(0);
    assert_eq!(recipients(&sandbox), sorted(users(12).skip(10)));
}

#[test]
fn erased_users_have_no_pending_triggers() {
    let (w, _sandbox) = filled(&enter(", at_most: 1"));
    w.source("carts", users(13));
    w.run(&["reconcile"]).expect(0);
    let triggered: Vec<&str> = ["user-10", "user-11", "user-12"]
        .into_iter()
        .filter(|who| w.read_all(".syncline/triggers").contains(who))
        .collect();
    assert_eq!(triggered.len(), 3);
    w.run(&["forget", "user-10"]).expect(6);
    w.source("carts", users(10));
    w.run(&["reconcile"]).expect(0);
    for who in triggered {
        w.run(&["forget", who]).expect(0);
        assert!(!w.read_all(".syncline/triggers").contains(who));
    }
}

#[test]
fn triggers_wait_for_the_guard_and_for_membership() {
    let (w, sandbox) = filled(&enter(""));
    w.write("sync.yaml", w.read("sync.yaml") + "    guard: { max_added_count: 3 }\n")
        .source("carts", users(20));
    w.run(&["reconcile"]).expect(6);
    assert_eq!(sends(&sandbox).len(), 0, "users of blocked additions have not entered");
    sandbox.faults(r#"[{"on": "users", "times": 0, "do": "lose_answer"}]"#);
    w.source("carts", users(12));
    w.run(&["reconcile"]).expect(5);
    assert_eq!(sends(&sandbox).len(), 0, "neither have members in doubt");
    sandbox.faults("[]");
    w.run(&["reconcile"]).expect(0);
    assert_eq!(recipients(&sandbox), ["user-10", "user-11"], "users trigger once they are settled");
}

#[test]
fn only_the_first_run_counts_as_the_first_fill() {
    for more in ["", "    deliver: attribute\n"] {
        let (w, sandbox) = filled(&format!("{}{more}    guard: {{ allow_empty: true }}\n", enter("")));
        assert_eq!(sends(&sandbox).len(), 0);
        w.source("carts", users(0)).run(&["reconcile"]).expect(0);
        w.source("carts", users(2)).run(&["reconcile"]).expect(0);
        assert_eq!(recipients(&sandbox), ["user-0", "user-1"], "{more}");
    }
}

#[test]
fn a_saved_plan_that_removes_a_user_triggers_no_entry_for_them() {
    let (w, sandbox) = filled(&enter(", at_most: 1"));
    w.source("carts", users(12)).run(&["reconcile"]).expect(0);
    assert_eq!(recipients(&sandbox).len(), 1);
    w.source("carts", users(10)).run(&["plan", "--out", "saved.plan"]).expect(0);
    w.run(&["reconcile", "--plan", "saved.plan"]).expect(0);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(recipients(&sandbox).len(), 1);
}

#[test]
fn a_saved_plan_triggers_what_it_showed() {
    let (w, sandbox) = filled(&enter(", properties: { who: identity }"));
    w.source("carts", users(12));
    w.run(&["plan", "--out", "saved.plan"]).expect(0);
    w.run(&["reconcile", "--plan", "saved.plan"]).expect(0);
    assert_eq!(recipients(&sandbox), ["user-10", "user-11"]);
    assert!(sends(&sandbox)[0]["recipients"][0]["trigger_properties"]["who"].is_string());
}

#[test]
fn notices_and_missing_permissions_are_reported() {
    let (w, sandbox) = filled(&format!("    on_enter: {{ canvas: {CANVAS} }}\n"));
    let paused = json!([{ "id": CANVAS, "name": "Goodbye", "is_api": true, "enabled": false }]);
    sandbox.admin_post("/_sandbox/canvases", &paused.to_string());
    w.source("carts", users(11));
    w.run(&["reconcile"]).expect(0).says(&["on_enter: The Canvas is paused."]);
    let (w, sandbox) = filled(&enter(""));
    sandbox.admin_post("/_sandbox/keys", r#"[{"key": "narrow", "permissions": ["users.track"]}]"#);
    w.source("carts", users(11));
    let mut command = w.command(&["reconcile"]);
    command.env("TEST_REST_KEY", "narrow");
    run(command).expect(7).says(&["! on_enter: "]);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(recipients(&sandbox), ["user-10"]);
}

/// Members by device and alias, one of them with a pending trigger; then the identity map gets an owner for
/// each.
#[test]
fn a_rekey_is_no_entry_and_no_exit() {
    let (w, sandbox) = filled(&format!("{}    on_exit: {{ canvas: {CANVAS} }}\n", enter(", at_most: 1")));
    let rules = "{ external_id: identity }, { alias: { label: crm, name: crm } }, { device_id: device }";
    w.write("sync.yaml", w.read("sync.yaml").replace("{ external_id: identity }", rules));
    let rows = |more: &str| {
        let ids: String = users(10).map(|id| format!("{id},,\n")).collect();
        format!("identity,crm,device\n{ids}{more}")
    };
    w.replace("carts.csv", &rows(",a1,\n,a2,\n,,d1\n,,d2\n"));
    w.run(&["reconcile"]).expect(0).says(&["for 1 user"]);
    assert_eq!(sends(&sandbox).len(), 1, "the other user waits, and a campaign cannot address devices");
    let first = sends(&sandbox)[0]["recipients"][0]["user_alias"]["alias_name"].clone();
    let pending = if first == "a1" { "w2" } else { "w1" };
    w.write("who.csv", "id,crm,device\nw1,a1,\nw2,a2,\nw3,,d1\n");
    let import = ["identity", "import", "who.csv", "--external-id", "id", "--device-id", "device"];
    w.run(&[&import[..], &["--alias", "crm=crm"]].concat()).expect(0);
    w.replace("carts.csv", &rows(",a1,\n,a2,\n,,d1\nnew,,\n"));
    let plan = w.run(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(plan["cohorts"][0]["changes"]["rekeyed"], 3);
    for _ in 0..3 {
        w.run(&["reconcile"]).expect(0);
    }
    let all = sends(&sandbox);
    let entered: Vec<&Value> =
        all[1..].iter().map(|send| &send["recipients"][0]["external_user_id"]).collect();
    assert_eq!(entered, [&json!(pending), &json!("new")], "addressed by their current id: {all:?}");
}

/// The same with saved plans.
#[test]
fn a_pending_trigger_under_an_alias_reaches_the_owner_after_a_saved_plan() {
    let (w, sandbox) = filled(&enter(", at_most: 1"));
    let rules = "{ external_id: identity }, { alias: { label: crm, name: crm } }";
    w.write("sync.yaml", w.read("sync.yaml").replace("{ external_id: identity }", rules));
    let rows = |more: &str| {
        let ids: String = users(10).map(|id| format!("{id},\n")).collect();
        format!("identity,crm\n{ids}{more}")
    };
    w.replace("carts.csv", &rows(",a1\n,a2\n,a3\n"));
    w.run(&["reconcile"]).expect(0).says(&["for 1 user"]);
    w.write("who.csv", "id,crm\nw1,a1\nw2,a2\nw3,a3\n");
    w.run(&["identity", "import", "who.csv", "--external-id", "id", "--alias", "crm=crm"]).expect(0);
    w.run(&["plan", "--out", "saved.plan"]).expect(0);
    w.run(&["reconcile", "--plan", "saved.plan"]).expect(0);
    w.run(&["reconcile"]).expect(0);
    w.run(&["reconcile"]).expect(0);
    let all = sends(&sandbox);
    assert_eq!(all.len(), 3, "{all:?}");
    let named = |send: &Value| send["recipients"][0]["external_user_id"].as_str().map(str::to_owned);
    let own: Vec<String> = all.iter().filter_map(named).collect();
    assert_eq!(own.len(), 2, "{all:?}");
}

#[test]
fn properties_of_a_row_with_an_alias_go_to_its_owner() {
    let (w, sandbox) = filled(&enter(", properties: { total: cart_total }"));
    let rules = "{ external_id: identity }, { alias: { label: crm, name: crm } }";
    w.write("sync.yaml", w.read("sync.yaml").replace("{ external_id: identity }", rules));
    w.write("who.csv", "id,crm\nw1,a1\n");
    w.run(&["identity", "import", "who.csv", "--external-id", "id", "--alias", "crm=crm"]).expect(0);
    let rows: String = users(10).map(|id| format!("{id},,1\n")).collect();
    w.replace("carts.csv", &format!("identity,crm,cart_total\n{rows},a1,90\n,a1,70\n,a2,80\n"));
    w.run(&["reconcile"]).expect(0);
    let all = sends(&sandbox);
    let recipients = all[0]["recipients"].as_array().unwrap();
    let total = |id: &str, value: &Value| {
        let of = |recipient: &&Value| {
            recipient["external_user_id"] == *id || recipient["user_alias"]["alias_name"] == *id
        };
        assert_eq!(&recipients.iter().find(of).unwrap()["trigger_properties"], value);
    };
    total("w1", &json!({ "total": "70" }));
    total("a2", &json!({ "total": "80" }));
}

/// The rows get external ids, or vanish while rows with the ids stay: the same users are members before and
/// after.
#[test]
fn a_changed_identifier_of_the_same_user_is_no_transition() {
    let (w, sandbox) = filled(&format!("{}    on_exit: {{ canvas: {CANVAS} }}\n", enter("")));
    let rules = "{ external_id: identity }, { alias: { label: crm, name: crm } }, { device_id: device }";
    w.write("sync.yaml", w.read("sync.yaml").replace("{ external_id: identity }", rules));
    let rows = |more: &str| {
        let ids: String = users(10).map(|id| format!("{id},,\n")).collect();
        format!("identity,crm,device\n{ids}{more}")
    };
    // No trigger for these users: the first run is over.
    let config = w.read("sync.yaml");
    w.write("sync.yaml", config.split("    on_enter").next().unwrap());
    w.replace("carts.csv", &rows(",a1,\n,a2,\n,,d3\n,,d4\n,a5,\nw2,,\nw4,,\n"));
    w.run(&["reconcile"]).expect(0).says(&["added 7"]);
    w.write("sync.yaml", config);
    w.write("who.csv", "id,crm,device\nw1,a1,\nw2,a2,\nw3,,d3\nw4,,d4\nw5,a5,\n");
    let import = ["identity", "import", "who.csv", "--external-id", "id", "--device-id", "device"];
    w.run(&[&import[..], &["--alias", "crm=crm"]].concat()).expect(0);
    // w1 and w3 have ids now, w2 and w4 only have ids, and w5 left.
    w.replace("carts.csv", &rows("w1,a1,\nw3,,d3\nw2,,\nw4,,\n"));
    w.run(&["reconcile"]).expect(0);
    w.run(&["reconcile"]).expect(0);
    let all = sends(&sandbox);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["kind"], "canvas");
    assert_eq!(all[0]["recipients"], json!([{ "external_user_id": "w5" }]), "addressed by their current id");
}

#[test]
fn a_pending_exit_under_an_alias_is_dropped_when_its_owner_enters() {
    let (w, sandbox) = filled(&format!("    on_exit: {{ canvas: {CANVAS}, at_most: 1 }}\n"));
    let rules = "{ external_id: identity }, { alias: { label: crm, name: crm } }";
    w.write("sync.yaml", w.read("sync.yaml").replace("{ external_id: identity }", rules));
    let rows = |more: &str| {
        let ids: String = users(10).map(|id| format!("{id},\n")).collect();
        format!("identity,crm\n{ids}{more}")
    };
    w.replace("carts.csv", &rows(",a1\n,a2\n"));
    w.run(&["reconcile"]).expect(0);
    w.replace("carts.csv", &rows(""));
    w.run(&["reconcile"]).expect(0);
    let first = sends(&sandbox)[0]["recipients"][0]["user_alias"]["alias_name"].clone();
    let (left, alias) = if first == "a1" { ("w2", "a2") } else { ("w1", "a1") };
    w.write("who.csv", format!("id,crm\n{left},{alias}\n"));
    w.run(&["identity", "import", "who.csv", "--external-id", "id", "--alias", "crm=crm"]).expect(0);
    w.replace("carts.csv", &rows(&format!("{left},\n")));
    w.run(&["reconcile"]).expect(0);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sends(&sandbox).len(), 1, "a user who returned has not left");
}
