//! The course of a world: who exists, how sources change, and when processes run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use serde_json::json;
use tempfile::TempDir;

use super::dice::Dice;
use super::faults::FaultKind;
use super::judge::{FROM_MEMBERS, REMOVED_MAX, User};
use super::process::{self, Command, Exit};
use super::schedule::{ENVIRONMENT, Party};
use super::world::{Process, World};
use crate::config::Config;

/// How long after the end of all faults the last run takes place: no request is late any more.
const CALM: Duration = Duration::from_secs(20 * 60);
/// Runs until everything must be in sync.
const LAST_RUNS: u32 = 4;
const COHORTS: [&str; 2] = ["carts", "trials"];

/// The result of one seed.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) violations: Vec<String>,
    pub(super) faults: BTreeMap<FaultKind, u64>,
    /// A hash of all steps, and their number.
    pub(super) digest: (u64, u64),
    pub(super) processes: u64,
    pub(super) changes: u64,
    pub(super) simulated: Duration,
}

/// The scene of a world: files, and the processes.
struct Scene {
    folder: TempDir,
    world: Arc<World>,
    config: Arc<Config>,
    dice: Dice,
    now: Duration,
    processes: Party,
    edits: u64,
    running: Vec<Arc<Process>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// The last complete content of each source.
    contents: BTreeMap<String, BTreeSet<User>>,
}

/// Simulates the world of a seed.
pub(super) fn simulate(seed: u64, is_verbose: bool) -> Outcome {
    let mut scene = Scene::new(seed, is_verbose);
    let episodes = scene.dice.between(4, 16);
    for _ in 0..episodes {
        scene.episode();
    }
    scene.settle();
    let world = scene.world.lock();
    Outcome {
        violations: world.judge.violations.clone(),
        faults: world.weather.counts.clone(),
        digest: world.digest(),
        processes: scene.processes,
        changes: world.judge.changes,
        simulated: scene.now,
    }
}

impl Scene {
    fn new(seed: u64, is_verbose: bool) -> Self {
        let world = World::new(seed, is_verbose);
        let folder = tempfile::tempdir().unwrap();
        let config = Arc::new(config(folder.path()));
        let dice = Dice::new(world.lock().dice.draw());
        let mut scene = Self {
            folder,
            world,
            config,
            dice,
            now: Duration::ZERO,
            processes: 0,
            edits: 0,
            running: Vec::new(),
            threads: Vec::new(),
            contents: BTreeMap::new(),
        };
        scene.populate();
        for cohort in COHORTS {
            let members = scene.some_users(40);
            scene.write(cohort, Some(&members));
        }
        scene
    }

    /// Creates the profiles in Braze. One user in ten has none.
    fn populate(&mut self) {
        let mut profiles = Vec::new();
        for n in 0..60 {
            if self.dice.once_in(10) {
                continue;
            }
            let (user, profile) = match n % 5 {
                0 => (format!("device:d{n}"), json!({ "device_ids": [format!("d{n}")] })),
                _ => (format!("u{n}"), json!({ "external_id": format!("u{n}") })),
            };
            self.world.lock().judge.know(&user);
            profiles.push(profile);
        }
        let request = Request::post("/_sandbox/users").header("content-type", "application/json");
        let request = request.body(serde_json::to_vec(&profiles).unwrap()).unwrap();
        let response = self.world.call(request, self.now);
        assert!(response.status < 300, "{}", String::from_utf8_lossy(&response.body));
    }

    fn some_users(&mut self, percent: u64) -> BTreeSet<User> {
        let all = (0..60).map(|n| if n % 5 == 0 { format!("device:d{n}") } else { format!("u{n}") });
        all.filter(|_| self.dice.below(100) < percent).collect()
    }

    /// Writes the source of a cohort. `None`: its file is missing.
    fn write(&mut self, cohort: &str, members: Option<&BTreeSet<User>>) {
        self.edits += 1;
        let file = self.folder.path().join(cohort).join(format!("{:06}.csv", self.edits));
        replace(&file, members.map(csv).as_deref());
        self.world.lock().judge.source(cohort, self.now, members.cloned());
        if let Some(members) = members {
            self.contents.insert(cohort.to_owned(), members.clone());
        }
    }

