//! The `apache-avro` crate as a second implementation of the Avro reader. `cargo test` does not compile it.

use apache_avro::types::Value;
use syncline::connector::avro::{AvroBlock, AvroBlocks, AvroHeader, AvroLimits};
use syncline::model::{AvroRecord as _, AvroValue, catch_parser_panic};

/// Larger files take the crate too long.
const LEN_MAX: usize = 16 << 10;

/// Records that both read have equal values in fields of simple types.
pub(crate) fn avro(data: &[u8]) {
    if data.len() > LEN_MAX {
        return;
    }
    let Some(ours) = ours(data) else { return };
    let Some(Some(theirs)) = catch_parser_panic(|| theirs(data)) else { return };
    for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let Value::Record(fields) = theirs else { continue };
        for (ours, (name, theirs)) in ours.iter().zip(fields) {
            let expected = simple(theirs);
            assert!(
                expected.is_none() || ours == &expected,
                "record {number}, {name}: {ours:?} or {expected:?}"
            );
        }
    }
    assert_eq!(ours.len(), theirs.len(), "the number of records");
}

/// A value of a simple type, as text.
fn simple(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("null".to_owned()),
        Value::Boolean(value) => Some(value.to_string()),
        Value::Int(value) => Some(value.to_string()),
        Value::Long(value) => Some(value.to_string()),
        Value::String(text) | Value::Enum(_, text) => Some(format!("{text:?}")),
        Value::Union(_, inner) => simple(inner),
        _ => None,
    }
}

/// All records of a file without any error.
fn ours(data: &[u8]) -> Option<Vec<Vec<Option<String>>>> {
    let (mut rest, limits) = (data, AvroLimits::default());
    let header = AvroHeader::read(&mut rest, &limits).ok()?;
    let fields = header.schema.fields().len();
    let (mut blocks, mut block) =
        (AvroBlocks::new(rest, &header, header.len(), &limits), AvroBlock::default());
    let mut all = Vec::new();
    while blocks.advance(&mut block).ok()? {
        let mut records = block.records(&header.schema);
        while let Some(row) = records.advance().ok()? {
            all.push((0..fields).map(|at| text(row.datum(at))).collect());
        }
    }
    Some(all)
}

fn text(value: AvroValue<'_>) -> Option<String> {
    match value {
        AvroValue::Null => Some("null".to_owned()),
        AvroValue::Bool(value) => Some(value.to_string()),
        AvroValue::Int(value) => Some(value.to_string()),
        AvroValue::Text(text) => std::str::from_utf8(text).ok().map(|text| format!("{text:?}")),
        _ => None,
    }
}

fn theirs(data: &[u8]) -> Option<Vec<Value>> {
    apache_avro::Reader::new(data).ok()?.collect::<Result<_, _>>().ok()
}
