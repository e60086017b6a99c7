//! Random histories of users: anonymous, identified by aliases and ids, merged, deleted, entering and leaving,
//! with faults in between.
//!
//! After the runs that settle everything, Braze's cohorts must contain exactly the desired users that exist in
//! Braze.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::*;

/// Number of users, and of rounds of changes.
const USERS: usize = 10_000;
const ROUNDS: usize = 6;

/// Random numbers that repeat with their seed.
struct SeededRng(u64);

impl SeededRng {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }

    fn is(&mut self, percent: usize) -> bool {
        self.next(100) < percent
    }
}

/// State of a user's profile in Braze.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ProfileStage {
    /// Identified by a device.
    Anonymous,
    /// Identified by an alias, without an external id.
    Aliased,
    /// Identified by the external id.
    Identified,
    /// Deleted.
    Gone,
}

/// Identifier of a user in the source.
#[derive(Clone, Copy, Debug, PartialEq)]
enum SourceIdentifier {
    Device,
    Alias,
    Id,
}

/// One user, or one of several identities that turn out to be one user.
#[derive(Clone, Copy, Debug)]
struct UserHistory {
    stage: ProfileStage,
    /// Whether Braze has a profile of the user.
    has_profile: bool,
    /// Whether the source lists the user, and by which identifier.
    in_source: bool,
    identifier: SourceIdentifier,
    /// The user that this identity turned out to be.
    merged_into: Option<usize>,
}

struct Simulation {
    w: Workspace,
    sandbox: Sandbox,
    histories: Vec<UserHistory>,
    by_attribute: bool,
    /// Owners that became known since the last run.
    new_owners: BTreeSet<usize>,
    /// Users who logged in, which becomes known only after the next run; until then their membership is
    /// unpredictable.
    late_logins: BTreeSet<usize>,
}

