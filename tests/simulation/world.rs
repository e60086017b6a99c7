//! One world: the state, the vendors, the faults and the judge, shared by the processes in it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::Request;
use object_store::PutResult;
use syncline_sandbox::{ExistingUsers, InProcessSandbox, SandboxOptions, SimulatedResponse};

use super::bucket::{BucketObjects, BucketPut};
use super::clock;
use super::dice::Dice;
use super::faults::{FaultKind, Weather};
use super::judge::Judge;
use super::process::Exit;
use super::schedule::{ENVIRONMENT, Party, Schedule};
use crate::model::Timestamp;
use crate::state::{MemoryStore, StoreFaults};

/// A request that the vendor gets later.
struct LateArrival {
    due: Duration,
    issuer: Party,
    request: Request<Vec<u8>>,
}

/// A put into the bucket that is done later.
struct LatePut {
    due: Duration,
    put: BucketPut,
}

/// What all processes share. Only the one that has the turn uses it.
pub(super) struct WorldState {
    pub(super) dice: Dice,
    pub(super) weather: Weather,
    pub(super) judge: Judge,
    late: Vec<LateArrival>,
    late_puts: Vec<LatePut>,
    /// All processes that were started.
    processes: Vec<Weak<Process>>,
    /// How the processes ended.
    pub(super) exits: BTreeMap<Party, Exit>,
    /// A hash of everything that happened.
    trace: DefaultHasher,
    /// Whether to print everything that happens.
    pub(super) is_verbose: bool,
    steps: u64,
}

/// A world of one seed.
pub(super) struct World {
    pub(super) schedule: Schedule,
    pub(super) store: MemoryStore,
    pub(super) bucket: Arc<Mutex<BucketObjects>>,
    /// Whether the state is in the bucket.
    pub(super) is_in_bucket: bool,
    pub(super) vendor: InProcessSandbox,
    state: Mutex<WorldState>,
}

