//! The statements that are sent. A query of the config's is never cut into and put together: it is asked as a
//! whole, of which the wanted columns are taken.

use crate::config::{Query, SqlSource};

/// The source as something that can stand after `from`.
pub(super) fn relation(source: &SqlSource) -> String {
    match &source.query {
        Query::Text(query) => format!("(\n{query}\n) as asked"),
        Query::Table(parts) => {
            let parts: Vec<String> = parts.iter().map(|part| quoted(part)).collect();
            format!("{} as asked", parts.join("."))
        }
    }
}

/// Asks for nothing, to learn the columns.
pub(super) fn columns_of(source: &SqlSource) -> String {
    format!("select * from {} limit 0", relation(source))
}

/// Asks for the wanted columns, each as text unless it is bytes already.
pub(super) fn select(source: &SqlSource, columns: &[Column<'_>]) -> String {
    let each = columns.iter().map(|column| {
        let name = quoted(column.name);
        if column.is_bytes { format!("asked.{name}") } else { format!("asked.{name}::text") }
    });
    format!("select {} from {}", each.collect::<Vec<_>>().join(", "), relation(source))
}

/// A wanted column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column<'a> {
    pub(super) name: &'a str,
    pub(super) is_bytes: bool,
}

/// A name as SQL takes it for a name, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
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
        assert_eq!(columns_of(&query), "select * from (\nselect 1 -- all\n) as asked limit 0");
    }
}
