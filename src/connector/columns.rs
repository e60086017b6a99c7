//! Columns in Apache Arrow's memory layout, from Parquet files and database drivers → fields.
//!
//! Text is borrowed, whole numbers become their decimal form, UUIDs their hyphenated form. Other values carry the
//! reason why they are no identifier. Nested columns are addressed by path, `user.id`.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, LargeBinaryArray, LargeStringArray,
    PrimitiveArray, RecordBatch, StringArray, StringViewArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field as Described, TimeUnit};

use super::cells::ColumnCells;
use super::iso8601::{self, DurationUnit};
use crate::model::{Field, Fields, NonIdentifier};

/// Arrow's extension names for UUID and JSON, in the metadata of a field.
const UUID: &str = "arrow.uuid";
const JSON: &str = "arrow.json";
/// Metadata key in which the PostgreSQL driver stores the original type of a text column.
const POSTGRES_TYPE: &str = "ADBC:postgresql:typname";

/// The requested columns of some rows.
pub(super) struct Columns(Vec<ColumnReader>);

impl Columns {
    /// Selects columns of a batch by path.
    pub(super) fn of<'p>(batch: &RecordBatch, paths: impl IntoIterator<Item = &'p [Box<str>]>) -> Self {
        Self(paths.into_iter().map(|path| ColumnReader::at(batch, path)).collect())
    }

    /// One row of the columns.
    pub(super) fn row(&self, row: usize) -> ColumnsRow<'_> {
        ColumnsRow { columns: &self.0, row }
    }
}

/// One row of columns.
pub(super) struct ColumnsRow<'a> {
    columns: &'a [ColumnReader],
    row: usize,
}

impl Fields for ColumnsRow<'_> {
    fn field(&self, at: usize) -> Field<'_> {
        self.columns.get(at).map_or(Field::Absent, |column| column.field(self.row))
    }
}

struct ColumnReader {
    /// Nulls of the column and of the records around it.
    nulls: Option<NullBuffer>,
    values: ColumnValues,
}

enum ColumnValues {
    Text(StringArray),
    LargeText(LargeStringArray),
    TextView(StringViewArray),
    Bytes(BinaryArray),
    LargeBytes(LargeBinaryArray),
    BytesView(BinaryViewArray),
    FixedBytes(FixedSizeBinaryArray),
    /// All values are of one other type.
    Coded(Vec<usize>, Box<ColumnReader>),
    Made(ColumnCells),
    Other(NonIdentifier),
}

impl ColumnReader {
    /// The column at a path; an empty column if there is none.
    fn at(batch: &RecordBatch, path: &[Box<str>]) -> Self {
        let schema = batch.schema();
        let found = path.first().and_then(|name| schema.column_with_name(name));
        let Some((at, field)) = found else {
            return Self { nulls: None, values: ColumnValues::Made(ColumnCells::default()) };
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
            ColumnValues::Text(values) => Field::Text(values.value(row).as_bytes()),
            ColumnValues::LargeText(values) => Field::Text(values.value(row).as_bytes()),
            ColumnValues::TextView(values) => Field::Text(values.value(row).as_bytes()),
            ColumnValues::Bytes(values) => Field::Text(values.value(row)),
            ColumnValues::LargeBytes(values) => Field::Text(values.value(row)),
            ColumnValues::BytesView(values) => Field::Text(values.value(row)),
            ColumnValues::FixedBytes(values) => Field::Text(values.value(row)),
            ColumnValues::Coded(codes, values) => {
                codes.get(row).map_or(Field::Absent, |value| values.field(*value))
            }
            ColumnValues::Made(cells) => cells.field(row),
            ColumnValues::Other(why) => Field::Other(*why, b""),
        }
    }
}

