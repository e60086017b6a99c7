//! [`SourceKind`]: what the checks know about each kind of source. They read it from the tree, before the source is
//! parsed.

use serde::Deserialize;

use crate::config::tree::TreeNode;

/// The `kind:` of a source of a cohort, or of an identity source. A new kind must answer each question here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SourceKind {
    File,
    HeapSegment,
    Sql,
    HeapConnect,
}

impl SourceKind {
    /// The kind of a source. None: the schema reports it.
    pub(super) fn of(source: &TreeNode) -> Option<Self> {
        let (name, _) = source.text("kind")?;
        serde_json::from_value(name.into()).ok()
    }

    /// Whether `path` names files with a `format`.
    pub(super) fn has_format(self) -> bool {
        match self {
            Self::File => true,
            Self::HeapSegment | Self::Sql | Self::HeapConnect => false,
        }
    }

    /// Whether `path` may be in a bucket, with `endpoint` and `region`.
    pub(super) fn has_bucket(self) -> bool {
        match self {
            Self::File | Self::HeapConnect => true,
            Self::HeapSegment | Self::Sql => false,
        }
    }

    /// What uses all rows without a query, if the kind has queries.
    pub(super) fn all_rows(self) -> Option<&'static str> {
        match self {
            Self::Sql => Some("`table: schema.name` uses all rows of a table or view"),
            Self::HeapConnect => Some("`table: name` uses all rows of a table"),
            Self::File | Self::HeapSegment => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::schema::schema;
    use crate::config::suggest::SYNONYMS;

    /// Each `kind:` of a definition of the schema.
    fn kinds(definition: &str) -> Vec<&'static str> {
        let shapes = schema()["$defs"][definition]["oneOf"].as_array().unwrap();
        shapes.iter().map(|shape| shape["properties"]["kind"]["const"].as_str().unwrap()).collect()
    }

    #[test]
    fn checks_and_suggestions_know_every_kind_of_source() {
        let of_cohorts = kinds("SourceSpec");
        assert_eq!(of_cohorts, ["file", "heap_segment", "sql", "heap_connect"]);
        for kind in of_cohorts.into_iter().chain(kinds("IdentitySourceSpec")) {
            let known: Result<SourceKind, _> = serde_json::from_value(Value::from(kind));
            assert!(known.is_ok(), "add `{kind}` to `SourceKind`");
            let has_synonyms = SYNONYMS.iter().any(|(_, ours)| *ours == kind);
            assert!(has_synonyms, "add the names that other tools have for `{kind}` to `SYNONYMS`");
        }
    }
}
