//! SQL text of the statements for mirror tables, and of the query for the differences.

use super::super::statement::{DOUBLE, StatementColumn, quoted, relation};
use super::super::values::ColumnKind;
use crate::config::SqlSource;
use crate::connector::sql::pushdown::member::prefix;
use crate::connector::sql::pushdown::{MemberRules, MirrorTableName};
use crate::model::{IdentifierKind, MatchRule, all_placeholders};

/// The checksum of the members.
const SUM: &str = "count(*), coalesce(sum(hashtextextended(member, 0)), 0)::text";

/// A string literal, for any text and any setting of backslash escapes.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The qualified name of the table.
pub(super) fn name(table: &MirrorTableName) -> String {
    format!("{}.{}", quoted(&table.schema, DOUBLE), quoted(&table.name, DOUBLE))
}

/// The name of the new table before it replaces the old one.
pub(super) fn next_of(table: &MirrorTableName) -> MirrorTableName {
    MirrorTableName { schema: table.schema.clone(), name: format!("{}_next", table.name) }
}

/// Whether the table exists.
pub(super) fn exists(table: &MirrorTableName) -> String {
    format!("select to_regclass({}) is not null", literal(&name(table)))
}

/// Whether the schema exists.
pub(super) fn schema_exists(schema: &str) -> String {
    format!("select exists (select from pg_namespace where nspname = {})", literal(schema))
}

/// The user's rights: does the schema exist, may it be created, used and written to, and are temporary tables
/// allowed.
pub(super) fn rights(schema: &str) -> String {
    let schema = literal(schema);
    format!(
        "select n.oid is not null,
            has_database_privilege(current_database(), 'create'),
            coalesce(has_schema_privilege(n.oid, 'usage'), false),
            coalesce(has_schema_privilege(n.oid, 'create'), false),
            has_database_privilege(current_database(), 'temporary')
        from (select 1) as one left join pg_namespace n on n.nspname = {schema}"
    )
}

/// The checksum of the table.
pub(super) fn sum(table: &MirrorTableName) -> String {
    format!("select {SUM} from {}", name(table))
}

/// `if not exists` alone fails with a duplicate key when two transactions create the schema at once.
pub(super) fn create_schema(schema: &str) -> String {
    let schema = quoted(schema, DOUBLE);
    format!("select pg_advisory_xact_lock(hashtext('syncline')); create schema if not exists {schema}")
}

pub(super) fn create(table: &MirrorTableName) -> String {
    format!("create table {} (member text collate \"C\" not null)", name(table))
}

/// Inserts the members of an array.
pub(super) fn insert(table: &MirrorTableName) -> String {
    format!("insert into {} (member) select unnest($1)", name(table))
}

/// Replaces a table by another one.
pub(super) fn swap(from: &MirrorTableName, to: &MirrorTableName, about: &str) -> String {
    let (old, new) = (name(to), name(from));
    format!(
        "drop table if exists {old};
         alter table {new} rename to {};
         comment on table {old} is {}",
        quoted(&to.name, DOUBLE),
        literal(about)
    )
}

pub(super) fn drop(table: &MirrorTableName) -> String {
    format!("drop table if exists {}", name(table))
}

pub(super) const CANDIDATES: &str =
    "create temporary table syncline_candidates (member text collate \"C\" not null, stays boolean not null)
     on commit drop";
pub(super) const INSERT_CANDIDATES: &str =
    "insert into pg_temp.syncline_candidates (member, stays) select * from unnest($1, $2)";

/// Deletes all changed identifiers and returns the checksum of the deleted rows.
pub(super) fn take_out(table: &MirrorTableName) -> String {
    let table = name(table);
    format!(
        "with gone as (
            delete from {table} as kept using pg_temp.syncline_candidates as candidate
            where kept.member = candidate.member returning kept.member
        ) select {SUM} from gone"
    )
}

/// Inserts the changed identifiers that are members.
pub(super) fn put_in(table: &MirrorTableName) -> String {
    format!("insert into {} (member) select member from pg_temp.syncline_candidates where stays", name(table))
}

/// Types of rows in the result of the difference query.
pub(super) mod mark {
    /// The number of rows of the source.
    pub(in super::super) const ROWS: &[u8] = b"=";
    /// A member of the source that is not in the table.
    pub(in super::super) const ADD: &[u8] = b"+";
    /// A member of the table that is not in the source.
    pub(in super::super) const DROP: &[u8] = b"-";
    /// A row that must be matched here.
    pub(in super::super) const ODD: &[u8] = b"?";
}

/// A number in exponent notation after the prefix of its kind, as in `IdShapes`.
const EXPONENT: &str = r":-?[0-9]([.][0-9]+[eE][+-]?|[eE][+-])[0-9]{1,4}$";

