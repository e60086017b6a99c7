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
    known: bool,
    /// Whether the source lists the user, and by which identifier.
    inside: bool,
    named: SourceIdentifier,
    /// The user that this identity turned out to be.
    into: Option<usize>,
}

struct Simulation {
    w: Workspace,
    sandbox: Sandbox,
    simulate: Vec<UserHistory>,
    by_attribute: bool,
    /// Owners that became known since the last run.
    learned: BTreeSet<usize>,
    /// Users who logged in, which becomes known only after the next run; until then their membership is
    /// unpredictable.
    late: BTreeSet<usize>,
}

impl Simulation {
    fn new(by_attribute: bool, rng: &mut SeededRng) -> Self {
        let limits = ["--people", "known", "--rest-limit", "export_ids=100000/60"];
        let (w, sandbox) = (Workspace::new(), Sandbox::with(&limits));
        let deliver = if by_attribute { "    deliver: attribute\n" } else { "" };
        w.config(&sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n");
        let more =
            "    preflight: { retry_unknown: 1ms }\n    guard: { max_removed: 100%, allow_empty: true }\n";
        let rules = "{ external_id: identity }, { alias: { label: crm, name: crm } }, { device_id: device }";
        let text = w.read("sync.yaml").replace("{ external_id: identity }", rules) + deliver + more;
        w.write("sync.yaml", text);
        let life = |rng: &mut SeededRng| {
            let (stage, named) = match rng.next(10) {
                0..3 => (ProfileStage::Anonymous, SourceIdentifier::Device),
                3..5 => (ProfileStage::Aliased, SourceIdentifier::Alias),
                5..7 => (ProfileStage::Identified, SourceIdentifier::Alias),
                _ => (ProfileStage::Identified, SourceIdentifier::Id),
            };
            // `preflight` does not cover devices, so a device that gets a profile late would be missed.
            let known = stage == ProfileStage::Anonymous || rng.is(70);
            UserHistory { stage, known, inside: rng.is(50), named, into: None }
        };
        let simulate = (0..USERS).map(|_| life(rng)).collect();
        let simulation =
            Self { w, sandbox, simulate, by_attribute, learned: BTreeSet::new(), late: BTreeSet::new() };
        simulation.create_in_braze((0..USERS).filter(|at| simulation.simulate[*at].known));
        simulation
    }

    fn create_in_braze(&self, ids: impl Iterator<Item = usize>) {
        let person = |at: usize| {
            let aliases = json!([{ "alias_label": "crm", "alias_name": format!("c{at}") }]);
            let devices = json!([format!("d{at}")]);
            match self.simulate[at].stage {
                ProfileStage::Anonymous => json!({ "device_ids": devices }),
                ProfileStage::Aliased => json!({ "aliases": aliases, "device_ids": devices }),
                _ => json!({ "external_id": format!("u{at}"), "aliases": aliases, "device_ids": devices }),
            }
        };
        let ids: Vec<Value> = ids.map(person).collect();
        self.sandbox.admin_post("/_sandbox/users", &json!(ids).to_string());
    }

    /// Changes a tenth of the users.
    fn change_some(&mut self, rng: &mut SeededRng) {
        let changed: Vec<usize> = (0..USERS).filter(|_| rng.is(10)).collect();
        let made: Vec<usize> =
            changed.iter().copied().filter(|at| !self.simulate[*at].known && rng.is(50)).collect();
        made.iter().for_each(|at| self.simulate[*at].known = true);
        self.create_in_braze(made.iter().copied());
        self.learned.extend(std::mem::take(&mut self.late));
        for at in changed.into_iter().filter(|at| !made.contains(at)) {
            let UserHistory { stage, known, into, .. } = self.simulate[at];
            if stage == ProfileStage::Gone || into.is_some() || !known || rng.is(50) {
                self.simulate[at].inside ^= true;
            } else if stage == ProfileStage::Identified {
                match rng.next(4) {
                    0 => self.delete(at),
                    1 => self.merge(at, rng.next(USERS)),
                    // The source lists another identifier of the user; its owner was imported.
                    _ => {
                        self.simulate[at].named =
                            [SourceIdentifier::Device, SourceIdentifier::Alias, SourceIdentifier::Id]
                                [rng.next(3)];
                        self.learned.insert(at);
                    }
                }
            } else {
                self.identify(at, rng.next(USERS), rng.is(20));
                if self.simulate[at].into.is_none() && stage == ProfileStage::Anonymous && rng.is(50) {
                    self.learned.remove(&at);
                    self.late.insert(at);
                }
            }
        }
    }

    /// A login: a first one as the user, or, on a device, as another existing user.
    fn identify(&mut self, at: usize, other: usize, as_other: bool) {
        let is_device = self.simulate[at].stage == ProfileStage::Anonymous;
        let is_there = self.simulate[other].stage == ProfileStage::Identified
            && self.simulate[other].known
            && self.simulate[other].into.is_none();
        let into = (is_device && as_other && is_there).then_some(other);
        let id = format!("u{}", into.unwrap_or(at));
        if is_device {
            let body = json!({ "device_id": format!("d{at}"), "external_id": id });
            self.sandbox.admin_post("/_sandbox/identify", &body.to_string());
        } else {
            let alias = json!({ "alias_label": "crm", "alias_name": format!("c{at}") });
            self.erase_profile(
                "identify",
                &json!({ "aliases_to_identify": [{ "external_id": id, "user_alias": alias }] }),
            );
        }
        self.simulate[at].stage = ProfileStage::Identified;
        self.simulate[at].into = into;
        // An alias without a known owner counts as another user.
        self.learned.extend([Some(at), into].into_iter().flatten());
    }

    fn delete(&mut self, at: usize) {
        self.erase_profile("delete", &json!({ "external_ids": [format!("u{at}")] }));
        self.simulate[at].stage = ProfileStage::Gone;
    }

    /// Merges one profile into another. With attributes, only a profile without membership is merged: its
    /// attributes would move to the other one without notice.
    fn merge(&mut self, at: usize, other: usize) {
        let UserHistory { stage, known, into, .. } = self.simulate[other];
        let is_there = stage == ProfileStage::Identified && known && into.is_none();
        if at == other
            || !is_there
            || (self.by_attribute && self.actual_members().contains(&format!("external_id u{at}")))
        {
            return;
        }
        let id = |at: usize| json!({ "external_id": format!("u{at}") });
        let update = json!({ "identifier_to_merge": id(at), "identifier_to_keep": id(other) });
        self.erase_profile("merge", &json!({ "merge_updates": [update] }));
        self.simulate[at].into = Some(other);
        // Identities of the merged user are identities of the remaining one.
        let identities: Vec<usize> = (0..USERS).filter(|one| self.owner_of(*one) == other).collect();
        self.learned.extend(identities);
    }

    fn erase_profile(&self, endpoint: &str, body: &Value) {
        let bearer = format!("Bearer {REST_KEY}");
        let headers = [("content-type", "application/json"), ("authorization", &*bearer)];
        let response =
            http(&self.sandbox.url, "POST", &format!("/users/{endpoint}"), &headers, &body.to_string());
        assert!((200..300).contains(&response.status), "{endpoint}: {} {}", response.status, response.body);
    }

    /// The user that this identity turned out to be.
    fn owner_of(&self, at: usize) -> usize {
        let mut at = at;
        while let Some(into) = self.simulate[at].into {
            at = into;
        }
        at
    }

    /// Imports the known owners into the identity map.
    fn import_identities(&mut self) {
        let row = |at: &usize| format!("u{},c{at},d{at}\n", self.owner_of(*at));
        let rows: String = self.learned.iter().map(row).collect();
        self.learned.clear();
        self.w.replace("who.csv", &format!("id,crm,device\n{rows}"));
        let import = ["identity", "import", "who.csv", "--external-id", "id", "--alias", "crm=crm"];
        self.w.run(&[&import[..], &["--device-id", "device"]].concat()).expect(0);
    }

    fn export(&self) {
        let row = |(at, life): (usize, &UserHistory)| match (life.inside, life.named) {
            (false, _) => String::new(),
            (true, SourceIdentifier::Id) => format!("u{at},,\n"),
            (true, SourceIdentifier::Alias) => format!(",c{at},\n"),
            (true, SourceIdentifier::Device) => format!(",,d{at}\n"),
        };
        let rows: String = self.simulate.iter().enumerate().map(row).collect();
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
        let expected_members = |(at, life): (usize, &UserHistory)| {
            // A merged user has no own id.
            if !life.inside || (life.into.is_some() && life.named == SourceIdentifier::Id) {
                return None;
            }
            let owner_of = self.owner_of(at);
            let UserHistory { stage, known, .. } = self.simulate[owner_of];
            match stage {
                _ if !known => None,
                ProfileStage::Gone => None,
                ProfileStage::Identified => Some(format!("external_id u{owner_of}")),
                ProfileStage::Aliased => Some(format!("alias crm:c{owner_of}")),
                ProfileStage::Anonymous => (!self.by_attribute).then(|| format!("device_id d{owner_of}")),
            }
        };
        self.simulate.iter().enumerate().filter_map(expected_members).collect()
    }

    /// The histories of these users, and of the users merged with them.
    fn describe<'a>(&self, ids: impl Iterator<Item = &'a &'a String>) -> String {
        let numbers = ids
            .filter_map(|owner_of| owner_of.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok());
        let numbers: Vec<usize> = numbers.collect();
        let all = self.simulate.iter().enumerate().filter(|(at, _)| numbers.contains(&self.owner_of(*at)));
        all.map(|(at, life)| format!("\n{at}: {life:?}")).collect()
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
            if idle && cohort["unknown_users"]["known_now"].as_u64().unwrap_or(0) == 0 {
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
        let is_predictable =
            |owner_of: &String| !simulation.late.iter().any(|at| owner_of == &format!("external_id u{at}"));
        let (mut actual_members, mut expected_members) =
            (simulation.actual_members(), simulation.expected_members());
        actual_members.retain(is_predictable);
        expected_members.retain(is_predictable);
        let (more, less): (Vec<_>, Vec<_>) = (
            actual_members.difference(&expected_members).collect(),
            expected_members.difference(&actual_members).collect(),
        );
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
