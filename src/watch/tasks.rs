//! Tasks of the leader: their results, and what they work on. A panic in a task fails only its subject.

use std::pin::Pin;

use tokio::task::JoinSet;

use super::approvals::ApprovalList;
use super::cohort_run::CohortRunEnd;
use super::config_reload::ConfigRead;
use super::endpoints::OpenedInboxes;
use super::export_run::ExportRunEnd;
use super::identity::ImportEnd;
use super::ingest::IngestEnd;
use super::segments::CheckEnd;
use super::sources::{SurveyFindings, WatchedFiles};
use crate::contained::{Panicked, contained_task};
use crate::model::{CohortId, ConnectionName, ExportId, SegmentId};
use crate::reconcile::OrphanedCohort;

/// The result of a task.
pub(super) enum TaskResult {
    Cohort(CohortRunEnd),
    Export(Box<ExportRunEnd>),
    Segments(Vec<CheckEnd>),
    Ingest(IngestEnd),
    Import(ImportEnd),
    Approvals(ApprovalList),
    /// Without its files, the survey was stopped.
    Survey(Option<WatchedFiles>, SurveyFindings),
    Inboxes(OpenedInboxes),
    Config(Box<ConfigRead>),
    /// None: they could not be read.
    Orphaned(Option<Vec<OrphanedCohort>>),
    Panicked(TaskSubject, Panicked),
}

/// What a task works on.
#[derive(Clone, Debug)]
pub(super) enum TaskSubject {
    Cohort(CohortId),
    Export(ExportId),
    Segments(Vec<SegmentId>),
    Ingest(ConnectionName),
    Import,
    Approvals,
    Survey,
    Inboxes,
    Config,
    Orphaned,
}

/// The running tasks.
#[derive(Default)]
pub(super) struct Tasks {
    running: JoinSet<TaskResult>,
}

impl Tasks {
    /// Starts a task. A panic in it becomes [`TaskResult::Panicked`].
    pub(super) fn spawn(
        &mut self,
        subject: TaskSubject,
        work: impl Future<Output = TaskResult> + Send + 'static,
    ) {
        // Boxed: the runtime's code for a task is compiled once, not for each kind of work.
        let task: Pin<Box<dyn Future<Output = TaskResult> + Send>> = Box::pin(async move {
            contained_task(work).await.unwrap_or_else(|panicked| TaskResult::Panicked(subject, panicked))
        });
        self.running.spawn(task);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Waits for the next result. None: there are no tasks, or the task was aborted.
    pub(super) async fn next(&mut self) -> Option<TaskResult> {
        match self.running.join_next().await? {
            Ok(result) => Some(result),
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => None,
            },
        }
    }

    pub(super) fn abort_all(&mut self) {
        self.running.abort_all();
    }
}
