//! Random lives of people: named by ids and aliases, made known late, entering and leaving, with faults on
//! the way. After passes that settle everything Braze holds whom it should: those who are desired and whom it knows.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::*;

/// How many people there are, and how often their lives change.
const PEOPLE: usize = 10_000;
const ROUNDS: usize = 6;

/// Chance that can be had again.
struct Chance(u64);

impl Chance {
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

/// One person.
#[derive(Clone, Copy)]
struct Life {
    /// Whether Braze has a profile of them.
    known: bool,
    /// Whether the source names them, and whether by their alias.
    inside: bool,
    by_alias: bool,
}

struct World {
    w: Workspace,
    sandbox: Sandbox,
    lives: Vec<Life>,
    by_attribute: bool,
}

impl World {
    fn new(by_attribute: bool, chance: &mut Chance) -> Self {
        let (w, sandbox) =
            (Workspace::new(), Sandbox::with(&["--people", "known", "--rest-limit", "export_ids=100000/60"]));
        let deliver = if by_attribute { "    deliver: attribute\n" } else { "" };
        w.config(&sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n");
        let more =
            "    preflight: { retry_unknown: 1ms }\n    guard: { max_removed: 100%, allow_empty: true }\n";
        let rules = "{ external_id: identity }, { alias: { label: crm, name: crm } }";
        let text = w.read("sync.yaml").replace("{ external_id: identity }", rules) + deliver + more;
        w.write("sync.yaml", text);
        let life = |chance: &mut Chance| Life {
            known: chance.is(70),
            inside: chance.is(50),
            // How somebody is named is theirs for life: another name would be another member.
            by_alias: chance.is(30),
        };
        let lives = (0..PEOPLE).map(|_| life(chance)).collect();
        let world = Self { w, sandbox, lives, by_attribute };
        world.introduce((0..PEOPLE).filter(|at| world.lives[*at].known));
        world
    }

    fn introduce(&self, people: impl Iterator<Item = usize>) {
        let person = |at: usize| json!({ "external_id": format!("u{at}"), "aliases": [{ "alias_label": "crm", "alias_name": format!("c{at}") }] });
        let people: Vec<Value> = people.map(person).collect();
        self.sandbox.door("/_sandbox/people", &json!(people).to_string());
    }

    /// Something happens to a tenth of them.
    fn live(&mut self, chance: &mut Chance) {
        let mut made = Vec::new();
        for at in 0..PEOPLE {
            if !chance.is(10) {
                continue;
            }
            let life = &mut self.lives[at];
            if !life.known && chance.is(60) {
                life.known = true;
                made.push(at);
            } else {
                life.inside = !life.inside;
            }
        }
        self.introduce(made.into_iter());
    }

    fn export(&self) {
        let row = |(at, life): (usize, &Life)| match (life.inside, life.by_alias) {
            (false, _) => String::new(),
            (true, true) => format!(",c{at}\n"),
            (true, false) => format!("u{at},\n"),
        };
        let rows: String = self.lives.iter().enumerate().map(row).collect();
        self.w.replace("carts.csv", &format!("identity,crm\n{rows}"));
    }

    fn held(&self) -> BTreeSet<String> {
        if !self.by_attribute {
            return self.sandbox.members("carts");
        }
        let (_, body) = self.sandbox.get("/_sandbox/attributes/syncline_cohorts/carts");
        body.lines().map(str::to_owned).collect()
    }

    fn wanted(&self) -> BTreeSet<String> {
        let is_held = |life: &Life| life.inside && life.known;
        let people = self.lives.iter().enumerate().filter(|(_, life)| is_held(life));
        people.map(|(at, _)| format!("external_id u{at}")).collect()
    }

    /// Passes that meet faults, and then as many as it takes until nothing is left to do.
    fn settle(&self, chance: &mut Chance, told: &str) {
        let on = if self.by_attribute { "users_track" } else { "users" };
        let faults = [json!("lose_answer"), json!({ "status": 503 }), json!("reset")];
        let plan: Vec<Value> = (0..3)
            .map(|_| json!({ "on": on, "times": 1 + chance.next(5), "do": faults[chance.next(3)] }))
            .collect();
        self.sandbox.faults(&json!(plan).to_string());
        self.w.run(&["reconcile"]);
        self.sandbox.faults("[]");
        for _ in 0..6 {
            let report = self.w.run(&["reconcile", "--format", "json"]).expect(0).json();
            let cohort = &report["cohorts"][0];
            let idle = ["added", "removed", "in_doubt"].iter().all(|key| cohort[*key] == 0);
            if idle && cohort["unknown_to_braze"]["known_now"].as_u64().unwrap_or(0) == 0 {
                return;
            }
        }
        panic!("{told}: it does not settle");
    }
}

fn lives(by_attribute: bool, seed: u64) {
    let told =
        format!("SYNCLINE_SEED={seed}, {}", if by_attribute { "by attribute" } else { "by cohort import" });
    let mut chance = Chance(seed);
    let mut world = World::new(by_attribute, &mut chance);
    for round in 0..ROUNDS {
        world.export();
        world.settle(&mut chance, &told);
        let (held, wanted) = (world.held(), world.wanted());
        let (more, less): (Vec<_>, Vec<_>) =
            (held.difference(&wanted).collect(), wanted.difference(&held).collect());
        assert!(
            more.is_empty() && less.is_empty(),
            "{told}, round {round}: too many {more:?}, missing {less:?}"
        );
        world.live(&mut chance);
    }
}

/// Another seed each time, unless one is given: `SYNCLINE_SEED=7 cargo test --test it -- lives::`.
#[allow(clippy::disallowed_methods, reason = "a test may be told its chance")]
fn seed() -> u64 {
    let given = std::env::var("SYNCLINE_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761 + 1)
}

#[test]
fn ten_thousand_lives_by_cohort_import() {
    lives(false, seed());
}

#[test]
fn ten_thousand_lives_by_attribute() {
    lives(true, seed());
}