/// Selects the differences. Columns: the type of the row, the row number, and the requested columns of an unmatched
/// row, or the member in the first of them.
///
/// The server matches a row only if the value is visible ASCII or a number without a fraction. All other rows are
/// returned and matched here.
pub(super) fn difference(
    source: &SqlSource,
    asking: &MemberRules<'_>,
    columns: &[StatementColumn<'_>],
    table: &MirrorTableName,
) -> String {
    let values: Vec<String> = columns.iter().enumerate().map(|(at, column)| value(at, column)).collect();
    let fields = |each: &dyn Fn(usize) -> String| (0..columns.len()).map(each).collect::<Vec<_>>().join(", ");
    let first = |text: &str| fields(&|at| if at == 0 { text.to_owned() } else { "null".to_owned() });
    let (relation, table, member) = (relation(source, DOUBLE), name(table), member(source, asking));
    format!(
        "with syncline_rows as materialized (
            select line, {own}, {member} as member
            from (select row_number() over () as line, {values} from {relation}) as cells
        )
        select '=' as mark, concat_ws(' ', count(*), count(*) filter (where member ~ '.\\.0+$'),
            count(*) filter (where right(member, 5) ~* 'e' and member ~ {exponent})) as line, {none} from syncline_rows
        union all
        select '+', null, {added} from (
            select distinct member from syncline_rows where member is not null
            and not exists (select from {table} as kept where kept.member = syncline_rows.member)
        ) as added
        union all
        select '-', null, {dropped} from {table} as kept
        where not exists (select from syncline_rows where syncline_rows.member = kept.member)
        union all
        select '?', line::text, {own} from syncline_rows where member is null",
        exponent = literal(EXPONENT),
        own = fields(&|at| format!("c{at}")),
        none = fields(&|at| format!("null::text collate \"C\" as c{at}")),
        added = first("added.member"),
        dropped = first("kept.member"),
        values = values.join(", "),
    )
}

/// A column, as an unmatched row returns it (`c`), and its identifier (`m`); null if only this program can compute
/// it.
fn value(at: usize, column: &StatementColumn<'_>) -> String {
    let of = format!("asked.{}", quoted(column.name, DOUBLE));
    // A cast to a whole number is exact. The text of a floating-point number depends on settings.
    let float = |send: &str, end: &str| {
        let raw = format!("encode({send}({of}), 'hex')");
        let id = format!("case when abs({of}) < {end} and {of} = trunc({of}) then {of}::bigint::text end");
        (raw, id)
    };
    let text = format!("({of}::text)");
    let (raw, id) = match column.kind {
        ColumnKind::Text => (text.clone(), text),
        ColumnKind::Double => float("float8send", "9007199254740992"),
        ColumnKind::Single => float("float4send", "16777216"),
        ColumnKind::Numeric => (text, format!("case when {of} = trunc({of}) then trunc({of})::text end")),
        // A string without escapes, without its quotes.
        ColumnKind::Json => {
            let is_plain = format!("{text} ~ {}", literal(r#"^"[^"\\]*"$"#));
            let id = format!("case when {is_plain} then substr({text}, 2, length({text}) - 2) end");
            (text, id)
        }
        _ => (text, "null::text".to_owned()),
    };
    format!("({raw}) collate \"C\" as c{at}, ({id}) collate \"C\" as m{at}")
}

/// The member of a row; null if the row must be matched here.
fn member(source: &SqlSource, asking: &MemberRules<'_>) -> String {
    let is_visible = |text: &&String| text.bytes().all(|byte| byte.is_ascii_graphic());
    // A value that is not visible ASCII is matched here anyway.
    let nulls = source.null_values.iter().filter(is_visible).map(|text| literal(text));
    let nulls: Vec<String> = std::iter::once("''".to_owned()).chain(nulls).collect();
    let placeholders: Vec<String> = all_placeholders().map(literal).collect();
    let rules = asking.rules.iter().filter_map(|rule| {
        let at = asking.columns.iter().position(|column| *column == rule.column)?;
        let made = made(rule, at, asking, &placeholders.join(", "));
        Some(format!(
            "when c{at} is not null and (m{at} is null or m{at} not in ({})) then {made}",
            nulls.join(", ")
        ))
    });
    format!("case {} end", rules.collect::<Vec<_>>().join(" "))
}

fn made(rule: &MatchRule, at: usize, asking: &MemberRules<'_>, placeholders: &str) -> String {
    let MatchRule { kind, label, .. } = rule;
    if !asking.delivery.reaches(*kind) || (asking.may_rekey && *kind != IdentifierKind::ExternalId) {
        return "null::text".to_owned();
    }
    format!(
        "case when length(m{at}) <= {len_max} and m{at} ~ '^[!-~]+$' and lower(m{at}) not in ({placeholders}) \
         then {prefix} || m{at} end",
        len_max = kind.value_len_max(),
        prefix = literal(&prefix(*kind, label)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_texts() {
        assert_eq!(literal(r"it's \'; drop"), r"E'it''s \\''; drop'");
        let table = MirrorTableName { schema: "a\"b".to_owned(), name: "t".to_owned() };
        assert_eq!(name(&table), "\"a\"\"b\".\"t\"");
        assert_eq!(exists(&table), "select to_regclass(E'\"a\"\"b\".\"t\"') is not null");
    }
}
