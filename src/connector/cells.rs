//! The values of one column for some rows, from typed formats. Decides for all these formats which values are
//! identifiers: text as it is and whole numbers in decimal form.

use crate::model::{Field, Fields, NonIdentifier};

/// From this number on, `float` cannot represent every whole number.
const SINGLE_WHOLE_END: f64 = 16_777_216.0;
/// The same for a `double`.
pub(in crate::connector) const DOUBLE_WHOLE_END: f64 = 9_007_199_254_740_992.0;
/// The same for 16-bit floats.
const HALF_WHOLE_END: f64 = 2_048.0;

#[derive(Clone, Copy, Debug)]
enum ColumnCell {
    Absent,
    /// The end of the text. It starts at the end of the previous one.
    Text(usize),
    /// The end of the whole number, and of the text that starts with it.
    Whole(usize, usize),
    Other(NonIdentifier, usize),
}

/// Values of a column.
#[derive(Debug, Default)]
pub(in crate::connector) struct ColumnCells {
    text: Vec<u8>,
    cells: Vec<(usize, ColumnCell)>,
}

impl ColumnCells {
    pub(in crate::connector) fn with_capacity(rows: usize) -> Self {
        Self { text: Vec::with_capacity(rows * 16), cells: Vec::with_capacity(rows) }
    }

    pub(in crate::connector) fn clear(&mut self) {
        self.text.clear();
        self.cells.clear();
    }

    /// Adds a cell with the given text.
    fn push(&mut self, text: &[u8], cell: impl FnOnce(usize) -> ColumnCell) {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        self.cells.push((start, cell(self.text.len())));
    }

    pub(in crate::connector) fn absent(&mut self) {
        self.push(b"", |_| ColumnCell::Absent);
    }

    pub(in crate::connector) fn text(&mut self, text: &[u8]) {
        self.push(text, ColumnCell::Text);
    }

    /// A boolean is no identifier: its word is rejected as a placeholder, like the same word in a text column.
    pub(in crate::connector) fn boolean(&mut self, value: bool) {
        self.text(if value { b"true" } else { b"false" });
    }

    pub(in crate::connector) fn number(&mut self, number: i64) {
        self.text(number.to_string().as_bytes());
    }

    pub(in crate::connector) fn whole(&mut self, number: u64) {
        self.text(number.to_string().as_bytes());
    }

    /// A value that is no identifier, with its text.
    pub(in crate::connector) fn other(&mut self, why: NonIdentifier, text: &[u8]) {
        self.push(text, |end| ColumnCell::Other(why, end));
    }

    /// A 16-bit float.
    pub(in crate::connector) fn half(&mut self, number: f32) {
        self.float(f64::from(number), HALF_WHOLE_END, || format!("{number:?}"));
    }

    /// A 32-bit float.
    pub(in crate::connector) fn single(&mut self, number: f32) {
        self.float(f64::from(number), SINGLE_WHOLE_END, || format!("{number:?}"));
    }

    /// A 64-bit float.
    pub(in crate::connector) fn double(&mut self, number: f64) {
        self.float(number, DOUBLE_WHOLE_END, || format!("{number:?}"));
    }

    /// A float that is a whole number is an identifier, because programs without nullable integer columns store ids
    /// so. From `end` on, floats cannot represent every whole number.
    fn float(&mut self, number: f64, end: f64, text: impl FnOnce() -> String) {
        let why = if number.is_nan() {
            return self.other(NonIdentifier::NotANumber, b"NaN");
        } else if number.is_infinite() {
            let text: &[u8] = if number > 0.0 { b"Infinity" } else { b"-Infinity" };
            return self.other(NonIdentifier::Infinite, text);
        } else if number == 0.0 && number.is_sign_negative() {
            return self.other(NonIdentifier::NegativeZero, b"-0");
        } else if number.abs() >= end {
            NonIdentifier::Imprecise
        } else if number.fract() != 0.0 {
            NonIdentifier::Fraction
        } else {
            return self.text(format!("{number:.0}").as_bytes());
        };
        let text = text();
        self.other(why, text.strip_suffix(".0").unwrap_or(&text).as_bytes());
    }

    /// An exact decimal: digits, optionally with decimal places.
    pub(in crate::connector) fn decimal(&mut self, text: &[u8]) {
        let point = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
        let is_whole = text[point..].iter().all(|byte| matches!(byte, b'.' | b'0'));
        match (&text[..point], is_whole) {
            (b"-0", true) => self.other(NonIdentifier::NegativeZero, text),
            (_, false) => self.other(NonIdentifier::Fraction, text),
            (whole, true) => {
                let len = whole.len();
                self.push(text, |end| ColumnCell::Whole(end - text.len() + len, end));
            }
        }
    }

    /// The text of a PostgreSQL `numeric`.
    pub(in crate::connector) fn numeric(&mut self, text: &[u8]) {
        match text {
            b"NaN" => self.double(f64::NAN),
            b"Infinity" => self.double(f64::INFINITY),
            b"-Infinity" => self.double(f64::NEG_INFINITY),
            text => self.decimal(text),
        }
    }

    /// A JSON value in its original text.
    ///
    /// # Errors
    /// When it is invalid JSON.
    pub(in crate::connector) fn json(&mut self, json: &str) -> Result<(), serde_json::Error> {
        let json = json.trim_ascii();
        match json.as_bytes() {
            [b'"', inner @ .., b'"'] if memchr::memchr(b'\\', inner).is_none() => self.text(inner),
            [b'"', ..] => self.text(serde_json::from_str::<String>(json)?.as_bytes()),
            [b'[', ..] => self.other(NonIdentifier::List, b""),
            [b'{', ..] => self.other(NonIdentifier::Object, b""),
            b"null" => self.absent(),
            b"true" => self.boolean(true),
            b"false" => self.boolean(false),
            _ => self.json_number(json)?,
        }
        Ok(())
    }

