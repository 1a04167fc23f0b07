#!/usr/bin/env python3
"""Walks verifiers that others wrote through the life of the key set, all at once, and prints what they did.

    python3 tests/interop/run.py            all that can be installed here
    python3 tests/interop/run.py NAME...    only those whose name contains NAME
    python3 tests/interop/run.py --record   all, and writes docs/interop.md
    python3 tests/interop/run.py --install  installs them only
    python3 tests/interop/run.py --grader [PROGRAM]
                                            the course grader, five times; PROGRAM when it cannot be installed

Needs the release binary (cargo build --release), Linux, Python 3.11, and per verifier its
toolchain. What is missing is skipped with its reason, or fails when REQUIRE_INTEROP=1.
Ends with 1 when a verifier does what neither the script nor expectations.py foresees.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True

import grader
import report
from expectations import VERIFIERS
from forgeries import forgeries, kid
from gate import Gate
from service import AUDIENCE, JWKS, LEAD, MAX_AGE, ROOT, Service
from verifiers import Running, install_all, say

REQUIRED = os.environ.get("REQUIRE_INTEROP") == "1"
PAGE = ROOT / "docs" / "interop.md"
OUTAGE = 4 * MAX_AGE
# Seconds that the walk waits for a verifier to recover after an emergency: longer than any of them
# waits between two requests for unknown names, but for those that expectations.py explains.
RECOVERY = 45


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    for other in ("--record", "--install"):
        parser.add_argument(other, action="store_true")
    parser.add_argument("--grader", nargs="?", const="", metavar="PROGRAM")
    asked = parser.parse_args()
    if asked.grader is not None:
        return grader.grade(asked.grader)
    if asked.record and asked.names:
        parser.error("only a walk of all of them is recorded")
    rows = [v for v in VERIFIERS if not asked.names or any(name in v.name for name in asked.names)]
    commands, skipped = install_all(list(dict.fromkeys(v.folder for v in rows)))
    rows = [v for v in rows if v.folder in commands]
    if asked.install or not rows:
        print(f"{len(commands)} installed, {len(skipped)} skipped")
        return int(REQUIRED and bool(skipped))
    with tempfile.TemporaryDirectory() as folder:
        walk = Walk(Path(folder), [(v, commands[v.folder]) for v in rows])
        walk.run()
    text, surprises = report.render(walk.results, skipped, walk.times)
    print(text)
    if asked.record:
        PAGE.write_text(text)
    elif not asked.names:
        recorded = PAGE.read_text()
        surprises += [f"{v.name}: not in docs/interop.md, see --record" for v in VERIFIERS if f"| {v.name} |" not in recorded]
    for surprise in surprises:
        say(f"SURPRISE: {surprise}")
    failed = len({surprise.partition(":")[0] for surprise in surprises})
    print(f"{len(walk.results) - failed} passed, {failed} failed, {len(skipped)} skipped")
    return 1 if surprises or (REQUIRED and skipped) else 0


class Result:
    """Results of one verifier: for each step of the script, a cell (as it should be?, in words)."""

    def __init__(self, verifier):
        self.verifier = verifier
        self.versions = ""
        self.cells = {}


class Walk:
    def __init__(self, folder: Path, rows: list):
        self.gate = Gate()
        self.issuer = f"http://127.0.0.1:{self.gate.port}"
        self.service = self.server(folder, "log")
        self.folder = folder
        self.rows = rows
        self.results = [Result(verifier) for verifier, _ in rows]
        self.running = []
        self.times = {}

    def server(self, folder: Path, log: str, **settings: str) -> Service:
        return Service(folder, log, **({"ISSUER": self.issuer, "AUDIENCE": AUDIENCE} | settings))

    def run(self):
        try:
            self.step("start", self.start)
            self.step("fresh, expired and forged tokens", self.refusals)
            self.step("outage", self.outage)
            self.step("rotation", self.rotation)
            self.step("emergency", self.emergency)
            self.count_requests()
        finally:
            for running in self.running:
                running.stop()
            if self.service.running:
                self.service.stop()

    def step(self, name: str, do):
        started = time.monotonic()
        do()
        self.times[name] = time.monotonic() - started
        say(f"{name}: {self.times[name]:.0f} s")

    def each(self, do):
        """Does it for all verifiers that run, at once."""
        alive = [pair for pair in zip(self.running, self.results) if pair[1].versions]
        with ThreadPoolExecutor(max(1, len(alive))) as pool:
            list(pool.map(lambda pair: do(*pair), alive))

    def start(self):
        self.service.start()
        self.gate.open(self.service.port)
        environment = {"JWKS_URL": self.issuer + JWKS, "ISSUER": self.issuer, "AUDIENCE": AUDIENCE}
        for number, (verifier, command) in enumerate(self.rows, 1):
            running = Running(verifier, command, environment)
            self.gate.addresses[running.process.pid] = f"127.0.1.{number}"
            self.running.append(running)
        self.gate.complete.set()

        for running, result in zip(self.running, self.results):
            result.versions = running.ready()
            if not result.versions:
                say(f"{result.verifier.name}: it did not start, see {running.log}")
        self.began = time.monotonic()

    def refusals(self):
        token = self.service.token()
        jwk = next(key for key in self.service.key_set() if key["kid"] == kid(token))
        refused = {"expired": [self.service.token("/auth?expired")]}
        for name, setting in [("wrong issuer", {"ISSUER": "https://other.example"}),
                              ("wrong audience", {"AUDIENCE": "others"})]:
            sibling = self.server(self.folder, "sibling-log", **setting).start()
            refused[name] = [sibling.token()]
            assert kid(refused[name][0]) == jwk["kid"], "the sibling signs with another key"
            sibling.stop()
        refused |= forgeries(token, jwk)

        def ask(running, result):
            verdict = running.verdict(token)
            result.cells["fresh"] = (verdict == "ok", verdict)
            for name, tokens in refused.items():
                verdicts = [running.verdict(each) for each in tokens]
                bad = [v for v in verdicts if not v.startswith("no ")]
                result.cells[name] = (not bad, "; ".join(bad) if bad else verdicts[0])
            verdict = running.verdict(token)
            if verdict != "ok":
                result.cells["fresh"] = (False, f"afterwards {verdict}")

        self.each(ask)

    def outage(self):
        """Longer than the key set may be cached; the tokens were fetched before."""
        tokens = [self.service.token() for _ in range(4)]
        self.gate.close()
        self.service.stop()
        ends = time.monotonic() + OUTAGE

        def ask(running, result):
            verdicts = []
            while time.monotonic() < ends:
                verdicts.append(running.verdict(tokens[len(verdicts) % len(tokens)]))
                time.sleep(1)
            result.cells["outage"] = summary(verdicts)

        self.each(ask)
        self.service.start()
        self.gate.open(self.service.port)
        token = self.service.token()

        def again(running, result):
            verdict = running.verdict(token)
            result.cells["restart"] = (verdict == "ok", verdict)

        self.each(again)

    def rotation(self):
        """A token a second, from before the new key is published until well after it signs."""
        source = Source(self.service)
        self.service.keys("rotate")

        def ask(running, result):
            verdicts = []
            while source.signed_anew() < 2 * MAX_AGE:
                verdicts.append(running.verdict(source.next()))
            result.cells["rotation"] = summary(verdicts)

        self.each(ask)
        source.stop()

    def emergency(self):
        """All keys are replaced: when do verifiers take the new one, and when do they drop the old?"""
        old, strangers = self.service.token(), []

        def knows(running, result):
            if running.verdict(old) != "ok":
                strangers.append(result)

        self.each(knows)
        before = {key["kid"] for key in self.service.key_set()}
        self.service.keys("rotate", "--now", "--reason", "interop", "--yes")
        ordered = time.monotonic()
        while before & {key["kid"] for key in self.service.key_set()}:
            if time.monotonic() > ordered + 60:
                raise RuntimeError("the server does not follow the emergency")
            time.sleep(0.05)
        say(f"the server took the new key up within {time.monotonic() - ordered:.1f} s")
        source = Source(self.service)
        began = time.monotonic()

        def ask(running, result):
            wanted = {"emergency", "removed key"}
            if result in strangers:
                result.cells["removed key"] = (True, "never had it")
                wanted.remove("removed key")
            while wanted and time.monotonic() < began + RECOVERY:
                verdict = running.verdict(source.next())
                took = time.monotonic() - began
                if "emergency" in wanted and verdict == "ok":
                    result.cells["emergency"] = (True, f"{took:.0f} s")
                    wanted.remove("emergency")
                if "removed key" in wanted and running.verdict(old).startswith("no "):
                    result.cells["removed key"] = (True, f"{took:.0f} s")
                    wanted.remove("removed key")
            if "emergency" in wanted:
                result.cells["emergency"] = (False, f"not within {RECOVERY} s: {verdict}")
            if "removed key" in wanted:
                result.cells["removed key"] = (False, f"still taken after {RECOVERY} s")

        self.each(ask)
        source.stop()

    def count_requests(self):
        minutes = (time.monotonic() - self.began) / 60
        found = self.service.key_set_requests()
        for number, result in enumerate(self.results, 1):
            statuses = found.get(f"127.0.1.{number}", [])
            unchanged = statuses.count(304)
            words = f"{len(statuses) / minutes:.1f}"
            if unchanged:
                words += f", {100 * unchanged // len(statuses)} % of them 304"
            result.cells["requests"] = (bool(statuses), words)


class Source:
    """A fresh token a second, the same for all who wait."""

    def __init__(self, service: Service):
        self.service = service
        self.latest = service.token()
        self.first_kid = kid(self.latest)
        self.began, self.changed = time.monotonic(), None
        self.came = threading.Condition()
        self.stopped = threading.Event()
        # The error that ended the thread before it was told to stop.
        self.failed = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.stopped.wait(1):
                self.come(self.service.token())
        except Exception as error:
            with self.came:
                self.failed = error
                self.came.notify_all()

    def come(self, token: str):
        with self.came:
            self.latest = token
            if self.changed is None and kid(token) != self.first_kid:
                self.changed = time.monotonic()
            self.came.notify_all()

    def next(self) -> str:
        with self.came:
            if not self.failed and not self.came.wait(60):
                raise RuntimeError("the server gives no tokens")
            if self.failed:
                raise RuntimeError("the server gives no more tokens") from self.failed
            return self.latest

    def signed_anew(self) -> float:
        """For how many seconds another key than at first has signed."""
        if self.changed is not None:
            return time.monotonic() - self.changed
        if time.monotonic() > self.began + LEAD + 60:
            raise RuntimeError("the new key does not sign")
        return 0

    def stop(self):
        self.stopped.set()
        self.thread.join()


def summary(verdicts: list) -> tuple:
    bad = [verdict for verdict in verdicts if verdict != "ok"]
    if not verdicts:
        return False, "no verdicts"
    if not bad:
        return True, f"{len(verdicts)} of {len(verdicts)} verified"
    return False, f"refused {len(bad)} of {len(verdicts)}: {bad[-1]}"


if __name__ == "__main__":
    sys.exit(main())
