//! Fixture of the unit tests of a run: a config, a state in a temporary folder, a clock that only the test moves, and a
//! workspace in memory.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tempfile::TempDir;

use super::apply_cohort::apply_cohort;
use super::apply_stages::CohortContext;
use super::context::{ApplyResources, BrazeClients, PlanInputs, WorkspaceClient};
use super::mirror_tables::MirrorTables;
use super::plan_cohort;
use super::policy::CohortNames;
use super::report::CohortReport;
use super::run_plan::CohortPlan;
use crate::apply::fake_destination::{self, FakeDestination};
use crate::apply::{ApplyStop, ConnectionHealth, Interrupt};
use crate::config::{CohortConfig, Config, SourceAccess, TriggerTarget, load};
use crate::connector::destination::{
    DeliveryEndpoint, Destination, ProfileLookup, Recipient, RequestOutcome, TriggerEndpoint, Workspace,
};
use crate::connector::rate_limit::RateLimiter;
use crate::model::{
    ChangeOp, Clock, CohortId, DeliveryMethod, Identifier, IdentifierKind, MemberKey, NoProgress, RowSet,
    RunId, Timestamp,
};
use crate::retry::RetryPolicy;
use crate::state::{
    Holder, IdentityKey, IdentityMap, Location, Membership, OutboxUser, PartRef, RecordedWorkspace, Spool,
    StateWriter,
};

thread_local! {
    static SECONDS: Cell<u64> = const { Cell::new(0) };
}

/// The simulated time.
pub(super) fn now() -> Timestamp {
    fake_destination::now() + Duration::from_secs(SECONDS.get())
}

/// Moves the simulated time.
pub(super) fn advance(time: Duration) {
    SECONDS.set(SECONDS.get() + time.as_secs());
}

pub(super) fn external(value: &str) -> Identifier<'_> {
    Identifier { kind: IdentifierKind::ExternalId, label: "", value }
}

pub(super) fn device(value: &str) -> Identifier<'_> {
    Identifier { kind: IdentifierKind::DeviceId, label: "", value }
}

pub(super) fn alias(value: &str) -> Identifier<'_> {
    Identifier { kind: IdentifierKind::Alias, label: "crm", value }
}

/// The packed form.
pub(super) fn packed(identifier: Identifier<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    identifier.pack_into(&mut bytes);
    bytes
}

/// The values of a spool, sorted.
pub(super) fn values(spool: &mut Spool) -> Vec<String> {
    let mut values = Vec::new();
    let read = spool.for_each(|packed| {
        values.push(Identifier::unpack(packed).unwrap().0.value.to_owned());
        Ok(())
    });
    read.unwrap();
    values.sort_unstable();
    values
}

/// One cohort with its config and its state.
pub(super) struct RunFixture {
    folder: TempDir,
    pub(super) config: Config,
    pub(super) state: Arc<StateWriter>,
    secrets: Arc<SourceAccess>,
    ceilings: BTreeMap<CohortId, crate::model::Ceilings>,
    run: RunId,
    applies: Cell<u64>,
}

