//! `import`: writes YAML for cohorts that the config lacks, from delivered Heap segments, SQL tables and orphaned
//! cohorts. It never overwrites a file.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use crate::cli::discovered::Candidates;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::find_args::ImportTablesArgs;
use crate::cli::global_args::Global;
use crate::cli::logging::notify;
use crate::cli::output::{count, counted, out};
use crate::config::Config;
use crate::file_glob::{Glob, KeyMatch, is_glob};
use crate::reconcile::{self, OrphanedCohort};
use crate::state::StateReader;

pub(in crate::cli) fn run(global: &Global, args: &ImportTablesArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let state = super::reader(&config)?;
    let mut candidates = Candidates::new(&config, state.cohorts()?.into_iter());
    segments(&config, &state, &mut candidates)?;
    for name in config.sql.keys() {
        super::discover::tables(&config, name, &mut candidates)?;
    }
    let left = reconcile::orphaned(&config, &state)?;
    let found = candidates.list.len() as u64;
    if found == 0 && left.is_empty() {
        notify("found nothing that is missing in the config");
        return Ok(Exit::Done);
    }
    let mut text = if found > 0 { candidates.yaml()? } else { String::new() };
    left.iter().for_each(|left| text.push_str(&orphan_comment(left)));
    let Some(path) = &args.out else {
        out(&text)?;
        return Ok(Exit::Done);
    };
    write_new(path, &text)?;
    let cohorts = counted(found, "cohort");
    notify(&format!("wrote {}: {cohorts} to review; delete those that you do not want", path.display()));
    if !config.includes.iter().any(|pattern| includes(&config.folder, pattern, path)) {
        notify(&format!("to use it, add it to the config: `include: [{}]`", path.display()));
    }
    Ok(Exit::Done)
}

/// Segments that no cohort names.
fn segments(config: &Config, state: &StateReader, candidates: &mut Candidates) -> Result<(), CommandError> {
    for heap in config.heap.keys() {
        for (id, segment) in &state.segments(heap)?.by_id {
            if !config.cohorts.iter().any(|cohort| cohort.source.segment_of(heap) == Some(*id)) {
                candidates.segment(heap, *id, &segment.name);
            }
        }
    }
    Ok(())
}

/// A YAML comment about an orphaned cohort. Its source is not recorded.
fn orphan_comment(left: &OrphanedCohort) -> String {
    let OrphanedCohort { id, connection, members, .. } = left;
    let members = members.map_or_else(|| "its members".to_owned(), |members| count(members) + " members");
    format!(
        "# `{id}` is only in the state, with {members} in `{connection}`. Declare it again with its source, or empty it:\n\
         # removed:\n#   - {{ cohort: {id}, members: remove }}\n"
    )
}

/// Whether `include:` names a path. Both are relative to other folders, so they are compared where they are.
fn includes(folder: &Path, pattern: &str, path: &Path) -> bool {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let (Ok(folder), Ok(path)) = (std::path::absolute(folder), std::path::absolute(path)) else {
        return false;
    };
    let Some(below) = path.strip_prefix(folder).ok().and_then(Path::to_str) else { return false };
    match Glob::path(pattern.trim_start_matches("./")) {
        Ok(glob) if is_glob(pattern) => glob.match_key(below) == KeyMatch::Named,
        _ => Path::new(pattern.trim_start_matches("./")) == Path::new(below),
    }
}

fn write_new(path: &Path, text: &str) -> Result<(), CommandError> {
    let failed = |e: std::io::Error| {
        let failed = CommandError::new(Exit::Failed, format!("cannot write {}: {e}", path.display()));
        match e.kind() {
            ErrorKind::AlreadyExists => failed.hint("nothing was changed; choose another name with --out"),
            _ => failed,
        }
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|e| {
            CommandError::new(Exit::Failed, format!("cannot create folder {}: {e}", folder.display()))
        })?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}
