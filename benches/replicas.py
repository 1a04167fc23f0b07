#!/usr/bin/env python3
"""Measures the service on PostgreSQL; docs/scale.md counts with the figures.

    python3 benches/replicas.py [sign-ins] [hundred]

sign-ins: as many as on SQLite, on the same cores? What does one cost PostgreSQL?
hundred: what a hundred replicas ask of PostgreSQL, and a key that falls due for all of them at once.
"""

import contextlib
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import run
import servers

sys.path += [str(servers.ROOT / "tests"), str(servers.ROOT / "tests" / "replicas")]
from harness import postgres  # noqa: E402
from service import url  # noqa: E402

# Enough to keep two cores busy, few enough that nothing is refused, also on a slow machine.
CLIENTS, SECONDS = 8, 4
REPLICAS = 100
# Seconds that they only poll.
QUIET = 20


@contextlib.contextmanager
def database():
    """A server of PostgreSQL at its defaults, but for the number of connections."""
    folder = postgres.folder()
    try:
        server = postgres.Server(folder, "database", fsync="on", max_connections="400")
        with server.create().start() as running:
            yield running.create_database()
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


def cpu_seconds(server):
    """User and system time of the server and its sessions so far, also of those that have ended."""

    def fields(pid):
        try:
            return [int(field) for field in pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]]
        except FileNotFoundError:
            return [0, 0, 0, 0]

    ticks = sum(fields(server.process.pid)) + sum(sum(fields(pid)[:2]) for pid in server.children())
    return ticks / os.sysconf("SC_CLK_TCK")


class Counters:
    """What the server has done since."""

    def __init__(self, server):
        self.server, self.first, self.began = server, self.read(server), time.monotonic()

    @staticmethod
    def read(server):
        # Sessions report their transactions once a second at most.
        time.sleep(1.1)
        commits, wal = server.sql(
            "SELECT xact_commit, pg_current_wal_lsn() - '0/0' FROM pg_stat_database WHERE datname = current_database()"
        ).split("|")
        return cpu_seconds(server), int(commits), int(wal)

    def since(self):
        """CPU seconds, commits, bytes of WAL, seconds."""
        seconds = time.monotonic() - self.began
        return [now - then for now, then in zip(self.read(self.server), self.first)] + [seconds]


def sign_ins(table, tmp):
    rates, sqlite, cpu, commits, wal, own, all_of_sqlite = [], [], [], [], [], [], []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(database())
        # On a fast machine the quota of eight addresses would be what is measured.
        one = stack.enter_context(servers.service(run.folder(tmp, "sqlite"), AUTH_RATE=1000))
        run.settled(one)
        other = stack.enter_context(servers.service(run.folder(tmp, "pg"), AUTH_RATE=1000, DATABASE_URL=url([server.port])))
        server.wait_for("SELECT count(*) > 1 FROM keys", "t")
        files = [run.users(one, tmp / "sqlite-users"), run.users(other, tmp / "pg-users")]
        for _ in range(run.ROUNDS):
            before = one.cpu_seconds()
            result = run.load(one, SECONDS, CLIENTS, CLIENTS, files[0])
            sqlite.append(result["sign_ins"] / result["seconds"])
            all_of_sqlite.append((one.cpu_seconds() - before) / result["sign_ins"] * 1e3)
            counters, before = Counters(server), other.cpu_seconds()
            result = run.load(other, SECONDS, CLIENTS, CLIENTS, files[1])
            done = result["sign_ins"]
            used, committed, written, _ = counters.since()
            rates.append(done / result["seconds"])
            cpu.append(used / done * 1e3)
            own.append((other.cpu_seconds() - before) / done * 1e3)
            commits.append(committed / done)
            wal.append(written / done)
    table.ratio("sign-ins", "sign-ins against SQLite, on the same cores", rates, sqlite, 0.75, "per s")
    both = [service + engine for service, engine in zip(own, cpu)]
    table.ratio("sign-ins", "sign-ins for each CPU second, against SQLite", [1e3 / ms for ms in both],
                [1e3 / ms for ms in all_of_sqlite], None, "per s")
    for what, values, unit in (
        ("CPU of PostgreSQL for a sign-in", cpu, "ms"),
        ("CPU of the service for it", own, "ms"),
        ("commits of PostgreSQL for it, polls and quota too", commits, ""),
        ("WAL of it", wal, "bytes"),
    ):
        figure = f"{statistics.median(values):.2f} {unit}".strip()
        table.add("sign-ins", what, figure, detail=f"{min(values):.2f} to {max(values):.2f}")


def objects(server):
    """The first statement of a poll: the service puts it together from the names of its tables and functions."""
    name = "format('to_regclass(%L)::oid::bigint', tablename)"
    tables = server.sql(f"SELECT string_agg({name}, ', ') FROM pg_tables WHERE schemaname = 'public'")
    name = "format('to_regprocedure(%L)::oid::bigint', oid::regprocedure)"
    called = "pronamespace = 'public'::regnamespace"
    functions = server.sql(f"SELECT string_agg({name}, ', ') FROM pg_proc WHERE {called}")
    return f"SELECT ARRAY[{tables}, {functions}] AS objects;\n"


