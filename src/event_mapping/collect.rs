//! Collector for the properties of one event that the schema does not name in advance.
//!
//! Order and selection depend on names alone, so that an event is written the same from a file and from HTTP. If two
//! properties get the same key, the one with the first source name wins. If a source name repeats, its last value wins.

use std::collections::HashMap;

use super::catalogue;
use super::json::{JsonError, Scanner, ValueStart, compact, float, integer, number, text};
use super::rules::MappingRules;
use super::settings::IdentityFrom;
use crate::model::AvroValue;

/// The number of cached names; custom properties may have any number of names.
const NAMES_LEN_MAX: usize = 4096;
/// The longest cached name, in bytes.
const NAME_LEN_MAX: usize = 256;
/// The limit for names and values of one event, in bytes. Each property of a nested object repeats the names above it,
/// so a short body could expand to gigabytes.
const BAG_LEN_MAX: usize = 16 << 20;

/// One property in the arena: source name, key and value, one after the other.
#[derive(Clone, Copy, Debug)]
struct CollectedProperty {
    path: usize,
    key: usize,
    value: usize,
    end: usize,
}

#[derive(Debug, Default)]
struct PropertyBag {
    arena: Vec<u8>,
    entries: Vec<CollectedProperty>,
}

impl PropertyBag {
    /// Adds a property. `write` returns `false` if there is no value.
    fn push(&mut self, path: &str, key: &[u8], write: impl FnOnce(&mut Vec<u8>) -> bool) {
        let start = self.arena.len();
        self.arena.extend_from_slice(path.as_bytes());
        self.arena.extend_from_slice(key);
        let value = self.arena.len();
        if write(&mut self.arena) {
            let end = self.arena.len();
            self.entries.push(CollectedProperty { path: start, key: start + path.len(), value, end });
        } else {
            self.arena.truncate(start);
        }
    }

    fn key(&self, entry: &CollectedProperty) -> &[u8] {
        &self.arena[entry.key..entry.value]
    }

    /// Appends all properties in order, separated by commas.
    fn write(&mut self, out: &mut Vec<u8>) {
        let arena = &self.arena;
        let name =
            |entry: &CollectedProperty| (&arena[entry.key..entry.value], &arena[entry.path..entry.key]);
        self.entries.sort_unstable_by(|a, b| name(a).cmp(&name(b)).then(b.path.cmp(&a.path)));
        let mut before: Option<&CollectedProperty> = None;
        for entry in &self.entries {
            if before.is_some_and(|before| self.key(before) == self.key(entry)) {
                continue;
            }
            if before.is_some() {
                out.push(b',');
            }
            out.extend_from_slice(&self.arena[entry.key..entry.end]);
            before = Some(entry);
        }
    }
}

/// Collects the properties of one event at a time.
#[derive(Debug)]
pub(super) struct PropertyCollector<'r> {
    rules: &'r MappingRules,
    bag: PropertyBag,
    /// Keys by source name; `None` for properties that are not sent.
    names: HashMap<Box<str>, Option<Box<[u8]>>>,
    is_profile: bool,
    /// Bytes of the names that were processed.
    looked: usize,
    path: String,
    /// The values of the properties that serve as identity, in the rules' order.
    aliases: Vec<Option<String>>,
    wanted: Vec<&'r str>,
    key: Vec<u8>,
    joined: Vec<u8>,
}

impl<'r> PropertyCollector<'r> {
    pub(super) fn new(rules: &'r MappingRules) -> Self {
        let wanted: Vec<&str> = rules.identity.iter().filter_map(alias).collect();
        Self {
            rules,
            bag: PropertyBag::default(),
            names: HashMap::new(),
            is_profile: false,
            looked: 0,
            path: String::new(),
            aliases: vec![None; wanted.len()],
            wanted,
            key: Vec::new(),
            joined: Vec::new(),
        }
    }

    /// Starts the next event.
    pub(super) fn begin(&mut self, is_profile: bool) {
        self.bag.arena.clear();
        self.bag.entries.clear();
        self.aliases.fill(None);
        (self.is_profile, self.looked) = (is_profile, 0);
    }

    /// Whether the event exceeds [`BAG_LEN_MAX`].
    pub(super) fn is_overfull(&self) -> bool {
        self.looked.max(self.bag.arena.len()) > BAG_LEN_MAX
    }