    /// A JSON value from a database. Invalid JSON is no identifier.
    pub(in crate::connector) fn json_text(&mut self, json: &[u8]) {
        let done = std::str::from_utf8(json).is_ok_and(|json| self.json(json).is_ok());
        if !done {
            self.other(NonIdentifier::Unsupported, b"");
        }
    }

    /// A number without decimal places and exponent is exact. Any other number was a `double` in most programs that
    /// write JSON, so the limits of `double` apply.
    fn json_number(&mut self, json: &str) -> Result<(), serde_json::Error> {
        let is_double = json.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
        if json == "-0" {
            self.other(NonIdentifier::NegativeZero, b"-0");
            return Ok(());
        }
        if !is_double {
            // Checks that there are only digits.
            serde_json::from_str::<serde::de::IgnoredAny>(json)?;
            self.text(json.as_bytes());
            return Ok(());
        }
        let number: f64 = json.parse().map_err(serde::de::Error::custom)?;
        let has_exponent = json.bytes().any(|byte| byte.eq_ignore_ascii_case(&b'e'));
        if has_exponent || number.abs() >= DOUBLE_WHOLE_END {
            self.double(number);
        } else {
            self.decimal(json.as_bytes());
        }
        Ok(())
    }

    pub(in crate::connector) fn field(&self, row: usize) -> Field<'_> {
        match self.cells.get(row) {
            None | Some((_, ColumnCell::Absent)) => Field::Absent,
            Some((start, ColumnCell::Text(end))) => Field::Text(&self.text[*start..*end]),
            Some((start, ColumnCell::Whole(id, end))) => {
                Field::Whole { id: &self.text[*start..*id], text: &self.text[*start..*end] }
            }
            Some((start, ColumnCell::Other(why, end))) => Field::Other(*why, &self.text[*start..*end]),
        }
    }
}

/// One row: the first cell of each column.
pub(in crate::connector) struct CellRow<'a>(pub(in crate::connector) &'a [ColumnCells]);

impl Fields for CellRow<'_> {
    #[inline]
    fn field(&self, at: usize) -> Field<'_> {
        self.0.get(at).map_or(Field::Absent, |cells| cells.field(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(make: impl FnOnce(&mut ColumnCells)) -> String {
        let mut cells = ColumnCells::default();
        cells.text(b"before");
        make(&mut cells);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match cells.field(1) {
            Field::Absent => "absent".to_owned(),
            Field::Text(id) => text(id),
            Field::Whole { id, text: stored } => format!("{} of {}", text(id), text(stored)),
            Field::Other(why, stored) => format!("{}: {}", why.as_str(), text(stored)),
        }
    }

    #[test]
    fn floating_point_numbers() {
        for (number, expected) in [
            (123.0, "123"),
            (-5.0, "-5"),
            (0.0, "0"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (9_007_199_254_740_992.0, "imprecise_number: 9007199254740992"),
            (-9_007_199_254_740_992.0, "imprecise_number: -9007199254740992"),
            (19.9, "fraction: 19.9"),
            (-0.0, "negative_zero: -0"),
            (f64::NAN, "not_a_number: NaN"),
            (f64::NEG_INFINITY, "infinite_number: -Infinity"),
        ] {
            assert_eq!(shown(|cells| cells.double(number)), expected, "{number}");
        }
        assert_eq!(shown(|cells| cells.single(16_777_215.0)), "16777215");
        assert_eq!(shown(|cells| cells.single(16_777_216.0)), "imprecise_number: 16777216");
        assert_eq!(shown(|cells| cells.single(0.1)), "fraction: 0.1");
        assert_eq!(shown(|cells| cells.half(2_047.0)), "2047");
        assert_eq!(shown(|cells| cells.half(2_048.0)), "imprecise_number: 2048");
    }

    #[test]
    fn decimals_and_json() {
        for (json, expected) in [
            ("123", "123"),
            ("123.00", "123 of 123.00"),
            ("123.0", "123 of 123.0"),
            ("1e3", "1000"),
            ("1.5E1", "15"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("9007199254740991.0", "9007199254740991 of 9007199254740991.0"),
            ("9007199254740993.0", "imprecise_number: 9007199254740992"),
            ("19.90", "fraction: 19.90"),
            ("1e-2", "fraction: 0.01"),
            ("1e999", "infinite_number: Infinity"),
            ("-0", "negative_zero: -0"),
            ("-0.0", "negative_zero: -0.0"),
            (" \"u1\" ", "u1"),
            (r#""a\"b\u00e9""#, "a\"bé"),
            ("true", "true"),
            ("null", "absent"),
            ("[1]", "list: "),
            ("{}", "object: "),
        ] {
            assert_eq!(shown(|cells| cells.json(json).unwrap()), expected, "{json}");
        }
        for wrong in ["", "abc", "1.2.3", "\"a", "NaN"] {
            assert!(ColumnCells::default().json(wrong).is_err(), "{wrong}");
        }
        assert_eq!(shown(|cells| cells.numeric(b"NaN")), "not_a_number: NaN");
        assert_eq!(shown(|cells| cells.decimal(b"-12.000")), "-12 of -12.000");
    }
}
