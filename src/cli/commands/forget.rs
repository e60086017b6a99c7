//! `forget`: erases a user from every file of the state, and asks Heap to do the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::cli::args::ForgetArgs;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::{Global, OutputFormat};
use crate::cli::output::{counted, out, wrapped, yellow};
use crate::cli::render::json::envelope;
use crate::cli::suggested_command::SuggestedCommand;
use crate::cli::{access, environment};
use crate::config::{Config, HeapConfig as Settings, Secret};
use crate::connector::heap::{DeletionError, HeapClient};
use crate::connector::http::HttpError;
use crate::erasure::{ErasureReport, forget};
use crate::model::{CohortId, ConnectionName, timestamp_text};
use crate::state::{ErasedFile, LEASE_ENDED, MirrorNote, StateWriter};

pub(in crate::cli) fn run(global: &Global, args: &ForgetArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let id = args.identifier.trim();
    if id.is_empty() {
        return Err(CommandError::new(Exit::Usage, "the identifier is empty"));
    }
    // Errors that would prevent the request to Heap are found before anything is erased.
    let deletion = args.heap.as_deref().map(|heap| PreparedDeletion::prepare(&config, heap)).transpose()?;
    if let Some(deletion) = deletion.as_ref().filter(|_| !args.yes) {
        let name = deletion.name;
        let unconfirmed = format!(
            "nothing was erased: `forget --heap {name}` erases the user from the state and asks Heap `{name}` to delete the \
             user with all events, which cannot be undone"
        );
        let again = SuggestedCommand::new(global).command("forget");
        return Err(CommandError::new(Exit::Usage, unconfirmed)
            .hint(format!("to do it: {again} IDENTIFIER --heap {name} --yes")));
    }
    let state = Arc::new(super::writer(&config)?);
    let forgotten = forget(&state, id, environment::clock().now())?;
    let is_erased = forgotten.member_of.is_empty();
    let asked = deletion.filter(|_| is_erased).map(|deletion| deletion.ask(&config, &state, id)).transpose();
    let request = asked.as_ref().ok().and_then(Option::as_deref);
    out(&match args.format {
        OutputFormat::Human => wrapped(&human(&forgotten, request, args.heap.as_deref())),
        OutputFormat::Json => to_json(&forgotten, request),
    })?;
    asked?;
    Ok(match (is_erased, forgotten.is_left()) {
        (false, _) => Exit::Blocked,
        (true, true) => Exit::Part,
        (true, false) => Exit::Done,
    })
}

/// A request to delete a user in Heap, with what it needs.
struct PreparedDeletion<'a> {
    name: &'a ConnectionName,
    settings: &'a Settings,
    key: Secret,
    app_ids: BTreeMap<ConnectionName, String>,
}

impl<'a> PreparedDeletion<'a> {
    fn prepare(config: &'a Config, name: &str) -> Result<Self, CommandError> {
        let found = config.heap.iter().find(|(known, _)| known.as_str() == name);
        let Some((name, settings)) = found else {
            let unknown = format!("the config has no Heap connection `{name}`");
            return Err(CommandError::new(Exit::Usage, unknown).hint("nothing was erased"));
        };
        let key = access::api_key(name, settings).map_err(|error| error.hint("nothing was erased"))?;
        let app_ids = access::app_id(name, settings)?.map(|id| (name.clone(), id)).into_iter().collect();
        Ok(Self { name, settings, key, app_ids })
    }

    /// Asks Heap to delete a user. Returns Heap's id of the request, which ends with the lease on the state at the latest.
    fn ask(&self, config: &Config, state: &StateWriter, id: &str) -> Result<String, CommandError> {
        super::runtime()?.block_on(async {
            let sandboxes = access::Sandboxes::default();
            let reached = sandboxes.reach_heaps(config, &self.app_ids, |wanted| wanted == self.name).await?;
            let Some(access) = reached.get(self.name) else {
                let lacks = format!("connection `{}` lacks `app_id`", self.name);
                return Err(CommandError::new(Exit::Credentials, lacks).hint(ONLY_ERASED));
            };
            let heap = HeapClient::new(self.settings, &access.base, &access.app_id, environment::clock())?;
            let deletion = heap.deletion(&self.key);
            let response = state.within_lease(deletion.request(&[id])).await;
            let ended = || Err(HttpError::NoAnswer(LEASE_ENDED.to_owned()).into());
            response.unwrap_or_else(ended).map_err(|error| request_error(&error))
        })
    }
}

const NO_ANSWER: &str = "the user is erased from the state, but it is unknown whether Heap received the request. Run the command again to send it";
const ONLY_ERASED: &str =
    "the user is erased from the state, but no request was sent to Heap. Run the command again to send it";

fn request_error(error: &DeletionError) -> CommandError {
    let exit = match error {
        DeletionError::Unauthorized(_) => Exit::Credentials,
        DeletionError::Http(_) => Exit::Unavailable,
        DeletionError::Unexpected(..) | DeletionError::TooMany => Exit::Failed,
    };
    let hint =
        if matches!(error, DeletionError::Http(HttpError::NoAnswer(_))) { NO_ANSWER } else { ONLY_ERASED };
    CommandError::new(exit, error.to_string()).hint(hint)
}

