#!/usr/bin/env python3
"""Measures the service beside named references and prints ratios first.

    python3 benches/run.py [PART...] [--write]

Parts: key-set refusals isolation sign-in signing commits start memory growth (default: all).
A and B take turns; figures are medians of ROUNDS rounds. `--write` puts the
table into docs/benchmarks.md. Needs an otherwise idle machine.
"""

import argparse
import contextlib
import datetime
import json
import pathlib
import platform
import re
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request

import servers
from servers import KEY_SET, REFERENCES, ROOT, get, output

ROUNDS = 5
SECONDS = 2
CORES = 2
ARGON2_MIB = 19
# As in benches/pieces.rs.
TOKENS_AT_ONCE = 32


class Table:
    """Rows of the report: what, figure with its unit, goal, whether it is met."""

    def __init__(self):
        self.rows = []
        self.has_failed = False

    def add(self, part, what, value, goal=None, met=None, detail=""):
        mark = "" if met is None else ("yes" if met else "**no**")
        self.rows.append((part, what, value, goal or "", mark, detail))
        print(f"{part:10} {what:58} {value:>12}  {goal or '':14} {mark:7} {detail}", flush=True)

    def ratio(self, part, what, ours, theirs, at_least=None, unit=""):
        if isinstance(theirs, Reference) and theirs.failure:
            self.add(part, what, "none", detail=theirs.failure)
            return
        ratios = [a / b for a, b in zip(ours, theirs)]
        middle = statistics.median(ratios)
        detail = f"{statistics.median(ours):,.0f} against {statistics.median(theirs):,.0f} {unit}"
        spread = f"; {min(ratios):.2f} to {max(ratios):.2f}"
        met = None if at_least is None else middle >= at_least
        goal = None if at_least is None else f">= {at_least}"
        self.add(part, what, f"{middle:.2f}", goal, met, detail + spread)

    def at_most(self, part, what, values, limit, unit, detail=""):
        middle = statistics.median(values)
        spread = f"{min(values):.1f} to {max(values):.1f}" if len(values) > 1 else ""
        self.add(part, what, f"{middle:.1f} {unit}", f"<= {limit} {unit}", middle <= limit,
                 "; ".join(filter(None, (detail, spread))))

    def failed(self, part, error):
        self.has_failed = True
        self.add(part, "could not be measured", "none", detail=one_line(error))

    def markdown(self):
        lines = ["| part | what | figure | goal | met | detail |", "| --- | --- | --- | --- | --- | --- |"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join(lines) + "\n"


class Reference(list):
    """Figures of a server that the service is compared with. After its first failure, which the report
    quotes, nothing more is asked of it."""

    def __init__(self, name):
        super().__init__()
        self.name, self.failure = name, None

    def attempt(self, work, *arguments):
        """Result of `work`, or None when the reference has failed."""
        if self.failure is None:
            try:
                return work(*arguments)
            except (ArithmeticError, OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
                self.failure = f"{self.name} failed: {one_line(error)}"
        return None

    def measure(self, work, *arguments):
        figure = self.attempt(work, *arguments)
        if figure is not None:
            self.append(figure)


def one_line(error):
    return " ".join(f"{type(error).__name__}: {error}".split()).replace("|", "/")


def folder(parent, name):
    path = parent / name
    path.mkdir()
    return path


def wrk(port, *options, connections=64, seconds=SECONDS):
    """Requests per second and the 99th percentile in ms."""
    url = f"http://127.0.0.1:{port}{KEY_SET}"
    text = output("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *options, url)
    if "Non-2xx" in text and "If-None-Match" not in " ".join(options):
        raise RuntimeError(text)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
    return rate, float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def settled(server):
    """Waits until the key that is born expired is there too: no key is being made then."""
    path = server.folder / "totally_not_my_privateKeys.db"
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as db:
        while db.execute("SELECT count(*) FROM keys").fetchone()[0] < 2:
            time.sleep(0.05)


def post(port, path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())


def users(server, where, n=20):
    """Signs up `n` users; the file of their names and passwords."""
    lines = []
    for i in range(n):
        name = f"bench{time.time_ns()}x{i}"
        password = post(server.port, "/register", {"username": name, "email": f"{name}@example.com"})["password"]
        lines.append(f"{name} {password}")
    where.write_text("\n".join(lines))
    return where


def load(server, seconds, connections, addresses, file, *options):
    return json.loads(output(REFERENCES / "load", server.port, seconds, connections, addresses, file, *options))


def sign_ins(server, seconds, *options):
    """Sign-ins per second. There is nothing to compare when none was answered."""
    result = load(server, seconds, *options)
    if not result["sign_ins"]:
        raise RuntimeError(f"no sign-in was answered 200; statuses: {result['statuses']}; {server.last_message()}")
    return result["sign_ins"] / result["seconds"]


# ---------------------------------------------------------------- the parts


def key_set(table, tmp):
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(servers.service(folder(tmp, "service")))
        settled(ours)
        answer, body = get(ours.port)
        raw = servers.raw_answer(ours.port)
        others = {
            "nginx": stack.enter_context(servers.nginx(folder(tmp, "nginx"), answer, body)),
            "bare loop": stack.enter_context(servers.reference("bare_loop", tmp, raw)),
            "minimal axum": stack.enter_context(servers.reference("minimal_axum", tmp, body)),
        }
        flask = Reference("Flask peer")
        peer = flask.attempt(lambda: stack.enter_context(servers.peer(folder(tmp, "peer"))))
        rates = {name: [] for name in ("ours", *others)}
        p99 = {name: [] for name in rates}
        etag = get(others["nginx"].port)[0].getheader("etag")
        unchanged = {"ours": [], "nginx": []}
        for _ in range(ROUNDS):
            for name, server in [("ours", ours), *others.items()]:
                rate, slow = wrk(server.port)
                rates[name].append(rate)
                p99[name].append(slow)
            flask.measure(lambda: wrk(peer.port)[0])
            for name, tag in (("ours", answer.getheader("etag")), ("nginx", etag)):
                server = ours if name == "ours" else others[name]
                assert get(server.port, headers={"If-None-Match": tag})[0].status == 304
                unchanged[name].append(wrk(server.port, "-H", f"If-None-Match: {tag}")[0])
    unit = "requests/s"
    table.ratio("key set", "against nginx, static file", rates["ours"], rates["nginx"], 1.25, unit)
    table.ratio("key set", "against a bare tokio loop", rates["ours"], rates["bare loop"], 0.85, unit)
    table.ratio("key set", "against one axum route alone", rates["ours"], rates["minimal axum"], None, unit)
    table.ratio("key set", "against Flask and gunicorn", rates["ours"], flask, None, unit)
    table.ratio("key set", "304, against nginx", unchanged["ours"], unchanged["nginx"], None, unit)
    ours, theirs = statistics.median(p99["ours"]), statistics.median(p99["nginx"])
    table.add("key set", "99th percentile against nginx's", f"{ours / theirs:.2f}", "<= 1", ours <= theirs,
              f"{ours:.2f} against {theirs:.2f} ms")


def refusals(table, tmp):
    """User and system time of the server for each answer, against that of a key set."""
    calls = {"key set": ("GET", KEY_SET), "404": ("GET", "/nope"), "405": ("PUT", KEY_SET), "429": ("POST", "/auth")}
    with servers.service(folder(tmp, "service")) as ours:
        settled(ours)
        micros = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, (method, path) in calls.items():
                script = tmp / "method.lua"
                script.write_text(f"wrk.method = '{method}'\n")
                url = f"http://127.0.0.1:{ours.port}{path}"
                before = ours.cpu_seconds()
                text = output("wrk", "-t1", "-c64", f"-d{SECONDS}s", "-s", script, url)
                answers = int(re.search(r"(\d+) requests in", text)[1])
                micros[name].append((ours.cpu_seconds() - before) / answers * 1e6)
    base = micros.pop("key set")
    for name, values in micros.items():
        ratios = [one / other for one, other in zip(values, base)]
        middle = statistics.median(ratios)
        table.add("refusals", f"CPU time of a {name} against a key set's", f"{middle:.2f}", "<= 1.3", middle <= 1.3,
                  f"{statistics.median(values):.1f} against {statistics.median(base):.1f} us; "
                  f"{min(ratios):.2f} to {max(ratios):.2f}")


def isolation(table, tmp):
    """400 clients at 200 addresses: 300 sign in and 100 sign up, ten times a second each, which is several times what
    can be hashed; and the same without a pause, which mostly tells how the cores are shared with those clients."""
    floods = {"a flood from 200 addresses": ["pace=100"], "one whose clients never pause": []}
    calm, rates, slow = {}, {}, {}
    with servers.service(folder(tmp, "service")) as ours:
        settled(ours)
        file = users(ours, tmp / "users")
        for name, options in floods.items():
            calm[name], rates[name], slow[name] = [], [], []
            for _ in range(ROUNDS):
                calm[name].append(wrk(ours.port)[0])
                flood = threading.Thread(
                    target=load, args=(ours, SECONDS + 1.5, 400, 200, file, "register=100", *options))
                flood.start()
                time.sleep(1)
                rate, p99 = wrk(ours.port)
                rates[name].append(rate)
                slow[name].append(p99)
                flood.join()
    paced, restless = floods
    table.ratio("isolation", f"key set under {paced}, against calm", rates[paced], calm[paced], 0.5, "requests/s")
    table.at_most("isolation", "its 99th percentile", slow[paced], 10, "ms")
    table.ratio("isolation", f"key set under {restless}", rates[restless], calm[restless], None, "requests/s")
    table.at_most("isolation", "its 99th percentile", slow[restless], 10, "ms")


def sign_in(table, tmp):
    cffi = tmp / "cffi.py"
    cffi.write_text(
        "import sys, threading, time\nfrom argon2.low_level import hash_secret_raw, Type\n"
        "end = time.time() + float(sys.argv[2])\ncounts = []\n"
        "def work():\n    n = 0\n    while time.time() < end:\n"
        "        hash_secret_raw(b'x' * 36, b'0123456789abcdef', 2, 19456, 1, 32, Type.ID)\n        n += 1\n"
        "    counts.append(n)\nthreads = [threading.Thread(target=work) for _ in range(int(sys.argv[1]))]\n"
        "began = time.time()\n[t.start() for t in threads]\n[t.join() for t in threads]\n"
        "print(sum(counts) / (time.time() - began))\n")
    rates, c, python, slow, bare = [], [], [], [], []
    flask = Reference("Flask peer")
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(servers.service(folder(tmp, "service")))
        # One client in turn is soon refused by the default quota.
        patient = stack.enter_context(servers.service(folder(tmp, "patient"), AUTH_RATE=1000))
        peer = flask.attempt(lambda: stack.enter_context(servers.peer(folder(tmp, "peer"))))
        settled(ours)
        settled(patient)
        file = users(ours, tmp / "users")
        peer_file = flask.attempt(lambda: users(peer, tmp / "peer-users"))
        patient_file = users(patient, tmp / "patient-users", 1)
        for _ in range(ROUNDS):
            # Enough clients to keep the hashing threads busy, few enough to be let in.
            rates.append(sign_ins(ours, SECONDS, 64, 64, file))
            c.append(float(output(REFERENCES / "argon2_c", CORES, SECONDS).split()[0]))
            python.append(float(output(servers.PEER_VENV / "bin/python", cffi, CORES, SECONDS)))
            flask.measure(lambda: sign_ins(peer, SECONDS, 64, 64, peer_file))
            bare.append(float(output(REFERENCES / "argon2_c", 1, SECONDS).split()[1]))
            slow.append(load(patient, SECONDS, 1, 1, patient_file)["p99"])
    table.ratio("sign-in", "against 2 threads of C Argon2 with SIMD, nothing else", rates, c, 1.2, "per s")
    table.ratio("sign-in", "against 2 threads of argon2-cffi, nothing else", rates, python, 1.25, "per s")
    table.ratio("sign-in", "against Flask and gunicorn", rates, flask, None, "per s")
    slow, bare = statistics.median(slow), statistics.median(bare)
    table.add("sign-in", "99th percentile of one client in turn against C's one hash", f"{slow / bare:.2f}", "<= 2",
              slow <= 2 * bare, f"{slow:.1f} against {bare:.1f} ms")


def signing(table, tmp):
    del tmp
    ours, openssl = [], []
    for _ in range(ROUNDS):
        output("cargo", "bench", "--locked", "--bench", "pieces", "--", "token", cwd=ROOT)
        estimates = servers.TARGET / "criterion/token/made and signed/new/estimates.json"
        nanos = json.loads(estimates.read_text())["median"]["point_estimate"]
        ours.append(TOKENS_AT_ONCE / nanos * 1e9)
        text = output("openssl", "speed", "-seconds", "2", "rsa2048", stderr=subprocess.DEVNULL)
        openssl.append(float(re.search(r"rsa 2048 bits\s+\S+s\s+\S+s\s+([\d.]+)", text)[1]))
    table.ratio("signing", "tokens against `openssl speed rsa2048`, one core", ours, openssl, 0.9, "per s")


def commits(table, tmp):
    shim = tmp / "disk.so"
    servers.run("gcc", "-shared", "-fPIC", "-O2", "-o", shim, ROOT / "tests/faults/disk.c", "-ldl", "-lpthread")
    slow, quick = [], []
    # No quota: what is to be limited here is only the disk.
    slow_disk = {"LD_PRELOAD": shim, "FAULT_NAME": "totally_not_my_privateKeys.db", "FSYNC_DELAY_US": 5000}
    with contextlib.ExitStack() as stack:
        pairs = []
        for name, more, rates in (("quick", {}, quick), ("slow", slow_disk, slow)):
            server = stack.enter_context(servers.service(folder(tmp, name), **more))
            settled(server)
            pairs.append((server, users(server, tmp / f"users-{name}"), rates))
        for _ in range(ROUNDS):
            for server, file, rates in pairs:
                rates.append(sign_ins(server, SECONDS, 64, 64, file))
    table.ratio("commits", "sign-ins with each fsync 5 ms slower, against without", slow, quick, 0.95, "per s")


def start(table, tmp):
    empty, existing, flask = [], [], Reference("Flask peer")
    kept = folder(tmp, "kept")
    with servers.service(kept) as server:
        settled(server)
    peer_kept = folder(tmp, "peer")
    flask.attempt(lambda: servers.peer(peer_kept).__exit__())
    for n in range(15):
        with servers.service(folder(tmp, f"empty{n}")) as server:
            empty.append(server.start_seconds * 1e3)
        with servers.service(kept) as server:
            existing.append(server.start_seconds * 1e3)
        flask.measure(peer_start, peer_kept)
    note = "exec to first 200 of the key set"
    table.at_most("start", "existing database", existing, 30, "ms", note)
    table.at_most("start", "empty folder", empty, 300, "ms", note)
    figure = flask.failure is None and f"{statistics.median(flask):.0f} ms"
    table.add("start", "existing database, Flask and gunicorn", figure or "none", detail=flask.failure or "")


def peer_start(place):
    with servers.peer(place) as server:
        return server.start_seconds * 1e3


def memory(table, tmp):
    with servers.service(folder(tmp, "service")) as ours:
        settled(ours)
        idle = ours.rss_mib()
        file = users(ours, tmp / "users")
        peak = peak_during(ours, lambda: load(ours, 4, 1000, 1000, file))
    table.at_most("memory", "idle, after the first keys", [idle], 20, "MiB")
    limit = idle + CORES * ARGON2_MIB + 40
    table.at_most("memory", "most during 1,000 sign-ins at once", [peak], round(limit, 1), "MiB",
                  "idle + cores x Argon2 + 40")
    with servers.service(folder(tmp, "addresses"), TRUSTED_PROXIES="127.0.0.0/8") as ours:
        settled(ours)
        before, calls, seconds = ours.rss_mib(), 0, 0.0
        empty = tmp / "none"
        empty.write_text("")
        while calls < 1_000_000:
            result = load(ours, 5, 64, 1, empty, "forwarded")
            assert set(result["statuses"]) == {"400"}, result
            calls += sum(result["statuses"].values())
            seconds += result["seconds"]
        most = ours.rss_mib()
        waited = 0
        while waited < 60 and ours.rss_mib() > before + 10:
            time.sleep(1)
            waited += 1
        table.at_most("memory", "within a minute after 1,000,000 addresses", [ours.rss_mib()], round(before + 10, 1),
                      "MiB", f"{most:.1f} at their end, {calls / seconds:,.0f} addresses/s; after {waited} s")


def peak_during(server, work):
    done = threading.Event()
    peak = [0.0]

    def watch():
        while not done.wait(0.02):
            peak[0] = max(peak[0], server.rss_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return peak[0]


def growth(table, tmp):
    """The same figures on databases of other sizes, each round on each of them."""
    sizes = {"10 users": (10, 100), "10,000 users": (10_000, 100_000),
             "1,000,000 users, 10,000,000 log rows": (1_000_000, 10_000_000)}
    with contextlib.ExitStack() as stack:
        running, figures = {}, {}
        for name, (accounts, rows) in sizes.items():
            place = folder(tmp, name.split()[0].replace(",", ""))
            with servers.service(place) as server:
                settled(server)
                file = users(server, place / "users")
            fill(place / "totally_not_my_privateKeys.db", accounts, rows)
            running[name] = (place, file)
            figures[name] = {"start": [], "key set": [], "sign-in": []}
        for _ in range(15):
            for name, (place, _) in running.items():
                with servers.service(place) as server:
                    figures[name]["start"].append(1 / server.start_seconds)
        up = {name: stack.enter_context(servers.service(place)) for name, (place, _) in running.items()}
        for _ in range(ROUNDS):
            for name, (_, file) in running.items():
                figures[name]["key set"].append(wrk(up[name].port)[0])
                figures[name]["sign-in"].append(sign_ins(up[name], SECONDS, 64, 64, file))
    small, *others = figures
    for name in others:
        for what in ("key set", "sign-in", "start"):
            ratios = statistics.median(figures[name][what]) / statistics.median(figures[small][what])
            unit = "starts/s" if what == "start" else "per s"
            table.add("growth", f"{what}: {name} against {small}", f"{ratios:.2f}", ">= 0.95", ratios >= 0.95,
                      f"{statistics.median(figures[name][what]):,.1f} against "
                      f"{statistics.median(figures[small][what]):,.1f} {unit}")


def fill(database, accounts, rows):
    """Adds accounts like those that are there, and log rows, for them."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        db.execute("PRAGMA synchronous=OFF")
        have = db.execute("SELECT count(*) FROM users").fetchone()[0]
        phc = db.execute("SELECT password_hash FROM users LIMIT 1").fetchone()[0]
        db.executemany(
            "INSERT INTO users (username, password_hash, email) VALUES (?, ?, ?)",
            ((f"filler{n}", phc, f"filler{n}@example.com") for n in range(have, accounts)))
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO auth_logs (request_ip, user_id) SELECT '127.0.0.1', 1 + i % ? FROM n", (rows, accounts))
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


# ------------------------------------------------------------------ the run

PARTS = {"key-set": key_set, "refusals": refusals, "isolation": isolation, "sign-in": sign_in, "signing": signing,
         "commits": commits, "start": start, "memory": memory, "growth": growth}


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())[1]
    versions = {
        "rustc": output("rustc", "--version").split()[1],
        "nginx": subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.split("/")[-1].strip(),
        "OpenSSL": output("openssl", "version").split()[1],
    }
    return (f"{datetime.date.today()}, {cpu}, {CORES} cores, Linux {platform.release()}, "
            + ", ".join(f"{name} {version}" for name, version in versions.items()))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    options.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    chosen = options.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        options.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    servers.prepare()
    table = Table()
    for name in chosen.parts or PARTS:
        with tempfile.TemporaryDirectory() as tmp:
            try:
                PARTS[name](table, pathlib.Path(tmp))
            except Exception as error:  # noqa: BLE001: the other parts can still be measured
                traceback.print_exc()
                table.failed(name, error)
    if chosen.write:
        write(table)
    return 1 if table.has_failed else 0


def write(table):
    """Replaces what stands between the two marks of docs/benchmarks.md."""
    page = ROOT / "docs" / "benchmarks.md"
    before, _, rest = page.read_text().partition("<!-- table -->\n")
    _, _, after = rest.partition("<!-- end of table -->\n")
    page.write_text(f"{before}<!-- table -->\n{machine()}\n\n{table.markdown()}<!-- end of table -->\n{after}")


if __name__ == "__main__":
    sys.exit(main())
