#!/usr/bin/env python3
"""Baseline for comparison: Python decodes a file of events, and maps them to Heap bodies of 1,000.

    python3 export_yardstick.py FILE decode|map

Needs `fastavro`, `cramjam` and `orjson`; `cargo bench --bench export` runs it if they are installed.
"""
import datetime
import sys

import orjson
from fastavro import reader

HEAD = {"id", "external_user_id", "time"}


def event(record):
    time = datetime.datetime.fromtimestamp(record["time"], datetime.timezone.utc)
    return {"event": "Braze Email Open", "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "idempotency_key": record["id"], "identity": record["external_user_id"] or record["user_id"],
            "properties": {k: v for k, v in record.items() if v is not None and k not in HEAD}}


def main():
    path, mode = sys.argv[1:]
    count, written, events = 0, 0, []
    with open(path, "rb") as file:
        for record in reader(file):
            count += 1
            if mode == "map":
                events.append(event(record))
                if len(events) == 1000:
                    written += len(orjson.dumps({"app_id": "11", "events": events}))
                    events.clear()
    print(f"{count} records, {written} bytes")


if __name__ == "__main__":
    main()