    pub(super) fn aliases(&self) -> &[Option<String>] {
        &self.aliases
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &Box<str>> {
        self.names.keys()
    }

    /// Appends the collected properties in order.
    pub(super) fn write(&mut self, out: &mut Vec<u8>) {
        self.bag.write(out);
    }

    /// Adds a property with a known key.
    pub(super) fn known(&mut self, path: &str, key: &[u8], datum: AvroValue<'_>) {
        self.bag.push(path, key, |out| scalar(out, datum));
    }

    /// Adds a field of a record.
    pub(super) fn datum(&mut self, path: &str, datum: AvroValue<'_>) {
        self.set_path(path);
        match datum {
            AvroValue::Json(json) => self.json(json),
            AvroValue::Text(bytes) if catalogue::is_opened(path) => self.opened(bytes),
            AvroValue::Text(bytes) => self.scalar(datum, bytes),
            AvroValue::Int(value) => self.scalar(datum, value.to_string().as_bytes()),
            datum => self.scalar(datum, b""),
        }
    }

    /// Adds a field from JSON and consumes it from the scanner.
    pub(super) fn field<'a>(
        &mut self,
        path: &str,
        scanner: &mut Scanner<'a>,
        start: ValueStart<'a>,
    ) -> Result<(), JsonError> {
        self.set_path(path);
        match start {
            ValueStart::Text(raw) if catalogue::is_opened(path) => {
                self.opened(raw.text().as_bytes());
                Ok(())
            }
            start => self.value(scanner, start),
        }
    }

    fn set_path(&mut self, path: &str) {
        self.path.clear();
        self.path.push_str(path);
    }

    /// Adds the content of a text with JSON; other texts stay texts.
    fn opened(&mut self, bytes: &[u8]) {
        let path = self.path.len();
        if self.rules.may_keep(&self.path) || self.rules.seeks_below(&self.path) {
            let (entries, arena) = (self.bag.entries.len(), self.bag.arena.len());
            if matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['))
                && std::str::from_utf8(bytes).is_ok_and(|text| self.whole(text).is_ok())
            {
                return;
            }
            self.path.truncate(path);
            self.bag.entries.truncate(entries);
            self.bag.arena.truncate(arena);
            self.scalar(AvroValue::Text(bytes), bytes);
        }
    }

    fn json(&mut self, json: &[u8]) {
        // JSON from the Avro reader is complete.
        let _ = std::str::from_utf8(json).map(|text| self.whole(text));
    }

    fn whole(&mut self, text: &str) -> Result<(), JsonError> {
        let mut scanner = Scanner::new(text);
        let start = scanner.value()?;
        self.value(&mut scanner, start)?;
        scanner.end()
    }

    /// Adds the value at the current path: members of an object one by one, a list as one text.
    fn value<'a>(&mut self, scanner: &mut Scanner<'a>, start: ValueStart<'a>) -> Result<(), JsonError> {
        match start {
            ValueStart::Object => return self.members(scanner),
            ValueStart::List => return self.list(scanner),
            ValueStart::Null => {}
            ValueStart::Bool(value) => self.scalar(AvroValue::Bool(value), b""),
            ValueStart::Number(token) => self.number(token),
            ValueStart::Text(raw) => {
                let text = raw.text();
                self.scalar(AvroValue::Text(text.as_bytes()), text.as_bytes());
            }
        }
        Ok(())
    }

    fn members(&mut self, scanner: &mut Scanner<'_>) -> Result<(), JsonError> {
        let above = self.path.len();
        let mut is_first = true;
        while let Some(key) = scanner.key(is_first)? {
            is_first = false;
            self.path.push('.');
            self.path.push_str(&key.text());
            let start = scanner.value()?;
            self.value(scanner, start)?;
            self.path.truncate(above);
        }
        Ok(())
    }

    /// Joins elements by `||`, without nulls. An empty list is no property.
    fn list(&mut self, scanner: &mut Scanner<'_>) -> Result<(), JsonError> {
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        let found = join(scanner, &mut joined);
        if let Ok(true) = found {
            self.scalar(AvroValue::Text(&joined), b"");
        }
        self.joined = joined;
        found.map(drop)
    }

