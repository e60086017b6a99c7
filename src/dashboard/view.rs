//! What the page shows, as plain values. `watch` fills them in; nothing here is looked up or computed.
//!
//! No field takes a member's identifier or a secret, and whoever fills in a text must not put one there:
//! the page is for everybody who may see the address.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{CohortId, ConnectionName, RunId, Timestamp};
use crate::state::Holder;

/// Everything that the page shows, as of one moment.
#[derive(Clone, Debug)]
pub struct DashboardView {
    /// The moment. All ages are counted from it.
    pub now: Timestamp,
    /// The program's version.
    pub version: String,
    /// Since when the process runs.
    pub started: Timestamp,
    /// Whether this process does the work.
    pub role: RoleView,
    /// The config that is in force, and one that is not.
    pub config: ConfigView,
    /// The cohorts, in the order of the config. The page puts those that need somebody first.
    pub cohorts: Vec<CohortView>,
    /// Cohorts that left the config and still have members in Braze.
    pub orphaned: Vec<OrphanedView>,
    /// What was received, one entry for each Heap connection.
    pub inboxes: Vec<InboxView>,
    /// The exports from Braze to Heap.
    pub exports: Vec<ExportView>,
    /// What is known of Braze's segments.
    pub segments: Vec<SegmentCheckView>,
    /// The last runs over cohorts, the newest first.
    pub history: Vec<HistoryView>,
    /// After how many seconds the browser loads the page again, if at all: see [`super::refresh_of`].
    pub refresh_seconds: Option<u32>,
}

/// Whether this process does the work.
#[derive(Clone, Debug)]
pub enum RoleView {
    /// It holds the state.
    Leading {
        /// Since when.
        since: Timestamp,
    },
    /// It waits for the state to be free.
    StandingBy {
        /// Since when.
        since: Timestamp,
        /// Who has it, as far as that is known.
        holder: Option<Holder>,
    },
}

/// The config that is in force, and one that is not.
#[derive(Clone, Debug)]
pub struct ConfigView {
    /// The digest of what is in force, in hex.
    pub digest: String,
    /// When it was loaded.
    pub loaded: Timestamp,
    /// A newer one that is invalid.
    pub ignored: Option<IgnoredConfigView>,
}

/// A config that was found and is not used.
#[derive(Clone, Debug)]
pub struct IgnoredConfigView {
    /// When it was found.
    pub since: Timestamp,
    /// How many problems it has.
    pub problems: u64,
    /// The problems, as `syncline validate` prints them, without colours.
    pub text: String,
}

/// A cohort and how it is doing.
#[derive(Clone, Debug)]
pub struct CohortView {
    /// Its stable id.
    pub id: CohortId,
    /// Its name in Braze.
    pub name: String,
    /// The Braze connection.
    pub connection: ConnectionName,
    /// Where the config declares it: file and line.
    pub declared_at: String,
    /// Where its people come from.
    pub source: SourceView,
    /// Members that Braze has accepted. None: nothing is known, which is not the same as 0.
    pub members: Option<u64>,
    /// How many there were, in the order of time.
    pub sizes: Vec<SizePoint>,
    /// How it is doing.
    pub state: CohortStateView,
    /// When a run last left it in sync.
    pub last_good: Option<Timestamp>,
    /// When it is looked at again if nothing changes before.
    pub next_look: Option<Timestamp>,
    /// The last plan.
    pub plan: Option<PlanView>,
    /// Rows of the last read that could not be used, by reason.
    pub rejects: BTreeMap<String, u64>,
    /// Where they are written, row by row.
    pub rejects_file: Option<String>,
    /// Members that were sent and of whom Braze has said nothing.
    pub in_doubt: u64,
    /// Until when Braze may still handle requests that had no answer.
    pub uncertain_until: Option<Timestamp>,
    /// Identifiers that Braze has refused.
    pub refused: u64,
}

/// Where a cohort's people come from.
#[derive(Clone, Debug)]
pub enum SourceView {
    /// Files.
    Files {
        /// The path or glob of the config.
        pattern: String,
    },
    /// A query.
    Query {
        /// The database.
        connection: ConnectionName,
    },
    /// A segment that Heap tells of.
    HeapSegment {
        /// The Heap connection.
        connection: ConnectionName,
        /// Heap's number of the segment.
        segment: u64,
        /// Heap's name of it, as far as it has told.
        name: Option<String>,
    },
}

/// How many members there were from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizePoint {
    /// The moment.
    pub at: Timestamp,
    /// How many.
    pub members: u64,
}

/// How a cohort is doing.
#[derive(Clone, Debug)]
pub enum CohortStateView {
    /// Braze has exactly whom it should have.
    InSync,
    /// It was not looked at yet.
    New,
    /// Heap has told nothing of its segment.
    WaitingForHeap {
        /// What is known beyond that, such as the segments that it has told of.
        why: Option<String>,
    },
    /// Something is being sent.
    Updating {
        /// Since when.
        since: Timestamp,
    },
    /// The guard withholds something until a person decides.
    Withheld {
        /// Since when.
        since: Timestamp,
        /// What, and why.
        refusals: Vec<BlockedView>,
        /// The command that lets exactly this plan run, if one can.
        approve: Option<String>,
    },
    /// It could not be planned or sent.
    Failing {
        /// Since when.
        since: Timestamp,
        /// Why.
        why: String,
        /// What happens next.
        then: NextStep,
        /// What a person can do.
        ways_out: Vec<RemedyView>,
    },
    /// There was no good run for too long.
    Stale {
        /// How long is too long.
        after: Duration,
    },
}