    /// A file that ends in the middle of a row.
    fn cut(&mut self, cohort: &str) {
        self.edits += 1;
        let text = csv(&self.contents[cohort]);
        let quotes: Vec<usize> = text.match_indices("\"u").map(|(at, _)| at + 2).collect();
        let end = if quotes.is_empty() { 0 } else { *self.dice.pick(&quotes) };
        let file = self.folder.path().join(cohort).join(format!("{:06}.csv", self.edits));
        replace(&file, Some(&text[..end]));
        self.world.lock().judge.source(cohort, self.now, None);
    }

    /// Changes the source of a cohort.
    fn edit(&mut self, cohort: &str) {
        let content = self.contents[cohort].clone();
        let fault = match self.dice.below(12) {
            0 => {
                self.write(cohort, None);
                FaultKind::SourceVanishes
            }
            1 => {
                self.cut(cohort);
                FaultKind::SourceCut
            }
            2 => {
                let kept = content.iter().take(content.len() / 8).cloned().collect();
                self.write(cohort, Some(&kept));
                FaultKind::SourceShrinks
            }
            3 => {
                let members = self.some_users(40);
                self.write(cohort, Some(&members));
                return;
            }
            _ => {
                let joining = self.some_users(6);
                let leaving = self.some_users(8);
                let members: BTreeSet<User> = content.difference(&leaving).chain(&joining).cloned().collect();
                self.write(cohort, Some(&members));
                return;
            }
        };
        self.world.lock().weather.count(fault);
    }

    /// Some time with edits and processes.
    fn episode(&mut self) {
        for cohort in COHORTS {
            if !self.dice.once_in(3) {
                self.edit(cohort);
            }
        }
        let first = *self.dice.pick(&[
            Command::Reconcile { allows_all: false },
            Command::Reconcile { allows_all: false },
            Command::Reconcile { allows_all: false },
            Command::Reconcile { allows_all: true },
            Command::Plan,
        ]);
        self.start(first, true);
        if self.dice.once_in(4) {
            self.world.lock().weather.count(FaultKind::SecondProcess);
            self.start(Command::Reconcile { allows_all: false }, true);
        }
        let edit = self.dice.once_in(3);
        let wait = self.dice.below(4_000);
        self.wait(Duration::from_millis(wait));
        if edit {
            let cohort = *self.dice.pick(&COHORTS);
            self.edit(cohort);
        }
        self.wait_for_all();
        let pause = self.dice.below(3_600_000);
        self.wait(Duration::from_millis(pause));
    }

    /// Ends all faults, and checks that everything becomes right.
    fn settle(&mut self) {
        self.world.lock().weather.calm();
        self.wait(CALM);
        for cohort in COHORTS {
            let mut members = self.contents[cohort].clone();
            if members.is_empty() {
                // A source without members needs more than the permission of an operator.
                members = (1..9).map(|n| format!("u{n}")).collect();
            }
            self.write(cohort, Some(&members));
        }
        let mut last = Exit::Killed;
        for _ in 0..LAST_RUNS {
            let id = self.start(Command::Reconcile { allows_all: true }, false);
            self.wait_for_all();
            last = self.world.lock().exits[&id].clone();
            self.wait(CALM);
        }
        let mut world = self.world.lock();
        if last != Exit::Done(Vec::new()) {
            world.judge.violations.push(format!("the last run ended with {last:?}"));
        }
        drop(world);
        for cohort in COHORTS {
            let request = Request::get(format!("/_sandbox/cohorts/{cohort}/members")).body(Vec::new());
            let response = self.world.call(request.unwrap(), self.now);
            let text = String::from_utf8(response.body).unwrap();
            let members: BTreeSet<User> = text.lines().map(user_of_line).collect();
            let mut world = self.world.lock();
            let expected = world.judge.expected(cohort);
            if members != expected {
                let (more, fewer): (Vec<_>, Vec<_>) =
                    (members.difference(&expected).collect(), expected.difference(&members).collect());
                let text =
                    format!("in the end {cohort} has {more:?} more and {fewer:?} fewer than it should");
                world.judge.violations.push(text);
            }
        }
    }

