//! Schema of an Avro file's writer: types by number, and how each field of a record is read.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::logical::{self, LogicalType, PhysicalType};

/// The index of a type in the schema.
pub(super) type TypeId = usize;

/// One type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AvroType {
    Null,
    Bool,
    /// `int` and `long`, which have the same encoding.
    Long,
    Float,
    Double,
    /// `string` and `bytes`, which have the same encoding.
    Text,
    Fixed(usize),
    /// A number with a logical type.
    LogicalNumber(LogicalType),
    /// Bytes with a logical type, and their length if it is fixed.
    LogicalBytes(LogicalType, Option<usize>),
    Enum(Vec<Box<str>>),
    List(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record(Vec<(Box<str>, TypeId)>),
}

/// How a field is read. Nearly all fields are plain, or plain or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldOp {
    Plain(PlainType),
    /// A union of two branches; null is the branch of this number.
    Optional(i64, PlainType),
    Other(TypeId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlainType {
    Bool,
    Long,
    Float,
    Double,
    Text,
}

/// The schema of a file's records.
#[derive(Clone, Debug)]
pub struct AvroSchema {
    name: String,
    fields: Vec<Box<str>>,
    pub(super) ops: Vec<FieldOp>,
    pub(super) types: Vec<AvroType>,
    pub(super) paths: Vec<SchemaPath>,
}

/// A selected value inside a field: the index of the field, and the path to the value.
#[derive(Clone, Debug)]
pub(super) struct SchemaPath {
    pub(super) field: usize,
    pub(super) names: Vec<Box<str>>,
}

impl AvroSchema {
    /// Parses a schema from JSON.
    ///
    /// # Errors
    /// A text with the reason. The top-level type must be a record.
    pub fn parse(json: &str) -> Result<Self, String> {
        let json: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let mut parser = SchemaParser::default();
        let root = parser.parse(&json, "")?;
        let AvroType::Record(fields) = &parser.types[root] else {
            return Err("it is not a record".to_owned());
        };
        let (names, ops) = fields
            .iter()
            .map(|(name, of)| (name.clone(), op(&parser.types, *of)))
            .collect::<(Vec<_>, Vec<_>)>();
        let name = parser.names.into_iter().find(|(_, id)| *id == root).map(|(name, _)| name);
        Ok(Self {
            name: name.unwrap_or_default(),
            fields: names,
            ops,
            types: parser.types,
            paths: Vec::new(),
        })
    }

    /// The record's full name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Selects a value inside a field. Returns its index in each row, behind the fields, or `None` if the schema has no such
    /// value.
    pub fn select(&mut self, field: usize, names: &[&str]) -> Option<usize> {
        let names: Vec<Box<str>> = names.iter().map(|name| (*name).into()).collect();
        match self.ops.get(field)? {
            FieldOp::Other(id) if self.leads(*id, &names) => {
                self.paths.push(SchemaPath { field, names });
                Some(self.ops.len() + self.paths.len() - 1)
            }
            _ => None,
        }
    }

    /// Whether a value of the type can have a value at this path.
    fn leads(&self, id: TypeId, names: &[Box<str>]) -> bool {
        let Some((first, rest)) = names.split_first() else { return true };
        match &self.types[id] {
            AvroType::Union(branches) => branches.iter().any(|branch| {
                !matches!(self.types[*branch], AvroType::Union(_)) && self.leads(*branch, names)
            }),
            AvroType::Map(values) => self.leads(*values, rest),
            AvroType::Record(fields) => {
                fields.iter().any(|(name, of)| name == first && self.leads(*of, rest))
            }
            _ => false,
        }
    }

    /// The names of the fields, in order.
    #[must_use]
    pub fn fields(&self) -> Vec<&str> {
        self.fields.iter().map(|name| &**name).collect()
    }
}

fn op(types: &[AvroType], id: TypeId) -> FieldOp {
    let plain = |id: TypeId| match &types[id] {
        AvroType::Bool => Some(PlainType::Bool),
        AvroType::Long => Some(PlainType::Long),
        AvroType::Float => Some(PlainType::Float),
        AvroType::Double => Some(PlainType::Double),
        AvroType::Text => Some(PlainType::Text),
        _ => None,
    };
    if let Some(plain) = plain(id) {
        return FieldOp::Plain(plain);
    }
    let AvroType::Union(branches) = &types[id] else { return FieldOp::Other(id) };
    match branches.as_slice() {
        [first, second] if types[*first] == AvroType::Null => {
            plain(*second).map_or(FieldOp::Other(id), |plain| FieldOp::Optional(0, plain))
        }
        [first, second] if types[*second] == AvroType::Null => {
            plain(*first).map_or(FieldOp::Other(id), |plain| FieldOp::Optional(1, plain))
        }
        _ => FieldOp::Other(id),
    }
}

#[derive(Default)]
struct SchemaParser {
    types: Vec<AvroType>,
    /// Named types by their full name.
    names: HashMap<String, TypeId>,
}

impl SchemaParser {
    fn add(&mut self, found: AvroType) -> TypeId {
        self.types.push(found);
        self.types.len() - 1
    }

    fn parse(&mut self, json: &Value, namespace: &str) -> Result<TypeId, String> {
        match json {
            Value::String(name) => self.by_name(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.parse(branch, namespace));
                let branches = branches.collect::<Result<_, _>>()?;
                Ok(self.add(AvroType::Union(branches)))
            }
            Value::Object(object) => self.object(object, namespace),
            other => Err(format!("{other} is not a type")),
        }
    }

    fn by_name(&mut self, name: &str, namespace: &str) -> Result<TypeId, String> {
        let primitive = match name {
            "null" => AvroType::Null,
            "boolean" => AvroType::Bool,
            "int" | "long" => AvroType::Long,
            "float" => AvroType::Float,
            "double" => AvroType::Double,
            "string" | "bytes" => AvroType::Text,
            _ => {
                let known = self.names.get(&full_name(name, namespace)).or_else(|| self.names.get(name));
                return known.copied().ok_or_else(|| format!("`{name}` is not a type"));
            }
        };
        Ok(self.add(primitive))
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<TypeId, String> {
        let part = |name: &str| object.get(name).ok_or_else(|| format!("a type without `{name}`"));
        let kind = part("type")?;
        match kind.as_str() {
            None => self.parse(kind, namespace),
            Some("array") => {
                let items = self.parse(part("items")?, namespace)?;
                Ok(self.add(AvroType::List(items)))
            }
            Some("map") => {
                let values = self.parse(part("values")?, namespace)?;
                Ok(self.add(AvroType::Map(values)))
            }
            Some("record" | "error" | "enum" | "fixed") => self.named(object, namespace),
            Some(name) => {
                let found = match name {
                    "int" => logical::of(object, PhysicalType::Int).map(AvroType::LogicalNumber),
                    "long" => logical::of(object, PhysicalType::Long).map(AvroType::LogicalNumber),
                    "bytes" => logical::of(object, PhysicalType::Bytes)
                        .map(|logical| AvroType::LogicalBytes(logical, None)),
                    _ => None,
                };
                match found {
                    Some(found) => Ok(self.add(found)),
                    None => self.by_name(name, namespace),
                }
            }
        }
    }

    fn named(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<TypeId, String> {
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let list = |name: &str| object.get(name).and_then(Value::as_array).ok_or(format!("no `{name}`"));
        let name = text("name").ok_or("a named type without a name")?;
        let name = full_name(name, text("namespace").unwrap_or(namespace));
        let inner = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        // A record may refer to itself.
        let id = self.add(AvroType::Null);
        if self.names.insert(name.clone(), id).is_some() {
            return Err(format!("`{name}` is defined twice"));
        }
        self.types[id] = match text("type") {
            Some("enum") => AvroType::Enum(list("symbols")?.iter().map(symbol).collect::<Result<_, _>>()?),
            Some("fixed") => {
                let size = object.get("size").and_then(Value::as_u64).and_then(|size| size.try_into().ok());
                let size = size.ok_or("a fixed type without a size")?;
                match logical::of(object, PhysicalType::Fixed(size)) {
                    Some(logical) => AvroType::LogicalBytes(logical, Some(size)),
                    None => AvroType::Fixed(size),
                }
            }
            _ => AvroType::Record(self.fields(list("fields")?, &inner)?),
        };
        Ok(id)
    }

    fn fields(&mut self, fields: &[Value], namespace: &str) -> Result<Vec<(Box<str>, TypeId)>, String> {
        let mut found: Vec<(Box<str>, TypeId)> = Vec::with_capacity(fields.len());
        let mut seen = std::collections::HashSet::new();
        for field in fields {
            let name = field.get("name").and_then(Value::as_str).ok_or("a field without a name")?;
            if !seen.insert(name) {
                return Err(format!("the field `{name}` is defined twice"));
            }
            let of = field.get("type").ok_or_else(|| format!("the field `{name}` has no type"))?;
            found.push((name.into(), self.parse(of, namespace)?));
        }
        Ok(found)
    }
}

fn symbol(json: &Value) -> Result<Box<str>, String> {
    json.as_str().map(Box::from).ok_or_else(|| format!("{json} is not a symbol"))
}

/// A name with a dot is a full name; in Currents' schemas it contains the dotted event type.
fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &str) {
        let found = match AvroSchema::parse(json) {
            Ok(schema) => format!("{} {:?} {:?}", schema.name(), schema.fields(), schema.ops),
            Err(error) => error,
        };
        assert_eq!(found, expected, "{json}");
    }

    fn record(fields: &str) -> String {
        format!(r#"{{"type":"record","name":"R","namespace":"n.s","fields":[{fields}]}}"#)
    }

    #[test]
    fn plain_optional_and_other_fields_are_classified() {
        check(
            &record(
                r#"{"name":"a","type":"string"},{"name":"b","type":["null","long"],"default":null},
                   {"name":"c","type":["float","null"]},{"name":"d","type":{"type":"int","logicalType":"date"}},
                   {"name":"e","type":{"type":"array","items":["null","string"]}},{"name":"f","type":["null","string","int"]}"#,
            ),
            r#"n.s.R ["a", "b", "c", "d", "e", "f"] [Plain(Text), Optional(0, Long), Optional(1, Float), Other(8), Other(12), Other(16)]"#,
        );
    }

    #[test]
    fn the_whole_type_in_a_name() {
        let json = r#"{"type":"record","name":"dataexport.S3.inner.users.messages.email.Open","namespace":"x","fields":[]}"#;
        check(json, "dataexport.S3.inner.users.messages.email.Open [] []");
    }

    #[test]
    fn names_are_resolved_in_their_namespace() {
        let fields = r#"{"name":"a","type":{"type":"fixed","name":"F","size":2}},{"name":"b","type":"F"},{"name":"c","type":"n.s.F"},
            {"name":"d","type":["null","R"]}"#;
        check(&record(fields), r#"n.s.R ["a", "b", "c", "d"] [Other(1), Other(1), Other(1), Other(3)]"#);
    }

    #[test]
    fn schemas_without_records_are_errors() {
        check("\"string\"", "it is not a record");
        check("7", "7 is not a type");
        check(&record(r#"{"name":"a","type":"G"}"#), "`G` is not a type");
        check(&record(r#"{"name":"a"}"#), "the field `a` has no type");
        check(
            &record(r#"{"name":"a","type":"int"},{"name":"a","type":"int"}"#),
            "the field `a` is defined twice",
        );
        check(r#"{"type":"record","name":"R"}"#, "no `fields`");
        check(r#"{"type":"enum","name":"E","symbols":[1]}"#, "1 is not a symbol");
        assert!(AvroSchema::parse(&"[".repeat(100_000)).is_err());
    }
}
