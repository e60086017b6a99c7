#!/usr/bin/env python3
"""Generates the Parquet files in this folder with pyarrow, because the program must read the files of other programs.

    pip install pyarrow && python3 make.py

`people.*.parquet` contain the same four users in every codec and both kinds of pages. `kinds.parquet` has a column of
each type that an identifier may have or that could be mistaken for one, in row groups of two.
"""
import datetime
import decimal
import pathlib
import uuid

import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent
PEOPLE = pa.table({
    "more": [1, 2, 3, 4],
    "id": pa.array(["u1", None, "", "u4"]),
    "crm": pa.array(["c1", "c2", None, ""]),
    "device": pa.array(["d1", "d2", "d3", None]),
})
UUIDS = [uuid.UUID(int=n << 64 | 0xAB) for n in (1, 2)]
KINDS = pa.table({
    "text": pa.array(["a", None, "ü"], pa.large_string()),
    "coded": pa.array(["a", None, "b"]).dictionary_encode(),
    "raw": pa.array([b"a", None, b"b"], pa.binary()),
    "four": pa.array([b"aaaa", None, b"bbbb"], pa.binary(4)),
    "tiny": pa.array([-1, None, 7], pa.int8()),
    "small": pa.array([-(2**31), None, 7], pa.int32()),
    "large": pa.array([2**53 + 1, None, -5], pa.int64()),
    "unsigned": pa.array([2**32 - 1, None, 7], pa.uint32()),
    "huge": pa.array([2**64 - 1, None, 7], pa.uint64()),
    "uuid": pa.array([UUIDS[0].bytes, None, UUIDS[1].bytes], pa.uuid()),
    "whole": pa.array([12.0, None, 7.0], pa.float64()),
    "fraction": pa.array([12.0, None, 0.5], pa.float64()),
    "yes": pa.array([True, None, False]),
    "day": pa.array([datetime.date(2026, 1, 1), None, datetime.date(2026, 1, 2)]),
    "money": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.00")], pa.decimal128(9, 2)),
    "list": pa.array([["a"], None, []], pa.list_(pa.string())),
    "user": pa.array([{"id": "a", "deep": {"id": 1}}, None, {"id": "b", "deep": None}],
                     pa.struct([("id", pa.string()), ("deep", pa.struct([("id", pa.int64())]))])),
    "sure": pa.array(["a", "b", "c"]),
}, schema=None)
KINDS = KINDS.cast(pa.schema([f.with_nullable(f.name != "sure") for f in KINDS.schema]))

for codec in ("none", "snappy", "gzip", "zstd", "lz4"):
    pq.write_table(PEOPLE, HERE / f"people.{codec}.parquet", compression=codec)
pq.write_table(PEOPLE, HERE / "people.pages2.parquet", data_page_version="2.0", use_dictionary=False)
pq.write_table(KINDS, HERE / "kinds.parquet", row_group_size=2)