/// What the guard withholds, and why.
#[derive(Clone, Debug)]
pub struct BlockedView {
    /// `removals`, `additions`, `name` or `everything`.
    pub what: String,
    /// Why, with the numbers.
    pub why: String,
    /// What a person can do, besides the approval.
    pub ways_out: Vec<RemedyView>,
}

/// Something that a person can do.
#[derive(Clone, Debug)]
pub struct RemedyView {
    /// In words, without the command.
    pub words: String,
    /// What to type, if anything.
    pub command: Option<String>,
}

/// What happens after a failure.
#[derive(Clone, Copy, Debug)]
pub enum NextStep {
    /// It is tried again without anybody.
    TriedAgain {
        /// When, if that is known.
        at: Option<Timestamp>,
    },
    /// Only a person can help.
    NeedsPerson,
}

/// A plan in numbers.
#[derive(Clone, Copy, Debug)]
pub struct PlanView {
    /// When it was made.
    pub at: Timestamp,
    /// Members to add.
    pub adds: u64,
    /// Members to remove.
    pub removes: u64,
    /// Members who stay.
    pub unchanged: u64,
    /// Requests that it takes.
    pub requests: u64,
}

/// A cohort that left the config.
#[derive(Clone, Debug)]
pub struct OrphanedView {
    /// Which.
    pub id: CohortId,
    /// Its name in Braze.
    pub name: Option<String>,
    /// How many members it has, as far as that is known.
    pub members: Option<u64>,
}

/// What a Heap connection's door has received.
#[derive(Clone, Debug)]
pub struct InboxView {
    /// The Heap connection.
    pub connection: ConnectionName,
    /// Bytes of the deliveries that are kept and not yet used.
    pub bytes: u64,
    /// Since when the oldest of them waits.
    pub waiting_since: Option<Timestamp>,
    /// When the last one came.
    pub last_delivery: Option<Timestamp>,
    /// Deliveries that could not be understood, ever.
    pub put_aside: u64,
    /// Syncs whose pages have not all come yet.
    pub missing: Vec<MissingPagesView>,
    /// Syncs whose missing pages are not waited for any more.
    pub gaps: Vec<MissingPagesView>,
    /// Segments that Heap tells of and no cohort uses.
    pub undeclared: Vec<UndeclaredSegmentView>,
}

/// A sync of Heap's of which pages are missing.
#[derive(Clone, Debug)]
pub struct MissingPagesView {
    /// Heap's number of the segment.
    pub segment: u64,
    /// Heap's name of it.
    pub name: String,
    /// How many pages are missing.
    pub missing: u64,
    /// How many there should be.
    pub pages: u64,
    /// When the last page came, or when it was given up.
    pub at: Timestamp,
}

/// A segment that Heap tells of and no cohort uses.
#[derive(Clone, Debug)]
pub struct UndeclaredSegmentView {
    /// Heap's number of it.
    pub segment: u64,
    /// Heap's name of it.
    pub name: String,
    /// When Heap last told of it.
    pub delivered_at: Timestamp,
}

/// An export from Braze to Heap.
#[derive(Clone, Debug)]
pub struct ExportView {
    /// Its id.
    pub id: String,
    /// Where the events come from, in words.
    pub source: String,
    /// How old the oldest event is that Heap does not have yet; zero: none waits.
    pub lag: Option<Duration>,
    /// Events that Heap has taken.
    pub events: u64,
    /// When a run last went well.
    pub last_good: Option<Timestamp>,
    /// What is wrong, if anything is.
    pub trouble: Option<ExportFailureView>,
}

/// What is wrong, and what happens next.
#[derive(Clone, Debug)]
pub struct ExportFailureView {
    /// Why.
    pub why: String,
    /// What happens next.
    pub then: NextStep,
}

/// What is known of a segment in Braze.
#[derive(Clone, Debug)]
pub struct SegmentCheckView {
    /// Its id in the config.
    pub id: String,
    /// Its name in Braze.
    pub name: String,
    /// What the check found.
    pub verdict: SegmentVerdictView,
    /// Why, one sentence each.
    pub why: Vec<String>,
    /// When it was checked.
    pub checked: Timestamp,
}

/// What a check of a segment found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentVerdictView {
    /// It is as the config says.
    InSync,
    /// It is not.
    Drifted,
    /// Braze does not tell enough to know.
    Unknown,
}

/// What a run did to a cohort.
#[derive(Clone, Debug)]
pub struct HistoryView {
    /// When it ended.
    pub at: Timestamp,
    /// The run.
    pub run: RunId,
    /// The cohort.
    pub cohort: CohortId,
    /// Members added.
    pub added: u64,
    /// Members removed.
    pub removed: u64,
    /// The result in the journal's word: `applied`, `in_sync`, `blocked`, …
    pub result: String,
    /// What went wrong, if anything did.
    pub error: Option<String>,
}
