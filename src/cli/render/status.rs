//! `status` as text and JSON: what needs attention first, each with its reason and its command; then a table with one line
//! for each cohort.

use serde_json::{Value, json};

use super::approval::{approval_json, approval_words};
use super::plan::uncertain_line;
use super::table::{ColumnFit, TableColumn, table};
use super::time::{age_text, time_short, time_text};
use crate::cli::output::{bold, count, counted, dim, red, yellow};
use crate::cli::suggested_command::SuggestedCommand;
use crate::config::ExportConfig;
use crate::foreign::escaped;
use crate::model::{CohortId, Timestamp, timestamp_text};
use crate::state::{Approval, ExportProgress, FailedRun, GoodRun, LastOutcome, Membership, OutcomeResult};
use crate::watch::NextRun;

/// The narrowest column of ids.
const ID_MIN: usize = 16;
/// The narrowest columns of names, ages and next runs.
const NAME_MIN: usize = 10;

/// One cohort of the config or of the state.
pub(in crate::cli) struct CohortStatusRow {
    pub(in crate::cli) id: CohortId,
    pub(in crate::cli) name: String,
    /// Whether the config declares it. `None`: the config is invalid.
    pub(in crate::cli) is_declared: Option<bool>,
    /// Listed under `removed:`.
    pub(in crate::cli) is_removed: bool,
    /// `None` if nothing was ever sent.
    pub(in crate::cli) recorded: Option<MembershipSize>,
    /// `None` if no run has recorded one.
    pub(in crate::cli) outcome: Option<LastOutcome>,
    /// The valid approvals of a blocked cohort.
    pub(in crate::cli) approvals: Vec<Approval>,
    /// `None` for an orphaned cohort, which no run changes.
    pub(in crate::cli) next_run: Option<NextRun>,
}

/// A recorded membership and its size.
pub(in crate::cli) struct MembershipSize {
    pub(in crate::cli) version: Membership,
    pub(in crate::cli) members: u64,
}

/// One export of the config.
pub(in crate::cli) struct ExportStatusRow<'a> {
    pub(in crate::cli) export: &'a ExportConfig,
    pub(in crate::cli) progress: ExportProgress,
    pub(in crate::cli) outcome: Option<LastOutcome>,
    pub(in crate::cli) next_run: NextRun,
}

/// Everything that `status` shows of cohorts and exports.
pub(in crate::cli) struct StatusReport<'a> {
    pub(in crate::cli) cohorts: Vec<CohortStatusRow>,
    pub(in crate::cli) exports: Vec<ExportStatusRow<'a>>,
    /// Whether a process runs `watch`.
    pub(in crate::cli) is_watched: bool,
    /// The last run, if it failed as a whole.
    pub(in crate::cli) failed_run: Option<&'a FailedRun>,
    /// Why the last outcomes are unknown.
    pub(in crate::cli) outcomes_error: Option<String>,
    pub(in crate::cli) again: &'a SuggestedCommand,
    pub(in crate::cli) now: Timestamp,
}

impl CohortStatusRow {
    fn result(&self) -> Option<OutcomeResult> {
        self.outcome.as_ref().map(|outcome| outcome.result)
    }

    /// Whether an operator should know more than one line of the table.
    fn needs_attention(&self) -> bool {
        let is_unsettled = self.recorded.as_ref().is_some_and(|recorded| {
            recorded.version.in_doubt > 0 || recorded.version.uncertain_until().is_some()
        });
        let is_good = matches!(self.result(), None | Some(OutcomeResult::InSync));
        !is_good || is_unsettled || self.is_orphaned()
    }

    /// Whether no run changes it.
    fn is_orphaned(&self) -> bool {
        self.is_declared == Some(false) && !self.is_removed
    }

    fn members(&self) -> String {
        self.recorded.as_ref().map_or_else(|| "–".to_owned(), |recorded| count(recorded.members))
    }
}

