#!/usr/bin/env python3
"""Tests the simulation: builds the program with each planted bug, and prints how many seeds find it.

Usage: scripts/planted-bugs.py [--seeds N] [TEXT]     only bugs whose name contains TEXT

The bugs are in tests/simulation/planted_bugs.toml. Exits with 1 if one is not found.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPY = ROOT / "target" / "planted"


def copy_source():
    """Copies the source to a folder of its own, and keeps what was compiled there."""
    COPY.mkdir(parents=True, exist_ok=True)
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, files):
        source, copy = ROOT / name, COPY / name
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def result_of(seeds):
    """Builds the copy and runs seeds until one shows a violation."""
    run = ["cargo", "test", "--locked", "--quiet", "--lib", "simulation::until_found", "--", "--ignored", "--nocapture"]
    environment = {"SYNCLINE_SEEDS": str(seeds), "RUST_BACKTRACE": "0", "CARGO_TARGET_DIR": str(COPY / "target")}
    ended = subprocess.run(
        run, cwd=COPY, capture_output=True, text=True, env={**os.environ, **environment}
    )
    found = re.search(r"^(not found|found): (\d+) seeds(?:: (.*))?$", ended.stderr, re.MULTILINE)
    if not found:
        sys.exit(f"the simulation did not run:\n{ended.stderr[-3000:]}")
    return found.groups()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=2000)
    arguments.add_argument("text", nargs="?", default="")
    given = arguments.parse_args()
    bugs = tomllib.loads((ROOT / "tests/simulation/planted_bugs.toml").read_text())["bug"]
    missed = 0
    copy_source()
    for bug in bugs:
        if given.text not in bug["name"]:
            continue
        changed = COPY / bug["file"]
        text = changed.read_text()
        if text.count(bug["find"]) != 1:
            sys.exit(f"{bug['file']} has {text.count(bug['find'])} places for the bug `{bug['name']}`")
        changed.write_text(text.replace(bug["find"], bug["replace"]))
        try:
            how, seeds, violation = result_of(given.seeds)
        finally:
            changed.write_text(text)
        missed += how != "found"
        print(f"| {bug['name']} | {seeds if how == 'found' else 'not in ' + seeds} | {violation or ''} |", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