impl Simulation {
    fn new(by_attribute: bool, rng: &mut SeededRng) -> Self {
        let limits = ["--profiles", "created", "--rest-limit", "export_ids=100000/60"];
        let (w, sandbox) = (Workspace::new(), Sandbox::with(&limits));
        let deliver = if by_attribute { "    deliver: attribute\n" } else { "" };
        w.config(&sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n");
        let more =
            "    preflight: { retry_unknown: 1ms }\n    guard: { max_removed: 100%, allow_empty: true }\n";
        let rules = "{ external_id: identity }, { alias: { label: crm, name: crm } }, { device_id: device }";
        let text = w.read("sync.yaml").replace("{ external_id: identity }", rules) + deliver + more;
        w.write("sync.yaml", text);
        let history = |rng: &mut SeededRng| {
            let (stage, identifier) = match rng.next(10) {
                0..3 => (ProfileStage::Anonymous, SourceIdentifier::Device),
                3..5 => (ProfileStage::Aliased, SourceIdentifier::Alias),
                5..7 => (ProfileStage::Identified, SourceIdentifier::Alias),
                _ => (ProfileStage::Identified, SourceIdentifier::Id),
            };
            // `preflight` does not cover devices, so a device that gets a profile late would be missed.
            let has_profile = stage == ProfileStage::Anonymous || rng.is(70);
            UserHistory { stage, has_profile, in_source: rng.is(50), identifier, merged_into: None }
        };
        let histories = (0..USERS).map(|_| history(rng)).collect();
        let simulation = Self {
            w,
            sandbox,
            histories,
            by_attribute,
            new_owners: BTreeSet::new(),
            late_logins: BTreeSet::new(),
        };
        simulation.create_in_braze((0..USERS).filter(|at| simulation.histories[*at].has_profile));
        simulation
    }

    fn create_in_braze(&self, ids: impl Iterator<Item = usize>) {
        let profile = |at: usize| {
            let aliases = json!([{ "alias_label": "crm", "alias_name": format!("c{at}") }]);
            let devices = json!([format!("d{at}")]);
            match self.histories[at].stage {
                ProfileStage::Anonymous => json!({ "device_ids": devices }),
                ProfileStage::Aliased => json!({ "aliases": aliases, "device_ids": devices }),
                _ => json!({ "external_id": format!("u{at}"), "aliases": aliases, "device_ids": devices }),
            }
        };
        let ids: Vec<Value> = ids.map(profile).collect();
        self.sandbox.admin_post("/_sandbox/users", &json!(ids).to_string());
    }

    /// Changes a tenth of the users.
    fn change_some(&mut self, rng: &mut SeededRng) {
        let changed: Vec<usize> = (0..USERS).filter(|_| rng.is(10)).collect();
        let created: Vec<usize> =
            changed.iter().copied().filter(|at| !self.histories[*at].has_profile && rng.is(50)).collect();
        created.iter().for_each(|at| self.histories[*at].has_profile = true);
        self.create_in_braze(created.iter().copied());
        self.new_owners.extend(std::mem::take(&mut self.late_logins));
        for at in changed.into_iter().filter(|at| !created.contains(at)) {
            let UserHistory { stage, has_profile, merged_into, .. } = self.histories[at];
            if stage == ProfileStage::Gone || merged_into.is_some() || !has_profile || rng.is(50) {
                self.histories[at].in_source ^= true;
            } else if stage == ProfileStage::Identified {
                match rng.next(4) {
                    0 => self.delete(at),
                    1 => self.merge(at, rng.next(USERS)),
                    // The source lists another identifier of the user; its owner was imported.
                    _ => {
                        self.histories[at].identifier =
                            [SourceIdentifier::Device, SourceIdentifier::Alias, SourceIdentifier::Id]
                                [rng.next(3)];
                        self.new_owners.insert(at);
                    }
                }
            } else {
                self.identify(at, rng.next(USERS), rng.is(20));
                if self.histories[at].merged_into.is_none() && stage == ProfileStage::Anonymous && rng.is(50)
                {
                    self.new_owners.remove(&at);
                    self.late_logins.insert(at);
                }
            }
        }
    }

    /// A login: a first one as the user, or, on a device, as another existing user.
    fn identify(&mut self, at: usize, other: usize, as_other: bool) {
        let is_device = self.histories[at].stage == ProfileStage::Anonymous;
        let exists = self.histories[other].stage == ProfileStage::Identified
            && self.histories[other].has_profile
            && self.histories[other].merged_into.is_none();
        let merged_into = (is_device && as_other && exists).then_some(other);
        let id = format!("u{}", merged_into.unwrap_or(at));
        if is_device {
            let body = json!({ "device_id": format!("d{at}"), "external_id": id });
            self.sandbox.admin_post("/_sandbox/identify", &body.to_string());
        } else {
            let alias = json!({ "alias_label": "crm", "alias_name": format!("c{at}") });
            self.rest_request(
                "identify",
                &json!({ "aliases_to_identify": [{ "external_id": id, "user_alias": alias }] }),
            );
        }
        self.histories[at].stage = ProfileStage::Identified;
        self.histories[at].merged_into = merged_into;
        // An alias without a known owner counts as another user.
        self.new_owners.extend([Some(at), merged_into].into_iter().flatten());
    }

    fn delete(&mut self, at: usize) {
        self.rest_request("delete", &json!({ "external_ids": [format!("u{at}")] }));
        self.histories[at].stage = ProfileStage::Gone;
    }

    /// Merges one profile into another. With attributes, only a profile without membership is merged: its
    /// attributes would move to the other one without notice.
    fn merge(&mut self, at: usize, other: usize) {
        let UserHistory { stage, has_profile, merged_into, .. } = self.histories[other];
        let exists = stage == ProfileStage::Identified && has_profile && merged_into.is_none();
        if at == other
            || !exists
            || (self.by_attribute && self.actual_members().contains(&format!("external_id u{at}")))
        {
            return;
        }
        let id = |at: usize| json!({ "external_id": format!("u{at}") });
        let update = json!({ "identifier_to_merge": id(at), "identifier_to_keep": id(other) });
        self.rest_request("merge", &json!({ "merge_updates": [update] }));
        self.histories[at].merged_into = Some(other);
        // Identities of the merged user are identities of the remaining one.
        let identities: Vec<usize> = (0..USERS).filter(|at| self.owner_of(*at) == other).collect();
        self.new_owners.extend(identities);
    }

    fn rest_request(&self, endpoint: &str, body: &Value) {
        let bearer = format!("Bearer {REST_KEY}");
        let headers = [("content-type", "application/json"), ("authorization", &*bearer)];
        let response =
            http(&self.sandbox.url, "POST", &format!("/users/{endpoint}"), &headers, &body.to_string());
        assert!((200..300).contains(&response.status), "{endpoint}: {} {}", response.status, response.body);
    }

    /// The user that this identity turned out to be.
    fn owner_of(&self, at: usize) -> usize {
        let mut at = at;
        while let Some(merged_into) = self.histories[at].merged_into {
            at = merged_into;
        }
        at
    }

    /// Imports the known owners into the identity map.
    fn import_identities(&mut self) {
        let row = |at: &usize| format!("u{},c{at},d{at}\n", self.owner_of(*at));
        let rows: String = self.new_owners.iter().map(row).collect();
        self.new_owners.clear();
        self.w.replace("who.csv", &format!("id,crm,device\n{rows}"));
        let import = ["identity", "import", "who.csv", "--external-id", "id", "--alias", "crm=crm"];
        self.w.run(&[&import[..], &["--device-id", "device"]].concat()).expect(0);
    }

    fn export(&self) {
        let row = |(at, history): (usize, &UserHistory)| match (history.in_source, history.identifier) {
            (false, _) => String::new(),
            (true, SourceIdentifier::Id) => format!("u{at},,\n"),
            (true, SourceIdentifier::Alias) => format!(",c{at},\n"),
            (true, SourceIdentifier::Device) => format!(",,d{at}\n"),
        };
        let rows: String = self.histories.iter().enumerate().map(row).collect();
        self.w.replace("carts.csv", &format!("identity,crm,device\n{rows}"));
    }

    fn actual_members(&self) -> BTreeSet<String> {
        if !self.by_attribute {
            return self.sandbox.members("carts");
        }
        let (_, body) = self.sandbox.get("/_sandbox/attributes/syncline_cohorts/carts");
        body.lines().map(str::to_owned).collect()
    }

    fn expected_members(&self) -> BTreeSet<String> {
        let member = |(at, history): (usize, &UserHistory)| {
            // A merged user has no own id.
            if !history.in_source
                || (history.merged_into.is_some() && history.identifier == SourceIdentifier::Id)
            {
                return None;
            }
            let owner = self.owner_of(at);
            let UserHistory { stage, has_profile, .. } = self.histories[owner];
            match stage {
                _ if !has_profile => None,
                ProfileStage::Gone => None,
                ProfileStage::Identified => Some(format!("external_id u{owner}")),
                ProfileStage::Aliased => Some(format!("alias crm:c{owner}")),
                ProfileStage::Anonymous => (!self.by_attribute).then(|| format!("device_id d{owner}")),
            }
        };
        self.histories.iter().enumerate().filter_map(member).collect()
    }

    /// The histories of these users, and of the users merged with them.
    fn describe<'a>(&self, members: impl Iterator<Item = &'a &'a String>) -> String {
        let numbers = members
            .filter_map(|member| member.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok());
        let numbers: Vec<usize> = numbers.collect();
        let all = self.histories.iter().enumerate().filter(|(at, _)| numbers.contains(&self.owner_of(*at)));
        all.map(|(at, history)| format!("\n{at}: {history:?}")).collect()
    }

