//! Columns in Apache Arrow's memory layout, as Parquet files and the drivers of warehouses give them → fields.
//!
//! Text is handed on where it lies, whole numbers in their decimal form, UUIDs as everybody writes them; whatever
//! can name nobody is told by what it is. A column within records is named by its path, `user.id`.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal128Type, Decimal256Type, DecimalType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, LargeBinaryArray, LargeStringArray,
    PrimitiveArray, RecordBatch, StringArray, StringViewArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field as Described};

use super::cells::Cells;
use crate::model::{Field, Fields};

/// What Arrow calls a UUID, in the metadata of a field.
const UUID: &str = "arrow.uuid";

/// The wanted columns of some rows.
pub(super) struct Columns(Vec<Column>);

impl Columns {
    /// Takes columns out of a batch, each by its path.
    pub(super) fn of<'p>(batch: &RecordBatch, paths: impl IntoIterator<Item = &'p [Box<str>]>) -> Self {
        Self(paths.into_iter().map(|path| Column::at(batch, path)).collect())
    }

    /// One row of them.
    pub(super) fn row(&self, row: usize) -> Row<'_> {
        Row { columns: &self.0, row }
    }
}

/// One row of columns.
pub(super) struct Row<'a> {
    columns: &'a [Column],
    row: usize,
}

impl Fields for Row<'_> {
    fn field(&self, at: usize) -> Field<'_> {
        self.columns.get(at).map_or(Field::Absent, |column| column.field(self.row))
    }
}

struct Column {
    /// Of the records around it as well.
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Text(StringArray),
    LargeText(LargeStringArray),
    TextView(StringViewArray),
    Bytes(BinaryArray),
    LargeBytes(LargeBinaryArray),
    BytesView(BinaryViewArray),
    FixedBytes(FixedSizeBinaryArray),
    /// Which of some other values each is.
    Coded(Vec<usize>, Box<Column>),
    Made(Cells),
    NotText(&'static str),
}

impl Column {
    /// The column at a path; one of nothing when there is none.
    fn at(batch: &RecordBatch, path: &[Box<str>]) -> Self {
        let schema = batch.schema();
        let found = path.first().and_then(|name| schema.column_with_name(name));
        let Some((at, field)) = found else {
            return Self { nulls: None, values: Values::NotText("nothing") };
        };
        let (mut field, mut array) = (Arc::new(field.clone()), Arc::clone(batch.column(at)));
        let mut nulls = array.logical_nulls();
        for name in &path[1..] {
            let Some(record) = array.as_struct_opt() else { break };
            let Some((at, inner)) = record.fields().find(name) else { break };
            let (inner, column) = (Arc::clone(inner), Arc::clone(record.column(at)));
            (field, array) = (inner, column);
            nulls = NullBuffer::union(nulls.as_ref(), array.logical_nulls().as_ref());
        }
        Self { nulls, values: values(&array, &field) }
    }

    #[inline]
    fn field(&self, row: usize) -> Field<'_> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Field::Absent;
        }
        match &self.values {
            Values::Text(values) => Field::Text(values.value(row).as_bytes()),
            Values::LargeText(values) => Field::Text(values.value(row).as_bytes()),
            Values::TextView(values) => Field::Text(values.value(row).as_bytes()),
            Values::Bytes(values) => Field::Text(values.value(row)),
            Values::LargeBytes(values) => Field::Text(values.value(row)),
            Values::BytesView(values) => Field::Text(values.value(row)),
            Values::FixedBytes(values) => Field::Text(values.value(row)),
            Values::Coded(codes, values) => {
                codes.get(row).map_or(Field::Absent, |value| values.field(*value))
            }
            Values::Made(cells) => cells.field(row),
            Values::NotText(what) => Field::NotText(what),
        }
    }
}

fn values(array: &Arc<dyn Array>, field: &Described) -> Values {
    match array.data_type() {
        DataType::Utf8 => Values::Text(array.as_string().clone()),
        DataType::LargeUtf8 => Values::LargeText(array.as_string().clone()),
        DataType::Utf8View => Values::TextView(array.as_string_view().clone()),
        DataType::Binary => Values::Bytes(array.as_binary().clone()),
        DataType::LargeBinary => Values::LargeBytes(array.as_binary().clone()),
        DataType::BinaryView => Values::BytesView(array.as_binary_view().clone()),
        DataType::FixedSizeBinary(16) if field.extension_type_name() == Some(UUID) => {
            made(array, |row, cells| uuid(array.as_fixed_size_binary().value(row), cells))
        }
        DataType::FixedSizeBinary(_) => Values::FixedBytes(array.as_fixed_size_binary().clone()),
        DataType::Dictionary(..) => {
            let coded = array.as_any_dictionary();
            let inner = Arc::clone(coded.values());
            let inner = Column { nulls: inner.logical_nulls(), values: values(&inner, field) };
            Values::Coded(coded.normalized_keys(), Box::new(inner))
        }
        DataType::Int8 => numbers::<Int8Type>(array),
        DataType::Int16 => numbers::<Int16Type>(array),
        DataType::Int32 => numbers::<Int32Type>(array),
        DataType::Int64 => numbers::<Int64Type>(array),
        DataType::UInt8 => numbers::<UInt8Type>(array),
        DataType::UInt16 => numbers::<UInt16Type>(array),
        DataType::UInt32 => numbers::<UInt32Type>(array),
        DataType::UInt64 => {
            let numbers = array.as_primitive::<UInt64Type>();
            made(array, |row, cells| cells.whole(numbers.value(row)))
        }
        DataType::Float32 => {
            let numbers = array.as_primitive::<Float32Type>();
            made(array, |row, cells| cells.float(f64::from(numbers.value(row))))
        }
        DataType::Float64 => {
            let numbers = array.as_primitive::<Float64Type>();
            made(array, |row, cells| cells.float(numbers.value(row)))
        }
        DataType::Decimal128(..) => decimals::<Decimal128Type>(array),
        DataType::Decimal256(..) => decimals::<Decimal256Type>(array),
        other => Values::NotText(what(other)),
    }
}

/// What a value that names nobody is.
fn what(kind: &DataType) -> &'static str {
    match kind {
        DataType::Boolean => "true or false",
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(..) => "a list",
        DataType::Struct(_) | DataType::Map(..) => "an object",
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => "a time",
        _ => "not a text and not a whole number",
    }
}

fn made(array: &dyn Array, mut cell: impl FnMut(usize, &mut Cells)) -> Values {
    let mut cells = Cells::with_capacity(array.len());
    for row in 0..array.len() {
        if array.is_null(row) { cells.absent() } else { cell(row, &mut cells) }
    }
    Values::Made(cells)
}

fn numbers<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &dyn Array) -> Values {
    let numbers: &PrimitiveArray<T> = array.as_primitive();
    made(array, |row, cells| cells.number(numbers.value(row).into()))
}

fn decimals<T: DecimalType>(array: &dyn Array) -> Values {
    let numbers: &PrimitiveArray<T> = array.as_primitive();
    made(array, |row, cells| {
        let number = numbers.value_as_string(row);
        let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
        if fraction.bytes().all(|digit| digit == b'0') {
            cells.text(whole.as_bytes());
        } else {
            cells.not_text("not a whole number");
        }
    })
}

fn uuid(bytes: &[u8], cells: &mut Cells) {
    match uuid::Uuid::from_slice(bytes) {
        Ok(id) => cells.text(id.hyphenated().encode_lower(&mut [0; 36]).as_bytes()),
        Err(_) => cells.not_text("not a UUID"),
    }
}
