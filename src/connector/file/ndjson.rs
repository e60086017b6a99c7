//! NDJSON: one object a line. Only the wanted keys are kept; the rest is skipped unread.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::lines::Lines;
use super::{FileError, Place, Sink};
use crate::model::{Field, Fields};

/// Keys that are named when a wanted one never occurs.
const KEYS_NAMED_MAX: usize = 20;

/// Reads a file. `false`: it has not even a blank line, as a file that was never written.
pub(super) fn read(
    mut lines: Lines,
    columns: &[Box<str>],
    name: &str,
    sink: &mut impl Sink,
) -> Result<bool, FileError> {
    lines.skip_mark()?;
    let mut object = Object { columns, values: vec![Value::Absent; columns.len()], text: Vec::new() };
    let mut seen = Seen { wanted: vec![false; columns.len()], others: Vec::new(), objects: 0 };
    while let Some(stretch) = lines.stretch(0)? {
        let place = Place { file: name, line: lines.line() };
        let line = lines.bytes()[..stretch.len].trim_ascii();
        if !line.is_empty() {
            match object.parse(line, &mut seen) {
                Ok(()) => sink.row(&object, place)?,
                Err(_) if !stretch.terminated => return Err(lines.truncated("its last line is not whole")),
                Err(error) => sink.unreadable("bad_json", &what_is_wrong(&error), place)?,
            }
        }
        lines.consume(stretch, u64::from(stretch.terminated));
    }
    let begun = lines.line() > 1 || seen.objects > 0;
    seen.check(&lines, columns)?;
    Ok(begun)
}

/// The parser's words without its line, which is always 1, and without what stood there.
fn what_is_wrong(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) if error.is_syntax() || error.is_eof() => {
            format!("{what} at column {}", error.column())
        }
        _ => "not a JSON object".to_owned(),
    }
}

/// Which keys have occurred at all: a key that never does is no column of this file.
struct Seen {
    wanted: Vec<bool>,
    others: Vec<String>,
    objects: u64,
}

impl Seen {
    fn check(self, lines: &Lines, columns: &[Box<str>]) -> Result<(), FileError> {
        let missing = self.wanted.iter().position(|seen| !seen).filter(|_| self.objects > 0);
        let Some(missing) = missing else { return Ok(()) };
        let known =
            columns.iter().zip(&self.wanted).filter(|(_, seen)| **seen).map(|(column, _)| column.to_string());
        let found = known.chain(self.others).collect();
        Err(FileError::MissingColumn {
            path: lines.path().to_owned(),
            column: columns[missing].to_string(),
            found,
        })
    }
}

/// The wanted values of one line.
struct Object<'c> {
    columns: &'c [Box<str>],
    values: Vec<Value>,
    text: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Value {
    Absent,
    Text(usize, usize),
    NotText(&'static str),
}

impl Fields for Object<'_> {
    fn field(&self, at: usize) -> Field<'_> {
        match self.values[at] {
            Value::Absent => Field::Absent,
            Value::Text(start, end) => Field::Text(&self.text[start..end]),
            Value::NotText(what) => Field::NotText(what),
        }
    }
}

impl Object<'_> {
    fn parse(&mut self, line: &[u8], seen: &mut Seen) -> Result<(), serde_json::Error> {
        self.values.fill(Value::Absent);
        self.text.clear();
        let mut parser = serde_json::Deserializer::from_slice(line);
        parser.deserialize_map(ObjectVisitor { object: self, seen })?;
        parser.end()?;
        seen.objects += 1;
        Ok(())
    }
}

struct ObjectVisitor<'a, 'c> {
    object: &'a mut Object<'c>,
    seen: &'a mut Seen,
}

