"""More calls than the service can serve, from 250 addresses, while keys rotate."""

import asyncio
import time
from collections import Counter

import tokens
from client import Connection
from figures import Figures, slope
from service import JWKS, Service, standstill

ADDRESSES = 250
USERS = 50
BUSY = {429, 503}
# Statuses that each kind of call may have.
ALLOWED = {
    "sign-in": BUSY | {200},
    "expired": BUSY | {200},
    "wrong": BUSY | {401},
    "sign-up": {201, 503},
    "keys": {200},
}
# Of ten addresses, what each one calls.
KINDS = ["sign-in"] * 6 + ["expired", "wrong", "sign-up", "keys"]
# One address in fifty signs in on more connections than the quota allows in a second.
HASTY_EVERY, HASTY_CONNECTIONS = 50, 16
# Seconds that each waits after a key set, and after a refusal.
KEYS_PAUSE, PAUSE = 0.05, 0.25
SAMPLE_EVERY = 1.0
WARM_UP = 2.0
# By then calls of all kinds have been served, or something is wrong.
WARM_AFTER = 60.0
# After a standstill of so many seconds, or a stop of the whole test, late answers are no fault.
STALL = 2.0
# About a byte for each request. The short run only sees the caches fill.
LONG = 600.0
MAX_SLOPE_KIB = 64
MAX_GROWTH_KIB = 32 * 1024


