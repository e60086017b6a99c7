//! NDJSON and other sequences of JSON objects. Only the requested keys are parsed; the rest is skipped.
//!
//! `user.id` is the value of the key `user.id`, or of `id` in the object at `user`. A missing key is null.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::content::foreign_error;
use super::json_values::JsonValues;
use super::lines::FileLines;
use super::{FileError, header};
use crate::connector::cells::{CellRow, ColumnCells};
use crate::connector::rows::{RowLocation, RowSink, UnreadableRow};

/// Most keys that are listed if no requested key occurs.
const KEYS_NAMED_MAX: usize = 20;

/// The keys that occur in the NDJSON files of a source.
#[derive(Debug, Default)]
pub(super) struct SeenKeys {
    /// A requested key occurs in some object.
    is_any: bool,
    /// The first file without any requested key, and some of its keys.
    first: Option<(std::path::PathBuf, Vec<String>)>,
}

impl SeenKeys {
    /// # Errors
    /// When there are objects without any requested key.
    pub(super) fn check(self, columns: &[Box<str>]) -> Result<(), FileError> {
        match (self.is_any, self.first, columns.first()) {
            (false, Some((path, found)), Some(column)) => Err(header::missing_in_names(&path, column, found)),
            _ => Ok(()),
        }
    }
}

/// Reads a file. Returns `false` if it is empty.
pub(super) fn read(
    mut lines: FileLines,
    columns: &[Box<str>],
    name: &str,
    seen: &mut SeenKeys,
    sink: &mut impl RowSink,
) -> Result<bool, FileError> {
    lines.skip_mark()?;
    let mut object = JsonLine::new(columns);
    let (mut values, mut damaged) = (JsonValues::default(), 0_u64);
    while values.begin(&mut lines)? {
        if let Some(len) = values.plain_line(&lines)
            && object.parse(&lines.bytes()[..len]).is_ok()
        {
            sink.row(&CellRow(&object.values), RowLocation { file: name, line: lines.line() })?;
            values.consume(&mut lines, len);
            continue;
        }
        let len = values.frame(&mut lines)?;
        let location = RowLocation { file: name, line: lines.line() };
        let value = &lines.bytes()[..len];
        let parsed = object.parse(value).or_else(|error| match quoted_numbers(value) {
            Some(value) => object.parse(&value),
            None => Err(error),
        });
        match parsed {
            Ok(()) => sink.row(&CellRow(&object.values), location)?,
            Err(error) => {
                damaged += 1;
                let detail = what_is_wrong(&error);
                sink.unreadable(UnreadableRow { reason: "bad_json", detail: &detail, location })?;
            }
        }
        values.consume(&mut lines, len);
    }
    if object.objects == 0 && damaged > 0 {
        let what = "not JSON: it has no JSON object at all";
        return Err(foreign_error(lines.path(), what, "correct `path:` or `format:`, or export it again"));
    }
    let begun = lines.line() > 1 || object.objects > 0 || values.had_list;
    seen.is_any |= object.has_wanted;
    if object.objects > 0 && !object.has_wanted && seen.first.is_none() {
        seen.first = Some((lines.path().to_owned(), object.others));
    }
    Ok(begun)
}

/// The parser's message without its line, which is always 1, and without the input.
fn what_is_wrong(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) if error.is_syntax() || error.is_eof() => {
            format!("{what} at column {}", error.column())
        }
        _ => "not a JSON object".to_owned(),
    }
}

/// The line with `NaN` and `Infinity` as strings. Python writes these values, although they are not JSON. None if the
/// line has none.
fn quoted_numbers(line: &[u8]) -> Option<Vec<u8>> {
    const NUMBERS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let (mut out, mut rest, mut is_text, mut is_changed) =
        (Vec::with_capacity(line.len() + 16), line, false, false);
    while let Some(first) = rest.first() {
        let number = NUMBERS.iter().find(|number| !is_text && rest.starts_with(number));
        let len = match (number, first) {
            (Some(number), _) => {
                out.push(b'"');
                out.extend_from_slice(number);
                out.push(b'"');
                is_changed = true;
                rest = &rest[number.len()..];
                continue;
            }
            (None, b'\\') => rest.len().min(2),
            (None, b'"') => {
                is_text = !is_text;
                1
            }
            _ => 1,
        };
        out.extend_from_slice(&rest[..len]);
        rest = &rest[len..];
    }
    is_changed.then_some(out)
}