impl World {
    pub(super) fn new(mut dice: Dice, is_in_bucket: bool, is_verbose: bool) -> Arc<Self> {
        let options = SandboxOptions { existing_users: ExistingUsers::Created, ..SandboxOptions::default() };
        let weather = Weather::random(&mut dice);
        Arc::new(Self {
            schedule: Schedule::new(dice.draw()),
            store: MemoryStore::default(),
            bucket: Arc::default(),
            is_in_bucket,
            vendor: InProcessSandbox::open(options).unwrap(),
            state: Mutex::new(WorldState {
                dice,
                weather,
                judge: Judge::default(),
                late: Vec::new(),
                late_puts: Vec::new(),
                processes: Vec::new(),
                exits: BTreeMap::new(),
                trace: DefaultHasher::new(),
                is_verbose,
                steps: 0,
            }),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the vendor, at a time of the world.
    pub(super) fn call(&self, request: Request<Vec<u8>>, time: Duration) -> SimulatedResponse {
        let answer = self.vendor.answer(request, clock::since_epoch(time)).now_or_never();
        answer.expect("the sandbox answers at once").expect("the sandbox has no fault plan")
    }

    /// Lets a request arrive, and the judge see it.
    pub(super) fn arrive(
        &self,
        request: Request<Vec<u8>>,
        issuer: Party,
        now: Duration,
    ) -> SimulatedResponse {
        let (path, body) = (request.uri().path().to_owned(), request.body().clone());
        let response = self.call(request, now);
        let mut world = self.lock();
        world.note(issuer, || {
            format!("{now:?} {path} {} -> {}", String::from_utf8_lossy(&body), response.status)
        });
        world.judge.done((&path, &body), response.status);
        response
    }

    /// Lets a request arrive at a later time.
    pub(super) fn arrive_later(&self, request: Request<Vec<u8>>, issuer: Party, due: Duration) {
        self.lock().late.push(LateArrival { due, issuer, request });
    }

    /// Lets the requests arrive that are due.
    pub(super) fn deliver_late(&self, now: Duration) {
        self.put_late(now);
        loop {
            let next = {
                let late = &mut self.lock().late;
                let due = (0..late.len()).filter(|at| late[*at].due <= now).min_by_key(|at| late[*at].due);
                due.map(|at| late.swap_remove(at))
            };
            let Some(LateArrival { due, issuer, request }) = next else { return };
            self.arrive(request, issuer, due);
        }
    }

    /// All files of the state with their contents.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        match self.is_in_bucket {
            true => self.bucket.lock().unwrap_or_else(PoisonError::into_inner).contents(),
            false => self.store.contents(),
        }
    }

    /// Replaces a file of the state. `None`: it is deleted.
    pub(super) fn replace_file(&self, path: &str, bytes: Option<&[u8]>, now: Duration) {
        match self.is_in_bucket {
            true => self.bucket.lock().unwrap_or_else(PoisonError::into_inner).replace(path, bytes, now),
            false => self.store.replace(path, bytes, clock::wall_time(now)),
        }
    }

    /// Does a put into the bucket up to a minute later.
    pub(super) fn put_later(&self, put: BucketPut, now: Duration) {
        let mut world = self.lock();
        let due = now + Duration::from_millis(world.dice.below(60_000));
        world.late_puts.push(LatePut { due, put });
    }

    /// Does the puts that are due, whether their condition still holds or not.
    fn put_late(&self, now: Duration) {
        let mut world = self.lock();
        let (mut due, late): (Vec<_>, Vec<_>) =
            std::mem::take(&mut world.late_puts).into_iter().partition(|put| put.due <= now);
        world.late_puts = late;
        due.sort_by_key(|put| put.due);
        for LatePut { due, put } in due {
            world.note(ENVIRONMENT, || format!("{due:?}: a late put arrives: {}", put.path()));
            drop(world);
            let _ = self.put(put, due);
            world = self.lock();
        }
    }

    /// Does a put into the bucket. Who writes the lease holds the state.
    pub(super) fn put(&self, put: BucketPut, now: Duration) -> object_store::Result<PutResult> {
        let (by, of_lease) = (put.by, put.of_lease());
        let result = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).put(put, now);
        if let Some(holds) = of_lease.filter(|_| result.is_ok()) {
            self.lock().judge.holder = holds.then_some(by);
        }
        result
    }
}

impl WorldState {
    /// Records what happened, for the comparison of two runs of one seed.
    pub(super) fn note(&mut self, party: Party, what: impl FnOnce() -> String) {
        let what = what();
        (party, &what).hash(&mut self.trace);
        self.steps += 1;
        if self.is_verbose {
            eprintln!("[{party}] {what}");
        }
    }

    /// The hash of everything that happened, and how much it was.
    pub(super) fn digest(&self) -> (u64, u64) {
        (self.trace.finish(), self.steps)
    }

    pub(super) fn strikes(&mut self, kind: FaultKind) -> bool {
        self.weather.strikes(kind, &mut self.dice)
    }
}

/// A process in a world.
pub(super) struct Process {
    pub(super) id: Party,
    pub(super) world: Arc<World>,
    is_alive: AtomicBool,
    /// Whether its steps can fail. Those of the final check cannot.
    is_exposed: bool,
    /// Whether it must not change the state.
    only_reads: bool,
    pub(super) killed: tokio::sync::Notify,
}

impl Process {
    pub(super) fn new(id: Party, world: &Arc<World>, is_exposed: bool, only_reads: bool) -> Arc<Self> {
        let process = Arc::new(Self {
            id,
            world: Arc::clone(world),
            is_alive: AtomicBool::new(true),
            is_exposed,
            only_reads,
            killed: tokio::sync::Notify::new(),
        });
        world.lock().processes.push(Arc::downgrade(&process));
        process
    }

    pub(super) fn kill(&self) {
        self.is_alive.store(false, Ordering::SeqCst);
        self.killed.notify_one();
    }

    /// Whether its steps can fail.
    pub(super) fn is_exposed(&self) -> bool {
        self.is_exposed
    }

