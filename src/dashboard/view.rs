//! View model of the dashboard: plain values that `watch` fills in.
//!
//! No field contains a member's identifier or a secret, because everyone who can reach the address can see the page.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::query::PageQuery;
use crate::model::{CohortId, ConnectionName, RunId, Timestamp};
use crate::state::Holder;

/// The whole page at one moment.
#[derive(Clone, Debug)]
pub struct DashboardView {
    /// The moment. All ages are relative to it.
    pub now: Timestamp,
    /// The program's version.
    pub version: String,
    /// When the process started.
    pub started: Timestamp,
    /// The role of this process.
    pub role: RoleView,
    /// The config in use, and an invalid newer one.
    pub config: ConfigView,
    /// The cohorts in the order of the config. The page shows those that need attention first.
    pub cohorts: Vec<CohortView>,
    /// Cohorts that left the config and still have members in Braze.
    pub orphaned: Vec<OrphanedView>,
    /// The inbox of each Heap connection.
    pub inboxes: Vec<InboxView>,
    /// The exports from Braze to Heap.
    pub exports: Vec<ExportView>,
    /// Checked segments in Braze.
    pub segments: Vec<SegmentCheckView>,
    /// Requests that webhook endpoints rejected.
    pub rejected_requests: Vec<RejectedRequestsView>,
    /// The last cohort runs, the newest first.
    pub history: Vec<HistoryView>,
    /// The query of the page's address.
    pub query: PageQuery,
}

/// The role of a process.
#[derive(Clone, Debug)]
pub enum RoleView {
    /// It holds the lease.
    Leader {
        /// Since when.
        since: Timestamp,
    },
    /// It waits for the lease.
    Standby {
        /// Since when.
        since: Timestamp,
        /// The leader, if it is known.
        holder: Option<Holder>,
        /// When the state was read for this page.
        recorded_at: Option<Timestamp>,
    },
}

/// The config in use, and an invalid newer one.
#[derive(Clone, Debug)]
pub struct ConfigView {
    /// What the process works on, each part with its label: environment, Braze, state, config, revision.
    pub target: Vec<(&'static str, String)>,
    /// When it was loaded.
    pub loaded: Timestamp,
    /// An invalid newer one.
    pub invalid: Option<InvalidConfigView>,
}

/// An invalid config.
#[derive(Clone, Debug)]
pub struct InvalidConfigView {
    /// When it was found.
    pub since: Timestamp,
    /// The number of problems.
    pub problems: u64,
    /// The problems, as `syncline validate` prints them, without colors.
    pub text: String,
}

/// A cohort and its state.
#[derive(Clone, Debug)]
pub struct CohortView {
    /// Its stable id.
    pub id: CohortId,
    /// Its name in Braze.
    pub name: String,
    /// The Braze connection.
    pub connection: ConnectionName,
    /// File and line of its declaration.
    pub declared_at: String,
    /// The source of its members.
    pub source: SourceView,
    /// Members that Braze has accepted. None: unknown, which is not 0.
    pub members: Option<u64>,
    /// Its sizes over time.
    pub sizes: Vec<SizePoint>,
    /// Its state.
    pub state: CohortStateView,
    /// When it was last in sync.
    pub last_success: Option<Timestamp>,
    /// When its next run is due, if nothing changes before.
    pub next_run: Option<Timestamp>,
    /// The last plan.
    pub plan: Option<PlanView>,
    /// Rejected rows of the last read, by reason.
    pub rejects: BTreeMap<String, u64>,
    /// The file with the rejected rows.
    pub rejects_file: Option<String>,
    /// Members that were sent without a reply from Braze.
    pub in_doubt: u64,
    /// Until when Braze may still process requests without a reply.
    pub uncertain_until: Option<Timestamp>,
    /// Identifiers that Braze has rejected.
    pub rejected: u64,
    /// Its last runs, the newest first.
    pub runs: Vec<HistoryView>,
}

/// The source of a cohort.
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
    /// A segment of Heap.
    HeapSegment {
        /// The Heap connection.
        connection: ConnectionName,
        /// Heap's id of the segment.
        segment: u64,
        /// Heap's name of the segment, if a delivery contained it.
        name: Option<String>,
    },
}

