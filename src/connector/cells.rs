//! The values of one column for some rows, of formats that keep columns apart or types in them: text as it is,
//! whole numbers in their decimal form, and whatever can name nobody by what it is.

use crate::model::Field;

/// Whole numbers up to here are the same as fractions of eight bytes.
const FLOAT_WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

#[derive(Clone, Copy, Debug)]
enum Cell {
    Absent,
    /// Ends here in the text; starts where the one before it ends.
    Text(usize),
    NotText(&'static str),
}

/// Values of a column.
#[derive(Debug, Default)]
pub(in crate::connector) struct Cells {
    text: Vec<u8>,
    cells: Vec<(usize, Cell)>,
}

impl Cells {
    pub(in crate::connector) fn with_capacity(rows: usize) -> Self {
        Self { text: Vec::with_capacity(rows * 16), cells: Vec::with_capacity(rows) }
    }

    pub(in crate::connector) fn clear(&mut self) {
        self.text.clear();
        self.cells.clear();
    }

    fn push(&mut self, cell: Cell) {
        self.cells.push((self.text.len(), cell));
    }

    pub(in crate::connector) fn absent(&mut self) {
        self.push(Cell::Absent);
    }

    pub(in crate::connector) fn text(&mut self, text: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        self.cells.push((start, Cell::Text(self.text.len())));
    }

    pub(in crate::connector) fn number(&mut self, number: i64) {
        self.text(number.to_string().as_bytes());
    }

    pub(in crate::connector) fn whole(&mut self, number: u64) {
        self.text(number.to_string().as_bytes());
    }

    /// A fraction that is a whole number names somebody: tools that know no column of whole numbers with gaps
    /// write them so.
    pub(in crate::connector) fn float(&mut self, number: f64) {
        if number.fract() == 0.0 && number.abs() <= FLOAT_WHOLE_MAX {
            self.text(format!("{number:.0}").as_bytes());
        } else {
            self.not_text("not a whole number");
        }
    }

    pub(in crate::connector) fn not_text(&mut self, what: &'static str) {
        self.push(Cell::NotText(what));
    }

    pub(in crate::connector) fn field(&self, row: usize) -> Field<'_> {
        match self.cells.get(row) {
            None | Some((_, Cell::Absent)) => Field::Absent,
            Some((start, Cell::Text(end))) => Field::Text(&self.text[*start..*end]),
            Some((_, Cell::NotText(what))) => Field::NotText(what),
        }
    }
}
