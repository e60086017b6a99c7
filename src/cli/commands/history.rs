//! `history`: earlier runs, from the journal.

use serde_json::json;

use crate::cli::args::HistoryArgs;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::{Global, OutputFormat};
use crate::cli::output::{bold, count, counted, dim, out, red, wrapped};
use crate::cli::render::json::envelope;
use crate::foreign::escaped;
use crate::state::{JournalEvent, RunRecord};

pub(in crate::cli) fn run(global: &Global, args: &HistoryArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let mut runs = super::reader(&config)?.runs(args.limit)?;
    // Cohorts write concurrently, so entries are sorted by time. The sort is stable.
    runs.iter_mut().for_each(|run| run.entries.sort_by(|a, b| a.at.cmp(&b.at)));
    out(&match args.format {
        OutputFormat::Human if runs.is_empty() => "No run yet.".to_owned(),
        OutputFormat::Human => wrapped(&runs.iter().map(human).collect::<Vec<_>>().join("\n")),
        OutputFormat::Json => {
            let runs: Vec<serde_json::Value> = runs.iter().map(to_json).collect();
            envelope("history", "history", &json!({ "runs": runs }))
        }
    })?;
    Ok(Exit::Done)
}

/// A run without an end was killed, or is still running.
fn result(run: &RunRecord) -> &str {
    let end = run.entries.iter().rev().find_map(|entry| match &entry.event {
        JournalEvent::Ended { result, .. } => Some(result.as_str()),
        _ => None,
    });
    end.unwrap_or("interrupted")
}

fn human(run: &RunRecord) -> String {
    let began = run.entries.first().map_or("", |entry| entry.at.as_str());
    let requests = run
        .entries
        .iter()
        .filter(|entry| matches!(entry.event, JournalEvent::Sent { .. } | JournalEvent::Posted { .. }))
        .count() as u64;
    let mut lines = vec![format!(
        "{}  {}, {}  {}",
        bold(began),
        result(run).replace('_', " "),
        counted(requests, "request"),
        dim(&run.run)
    )];
    for entry in &run.entries {
        if let JournalEvent::Exported { export, files, events, sent, rejected, waiting, error } = &entry.event
        {
            let mut line = format!("  {export}: {} sent of {} read", counted(*sent, "event"), count(*events));
            let more = [(*files, "files read"), (*rejected, "rejected"), (*waiting, "waiting")];
            for (number, what) in more.into_iter().filter(|(number, _)| *number > 0) {
                line.push_str(&format!(", {} {what}", count(number)));
            }
            if let Some(error) = error {
                line.push_str(&format!("; {} {}", red("stopped:"), escaped(error)));
            }
            lines.push(line);
            continue;
        }
        let JournalEvent::Finished { cohort, added, removed, rejected, in_doubt, error } = &entry.event
        else {
            continue;
        };
        let mut line = format!("  {cohort}: added {}, removed {}", count(*added), count(*removed));
        if *rejected > 0 {
            line.push_str(&format!(", {} rejected by Braze", count(*rejected)));
        }
        if *in_doubt > 0 {
            line.push_str(&format!(", {} in doubt", count(*in_doubt)));
        }
        if let Some(error) = error {
            line.push_str(&format!("; {} {}", red("stopped:"), escaped(error)));
        }
        lines.push(line);
    }
    lines.join("\n")
}

fn to_json(run: &RunRecord) -> serde_json::Value {
    json!({ "run": run.run, "result": result(run), "entries": run.entries })
}