/// The size of a cohort from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizePoint {
    /// The moment.
    pub at: Timestamp,
    /// The number of members.
    pub members: u64,
}

/// The state of a cohort.
#[derive(Clone, Debug)]
pub enum CohortStateView {
    /// Config and Braze agree.
    InSync,
    /// No run has ended yet.
    New,
    /// Heap has not sent its segment yet.
    WaitingForHeap {
        /// More information, such as the segments that Heap has sent.
        reason: Option<String>,
    },
    /// A run is in progress.
    Updating {
        /// Since when.
        since: Timestamp,
    },
    /// The guard blocks changes until an operator decides.
    Blocked {
        /// Since when.
        since: Timestamp,
        /// The blocked changes.
        blocks: Vec<BlockedView>,
        /// The command that approves exactly this plan, if one can.
        approve_command: Option<String>,
        /// Users still enter.
        adds_continue: bool,
        /// Members still leave.
        removes_continue: bool,
    },
    /// The guard blocked changes in the last run that the state records. Its numbers are in the reason.
    BlockedInRecord {
        /// Since when.
        since: Timestamp,
        /// Why.
        reason: String,
        /// The command that approves exactly this plan, if one can.
        approve_command: Option<String>,
    },
    /// Plan or apply failed.
    Failing {
        /// Since when.
        since: Timestamp,
        /// The reason.
        reason: String,
        /// The next step.
        next: NextStep,
        /// What the operator can do.
        remedies: Vec<RemedyView>,
    },
    /// The operator stopped the last run. The next one continues.
    Stopped {
        /// Since when.
        since: Timestamp,
    },
    /// The last success is too long ago.
    Stale {
        /// The limit.
        after: Duration,
    },
}

/// Changes that the guard blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedView {
    /// The stable code, as in the JSON of a plan.
    pub code: &'static str,
    /// The blocked side of the plan: `removals`, `additions`, `name` or `everything`.
    pub side: &'static str,
    /// The reason, with its numbers.
    pub reason: String,
    /// What the operator can do, besides the approval.
    pub remedies: Vec<RemedyView>,
}

impl fmt::Display for BlockedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} blocked: {}", self.side, self.reason)
    }
}

/// An action for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemedyView {
    /// The action in words, without the command.
    pub text: String,
    /// The command, if there is one.
    pub command: Option<String>,
}

