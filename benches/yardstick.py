"""Baseline for comparison: a minimal sync with only Python's standard library.

    yardstick.py send URL CSV     reads a list and posts it to the sandbox, 1,000 identifiers per request
    yardstick.py diff OLD NEW     reads two lists and prints how many entered and left

It has no state, guard, retries or rejects: the least work with the same result.
"""
import csv
import http.client
import json
import sys

KEYS = {"partner_api_key": "sandbox-partner-api-key", "client_secret": "sandbox-data-import-key"}
HEADERS = {"Content-Type": "application/json", "User-Agent": "partner-Acme-Yardstick/1.0"}


def identifiers(path):
    with open(path, newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for row in rows:
            value = row[0].strip()
            if value:
                yield value


def post(connection, path, body):
    connection.request("POST", path, json.dumps({**KEYS, "cohort_id": "yardstick", **body}), HEADERS)
    response = connection.getresponse()
    response.read()
    if response.status != 201:
        sys.exit(f"status {response.status}")


def send(url, path):
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    post(connection, "/partners/heap/cohorts", {"name": "Yardstick", "created_at": "2026-01-01T00:00:00Z"})
    distinct = sorted(set(identifiers(path)))
    for start in range(0, len(distinct), 1000):
        change = {"user_ids": distinct[start : start + 1000], "device_ids": [], "aliases": []}
        post(connection, "/partners/heap/cohorts/users", {"cohort_changes": [change]})


def diff(old, new):
    old, new = set(identifiers(old)), set(identifiers(new))
    print(len(new - old), len(old - new))


{"send": send, "diff": diff}[sys.argv[1]](*sys.argv[2:])
