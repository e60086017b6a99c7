//! The format of a plan file: writes and reads it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead as _, Read as _, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::signing::{self, SignedError, SignedWriter};
use crate::model::{
    ALIAS_LEN_MAX, ChangeOp, CohortId, EXTERNAL_ID_LEN_MAX, Identifier, IdentifierKind, MatchTally,
};
use crate::plan::Sides;
use crate::reconcile::context::PlanInputs;
use crate::reconcile::run_plan::{CohortPlan, RunPlan};
use crate::source::SortedSet;
use crate::state::{DueTrigger, StateError, StateReader};

const FORMAT: u64 = 3;
/// The purpose for which the key of the state is derived.
const PURPOSE: &str = "saved plan";
/// The key before there is a state.
const NO_STATE: [u8; 32] = [0; 32];
/// Longest line: a head with the triggers of many cohorts.
const LINE_LEN_MAX: u64 = 1 << 30;

/// Why a plan file cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum PlanFileError {
    /// The file cannot be read or written.
    #[error("cannot use {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file is not a plan file.
    #[error("{} is not a plan file written by `syncline plan --out`", .path.display())]
    NoPlan {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged or incomplete.
    #[error("{} is not a complete plan: {damage}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        damage: String,
    },
    /// The signature does not match.
    #[error(
        "{} was changed after it was written, or belongs to another state: its signature does not match", .path.display()
    )]
    Signature {
        /// The file.
        path: PathBuf,
    },
    /// The config or the state has changed since the plan was made.
    #[error("the plan is stale: {0}")]
    Stale(String),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl PlanFileError {
    pub(in crate::reconcile) fn damaged(path: &Path, damage: String) -> Self {
        Self::Damaged { path: path.to_owned(), damage }
    }
}

/// The content of a plan file.
pub(in crate::reconcile) struct SavedPlan {
    /// The digest of the config.
    pub(in crate::reconcile) config: String,
    pub(in crate::reconcile) cohorts: Vec<SavedCohort>,
    /// Cohorts that could not be planned: id and reason.
    pub(in crate::reconcile) failed: Vec<(CohortId, String)>,
}

/// The saved plan of one cohort.
pub(in crate::reconcile) struct SavedCohort {
    pub(in crate::reconcile) id: CohortId,
    pub(in crate::reconcile) head: PlanFileCohort,
    pub(in crate::reconcile) sides: Sides<SortedSet>,
}

#[derive(Serialize, Deserialize)]
struct PlanFileHead {
    syncline_plan: u64,
    config: String,
    cohorts: Vec<PlanFileCohort>,
    /// Cohorts that could not be planned, and why.
    failed: Vec<(String, String)>,
}

/// The numbers of one cohort that follow neither from the changes nor from the state or the config.
#[derive(Serialize, Deserialize)]
pub(in crate::reconcile) struct PlanFileCohort {
    id: String,
    /// The version of the membership that the plan starts from.
    pub(in crate::reconcile) base: u64,
    pub(in crate::reconcile) empties: bool,
    /// Triggers that become due.
    pub(in crate::reconcile) due: Vec<DueTrigger>,
    pub(super) rejected: u64,
    pub(super) rekeyed: u64,
    pub(in crate::reconcile) matched: Option<MatchTally>,
    pub(in crate::reconcile) headerless_file: Option<String>,
}

/// A change: index of the cohort in the head, `+` or `-`, index of the kind in [`IdentifierKind::ALL`], label, value.
#[derive(Serialize, Deserialize)]
struct PlanFileChange<'a>(usize, char, usize, #[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>);

#[derive(Serialize, Deserialize)]
struct PlanFileEnd {
    changes: u64,
}

