//! Properties of some members, from the columns of their source, which is read once more for them.
//!
//! A property is the text of a scalar: a number as it is stored, `true`, a date in ISO 8601. A value among `null_values`
//! is none. A value that is no scalar or too long is left out, and its property is named beside the others.

use std::collections::{BTreeMap, HashMap};

use super::{DesiredError, SourceInputs, may_move, rows};
use crate::config::CohortConfig;
use crate::connector::file::{FileError, RowLocation, RowSink};
use crate::matching::Matcher;
use crate::model::{Field, Fields, Identifier, NonIdentifier};
use crate::state::{IdentityOwners, OwnerQuery, StateError};

/// Longest value of a property in bytes.
pub const VALUE_LEN_MAX: usize = 4 << 10;
/// Most bytes of all properties of one user, names included. Braze takes 50 KB for a user, with JSON (Braze,
/// `/campaigns/trigger/send`, `trigger_properties`).
pub const PROPERTIES_LEN_MAX: usize = 32 << 10;

/// The properties of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserProperties {
    /// Texts by the names of properties.
    pub values: BTreeMap<String, String>,
    /// Properties that have a value which cannot be sent.
    pub left_out: Vec<String>,
}

/// Rows that are put aside until their owners are asked for, many at a time.
const ASIDE_MAX: usize = 20_000;

/// The properties of those who are wanted, by their packed identifiers. `columns` says which column each is from. Of
/// two rows of one person the last one counts.
///
/// # Errors
/// [`DesiredError`] when the source cannot be read in full.
pub fn properties(
    cohort: &CohortConfig,
    from: SourceInputs<'_>,
    columns: &BTreeMap<String, String>,
    wanted: impl Fn(Identifier<'_>) -> bool,
) -> Result<HashMap<Box<[u8]>, UserProperties>, DesiredError> {
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
        null_values: cohort.source.null_values(),
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
    null_values: &'a [String],
    /// The properties, and where they are among the fields.
    places: Vec<(&'a str, usize)>,
    wanted: W,
    owners: Option<&'a IdentityOwners>,
    /// Rows of devices and aliases that the identity map may know.
    aside: Vec<(OwnerQuery, u64, Box<[u8]>, UserProperties)>,
    rows: u64,
    packed: Vec<u8>,
    /// What was found, and in which row.
    found: HashMap<Box<[u8]>, (u64, UserProperties)>,
    failed: Option<StateError>,
}

impl<W: Fn(Identifier<'_>) -> bool> Picker<'_, W> {
    fn properties(&self, fields: &impl Fields) -> UserProperties {
        let (mut properties, mut len) = (UserProperties::default(), 0);
        for (name, place) in &self.places {
            let field = fields.field(*place);
            let text = field.text().map(std::str::from_utf8);
            match text {
                Some(Ok(text)) if is_null(text, self.null_values) => {}
                Some(Ok(text))
                    if text.len() <= VALUE_LEN_MAX && len + name.len() + text.len() <= PROPERTIES_LEN_MAX =>
                {
                    len += name.len() + text.len();
                    properties.values.insert((*name).to_owned(), text.to_owned());
                }
                None if is_nothing(field) => {}
                _ => properties.left_out.push((*name).to_owned()),
            }
        }
        properties
    }

    /// Finds the owners of the rows that were put aside.
    fn settle(&mut self) {
        let mut aside = std::mem::take(&mut self.aside);
        aside.sort_unstable();
        let Some(mut answers) = self.owners.map(IdentityOwners::answers) else { return };
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

/// Whether a text is no value, as for an identifier.
fn is_null(text: &str, null_values: &[String]) -> bool {
    let text = text.trim();
    text.is_empty() || null_values.iter().any(|null| null == text)
}

/// Whether a field without a text has no value either.
fn is_nothing(field: Field<'_>) -> bool {
    matches!(field, Field::Absent | Field::Other(NonIdentifier::NotANumber | NonIdentifier::Infinite, _))
}

/// Keeps what a row says of somebody, unless a later one has been heard.
fn keep(
    found: &mut HashMap<Box<[u8]>, (u64, UserProperties)>,
    packed: &[u8],
    row: u64,
    properties: UserProperties,
) {
    if found.get(packed).is_none_or(|(last, _)| *last < row) {
        found.insert(packed.into(), (row, properties));
    }
}

impl<W: Fn(Identifier<'_>) -> bool> RowSink for Picker<'_, W> {
    fn row(&mut self, fields: &impl Fields, _: RowLocation<'_>) -> Result<(), FileError> {
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

    fn unreadable(&mut self, _: &'static str, _: &str, _: RowLocation<'_>) -> Result<(), FileError> {
        Ok(()) // told when the source was read for its people
    }
}
