#!/usr/bin/env python3
"""Generates the Parquet and Avro files in this folder with pyarrow and fastavro: one row, one column per case of `tests/values.rs`.

    pip install pyarrow fastavro && python3 make.py
"""
import datetime
import decimal
import pathlib
import uuid

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent
UUID = uuid.UUID("0190c2a1-7c3b-7000-8000-0000000000ab")
DAY = datetime.date(2026, 1, 1)
MOMENT = datetime.datetime(2026, 1, 1, 12, 30, tzinfo=datetime.timezone.utc)
TIME = datetime.time(12, 30)
D = decimal.Decimal


def fixed_point(digits, scale):
    return pa.array([D(digits)], pa.decimal128(38, scale))


PARQUET = pa.table({
    "text": pa.array(["u1"]),
    "whole": pa.array([123], pa.int64()),
    "decimal_whole": fixed_point("123.00", 2),
    "decimal_large": fixed_point("12345678901234567890123", 0),
    "decimal_256": pa.array([D("1" + "0" * 40)], pa.decimal256(60, 0)),
    "decimal_fraction": fixed_point("19.90", 2),
    "double_whole": pa.array([123.0], pa.float64()),
    "double_fraction": pa.array([1.5], pa.float64()),
    "double_last": pa.array([2.0**53 - 1], pa.float64()),
    "double_end": pa.array([2.0**53], pa.float64()),
    "float_last": pa.array([2.0**24 - 1], pa.float32()),
    "float_end": pa.array([2.0**24], pa.float32()),
    "half_end": pa.array([2048.0], pa.float16()),
    "zero": pa.array([0.0], pa.float64()),
    "minus_zero": pa.array([-0.0], pa.float64()),
    "nan": pa.array([float("nan")], pa.float64()),
    "infinity": pa.array([float("inf")], pa.float64()),
    "minus_infinity": pa.array([float("-inf")], pa.float64()),
    "boolean": pa.array([True]),
    "date": pa.array([DAY], pa.date32()),
    "time": pa.array([TIME], pa.time64("us")),
    "timestamp": pa.array([MOMENT], pa.timestamp("us", "UTC")),
    "list": pa.array([["u1"]]),
    "object": pa.array([{"id": "u1"}]),
    "map": pa.array([[("id", "u1")]], pa.map_(pa.string(), pa.string())),
    "json_text": pa.array(['"u1"'], pa.json_()),
    "json_number": pa.array(["123.00"], pa.json_()),
    "json_list": pa.array(['["u1"]'], pa.json_()),
    "json_object": pa.array(['{"id": "u1"}'], pa.json_()),
    "json_null": pa.array(["null"], pa.json_()),
    "uuid": pa.array([UUID.bytes], pa.uuid()),
    "user": pa.array([{"id": "n1", "born": DAY, "score": 123.0}]),
    "nothing": pa.array([None], pa.string()),
})
pq.write_table(PARQUET, HERE / "values.parquet")


def logical(physical, name, **more):
    return {"type": physical, "logicalType": name, **more}


def fixed(name, size, kind, **more):
    return {"type": "fixed", "name": name, "size": size, "logicalType": kind, **more}


AVRO = {
    "text": ("string", "u1"),
    "whole": ("long", 123),
    "decimal_whole": (logical("bytes", "decimal", precision=38, scale=2), D("123.00")),
    "decimal_large": (fixed("Large", 16, "decimal", precision=38, scale=0), D("12345678901234567890123")),
    "decimal_fraction": (fixed("Money", 8, "decimal", precision=18, scale=2), D("19.90")),
    # As bytes these are the texts `1` and `TFY9`.
    "decimal_one_byte": (logical("bytes", "decimal", precision=9), D(49)),
    "decimal_four_bytes": (["null", logical("bytes", "decimal", precision=10)], D(1413896505)),
    "double_whole": ("double", 123.0),
    "double_fraction": ("double", 1.5),
    "double_last": ("double", 2.0**53 - 1),
    "double_end": ("double", 2.0**53),
    "float_last": ("float", 2.0**24 - 1),
    "float_end": ("float", 2.0**24),
    "zero": ("double", 0.0),
    "minus_zero": ("double", -0.0),
    "nan": ("double", float("nan")),
    "infinity": ("double", float("inf")),
    "minus_infinity": ("double", float("-inf")),
    "boolean": ("boolean", True),
    "date": (logical("int", "date"), DAY),
    "time": (logical("long", "time-micros"), TIME),
    "timestamp": (["null", logical("long", "timestamp-millis")], MOMENT),
    "list": ({"type": "array", "items": "string"}, ["u1"]),
    "object": ({"type": "record", "name": "Object", "fields": [{"name": "id", "type": "string"}]}, {"id": "u1"}),
    "map": ({"type": "map", "values": "string"}, {"id": "u1"}),
    "uuid": (fixed("Uuid", 16, "uuid"), UUID.bytes),
    "user": (["null", {"type": "record", "name": "User", "fields": [
        {"name": "other", "type": {"type": "array", "items": "double"}},
        {"name": "id", "type": ["null", "string"]},
        {"name": "born", "type": logical("int", "date")},
        {"name": "score", "type": logical("bytes", "decimal", precision=9, scale=2)},
    ]}], {"other": [1.5], "id": "n1", "born": DAY, "score": D("123.00")}),
    "nothing": (["null", "string"], None),
}
SCHEMA = {"type": "record", "name": "Values", "fields": [{"name": n, "type": t} for n, (t, _) in AVRO.items()]}
with open(HERE / "values.avro", "wb") as file:
    fastavro.writer(file, SCHEMA, [{name: value for name, (_, value) in AVRO.items()}], sync_marker=b"0123456789abcdef")
