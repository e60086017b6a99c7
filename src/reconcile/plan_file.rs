//! A plan in a file, so that what a person has looked at is what is sent, whatever the sources say by
//! then. It holds people's identifiers and no key; only its owner can read it.
//!
//! The file is NDJSON, compressed and signed with a key of the state: a head with every cohort's numbers, a
//! line for each change, and an end that says how many there were. Before anything is unpacked the signature
//! is checked, so a flipped bit and an edit are errors. Then the changes are sorted anew and compared with the
//! state: the guard sees the state's numbers, not those of the file.
//!
//! # Caveats
//! A plan that was made before there was a state is signed with a key that is no secret: damage is found, an
//! edit is not. The state must be empty for such a plan.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead as _, Read as _, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::compare::{ChangeSpools, DiffResult};
use super::plan_cohort;
use super::policy::{self, CohortNames};
use super::report::{CohortPlan, RunPlan};
use super::signed::{self, SignedError, SignedWriter};
use super::{PlanError, PlanInputs, choose_triggers, delivery_change};
use crate::model::{
    ALIAS_LEN_MAX, ChangeOp, CohortId, EXTERNAL_ID_LEN_MAX, Identifier, IdentifierKind, MatchTally,
    MemberKey, Standing,
};
use crate::plan::{ChangeSink as _, DiffTally, Sides};
use crate::source::{DesiredError, SortedMembers, SortedSet};
use crate::state::{DueTrigger, Membership, MembershipCursor, Memory, StateError, StateReader};

const FORMAT: u64 = 2;
/// What the state's key is derived for.
const PURPOSE: &str = "saved plan";
/// The key before there is a state.
const NO_STATE: [u8; 32] = [0; 32];
/// Longest line: a head with the triggers of many cohorts.
const LINE_LEN_MAX: u64 = 1 << 30;

/// Why a saved plan cannot be written, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanFileError {
    /// The disk refused.
    #[error("cannot use {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{} is not a plan file written by `syncline plan --out`", .path.display())]
    NoPlan {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a whole plan.
    #[error("{} is not a whole plan: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The file's signature does not match.
    #[error(
        "{} was changed after it was written, or belongs to another state: its signature does not match", .path.display()
    )]
    Signature {
        /// The file.
        path: PathBuf,
    },
    /// What the plan starts from is no longer so.
    #[error("the plan is stale: {0}")]
    Stale(String),
    /// The state failed.
    #[error(transparent)]
    State(#[from] StateError),
}

#[derive(Serialize, Deserialize)]
struct PlanFileHead {
    syncline_plan: u64,
    config: String,
    cohorts: Vec<PlanFileCohort>,
    /// Cohorts that could not be planned, and why.
    failed: Vec<(String, String)>,
}

/// One cohort's numbers: those that neither the changes and the state nor the config say.
#[derive(Serialize, Deserialize)]
struct PlanFileCohort {
    id: String,
    base: u64,
    empties: bool,
    #[serde(default)]
    moves: bool,
    /// For whom something is newly to be triggered.
    #[serde(default)]
    due: Vec<DueTrigger>,
    refused: u64,
    #[serde(default)]
    rekeyed: u64,
    matched: Option<MatchTally>,
    hollow: Option<String>,
}

/// A change: the cohort's place in the head, `+` or `-`, the kind's place in [`Kind::ALL`], label, value.
#[derive(Serialize, Deserialize)]
struct PlanFileChange<'a>(usize, char, usize, #[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>);

#[derive(Serialize, Deserialize)]
struct PlanFileEnd {
    changes: u64,
}

