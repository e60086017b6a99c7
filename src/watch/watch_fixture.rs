//! Fixture of the unit tests of the leader's parts: a config, a state in a temporary folder, and a clock that only the
//! test moves.

use std::cell::Cell;
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::blocked::BlockedStatus;
use super::context::LeaderContext;
use super::environment::{BoxedWork, ClientAccess, InvalidConfig, WatchEnvironment};
use super::notify::Notifications;
use super::status::WatchStatus;
use crate::apply::Interrupt;
use crate::config::{Config, load};
use crate::dashboard::RemedyView;
use crate::model::{Clock, CohortId, RunId, Timestamp};
use crate::reconcile::{BrazeClients, CohortReport, PlanError};
use crate::state::{Holder, Location, RunOrigin, StateWriter};

/// Two cohorts, by external id and by device, and two exports over HTTP.
const CONFIG: &str = "version: 1
connections:
  braze: { kind: braze, instance: sandbox }
  heap: { kind: heap, region: sandbox }
cohorts:
  - { id: carts, name: A, to: braze, source: { kind: file, path: a.csv }, match: [ { external_id: a } ] }
  - { id: vip, name: B, to: braze, source: { kind: file, path: b.csv }, match: [ { device_id: a } ], schedule: { every: 10m } }
exports:
  - { id: clicks, source: { kind: currents_http, token: { env: A } }, flush_every: 30s, to: heap }
  - { id: opens, source: { kind: currents_http, token: { env: B } }, to: heap }
";

thread_local! {
    static SECONDS: Cell<u64> = const { Cell::new(0) };
    static START: Instant = Clock::new(|| Timestamp::UNIX_EPOCH).monotonic();
}

/// The simulated clock.
pub(super) fn clock() -> Clock {
    Clock::with_monotonic(
        || Timestamp::UNIX_EPOCH + Duration::from_secs(SECONDS.get()),
        || START.with(|start| *start) + Duration::from_secs(SECONDS.get()),
    )
}

/// Moves both times of the simulated clock.
pub(super) fn advance(seconds: u64) {
    SECONDS.set(SECONDS.get() + seconds);
}

pub(super) fn cohort(id: &str) -> CohortId {
    CohortId::new(id).unwrap()
}

struct FakeEnvironment;

impl WatchEnvironment for FakeEnvironment {
    fn read_config(&self) -> Result<Config, InvalidConfig> {
        Err(InvalidConfig::one("there is no config".to_owned()))
    }

    fn client_access<'a>(&'a self, _: &'a Config) -> BoxedWork<'a, Result<ClientAccess, String>> {
        Box::pin(std::future::ready(Ok(ClientAccess::default())))
    }

    fn location(&self, config: &Config) -> Location {
        Location::Folder(config.state_folder())
    }

    fn target(&self, _: &Config, state: &Location) -> Vec<(&'static str, String)> {
        vec![("state", state.to_string())]
    }

    fn holder(&self) -> Holder {
        Holder { host: String::new(), process: 1, since: Timestamp::UNIX_EPOCH, renewal: None }
    }

    fn clock(&self) -> Clock {
        clock()
    }

    fn new_run(&self) -> RunId {
        RunId::new(clock().now(), 1)
    }

    fn origin(&self) -> RunOrigin {
        RunOrigin { command: "watch".to_owned(), ..RunOrigin::default() }
    }

    fn random(&self) -> u64 {
        u64::MAX // the longest waits
    }

    fn explain_plan_error(&self, error: &PlanError) -> (String, Vec<RemedyView>) {
        (error.to_string(), Vec::new())
    }

    fn approve_command(&self, _: &CohortId, _: &str) -> Option<String> {
        None
    }

    fn explain_blocked(&self, _: &CohortReport) -> BlockedStatus {
        blocked("sha256:0")
    }
}

/// A block of the plan with this digest.
pub(super) fn blocked(digest: &str) -> BlockedStatus {
    BlockedStatus {
        blocks: Vec::new(),
        digest: digest.to_owned(),
        approve_command: None,
        adds: None,
        removes: Some(45),
    }
}

/// The context of a leader, and its notifications.
pub(super) struct WatchFixture {
    folder: TempDir,
    pub(super) context: LeaderContext,
    pub(super) notifications: Notifications,
}

impl WatchFixture {
    pub(super) fn new() -> Self {
        Self::of(CONFIG)
    }

    /// The fixture with another config.
    pub(super) fn of(text: &str) -> Self {
        SECONDS.set(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sync.yaml");
        File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        let config = load(&path, None, None).unwrap_or_else(|problems| panic!("{problems:?}"));
        let (environment, clock) = (Arc::new(FakeEnvironment), clock());
        let location = environment.location(&config);
        let state = StateWriter::open(&location, &environment.holder(), clock, 7).unwrap();
        let status = Arc::new(WatchStatus::new(&config, None, clock));
        let notifications = Notifications::new(&config, &[], status.metrics(), clock);
        let context = LeaderContext {
            config: Arc::new(config),
            access: Arc::default(),
            braze: BrazeClients::new(),
            environment,
            state: Arc::new(state),
            status,
            clock,
            interrupt: Interrupt::new().1,
        };
        Self { folder, context, notifications }
    }

    /// Writes a file beside the config.
    pub(super) fn write(&self, name: &str, text: &str) {
        File::create(self.folder.path().join(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The same config with another list of cohorts and exports.
    pub(super) fn change_config(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = (*self.context.config).clone();
        change(&mut config);
        self.context.config = Arc::new(config);
        self.context.status.set_config(&self.context.config);
    }

    /// The seconds until this moment.
    pub(super) fn until(&self, moment: Option<Instant>) -> Option<u64> {
        moment.map(|at| at.saturating_duration_since(self.context.clock.monotonic()).as_secs())
    }
}
