#!/usr/bin/env python3
"""Generates the Avro files in this folder with fastavro, and the rows that fastavro reads from them as expected results.

    pip install fastavro cramjam backports.zstd && python3 make.py

`open.*.avro` contain 40 events in small blocks, in every codec. `kinds.*.avro` contain every Avro type.
`*.json` is the content as fastavro reads it. The sync marker is fixed, so one version always generates the same files.
"""
import datetime
import json
import pathlib

import fastavro

HERE = pathlib.Path(__file__).parent
CODECS = ["null", "deflate", "snappy", "zstandard"]


def optional(of):
    return {"type": ["null", of], "default": None}


def fields(**types):
    return [{"name": name, **(of if isinstance(of, dict) and "default" in of else {"type": of})} for name, of in types.items()]


OPEN = {"type": "record", "name": "Open", "namespace": "com.appboy.users.messages.email", "fields": fields(
    id="string", user_id="string", external_user_id=optional("string"), time="int", timezone=optional("string"),
    campaign_name=optional("string"), email_address="string", user_agent=optional("string"),
    machine_open=optional("string"), is_amp=optional("boolean"),
    suspected_bot_click_reason=optional({"type": "array", "items": "string"}))}

POINT = {"type": "record", "name": "Point", "fields": fields(x="double", next=optional("Point"))}
KINDS = {"type": "record", "name": "Kinds", "fields": fields(
    nothing="null", yes="boolean", small="int", large="long", narrow="float", wide="double", raw="bytes", text="string",
    color={"type": "enum", "name": "Color", "symbols": ["RED", "GREEN"]}, four={"type": "fixed", "name": "Four", "size": 4},
    list={"type": "array", "items": ["null", "string"]}, map={"type": "map", "values": "float"},
    any=["string", "long", "null", "Color", {"type": "array", "items": "int"}],
    point=POINT, reverse={"type": ["string", "null"], "default": ""}, day={"type": "int", "logicalType": "date"})}


def opens():
    for n in range(40):
        yield dict(id=f"e{n:04}", user_id=f"{n * 7919:024x}", external_user_id=None if n % 5 == 0 else f"u{n}",
                   time=1_767_225_600 + 60 * n, timezone=["Europe/Berlin", None, "Asia/Tokyo"][n % 3],
                   campaign_name=["Spring", 'The "VIP" list', "été – ✓ 😀", None][n % 4], email_address=f"u{n}@example.com",
                   user_agent=None if n % 2 else "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 " * 2,
                   machine_open=["true", None][n % 2], is_amp=[True, False, None][n % 3],
                   suspected_bot_click_reason=[None, ["a", "b c"], []][n % 3])


def kinds():
    for n in range(12):
        point = {"x": n + 0.5, "next": {"x": -1e300, "next": None} if n % 2 else None}
        yield dict(nothing=None, yes=n % 2 == 0, small=[0, -1, 2**31 - 1, -(2**31)][n % 4],
                   large=[0, 2**63 - 1, -(2**63), 1 << 53][n % 4], narrow=[3.14, -0.5, 1e30][n % 3], wide=[3.14, 1e-300, 7.0][n % 3],
                   raw=b"raw\n", text="t" * n, color=["RED", "GREEN"][n % 2], four=b"4444",
                   list=[None, "x", "y\"z"][:n % 4], map={f"k{k}": k + 0.25 for k in range(n % 3)},
                   any=["s", 5, None, [1, 2, 3]][n % 4], point=point, reverse=[None, "r"][n % 2], day=20000 + n)


def plain(value):
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value.decode()


for name, schema, records in [("open", OPEN, list(opens())), ("kinds", KINDS, list(kinds()))]:
    for codec in CODECS:
        path = HERE / f"{name}.{codec}.avro"
        with open(path, "wb") as out:
            fastavro.writer(out, fastavro.parse_schema(schema), records, codec=codec, sync_interval=600, sync_marker=b"0123456789abcdef")
    with open(path, "rb") as file:
        read = list(fastavro.reader(file))
    (HERE / f"{name}.json").write_text(json.dumps(read, indent=0, default=plain, ensure_ascii=False) + "\n")
