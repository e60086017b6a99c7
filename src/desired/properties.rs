//! What a source says of some of its people, beside who they are. It is read once more for them.

use std::collections::{BTreeMap, HashMap};

use super::{DesiredError, From, may_move, rows};
use crate::config::Cohort;
use crate::connector::file::{FileError, Place, Sink};
use crate::matching::Matcher;
use crate::model::{Field, Fields, Identifier};
use crate::state::{Asked, Owners, StateError};

/// Texts by the names of properties.
type Properties = BTreeMap<String, String>;

/// Rows that are put aside until their owners are asked for, many at a time.
const ASIDE_MAX: usize = 20_000;

/// The properties of those who are wanted, by their packed identifiers. `columns` says which column each is from. Of
/// two rows of one person the last one counts.
///
/// # Errors
/// [`DesiredError`] when the source cannot be read in full.
pub fn properties(
    cohort: &Cohort,
    from: From<'_>,
    columns: &BTreeMap<String, String>,
    wanted: impl Fn(Identifier<'_>) -> bool,
) -> Result<HashMap<Box<[u8]>, Properties>, DesiredError> {
    let matcher = Matcher::new(&cohort.rules, cohort.source.null_values(), &cohort.delivery);
    let mut asked: Vec<Box<str>> = matcher.columns().to_vec();
    let mut places = Vec::new();
    for (name, column) in columns {
        let known = asked.iter().position(|known| **known == **column);
        let place = known.unwrap_or_else(|| {
            asked.push(column.as_str().into());
            asked.len() - 1
        });
        places.push((name.as_str(), place));
    }
    let owners = if may_move(cohort) { from.state.owners()? } else { None };
    let mut picker = Picker {
        matcher: &matcher,
        places,
        wanted,
        owners: owners.as_ref(),
        aside: Vec::new(),
        rows: 0,
        packed: Vec::new(),
        found: HashMap::new(),
        failed: None,
    };
    let read = rows(cohort, from, &asked, &mut picker);
    if picker.failed.is_none() {
        read?;
        picker.settle();
    }
    let found = picker.found.into_iter().map(|(who, (_, properties))| (who, properties)).collect();
    picker.failed.map_or(Ok(found), |error| Err(error.into()))
}

struct Picker<'a, W> {
    matcher: &'a Matcher,
    /// The properties, and where they are among the fields.
    places: Vec<(&'a str, usize)>,
    wanted: W,
    owners: Option<&'a Owners>,
    /// Rows of devices and aliases that the identity map may know.
    aside: Vec<(Asked, u64, Box<[u8]>, Properties)>,
    rows: u64,
    packed: Vec<u8>,
    /// What was found, and in which row.
    found: HashMap<Box<[u8]>, (u64, Properties)>,
    failed: Option<StateError>,
}

impl<W: Fn(Identifier<'_>) -> bool> Picker<'_, W> {
    fn properties(&self, fields: &impl Fields) -> Properties {
        let text = |(name, place): &(&str, usize)| match fields.field(*place) {
            Field::Text(bytes) => Some(((*name).to_owned(), std::str::from_utf8(bytes).ok()?.to_owned())),
            Field::Absent | Field::NotText(_) => None,
        };
        self.places.iter().filter_map(text).collect()
    }

    /// Finds the owners of the rows that were put aside.
    fn settle(&mut self) {
        let mut aside = std::mem::take(&mut self.aside);
        aside.sort_unstable();
        let Some(mut answers) = self.owners.map(Owners::answers) else { return };
        for (asked, row, packed, properties) in aside {
            let Ok((who, _)) = Identifier::unpack(&packed) else { continue };
            let who = match answers.owner(asked, &who) {
                Ok(owner) => owner.map_or(who, |(owner, _)| owner),
                Err(error) => {
                    self.failed = Some(error);
                    return;
                }
            };
            if (self.wanted)(who) {
                self.packed.clear();
                who.pack_into(&mut self.packed);
                keep(&mut self.found, &self.packed, row, properties);
            }
        }
    }
}

/// Keeps what a row says of somebody, unless a later one has been heard.
fn keep(found: &mut HashMap<Box<[u8]>, (u64, Properties)>, packed: &[u8], row: u64, properties: Properties) {
    if found.get(packed).is_none_or(|(last, _)| *last < row) {
        found.insert(packed.into(), (row, properties));
    }
}

impl<W: Fn(Identifier<'_>) -> bool> Sink for Picker<'_, W> {
    fn row(&mut self, fields: &impl Fields, _: Place<'_>) -> Result<(), FileError> {
        self.packed.clear();
        self.rows += 1;
        if self.matcher.pack(fields, &mut self.packed).is_err() {
            return Ok(());
        }
        let Ok((who, _)) = Identifier::unpack(&self.packed) else { return Ok(()) };
        let asked = self.owners.and_then(|owners| owners.question(&who));
        if asked.is_none() && !(self.wanted)(who) {
            return Ok(());
        }
        let properties = self.properties(fields);
        match asked {
            None => keep(&mut self.found, &self.packed, self.rows, properties),
            Some(asked) => self.aside.push((asked, self.rows, self.packed.as_slice().into(), properties)),
        }
        if self.aside.len() >= ASIDE_MAX {
            self.settle();
        }
        if self.failed.is_some() { Err(FileError::Stopped) } else { Ok(()) }
    }

    fn unreadable(&mut self, _: &'static str, _: &str, _: Place<'_>) -> Result<(), FileError> {
        Ok(()) // told when the source was read for its people
    }
}
