//! What a simulated process does: the same calls as the commands, in the same order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::bucket::ProcessBucket;
use super::clock::{self, clock};
use super::damage;
use super::judge::User;
use super::network::ProcessNetwork;
use super::world::Process;
use crate::apply::Interrupt;
use crate::config::{Config, ExportConfig, Secret, SourceAccess};
use crate::connector::braze::{ImportKeys, WorkspaceKeySet};
use crate::connector::currents::StorageAccess;
use crate::connector::simulated_network::simulate;
use crate::erasure;
use crate::export::{self, Days, ExportPatience, ExportReport, HeapAccess};
use crate::model::{Ceilings, CohortId, Identifier, IdentifierKind, MemberStanding, NoProgress, RunId};
use crate::object_store::BucketClient;
use crate::random;
use crate::reconcile::{
    self, ApplyResources, BrazeAccess, ExportJob, ExportResources, PlanInputs, RecordedEnd, RunRecorder,
    RunReport,
};
use crate::state::{Holder, IdentityMap, Location, RunOrigin, StateError, StateReader, StateWriter};

/// How long a process runs at most without a step.
const TICK: Duration = Duration::from_millis(500);

/// How long the lease on a bucket is valid without renewal.
const LEASE: Duration = Duration::from_secs(30);

/// What a process is started for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    /// `reconcile`. With `allows_all`, an operator has allowed any change.
    Reconcile { allows_all: bool },
    /// `plan`.
    Plan,
    /// `state gc`.
    CollectGarbage,
    /// `forget`, with an external id.
    Forget(User),
    /// The judge compares what the state records with the truth.
    Inspect,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Exit {
    /// It was killed.
    Killed,
    /// It failed, for this reason.
    Failed(String),
    /// It has planned and, if it was started for that, applied. What is not in sync, and why.
    Done(Vec<String>),
}

/// Runs a process to its end. The caller gives it the turn.
pub(super) fn run(process: &Arc<Process>, command: Command, config: &Arc<Config>, seed: u64) -> Exit {
    let began = process.world.schedule.wait_for_turn(process.id);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap();
    let exit = runtime.block_on(async {
        clock::start(began);
        random::seed(seed);
        simulate(Arc::new(ProcessNetwork(Arc::clone(process))));
        tokio::select! {
            biased;
            () = process.killed.notified() => Exit::Killed,
            () = tick(process) => Exit::Killed,
            exit = execute(process, command, config) => exit,
        }
    });
    let exit = if process.runs() { exit } else { Exit::Killed };
    // What is left of the process must not do anything any more.
    process.kill();
    drop(runtime);
    exit
}

/// Lets others run while this process waits.
async fn tick(process: &Process) {
    while process.step() {
        tokio::time::sleep(TICK).await;
    }
}

async fn execute(process: &Arc<Process>, command: Command, config: &Arc<Config>) -> Exit {
    let result = match command {
        Command::Reconcile { allows_all } => reconcile_once(process, config, allows_all).await,
        Command::Plan => plan_only(process, config),
        Command::CollectGarbage => collect_garbage(process, config),
        Command::Forget(user) => forget(process, &user),
        Command::Inspect => inspect(process, config),
    };
    result.unwrap_or_else(Exit::Failed)
}

fn location(process: &Arc<Process>) -> Location {
    if process.world.is_in_bucket {
        let bucket = Arc::new(ProcessBucket {
            process: Arc::clone(process),
            objects: Arc::clone(&process.world.bucket),
        });
        return Location::SimulatedBucket(BucketClient::simulated(bucket.clone(), bucket), LEASE);
    }
    Location::Memory(process.world.store.of_process(Arc::clone(process) as _))
}

fn plan_only(process: &Arc<Process>, config: &Config) -> Result<Exit, String> {
    let state = StateReader::open(&location(process)).map_err(|e| e.to_string())?;
    let run = RunId::new(clock().now(), random::unique_number());
    let (secrets, ceilings) = (SourceAccess::default(), BTreeMap::new());
    let inputs = PlanInputs {
        config,
        state: &state,
        secrets: &secrets,
        ceilings: &ceilings,
        only: &[],
        retry_rejected: false,
        run: &run,
        clock: clock(),
        progress: &NoProgress,
    };
    let plan = reconcile::plan(inputs).map_err(|e| e.to_string())?;
    Ok(Exit::Done(plan.failed.iter().map(|failed| failed.error.to_string()).collect()))
}

