//! A plan in a file, so that what a person has looked at is what is sent, whatever the sources say by
//! then. It holds people's identifiers and no key; only its owner can read it.
//!
//! The file is NDJSON, compressed: a head with every cohort's numbers, a line for each change, and an
//! end that says how many there were. On the way back the changes are sorted anew and counted, and the
//! guard sees them again.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::compare::{Changes, Diff};
use super::observe;
use super::policy::{self, Names};
use super::report::{CohortPlan, PassPlan};
use super::{Inputs, PlanError, actions, moving};
use crate::desired::{DesiredError, SortedSet};
use crate::model::{ALIAS_LEN_MAX, CohortId, EXTERNAL_ID_LEN_MAX, Identifier, Kind, Matched, Op};
use crate::plan::{Sides, Sink as _, Tally};
use crate::state::{Due, StateError};

const FORMAT: u64 = 1;
/// How every file begins that zstd has packed.
const PACKED_MARK: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Why a saved plan cannot be written, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
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
    /// What the plan starts from is no longer so.
    #[error("the plan is stale: {0}")]
    Stale(String),
    /// The state failed.
    #[error(transparent)]
    State(#[from] StateError),
}

#[derive(Serialize, Deserialize)]
struct Head {
    syncline_plan: u64,
    config: String,
    cohorts: Vec<Cohort>,
    /// Cohorts that could not be planned, and why.
    failed: Vec<(String, String)>,
}

/// One cohort's numbers. What can be counted from the changes is not here, nor is what follows from the
/// config and the record, both of which must be what they were.
#[derive(Serialize, Deserialize)]
struct Cohort {
    id: String,
    base: u64,
    empties: bool,
    #[serde(default)]
    moves: bool,
    /// For whom something is newly to be triggered.
    #[serde(default)]
    due: Vec<Due>,
    members: u64,
    unchanged: u64,
    doubt_added: u64,
    doubt_removed: u64,
    #[serde(default)]
    sent_again: u64,
    #[serde(default)]
    let_go_again: u64,
    refused: u64,
    #[serde(default)]
    rekeyed: u64,
    matched: Option<Matched>,
    hollow: Option<String>,
}

/// A change: the cohort's place in the head, `+` or `-`, the kind's place in [`Kind::ALL`], label, value.
#[derive(Serialize, Deserialize)]
struct Change<'a>(usize, char, usize, #[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>);

#[derive(Serialize, Deserialize)]
struct End {
    changes: u64,
}

