//! The guard: what it blocks, its messages, what is applied anyway, and the remedies.

use crate::support::*;

fn reconciled(count: usize, guard: &str) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let cohort = cohort_entry("carts", guard);
    w.write("sync.yaml", config(&sandbox.url, &["trials"], "") + &cohort);
    w.source("carts", users(count)).source("trials", users(1));
    w.run(&["reconcile"]).expect(0);
    (w, sandbox)
}

#[test]
fn a_large_percentage_blocks_only_its_side() {
    let (w, sandbox) = reconciled(100, "");
    w.source("carts", users(60).chain(["new".to_owned()])).source("trials", users(2));
    w.run(&["plan", "carts"]).expect(6).says(&[
        "members 100 → 101: 1 enters, 0 leave; blocked: 40 would leave",
        "Apply the rest:     syncline reconcile",
    ]);
    let run = w.run(&["reconcile"]).expect(6);
    run.says(&[
        "removals blocked: 40 of 100 members would leave (40.0%), `guard.max_removed` allows 30%",
        "for this run only: syncline reconcile --max-removes carts=40",
        "for all runs: raise `guard.max_removed` (sync.yaml:",
    ]);
    let mut expected = members(users(100));
    expected.insert("external_id new".to_owned());
    assert_eq!(sandbox.members("carts"), expected, "the other side was applied");
    assert_eq!(sandbox.members("trials").len(), 2, "the other cohort was applied");
    let report = w.run(&["reconcile", "--format", "json"]).expect(6).json();
    assert_eq!(report["result"], "blocked");
    assert_eq!(report["cohorts"][1]["blocked"][0]["code"], "removed_share");
}

#[test]
fn a_block_is_overridden_by_a_maximum_not_by_a_switch() {
    let (w, sandbox) = reconciled(100, "");
    w.source("carts", users(60));
    w.run(&["reconcile", "--max-removes", "carts=39"])
        .expect(6)
        .says(&["40 members would leave, `--max-removes` allows 39 in this run"]);
    assert_eq!(sandbox.members("carts").len(), 100);
    w.run(&["reconcile", "--max-removes", "carts=40"]).expect(0).says(&["removed 40"]);
    assert_eq!(sandbox.members("carts"), members(users(60)));
}

#[test]
fn thirty_percent_is_allowed_and_one_member_more_is_not() {
    let (w, _sandbox) = reconciled(100, "");
    w.source("carts", users(69));
    w.run(&["plan"]).expect(6);
    w.source("carts", users(70));
    w.run(&["plan"]).expect(0);
}

#[test]
fn percentages_do_not_apply_to_very_small_cohorts() {
    let (w, sandbox) = reconciled(9, "");
    w.source("carts", users(1));
    let unchecked = "the share that leaves is not checked, because the cohort has fewer than 10 members";
    w.run(&["plan"]).expect(0).says(&[unchecked]);
    w.run(&["reconcile"]).expect(0).says(&[unchecked]);
    assert_eq!(sandbox.members("carts"), members(users(1)));
    w.source("carts", users(2));
    let grown = w.run(&["plan"]).expect(0);
    assert!(!grown.stdout.contains(unchecked), "{}", grown.stdout);
    let (w, _sandbox) = reconciled(9, "    guard: { from_members: 5 }\n");
    w.source("carts", users(1));
    w.run(&["reconcile"]).expect(6);
}

#[test]
fn too_many_additions_are_blocked_and_removals_are_applied() {
    let (w, sandbox) = reconciled(20, "    guard: { max_added: 100% }\n");
    w.source("carts", (2..60).map(|n| format!("user-{n}")));
    w.run(&["reconcile"])
        .expect(6)
        .says(&["additions blocked: 40 of 20 members would enter (200.0%)", "--max-adds carts=40"]);
    assert_eq!(sandbox.members("carts"), members((2..20).map(|n| format!("user-{n}"))));
    w.run(&["reconcile", "--max-adds", "carts=40"]).expect(0);
    assert_eq!(sandbox.members("carts").len(), 58);
}

#[test]
fn absolute_caps_apply_to_any_percentage() {
    let guard = "    guard: { max_removed_count: 3, max_added_count: 5 }\n";
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox.url, &[], "") + &cohort_entry("carts", guard))
        .source("carts", users(6));
    w.run(&["reconcile"]).expect(6).says(&["6 members would enter, `guard.max_added_count` allows 5"]);
    w.source("carts", users(5));
    w.run(&["reconcile"]).expect(0);
    w.source("carts", users(1));
    w.run(&["reconcile"]).expect(6).says(&["4 members would leave, `guard.max_removed_count` allows 3"]);
}