fn values(array: &Arc<dyn Array>, field: &Described) -> ColumnValues {
    match (field.extension_type_name(), field.metadata().get(POSTGRES_TYPE).map(String::as_str)) {
        (Some(JSON), _) | (_, Some("json" | "jsonb")) => return texts(array, field, ColumnCells::json_text),
        (_, Some("numeric")) => return texts(array, field, ColumnCells::numeric),
        _ => {}
    }
    match array.data_type() {
        DataType::Utf8 => ColumnValues::Text(array.as_string().clone()),
        DataType::LargeUtf8 => ColumnValues::LargeText(array.as_string().clone()),
        DataType::Utf8View => ColumnValues::TextView(array.as_string_view().clone()),
        DataType::Binary => ColumnValues::Bytes(array.as_binary().clone()),
        DataType::LargeBinary => ColumnValues::LargeBytes(array.as_binary().clone()),
        DataType::BinaryView => ColumnValues::BytesView(array.as_binary_view().clone()),
        DataType::FixedSizeBinary(16) if field.extension_type_name() == Some(UUID) => {
            made(array, |row, cells| uuid(array.as_fixed_size_binary().value(row), cells))
        }
        DataType::FixedSizeBinary(_) => ColumnValues::FixedBytes(array.as_fixed_size_binary().clone()),
        DataType::Dictionary(..) => {
            let coded = array.as_any_dictionary();
            let inner = Arc::clone(coded.values());
            let inner = ColumnReader { nulls: inner.logical_nulls(), values: values(&inner, field) };
            ColumnValues::Coded(coded.normalized_keys(), Box::new(inner))
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
        DataType::Float16 => {
            let numbers = array.as_primitive::<Float16Type>();
            made(array, |row, cells| cells.half(numbers.value(row).to_f32()))
        }
        DataType::Float32 => {
            let numbers = array.as_primitive::<Float32Type>();
            made(array, |row, cells| cells.single(numbers.value(row)))
        }
        DataType::Float64 => {
            let numbers = array.as_primitive::<Float64Type>();
            made(array, |row, cells| cells.double(numbers.value(row)))
        }
        DataType::Decimal32(..) => decimals::<Decimal32Type>(array),
        DataType::Decimal64(..) => decimals::<Decimal64Type>(array),
        DataType::Decimal128(..) => decimals::<Decimal128Type>(array),
        DataType::Decimal256(..) => decimals::<Decimal256Type>(array),
        DataType::Boolean => {
            let all = array.as_boolean();
            made(array, |row, cells| cells.boolean(all.value(row)))
        }
        other => moments(array, other).unwrap_or_else(|| ColumnValues::Other(why(other))),
    }
}

/// The reason why a type is no identifier.
fn why(kind: &DataType) -> NonIdentifier {
    match kind {
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(..) => NonIdentifier::List,
        DataType::Struct(_) | DataType::Map(..) => NonIdentifier::Object,
        DataType::Interval(_) => NonIdentifier::Duration,
        _ => NonIdentifier::Unsupported,
    }
}

/// Dates, times, timestamps and durations.
fn moments(array: &dyn Array, kind: &DataType) -> Option<ColumnValues> {
    use NonIdentifier::{Date, Duration, Time, Timestamp};
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => DurationUnit::Seconds,
        TimeUnit::Millisecond => DurationUnit::Millis,
        TimeUnit::Microsecond => DurationUnit::Micros,
        TimeUnit::Nanosecond => DurationUnit::Nanos,
    };
    Some(match kind {
        DataType::Date32 => moment::<Date32Type>(array, Date, iso8601::date),
        DataType::Date64 => {
            moment::<Date64Type>(array, Date, |millis| iso8601::date(millis.div_euclid(86_400_000)))
        }
        DataType::Time32(TimeUnit::Second) => {
            moment::<Time32SecondType>(array, Time, |number| iso8601::time(number, DurationUnit::Seconds))
        }
        DataType::Time32(_) => {
            moment::<Time32MillisecondType>(array, Time, |number| iso8601::time(number, DurationUnit::Millis))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            moment::<Time64MicrosecondType>(array, Time, |number| iso8601::time(number, DurationUnit::Micros))
        }
        DataType::Time64(_) => {
            moment::<Time64NanosecondType>(array, Time, |number| iso8601::time(number, DurationUnit::Nanos))
        }
        DataType::Timestamp(of, zone) => {
            let (unit, has_zone) = (unit(of), zone.is_some());
            let text = |number| {
                if has_zone {
                    iso8601::timestamp(number, unit)
                } else {
                    iso8601::local_timestamp(number, unit)
                }
            };
            match of {
                TimeUnit::Second => moment::<TimestampSecondType>(array, Timestamp, text),
                TimeUnit::Millisecond => moment::<TimestampMillisecondType>(array, Timestamp, text),
                TimeUnit::Microsecond => moment::<TimestampMicrosecondType>(array, Timestamp, text),
                TimeUnit::Nanosecond => moment::<TimestampNanosecondType>(array, Timestamp, text),
            }
        }
        DataType::Duration(of) => {
            let text = |number| iso8601::duration(number, unit(of));
            match of {
                TimeUnit::Second => moment::<DurationSecondType>(array, Duration, text),
                TimeUnit::Millisecond => moment::<DurationMillisecondType>(array, Duration, text),
                TimeUnit::Microsecond => moment::<DurationMicrosecondType>(array, Duration, text),
                TimeUnit::Nanosecond => moment::<DurationNanosecondType>(array, Duration, text),
            }
        }
        _ => return None,
    })
}

fn moment<T: ArrowPrimitiveType<Native: Into<i64>>>(
    array: &dyn Array,
    of: NonIdentifier,
    text: impl Fn(i64) -> Option<String>,
) -> ColumnValues {
    let numbers: &PrimitiveArray<T> = array.as_primitive();
    made(array, |row, cells| cells.other(of, text(numbers.value(row).into()).unwrap_or_default().as_bytes()))
}

/// Values that are stored as text and have another type.
fn texts(array: &Arc<dyn Array>, field: &Described, cell: impl Fn(&mut ColumnCells, &[u8])) -> ColumnValues {
    let plain = Described::new(field.name(), array.data_type().clone(), true);
    let column = ColumnReader { nulls: array.logical_nulls(), values: values(array, &plain) };
    made(array, |row, cells| match column.field(row) {
        Field::Text(text) => cell(cells, text),
        Field::Absent => cells.absent(),
        _ => cells.other(NonIdentifier::Unsupported, b""),
    })
}

fn made(array: &dyn Array, mut cell: impl FnMut(usize, &mut ColumnCells)) -> ColumnValues {
    let mut cells = ColumnCells::with_capacity(array.len());
    for row in 0..array.len() {
        if array.is_null(row) { cells.absent() } else { cell(row, &mut cells) }
    }
    ColumnValues::Made(cells)
}

fn numbers<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &dyn Array) -> ColumnValues {
    let numbers: &PrimitiveArray<T> = array.as_primitive();
    made(array, |row, cells| cells.number(numbers.value(row).into()))
}

fn decimals<T: DecimalType>(array: &dyn Array) -> ColumnValues {
    let numbers: &PrimitiveArray<T> = array.as_primitive();
    made(array, |row, cells| cells.decimal(numbers.value_as_string(row).as_bytes()))
}

fn uuid(bytes: &[u8], cells: &mut ColumnCells) {
    match uuid::Uuid::from_slice(bytes) {
        Ok(id) => cells.text(id.hyphenated().encode_lower(&mut [0; 36]).as_bytes()),
        Err(_) => cells.other(NonIdentifier::Unsupported, b""),
    }
}