/// The requested values of one line.
struct JsonLine<'c> {
    columns: &'c [Box<str>],
    values: Vec<ColumnCells>,
    /// The values of keys that equal the whole column name. They take precedence over paths.
    whole: Vec<bool>,
    key: String,
    /// A requested key has occurred.
    has_wanted: bool,
    others: Vec<String>,
    objects: u64,
}

impl<'c> JsonLine<'c> {
    fn new(columns: &'c [Box<str>]) -> Self {
        Self {
            columns,
            values: columns.iter().map(|_| ColumnCells::with_capacity(1)).collect(),
            whole: vec![false; columns.len()],
            key: String::new(),
            has_wanted: false,
            others: Vec::new(),
            objects: 0,
        }
    }

    fn parse(&mut self, line: &[u8]) -> Result<(), serde_json::Error> {
        self.values.iter_mut().for_each(ColumnCells::clear);
        self.whole.fill(false);
        let mut parser = serde_json::Deserializer::from_slice(line);
        parser.deserialize_map(ObjectVisitor(self))?;
        parser.end()?;
        self.objects += 1;
        Ok(())
    }

    /// Stores the value of the last key for each column that it leads to.
    fn take(&mut self, value: &str) -> Result<(), serde_json::Error> {
        for (at, column) in self.columns.iter().enumerate() {
            let Some(rest) = column.strip_prefix(self.key.as_str()) else { continue };
            let part = if rest.is_empty() {
                self.whole[at] = true;
                Some(value)
            } else {
                let path = rest.strip_prefix('.').filter(|_| !self.whole[at]);
                path.map_or(Ok(None), |path| find(value, path))?
            };
            let Some(part) = part else { continue };
            self.has_wanted = true;
            self.values[at].clear();
            self.values[at].json(part)?;
        }
        Ok(())
    }
}

/// Whether a key is the whole path or its first components.
fn leads(key: &str, path: &str) -> bool {
    path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The value at a path in an object. A key that contains dots takes precedence.
fn find<'de>(object: &'de str, path: &str) -> Result<Option<&'de str>, serde_json::Error> {
    match object.as_bytes().first() {
        Some(b'{') => {}
        Some(b'n') => return Ok(Some(object)), // null: its values are null as well
        _ => return Ok(None),
    }
    serde_json::Deserializer::from_str(object).deserialize_map(PathVisitor(path))
}

struct PathVisitor<'p>(&'p str);

impl<'de> Visitor<'de> for PathVisitor<'_> {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut whole, mut inside, mut key) = (None, None, String::new());
        while map.next_key_seed(JsonKeySeed(&mut key))?.is_some() {
            if !leads(&key, self.0) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value::<&RawValue>()?.get();
            match self.0.get(key.len() + 1..) {
                None => whole = Some(value),
                Some(rest) => inside = find(value, rest).map_err(serde::de::Error::custom)?.or(inside),
            }
        }
        Ok(whole.or(inside))
    }
}

struct ObjectVisitor<'a, 'c>(&'a mut JsonLine<'c>);

impl<'de> Visitor<'de> for ObjectVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(object) = self;
        while map.next_key_seed(JsonKeySeed(&mut object.key))?.is_some() {
            if object.columns.iter().any(|column| leads(&object.key, column)) {
                let value: &RawValue = map.next_value()?;
                object.take(value.get()).map_err(serde::de::Error::custom)?;
                continue;
            }
            map.next_value::<IgnoredAny>()?;
            let others = &mut object.others;
            if !object.has_wanted && others.len() < KEYS_NAMED_MAX && !others.contains(&object.key) {
                others.push(object.key.clone());
            }
        }
        Ok(())
    }
}

