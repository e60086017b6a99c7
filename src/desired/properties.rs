//! What a source says of some of its people, beside who they are. It is read once more for them.

use std::collections::{BTreeMap, HashMap};

use super::{DesiredError, From, rows};
use crate::config::Cohort;
use crate::connector::file::{FileError, Place, Sink};
use crate::matching::Matcher;
use crate::model::{Field, Fields, Identifier};

/// Texts by the names of properties.
type Properties = BTreeMap<String, String>;

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
    let mut picker = Picker { matcher: &matcher, places, wanted, packed: Vec::new(), found: HashMap::new() };
    rows(cohort, from, &asked, &mut picker)?;
    Ok(picker.found)
}

struct Picker<'a, W> {
    matcher: &'a Matcher,
    /// The properties, and where they are among the fields.
    places: Vec<(&'a str, usize)>,
    wanted: W,
    packed: Vec<u8>,
    found: HashMap<Box<[u8]>, Properties>,
}

impl<W: Fn(Identifier<'_>) -> bool> Sink for Picker<'_, W> {
    fn row(&mut self, fields: &impl Fields, _: Place<'_>) -> Result<(), FileError> {
        self.packed.clear();
        if self.matcher.pack(fields, &mut self.packed).is_err() {
            return Ok(());
        }
        if !Identifier::unpack(&self.packed).is_ok_and(|(who, _)| (self.wanted)(who)) {
            return Ok(());
        }
        let text = |(name, place): &(&str, usize)| match fields.field(*place) {
            Field::Text(bytes) => Some(((*name).to_owned(), std::str::from_utf8(bytes).ok()?.to_owned())),
            Field::Absent | Field::NotText(_) => None,
        };
        let properties = self.places.iter().filter_map(text).collect();
        self.found.insert(self.packed.as_slice().into(), properties);
        Ok(())
    }

    fn unreadable(&mut self, _: &'static str, _: &str, _: Place<'_>) -> Result<(), FileError> {
        Ok(()) // told when the source was read for its people
    }
}