/// Writes a plan to a file. A file that exists is replaced once the new one is complete.
pub(in crate::reconcile) fn save(
    plan: &mut RunPlan,
    path: &Path,
    state: &StateReader,
) -> Result<(), PlanFileError> {
    // The error of a temporary file names that file, which you do not know.
    let failed = |error: io::Error| {
        let text = error.to_string();
        let source = match text.split_once(" at path ") {
            Some((cause, _)) => io::Error::new(error.kind(), cause.to_owned()),
            None => error,
        };
        PlanFileError::Io { path: path.to_owned(), source }
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let key = state.signing_key(PURPOSE).unwrap_or(NO_STATE);
    write(plan, file.as_file_mut(), &key).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map(drop).map_err(|e| failed(e.error))
}

fn write(plan: &mut RunPlan, file: &mut File, key: &[u8]) -> io::Result<()> {
    let mut out = SignedWriter::new(file, key)?;
    let cohorts = plan.cohorts.iter().map(head_of).collect();
    let failed = plan.failed.iter().map(|failed| (failed.id.to_string(), failed.error.to_string())).collect();
    line(&mut out, &PlanFileHead { syncline_plan: FORMAT, config: plan.config.clone(), cohorts, failed })?;
    let mut changes = 0;
    for (position, cohort) in plan.cohorts.iter_mut().enumerate() {
        for (op, sign) in [(ChangeOp::Remove, '-'), (ChangeOp::Add, '+')] {
            let list = cohort.verdict.approved.list_mut(op);
            let written = list.for_each(|packed| {
                let (id, _) =
                    Identifier::unpack(packed).map_err(|e| StateError::TemporaryFile(io::Error::other(e)))?;
                let kind = IdentifierKind::ALL.iter().position(|kind| *kind == id.kind).unwrap_or(0);
                changes += 1;
                Ok(line(&mut out, &PlanFileChange(position, sign, kind, id.label.into(), id.value.into()))?)
            });
            written.map_err(io::Error::other)?;
        }
    }
    line(&mut out, &PlanFileEnd { changes })?;
    out.finish()
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn head_of(cohort: &CohortPlan) -> PlanFileCohort {
    let plan = cohort.verdict.approved.plan();
    PlanFileCohort {
        id: cohort.id.to_string(),
        base: plan.base,
        empties: cohort.empties,
        due: cohort.triggers.as_ref().map(|triggers| triggers.new.clone()).unwrap_or_default(),
        rejected: plan.tally.rejected,
        rekeyed: plan.tally.rekeyed,
        matched: cohort.matched.clone(),
        headerless_file: plan.source.as_ref().and_then(|source| source.headerless_file.clone()),
    }
}

/// Reads a plan file and checks its signature and its config.
pub(in crate::reconcile) fn load(path: &Path, inputs: PlanInputs<'_>) -> Result<SavedPlan, PlanFileError> {
    let damaged = |damage: String| PlanFileError::damaged(path, damage);
    let (mut text, is_before_state) = open(path, inputs.state)?;
    let mut next = || {
        let mut line = Vec::new();
        let read = (&mut text).take(LINE_LEN_MAX).read_until(b'\n', &mut line);
        match read.map_err(|e| damaged(e.to_string()))? {
            0 => Err(damaged("it ends too early".to_owned())),
            _ => Ok(line),
        }
    };
    let no_plan = |_| PlanFileError::NoPlan { path: path.to_owned() };
    let head: PlanFileHead = serde_json::from_slice(&next()?).map_err(no_plan)?;
    if head.syncline_plan > FORMAT {
        return Err(damaged(format!("its format {} is newer than this program", head.syncline_plan)));
    }
    if is_before_state && head.cohorts.iter().any(|cohort| cohort.base != 0) {
        return Err(damaged("it was made before there was a state, and names versions of it".to_owned()));
    }
    if head.config != inputs.config.digest {
        return Err(PlanFileError::Stale("the config has changed since it was made".to_owned()));
    }
    let mut changes = PlanFileChanges::new(head.cohorts.len(), inputs);
    loop {
        let bytes = next()?;
        match serde_json::from_slice::<PlanFileChange<'_>>(&bytes) {
            Ok(change) => changes.add(&change).map_err(|e| damaged(e.to_string()))?,
            Err(_) => match serde_json::from_slice::<PlanFileEnd>(&bytes) {
                Ok(end) if end.changes == changes.count => break,
                Ok(_) | Err(_) => return Err(damaged("some of its changes are missing".to_owned())),
            },
        }
    }
    let id = |id: &str| CohortId::new(id).map_err(|e| damaged(e.to_string()));
    let mut saved = SavedPlan { config: head.config, cohorts: Vec::new(), failed: Vec::new() };
    for (head, sides) in head.cohorts.into_iter().zip(changes.sides) {
        saved.cohorts.push(SavedCohort { id: id(&head.id)?, head, sides });
    }
    for (failed, why) in head.failed {
        saved.failed.push((id(&failed)?, why));
    }
    Ok(saved)
}

/// Opens a plan file with a valid signature. Returns its text and whether it was signed before there was a state.
fn open(path: &Path, state: &StateReader) -> Result<(impl io::BufRead + use<>, bool), PlanFileError> {
    let failed = |source| PlanFileError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut keys: Vec<[u8; 32]> = state.signing_key(PURPOSE).into_iter().collect();
    let own = keys.len();
    if state.cohorts()?.is_empty() {
        keys.push(NO_STATE);
    }
    match signing::open(file, &keys) {
        Ok((text, key)) => Ok((text, key >= own)),
        Err(SignedError::Io(source)) => Err(failed(source)),
        Err(SignedError::Foreign) => Err(PlanFileError::NoPlan { path: path.to_owned() }),
        Err(SignedError::Truncated) => Err(PlanFileError::damaged(path, "it is truncated".to_owned())),
        Err(SignedError::Signature) => Err(PlanFileError::Signature { path: path.to_owned() }),
    }
}

/// The changes of every cohort, sorted by the keys of this state.
struct PlanFileChanges {
    sides: Vec<Sides<SortedSet>>,
    packed: Vec<u8>,
    count: u64,
}

impl PlanFileChanges {
    fn new(cohorts: usize, inputs: PlanInputs<'_>) -> Self {
        // The sets of all cohorts are filled at the same time.
        let memory_max = inputs.config.memory_max / (2 * cohorts.max(1));
        let set = || SortedSet::new(inputs.state.seed(), memory_max);
        let sides = std::iter::repeat_with(|| Sides { removes: set(), adds: set() }).take(cohorts).collect();
        Self { sides, packed: Vec::new(), count: 0 }
    }

    fn add(
        &mut self,
        PlanFileChange(position, sign, kind, label, value): &PlanFileChange<'_>,
    ) -> io::Result<()> {
        let invalid = || io::Error::other("it has an invalid change");
        let op = match sign {
            '-' => ChangeOp::Remove,
            '+' => ChangeOp::Add,
            _ => return Err(invalid()),
        };
        let kind = *IdentifierKind::ALL.get(*kind).ok_or_else(invalid)?;
        if label.len() > ALIAS_LEN_MAX || value.len() > EXTERNAL_ID_LEN_MAX {
            return Err(invalid());
        }
        self.packed.clear();
        Identifier { kind, label, value }.pack_into(&mut self.packed);
        self.count += 1;
        self.sides.get_mut(*position).ok_or_else(invalid)?.of_mut(op).push(&self.packed)
    }
}
