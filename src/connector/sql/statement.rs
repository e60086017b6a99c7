//! The statements that are sent. A query of the config's is never cut into and put together: it is asked as a
//! whole, of which the wanted columns are taken.

use crate::config::{Query, SqlSource};

/// What stands around names in standard SQL.
pub(super) const DOUBLE: char = '"';

/// The source as something that can stand after `from`.
fn relation(source: &SqlSource, quote: char) -> String {
    match &source.query {
        Query::Text(query) => format!("(\n{query}\n) as asked"),
        Query::Table(parts) => {
            let parts: Vec<String> = parts.iter().map(|part| quoted(part, quote)).collect();
            format!("{} as asked", parts.join("."))
        }
    }
}

/// Asks for nothing, to learn the columns.
pub(super) fn columns_of(source: &SqlSource, quote: char) -> String {
    format!("select * from {} where 1 = 0", relation(source, quote))
}

/// Asks for the wanted columns as they are.
pub(super) fn select_as_is(source: &SqlSource, columns: &[Box<str>], quote: char) -> String {
    let each: Vec<String> = columns.iter().map(|name| quoted(name, quote)).collect();
    format!("select {} from {}", each.join(", "), relation(source, quote))
}

/// Asks for the wanted columns, each as text unless it is bytes already.
pub(super) fn select(source: &SqlSource, columns: &[Column<'_>]) -> String {
    let each = columns.iter().map(|column| {
        let name = quoted(column.name, DOUBLE);
        if column.is_bytes { format!("asked.{name}") } else { format!("asked.{name}::text") }
    });
    format!("select {} from {}", each.collect::<Vec<_>>().join(", "), relation(source, DOUBLE))
}

/// A wanted column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column<'a> {
    pub(super) name: &'a str,
    pub(super) is_bytes: bool,
}

/// A name as SQL takes it for a name, whatever is in it.
fn quoted(name: &str, quote: char) -> String {
    let inner = name.replace(quote, &format!("{quote}{quote}"));
    format!("{quote}{inner}{quote}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ConnectionName;

    fn source(query: Query) -> SqlSource {
        let connection = ConnectionName::new("w").unwrap();
        SqlSource { connection, query, params: Vec::new(), null_values: Vec::new() }
    }

    #[test]
    fn names_stay_names() {
        let columns =
            [Column { name: "a\" from x; --", is_bytes: false }, Column { name: "raw", is_bytes: true }];
        let table = source(Query::Table(vec!["Acme".to_owned(), "carts".to_owned()]));
        assert_eq!(
            select(&table, &columns),
            "select asked.\"a\"\" from x; --\"::text, asked.\"raw\" from \"Acme\".\"carts\" as asked"
        );
        let query = source(Query::Text("select 1 -- all".to_owned()));
        assert_eq!(columns_of(&query, DOUBLE), "select * from (\nselect 1 -- all\n) as asked where 1 = 0");
    }
}