class Saturation:
    def __init__(self, service: Service, seconds: float, rotate_every: float | None):
        self.service, self.seconds, self.rotate_every = service, seconds, rotate_every
        self.is_ending = False
        self.answers = Counter()  # by kind and status
        self.faults = Counter()
        self.cut_off = 0  # calls whose connection ended before the answer
        self.kids = set()
        self.verified = self.expired_checked = self.too_late = 0
        self.accounts = 0
        self.passwords: list[str] = []
        self.samples: list[tuple[float, int]] = []
        self.most_descriptors = 0
        self.began = time.monotonic()
        self.known_sets: dict[bytes, dict] = {}

    async def run(self, figures: Figures) -> None:
        await self.sign_up_users()
        # Opens what is opened when it is first needed.
        await self.saturate(self.warm_up())
        before = await self.descriptors_when_quiet()
        rotating = asyncio.create_task(self.rotate())
        await self.saturate(self.watch())
        rotating.cancel()
        after = await self.descriptors_when_quiet()
        told = f"{before}, {self.most_descriptors}, {after}"
        figures.hold("descriptors before, at most, after", told, after <= before, "no more after than before")
        self.judge(figures)

    @property
    def stalls(self) -> int:
        return standstill.count(self.began, STALL)

    async def warm_up(self) -> None:
        began = time.monotonic()
        while (took := standstill.elapsed(began)) < WARM_AFTER:
            served = {kind for kind, status in self.answers if status not in BUSY}
            if took >= WARM_UP and served == set(KINDS):
                return
            await asyncio.sleep(0.05)

    async def saturate(self, until) -> None:
        """Keeps all addresses busy, lets each end its last request."""
        self.is_ending = False
        numbers = [n for n in range(ADDRESSES) for _ in range(1 if n % HASTY_EVERY else HASTY_CONNECTIONS)]
        workers = [asyncio.create_task(self.worker(n)) for n in numbers]
        await until
        self.is_ending = True
        await asyncio.gather(*workers)

    async def descriptors_when_quiet(self) -> int:
        """The server notices within a moment that a connection was closed."""
        counts = [self.service.descriptors()]
        while len(counts) < 10 or len(set(counts[-10:])) > 1:
            await asyncio.sleep(0.1)
            counts.append(self.service.descriptors())
        return counts[-1]

    async def sign_up_users(self) -> None:
        connection = await Connection.open(self.service.port)
        for n in range(USERS):
            self.passwords.append(await connection.register(f"user{n}"))
            self.accounts += 1
        connection.close()
        await asyncio.sleep(1)

    async def watch(self) -> None:
        """Samples until the seconds are over. Time while everything is stopped does not count."""
        active, last = 0.0, time.monotonic()
        while active < self.seconds:
            await asyncio.sleep(SAMPLE_EVERY)
            now = time.monotonic()
            active += now - last - standstill.between(last, now)
            last = now
            self.samples.append((active, self.service.rss_kib()))
            self.most_descriptors = max(self.most_descriptors, self.service.descriptors())
            if len(self.samples) % 60 == 0:
                total = sum(self.answers.values())
                print(f"   {active:.0f} s: {total} answers, RSS {self.samples[-1][1]} KiB", flush=True)

    async def rotate(self) -> None:
        """As an operator, besides what the server does by itself each minute."""
        while self.rotate_every:
            await asyncio.to_thread(self.service.command, "keys", "rotate")
            await asyncio.sleep(self.rotate_every)

    async def worker(self, n: int) -> None:
        kind = KINDS[n % len(KINDS)]
        pause = KEYS_PAUSE if kind == "keys" else PAUSE
        source = f"127.1.0.{n + 1}"
        while not self.is_ending:
            connection = await Connection.open(self.service.port, source)
            try:
                while not self.is_ending:
                    is_refused = await self.call(connection, kind, n)
                    if is_refused or kind == "keys":
                        await asyncio.sleep(pause)
            except ConnectionError:
                self.cut_off += 1
                await asyncio.sleep(0.1)
            finally:
                connection.close()

    async def call(self, connection: Connection, kind: str, n: int) -> bool:
        user = {"username": f"user{n % USERS}", "password": self.passwords[n % USERS]}
        match kind:
            case "sign-in":
                answer = await connection.post("/auth", **user)
            case "expired":
                answer = await connection.post("/auth?expired", **user)
            case "wrong":
                answer = await connection.post("/auth", username=user["username"], password="wrong")
            case "sign-up":
                self.accounts += 1
                name = f"new{self.accounts}"
                answer = await connection.post("/register", username=name, email=f"{name}@example.com")
            case "keys":
                answer = await connection.get(JWKS)
        self.answers[kind, answer.status] += 1
        # After a stop that outlasted all keys there may be none for a moment.
        if answer.status not in ALLOWED[kind] and not (self.stalls and answer.status == 503):
            self.faults[f"{kind}: {answer.status}"] += 1
        if answer.status in BUSY and int(answer.headers.get(b"retry-after", 0)) < 1:
            self.faults["no Retry-After"] += 1
        if answer.status == 200 and kind in ("sign-in", "expired"):
            token = answer.body.decode().split('"')[3]
            await self.check(connection, token, kind == "expired")
        return answer.status in BUSY

    async def check(self, connection: Connection, token: str, must_be_expired: bool) -> None:
        """Holds a token against the key set that is published after it came."""
        answer = await connection.get(JWKS)
        now = time.time()
        self.answers["keys", answer.status] += 1
        keys = self.parsed(answer.body) if answer.status == 200 else {}
        header, claims = tokens.unverified(token)
        key = keys.get(header["kid"])
        if must_be_expired:
            self.expired_checked += 1
            if claims["exp"] > now or key is not None:
                self.faults["an expired token that is not"] += 1
        elif now >= claims["exp"]:
            self.too_late += 1
        elif key is None or not tokens.is_signed_by(token, key):
            self.faults["a token that does not verify"] += 1
        else:
            self.verified += 1
            self.kids.add(header["kid"])

    def parsed(self, key_set: bytes) -> dict:
        if key_set not in self.known_sets:
            self.known_sets = {key_set: tokens.parse_keys(key_set)}
        return self.known_sets[key_set]

    def judge(self, figures: Figures) -> None:
        active = self.samples[-1][0]
        total = sum(self.answers.values())
        figures.note("seconds, answers, per second", f"{active:.0f}, {total}, {total / active:.0f}")
        figures.note("stopped and continued", f"{self.stalls} times")
        for (kind, status), count in sorted(self.answers.items()):
            figures.note(f"{kind}, {status}", count)
        self.judge_answers(figures, active)
        self.judge_memory(figures)
        self.service.stop()
        self.judge_rows(figures)
        errors = self.service.errors()
        figures.hold("errors in the log", errors[:3] or "none", not errors, "none")

    def judge_answers(self, figures: Figures, active: float) -> None:
        figures.hold("faults", dict(self.faults) or "none", not self.faults, "none")
        # Time that passes for the server while the test is stopped may close connections.
        figures.hold("calls cut off", self.cut_off, self.stalls or not self.cut_off, "none")
        signed = self.answers["sign-in", 200]
        unknown = self.too_late + self.cut_off
        figures.hold(
            "tokens, verified, too late to say",
            f"{signed}, {self.verified}, {self.too_late}",
            signed > 0 and signed - unknown <= self.verified and (self.stalls or not self.too_late),
            "all verify",
        )
        given = self.answers["expired", 200]
        told = f"{given}, {self.expired_checked}"
        is_good = given > 0 and given - self.cut_off <= self.expired_checked
        figures.hold("expired tokens, found to be", told, is_good, "all")
        expected = int(active / 60) if not self.rotate_every else 2
        figures.hold("keys that have signed", len(self.kids), len(self.kids) >= expected, f"at least {expected}")
        refused = [sum(n for (_, s), n in self.answers.items() if s == status) for status in sorted(BUSY)]
        told = f"{refused[0]} for the quota, {refused[1]} for the queue"
        figures.hold("refused", told, all(refused), "both happen, or this is no saturation")

    def judge_memory(self, figures: Figures) -> None:
        first, last = self.samples[len(self.samples) // 6][1], self.samples[-1][1]
        is_good, limit = last - first <= MAX_GROWTH_KIB, f"at most {MAX_GROWTH_KIB} more"
        figures.hold("RSS after a sixth and at the end, KiB", f"{first}, {last}", is_good, limit)
        half = self.samples[len(self.samples) // 2 :]
        per_minute = 60 * slope([(x, float(y)) for x, y in half])
        if self.seconds >= LONG:
            is_good, limit = per_minute <= MAX_SLOPE_KIB, f"at most {MAX_SLOPE_KIB}"
            figures.hold("RSS, second half, KiB per minute", f"{per_minute:.1f}", is_good, limit)

    def judge_rows(self, figures: Figures) -> None:
        given = self.answers["sign-in", 200] + self.answers["expired", 200]
        rows = self.service.number("SELECT count(*) FROM auth_logs")
        is_good = given <= rows <= given + self.cut_off
        figures.hold("rows of auth_logs, tokens answered", f"{rows}, {given}", is_good, "equal")
        signed_up = USERS + self.answers["sign-up", 201]
        rows = self.service.number("SELECT count(*) FROM users")
        is_good = signed_up <= rows <= signed_up + self.cut_off
        figures.hold("rows of users, accounts answered", f"{rows}, {signed_up}", is_good, "equal")
        verdict = self.service.number("PRAGMA integrity_check")
        figures.hold("integrity_check", verdict, verdict == "ok", "ok")


async def run(service: Service, seconds: float, rotate_every: float | None, figures: Figures) -> None:
    await Saturation(service, seconds, rotate_every).run(figures)