    fn number(&mut self, token: &str) {
        // A whole number may be an identity, a fraction may not.
        self.note_alias(if token.contains(['.', 'e', 'E']) { b"" } else { token.as_bytes() });
        self.push(|out| {
            number(out, token);
            true
        });
    }

    /// Adds a scalar. `alias` is its text if it serves as identity.
    fn scalar(&mut self, datum: AvroValue<'_>, alias: &[u8]) {
        self.note_alias(alias);
        self.push(|out| scalar(out, datum));
    }

    fn note_alias(&mut self, bytes: &[u8]) {
        for (wanted, alias) in self.wanted.iter().zip(&mut self.aliases) {
            if **wanted == *self.path {
                *alias = Some(String::from_utf8_lossy(bytes).into_owned());
            }
        }
    }

    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) {
        self.looked += self.path.len();
        if self.is_overfull() {
            return;
        }
        if !self.is_profile
            && let Some(key) = self.names.get(self.path.as_str())
        {
            if let Some(key) = key {
                self.bag.push(&self.path, key, write);
            }
            return;
        }
        self.key.clear();
        let is_kept = self.rules.key(&self.path, self.is_profile, &mut self.key);
        if is_kept {
            self.bag.push(&self.path, &self.key, write);
        }
        if !self.is_profile && self.names.len() < NAMES_LEN_MAX && self.path.len() <= NAME_LEN_MAX {
            self.names.insert(self.path.as_str().into(), is_kept.then(|| self.key.as_slice().into()));
        }
    }
}

fn alias(from: &IdentityFrom) -> Option<&str> {
    match from {
        IdentityFrom::Property(name) => Some(name),
        _ => None,
    }
}

/// Appends a scalar in the form that Heap accepts. Returns `false` and appends nothing if there is no value.
#[inline]
pub(super) fn scalar(out: &mut Vec<u8>, datum: AvroValue<'_>) -> bool {
    match datum {
        AvroValue::Null | AvroValue::Json(_) => return false,
        AvroValue::Text(bytes) => text(out, bytes),
        AvroValue::Decimal(digits) => {
            let Ok(digits) = std::str::from_utf8(digits) else { return false };
            number(out, digits);
        }
        AvroValue::Moment(_, []) => return false,
        AvroValue::Moment(_, bytes) => text(out, bytes),
        AvroValue::Bool(true) => out.extend_from_slice(b"\"true\""),
        AvroValue::Bool(false) => out.extend_from_slice(b"\"false\""),
        AvroValue::Int(value) => integer(out, value),
        AvroValue::Double(value) => return float(out, value),
        // The shortest decimal of the 32-bit value; the same event has it in JSON.
        AvroValue::Float(value) => return value.to_string().parse().is_ok_and(|meant| float(out, meant)),
    }
    true
}

/// Appends the elements of a list as one text. Returns whether there were any.
fn join(scanner: &mut Scanner<'_>, out: &mut Vec<u8>) -> Result<bool, JsonError> {
    let (mut is_first, mut is_empty) = (true, true);
    while scanner.element(is_first)? {
        is_first = false;
        let start = scanner.value()?;
        if start == ValueStart::Null {
            continue;
        }
        if !is_empty {
            out.extend_from_slice(b"||");
        }
        is_empty = false;
        match start {
            ValueStart::Text(raw) => out.extend_from_slice(raw.text().as_bytes()),
            ValueStart::Number(token) => {
                let from = out.len();
                number(out, token);
                if out[from] == b'"' {
                    out.truncate(from);
                    out.extend_from_slice(token.as_bytes());
                }
            }
            start => compact(scanner, start, out)?,
        }
    }
    Ok(!is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A decimal of six digits is the same text whether it went through 32 bits or through JSON.
        #[test]
        fn a_float_of_32_bits_is_the_decimal_that_was_meant(digits in -999_999i32..=999_999, exponent in -12i32..12) {
            let meant = format!("{digits}e{exponent}");
            let (mut narrow, mut wide) = (Vec::new(), Vec::new());
            prop_assert!(scalar(&mut narrow, AvroValue::Float(meant.parse().unwrap())));
            number(&mut wide, &meant);
            prop_assert_eq!(String::from_utf8(narrow).unwrap(), String::from_utf8(wide).unwrap());
        }
    }
}