fn human(forgotten: &ErasureReport, request: Option<&str>, heap: Option<&str>) -> String {
    if !forgotten.member_of.is_empty() {
        return not_erased(forgotten);
    }
    let mut lines = erased(forgotten);
    for (heap, segment) in &forgotten.listed {
        lines.push(format!(
            "{} segment {segment} of Heap `{heap}` listed the user: Heap may send the user again until the user \
             has left the segment",
            yellow("!")
        ));
    }
    for (cohort, until) in &forgotten.late {
        lines.push(format!(
            "{} left in cohort {cohort}: a request without an answer may still add the user, until {}; the first run \
             after that settles it. Then run `forget` again",
            yellow("!"),
            timestamp_text(*until)
        ));
    }
    for (cohort, note) in &forgotten.tables {
        let MirrorNote { connection, schema, table, .. } = note;
        lines.push(format!(
            "{} may be left in table {schema}.{table} of connection {connection}, which is not up to date with cohort {cohort}, \
             until the next run rebuilds it or you drop it. Then run `forget` again",
            yellow("!")
        ));
    }
    lines.extend(
        request
            .zip(heap)
            .map(|(request, heap)| format!("asked Heap `{heap}` to delete the user: request {request}")),
    );
    lines.join("\n")
}

fn not_erased(forgotten: &ErasureReport) -> String {
    let cohorts: Vec<&str> = forgotten.member_of.iter().map(CohortId::as_str).collect();
    let (noun, cohorts) = (if cohorts.len() == 1 { "cohort" } else { "cohorts" }, cohorts.join(", "));
    format!(
        "{} not erased: the user is a member of {noun} {cohorts}, or in doubt there. Nothing was changed.\nRemove the user \
         from the source first, then `reconcile`, which removes the user from Braze, then run `forget` again",
        yellow("!")
    )
}

/// What was erased, and the files.
fn erased(forgotten: &ErasureReport) -> Vec<String> {
    if forgotten.is_nothing() {
        return vec!["nothing to erase".to_owned()];
    }
    let mut lines: Vec<String> = counts(forgotten)
        .into_iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, one, many, what)| {
            let noun = if number == 1 { one } else { many };
            format!("erased {number} {noun} {what}").trim_end().to_owned()
        })
        .collect();
    let entries = forgotten.files.iter().filter_map(|file| Some((&file.path, file.entries?)));
    lines.extend(entries.map(|(path, entries)| format!("    {entries}  {path}")));
    let superseded = forgotten.files.iter().filter(|file| file.entries.is_none()).count();
    if superseded > 0 {
        lines.push(format!("removed {}", counted(superseded as u64, "superseded file")));
    }
    lines
}

fn counts(forgotten: &ErasureReport) -> [(u64, &'static str, &'static str, &'static str); 7] {
    [
        (forgotten.members, "entry", "entries", "of recorded memberships"),
        (forgotten.segments, "entry", "entries", "of segment tables"),
        (forgotten.identity, "entry", "entries", "of the identity map"),
        (forgotten.waiting, "event", "events", "that waited"),
        (forgotten.inbox, "event", "events", "in the inbox"),
        (forgotten.rejects, "reject", "rejects", ""),
        (forgotten.triggers, "entry", "entries", "of triggers and unknown users"),
    ]
}

fn to_json(forgotten: &ErasureReport, request: Option<&str>) -> String {
    let member_of: Vec<&str> = forgotten.member_of.iter().map(CohortId::as_str).collect();
    let listed = forgotten
        .listed
        .iter()
        .map(|(heap, segment)| json!({ "connection": heap.as_str(), "segment": segment }));
    let late = forgotten
        .late
        .iter()
        .map(|(cohort, until)| json!({ "cohort": cohort.as_str(), "until": timestamp_text(*until) }));
    let tables = forgotten.tables.iter().map(|(cohort, note)| {
        let table = format!("{}.{}", note.schema, note.table);
        json!({ "cohort": cohort.as_str(), "connection": note.connection, "table": table })
    });
    let (files, superseded): (Vec<&ErasedFile>, Vec<&ErasedFile>) =
        forgotten.files.iter().partition(|file| file.entries.is_some());
    let files = files.iter().map(|file| json!({ "path": file.path, "entries": file.entries }));
    let superseded: Vec<&str> = superseded.iter().map(|file| file.path.as_str()).collect();
    let details = json!({
        "erased": {
            "members": forgotten.members, "segments": forgotten.segments, "identity": forgotten.identity,
            "waiting": forgotten.waiting, "inbox": forgotten.inbox, "rejects": forgotten.rejects,
            "triggers": forgotten.triggers,
        },
        "files": files.collect::<Vec<_>>(),
        "superseded": superseded,
        "member_of": member_of,
        "left": { "late": late.collect::<Vec<_>>(), "tables": tables.collect::<Vec<_>>() },
        "listed": listed.collect::<Vec<_>>(),
        "heap_request": request,
    });
    let outcome = match forgotten {
        _ if !forgotten.member_of.is_empty() => "not_erased",
        _ if forgotten.is_left() => "left",
        _ if forgotten.is_nothing() => "nothing",
        _ => "erased",
    };
    envelope("forget", outcome, &details)
}