impl fmt::Display for RemedyView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.command {
            Some(command) => write!(f, "{}: {command}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// The next step after a failure.
#[derive(Clone, Copy, Debug)]
pub enum NextStep {
    /// A retry.
    Retry {
        /// Its time, if known.
        at: Option<Timestamp>,
    },
    /// An operator must act. Retries alone do not help.
    NeedsOperator {
        /// The next attempt, if one is known.
        at: Option<Timestamp>,
    },
}

/// A plan in numbers.
#[derive(Clone, Copy, Debug)]
pub struct PlanView {
    /// When it was made.
    pub at: Timestamp,
    /// The changes.
    pub changes: PlannedView,
    /// Unchanged members.
    pub unchanged: u64,
    /// The number of requests.
    pub requests: u64,
}

/// A cohort that left the config.
#[derive(Clone, Debug)]
pub struct OrphanedView {
    /// Its id.
    pub id: CohortId,
    /// Its name in Braze.
    pub name: Option<String>,
    /// Its size, if known.
    pub members: Option<u64>,
}

/// The inbox of a Heap connection's endpoint.
#[derive(Clone, Debug)]
pub struct InboxView {
    /// The Heap connection.
    pub connection: ConnectionName,
    /// The URL of its webhook.
    pub url: String,
    /// The size of the deliveries that wait for ingest.
    pub bytes: u64,
    /// When the oldest of them arrived.
    pub waiting_since: Option<Timestamp>,
    /// When the last delivery arrived.
    pub last_delivery: Option<Timestamp>,
    /// Invalid deliveries since the start of the state.
    pub invalid: u64,
    /// Syncs with pages that have not arrived yet.
    pub missing: Vec<MissingPagesView>,
    /// Syncs with pages that did not arrive in time.
    pub gaps: Vec<MissingPagesView>,
    /// Segments that Heap sends and no cohort uses.
    pub undeclared: Vec<UndeclaredSegmentView>,
}

/// A sync of Heap with missing pages.
#[derive(Clone, Debug)]
pub struct MissingPagesView {
    /// Heap's id of the segment.
    pub segment: u64,
    /// Heap's name of the segment.
    pub name: String,
    /// The number of missing pages.
    pub missing: u64,
    /// The number of all pages.
    pub pages: u64,
    /// When the last page arrived, or when the wait ended.
    pub at: Timestamp,
}

/// A segment that Heap sends and no cohort uses.
#[derive(Clone, Debug)]
pub struct UndeclaredSegmentView {
    /// Heap's id of the segment.
    pub segment: u64,
    /// Heap's name of the segment.
    pub name: String,
    /// When Heap last sent it.
    pub last_delivery: Timestamp,
}

/// An export from Braze to Heap.
#[derive(Clone, Debug)]
pub struct ExportView {
    /// Its id.
    pub id: String,
    /// The source of the events, in words.
    pub source: String,
    /// The URL that Braze posts the events to, if it does.
    pub url: Option<String>,
    /// The age of the oldest event that Heap does not have yet; zero: no event waits.
    pub lag: Option<Duration>,
    /// Events that Heap has accepted.
    pub events: u64,
    /// When a run last succeeded.
    pub last_success: Option<Timestamp>,
    /// The current failure, if there is one.
    pub failure: Option<ExportFailureView>,
}

/// The failure of an export.
#[derive(Clone, Debug)]
pub struct ExportFailureView {
    /// The reason.
    pub reason: String,
    /// The next step.
    pub next: NextStep,
}

/// The last check of a segment in Braze.
#[derive(Clone, Debug)]
pub struct SegmentCheckView {
    /// Its id in the config.
    pub id: String,
    /// Its name in Braze.
    pub name: String,
    /// The verdict.
    pub verdict: SegmentVerdictView,
    /// The findings, one sentence each.
    pub findings: Vec<String>,
    /// When it was checked.
    pub checked: Timestamp,
}

/// The verdict of a segment check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentVerdictView {
    /// The segment agrees with the config.
    InSync,
    /// It differs from the config.
    Drifted,
    /// Braze does not return enough data for a verdict.
    Unknown,
}

/// Requests that a webhook endpoint rejected for one reason.
#[derive(Clone, Debug)]
pub struct RejectedRequestsView {
    /// The endpoint. None: no endpoint has the path of the request.
    pub endpoint: Option<String>,
    /// The status of the response.
    pub status: u16,
    /// The reason.
    pub reason: &'static str,
    /// The likely cause, and what to do.
    pub likely_cause: Option<&'static str>,
    /// Their number since the start of the process.
    pub number: u64,
    /// When the last of them arrived.
    pub last: Timestamp,
    /// Whether the endpoint has accepted a delivery since then.
    pub accepted_since: bool,
}

/// The planned changes of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlannedView {
    /// Members to add.
    pub adds: u64,
    /// Members to remove.
    pub removes: u64,
    /// Additions that the guard blocks.
    pub blocked_adds: u64,
    /// Removals that the guard blocks.
    pub blocked_removes: u64,
}

/// The changes of a cohort by one run.
#[derive(Clone, Debug)]
pub struct HistoryView {
    /// When it ended.
    pub at: Timestamp,
    /// The run.
    pub run: RunId,
    /// The cohort. None: the run failed as a whole.
    pub cohort: Option<CohortId>,
    /// The plan. None: the cohort could not be planned.
    pub planned: Option<PlannedView>,
    /// Members added.
    pub added: u64,
    /// Members removed.
    pub removed: u64,
    /// The result code of the journal, for example `applied`.
    pub result: String,
    /// Why changes were blocked, or the error.
    pub error: Option<String>,
}