/// Reads a key into a reused string.
struct JsonKeySeed<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for JsonKeySeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for JsonKeySeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<(), E> {
        self.0.clear();
        self.0.push_str(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::open::FileInput;
    use super::*;
    use crate::config::FinalNewline;
    use crate::connector::rows::SinkStopped;
    use crate::model::{Field, Fields};

    fn rows(text: &str) -> Result<Vec<(u64, String)>, FileError> {
        rows_of(text, &["id", "device"])
    }

    fn rows_of(text: &str, columns: &[&str]) -> Result<Vec<(u64, String)>, FileError> {
        let columns: Vec<Box<str>> = columns.iter().map(|column| (*column).into()).collect();
        let input = FileInput::plain(std::io::Cursor::new(text.to_owned().into_bytes()));
        let lines = FileLines::new(input, Path::new("f.ndjson"), FinalNewline::Required);
        let mut shown = Shown::default();
        let mut seen = SeenKeys::default();
        read(lines, &columns, "f.ndjson", &mut seen, &mut shown)?;
        seen.check(&columns)?;
        Ok(shown.0)
    }

    #[derive(Default)]
    struct Shown(Vec<(u64, String)>);

    impl RowSink for Shown {
        fn row(&mut self, fields: &impl Fields, location: RowLocation<'_>) -> Result<(), SinkStopped> {
            self.0.push((location.line, format!("{:?} {:?}", show(fields.field(0)), show(fields.field(1)))));
            Ok(())
        }

        fn unreadable(&mut self, row: UnreadableRow<'_>) -> Result<(), SinkStopped> {
            self.0.push((row.location.line, row.reason.to_owned()));
            Ok(())
        }
    }

    fn show(field: Field<'_>) -> Option<String> {
        match field {
            Field::Absent => None,
            Field::Text(text) | Field::Whole { id: text, .. } => {
                Some(String::from_utf8_lossy(text).into_owned())
            }
            Field::Other(why, _) => Some(format!("<{}>", why.as_str())),
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
            (4, "Some(\"<fraction>\") Some(\"<object>\")"),
            (5, "Some(\"last\") None"),
            (6, "bad_json"),
            (7, "bad_json"),
            (8, "bad_json"),
        ];
        let found = rows(text).unwrap();
        assert_eq!(found.iter().map(|(l, t)| (*l, t.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn paths_and_keys_with_dots() {
        let text = concat!(
            "{\"user\":{\"id\":\"u1\",\"a\":[{}]}}\n",
            "{\"user.id\":\"u2\",\"user\":{\"id\":\"other\"}}\n",
            "{\"user\":{\"id\":\"other\"},\"user.id\":\"u3\"}\n",
            "{\"user\":null}\n{\"user\":\"u\"}\n{\"user\":{\"id\":null}}\n",
            "{\"user\":{\"id\":{\"id\":1}}}\n{\"users\":{\"id\":1}}\n",
        );
        let found = rows_of(text, &["user.id", "user.id"]).unwrap();
        let shown: Vec<&str> = found.iter().map(|(_, row)| row.split(' ').next().unwrap()).collect();
        let expected = [
            "Some(\"u1\")",
            "Some(\"u2\")",
            "Some(\"u3\")",
            "None",
            "None",
            "None",
            "Some(\"<object>\")",
            "None",
        ];
        assert_eq!(shown, expected);
        let deep = "{\"a\":{\"b.c\":{\"d\":7.0}}}\n{\"a.b\":{\"c\":{\"d\":8}}}\n";
        let found = rows_of(deep, &["a.b.c.d", "none"]).unwrap();
        assert_eq!(found, [(1, "Some(\"7\") None".to_owned()), (2, "Some(\"8\") None".to_owned())]);
    }

    #[test]
    fn numbers_that_only_python_writes() {
        let text = "{\"id\":NaN,\"device\":\"NaN\\\" -Infinity\"}\n{\"id\":[NaN],\"device\":-Infinity}\n{\"id\":NaNa}\n";
        let found = rows(text).unwrap();
        let expected = [
            (1, "Some(\"NaN\") Some(\"NaN\\\" -Infinity\")"),
            (2, "Some(\"<list>\") Some(\"-Infinity\")"),
            (3, "bad_json"),
        ];
        assert_eq!(found.iter().map(|(l, t)| (*l, t.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn only_if_no_wanted_key_occurs_a_column_is_missing() {
        assert_eq!(rows("{\"device\":2}\n{}\n").unwrap().len(), 2);
        match rows("{\"idd\":1,\"devise\":2}\n") {
            Err(FileError::MissingColumn { column, found, .. }) => {
                assert_eq!((column.as_str(), found), ("id", vec!["idd".to_owned(), "devise".to_owned()]));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(rows("").unwrap(), []);
        let two = "{\"id\":1,\"device\":2}\n{\"id\":1,\"device\":2}";
        assert!(matches!(rows(two), Err(FileError::NoFinalNewline { .. })));
    }

    /// All of these are the rows `a` and `b`, the second in this line.
    #[test]
    fn lists_and_objects_without_line_breaks() {
        let (a, b) = ("{\"id\":\"a\",\"device\":1}", "{\"device\":2,\"id\":\"b]}\\\\\\\"{\"}");
        for (text, line) in [
            (format!("{a}{b}"), 1),
            (format!("[{a},{b}]"), 1),
            (format!(" [\n  {a},\n  {b}\n]\n"), 3),
            (format!("[{a}]\n[{b}]\n"), 2),
            (format!("{a}\n\u{feff}{b}\n"), 2),
            (format!("\u{1e}{a}\n\u{1e}{b}\n"), 2),
            (format!("{a}\r\n{b}\r\n"), 2),
            (format!("{a}\r{b}\r"), 1),
            (format!("{}\n{}\n", a.replace(',', ",\n  "), b.replace(',', ",\n  ")), 3),
        ] {
            let expected = vec![
                (if text.starts_with(" [") { 2 } else { 1 }, "Some(\"a\") Some(\"1\")".to_owned()),
                (line, "Some(\"b]}\\\\\\\"{\") Some(\"2\")".to_owned()),
            ];
            assert_eq!(rows(&text).unwrap(), expected, "{text}");
        }
        let nothing = "[ ]";
        assert_eq!(rows(nothing).unwrap(), []);
    }

    #[test]
    fn a_list_that_is_cut_is_no_shorter_list() {
        let whole = "[{\"id\":\"a\",\"device\":1},\n{\"id\":\"b\",\"device\":[2]}]";
        for len in 1..whole.len() {
            let error = rows(&whole[..len]).unwrap_err().to_string();
            assert!(error.contains("truncated"), "of {len} bytes: {error}");
        }
        assert!(rows(whole).is_ok());
        for objects in ["{\"id\":\"a\",\"device\":1}{\"id\":\"b\"", "{\"id\":\"a\",\"device\":1}{"] {
            assert!(rows(objects).unwrap_err().to_string().contains("truncated"), "{objects}");
        }
        assert!(rows("id,device\nu1,d1\n").unwrap_err().to_string().contains("is not JSON"));
    }

    /// A list larger than the buffer, without a line break.
    #[test]
    fn a_long_list_in_one_line() {
        let object = format!("{{\"id\":\"a\",\"device\":1,\"more\":\"{}\"}}", "x".repeat(100));
        let objects = vec![object; 40_000];
        assert_eq!(rows(&format!("[{}]", objects.join(","))).unwrap().len(), 40_000);
        assert_eq!(rows(&objects.concat()).unwrap().len(), 40_000);
        let endless = format!("[{{\"id\":\"{}\"", "x".repeat(3 << 20));
        assert!(rows(&endless).unwrap_err().to_string().contains("longer than 1 MiB"));
    }
}