    fn start(&mut self, command: Command, is_exposed: bool) -> Party {
        self.processes += 1;
        let (id, seed) = (self.processes, self.dice.draw());
        let process = Process::new(id, &self.world, is_exposed);
        self.world.schedule.add(id, self.now);
        let allows_all = command == Command::Reconcile { allows_all: true };
        let mut world = self.world.lock();
        world.judge.began(id, self.now, allows_all);
        world.note(id, || format!("{command:?} starts"));
        drop(world);
        let (running, config) = (Arc::clone(&process), Arc::clone(&self.config));
        let thread = std::thread::spawn(move || {
            let exit = catch_unwind(AssertUnwindSafe(|| process::run(&running, command, &config, seed)));
            let exit = exit.unwrap_or_else(|_| Exit::Failed("panicked".to_owned()));
            running.kill();
            let mut world = running.world.lock();
            if exit == Exit::Failed("panicked".to_owned()) {
                world.judge.violations.push(format!("process {id} panicked"));
            }
            world.note(id, || format!("ends: {exit:?}"));
            world.exits.insert(id, exit);
            drop(world);
            running.world.schedule.leave(id);
        });
        self.running.push(process);
        self.threads.push(thread);
        id
    }

    /// Lets time pass, during which processes run.
    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.now = self.world.schedule.advance(ENVIRONMENT, self.now);
        self.world.deliver_late(self.now);
    }

    /// Waits until all processes have ended.
    fn wait_for_all(&mut self) {
        while self.world.schedule.is_busy() {
            self.wait(Duration::from_secs(5));
        }
        self.running.clear();
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// Replaces the only file of a source. `None`: there is no file.
fn replace(file: &Path, text: Option<&str>) {
    let folder = file.parent().unwrap();
    fs::create_dir_all(folder).unwrap();
    for old in fs::read_dir(folder).unwrap() {
        fs::remove_file(old.unwrap().path()).unwrap();
    }
    if let Some(text) = text {
        let mut options = fs::File::options();
        std::io::Write::write_all(
            &mut options.write(true).create_new(true).open(file).unwrap(),
            text.as_bytes(),
        )
        .unwrap();
    }
}

fn csv(members: &BTreeSet<User>) -> String {
    let mut text = "\"user_id\",\"device_id\"\n".to_owned();
    for user in members {
        match user.strip_prefix("device:") {
            Some(device) => writeln!(text, "\"\",\"{device}\"").unwrap(),
            None => writeln!(text, "\"{user}\",\"\"").unwrap(),
        }
    }
    text
}

/// A line of the sandbox's list of members: `external_id u1`.
fn user_of_line(line: &str) -> User {
    match line.split_once(' ') {
        Some(("device_id", device)) => format!("device:{device}"),
        Some((_, user)) => user.to_owned(),
        None => line.to_owned(),
    }
}

fn config(folder: &Path) -> Config {
    let mut text =
        "version: 1\nconnections:\n  braze: { kind: braze, instance: sandbox }\ncohorts:\n".to_owned();
    for cohort in COHORTS {
        writeln!(
            text,
            "  - id: {cohort}
    name: {cohort}
    to: braze
    source: {{ kind: file, path: '{cohort}/*.csv', format: csv }}
    match: [ {{ external_id: user_id }}, {{ device_id: device_id }} ]
    guard: {{ max_added: 100000%, max_removed: {REMOVED_MAX}%, from_members: {FROM_MEMBERS} }}"
        )
        .unwrap();
    }
    let path = folder.join("sync.yaml");
    fs::File::create(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .unwrap();
    process::load(&path)
}