/// Takes the state.
fn hold(process: &Arc<Process>) -> Result<StateWriter, String> {
    let now = clock().now();
    let holder = Holder { host: format!("host-{}", process.id), process: 1, since: now, renewal: None };
    let state = StateWriter::open(&location(process), &holder, clock(), random::unique_number());
    let state = state.map_err(|e| e.to_string())?;
    let mut world = process.world.lock();
    world.judge.holds(process.id);
    if !process.world.is_in_bucket {
        world.judge.holder = Some(process.id); // the lock on a folder cannot be lost
    }
    drop(world);
    Ok(state)
}

fn collect_garbage(process: &Arc<Process>, config: &Config) -> Result<Exit, String> {
    let state = hold(process)?;
    let (now, retention) = (clock().now(), reconcile::log_retention(config));
    state.note_heads();
    let collect = || {
        let mut garbage = state.reader().garbage(now)?;
        garbage.extend(state.reader().old_logs(&retention, now)?);
        state.remove(&garbage)?;
        state.tidy_logs_now(&retention, now)
    };
    collect().map_err(|e| e.to_string())?;
    Ok(Exit::Done(Vec::new()))
}

fn forget(process: &Arc<Process>, user: &str) -> Result<Exit, String> {
    let state = Arc::new(hold(process)?);
    let report = erasure::forget(&state, user, clock().now()).map_err(|e| e.to_string())?;
    if !report.member_of.is_empty() || report.is_left() {
        return Ok(Exit::Done(vec!["the user is still in an audience, or may be".to_owned()]));
    }
    for (path, bytes) in process.world.files() {
        if damage::mentions(&path, &bytes, user) {
            let text = format!("{path} still mentions {user}, who was erased");
            process.world.lock().judge.violations.push(text);
        }
    }
    Ok(Exit::Done(Vec::new()))
}

/// Verifies the state, and shows the judge who it records as a member.
fn inspect(process: &Arc<Process>, config: &Config) -> Result<Exit, String> {
    let state = StateReader::open(&location(process)).map_err(|e| e.to_string())?;
    let found = state.verify().map_err(|e| e.to_string())?;
    let harmful = found.findings.iter().filter(|finding| !finding.harmless);
    let problems = harmful.map(|finding| format!("{}: {}", finding.path, finding.problem)).collect();
    for cohort in &config.cohorts {
        let members = recorded(&state, &cohort.id).map_err(|e| e.to_string())?;
        process.world.lock().judge.check_recorded(cohort.id.as_str(), &members);
    }
    Ok(Exit::Done(problems))
}

/// The members that the state records as settled.
fn recorded(state: &StateReader, cohort: &CohortId) -> Result<BTreeSet<User>, StateError> {
    let version = state.version(cohort)?;
    let (mut cursor, mut members) = (state.members(cohort, version.as_ref())?, BTreeSet::new());
    while let Some((_, standing)) = cursor.advance()? {
        let packed = cursor.packed()?.to_vec();
        let Ok((identifier, _)) = Identifier::unpack(&packed) else { continue };
        if standing == MemberStanding::Member {
            members.insert(match identifier.kind {
                IdentifierKind::DeviceId => format!("device:{}", identifier.value),
                _ => identifier.value.to_owned(),
            });
        }
    }
    Ok(members)
}

async fn reconcile_once(
    process: &Arc<Process>,
    config: &Arc<Config>,
    allows_all: bool,
) -> Result<Exit, String> {
    let state = Arc::new(hold(process)?);
    let run = RunId::new(clock().now(), random::unique_number());
    let origin = RunOrigin { command: "reconcile".to_owned(), ..RunOrigin::default() };
    let recorder = RunRecorder::begin(&state, &run, clock(), config, origin).map_err(|e| e.to_string())?;
    let result = planned_and_applied(&state, &run, &recorder, config, allows_all).await;
    if let Err(error) = &result {
        recorder.fail(error, config);
    }
    result
}