    /// Runs with faults, and then as many runs as needed until nothing changes.
    fn settle(&self, rng: &mut SeededRng, context: &str) {
        let on = if self.by_attribute { "users_track" } else { "users" };
        let faults = [json!("lose_answer"), json!({ "status": 503 }), json!("reset")];
        let plan: Vec<Value> = (0..3)
            .map(|_| json!({ "on": on, "times": 1 + rng.next(5), "do": faults[rng.next(3)] }))
            .collect();
        self.sandbox.faults(&json!(plan).to_string());
        self.w.run(&["reconcile"]);
        self.sandbox.faults("[]");
        for _ in 0..6 {
            let report = self.w.run(&["reconcile", "--format", "json"]).expect(0).json();
            let cohort = &report["cohorts"][0];
            let idle = ["added", "removed", "in_doubt"].iter().all(|key| cohort[*key] == 0);
            if idle && cohort["unknown_users"]["found"].as_u64().unwrap_or(0) == 0 {
                return;
            }
        }
        panic!("{context}: it does not settle");
    }
}

fn simulate(by_attribute: bool, seed: u64) {
    let context =
        format!("SYNCLINE_SEED={seed}, {}", if by_attribute { "by attribute" } else { "by cohort import" });
    let mut rng = SeededRng(seed);
    let mut simulation = Simulation::new(by_attribute, &mut rng);
    for round in 0..ROUNDS {
        simulation.export();
        if round > 0 {
            simulation.import_identities();
        }
        simulation.settle(&mut rng, &context);
        let is_predictable = |member: &String| {
            !simulation.late_logins.iter().any(|at| member == &format!("external_id u{at}"))
        };
        let (mut actual, mut expected) = (simulation.actual_members(), simulation.expected_members());
        actual.retain(is_predictable);
        expected.retain(is_predictable);
        let (more, less): (Vec<_>, Vec<_>) =
            (actual.difference(&expected).collect(), expected.difference(&actual).collect());
        assert!(
            more.is_empty() && less.is_empty(),
            "{context}, round {round}: too many {more:?}, missing {less:?}: {}",
            simulation.describe(more.iter().chain(&less))
        );
        simulation.change_some(&mut rng);
    }
}

/// A new seed each time, unless one is given: `SYNCLINE_SEED=7 cargo test --test it -- person_histories::`.
#[allow(clippy::disallowed_methods, reason = "the seed can be set")]
fn seed() -> u64 {
    let given = std::env::var("SYNCLINE_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761 + 1)
}

#[test]
fn ten_thousand_histories_by_cohort_import() {
    simulate(false, seed());
}

#[test]
fn ten_thousand_histories_by_attribute() {
    simulate(true, seed());
}
