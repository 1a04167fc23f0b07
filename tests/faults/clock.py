"""The clock of the machine is set under a running server, and the machine is
suspended: the time of day leaps, the monotonic clock does not (see clock.c).

    cargo build --release && python3 tests/faults/clock.py [short]

All the while: a sign-in is 200 and waits for a key if it must; a token verifies
against the key set that is fetched next; no key is in the set whose end has
come. Five seconds after each step at the latest, and from then on, every
unexpired token verifies. Takes four minutes, the short run one."""

import os
import pathlib
import signal
import struct
import sys
import tempfile
import threading
import time

from service import (
    Gone,
    Server,
    claims,
    kid,
    kids,
    make_settings,
    rows,
    shim,
    sound,
    standstill,
    verify,
    wait_for,
)

HOUR, DAY = 3600, 86400
# The longest pause between two looks at the database.
TICK = 30
# Seconds that a sign-in waits for a key.
SOON = 5
# A token lives for 20 s, a key for a minute and a half.
TIMES = {
    "KEY_LIFETIME": "90s",
    "KEY_LEAD": "5s",
    "TOKEN_LIFETIME": "20s",
    "CLOCK_SKEW": "5s",
    "JWKS_MAX_AGE": "5s",
}


class Clock:
    """The server's time of day."""

    def __init__(self, path):
        self.path, self.offset, self.steps = path, 0, 0
        path.write_bytes(struct.pack("=q", 0))

    def step(self, seconds):
        self.offset += seconds
        self.steps += 1
        # In place: the server has the file mapped.
        with self.path.open("r+b", buffering=0) as file:
            file.write(struct.pack("=q", self.offset * 1_000_000_000))

    def now(self):
        return time.time() + self.offset


class Visitor:
    """Signs in and fetches the set in turns, and checks each answer."""

    def __init__(self, server, clock, folder):
        self.clock, self.folder = clock, folder
        self.client = server.client()
        self.password = self.client.register("alice").json()["password"]
        self.tokens, self.lost = [], []
        self.cut = self.may_be_cut = 0
        # Steps of the clock until the last good visit, if the last was good.
        self.good_at = 0
        self.wrong, self.ends = None, threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while not self.ends.is_set():
                began = time.monotonic()
                try:
                    self.visit()
                except Gone:
                    # The time of a connection, or of a password in the queue, was up
                    # while all stood still.
                    if not standstill.since(began):
                        self.cut += 1
                    assert self.cut <= self.may_be_cut
        except Exception as e:
            self.wrong = repr(e)

    def visit(self):
        steps, began = self.clock.steps, self.clock.now()
        reply = self.client.sign_in("alice", self.password)
        if reply.status == 503 and self.cut < self.may_be_cut:
            raise Gone(reply)
        answer = self.client.key_set()
        assert reply.status == answer.status == 200, (reply, answer)
        if self.clock.steps != steps:
            return
        key_set = answer.json()
        ends = {str(number): exp for number, exp in rows(self.folder, "SELECT kid, exp FROM keys")}
        for shown in kids(key_set):
            assert ends[shown] > int(began), f"{shown} is in the set and has expired"
        token = reply.json()["token"]
        assert verify(token, key_set), "a token does not verify at once"
        assert claims(token)["exp"] <= ends[kid(token)], "a token outlives its key"
        self.tokens.append(token)
        now = self.clock.now() + 1
        alive = [token for token in self.tokens if claims(token)["exp"] > now]
        lost = [claims(token) for token in alive if not verify(token, key_set)]
        if self.clock.steps == steps:
            self.good_at = None if lost else steps
            self.lost = lost

    def recovered(self):
        assert self.wrong is None, self.wrong
        return self.good_at == self.clock.steps

    def step_and_recover(self, what, act):
        before = len(self.tokens)
        self.may_be_cut += what.startswith("stopped")
        act()
        began = last_bad = time.monotonic()
        # Longer than a tick, so that what only the tick brings is seen too.
        while (now := time.monotonic()) < began + TICK + 5:
            if not self.recovered():
                last_bad = now
            time.sleep(0.02)
        took = last_bad - began - standstill.between(began, last_bad)
        assert took < SOON, f"{what}: not well again after {took:.1f} s, {len(self.lost)} tokens are lost"
        assert len(self.tokens) > before
        print(f"{what:18} well after {took:3.1f} s, {len(self.tokens) - before} tokens", flush=True)


def stopped(server, seconds, then=lambda: None):
    os.kill(server.process.pid, signal.SIGSTOP)
    time.sleep(seconds)
    then()
    os.kill(server.process.pid, signal.SIGCONT)


def run(folder, steps):
    folder = pathlib.Path(folder)
    make_settings(folder, **TIMES)
    clock = Clock(folder / "clock")
    env = {"LD_PRELOAD": str(shim("clock")), "CLOCK_FILE": str(clock.path)}
    with Server(folder, env=env) as server:
        wait_for("both keys", lambda: "a new expired key" in server.log())
        visitor = Visitor(server, clock, folder)
        # The shim works: the server's time is the clock's.
        clock.step(HOUR)
        before = clock.now()
        token = visitor.client.sign_in("alice", visitor.password).json()["token"]
        assert int(before) <= claims(token)["iat"] <= clock.now(), "the clock is not the server's"
        visitor.thread.start()
        try:
            for what, step in steps(server, clock):
                visitor.step_and_recover(what, step)
        finally:
            visitor.ends.set()
            visitor.thread.join()
        server.stop()
    assert visitor.wrong is None, visitor.wrong
    sound(folder)


def some(server, clock):
    yield "+1 h", lambda: clock.step(HOUR)
    yield "-1 h", lambda: clock.step(-HOUR)


def all_steps(server, clock):
    yield from some(server, clock)
    yield "-1 h", lambda: clock.step(-HOUR)
    yield "+1 d", lambda: clock.step(DAY)
    yield "-1 d", lambda: clock.step(-DAY)
    yield "suspended for 8 h", lambda: stopped(server, 2, lambda: clock.step(8 * HOUR))
    yield "stopped for 25 s", lambda: stopped(server, 25)


def main():
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        try:
            run(folder, some if sys.argv[1:] == ["short"] else all_steps)
        except AssertionError as e:
            sys.exit(f"FAILED: {e}")


if __name__ == "__main__":
    main()
