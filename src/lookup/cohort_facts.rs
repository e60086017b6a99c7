//! The findings about users in one cohort: recorded membership, rejects, unknown users, triggers, blocks, source.

use std::collections::{BTreeMap, BTreeSet};

use super::identifiers::{LookupInputs, SubjectIdentifier, Subjects, SubjectsByKey};
use super::reject_search::{self, RejectedRow};
use super::source_rows::{self, SourceFinding};
use crate::config::CohortConfig;
use crate::model::{CohortId, Identifier, MemberKey, MemberStanding, Timestamp};
use crate::state::{
    DueTrigger, FoundMember, LastOutcome, Membership, RecordedBlock, RejectFile, StateError, Transition,
    UnknownUser,
};

/// How an identifier is related to the asked one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FoundAs {
    /// It is the asked one.
    Asked,
    /// It is the external id of the owner of the asked one.
    Owner,
    /// It is a device or an alias of the asked user.
    Handle,
}

/// An identifier of the user in the recorded membership.
#[derive(Clone, Debug)]
pub struct RecordedIdentifier {
    /// The identifier, packed.
    pub packed: Vec<u8>,
    /// How it is related to the asked one.
    pub found_as: FoundAs,
    /// What the state says about it.
    pub member: FoundMember,
    /// Braze has no profile with it.
    pub missing_profile: Option<MissingProfile>,
}

/// A trigger for the user that is not sent, or has no response.
#[derive(Clone, Debug)]
pub struct PendingTrigger {
    /// Enter or exit.
    pub transition: Transition,
    /// When the transition was found.
    pub at: Timestamp,
    /// It was sent and has no response.
    pub is_in_flight: bool,
}

/// A user without a Braze profile.
#[derive(Clone, Copy, Debug)]
pub struct MissingProfile {
    /// Since when.
    pub since: Timestamp,
    /// When Braze was last asked.
    pub checked_at: Timestamp,
    /// Braze had a profile then. The next run sends the user again.
    pub exists_now: bool,
}

/// The approval of the plan that the guard blocked in the last run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PendingApproval {
    /// An operator may approve the plan.
    Missing,
    /// The plan is approved, and the next run applies it.
    Given {
        /// When the approval expires.
        expires_at: Timestamp,
    },
}

/// What the guard blocks in a cohort.
#[derive(Clone, Debug, Default)]
pub(super) struct CohortBlock {
    pub(super) recorded: RecordedBlock,
    /// The digest of the blocked plan, if an approval can lift the block.
    pub(super) plan: Option<String>,
}

impl CohortBlock {
    pub(super) fn of(last: &LastOutcome) -> Self {
        Self { recorded: last.block.clone(), plan: last.plan.clone() }
    }
}

/// The findings about one user in one cohort.
#[derive(Clone, Debug, Default)]
pub struct CohortFacts {
    /// Whether anything was ever sent to the cohort.
    pub has_version: bool,
    /// Whether the cohort was emptied by `removed:`.
    pub is_emptied: bool,
    /// The user's identifiers that the recorded membership has.
    pub recorded: Vec<RecordedIdentifier>,
    /// Members with an identifier that differs from the asked one only by upper and lower case or by invisible
    /// characters. To Braze they are other users.
    pub variants: Vec<RecordedIdentifier>,
    /// Rejects that name the user, the newest first.
    pub rejects: Vec<RejectedRow>,
    /// Triggers without a response.
    pub triggers: Vec<PendingTrigger>,
    /// What the guard blocks in the cohort, if the config has it.
    pub block: RecordedBlock,
    /// Whether the blocked plan waits for an approval. `None`: an approval cannot lift the block.
    pub approval: Option<PendingApproval>,
    /// Why it is unknown what the guard blocks.
    pub block_error: Option<String>,
    /// The user in the source, or why the source cannot be read. `None`: it was not read.
    pub source: Option<Result<SourceFinding, String>>,
}

/// A cohort to look in.
pub(super) struct SearchedCohort<'a> {
    pub(super) id: &'a CohortId,
    pub(super) declared: Option<&'a CohortConfig>,
    /// The rejects files, the newest first.
    pub(super) files: &'a [RejectFile],
    /// What the guard blocks, or why that cannot be read.
    pub(super) block: Result<CohortBlock, String>,
}