#[test]
fn atomic_blocks_the_whole_cohort() {
    let (w, sandbox) = reconciled(100, "    guard: { atomic: true }\n");
    w.source("carts", users(60).chain(["new".to_owned()]));
    w.run(&["reconcile"]).expect(6);
    assert_eq!(sandbox.members("carts"), members(users(100)));
}

#[test]
fn protection_is_in_the_state_and_survives_its_config_entry() {
    let (w, sandbox) = reconciled(20, "    protect: true\n    guard: { allow_empty: true }\n");
    let config = w.read("sync.yaml");
    w.source("carts", users(0));
    w.run(&["reconcile"]).expect(6).says(&["the cohort is protected, and all 20 would leave"]);
    w.write("sync.yaml", config.replace("    protect: true\n", ""));
    w.run(&["reconcile"]).expect(6).says(&["the cohort is protected"]);

    let removed =
        crate::support::config(&sandbox.url, &["trials"], "removed: [{ cohort: carts, members: remove }]\n");
    w.write("sync.yaml", removed);
    w.run(&["reconcile"]).expect(6).says(&["the cohort is protected", "protect: false"]);
    assert_eq!(sandbox.members("carts"), members(users(20)));

    w.write("sync.yaml", config.replace("protect: true", "protect: false"));
    w.run(&["reconcile"]).expect(0).says(&["removed 20"]);
    assert!(sandbox.members("carts").is_empty());
}

#[test]
fn a_name_of_another_cohort_is_blocked() {
    let (w, sandbox) = reconciled(5, "");
    let renamed =
        config(&sandbox.url, &[], "") + &cohort_entry("trials", "").replace("name: Trials", "name: Carts");
    w.write("sync.yaml", renamed);
    w.run(&["reconcile"]).expect(6).says(&["name blocked: cohort `carts` already has the name \"Carts\""]);
    let other = config(&sandbox.url, &["trials"], "")
        + &cohort_entry("other", "").replace("name: Other", "name: Carts");
    w.write("sync.yaml", other).source("other", users(1));
    w.run(&["reconcile"]).expect(6);
    assert!(sandbox.members("other").is_empty(), "a cohort gets its name before its members");
    assert_eq!(sandbox.names(), [("carts".into(), "Carts".into()), ("trials".into(), "Trials".into())]);
}

#[test]
fn two_cohorts_may_swap_their_names() {
    let (w, sandbox) = reconciled(5, "");
    let swapped =
        w.read("sync.yaml").replace("name: Carts", "name: X").replace("name: Trials", "name: Carts");
    w.write("sync.yaml", swapped.replace("name: X", "name: Trials"));
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.names(), [("carts".into(), "Trials".into()), ("trials".into(), "Carts".into())]);
}

#[test]
fn the_membership_of_another_workspace_is_not_used() {
    let (w, sandbox) = reconciled(5, "");
    let other = Sandbox::start();
    w.write("sync.yaml", w.read("sync.yaml").replace(&sandbox.url, &other.url));
    w.run(&["reconcile"])
        .expect(6)
        .says(&["everything blocked: the recorded members are in", "use another `state:`"]);
    assert_eq!(other.writes(), 0);
}

#[test]
fn a_maximum_for_an_unknown_cohort_is_an_error() {
    let (w, _sandbox) = reconciled(5, "");
    w.run(&["plan", "--max-removes", "cart=1"])
        .expect(64)
        .says(&["the config has no cohort `cart`", "did you mean `carts`?"]);
    w.run(&["plan", "--max-removes", "carts"]).expect(64).says(&["COHORT=N"]);
}

