"""Benchmark of `diff: pushdown`: bytes on the wire and time to compare a PostgreSQL cohort in the database, against reading it.

    python3 benches/pushdown.py [MEMBERS]            default: 10 million

It needs PostgreSQL's programs and `cargo build --profile dist --features full`. A server of its own, with default settings except `fsync`,
has a table of members of 36 characters. A first run adds them to the sandbox. Then 1% leave and 1% enter. Plans of both
kinds alternate, directly to the server and once more through a local proxy that counts bytes; the digests of all plans
must be equal. At the end come a run that sends the changes and a run without changes. Times are wall seconds, medians of
three for plans; bytes are those that the proxy forwarded.
"""
import glob
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SYNCLINE = os.path.join(ROOT, "target", "dist", "syncline")
ENV = {**os.environ, "K": "sandbox-data-import-key", "P": "sandbox-partner-api-key", "LC_ALL": "C"}
ROUNDS = 3


class Postgres:
    """A PostgreSQL server with its own data folder."""

    def __init__(self, home):
        self.bin = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        self.home, self.port = home, free_port()
        if os.geteuid() == 0:
            subprocess.run(["chown", "postgres", home], check=True)
        self.run("initdb", "-D", f"{home}/data", "-A", "trust", "-U", "owner", "--no-sync", "-E", "UTF8")
        options = f"-p {self.port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off -c max_wal_size=8GB"
        self.run("pg_ctl", "-D", f"{home}/data", "-o", options, "-l", f"{home}/log", "-w", "start")

    def run(self, program, *args):
        drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        command = [*drop, os.path.join(self.bin, program), *args]
        subprocess.run(command, cwd=self.home, check=True, stdout=subprocess.DEVNULL)

    def sql(self, text):
        command = [os.path.join(self.bin, "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "owner"]
        command += ["-d", "postgres", "-v", "ON_ERROR_STOP=1", "-qAtc", text]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def stop(self):
        self.run("pg_ctl", "-D", f"{self.home}/data", "-m", "immediate", "-w", "stop")


class Proxy:
    """Forwards bytes between clients and the server, and counts them."""

    def __init__(self, port):
        self.server, self.up, self.down = port, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.server))
            threading.Thread(target=self.forward, args=(client, server, "up"), daemon=True).start()
            threading.Thread(target=self.forward, args=(server, client, "down"), daemon=True).start()

    def forward(self, source, sink, direction):
        try:
            while chunk := source.recv(1 << 18):
                sink.sendall(chunk)
                setattr(self, direction, getattr(self, direction) + len(chunk))
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def configure(home, url, port, diff):
    config = f"""version: 1
connections:
  braze:
    kind: braze
    endpoint: {url}
    data_import_key: {{ env: K }}
    partner_api_key: {{ env: P }}
  warehouse: {{ kind: postgres, host: 127.0.0.1, port: {port}, database: postgres, user: owner, tls: off, pushdown: {{ schema: syncline }} }}
cohorts:
  - id: large
    name: Large
    to: braze
    source: {{ kind: sql, connection: warehouse, table: cohort, diff: {diff} }}
    match: [ {{ external_id: identity }} ]
"""
    with open(f"{home}/sync.yaml", "w", encoding="utf-8") as file:
        file.write(config)


def timed(home, *args):
    """Returns wall seconds, peak memory in MiB, and the parsed output."""
    began = time.monotonic()
    child = subprocess.Popen([SYNCLINE, *args, "--format", "json"], cwd=home, env=ENV, stdout=subprocess.PIPE, text=True)
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    assert os.waitstatus_to_exitcode(status) == 0, output
    return wall, usage.ru_maxrss / 1024, json.loads(output)


def pushdown_report(result):
    return result["cohorts"][0]["pushdown"]


def measure(home, server, url, members):
    plain = {"local": [], "pushdown": []}
    digests, peaks = set(), {}
    for _ in range(ROUNDS):
        for diff, walls in plain.items():
            configure(home, url, server.port, diff)
            wall, peaks[diff], plan = timed(home, "plan")
            walls.append(wall)
            digests.add(plan["digest"])
            changes = plan["cohorts"][0]["changes"]
            assert (changes["added"], changes["removed"]) == (members // 100, members // 100), changes
    print("| | wall s | peak MiB | bytes from the server | bytes to it | keys |")
    print("|---|--:|--:|--:|--:|--:|")
    proxy = Proxy(server.port)
    for diff, walls in plain.items():
        configure(home, url, proxy.port, diff)
        proxy.up = proxy.down = 0
        plan = timed(home, "plan")[2]
        digests.add(plan["digest"])
        keys = members if diff == "local" else pushdown_report(plan)["keys_read"]
        wall = statistics.median(walls)
        print(f"| plan, {diff} | {wall:.1f} | {peaks[diff]:.0f} | {proxy.down:,} | {proxy.up:,} | {keys:,} |", flush=True)
    assert len(digests) == 1, digests
    for name in ["run that sends 1% in and 1% out", "run without changes"]:
        proxy.up = proxy.down = 0
        wall, peak, report = timed(home, "reconcile")
        assert pushdown_report(report)["table_error"] is None and pushdown_report(report)["used"], report
        keys = pushdown_report(report)["keys_read"]
        print(f"| {name} | {wall:.1f} | {peak:.0f} | {proxy.down:,} | {proxy.up:,} | {keys:,} |", flush=True)


def create_tables(server, members):
    """Creates a table of members, a second one with 1% other members, and a view of the first."""
    name = "'user-' || left(md5(n::text), 31)"
    few = members // 100
    server.sql(f"""
        create table before as select {name} as identity from generate_series(1, {members}) n;
        create table after as select identity from before offset {few};
        insert into after select {name} from generate_series({members + 1}, {members + few}) n;
        create view cohort as select * from before;
    """)
    server.sql("vacuum analyze before; ")
    server.sql("vacuum analyze after; ")


def main():
    members = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as data:
        server = Postgres(data)
        sandbox = subprocess.Popen([SYNCLINE, "sandbox", "--port", "0"], stdout=subprocess.PIPE, text=True)
        try:
            url = sandbox.stdout.readline().split()[-1]
            create_tables(server, members)
            configure(home, url, server.port, "pushdown")
            wall, peak, report = timed(home, "reconcile")
            assert pushdown_report(report)["table_error"] is None, report
            print(f"{members:,} members; the first run, which fills the cohort and builds the mirror table: {wall:.1f} s, {peak:.0f} MiB\n")
            server.sql("create or replace view cohort as select * from after")
            measure(home, server, url, members)
        finally:
            sandbox.kill()
            sandbox.wait()
            server.stop()


if __name__ == "__main__":
    main()