/// Returns the findings about all subjects in a cohort.
pub(super) fn of_cohort(
    SearchedCohort { id: cohort, declared, files, block }: SearchedCohort<'_>,
    subjects: &Subjects,
    inputs: LookupInputs<'_>,
) -> Result<Vec<CohortFacts>, StateError> {
    let version = inputs.state.version(cohort)?;
    let (block, block_error) = match block {
        Ok(block) => (block, None),
        Err(error) => (CohortBlock::default(), Some(error)),
    };
    let approval = block.plan.map(|plan| pending_approval(cohort, &plan, inputs)).transpose()?;
    let facts = CohortFacts {
        has_version: version.is_some(),
        is_emptied: version.as_ref().is_some_and(|version| version.removed),
        block: block.recorded,
        approval,
        block_error,
        ..CohortFacts::default()
    };
    let mut all = vec![facts; subjects.all.len()];
    let mut by_key = SubjectsByKey::new();
    for (at, subject) in subjects.all.iter().enumerate() {
        subject.candidates.keys().for_each(|key| by_key.entry(*key).or_default().push(at));
    }
    // A cohort is closed when no request can add a member any more, so an emptied one has no doubt.
    if let Some(version) = version.as_ref().filter(|version| !version.removed) {
        find_recorded(cohort, version, subjects, &mut by_key, &mut all, inputs)?;
    }
    note_outbox(cohort, subjects, &by_key, &mut all, inputs)?;
    note_unknown(cohort, &mut all, inputs)?;
    let has_rejected = all.iter().any(|facts| {
        facts.recorded.iter().any(|found| {
            matches!(found.member.standing, Some(MemberStanding::Rejected | MemberStanding::Disputed))
        })
    });
    let with_rows = version.as_ref().is_none_or(|version| has_rows(files, version));
    let rules = declared.map_or(&[][..], |declared| &declared.rules);
    let found = reject_search::search(files, (with_rows, has_rejected), rules, subjects, inputs.state)?;
    for (facts, rejects) in all.iter_mut().zip(found) {
        facts.rejects = rejects;
    }
    if let Some((cohort, access)) = declared.zip(inputs.sources) {
        let found = source_rows::find(cohort, access, subjects, &by_key, inputs);
        for (at, facts) in all.iter_mut().enumerate() {
            facts.source = Some(match &found {
                Ok(findings) => Ok(findings[at].clone()),
                Err(error) => Err(error.to_string()),
            });
        }
    }
    Ok(all)
}

fn pending_approval(
    cohort: &CohortId,
    plan: &str,
    inputs: LookupInputs<'_>,
) -> Result<PendingApproval, StateError> {
    let given = inputs.state.approvals(cohort, inputs.now)?;
    let of_plan = given.iter().find(|approval| approval.plan == plan);
    Ok(of_plan.map_or(PendingApproval::Missing, |approval| PendingApproval::Given {
        expires_at: approval.expires_at(),
    }))
}

/// Whether the rows of the newest rejects still matter. They do not if a later run has read the source in full and
/// rejected none. A blocked run writes rejects and no version.
fn has_rows(files: &[RejectFile], version: &Membership) -> bool {
    let is_clean = version.source.as_ref().is_some_and(|mark| mark.matched.rejects.is_empty());
    !is_clean || files.first().is_some_and(|newest| *newest.run >= *version.run)
}

/// Looks up the subjects in the recorded membership, and adds the keys of their devices and aliases.
fn find_recorded(
    cohort: &CohortId,
    version: &Membership,
    subjects: &Subjects,
    by_key: &mut SubjectsByKey,
    all: &mut [CohortFacts],
    inputs: LookupInputs<'_>,
) -> Result<(), StateError> {
    let mut handles: BTreeMap<MemberKey, (&[usize], Vec<u8>)> = BTreeMap::new();
    if subjects.handles.is_some() {
        let mut failed = None;
        inputs.state.scan_handles(
            cohort,
            version,
            &mut |key, identifier| match subjects.owner_of(identifier) {
                Ok([]) => {}
                Ok(subjects) => {
                    let mut packed = Vec::new();
                    identifier.pack_into(&mut packed);
                    handles.insert(key, (subjects, packed));
                }
                Err(error) => failed = Some(error),
            },
        )?;
        failed.map_or(Ok(()), Err)?;
    }
    for (key, (subjects, _)) in &handles {
        let known = by_key.entry(*key).or_default();
        known.extend(*subjects);
        known.sort_unstable();
        known.dedup();
    }
    let variants = subjects.all.iter().flat_map(|subject| subject.variants.keys());
    let keys: BTreeSet<MemberKey> = by_key.keys().chain(variants).copied().collect();
    let members = inputs.state.find_members(cohort, version, &keys)?;
    let recorded = |key: &MemberKey, packed: &[u8], found_as| {
        let (packed, member) = (packed.to_owned(), members.get(key)?.clone());
        Some(RecordedIdentifier { packed, found_as, member, missing_profile: None })
    };
    for (subject, facts) in subjects.all.iter().zip(&mut *all) {
        for (key, SubjectIdentifier { packed, is_owner }) in &subject.candidates {
            let found_as = if *is_owner { FoundAs::Owner } else { FoundAs::Asked };
            facts.recorded.extend(recorded(key, packed, found_as));
        }
        let variants =
            subject.variants.iter().filter_map(|(key, packed)| recorded(key, packed, FoundAs::Asked));
        facts.variants.extend(variants.filter(|found| found.member.may_be_member()));
    }
    for (key, (owners, packed)) in &handles {
        for at in owners.iter().filter(|at| !subjects.all[**at].candidates.contains_key(key)) {
            all[*at].recorded.extend(recorded(key, packed, FoundAs::Handle));
        }
    }
    all.iter_mut().for_each(|facts| facts.recorded.sort_by_key(|found| found.found_as));
    Ok(())
}