/// A first run has no members to compare with: a broken source must not count as an empty cohort.
#[test]
fn a_cohort_is_not_created_from_a_source_without_a_usable_row() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "");
    // Trailing separators, as some exports write them: every row has one field more than the header.
    let broken = "identity,name\nuser-1,a,\nuser-2,b,\n";
    w.write("carts.csv", broken);
    let why =
        ["everything blocked: the source has 2 rows, and all of them were rejected: 2 ", "allow_empty: true"];
    w.run(&["plan"]).expect(6).says(&why);
    for _ in 0..2 {
        w.run(&["reconcile"]).expect(6).says(&why);
    }
    let json = w.run(&["plan", "--format", "json"]).expect(6).json();
    assert_eq!(json["cohorts"][0]["blocked"][0]["code"], "all_rejected", "{json:#}");
    w.write("carts.csv", "identity\n");
    let why = [
        "everything blocked: the source is empty, and the cohort has never had members",
        "allow_empty: true",
    ];
    for _ in 0..2 {
        w.run(&["reconcile"]).expect(6).says(&why);
    }
    assert_eq!((sandbox.names().len(), sandbox.writes()), (0, 0), "nothing was created");
    // Usable rows create the cohort, and so does an empty source that is allowed.
    w.source("carts", users(3));
    w.run(&["reconcile"]).expect(0).says(&["added 3"]);
    // A cohort that may be empty and is: a source with only rejected rows is still not an empty source.
    let config = w.read("sync.yaml");
    w.write("sync.yaml", config.clone() + "    guard: { allow_empty: true }\n")
        .write("carts.csv", "identity\n");
    w.run(&["reconcile"]).expect(0).says(&["removed 3"]);
    w.write("sync.yaml", config.clone()).write("carts.csv", broken);
    w.run(&["reconcile"]).expect(6).says(&["the source has 2 rows, and all of them were rejected"]);
    w.write("carts.csv", "identity\n");
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    let text = config + &cohort_entry("wins", "    guard: { allow_empty: true }\n");
    w.write("sync.yaml", text).write("wins.csv", "identity\n");
    w.run(&["reconcile"]).expect(0);
    assert!(sandbox.names().iter().any(|(id, _)| id == "wins"), "{:?}", sandbox.names());
}

/// A CSV file with two identifiers for each user.
fn with_two_columns(users: std::ops::Range<usize>) -> String {
    let rows = users.map(|n| format!("user-{n},account-{n}\n"));
    std::iter::once("user_id,account_id\n".to_owned()).chain(rows).collect()
}

#[test]
fn a_wrong_match_column_changes_nothing_and_its_repair_is_not_blocked() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let with = |column: &str| {
        config(&sandbox.url, &["carts"], "")
            .replace("external_id: identity", &format!("external_id: {column}"))
    };
    w.write("sync.yaml", with("user_id")).write("carts.csv", with_two_columns(0..100));
    w.run(&["reconcile"]).expect(0).says(&["added 100"]);
    w.write("sync.yaml", with("account_id"));
    let blocked = w.run(&["reconcile", "--format", "json"]).expect(6).json();
    let codes: Vec<&str> = blocked["cohorts"][0]["blocked"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| block["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["removed_share", "exchanged"]);
    w.run(&["reconcile"]).expect(6).says(&[
        "everything blocked: the source has mostly other users: 100 of 100 members would leave, and 100 of 100 users",
        "look at the source, and at the columns under `match:` (sync.yaml:",
    ]);
    assert_eq!(sandbox.members("carts"), members(users(100)), "no wrong identifier was added");
    w.write("sync.yaml", with("user_id"));
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    // An intended exchange needs one permission for both sides.
    w.write("sync.yaml", with("account_id"));
    w.run(&["reconcile", "--max-removes", "carts=100"]).expect(0).says(&["added 100, removed 100"]);
}

/// Half of an exchange is not applied, whichever side the limit blocks.
#[test]
fn an_exchange_is_blocked_also_if_only_additions_have_a_limit() {
    let (w, sandbox) = reconciled(20, "    guard: { max_removed: 100%, max_added: 100% }\n");
    w.source("carts", (100..160).map(|n| format!("user-{n}")));
    let blocked = w.run(&["reconcile"]).expect(6);
    let (_, command) = blocked.stdout.split_once("to approve exactly this plan: ").unwrap();
    let command = command.lines().next().unwrap().to_owned();
    blocked.says(&["additions blocked: 60 of 20 members would enter", "everything blocked"]);
    assert_eq!(sandbox.members("carts"), members(users(20)), "the cohort is not emptied");
    run_pasted(&w, &command).expect(0);
    w.run(&["reconcile"]).expect(0).says(&["added 60, removed 20"]);
}

#[test]
fn a_later_block_counts_the_members_of_now_and_names_those_of_the_first_block() {
    let (w, _sandbox) = reconciled(100, "");
    w.source("carts", users(60).chain((200..230).map(|n| format!("user-{n}"))));
    w.run(&["reconcile"])
        .expect(6)
        .says(&["40 of 100 members would leave (40.0%), `guard.max_removed` allows 30%"]);
    w.run(&["plan"]).expect(6).says(&[
        "40 of 130 members would leave (40.0% of the 100 when removals were first blocked), `guard.max_removed`",
    ]);
}
