"""Clients that sign up and in all the time, and what must be true of what was answered to them."""

import itertools
import random
import threading
import time
import uuid
from collections import Counter

from service import LOST, ask

# 502 and 504 are nginx's words for a replica that is gone.
GONE = {LOST, 502, 504}
SIGN_UPS = 0.25


class Load:
    """Each call has a client address of its own, so that its row of `auth_logs` is known by it."""

    def __init__(self, port: int, clients: int = 4, timeout: float = 30):
        self.port, self.timeout = port, timeout
        self.accounts: dict[str, str] = {}
        # Address of each sign-in that was answered with a token.
        self.tokens: list[str] = []
        # (when, status) of each call.
        self.answers: list[tuple[float, int]] = []
        self.surprises: list[str] = []
        self.numbers = itertools.count()
        self.stopped = threading.Event()
        self.failed = None
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def _run(self):
        try:
            while not self.stopped.is_set():
                if not self.accounts or random.random() < SIGN_UPS:
                    self._sign_up()
                else:
                    self._sign_in(*random.choice(list(self.accounts.items())))
        except Exception as error:  # noqa: BLE001: raised again by whoever ends the load
            self.failed = error

    def _call(self, path: str, body: dict, good: int):
        number = next(self.numbers)
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        answer = ask(self.port, path, body, address, self.timeout)
        self.answers.append((time.monotonic(), answer.status))
        if answer.status == 503 and "Retry-After" not in answer.headers:
            self.surprises.append(f"{path}: a 503 without Retry-After")
        if answer.status not in {good, 503, *GONE}:
            self.surprises.append(f"{path}: {answer.status} {answer.body[:200]!r}")
        if answer.status in GONE:
            # As a client would.
            time.sleep(0.02)
        elif answer.status == 503:
            time.sleep(0.1)
        return address, answer

    def _sign_up(self):
        name = f"user{uuid.uuid4().hex}"
        _, answer = self._call("/register", {"username": name, "email": f"{name}@example.com"}, 201)
        if answer.status == 201:
            self.accounts[name] = answer.json()["password"]

    def _sign_in(self, name: str, password: str):
        path = random.choice(["/auth", "/auth", "/auth", "/auth?expired"])
        address, answer = self._call(path, {"username": name, "password": password}, 200)
        if answer.status == 200:
            assert answer.json()["token"].count(".") == 2
            self.tokens.append(address)

    def until_answered(self, since: float, within: float, calls: int = 1) -> float:
        """Seconds from `since` until so many calls have had a good answer after it."""
        ends = since + within
        while True:
            later = [when for when, status in list(self.answers) if when > since and status in (200, 201)]
            if len(later) >= calls:
                return later[calls - 1] - since
            assert time.monotonic() < ends, f"no good answer within {within} s"
            time.sleep(0.02)

    def count(self) -> str:
        counts = Counter("lost" if s in GONE else str(s) for _, s in self.answers)
        return ", ".join(f"{number} x {status}" for status, number in sorted(counts.items()))

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def check(self, server):
        """Each account that was answered signs in, and each token has one row."""
        if self.failed:
            raise self.failed
        assert not self.surprises, self.surprises[:10]
        assert self.accounts and self.tokens, f"nothing was answered: {self.count()}"
        rows = Counter(server.sql("SELECT request_ip FROM auth_logs").split())
        wrong = [(address, rows[address]) for address in self.tokens if rows[address] != 1]
        assert not wrong, f"tokens without one row: {wrong[:10]}"
        doubled = [row for row in rows.items() if row[1] > 1]
        assert not doubled, f"rows that were written twice: {doubled[:10]}"
        for number, (name, password) in enumerate(self.accounts.items()):
            for _ in range(20):
                address = f"11.0.{number >> 8 & 255}.{number & 255}"
                answer = ask(self.port, "/auth", {"username": name, "password": password}, address)
                if answer.status != 503:
                    break
                time.sleep(0.2)
            assert answer.status == 200, f"{name} was answered 201 and gets {answer.status} {answer.body!r}"

    def summary(self) -> str:
        return f"{len(self.accounts)} accounts and {len(self.tokens)} tokens, all there ({self.count()})"