impl StatusReport<'_> {
    /// The text, fitted to a width.
    pub(in crate::cli) fn lines(&self, width: Option<usize>) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(error) = &self.outcomes_error {
            let text = format!("the last outcomes are unknown until the next run: {}", escaped(error));
            lines.push(format!("{} {text}", yellow("!")));
        }
        if let Some(FailedRun { command, at, error, .. }) = self.failed_run {
            let at = time_text(at.0);
            lines.push(format!("{} the last run failed: {command}, {at}", red("!")));
            lines.push(format!("    {}", escaped(error)));
        }
        let (attention, quiet): (Vec<_>, Vec<_>) = self.cohorts.iter().partition(|row| row.needs_attention());
        attention.into_iter().for_each(|row| self.attention(row, &mut lines));
        let mut section = |new: Vec<String>| {
            if !new.is_empty() && !lines.is_empty() {
                lines.push(String::new());
            }
            lines.extend(new);
        };
        section(self.table(&quiet, width));
        section(self.exports.iter().flat_map(|row| self.export(row)).collect());
        lines
    }

    /// A cohort with everything that explains its state, and the command that changes it.
    fn attention(&self, row: &CohortStatusRow, lines: &mut Vec<String>) {
        // A cohort in an attribute has no name in the state.
        let name = if row.name.is_empty() { String::new() } else { format!("  \"{}\"", escaped(&row.name)) };
        let head = format!("{}{name}", bold(row.id.as_str()));
        lines.push(format!("{} {head}: {}", yellow("!"), self.condition(row)));
        let mut detail = |text: String| lines.push(format!("    {text}"));
        let outcome = row.outcome.as_ref().filter(|outcome| outcome.result != OutcomeResult::InSync);
        if let Some(reason) = outcome.and_then(|outcome| outcome.reason.as_ref()) {
            detail(escaped(reason).into_owned());
        }
        if let Some(MembershipSize { version, members }) = &row.recorded {
            let target = format!("in {} ({})", version.workspace.connection, version.workspace.endpoint);
            detail(format!("{} {target}", counted(*members, "member")));
            if version.in_doubt > 0 {
                let rows = count(version.in_doubt);
                detail(format!("{} {rows} in doubt; the next run settles them", yellow("!")));
            }
            if let Some(until) = version.uncertain_until() {
                detail(format!("{} {}", yellow("!"), uncertain_line(until)));
            }
            if version.protected {
                detail("protected".to_owned());
            }
        }
        if !row.is_orphaned() {
            detail(format!("last good run: {}", self.good_run(row.outcome.as_ref())));
        }
        self.approvals(row).into_iter().for_each(&mut detail);
        let next = row.next_run.filter(|next| *next != NextRun::OnCommand);
        next.into_iter().for_each(|next| detail(format!("next run: {}", next_words(next, self.now))));
    }

    /// `blocked since 2026-11-28 06:30 UTC`.
    fn condition(&self, row: &CohortStatusRow) -> String {
        if row.is_orphaned() {
            return "orphaned, not in the config, its members stay in Braze".to_owned();
        }
        let since = |since: Timestamp| format!("since {} ({})", time_text(since), age_text(since, self.now));
        let Some(outcome) = &row.outcome else { return "a run was interrupted".to_owned() };
        match outcome.result {
            OutcomeResult::Blocked => {
                let began = outcome.blocked_since().unwrap_or(outcome.since);
                format!("{} {}", yellow("blocked"), since(began.0))
            }
            OutcomeResult::Failed => format!("{} {}", red("failed"), since(outcome.since.0)),
            OutcomeResult::Waiting => format!("waits {}", since(outcome.since.0)),
            OutcomeResult::Stopped => format!("{} {}", yellow("stopped"), since(outcome.since.0)),
            OutcomeResult::InSync => "not settled".to_owned(),
            OutcomeResult::Unknown => "unknown to this version of the program".to_owned(),
        }
    }

    /// The pending approvals, or the command that approves the blocked plan.
    fn approvals(&self, row: &CohortStatusRow) -> Vec<String> {
        let Some(outcome) = row.outcome.as_ref() else { return Vec::new() };
        let blocked = outcome.plan.as_ref().filter(|_| outcome.result == OutcomeResult::Blocked);
        let line = |approval: &Approval| {
            let until = time_text(approval.expires_at());
            let words = approval_words(&approval.by, approval.reason.as_deref());
            match blocked == Some(&approval.plan) {
                true => format!("approved until {until}{words}; the next run applies it"),
                false => format!("another plan is approved until {until}{words} {}", dim(&approval.plan)),
            }
        };
        let mut lines: Vec<String> = row.approvals.iter().map(line).collect();
        let is_pending = row.approvals.iter().any(|approval| blocked == Some(&approval.plan));
        let command = blocked.filter(|_| !is_pending).and_then(|plan| plan.parse().ok());
        lines.extend(
            command
                .map(|plan| format!("to approve exactly this plan: {}", self.again.approve(&row.id, plan))),
        );
        lines
    }

    fn good_run(&self, outcome: Option<&LastOutcome>) -> String {
        match outcome.and_then(|outcome| outcome.good_run.as_ref()) {
            Some(GoodRun { at, .. }) => format!("{}, {}", time_text(at.0), age_text(at.0, self.now)),
            None => "none recorded".to_owned(),
        }
    }

    /// One line for each cohort that needs nothing.
    fn table(&self, rows: &[&CohortStatusRow], width: Option<usize>) -> Vec<String> {
        if rows.is_empty() {
            return Vec::new();
        }
        let column = |cell: &dyn Fn(&CohortStatusRow) -> String| rows.iter().map(|row| cell(row)).collect();
        let good = |row: &CohortStatusRow| Some(row.outcome.as_ref()?.good_run.as_ref()?.at.0);
        let at = |row: &CohortStatusRow| match (good(row), &row.recorded) {
            (Some(at), _) => time_short(at),
            (None, None) => "nothing sent yet".to_owned(),
            (None, Some(_)) => "not recorded".to_owned(),
        };
        let age = |row: &CohortStatusRow| good(row).map(|at| age_text(at, self.now)).unwrap_or_default();
        let mut columns = vec![
            TableColumn::new("cohort", column(&|row| row.id.to_string()), ColumnFit::CutTo(ID_MIN)),
            TableColumn::new(
                "name",
                column(&|row| escaped(&row.name).into_owned()),
                ColumnFit::Optional { rank: 2, min: NAME_MIN },
            ),
            TableColumn::of_numbers("members", column(&CohortStatusRow::members)),
            TableColumn::new("last good run", column(&at), ColumnFit::Whole),
            TableColumn::new("", column(&age), ColumnFit::Optional { rank: 1, min: NAME_MIN }),
        ];
        if self.is_watched {
            let next = |row: &CohortStatusRow| {
                row.next_run.map(|next| next_short(next, self.now)).unwrap_or_default()
            };
            columns.push(TableColumn::new("next run", column(&next), ColumnFit::Whole));
        }
        let mut lines = table(columns, width);
        if let Some(header) = lines.first_mut() {
            *header = dim(header);
        }
        lines.extend(marked("protected", rows, |recorded| recorded.version.protected));
        lines
    }

    fn export(&self, row: &ExportStatusRow<'_>) -> Vec<String> {
        let mut lines = super::export::status_lines(row.export, &row.progress);
        if let Some(outcome) = row.outcome.as_ref().filter(|outcome| outcome.result != OutcomeResult::InSync)
        {
            let since = time_text(outcome.since.0);
            let reason = outcome.reason.as_deref().unwrap_or_default();
            let word = match outcome.result {
                OutcomeResult::Stopped => yellow("! stopped since"),
                _ => red("! failed since"),
            };
            lines.push(format!("    {word} {since}: {}", escaped(reason)));
        }
        if row.outcome.is_some() {
            lines.push(format!("    last good run: {}", self.good_run(row.outcome.as_ref())));
        }
        if row.next_run != NextRun::OnCommand {
            lines.push(format!("    next run: {}", next_words(row.next_run, self.now)));
        }
        lines
    }

    /// `60 cohorts: 57 in sync, 2 blocked, 1 failed`, and how the next run starts.
    pub(in crate::cli) fn summary(&self) -> Vec<String> {
        let with =
            |result: OutcomeResult| self.cohorts.iter().filter(|row| row.result() == Some(result)).count();
        let parts: Vec<String> = [
            (OutcomeResult::InSync, "in sync"),
            (OutcomeResult::Blocked, "blocked"),
            (OutcomeResult::Failed, "failed"),
            (OutcomeResult::Stopped, "stopped"),
            (OutcomeResult::Waiting, "waiting"),
        ]
        .into_iter()
        .map(|(result, word)| (with(result) as u64, word))
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{} {word}", count(number)))
        .collect();
        let cohorts = counted(self.cohorts.len() as u64, "cohort");
        let head = match parts.is_empty() {
            true => format!("{cohorts}."),
            false => format!("{cohorts}: {}.", parts.join(", ")),
        };
        let next = match self.is_watched {
            true => "`watch` runs: a change of a source starts a run earlier.".to_owned(),
            false => format!("Next run: when you run `{}`.", self.again.command("reconcile")),
        };
        vec![head, "Times are in UTC.".to_owned(), next]
    }
}

