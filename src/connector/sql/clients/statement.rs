//! SQL text of the statements. A query of the config is embedded as a whole in a `select` of the requested columns,
//! and never edited.

use super::values::ColumnKind;
use crate::config::{SqlQuery, SqlSource};

/// Identifier quotes of standard SQL.
pub(super) const DOUBLE: char = '"';

/// The source as an expression for `from`.
pub(super) fn relation(source: &SqlSource, quote: char) -> String {
    match &source.query {
        SqlQuery::Text(query) => format!("(\n{query}\n) as asked"),
        SqlQuery::Table(parts) => {
            let parts: Vec<String> = parts.iter().map(|part| quoted(part, quote)).collect();
            format!("{} as asked", parts.join("."))
        }
    }
}

/// Selects no row, to learn the columns.
pub(super) fn columns_of(source: &SqlSource, quote: char) -> String {
    format!("select * from {} where 1 = 0", relation(source, quote))
}

/// One row of nulls with the source's columns, even if the source has no rows. It reads no row.
fn empty_row(source: &SqlSource) -> String {
    format!("(select 1) as one left join ({}) as asked on true", columns_of(source, DOUBLE))
}

/// Selects the names of the source's columns, in order. For PostgreSQL.
pub(super) fn column_names(source: &SqlSource) -> String {
    let row = empty_row(source);
    format!("select json_object_keys(row_to_json(named)) from (select asked.* from {row}) as named")
}

/// Selects the type and its category of each of these columns, in order; for a domain, of its base type. For
/// PostgreSQL.
pub(super) fn column_types(source: &SqlSource, columns: &[Box<str>]) -> String {
    let types: Vec<String> =
        columns.iter().map(|name| format!("pg_typeof(asked.{})::oid", quoted(name, DOUBLE))).collect();
    format!(
        "with recursive found(type, at) as (
            select typed.type, typed.at
            from (select array[{}]::oid[] as types from {}) as listed,
                unnest(listed.types) with ordinality as typed(type, at)
            union all
            select t.typbasetype, found.at from found join pg_catalog.pg_type t on t.oid = found.type
            where t.typtype = 'd'
        )
        select found.type, t.typcategory::text from found join pg_catalog.pg_type t on t.oid = found.type
        where t.typtype <> 'd' order by found.at",
        types.join(", "),
        empty_row(source)
    )
}

/// Selects the requested columns unchanged.
pub(super) fn select_as_is(source: &SqlSource, columns: &[Box<str>], quote: char) -> String {
    let each: Vec<String> = columns.iter().map(|name| quoted(name, quote)).collect();
    format!("select {} from {}", each.join(", "), relation(source, quote))
}

/// Selects the requested columns, each in the format of its kind.
pub(super) fn select(source: &SqlSource, columns: &[StatementColumn<'_>]) -> String {
    let each = columns.iter().map(|column| {
        let name = quoted(column.name, DOUBLE);
        if column.kind.is_binary() { format!("asked.{name}") } else { format!("asked.{name}::text") }
    });
    format!("select {} from {}", each.collect::<Vec<_>>().join(", "), relation(source, DOUBLE))
}

/// Whether a query is one statement: it has no semicolon outside of quotes and comments. Some drivers run every
/// statement before the last one, so a query could close our parenthesis and run anything.
pub(super) fn is_one_statement(query: &str) -> bool {
    let mut rest = query;
    while let Some(at) = rest.find([';', '\'', '"', '`', '-', '/', '$']) {
        let (_, tail) = rest.split_at(at);
        let inside = |open: usize, close: &str| {
            tail.get(open..)
                .and_then(|after| after.find(close))
                .map_or(tail.len(), |end| open + end + close.len())
        };
        let skipped = match tail.as_bytes() {
            [b';', ..] => return false,
            [b'-', b'-', ..] => inside(2, "\n"),
            [b'/', b'*', ..] => inside(2, "*/"),
            [b'\'', ..] => inside(1, "'"),
            [b'"', ..] => inside(1, "\""),
            [b'`', ..] => inside(1, "`"),
            [b'$', ..] => dollar_tag(tail).map_or(1, |tag| inside(tag.len(), tag)),
            _ => 1,
        };
        rest = &tail[skipped..];
    }
    true
}

/// `$tag$` or `$$`, which starts a string that ends with the same tag. `$1` is a placeholder.
fn dollar_tag(tail: &str) -> Option<&str> {
    let end = 1 + tail[1..].find('$')?;
    let is_name = tail[1..end].chars().all(|c| c.is_alphanumeric() || c == '_');
    (is_name && !tail[1..].starts_with(|c: char| c.is_ascii_digit())).then(|| &tail[..=end])
}

/// A requested column.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatementColumn<'a> {
    pub(super) name: &'a str,
    pub(super) kind: ColumnKind,
}

/// A quoted identifier, for any text.
pub(super) fn quoted(name: &str, quote: char) -> String {
    let inner = name.replace(quote, &format!("{quote}{quote}"));
    format!("{quote}{inner}{quote}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ConnectionName;

    fn source(query: SqlQuery) -> SqlSource {
        let connection = ConnectionName::new("w").unwrap();
        SqlSource { connection, query, params: Vec::new(), null_values: Vec::new(), pushdown: false }
    }

    #[test]
    fn several_statements_are_distinguished_from_semicolons_in_strings() {
        for one in [
            "select 1",
            "select ';' as a, \"b;\" from `c;d` -- e;\nwhere f <> 'it''s;' /* g; */",
            "select $$h;$$, $t$i;$j$;$t$ where k = $1 and l = $2",
            "select 1 - 2 / 3",
            "select 'open;",
        ] {
            assert!(is_one_statement(one), "{one}");
        }
        for several in [
            "select 1; select 2",
            "select 1) as asked; delete from carts; select * from (select 1",
            "select '' ; drop table x",
            "select $1 ; select $2",
            "select 1 -- no\n; select 2",
            "select 'ü' /* ü */; select 2",
        ] {
            assert!(!is_one_statement(several), "{several}");
        }
    }

    #[test]
    fn names_stay_names() {
        let columns = [
            StatementColumn { name: "a\" from x; --", kind: ColumnKind::Text },
            StatementColumn { name: "raw", kind: ColumnKind::Bytes },
        ];
        let table = source(SqlQuery::Table(vec!["Acme".to_owned(), "carts".to_owned()]));
        assert_eq!(
            select(&table, &columns),
            "select asked.\"a\"\" from x; --\"::text, asked.\"raw\" from \"Acme\".\"carts\" as asked"
        );
        let query = source(SqlQuery::Text("select 1 -- all".to_owned()));
        assert_eq!(columns_of(&query, DOUBLE), "select * from (\nselect 1 -- all\n) as asked where 1 = 0");
    }
}