pub(super) fn save(plan: &mut PassPlan, path: &Path) -> Result<(), SavedError> {
    // A temporary file's error names that file, which nobody has asked for.
    let failed = |error: io::Error| {
        let text = error.to_string();
        let source = match text.split_once(" at path ") {
            Some((cause, _)) => io::Error::new(error.kind(), cause.to_owned()),
            None => error,
        };
        SavedError::Io { path: path.to_owned(), source }
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    write(plan, file.as_file_mut()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map(drop).map_err(|e| failed(e.error))
}

fn write(plan: &mut PassPlan, file: &mut File) -> io::Result<()> {
    let mut out = BufWriter::new(zstd::stream::write::Encoder::new(file, 0)?);
    let cohorts = plan.cohorts.iter().map(shape).collect();
    let failed = plan.failed.iter().map(|failed| (failed.id.to_string(), failed.error.to_string())).collect();
    line(&mut out, &Head { syncline_plan: FORMAT, config: plan.config.clone(), cohorts, failed })?;
    let mut changes = 0;
    for (place, cohort) in plan.cohorts.iter_mut().enumerate() {
        for (op, sign) in [(Op::Remove, '-'), (Op::Add, '+')] {
            let list = cohort.verdict.approved.list_mut(op);
            let written = list.for_each(|packed| {
                let (id, _) =
                    Identifier::unpack(packed).map_err(|e| StateError::Scratch(io::Error::other(e)))?;
                let kind = Kind::ALL.iter().position(|kind| *kind == id.kind).unwrap_or(0);
                changes += 1;
                Ok(line(&mut out, &Change(place, sign, kind, id.label.into(), id.value.into()))?)
            });
            written.map_err(io::Error::other)?;
        }
    }
    line(&mut out, &End { changes })?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.finish().map(drop)
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn shape(cohort: &CohortPlan) -> Cohort {
    let plan = cohort.verdict.approved.plan();
    Cohort {
        id: cohort.id.to_string(),
        base: plan.base,
        empties: cohort.empties,
        moves: plan.moves_to.is_some(),
        due: cohort.actions.as_ref().map(|actions| actions.new.clone()).unwrap_or_default(),
        members: plan.tally.members,
        unchanged: plan.tally.unchanged,
        doubt_added: plan.tally.doubt_added,
        doubt_removed: plan.tally.doubt_removed,
        sent_again: plan.tally.sent_again,
        let_go_again: plan.tally.let_go_again,
        refused: plan.tally.refused,
        rekeyed: plan.tally.rekeyed,
        matched: cohort.matched.clone(),
        hollow: plan.source.as_ref().and_then(|source| source.hollow.clone()),
    }
}

pub(super) fn load(path: &Path, inputs: Inputs<'_>) -> Result<PassPlan, SavedError> {
    let damaged = |what: String| SavedError::Damaged { path: path.to_owned(), what };
    let file = File::open(path).map_err(|source| SavedError::Io { path: path.to_owned(), source })?;
    let mut file = BufReader::new(file);
    let begins = file.fill_buf().map_err(|source| SavedError::Io { path: path.to_owned(), source })?;
    if !begins.starts_with(&PACKED_MARK) {
        return Err(SavedError::NoPlan { path: path.to_owned() });
    }
    let unpacked = zstd::stream::read::Decoder::with_buffer(file).map_err(|e| damaged(e.to_string()))?;
    let mut lines = BufReader::new(unpacked).split(b'\n');
    let mut next = || {
        let line = lines.next().unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()));
        line.map_err(|e| damaged(e.to_string()))
    };
    let no_plan = |_| SavedError::NoPlan { path: path.to_owned() };
    let head: Head = serde_json::from_slice(&next()?).map_err(no_plan)?;
    if head.syncline_plan > FORMAT {
        return Err(damaged(format!("its format {} is newer than this program", head.syncline_plan)));
    }
    if head.config != inputs.config.digest {
        return Err(SavedError::Stale("the config has changed since it was made".to_owned()));
    }
    let mut sets = Sets::new(head.cohorts.len(), inputs);
    loop {
        let bytes = next()?;
        match serde_json::from_slice::<Change<'_>>(&bytes) {
            Ok(change) => sets.take(&change).map_err(|e| damaged(e.to_string()))?,
            Err(_) => match serde_json::from_slice::<End>(&bytes) {
                Ok(End { changes }) if changes == sets.taken => break,
                Ok(_) | Err(_) => return Err(damaged("its changes are not what they were".to_owned())),
            },
        }
    }
    let names = Names::read(inputs.config, inputs.state)?;
    let mut plan = PassPlan::new(head.config);
    for (cohort, sides) in head.cohorts.into_iter().zip(sets.sides) {
        plan.cohorts.push(rebuild(path, &cohort, sides, &names, inputs)?);
    }
    for (id, why) in head.failed {
        let id = CohortId::new(&id).map_err(|e| damaged(e.to_string()))?;
        plan.add(&id, Err(PlanError::Saved(why)));
    }
    plan.left_behind = names.left_behind;
    Ok(plan)
}

/// The changes of every cohort, to be sorted by this state's keys.
struct Sets {
    sides: Vec<Sides<SortedSet>>,
    packed: Vec<u8>,
    taken: u64,
}

