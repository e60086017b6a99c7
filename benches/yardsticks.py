"""Compares `syncline` with other tools on the same work in the same run.

    python3 benches/yardsticks.py [MEMBERS ...]      default: 1 and 10 million

The work: count the members who entered and left, given a new CSV list in random order and the old list in the format of
each tool. `syncline` has its state, `sort` and `comm` a sorted text, DuckDB a Parquet file; the hash set reads both lists.
All must find the same numbers. Medians of five alternating rounds; CPU and wall in seconds, peak memory in MiB.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROUNDS = 5
ENV = {**os.environ, "K": "sandbox-data-import-key", "P": "sandbox-partner-api-key", "LC_ALL": "C"}

OLD_AS_PARQUET = """
import duckdb
duckdb.execute("copy (select identity from read_csv('old.csv', header=true, all_varchar=true)) to 'old.parquet'")
"""
FULL_OUTER_JOIN = """
import duckdb
duckdb.execute("set threads = 2")
print(*duckdb.execute('''
    select count(*) filter (where o.identity is null), count(*) filter (where n.identity is null)
    from (select distinct identity from read_csv('new.csv', header=true, all_varchar=true)) n
    full outer join 'old.parquet' o using (identity)
    where o.identity is null or n.identity is null
''').fetchone())
"""
SORT_OLD = "tail -n +2 old.csv | sort --parallel=2 > old.sorted"
SORT_AND_COMM = """
tail -n +2 new.csv | sort -u --parallel=2 > new.sorted
echo "$(comm -13 old.sorted new.sorted | wc -l) $(comm -23 old.sorted new.sorted | wc -l)"
"""


def build():
    """Builds the programs: `syncline`, and the benchmark, which generates the lists and contains the hash set."""
    command = ["cargo", "build", "--profile", "dist", "--features", "full", "--locked", "--bin", "syncline"]
    subprocess.run(command, cwd=ROOT, check=True)
    command = ["cargo", "bench", "--profile", "dist", "--locked", "--bench", "scale", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    messages = [json.loads(line) for line in lines]
    executables = {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}
    return executables["syncline"], executables["scale"]


def measure(command, home, members):
    """Runs a command, checks its result, and returns CPU, wall and peak memory, with children."""
    began = time.monotonic()
    child = subprocess.Popen(command, cwd=home, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    changes = str(members // 100)
    if child.returncode != 0 or output.replace(",", "").split().count(changes) < 2:
        sys.exit(f"{command[0]} did not find {changes} in and {changes} out:\n{output}")
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


def has_duckdb():
    return subprocess.run([sys.executable, "-c", "import duckdb"], stderr=subprocess.DEVNULL).returncode == 0


def compare(members, syncline, scale):
    with tempfile.TemporaryDirectory() as home:
        subprocess.run([scale, "--make", str(members), home], check=True, env=ENV)
        contenders = {"syncline": [syncline, "plan"], "hash set": [scale, "--naive", "old.csv", "new.csv"]}
        subprocess.run(["bash", "-c", SORT_OLD], cwd=home, env=ENV, check=True)
        contenders["sort, comm"] = ["bash", "-c", SORT_AND_COMM]
        if has_duckdb():
            subprocess.run([sys.executable, "-c", OLD_AS_PARQUET], cwd=home, check=True)
            contenders["DuckDB"] = [sys.executable, "-c", FULL_OUTER_JOIN]
        rounds = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, command in contenders.items():
                rounds[name].append(measure(command, home, members))
    medians = {name: [statistics.median(part) for part in zip(*costs)] for name, costs in rounds.items()}
    our_cpu, our_wall, _ = medians["syncline"]
    print(f"\n{members:,} members, 1% in and 1% out")
    print(f"{'':12}{'CPU s':>9}{'wall s':>9}{'MiB':>8}{'CPU':>8}{'wall':>8}")
    for name, (cpu, wall, mebibytes) in medians.items():
        print(f"{name:12}{cpu:9.2f}{wall:9.2f}{mebibytes:8.0f}{cpu / our_cpu:7.1f}x{wall / our_wall:7.1f}x", flush=True)


def main():
    if not has_duckdb():
        print("DuckDB is not installed and will not be measured: python3 -m pip install duckdb", file=sys.stderr)
    syncline, scale = build()
    for members in [int(arg) for arg in sys.argv[1:]] or [1_000_000, 10_000_000]:
        compare(members, syncline, scale)


main()