/// The ids with a property, in one line.
fn marked(word: &str, rows: &[&CohortStatusRow], has: impl Fn(&MembershipSize) -> bool) -> Option<String> {
    let ids = rows.iter().filter(|row| row.recorded.as_ref().is_some_and(&has));
    let ids: Vec<&str> = ids.map(|row| row.id.as_str()).collect();
    (!ids.is_empty()).then(|| format!("{word}: {}", ids.join(", ")))
}

fn next_words(next: NextRun, now: Timestamp) -> String {
    match next {
        NextRun::OnCommand => "when you run `syncline reconcile`".to_owned(),
        NextRun::Watched { at: Some(at), .. } if at <= now => "due".to_owned(),
        NextRun::Watched { at: Some(at), on_change: false } => time_text(at),
        NextRun::Watched { at: Some(at), on_change: true } => {
            format!("when its source changes, at the latest {}", time_text(at))
        }
        NextRun::Watched { at: None, on_change: true } => "when its source changes".to_owned(),
        NextRun::Watched { at: None, on_change: false } => "none, by its schedule".to_owned(),
    }
}

fn next_short(next: NextRun, now: Timestamp) -> String {
    match next {
        NextRun::Watched { at: Some(at), .. } if at <= now => "due".to_owned(),
        NextRun::Watched { at: Some(at), .. } => time_short(at),
        NextRun::Watched { at: None, on_change: true } => "on change".to_owned(),
        NextRun::OnCommand | NextRun::Watched { at: None, on_change: false } => "–".to_owned(),
    }
}

