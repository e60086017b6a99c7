//! Column names that may be shown. A file without its header row begins with user data, which must not reach a plan,
//! a log, a dashboard or a notification.

use super::FileError;
use std::path::Path;

/// Reject code of a header row in the middle of a file. Such a row names no member.
pub const REPEATED_HEADER: &str = "repeated_header";

/// Longest name of a column, in characters.
const NAME_LEN_MAX: usize = 64;
/// Most digits in a column name: a year and a quarter.
const DIGITS_MAX: usize = 5;
/// Most consecutive digits, unless they are a year.
const DIGIT_RUN_MAX: usize = 3;

/// Words of typical header rows: whole words, and parts of words.
const WORDS: [&str; 14] =
    ["id", "ids", "uid", "uuid", "guid", "key", "age", "zip", "tag", "sku", "date", "time", "type", "kind"];
const PARTS: [&str; 26] = [
    "user", "mail", "name", "phone", "device", "customer", "client", "identi", "external", "number",
    "address", "status", "created", "updated", "country", "city", "amount", "total", "price", "event",
    "segment", "account", "member", "person", "order", "alias",
];

/// The error for a column that is missing in the first row of a text file.
pub(super) fn missing_in_row(path: &Path, column: &str, names: &[String]) -> FileError {
    let (path, column) = (path.to_owned(), column.to_owned());
    // A single field may be a whole row with another delimiter.
    let cells: Vec<&str> = match names {
        [one] => one.split([';', '|', ',', '\t']).map(str::trim).collect(),
        names => names.iter().map(String::as_str).collect(),
    };
    if cells.iter().all(|cell| cell.is_empty())
        || !cells.iter().all(|cell| cell.is_empty() || is_plausible_name(cell))
    {
        return FileError::NoHeader { path, column };
    }
    let is_known = |cell: &&str| is_close(cell, &column) || is_common(cell);
    let found = if cells.iter().any(is_known) { names.to_vec() } else { Vec::new() };
    FileError::MissingColumn { path, column, found }
}

/// The error for a column that is missing in a schema, or among the keys of JSON objects.
pub(super) fn missing_in_names(
    path: &Path,
    column: &str,
    names: impl IntoIterator<Item = String>,
) -> FileError {
    let found = names.into_iter().filter(|name| is_plausible_name(name)).collect();
    FileError::MissingColumn { path: path.to_owned(), column: column.to_owned(), found }
}

/// Whether a text may be the name of a column, and not an address, a number, a date or an id.
pub(in crate::connector) fn is_plausible_name(text: &str) -> bool {
    let is_allowed = |c: char| c.is_alphanumeric() || " _-.:/()[]#%$&*".contains(c);
    let begins = text.starts_with(|c: char| c.is_alphabetic() || "_$#(".contains(c));
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let runs = text.split(|c: char| !c.is_ascii_digit());
    let is_short =
        |run: &str| run.len() <= DIGIT_RUN_MAX || (run.len() == 4 && matches!(&run[..2], "19" | "20"));
    begins
        && text.chars().count() <= NAME_LEN_MAX
        && text.chars().all(is_allowed)
        && digits <= DIGITS_MAX
        && runs.into_iter().all(is_short)
}

fn is_close(text: &str, column: &str) -> bool {
    strsim::damerau_levenshtein(&text.to_lowercase(), &column.to_lowercase()) <= column.len() / 4
}

fn is_common(text: &str) -> bool {
    let mut parts = String::with_capacity(text.len() + 4);
    let mut was_lower = false;
    for c in text.chars() {
        if c.is_uppercase() && was_lower {
            parts.push(' ');
        }
        was_lower = c.is_lowercase();
        parts.extend(c.to_lowercase());
    }
    parts
        .split(|c: char| !c.is_alphabetic())
        .any(|part| WORDS.contains(&part) || PARTS.iter().any(|known| part.contains(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(names: &[&str]) -> Option<usize> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        match missing_in_row(Path::new("f.csv"), "identity", &names) {
            FileError::MissingColumn { found, .. } => Some(found.len()),
            _ => None,
        }
    }

    #[test]
    fn rows_of_data_are_distinguished_from_header_rows() {
        for data in [
            &["anna.private@example.com", "+4915112345678"][..],
            &["user-4711"],
            &["id", "4915112345678"],
            &["2026-01-01", "x"],
            &["", ""],
            &["0190c2a1-7c3b-7000-8000-0000000000ab"],
            &["anna@example.com;ben"],
        ] {
            assert_eq!(shown(data), None, "{data:?}");
        }
        // Words without any sign of a header row.
        for unknown in [&["anna", "berlin"][..], &["u1", "u2"], &["David Bowie"]] {
            assert_eq!(shown(unknown), Some(0), "{unknown:?}");
        }
        for header in [
            &["email"][..],
            &["identty", "x"],
            &["Customer ID", "q1_2024"],
            &["userId", "city"],
            &["", "id", "phone"],
            &["external_id;device"],
        ] {
            assert_eq!(shown(header), Some(header.len()), "{header:?}");
        }
    }
}
