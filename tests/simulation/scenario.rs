//! The course of a world: who exists, how sources change, and when processes run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use syncline_sandbox::currents::{self, EventMix, FileOptions};
use tempfile::TempDir;

use super::damage::Damage;
use super::dice::Dice;
use super::faults::FaultKind;
use super::features::{Features, campaign_of};
use super::judge::User;
use super::process::{self, Command, Exit};
use super::schedule::{ENVIRONMENT, Party};
use super::world::{Process, World};
use crate::config::Config;

/// How long after the end of all faults the last run takes place: no request is late any more.
const CALM: Duration = Duration::from_secs(20 * 60);
/// Runs until everything must be in sync.
const LAST_RUNS: u32 = 4;
/// The time between them. Together it is more than the error of a clock that was wrong by a day.
const BETWEEN_LAST_RUNS: Duration = Duration::from_secs(9 * 3600);
/// Users in a world. One in five is known by device only.
const USERS: u64 = 60;
/// Event types with a user in every event.
const EVENT_TYPES: [&str; 3] =
    ["users.messages.email.Open", "users.behaviors.Purchase", "users.behaviors.app.SessionStart"];

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
    features: Features,
    config: Arc<Config>,
    dice: Dice,
    now: Duration,
    processes: Party,
    edits: u64,
    /// Events that Braze has written.
    events: u64,
    running: Vec<Arc<Process>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// The last complete content of each source.
    contents: BTreeMap<String, BTreeSet<User>>,
    damage: Damage,
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
        let mut dice = Dice::new(seed);
        let features = Features::random(&mut dice);
        let world = World::new(Dice::new(dice.draw()), features.is_in_bucket, is_verbose);
        let folder = tempfile::tempdir().unwrap();
        let config = Arc::new(config(folder.path(), &features));
        let mut scene = Self {
            folder,
            world,
            features,
            config,
            dice,
            now: Duration::ZERO,
            processes: 0,
            edits: 0,
            events: 0,
            running: Vec::new(),
            threads: Vec::new(),
            contents: BTreeMap::new(),
            damage: Damage::default(),
        };
        scene.populate();
        fs::create_dir_all(scene.folder.path().join("currents")).unwrap();
        for cohort in scene.cohort_ids() {
            let members = scene.some_users(&cohort, 40);
            scene.write(&cohort, Some(&members));
        }
        scene
    }

    /// Creates the profiles in Braze. One user in ten has none.
    fn populate(&mut self) {
        let known: Vec<User> = users().filter(|_| !self.dice.once_in(10)).collect();
        self.create_profiles(&known);
        for cohort in self.features.cohorts.iter().filter(|cohort| cohort.has_trigger) {
            self.world.create_campaign(&cohort.id);
            self.world.lock().judge.campaigns.insert(campaign_of(&cohort.id), cohort.id.clone());
        }
    }

    fn create_profiles(&self, users: &[User]) {
        self.world.create_profiles(users, self.now);
        users.iter().for_each(|user| self.world.lock().judge.know(user));
    }

    fn cohort_ids(&self) -> Vec<String> {
        self.features.cohorts.iter().map(|cohort| cohort.id.clone()).collect()
    }

    /// A random part of the users that a cohort can have.
    fn some_users(&mut self, cohort: &str, percent: u64) -> BTreeSet<User> {
        let is_attribute =
            self.features.cohorts.iter().any(|features| features.id == cohort && features.is_attribute);
        let possible = users().filter(|user| !is_attribute || !user.starts_with("device:"));
        possible.filter(|_| self.dice.below(100) < percent).collect()
    }

    /// Braze writes files of events.
    fn write_events(&mut self) {
        let events = self.dice.between(1, 40);
        let mix = EventMix {
            events,
            from: self.events,
            types: EVENT_TYPES.map(str::to_owned).to_vec(),
            users: 5,
            hours: 2,
            anonymous: 0.0,
            redacted: 0.0,
            unknown_types: 0.0,
            unknown_fields: 0.0,
            odd_times: 0.0,
            duplicates: 0.1,
            ..EventMix::default()
        };
        let files = FileOptions { rows_max: 10, block_len: 500, ..FileOptions::default() };
        self.events += events;
        let written = currents::write(&self.folder.path().join("currents"), &mix, &files).unwrap();
        self.world.lock().judge.events.extend(written.ids);
    }

    /// Writes the source of a cohort. `None`: its file is missing.
    fn write(&mut self, cohort: &str, members: Option<&BTreeSet<User>>) {
        self.edits += 1;
        let file = self.folder.path().join(cohort).join(format!("{:06}.csv", self.edits));
        replace(&file, members.map(csv).as_deref());
        self.world.lock().judge.source(cohort, members.cloned());
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
        self.world.lock().judge.source(cohort, None);
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
                let members = self.some_users(cohort, 40);
                self.write(cohort, Some(&members));
                return;
            }
            4..=7 => {
                // A few users enter and leave again and again.
                let members: BTreeSet<User> =
                    content.into_iter().filter(|user| !is_restless(user) || self.dice.once_in(2)).collect();
                let joining = (1..9).map(|n| format!("u{n}")).filter(|user| is_restless(user));
                let joining: Vec<User> = joining.filter(|_| self.dice.once_in(2)).collect();
                self.write(cohort, Some(&members.into_iter().chain(joining).collect()));
                return;
            }
            _ => {
                let joining = self.some_users(cohort, 6);
                let leaving = self.some_users(cohort, 8);
                let members: BTreeSet<User> = content.difference(&leaving).chain(&joining).cloned().collect();
                self.write(cohort, Some(&members));
                return;
            }
        };
        self.world.lock().weather.count(fault);
    }

    /// Some time with edits and processes.
    fn episode(&mut self) {
        for cohort in self.cohort_ids() {
            if !self.dice.once_in(3) {
                self.edit(&cohort);
            }
        }
        if self.features.has_export && self.dice.once_in(2) {
            self.write_events();
        }
        // A user who becomes known is noticed only by cohorts that check who is unknown.
        if self.features.cohorts.iter().all(|cohort| cohort.has_preflight) {
            let unknown: Vec<User> = users().filter(|user| !self.world.lock().judge.knows(user)).collect();
            let identified: Vec<User> = unknown.into_iter().filter(|user| user.starts_with('u')).collect();
            if !identified.is_empty() {
                let user = self.dice.pick(&identified).clone();
                self.create_profiles(&[user]);
            }
        }
        if self.features.is_damaged && self.dice.once_in(4) {
            self.damage.strike(&self.world, &mut self.dice, self.now);
        }
        let first = self.command();
        self.start(first, true);
        if self.dice.once_in(4) {
            self.world.lock().weather.count(FaultKind::SecondProcess);
            self.start(Command::Reconcile { allows_all: false }, true);
        }
        let edit = self.dice.once_in(3);
        let wait = self.dice.below(4_000);
        self.wait(Duration::from_millis(wait));
        if edit {
            let cohort = self.dice.pick(&self.cohort_ids()).clone();
            self.edit(&cohort);
        }
        self.wait_for_all();
        if self.features.is_damaged && self.dice.once_in(2) {
            self.damage.back_up(&self.world);
        }
        // Often so short that requests of this episode arrive in the next one.
        let longest = *self.dice.pick(&[60_000, 60_000, 3_600_000]);
        let pause = self.dice.below(longest);
        self.wait(Duration::from_millis(pause));
    }

    /// What the next process does.
    fn command(&mut self) -> Command {
        match self.dice.below(8) {
            0 => Command::Reconcile { allows_all: true },
            1 => Command::Plan,
            2 => Command::CollectGarbage,
            3 => {
                let absent = |user: &User| !self.contents.values().any(|members| members.contains(user));
                let absent: Vec<User> = users().filter(|user| user.starts_with('u')).filter(absent).collect();
                Command::Forget(self.dice.pick(&absent).clone())
            }
            _ => Command::Reconcile { allows_all: false },
        }
    }

    /// Ends all faults, and checks that everything becomes right.
    fn settle(&mut self) {
        self.world.lock().weather.calm();
        self.damage.repair(&self.world, self.now);
        self.wait(CALM);
        for cohort in self.cohort_ids() {
            let mut members = self.contents[&cohort].clone();
            if members.is_empty() {
                // A source without members needs more than the permission of an operator.
                members = (1..5).map(|n| format!("u{n}")).collect();
            }
            self.write(&cohort, Some(&members));
        }
        let mut last = Exit::Killed;
        for _ in 0..LAST_RUNS {
            let id = self.start(Command::Reconcile { allows_all: true }, false);
            self.wait_for_all();
            last = self.world.lock().exits[&id].clone();
            self.wait(BETWEEN_LAST_RUNS);
        }
        if last != Exit::Done(Vec::new()) {
            self.violation(format!("the last run ended with {last:?}"));
        }
        let id = self.start(Command::Inspect, false);
        self.wait_for_all();
        let inspected = self.world.lock().exits[&id].clone();
        if inspected != Exit::Done(Vec::new()) {
            self.violation(format!("the state is not sound: {inspected:?}"));
        }
        self.compare();
    }

    /// Compares what the vendors hold with what they must hold.
    fn compare(&self) {
        for cohort in &self.features.cohorts {
            let members = self.world.members(cohort, self.now);
            let expected = self.world.lock().judge.expected(&cohort.id);
            self.difference(&format!("cohort {}", cohort.id), &members, &expected);
        }
        if self.features.has_export {
            let expected = self.world.lock().judge.events.clone();
            self.difference("Heap", &self.world.event_ids(self.now), &expected);
        }
    }

    fn difference(&self, of: &str, found: &BTreeSet<String>, expected: &BTreeSet<String>) {
        let more: Vec<&String> = found.difference(expected).collect();
        let fewer: Vec<&String> = expected.difference(found).collect();
        if !more.is_empty() || !fewer.is_empty() {
            self.violation(format!("in the end {of} has {more:?} too much and lacks {fewer:?}"));
        }
    }

    fn violation(&self, text: String) {
        self.world.lock().judge.violations.push(text);
    }

    fn start(&mut self, command: Command, is_exposed: bool) -> Party {
        self.processes += 1;
        let (id, seed) = (self.processes, self.dice.draw());
        let only_reads = matches!(command, Command::Plan | Command::Inspect);
        let process = Process::new(id, &self.world, is_exposed, only_reads);
        self.world.schedule.add(id, self.now);
        let allows_all = command == Command::Reconcile { allows_all: true };
        let is_run = matches!(command, Command::Reconcile { .. });
        let mut world = self.world.lock();
        world.judge.began(id, allows_all);
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
            if is_run {
                world.judge.ended(exit == Exit::Done(Vec::new()));
            }
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
        let created = fs::File::options().write(true).create_new(true).open(file);
        created.and_then(|mut file| file.write_all(text.as_bytes())).unwrap();
    }
}

/// Whether a user enters and leaves often.
fn is_restless(user: &str) -> bool {
    user.len() == 2
}

/// All users of a world.
fn users() -> impl Iterator<Item = User> {
    (0..USERS).map(|n| if n % 5 == 0 { format!("device:d{n}") } else { format!("u{n}") })
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

/// Writes the config of a world and loads it.
fn config(folder: &Path, features: &Features) -> Config {
    let path = folder.join("sync.yaml");
    let written = fs::File::create(&path).and_then(|mut file| file.write_all(features.config().as_bytes()));
    written.unwrap();
    process::load(&path)
}