def hundred(table, tmp):
    """Sessions that send the statements of a hundred replicas: polls, and then all at once the transaction in which a
    replica adds a key that is due, or finds that one was added."""
    with database() as server:
        with servers.service(run.folder(tmp, "schema"), DATABASE_URL=url([server.port])):
            server.wait_for("SELECT count(*) > 1 FROM keys", "t")
        counters, waits = Counters(server), Waits(server)
        poll = objects(server) + statement("poll", "SELECT version, ")
        polls = Sessions(server, tmp, "polls", poll, "-T", QUIET, "-R", 2 * REPLICAS)
        polls.end()
        used, _, _, seconds = counters.since()
        rate, middle, slowest = polls.figures(seconds=QUIET)
        table.add("hundred", "polls/s", f"{rate:.0f}", detail=f"median {middle:.1f} ms, slowest {slowest:.0f} ms")
        table.add("hundred", "CPU of PostgreSQL for them", f"{used / seconds * 100:.0f} %", detail="of one core")
        polls = Sessions(server, tmp, "polls", poll, "-T", 10, "-R", 2 * REPLICAS)
        time.sleep(2)
        before, began = cpu_seconds(server), time.monotonic()
        server.sql("DELETE FROM commits")
        rotations = Sessions(server, tmp, "rotation", rotation(), "-t", 1)
        rotations.end()
        took, used = time.monotonic() - began, cpu_seconds(server) - before
        polls.end()
        waits.stop()
        _, middle, slowest = rotations.figures(seconds=took)
        table.add("hundred", "rotation of all at once, the slowest", f"{slowest:.0f} ms",
                  detail=f"median {middle:.0f} ms, 50 to 400 of them for making a key")
        table.add("hundred", "CPU of PostgreSQL for it", f"{used * 1e3:.0f} ms", detail="with the sessions' start")
        table.add("hundred", "replicas that asked for the lock", server.sql("SELECT count(*) FROM commits"))
        table.add("hundred", "sessions that waited for it, most seen at once", str(waits.most))
        _, middle, slowest = polls.figures(seconds=10)
        table.add("hundred", "slowest poll meanwhile", f"{slowest:.0f} ms", "<= 1000 ms", slowest <= 1000,
                  f"median {middle:.1f} ms; a replica counts as cut off after 2 s")


def statement(file, begins):
    """The statement of the store that begins so, on one line."""
    text = (servers.ROOT / "src/store/postgres" / f"{file}.rs").read_text()
    found = re.search(rf'"({re.escape(begins)}[^"]*)"', text)
    connection = (servers.ROOT / "src/store/postgres/connection.rs").read_text()
    now = re.search(r'const NOW: &str = "([^"]*)"', connection)[1]
    return " ".join(found[1].replace("{NOW}", now).split())


def rotation():
    """A replica makes a key, which takes a while, and asks whether another was faster; the statements are those of
    `create` in domain/rotation.rs and of `change_keys`, for keys of this moment."""
    keys = " ".join(line.partition("-- ")[0] for line in re.search(
        r'SELECT_KEY: &str =\s*"([^"]*)"', (servers.ROOT / "src/store/key_row.rs").read_text())[1].splitlines())
    lock = statement("keys", "SELECT version FROM key_version FOR")
    return f"""\\set pause random(50, 400)
        SELECT version AS seen FROM key_version \\gset
        \\sleep :pause ms
        SELECT version AS latest FROM key_version \\gset
        \\if :latest = :seen
        BEGIN; SET LOCAL synchronous_commit = on; SET LOCAL statement_timeout = '2s';
        INSERT INTO commits (id) VALUES (gen_random_uuid());
        {lock.replace("SELECT version", "SELECT (version = :seen)::int AS due")} \\gset
        SELECT * FROM ({keys} WHERE k.exp > extract(epoch FROM now())) unexpired;
        \\if :due
        UPDATE key_version SET version = version + 1;
        \\endif
        COMMIT;
        \\endif
        """


class Sessions:
    """pgbench with a session a replica, which runs the script."""

    def __init__(self, server, tmp, name, text, *options):
        script, self.log = tmp / f"{name}.sql", server.within / f"{name}-{time.monotonic_ns()}"
        script.write_text(text)
        command = [postgres.programs() / "pgbench", "-n", "-M", "extended", "-f", script, "-c", REPLICAS, "-j", 2, "-l",
                   f"--log-prefix={self.log}", *options, "-h", "127.0.0.1", "-p", server.port, "-U", postgres.USER,
                   postgres.DATABASE]
        self.process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, cwd=tmp)

    def end(self):
        if self.process.wait(120):
            raise RuntimeError("pgbench failed")

    def figures(self, seconds):
        """Transactions per second, their median and their slowest, in ms."""
        files = self.log.parent.glob(f"{self.log.name}.*")
        times = [int(line.split()[2]) / 1e3 for file in files for line in file.read_text().splitlines()]
        return len(times) / seconds, statistics.median(times), max(times)


class Waits(threading.Thread):
    """Samples the sessions that wait for a lock."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.stopped, self.most = server, threading.Event(), 0
        self.start()

    def run(self):
        sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while not self.stopped.wait(0.05):
            self.most = max(self.most, int(self.server.ask(sql) or 0))

    def stop(self):
        self.stopped.set()
        self.join()


PARTS = {"sign-ins": sign_ins, "hundred": hundred}


def main():
    if unknown := set(sys.argv[1:]) - set(PARTS):
        sys.exit(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    servers.prepare()
    table = run.Table()
    for name in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory() as tmp:
            PARTS[name](table, pathlib.Path(tmp))


if __name__ == "__main__":
    main()