impl<'de> Visitor<'de> for ObjectVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { object, seen } = self;
        while let Some(at) =
            map.next_key_seed(KeySeed { columns: object.columns, others: &mut seen.others })?
        {
            match at {
                Some(at) => {
                    seen.wanted[at] = true;
                    object.values[at] = map.next_value_seed(ValueSeed(&mut object.text))?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Reads a key: which wanted column it is, if any.
struct KeySeed<'a> {
    columns: &'a [Box<str>],
    others: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        let found = self.columns.iter().position(|column| **column == *key);
        if found.is_none()
            && self.others.len() < KEYS_NAMED_MAX
            && !self.others.iter().any(|other| other == key)
        {
            self.others.push(key.to_owned());
        }
        Ok(found)
    }
}

/// Reads a value into the text.
struct ValueSeed<'a>(&'a mut Vec<u8>);

impl ValueSeed<'_> {
    fn text(self, text: &[u8]) -> Value {
        let start = self.0.len();
        self.0.extend_from_slice(text);
        Value::Text(start, self.0.len())
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::NotText("true or false"))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(self.text(number.to_string().as_bytes()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(self.text(number.to_string().as_bytes()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        // Beyond 2^64, or with a fraction: no reader would give the same digits back.
        Ok(Value::NotText("not a whole number"))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(self.text(text.as_bytes()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::NotText("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::NotText("an object"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::open::Input;
    use super::*;
    use crate::config::FinalNewline;

    fn rows(text: &str) -> Result<Vec<(u64, String)>, FileError> {
        let input = Input::plain(std::io::Cursor::new(text.to_owned().into_bytes()));
        let lines = Lines::new(input, Path::new("f.ndjson"), FinalNewline::Required);
        let mut shown = Shown::default();
        read(lines, &["id".into(), "device".into()], "f.ndjson", &mut shown)?;
        Ok(shown.0)
    }

    #[derive(Default)]
    struct Shown(Vec<(u64, String)>);

    impl Sink for Shown {
        fn row(&mut self, fields: &impl Fields, place: Place<'_>) -> Result<(), FileError> {
            self.0.push((place.line, format!("{:?} {:?}", show(fields.field(0)), show(fields.field(1)))));
            Ok(())
        }

        fn unreadable(&mut self, reason: &str, _: &str, place: Place<'_>) -> Result<(), FileError> {
            self.0.push((place.line, reason.to_owned()));
            Ok(())
        }
    }

    fn show(field: Field<'_>) -> Option<String> {
        match field {
            Field::Absent => None,
            Field::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            Field::NotText(what) => Some(format!("<{what}>")),
        }
    }

    #[test]
    fn wanted_keys_of_each_line() {
        let text = concat!(
            "{\"id\":\"u\\u00e91\",\"x\":[{}],\"device\":null}\n\n",
            "{\"device\":-12,\"id\":18446744073709551615}\r\n",
            "{\"id\":1.5,\"device\":{\"a\":[1]}}\n",
            "{\"id\":true,\"id\":\"last\"}\n",
            "[1]\n{\"id\":\n{\"id\":\"a\"} x\n",
        );
        let expected = [
            (1, "Some(\"ué1\") None"),
            (3, "Some(\"18446744073709551615\") Some(\"-12\")"),
            (4, "Some(\"<not a whole number>\") Some(\"<an object>\")"),
            (5, "Some(\"last\") None"),
            (6, "bad_json"),
            (7, "bad_json"),
            (8, "bad_json"),
        ];
        let found = rows(text).unwrap();
        assert_eq!(found.iter().map(|(l, t)| (*l, t.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_key_that_never_occurs_is_a_missing_column() {
        match rows("{\"id\":1,\"devise\":2}\n") {
            Err(FileError::MissingColumn { column, found, .. }) => {
                assert_eq!((column.as_str(), found), ("device", vec!["id".to_owned(), "devise".to_owned()]));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(rows("").unwrap(), []);
        assert!(matches!(rows("{\"id\":1,\"device\":2}"), Err(FileError::NoFinalNewline { .. })));
    }
}