/// Devices and aliases may be in the list alone: a merge of parts drops removed members.
fn note_outbox(
    cohort: &CohortId,
    subjects: &Subjects,
    by_key: &SubjectsByKey,
    all: &mut [CohortFacts],
    inputs: LookupInputs<'_>,
) -> Result<(), StateError> {
    let outbox = inputs.state.outbox(cohort)?;
    let due = outbox.due.iter().map(|due| (due, false));
    for (due, is_in_flight) in due.chain(outbox.in_flight.iter().map(|due| (due, true))) {
        let DueTrigger { transition, user, at, .. } = due;
        let identifier = user.identifier();
        let known = by_key.get(&inputs.state.key_of(&identifier)).into_iter().flatten();
        let theirs: BTreeSet<&usize> = known.chain(subjects.owner_of(&identifier)?).collect();
        for subject in theirs {
            let trigger = PendingTrigger { transition: *transition, at: at.0, is_in_flight };
            all[*subject].triggers.push(trigger);
        }
    }
    Ok(())
}

fn note_unknown(
    cohort: &CohortId,
    all: &mut [CohortFacts],
    inputs: LookupInputs<'_>,
) -> Result<(), StateError> {
    // Users that Braze was not asked for yet are in the list as well.
    let unknown = inputs.state.unknown_users(cohort)?.users.into_iter();
    let asked = unknown.filter(|unknown| unknown.checked_at.0 != Timestamp::UNIX_EPOCH);
    let asked: BTreeMap<MemberKey, UnknownUser> =
        asked.map(|unknown| (inputs.state.key_of(&unknown.user.identifier()), unknown)).collect();
    for found in all.iter_mut().flat_map(|facts| &mut facts.recorded) {
        let Ok((identifier, _)) = Identifier::unpack(&found.packed) else { continue };
        found.missing_profile = asked.get(&inputs.state.key_of(&identifier)).map(|unknown| MissingProfile {
            since: unknown.since.0,
            checked_at: unknown.checked_at.0,
            exists_now: unknown.has_profile,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeliveryMethod, MatchTally, RunId};
    use crate::state::{RecordedWorkspace, SourceMark};

    #[test]
    fn rows_of_rejects_matter_unless_a_later_run_has_rejected_none() {
        let run = |second| RunId::new(Timestamp::from_second(second).unwrap(), 0);
        let (delivery, [connection, endpoint, partner]) =
            (DeliveryMethod::CohortImport, [const { String::new() }; 3]);
        let workspace = RecordedWorkspace { connection, endpoint, partner, delivery };
        let version = Membership::first(&run(20), Timestamp::UNIX_EPOCH, workspace);
        let marked = |rejects: &[(&str, u64)]| {
            let rejects = rejects.iter().map(|(reason, number)| ((*reason).to_owned(), *number)).collect();
            let matched = MatchTally { rejects, ..MatchTally::default() };
            let mark = SourceMark { fingerprint: String::new(), matched, rejected: 0 };
            Membership { source: Some(mark), ..version.clone() }
        };
        let (clean, dirty) = (marked(&[]), marked(&[("placeholder", 2)]));
        for (second, version, expected) in [
            (10, &clean, false),
            (20, &clean, true),
            (30, &clean, true),
            (10, &dirty, true),
            (10, &version, true),
        ] {
            let newest = RejectFile { run: run(second).to_string(), path: String::new() };
            assert_eq!(has_rows(&[newest], version), expected, "{second}: {version:?}");
        }
    }
}