pub(super) fn save(plan: &mut RunPlan, path: &Path, state: &StateReader) -> Result<(), PlanFileError> {
    // A temporary file's error names that file, which nobody has asked for.
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
    let cohorts = plan.cohorts.iter().map(shape).collect();
    let failed = plan.failed.iter().map(|failed| (failed.id.to_string(), failed.error.to_string())).collect();
    line(&mut out, &PlanFileHead { syncline_plan: FORMAT, config: plan.config.clone(), cohorts, failed })?;
    let mut changes = 0;
    for (place, cohort) in plan.cohorts.iter_mut().enumerate() {
        for (op, sign) in [(ChangeOp::Remove, '-'), (ChangeOp::Add, '+')] {
            let list = cohort.verdict.approved.list_mut(op);
            let written = list.for_each(|packed| {
                let (id, _) =
                    Identifier::unpack(packed).map_err(|e| StateError::Scratch(io::Error::other(e)))?;
                let kind = IdentifierKind::ALL.iter().position(|kind| *kind == id.kind).unwrap_or(0);
                changes += 1;
                Ok(line(&mut out, &PlanFileChange(place, sign, kind, id.label.into(), id.value.into()))?)
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

fn shape(cohort: &CohortPlan) -> PlanFileCohort {
    let plan = cohort.verdict.approved.plan();
    PlanFileCohort {
        id: cohort.id.to_string(),
        base: plan.base,
        empties: cohort.empties,
        moves: plan.moves_to.is_some(),
        due: cohort.actions.as_ref().map(|actions| actions.new.clone()).unwrap_or_default(),
        refused: plan.tally.refused,
        rekeyed: plan.tally.rekeyed,
        matched: cohort.matched.clone(),
        hollow: plan.source.as_ref().and_then(|source| source.hollow.clone()),
    }
}

pub(super) fn load(path: &Path, inputs: PlanInputs<'_>) -> Result<RunPlan, PlanFileError> {
    Memory::of_process().set_limit(inputs.config.memory_max);
    let damaged = |what: String| PlanFileError::Damaged { path: path.to_owned(), what };
    let (mut text, is_of_no_state) = open(path, inputs.state)?;
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
    if is_of_no_state && head.cohorts.iter().any(|cohort| cohort.base != 0) {
        return Err(damaged("it was made before there was a state, and names versions of it".to_owned()));
    }
    if head.config != inputs.config.digest {
        return Err(PlanFileError::Stale("the config has changed since it was made".to_owned()));
    }
    let mut sets = PlanFileChanges::new(head.cohorts.len(), inputs);
    loop {
        let bytes = next()?;
        match serde_json::from_slice::<PlanFileChange<'_>>(&bytes) {
            Ok(change) => sets.take(&change).map_err(|e| damaged(e.to_string()))?,
            Err(_) => match serde_json::from_slice::<PlanFileEnd>(&bytes) {
                Ok(PlanFileEnd { changes }) if changes == sets.taken => break,
                Ok(_) | Err(_) => return Err(damaged("its changes are not what they were".to_owned())),
            },
        }
    }
    let names = CohortNames::read(inputs.config, inputs.state)?;
    let mut plan = RunPlan::new(head.config);
    for (cohort, sides) in head.cohorts.into_iter().zip(sets.sides) {
        plan.cohorts.push(rebuild(path, &cohort, sides, &names, inputs)?);
    }
    for (id, why) in head.failed {
        let id = CohortId::new(&id).map_err(|e| damaged(e.to_string()))?;
        plan.add(&id, Err(PlanError::Saved(why)));
    }
    plan.orphaned = names.orphaned;
    Ok(plan)
}

/// The text of a plan file whose signature is right, and whether it was signed before there was a state.
fn open(path: &Path, state: &StateReader) -> Result<(impl io::BufRead + use<>, bool), PlanFileError> {
    let failed = |source| PlanFileError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut keys: Vec<[u8; 32]> = state.signing_key(PURPOSE).into_iter().collect();
    let own = keys.len();
    if state.cohorts()?.is_empty() {
        keys.push(NO_STATE);
    }
    match signed::open(file, &keys) {
        Ok((text, key)) => Ok((text, key >= own)),
        Err(SignedError::Io(source)) => Err(failed(source)),
        Err(SignedError::Foreign) => Err(PlanFileError::NoPlan { path: path.to_owned() }),
        Err(SignedError::Cut) => {
            Err(PlanFileError::Damaged { path: path.to_owned(), what: "it was cut off".to_owned() })
        }
        Err(SignedError::Signature) => Err(PlanFileError::Signature { path: path.to_owned() }),
    }
}

/// The changes of every cohort, to be sorted by this state's keys.
struct PlanFileChanges {
    sides: Vec<Sides<SortedSet>>,
    packed: Vec<u8>,
    taken: u64,
}

impl PlanFileChanges {
    fn new(cohorts: usize, inputs: PlanInputs<'_>) -> Self {
        // All of them are filled at the same time.
        let memory_max = inputs.config.memory_max / (2 * cohorts.max(1));
        let set = || SortedSet::new(inputs.state.seed(), memory_max);
        let sides = std::iter::repeat_with(|| Sides { removes: set(), adds: set() }).take(cohorts).collect();
        Self { sides, packed: Vec::new(), taken: 0 }
    }

    fn take(
        &mut self,
        PlanFileChange(place, sign, kind, label, value): &PlanFileChange<'_>,
    ) -> io::Result<()> {
        let unknown = || io::Error::other("it has a change that cannot be");
        let op = match sign {
            '-' => ChangeOp::Remove,
            '+' => ChangeOp::Add,
            _ => return Err(unknown()),
        };
        let kind = *IdentifierKind::ALL.get(*kind).ok_or_else(unknown)?;
        if label.len() > ALIAS_LEN_MAX || value.len() > EXTERNAL_ID_LEN_MAX {
            return Err(unknown());
        }
        self.packed.clear();
        Identifier { kind, label, value }.pack_into(&mut self.packed);
        self.taken += 1;
        self.sides.get_mut(*place).ok_or_else(unknown)?.of_mut(op).push(&self.packed)
    }
}

fn rebuild(
    path: &Path,
    cohort: &PlanFileCohort,
    sides: Sides<SortedSet>,
    names: &CohortNames,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, PlanFileError> {
    let damaged = |what: String| PlanFileError::Damaged { path: path.to_owned(), what };
    let id = CohortId::new(&cohort.id).map_err(|e| damaged(e.to_string()))?;
    let previous = inputs.state.version(&id)?;
    if previous.as_ref().map_or(0, |record| record.number) != cohort.base {
        return Err(PlanFileError::Stale(format!("cohort {id} has been applied since it was made")));
    }
    let unknown = || damaged(format!("it names cohort {id}, which the config does not have"));
    if cohort.empties {
        let record = previous.ok_or_else(unknown)?;
        let diff = recount(&id, cohort, sides, Some(&record), inputs).map_err(|e| damaged(e.to_string()))?;
        return plan_cohort::emptying(&id, record, diff, inputs).map_err(|e| damaged(e.to_string()));
    }
    let declared = inputs.config.cohorts.iter().find(|declared| declared.id == id).ok_or_else(unknown)?;
    let source = cohort.matched.as_ref().map(|matched| plan_cohort::tally_of(matched, cohort.hollow.clone()));
    let at_home = |record| {
        let braze = plan_cohort::connection(&declared.to, inputs).map_err(|e| damaged(e.to_string()))?;
        Ok::<_, PlanFileError>(policy::at_home(record, declared, braze))
    };
    let previous = previous.map(at_home).transpose()?;
    let diff = recount(&id, cohort, sides, previous.as_ref(), inputs).map_err(|e| damaged(e.to_string()))?;
    let plan = match previous {
        Some(record) if cohort.moves => {
            delivery_change::judged(declared, record, diff, source.unwrap_or_default(), inputs)
        }
        previous => plan_cohort::judged(declared, names, previous, diff, source, inputs),
    };
    let plan = plan.map_err(|e| damaged(e.to_string()))?;
    let plan = CohortPlan { matched: cohort.matched.clone(), ..plan };
    choose_triggers::acting_on(declared, cohort.due.clone(), plan, inputs).map_err(|e| damaged(e.to_string()))
}

/// Compares the changes with the state, and counts and notes them as a diff does.
fn recount(
    id: &CohortId,
    cohort: &PlanFileCohort,
    sides: Sides<SortedSet>,
    previous: Option<&Membership>,
    inputs: PlanInputs<'_>,
) -> Result<DiffResult, PlanError> {
    let (mut changes, mut tally) = (ChangeSpools::default(), DiffTally::default());
    let mut known = Known { cursor: inputs.state.members(id, previous)?, at: None, is_changed: false };
    known.advance(&mut tally)?;
    let mut removes = sides.removes.into_members();
    let mut adds = sides.adds.into_members();
    let (mut remove, mut add) = (next(&mut removes)?, next(&mut adds)?);
    loop {
        let (op, key) = match (remove, add) {
            (None, None) => break,
            (Some(key), other) if other.is_none_or(|other| key <= other) => (ChangeOp::Remove, key),
            (_, Some(key)) => (ChangeOp::Add, key),
            (Some(key), None) => (ChangeOp::Remove, key),
        };
        let standing = known.standing_of(key, &mut tally)?;
        count(op, standing, &mut tally);
        match op {
            ChangeOp::Remove => {
                changes.change(op, removes.packed())?;
                remove = next(&mut removes)?;
            }
            ChangeOp::Add => {
                changes.change(op, adds.packed())?;
                add = next(&mut adds)?;
            }
        }
    }
    while known.at.is_some() {
        known.advance(&mut tally)?;
    }
    tally.unchanged = tally.members.saturating_sub(tally.removed + tally.sent_again);
    (tally.refused, tally.rekeyed) = (cohort.refused, cohort.rekeyed.min(tally.removed));
    Ok(DiffResult { tally, changes, settles: None })
}

fn next(members: &mut SortedMembers) -> Result<Option<MemberKey>, PlanError> {
    Ok(members.advance().map_err(DesiredError::Scratch)?)
}

fn count(op: ChangeOp, standing: Option<Standing>, tally: &mut DiffTally) {
    let counted = match (op, standing) {
        (ChangeOp::Remove, Some(Standing::Member)) => &mut tally.removed,
        (ChangeOp::Remove, Some(Standing::InDoubt | Standing::Disputed)) => &mut tally.doubt_removed,
        (ChangeOp::Remove, Some(Standing::Refused) | None) => &mut tally.let_go_again,
        (ChangeOp::Add, Some(Standing::Member)) => &mut tally.sent_again,
        (ChangeOp::Add, Some(Standing::InDoubt | Standing::Disputed)) => &mut tally.doubt_added,
        (ChangeOp::Add, Some(Standing::Refused) | None) => &mut tally.added,
    };
    *counted += 1;
}

/// The recorded members, beside the changes of a plan.
struct Known {
    cursor: MembershipCursor,
    at: Option<(MemberKey, Option<Standing>)>,
    /// Whether the plan changes the current one.
    is_changed: bool,
}

impl Known {
    fn advance(&mut self, tally: &mut DiffTally) -> Result<(), PlanError> {
        let is_left = matches!(self.at, Some((_, Some(Standing::InDoubt)))) && !self.is_changed;
        tally.left_in_doubt += u64::from(is_left);
        (self.at, self.is_changed) = (self.cursor.advance_any()?, false);
        tally.members += u64::from(matches!(self.at, Some((_, Some(Standing::Member)))));
        Ok(())
    }

    /// How the state knows this key. Keys are asked for in ascending order.
    fn standing_of(&mut self, key: MemberKey, tally: &mut DiffTally) -> Result<Option<Standing>, PlanError> {
        while self.at.is_some_and(|(at, _)| at < key) {
            self.advance(tally)?;
        }
        let found = self.at.filter(|(at, _)| *at == key);
        self.is_changed |= found.is_some();
        Ok(found.and_then(|(_, standing)| standing))
    }
}
