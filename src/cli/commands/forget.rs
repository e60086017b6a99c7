//! `forget`: erases a person from every part of the state, and asks Heap to do the same.

use std::sync::Arc;

use serde_json::json;

use crate::cli::args::{ForgetArgs, Format, Global};
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::output::{out, yellow};
use crate::cli::view::json::envelope;
use crate::cli::{access, environment};
use crate::config::Config;
use crate::connector::heap::{DeletionError, Heap};
use crate::export::{Forgotten, forget};
use crate::state::PushdownNote;

pub(in crate::cli) fn run(global: &Global, args: &ForgetArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let id = args.identifier.trim();
    if id.is_empty() {
        return Err(CommandError::new(Exit::Usage, "an empty identifier names nobody"));
    }
    let state = Arc::new(super::writer(&config)?);
    let labels: Vec<&str> =
        config.cohorts.iter().flat_map(|cohort| &cohort.rules).map(|rule| &*rule.label).collect();
    let forgotten = forget(&state, id, &labels)?;
    let asked = args.heap.as_deref().map(|heap| ask(&config, heap, id)).transpose()?;
    out(&match args.format {
        Format::Human => human(&forgotten, asked.as_deref(), args.heap.as_deref()),
        Format::Json => to_json(&forgotten, asked.as_deref()),
    })?;
    Ok(Exit::Done)
}

/// Asks Heap to delete a user. Heap's name of the request.
fn ask(config: &Config, name: &str, id: &str) -> Result<String, CommandError> {
    let found = config.heap.iter().find(|(known, _)| known.as_str() == name);
    let Some((name, settings)) = found else {
        let unknown = CommandError::new(Exit::Usage, format!("the config has no Heap connection `{name}`"));
        return Err(unknown.hint("what this machine knew is erased; Heap was not asked"));
    };
    let key = access::api_key(name, settings)?;
    super::runtime()?.block_on(async {
        let sandboxes = access::Sandboxes::default();
        let ids = access::app_id(name, settings)?.map(|id| (name.clone(), id)).into_iter().collect();
        let reached = sandboxes.reach_heaps(config, &ids, |wanted| wanted == name).await?;
        let Some(access) = reached.get(name) else {
            return Err(CommandError::new(Exit::Credentials, format!("connection `{name}` lacks `app_id`")));
        };
        let heap = Heap::new(settings, &access.base, &access.app_id, environment::clock())?;
        heap.deletion(&key).ask(&[id]).await.map_err(|error| not_asked(&error))
    })
}

fn not_asked(error: &DeletionError) -> CommandError {
    let exit = match error {
        DeletionError::Unauthorized(_) => Exit::Credentials,
        DeletionError::Http(_) => Exit::Unavailable,
        DeletionError::Unexpected(..) | DeletionError::TooMany => Exit::Failed,
    };
    let failed = CommandError::new(exit, error.to_string());
    failed.hint("what this machine knew is erased; run it again to ask Heap once more")
}

fn human(forgotten: &Forgotten, asked: Option<&str>, heap: Option<&str>) -> String {
    let mut lines: Vec<String> = [
        (forgotten.identity, "entry", "entries", "of the identity map"),
        (forgotten.waiting, "event", "events", "that waited"),
        (forgotten.inbox, "event", "events", "in the inbox"),
        (forgotten.rejects, "reject", "rejects", ""),
        (forgotten.actions, "entry", "entries", "of actions and of people unknown to Braze"),
    ]
    .into_iter()
    .filter(|(number, ..)| *number > 0)
    .map(|(number, one, many, what)| {
        format!("erased {number} {} {what}", if number == 1 { one } else { many })
    })
    .map(|line| line.trim_end().to_owned())
    .collect();
    if forgotten.is_nothing() {
        lines.push("nothing to erase".to_owned());
    }
    for cohort in &forgotten.cohorts {
        lines.push(format!(
            "{} cohort {cohort} has them in its record, and Braze in the cohort: take them out of its source, and \
             the next pass removes them",
            yellow("!")
        ));
    }
    for (cohort, note) in &forgotten.tables {
        let PushdownNote { connection, schema, table, .. } = note;
        lines.push(format!(
            "{} table {schema}.{table} in connection {connection} may have them, as long as the record of {cohort} has: the \
             pass that removes them takes them out, and whoever drops the table loses nothing",
            yellow("!")
        ));
    }
    for (heap, segment) in &forgotten.segments {
        lines.push(format!("{} Heap `{heap}` has told that they are in segment {segment}", yellow("!")));
    }
    lines.extend(
        asked
            .zip(heap)
            .map(|(request, heap)| format!("asked Heap `{heap}` to delete them: request {request}")),
    );
    lines.join("\n")
}

fn to_json(forgotten: &Forgotten, asked: Option<&str>) -> String {
    let cohorts: Vec<&str> = forgotten.cohorts.iter().map(crate::model::CohortId::as_str).collect();
    let segments: Vec<_> = forgotten
        .segments
        .iter()
        .map(|(heap, segment)| json!({ "connection": heap.as_str(), "segment": segment }))
        .collect();
    let tables: Vec<_> = forgotten
        .tables
        .iter()
        .map(|(cohort, note)| {
            let table = format!("{}.{}", note.schema, note.table);
            json!({ "cohort": cohort.as_str(), "connection": note.connection, "table": table })
        })
        .collect();
    let details = json!({
        "erased": {
            "identity": forgotten.identity, "waiting": forgotten.waiting,
            "inbox": forgotten.inbox, "rejects": forgotten.rejects,
            "actions": forgotten.actions,
        },
        "cohorts": cohorts,
        "tables": tables,
        "segments": segments,
        "heap_request": asked,
    });
    envelope("forget", if forgotten.is_nothing() { "nothing" } else { "erased" }, &details)
}