impl Sets {
    fn new(cohorts: usize, inputs: Inputs<'_>) -> Self {
        // All of them are filled at the same time.
        let memory_max = inputs.config.memory_max / (2 * cohorts.max(1));
        let set = || SortedSet::new(inputs.state.seed(), memory_max);
        let sides = std::iter::repeat_with(|| Sides { removes: set(), adds: set() }).take(cohorts).collect();
        Self { sides, packed: Vec::new(), taken: 0 }
    }

    fn take(&mut self, Change(place, sign, kind, label, value): &Change<'_>) -> io::Result<()> {
        let unknown = || io::Error::other("it has a change that cannot be");
        let op = match sign {
            '-' => Op::Remove,
            '+' => Op::Add,
            _ => return Err(unknown()),
        };
        let kind = *Kind::ALL.get(*kind).ok_or_else(unknown)?;
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
    cohort: &Cohort,
    sides: Sides<SortedSet>,
    names: &Names,
    inputs: Inputs<'_>,
) -> Result<CohortPlan, SavedError> {
    let damaged = |what: String| SavedError::Damaged { path: path.to_owned(), what };
    let id = CohortId::new(&cohort.id).map_err(|e| damaged(e.to_string()))?;
    let previous = inputs.state.version(&id)?;
    if previous.as_ref().map_or(0, |record| record.number) != cohort.base {
        return Err(SavedError::Stale(format!("cohort {id} has been applied since it was made")));
    }
    let diff = recount(cohort, sides).map_err(|e| damaged(e.to_string()))?;
    let unknown = || damaged(format!("it names cohort {id}, which the config does not have"));
    if cohort.empties {
        let record = previous.ok_or_else(unknown)?;
        return observe::emptying(&id, record, diff, inputs).map_err(|e| damaged(e.to_string()));
    }
    let declared = inputs.config.cohorts.iter().find(|declared| declared.id == id).ok_or_else(unknown)?;
    let source = cohort.matched.as_ref().map(|matched| observe::tally_of(matched, cohort.hollow.clone()));
    let at_home = |record| {
        let braze = observe::connection(&declared.to, inputs).map_err(|e| damaged(e.to_string()))?;
        Ok::<_, SavedError>(policy::at_home(record, declared, braze))
    };
    let previous = previous.map(at_home).transpose()?;
    let plan = match previous {
        Some(record) if cohort.moves => {
            moving::judged(declared, record, diff, source.unwrap_or_default(), inputs)
        }
        previous => observe::judged(declared, names, previous, diff, source, inputs),
    };
    let plan = plan.map_err(|e| damaged(e.to_string()))?;
    let plan = CohortPlan { matched: cohort.matched.clone(), ..plan };
    actions::acting_on(declared, cohort.due.clone(), plan, inputs).map_err(|e| damaged(e.to_string()))
}

/// Counts the changes again and takes note of them as a diff does.
fn recount(cohort: &Cohort, sides: Sides<SortedSet>) -> Result<Diff, PlanError> {
    let mut changes = Changes::default();
    for (op, set) in [(Op::Remove, sides.removes), (Op::Add, sides.adds)] {
        let mut members = set.into_members();
        while members.advance().map_err(DesiredError::Scratch)?.is_some() {
            changes.change(op, members.packed())?;
        }
    }
    let (removes, adds) = (changes.count(Op::Remove), changes.count(Op::Add));
    let tally = Tally {
        members: cohort.members,
        unchanged: cohort.unchanged,
        added: adds.saturating_sub(cohort.doubt_added.saturating_add(cohort.sent_again)),
        sent_again: cohort.sent_again.min(adds),
        removed: removes.saturating_sub(cohort.doubt_removed.saturating_add(cohort.let_go_again)),
        let_go_again: cohort.let_go_again.min(removes),
        doubt_added: cohort.doubt_added.min(adds),
        doubt_removed: cohort.doubt_removed.min(removes),
        refused: cohort.refused,
        rekeyed: cohort.rekeyed.min(removes),
        ..Tally::default()
    };
    Ok(Diff { tally, changes })
}