impl RunFixture {
    /// A cohort `carts` with these further keys. Its source is empty.
    pub(super) fn new(keys: &str) -> Self {
        SECONDS.set(0);
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder, keys);
        let clock = Clock::new(now);
        let holder = Holder { host: String::new(), process: 1, since: now(), renewal: None };
        let location = Location::Folder(folder.path().join("state"));
        let state = Arc::new(StateWriter::open(&location, &holder, clock, 7).unwrap());
        let (secrets, run) = (Arc::new(SourceAccess::default()), RunId::new(now(), 0));
        let (ceilings, applies) = (BTreeMap::new(), Cell::new(0));
        let fixture = Self { folder, config, state, secrets, ceilings, run, applies };
        fixture.source(&[]);
        fixture
    }

    /// The same state with other keys of the cohort.
    pub(super) fn reconfigure(&mut self, keys: &str) {
        self.config = config(&self.folder, keys);
    }

    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the rows of the source: `external id,device`.
    pub(super) fn source(&self, rows: &[&str]) {
        let text = format!("user_id,device_id\n{}\n", rows.join("\n"));
        File::create(self.path("carts.csv")).unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub(super) fn cohort(&self) -> &CohortConfig {
        &self.config.cohorts[0]
    }

    pub(super) fn id(&self) -> &CohortId {
        &self.cohort().id
    }

    pub(super) fn inputs(&self) -> PlanInputs<'_> {
        PlanInputs {
            config: &self.config,
            state: self.state.reader(),
            secrets: &self.secrets,
            ceilings: &self.ceilings,
            only: &[],
            retry_rejected: false,
            run: &self.run,
            clock: Clock::new(now),
            progress: &NoProgress,
        }
    }

    pub(super) fn plan(&self) -> CohortPlan {
        let names = CohortNames::read(&self.config, self.state.reader()).unwrap();
        plan_cohort::plan_declared(self.cohort(), &names, self.inputs()).unwrap()
    }

    pub(super) async fn apply(&self, plan: CohortPlan, workspace: &Arc<FakeWorkspace>) -> CohortReport {
        self.apply_unless(None, plan, workspace).await
    }

    /// Applies a plan. With a `mismatch`, the keys are those of another workspace.
    pub(super) async fn apply_unless(
        &self,
        mismatch: Option<ApplyStop>,
        plan: CohortPlan,
        workspace: &Arc<FakeWorkspace>,
    ) -> CohortReport {
        self.applies.set(self.applies.get() + 1);
        let run = RunId::new(now(), self.applies.get());
        let moment = Duration::from_millis(1);
        let client = WorkspaceClient {
            workspace: Arc::clone(workspace) as Arc<dyn Workspace>,
            health: ConnectionHealth::default(),
            retry: RetryPolicy { attempts: 1, first_wait: moment, longest_wait: moment },
            settle_again_after: Duration::from_secs(3600),
        };
        let journal = Arc::new(self.state.journal(&run, now()).unwrap());
        let context = CohortContext {
            client: Some(Arc::new(client)),
            mismatch,
            tables: Arc::new(MirrorTables::of(&self.config)),
            resources: ApplyResources {
                state: Arc::clone(&self.state),
                clients: BrazeClients::new(),
                run,
                journal,
                clock: Clock::new(now),
                progress: Arc::new(NoProgress),
                interrupt: workspace.interrupt.clone(),
                secrets: Arc::clone(&self.secrets),
            },
        };
        apply_cohort(plan, &context).await
    }

    /// Plans and applies.
    pub(super) async fn run(&self, workspace: &Arc<FakeWorkspace>) -> CohortReport {
        self.apply(self.plan(), workspace).await
    }

    pub(super) fn membership(&self) -> Membership {
        self.state.reader().version(self.id()).unwrap().unwrap()
    }

    /// Records a part with these members, settled or in doubt, on top of those that are recorded.
    pub(super) fn record(&self, op: ChangeOp, members: &[Identifier<'_>], is_settled: bool) {
        let recorded = self.state.reader().version(self.id()).unwrap();
        let delivery = DeliveryMethod::CohortImport;
        let braze = &self.config.braze[&self.cohort().to];
        let workspace: RecordedWorkspace = super::policy::workspace(&self.cohort().to, braze, &delivery);
        let membership = recorded.unwrap_or_else(|| Membership::first(&self.run, now(), workspace));
        let mut writer = self.state.part(self.id(), op).unwrap();
        sorted(members, self.state.reader().seed()).iter().for_each(|packed| writer.push(packed).unwrap());
        let part = writer.finish().unwrap();
        let rows = if is_settled { RowSet::all(part.rows) } else { RowSet::default() };
        let part = PartRef { acknowledged: rows, ..part };
        let (count, before) = (part.rows, membership.members.unwrap_or(0));
        let version = Membership {
            number: membership.number + 1,
            name: Some("Carts".to_owned()),
            members: Some(match op {
                ChangeOp::Add if is_settled => before + count,
                ChangeOp::Add => before,
                ChangeOp::Remove => before - count,
            }),
            in_doubt: membership.in_doubt + if is_settled { 0 } else { count },
            parts: [membership.parts.clone(), vec![part]].concat(),
            ..membership
        };
        self.state.commit(self.id(), &version).unwrap();
    }

    /// Sorted identifiers in a spool.
    pub(super) fn spool(&self, members: &[Identifier<'_>]) -> Spool {
        let mut spool = Spool::default();
        let sorted = sorted(members, self.state.reader().seed());
        sorted.iter().for_each(|packed| spool.push(packed).unwrap());
        spool
    }

    /// Adds owners of devices and aliases to the identity map.
    pub(super) fn identify(&self, owners: &[(Identifier<'_>, &str)]) {
        let mut map = IdentityMap::open(&self.state).unwrap();
        for (identifier, owner) in owners {
            map.link(IdentityKey::of_member(identifier).unwrap(), owner, now()).unwrap();
        }
        map.commit().unwrap();
    }

    /// The users with a due trigger.
    pub(super) fn due(&self) -> Vec<String> {
        let outbox = self.state.reader().outbox(self.id()).unwrap();
        outbox.due.iter().map(|due| due.user.identifier().value.to_owned()).collect()
    }

    /// The unknown users in the state, each with whether a profile exists now.
    pub(super) fn unknown_users(&self) -> Vec<(String, bool)> {
        let list = self.state.reader().unknown_users(self.id()).unwrap();
        let value = |user: &OutboxUser| user.identifier().value.to_owned();
        list.users.iter().map(|unknown| (value(&unknown.user), unknown.has_profile)).collect()
    }
}

fn sorted(members: &[Identifier<'_>], seed: crate::model::KeySeed) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = members.iter().map(|member| packed(*member)).collect();
    all.sort_by_key(|packed| MemberKey::of(seed, packed));
    all
}

fn config(folder: &TempDir, keys: &str) -> Config {
    let text = format!(
        "version: 1
connections:
  braze: {{ kind: braze, instance: sandbox }}
cohorts:
  - id: carts
    name: Carts
    to: braze
    source: {{ kind: file, path: carts.csv }}
    match: [ {{ external_id: user_id }}, {{ device_id: device_id }} ]
    guard: {{ max_added: 100000%, max_removed: 100%, allow_empty: true }}
{keys}"
    );
    let path = folder.path().join("sync.yaml");
    File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    load(&path, None, None).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// A workspace in memory, with a log of its requests.
pub(super) struct FakeWorkspace {
    pub(super) destination: FakeDestination,
    interrupt: Interrupt,
    trigger_limiter: RateLimiter,
    /// The outcomes of the next triggers. Further ones are accepted.
    pub(super) trigger_outcomes: Mutex<VecDeque<RequestOutcome>>,
    /// Users without a profile.
    pub(super) without_profile: Mutex<BTreeSet<String>>,
    /// Why profiles cannot be looked up.
    pub(super) lookup_error: Mutex<Option<String>>,
    log: Mutex<Vec<String>>,
}

impl FakeWorkspace {
    pub(super) fn new() -> Arc<Self> {
        let (switch, interrupt) = Interrupt::new();
        Arc::new(Self {
            destination: FakeDestination::new(switch),
            interrupt,
            trigger_limiter: RateLimiter::hourly(Duration::ZERO),
            trigger_outcomes: Mutex::default(),
            without_profile: Mutex::default(),
            lookup_error: Mutex::default(),
            log: Mutex::default(),
        })
    }

    fn log<'a>(&self, request: &str, users: impl Iterator<Item = &'a str>) {
        let mut users: Vec<&str> = users.collect();
        users.sort_unstable();
        self.log.lock().unwrap().push(format!("{request} {}", users.join(" ")));
    }

    /// The requests since the last call, in their order. Requests that name a cohort are left out.
    pub(super) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

impl Workspace for FakeWorkspace {
    fn destination<'a>(&'a self, _: &'a DeliveryMethod) -> Option<Box<dyn Destination + 'a>> {
        Some(Box::new(LoggedDestination(self)))
    }

    fn triggers(&self) -> &dyn TriggerEndpoint {
        self
    }

    fn profiles(&self) -> Option<&dyn ProfileLookup> {
        Some(self)
    }
}

impl TriggerEndpoint for FakeWorkspace {
    fn trigger_limiter(&self) -> &RateLimiter {
        &self.trigger_limiter
    }

    fn trigger<'a>(
        &'a self,
        _: TriggerTarget,
        id: &'a str,
        recipients: &'a [Recipient<'a>],
    ) -> BoxFuture<'a, (RequestOutcome, Option<String>)> {
        self.log(id, recipients.iter().map(|(user, _)| user.value));
        self.trigger_limiter.complete(None);
        let outcome = self.trigger_outcomes.lock().unwrap().pop_front();
        Box::pin(std::future::ready((outcome.unwrap_or(RequestOutcome::Accepted), None)))
    }
}

impl ProfileLookup for FakeWorkspace {
    fn unknown_users<'a>(
        &'a self,
        _: IdentifierKind,
        users: &'a [Identifier<'a>],
    ) -> BoxFuture<'a, Result<Vec<Identifier<'a>>, String>> {
        self.log("look up", users.iter().map(|user| user.value));
        let unknown = self.without_profile.lock().unwrap();
        let found = match self.lookup_error.lock().unwrap().clone() {
            Some(error) => Err(error),
            None => Ok(users.iter().filter(|user| unknown.contains(user.value)).copied().collect()),
        };
        Box::pin(std::future::ready(found))
    }
}

/// The destination of a [`FakeWorkspace`], with its requests in the log.
struct LoggedDestination<'a>(&'a FakeWorkspace);

impl Destination for LoggedDestination<'_> {
    fn endpoint(&self) -> DeliveryEndpoint {
        self.0.destination.endpoint()
    }

    fn rate_limiter(&self) -> &RateLimiter {
        self.0.destination.rate_limiter()
    }

    fn is_resend_free(&self) -> bool {
        self.0.destination.is_resend_free()
    }

    fn name_cohort<'a>(
        &'a self,
        cohort: &'a CohortId,
        name: &'a str,
        created_at: Timestamp,
    ) -> BoxFuture<'a, RequestOutcome> {
        self.0.destination.name_cohort(cohort, name, created_at)
    }

    fn change<'a>(
        &'a self,
        cohort: &'a CohortId,
        op: ChangeOp,
        members: &'a [Identifier<'a>],
    ) -> BoxFuture<'a, RequestOutcome> {
        let request = if op == ChangeOp::Add { "add" } else { "remove" };
        self.0.log(request, members.iter().map(|member| member.value));
        self.0.destination.change(cohort, op, members)
    }
}