    pub(super) fn runs(&self) -> bool {
        self.is_alive.load(Ordering::SeqCst)
    }

    /// A point at which other processes may run, and at which this one may be paused or killed. `false`: it is dead.
    pub(super) fn step(&self) -> bool {
        if !self.runs() {
            return false;
        }
        let mut until = clock::elapsed();
        if self.is_exposed {
            let mut world = self.world.lock();
            if world.strikes(FaultKind::Pause) {
                until += Duration::from_millis(world.dice.below(600_000));
                world.note(self.id, || format!("paused until {until:?}"));
            }
            if world.strikes(FaultKind::ClockJump) {
                let day = 86_400_000;
                let error = world.dice.below(2 * day).cast_signed() - day.cast_signed();
                world.note(self.id, || format!("wall clock is wrong by {error} ms"));
                clock::jump(error);
            }
        }
        let now = self.world.schedule.advance(self.id, until);
        clock::skip_to(now);
        self.world.deliver_late(now);
        // A crash of the machine has ended all processes.
        self.runs() && !(self.is_exposed && self.strikes_dead())
    }

    fn strikes_dead(&self) -> bool {
        let mut world = self.world.lock();
        if world.strikes(FaultKind::ProcessCrash) {
            world.note(self.id, || "crashes".to_owned());
            self.kill();
        } else if world.strikes(FaultKind::MachineCrash) {
            world.note(self.id, || "crashes with its machine".to_owned());
            self.kill();
            if !self.world.is_in_bucket {
                // A folder is used by processes on one machine.
                world.processes.drain(..).filter_map(|other| other.upgrade()).for_each(|other| other.kill());
            }
            let dice = &mut world.dice;
            self.world.store.restart_torn(|_, len| match dice.below(3) {
                0 => None,
                1 => Some(0),
                _ => Some(usize::try_from(dice.below(len as u64 + 1)).unwrap()),
            });
        }
        !self.runs()
    }

    /// A process that only reads must not change anything.
    fn check_access(&self, is_write: bool, path: &str, world: &mut WorldState) {
        if is_write && self.only_reads {
            world.judge.violations.push(format!("process {} only reads, and changes {path}", self.id));
        }
    }

    /// A request to the bucket.
    pub(super) fn bucket_step(&self, action: &'static str, path: &str) -> io::Result<()> {
        if !self.step() {
            return Err(io::Error::other("this process has ended"));
        }
        let mut world = self.world.lock();
        world.note(self.id, || format!("{action} {path}"));
        self.check_access(matches!(action, "put" | "remove"), path, &mut world);
        if self.is_exposed && world.strikes(FaultKind::DiskError) {
            world.note(self.id, || "the bucket fails".to_owned());
            return Err(io::Error::other("simulated error of the bucket"));
        }
        Ok(())
    }

    fn store_step(&self, action: &'static str, relative: &str, is_write: bool) -> io::Result<()> {
        if !self.step() {
            return Err(io::Error::other("this process has ended"));
        }
        let mut world = self.world.lock();
        world.note(self.id, || format!("{action} {relative}"));
        self.check_access(is_write, relative, &mut world);
        if !self.is_exposed {
            return Ok(());
        }
        if is_write && world.strikes(FaultKind::DiskFull) {
            world.note(self.id, || "the disk is full".to_owned());
            return Err(io::ErrorKind::StorageFull.into());
        }
        if world.strikes(FaultKind::DiskError) {
            world.note(self.id, || "I/O error".to_owned());
            return Err(io::Error::other("simulated I/O error"));
        }
        Ok(())
    }
}

impl StoreFaults for Process {
    fn before_write(&self, action: &'static str, relative: &str) -> io::Result<()> {
        self.store_step(action, relative, true)
    }

    fn before_read(&self, action: &'static str, relative: &str) -> io::Result<()> {
        self.store_step(action, relative, false)
    }

    fn now(&self) -> Timestamp {
        clock::wall_time(clock::elapsed())
    }

    fn is_alive(&self) -> bool {
        self.runs()
    }
}
