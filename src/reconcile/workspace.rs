//! Whether a connection's keys are those of the workspace that the state is about.
//!
//! The record says endpoint, partner and connection, which two workspaces of one company may share. What tells
//! them apart is the data import key, of which the state remembers a fingerprint: see [`crate::state::Marks`].

use crate::apply::Halt;
use crate::config::Config;
use crate::connector::braze::{Braze, KeyKind};
use crate::model::{ConnectionName, Timestamp};
use crate::state::{Marks, StateError, StateReader, StateWriter};

/// A connection by the name that it has, and by those that it had.
pub(super) fn names<'a>(
    config: &'a Config,
    name: &'a ConnectionName,
) -> impl Iterator<Item = &'a ConnectionName> {
    let formerly = config.braze.get(name).map(|braze| braze.formerly.as_slice()).unwrap_or_default();
    std::iter::once(name).chain(formerly)
}

/// Why nothing may be sent with these keys, if it may not. Nothing is known of a state that has never sent, or
/// not since it remembers.
pub(super) fn refusal(
    config: &Config,
    name: &ConnectionName,
    braze: &Braze,
    state: &StateReader,
) -> Result<Option<Halt>, StateError> {
    let marks = state.marks(names(config, name))?;
    let is_other = marks.is_some_and(|marks| {
        let known = marks.keys.get(KeyKind::DataImport.word());
        known.is_some_and(|known| *known != braze.mark(&marks.salt))
    });
    Ok(is_other.then(|| Halt::OtherWorkspace(name.to_string())))
}

/// Remembers the key with which Braze has taken something, if none is remembered yet.
pub(super) fn adopt(
    config: &Config,
    name: &ConnectionName,
    braze: &Braze,
    state: &StateWriter,
    now: Timestamp,
) -> Result<(), StateError> {
    let known = state.reader().marks(names(config, name))?;
    if known.as_ref().is_some_and(|marks| marks.keys.contains_key(KeyKind::DataImport.word())) {
        return Ok(());
    }
    let mut marks = match known {
        Some(marks) => marks.next(now),
        None => Marks::first(now)?,
    };
    marks.keys.insert(KeyKind::DataImport.word().to_owned(), braze.mark(&marks.salt));
    state.adopt(name, &marks)
}
