//! Tables for a terminal: one line for each row, fitted to the width of the output.
//!
//! Without a width the table is complete. With one, columns are cut in their middle, or left out, in a fixed order.

use textwrap::core::display_width;

/// The space between two columns.
const GAP: usize = 2;

/// What happens to a column that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum ColumnFit {
    /// It is always complete.
    Whole,
    /// Its cells are cut in the middle, down to this width.
    CutTo(usize),
    /// It is left out, unless this width is left for it. Columns with a higher rank are left out first.
    Optional {
        /// The order in which columns are left out.
        rank: u8,
        /// The smallest useful width.
        min: usize,
    },
}

/// A column of a table.
pub(in crate::cli) struct TableColumn {
    header: &'static str,
    cells: Vec<String>,
    fit: ColumnFit,
    is_number: bool,
}

impl TableColumn {
    pub(in crate::cli) fn new(header: &'static str, cells: Vec<String>, fit: ColumnFit) -> Self {
        Self { header, cells, fit, is_number: false }
    }

    /// A column of numbers, aligned to the right.
    pub(in crate::cli) fn of_numbers(header: &'static str, cells: Vec<String>) -> Self {
        Self { header, cells, fit: ColumnFit::Whole, is_number: true }
    }

    fn natural_width(&self) -> usize {
        self.cells.iter().map(|cell| display_width(cell)).max().unwrap_or(0).max(display_width(self.header))
    }

    /// The width below which the column cannot be cut.
    fn min_width(&self) -> usize {
        let natural = self.natural_width();
        match self.fit {
            ColumnFit::Whole => natural,
            ColumnFit::CutTo(min) | ColumnFit::Optional { min, .. } => natural.min(min),
        }
    }

    fn text(&self, cell: &str, width: usize, is_last: bool) -> String {
        let cell = cut_middle(cell, width);
        let space = " ".repeat(width.saturating_sub(display_width(&cell)));
        match (self.is_number, is_last) {
            (true, _) => space + &cell,
            (false, true) => cell,
            (false, false) => cell + &space,
        }
    }
}

/// The lines of a table, the header first.
pub(in crate::cli) fn table(mut columns: Vec<TableColumn>, width: Option<usize>) -> Vec<String> {
    let width = width.unwrap_or(usize::MAX);
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
    while total(&columns.iter().map(TableColumn::min_width).collect::<Vec<_>>()) > width {
        let rank = |column: &TableColumn| match column.fit {
            ColumnFit::Optional { rank, .. } => Some(rank),
            _ => None,
        };
        let Some(last) = columns.iter().filter_map(rank).max() else { break };
        columns.retain(|column| rank(column) != Some(last));
    }
    let mut widths: Vec<usize> = columns.iter().map(TableColumn::natural_width).collect();
    // Optional columns give up their width first.
    for is_optional in [true, false] {
        for (column, kept) in columns
            .iter()
            .zip(0..)
            .filter(|(column, _)| matches!(column.fit, ColumnFit::Optional { .. }) == is_optional)
        {
            let excess = total(&widths).saturating_sub(width);
            widths[kept] = widths[kept].saturating_sub(excess).max(column.min_width());
        }
    }
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let line = |cell: &dyn Fn(&TableColumn) -> String| {
        let last = columns.len().saturating_sub(1);
        let cells = columns.iter().zip(&widths).enumerate();
        let cells: Vec<String> =
            cells.map(|(index, (column, width))| column.text(&cell(column), *width, index == last)).collect();
        cells.join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    let header = std::iter::once(line(&|column| column.header.to_owned()));
    header.chain((0..rows).map(|row| line(&|column| column.cells[row].clone()))).collect()
}

/// The text with `…` in its middle if it is wider than `width`. Ids of one config often share their start.
fn cut_middle(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let Some(kept) = width.checked_sub(1) else { return String::new() };
    let start = fitting(text.chars(), kept.div_ceil(2));
    let end: String = fitting(text.chars().rev(), kept / 2).chars().rev().collect();
    format!("{start}…{end}")
}

fn fitting(text: impl Iterator<Item = char>, width: usize) -> String {
    let mut used = 0;
    text.take_while(|character| {
        used += display_width(character.encode_utf8(&mut [0; 4]));
        used <= width
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<TableColumn> {
        let cells = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        vec![
            TableColumn::new("cohort", cells(&["abandoned_checkout_de", "vip"]), ColumnFit::CutTo(12)),
            TableColumn::new("name", cells(&["Abandoned", "VIP"]), ColumnFit::Optional { rank: 1, min: 6 }),
            TableColumn::of_numbers("members", cells(&["1,200", "7"])),
        ]
    }

    #[test]
    fn a_table_without_a_width_is_complete() {
        let expected = [
            "cohort                 name       members",
            "abandoned_checkout_de  Abandoned    1,200",
            "vip                    VIP              7",
        ];
        assert_eq!(table(columns(), None), expected);
        assert_eq!(table(columns(), Some(41)), expected);
    }

    #[test]
    fn columns_are_cut_in_the_middle_and_then_left_out() {
        assert_eq!(table(columns(), Some(40))[1], "abandoned_checkout_de  Aban…ned    1,200");
        assert_eq!(table(columns(), Some(30))[1], "abando…out_de  Aba…ed    1,200");
        assert_eq!(table(columns(), Some(28))[1], "abandoned…eckout_de    1,200");
        let narrow = table(columns(), Some(21));
        assert_eq!(narrow[1], "abando…ut_de    1,200");
        assert!(narrow.iter().all(|line| display_width(line) <= 21), "{narrow:?}");
    }

    #[test]
    fn wide_characters_are_not_counted_as_one_column() {
        assert_eq!(cut_middle("日本語日本語", 7), "日…語");
        assert_eq!(cut_middle("abc", 3), "abc");
        assert_eq!(cut_middle("abcd", 0), "");
    }
}
