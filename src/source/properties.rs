//! User properties for triggers, from columns of the source. This reads the source a second time.
//!
//! A property is the text of a scalar: a number as stored, `true`, or a date in ISO 8601. Values in `null_values` are
//! absent. A value that is no scalar or too long is omitted, and the name of its property is reported.

use std::collections::{BTreeMap, HashMap};

use super::DesiredError;
use super::match_rows::may_rekey;
use super::matching::Matcher;
use super::reader::{SourceInputs, SourceReader as _};
use crate::config::CohortConfig;
use crate::connector::rows::{RowLocation, RowSink, SinkStopped, UnreadableRow};
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
    /// Names of properties with a value that cannot be sent.
    pub omitted: Vec<String>,
}

/// Rows that are deferred until their owners are looked up together.
const DEFERRED_MAX: usize = 20_000;

/// Reads the properties of the wanted users, by packed identifier. `columns` maps property names to columns. If a user
/// has several rows, the last one counts.
///
/// # Errors
/// [`DesiredError`] when the source cannot be read in full.
pub fn read_properties(
    cohort: &CohortConfig,
    inputs: SourceInputs<'_>,
    columns: &BTreeMap<String, String>,
    wanted: impl Fn(Identifier<'_>) -> bool,
) -> Result<HashMap<Box<[u8]>, UserProperties>, DesiredError> {
    let matcher = Matcher::new(&cohort.rules, cohort.source.null_values(), &cohort.delivery);
    let mut requested: Vec<Box<str>> = matcher.columns().to_vec();
    let mut positions = Vec::new();
    for (name, column) in columns {
        let known = requested.iter().position(|known| **known == **column);
        let position = known.unwrap_or_else(|| {
            requested.push(column.as_str().into());
            requested.len() - 1
        });
        positions.push((name.as_str(), position));
    }
    let owners = if may_rekey(cohort) { inputs.state.owners()? } else { None };
    let mut reader = PropertyReader {
        matcher: &matcher,
        null_values: cohort.source.null_values(),
        positions,
        wanted,
        owners: owners.as_ref(),
        deferred: Vec::new(),
        rows: 0,
        packed: Vec::new(),
        found: HashMap::new(),
        failed: None,
    };
    let read = cohort.source.read(inputs, &requested, &mut reader);
    if reader.failed.is_none() {
        read?;
        reader.resolve_owners();
    }
    let found = reader.found.into_iter().map(|(packed, (_, properties))| (packed, properties)).collect();
    reader.failed.map_or(Ok(found), |error| Err(error.into()))
}

struct PropertyReader<'a, W> {
    matcher: &'a Matcher,
    null_values: &'a [String],
    /// The properties, and their positions among the fields.
    positions: Vec<(&'a str, usize)>,
    wanted: W,
    owners: Option<&'a IdentityOwners>,
    /// Rows of devices and aliases with a possible owner in the identity map.
    deferred: Vec<(OwnerQuery, u64, Box<[u8]>, UserProperties)>,
    rows: u64,
    packed: Vec<u8>,
    /// The properties, and the number of their row.
    found: HashMap<Box<[u8]>, (u64, UserProperties)>,
    failed: Option<StateError>,
}

impl<W: Fn(Identifier<'_>) -> bool> PropertyReader<'_, W> {
    fn properties(&self, fields: &impl Fields) -> UserProperties {
        let (mut properties, mut len) = (UserProperties::default(), 0);
        for (name, position) in &self.positions {
            let field = fields.field(*position);
            let text = field.text().map(std::str::from_utf8);
            match text {
                Some(Ok(text)) if is_null(text, self.null_values) => {}
                Some(Ok(text))
                    if text.len() <= VALUE_LEN_MAX && len + name.len() + text.len() <= PROPERTIES_LEN_MAX =>
                {
                    len += name.len() + text.len();
                    properties.values.insert((*name).to_owned(), text.to_owned());
                }
                None if is_absent(field) => {}
                _ => properties.omitted.push((*name).to_owned()),
            }
        }
        properties
    }

    /// Looks up the owners of the deferred rows.
    fn resolve_owners(&mut self) {
        let mut deferred = std::mem::take(&mut self.deferred);
        deferred.sort_unstable();
        let Some(mut answers) = self.owners.map(IdentityOwners::answers) else { return };
        for (query, row, packed, properties) in deferred {
            let Ok((identifier, _)) = Identifier::unpack(&packed) else { continue };
            let identifier = match answers.owner(query, &identifier) {
                Ok(owner) => owner.map_or(identifier, |(owner, _)| owner),
                Err(error) => {
                    self.failed = Some(error);
                    return;
                }
            };
            if (self.wanted)(identifier) {
                self.packed.clear();
                identifier.pack_into(&mut self.packed);
                store(&mut self.found, &self.packed, row, properties);
            }
        }
    }
}

/// Whether a text means "no value", by the same rules as for identifiers.
fn is_null(text: &str, null_values: &[String]) -> bool {
    let text = text.trim();
    text.is_empty() || null_values.iter().any(|null| null == text)
}

/// Whether a field without a text means "no value".
fn is_absent(field: Field<'_>) -> bool {
    matches!(field, Field::Absent | Field::Other(NonIdentifier::NotANumber | NonIdentifier::Infinite, _))
}

/// Stores the properties of a row, unless a later row was stored.
fn store(
    found: &mut HashMap<Box<[u8]>, (u64, UserProperties)>,
    packed: &[u8],
    row: u64,
    properties: UserProperties,
) {
    if found.get(packed).is_none_or(|(last, _)| *last < row) {
        found.insert(packed.into(), (row, properties));
    }
}

impl<W: Fn(Identifier<'_>) -> bool> RowSink for PropertyReader<'_, W> {
    fn row(&mut self, fields: &impl Fields, _: RowLocation<'_>) -> Result<(), SinkStopped> {
        self.packed.clear();
        self.rows += 1;
        if self.matcher.pack(fields, &mut self.packed).is_err() {
            return Ok(());
        }
        let Ok((identifier, _)) = Identifier::unpack(&self.packed) else { return Ok(()) };
        let query = self.owners.and_then(|owners| owners.query(&identifier));
        if query.is_none() && !(self.wanted)(identifier) {
            return Ok(());
        }
        let properties = self.properties(fields);
        match query {
            None => store(&mut self.found, &self.packed, self.rows, properties),
            Some(query) => self.deferred.push((query, self.rows, self.packed.as_slice().into(), properties)),
        }
        if self.deferred.len() >= DEFERRED_MAX {
            self.resolve_owners();
        }
        if self.failed.is_some() { Err(SinkStopped) } else { Ok(()) }
    }

    fn unreadable(&mut self, _: UnreadableRow<'_>) -> Result<(), SinkStopped> {
        Ok(()) // reported by the read of the members
    }
}