/// A cohort as JSON.
pub(in crate::cli) fn cohort_json(row: &CohortStatusRow) -> Value {
    let record = row.recorded.as_ref().map(|MembershipSize { version, members }| {
        json!({
            "version": version.number,
            "written_at": timestamp_text(version.written_at),
            "run": version.run,
            "connection": version.workspace.connection,
            "endpoint": version.workspace.endpoint,
            "name": version.name,
            "members": members,
            "in_doubt": version.in_doubt,
            "uncertain": version.late_members(),
            "uncertain_until": version.uncertain_until().map(timestamp_text),
            "protected": version.protected,
            "parts": version.parts.len(),
        })
    });
    let mut value = json!({
        "id": row.id.as_str(),
        "name": row.name,
        "declared": row.is_declared,
        "membership": record,
        "approvals": row.approvals.iter().map(approval_json).collect::<Vec<_>>(),
    });
    extend(&mut value, outcome_json(row.outcome.as_ref(), row.next_run));
    value
}

/// An export as JSON.
pub(in crate::cli) fn export_json(row: &ExportStatusRow<'_>) -> Value {
    let mut value = super::export::status_json(row.export, &row.progress);
    extend(&mut value, outcome_json(row.outcome.as_ref(), Some(row.next_run)));
    value
}

/// The fields that cohorts and exports have in common.
fn outcome_json(outcome: Option<&LastOutcome>, next_run: Option<NextRun>) -> Value {
    let good = outcome.and_then(|outcome| outcome.good_run.as_ref());
    let next_run = next_run.map(|next| match next {
        NextRun::OnCommand => json!({ "by": "reconcile", "at": null, "on_change": false }),
        NextRun::Watched { at, on_change } => {
            json!({ "by": "watch", "at": at.map(timestamp_text), "on_change": on_change })
        }
    });
    let last = outcome.map(|outcome| {
        json!({
            "result": outcome.result.code(),
            "reason": outcome.reason,
            "run": outcome.run,
            "command": outcome.command,
            "at": timestamp_text(outcome.at.0),
            "since": timestamp_text(outcome.since.0),
            "plan": outcome.plan,
        })
    });
    json!({
        "last_outcome": last,
        "last_good_run": good.map(|good| json!({ "run": good.run, "at": timestamp_text(good.at.0) })),
        "blocked_since": outcome.and_then(LastOutcome::blocked_since).map(|at| timestamp_text(at.0)),
        "next_run": next_run,
    })
}

/// Adds the fields of one object to another.
fn extend(value: &mut Value, more: Value) {
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
}

/// A run that failed as a whole, as JSON.
pub(in crate::cli) fn failed_run_json(failed: &FailedRun) -> Value {
    let FailedRun { run, command, at, error } = failed;
    json!({ "run": run, "command": command, "at": timestamp_text(at.0), "error": error })
}
