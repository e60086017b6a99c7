//! `state adopt`: records that the keys of a connection belong to the workspace of the state. It needs no lease on the
//! state, so it works while `watch` runs.

use serde_json::{Value, json};

use crate::cli::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::output::green;
use crate::cli::{access, workspace};
use crate::config::Config;
use crate::connector::braze::BrazeKeyKind;
use crate::model::ConnectionName;
use crate::state::{AdoptedKeys, KeyFingerprints, StateError};

pub(super) fn adopt(config: &Config, name: &ConnectionName) -> Result<(String, Value, Exit), CommandError> {
    let Some(braze) = config.braze.get(name) else {
        let known = config.braze.keys().map(ConnectionName::as_str);
        return Err(super::unknown("the config", "Braze connection", name.as_str(), known));
    };
    if config.is_in_sandbox(name) {
        let sandbox = CommandError::new(
            Exit::Usage,
            format!("connection `{name}` is the sandbox inside the program, which has no keys to adopt"),
        );
        return Err(sandbox.hint("name the environment of the workspace with --env"));
    }
    let state = super::reader(config)?;
    if !state.exists() {
        let none = CommandError::new(Exit::Usage, "there is no state yet, so no keys are recorded");
        return Err(none.hint("the first successful run records its keys"));
    }
    let keys = access::workspace_keys(name, braze)?;
    let now = environment::clock().now();
    let adoptions = AdoptedKeys::open(&super::location(config))?;
    let mut damaged = None;
    let mut marks = match workspace::marks_of(name, braze, &state) {
        Ok(Some(marks)) => marks.next(now),
        Ok(None) => KeyFingerprints::first(now)?,
        // The newest fingerprints are damaged or missing, so they are replaced.
        Err(error) if error.is_of_one_file() => {
            let newest = adoptions.newest_number(name)?;
            let committed = if let StateError::Older { committed: known, .. } = error { known } else { 0 };
            damaged = matches!(error, StateError::Damaged { .. }).then_some(newest);
            KeyFingerprints { number: newest.max(committed) + 1, ..KeyFingerprints::first(now)? }
        }
        Err(error) => return Err(error.into()),
    };
    let mut adopted = Vec::new();
    let kinds = [(BrazeKeyKind::DataImport, keys.data_import), (BrazeKeyKind::Rest, keys.rest)];
    for (kind, key) in kinds.into_iter().filter_map(|(kind, key)| Some((kind, key?))) {
        let mark = workspace::mark_of(&marks, kind, &key);
        let is_new = marks.keys.insert(kind.code().to_owned(), mark.clone()) != Some(mark);
        adopted.extend(is_new.then_some(kind.code()));
    }
    if !adopted.is_empty() && !adoptions.adopt(name, &marks)? {
        return Err(CommandError::new(
            Exit::Failed,
            "another process adopted keys at the same time; try again",
        ));
    }
    if let Some(number) = damaged.filter(|_| !adopted.is_empty()) {
        adoptions.remove_damaged(name, number)?;
    }
    let text = if adopted.is_empty() {
        format!("the keys of {name} are already recorded in this state")
    } else {
        format!(
            "{} the keys of {name}: {}; this state now accepts them",
            green("adopted"),
            adopted.join(", ")
        )
    };
    Ok((text, json!({ "connection": name.as_str(), "adopted": adopted }), Exit::Done))
}
