//! Several runs → one: of each key what the latest run says, if it is kept. It decides neither when nor what.

use super::known::{Known, MapKey};
use super::run::{Entries, MapRun, MapWriter};
use crate::state::StateError;
use crate::state::sealed::SealedFile;
use crate::state::store::Store;

struct Cursor<'a> {
    entries: Entries<'a>,
    head: Option<(MapKey, Known)>,
}

/// Merges runs, the oldest first. The new run, if anything was kept, and how many entries were not.
pub(super) fn merged(
    store: &Store,
    runs: &[MapRun],
    keeps: &dyn Fn(MapKey, &Known) -> bool,
) -> Result<(Option<SealedFile>, u64), StateError> {
    let mut cursors: Vec<Cursor<'_>> = Vec::new();
    for run in runs {
        let mut entries = run.entries();
        let head = entries.advance()?;
        cursors.push(Cursor { entries, head });
    }
    let (mut writer, mut rows, mut erased) = (MapWriter::create(store)?, 0u64, 0);
    while let Some(key) = cursors.iter().filter_map(|cursor| cursor.head.as_ref().map(|head| head.0)).min() {
        let mut last = None;
        for cursor in &mut cursors {
            if cursor.head.as_ref().is_some_and(|head| head.0 == key) {
                last = std::mem::replace(&mut cursor.head, cursor.entries.advance()?);
            }
        }
        match last {
            Some((_, known)) if keeps(key, &known) => {
                writer.push(key, &known)?;
                rows += 1;
            }
            _ => erased += 1,
        }
    }
    let file = if rows == 0 { None } else { Some(writer.finish()?) };
    Ok((file, erased))
}
