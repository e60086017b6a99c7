"""The yardstick: what one would write in an afternoon, with nothing but Python's standard library.

    yardstick.py send URL CSV     reads a list and posts it to the sandbox, 1,000 identifiers a request
    yardstick.py diff OLD NEW     reads two lists and prints how many entered and left

No state, no guard, no retries, no rejects: it is the least that the same work can be.
"""
import csv
import http.client
import json
import sys

KEYS = {"partner_api_key": "sandbox-partner-api-key", "client_secret": "sandbox-data-import-key"}
HEADERS = {"Content-Type": "application/json", "User-Agent": "partner-Acme-Yardstick/1.0"}


def people(path):
    with open(path, newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for row in rows:
            value = row[0].strip()
            if value:
                yield value


def post(connection, path, body):
    connection.request("POST", path, json.dumps({**KEYS, "cohort_id": "yardstick", **body}), HEADERS)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 201:
        sys.exit(f"status {answer.status}")


def send(url, path):
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    post(connection, "/partners/heap/cohorts", {"name": "Yardstick", "created_at": "2026-01-01T00:00:00Z"})
    everyone = sorted(set(people(path)))
    for start in range(0, len(everyone), 1000):
        change = {"user_ids": everyone[start : start + 1000], "device_ids": [], "aliases": []}
        post(connection, "/partners/heap/cohorts/users", {"cohort_changes": [change]})


def diff(old, new):
    old, new = set(people(old)), set(people(new))
    print(len(new - old), len(old - new))


{"send": send, "diff": diff}[sys.argv[1]](*sys.argv[2:])