async fn planned_and_applied(
    state: &Arc<StateWriter>,
    run: &RunId,
    recorder: &RunRecorder,
    config: &Arc<Config>,
    allows_all: bool,
) -> Result<Exit, String> {
    let secrets = Arc::new(SourceAccess::default());
    let any = Ceilings { removes: Some(u64::MAX), adds: Some(u64::MAX) };
    let allowed = config.cohorts.iter().filter(|_| allows_all).map(|cohort| (cohort.id.clone(), any));
    let ceilings = allowed.collect();
    let inputs = PlanInputs {
        config,
        state: state.reader(),
        secrets: &secrets,
        ceilings: &ceilings,
        only: &[],
        retry_rejected: false,
        run,
        clock: clock(),
        progress: &NoProgress,
    };
    let plan = reconcile::plan(inputs).map_err(|e| e.to_string())?;
    let resources = ApplyResources {
        state: Arc::clone(state),
        clients: reconcile::connect_braze(config, &access(config), clock()).map_err(|e| e.to_string())?,
        run: run.clone(),
        journal: recorder.journal(),
        clock: clock(),
        progress: Arc::new(NoProgress),
        interrupt: Interrupt::new().1,
        secrets,
    };
    let report = reconcile::apply(plan, config, resources).await.map_err(|e| e.to_string())?;
    let exports = exported(state, run, recorder, config).await?;
    let mut problems = problems(&report);
    let incomplete = exports.iter().filter(|export| !export.is_complete());
    problems.extend(incomplete.map(|export| format!("{}: {:?}", export.id, export.stop_reason)));
    let end = RecordedEnd {
        result: report.result().to_owned(),
        requests: report.requests,
        cohorts: report.run_outcomes(&|_| Vec::new()),
        exports: reconcile::export_outcomes(&exports),
    };
    recorder.end(&end, config).map_err(|e| e.to_string())?;
    Ok(Exit::Done(problems))
}

async fn exported(
    state: &Arc<StateWriter>,
    run: &RunId,
    recorder: &RunRecorder,
    config: &Config,
) -> Result<Vec<ExportReport>, String> {
    let job = |export: &ExportConfig| ExportJob {
        export: export.clone(),
        posted: Vec::new(),
        again: None,
        days: Days::default(),
        access: StorageAccess::default(),
    };
    let access = HeapAccess { base: "http://heap.sim".to_owned(), app_id: "11".to_owned() };
    let access = config.heap.keys().map(|name| (name.clone(), access.clone())).collect();
    let resources = ExportResources {
        identity: Arc::new(Mutex::new(IdentityMap::open(state).map_err(|e| e.to_string())?)),
        clients: export::link(config, &access, clock()).map_err(|e| e.to_string())?,
        state: Arc::clone(state),
        run: run.clone(),
        journal: recorder.journal(),
        clock: clock(),
        interrupt: Interrupt::new().1,
        patience: ExportPatience::UntilSent,
        progress: Arc::new(NoProgress),
    };
    Ok(reconcile::export(config.exports.iter().map(job).collect(), config, resources).await)
}

/// What is not in sync after a run, and why.
fn problems(report: &RunReport) -> Vec<String> {
    let failed = report.failed.iter().map(|(id, error)| format!("{id}: {error:?}"));
    let blocked = report.cohorts.iter().filter(|cohort| !cohort.violations.is_empty());
    let blocked = blocked.map(|cohort| format!("{}: {:?}", cohort.id, cohort.violations));
    let incomplete = report.cohorts.iter().filter(|cohort| !cohort.is_complete());
    let incomplete = incomplete.map(|cohort| format!("{}: {:?}", cohort.id, cohort.outcome));
    failed.chain(blocked).chain(incomplete).collect()
}

fn access(config: &Config) -> BTreeMap<crate::model::ConnectionName, BrazeAccess> {
    let secret = |text: &str| Secret::new(text.to_owned());
    let keys = WorkspaceKeySet {
        import: Some(ImportKeys {
            data_import: secret("sandbox-data-import-key"),
            partner_api: secret("sandbox-partner-api-key"),
        }),
        rest: Some(secret("sandbox-rest-api-key")),
    };
    let access = BrazeAccess { base: "http://braze.sim".to_owned(), keys };
    config.braze.keys().map(|name| (name.clone(), access.clone())).collect()
}

/// Loads a config from a file.
pub(super) fn load(path: &Path) -> Config {
    crate::config::load(path, None, None).unwrap_or_else(|problems| panic!("{problems:?}"))
}
