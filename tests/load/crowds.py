"""Many connections that waste time, and how everybody else fares meanwhile."""

import asyncio
import json
import sys
import time
from pathlib import Path

from client import Connection
from figures import Figures, percentile
from service import JWKS, Service

# More than the server takes of one address.
CROWD = 10_000
CLOSED_AFTER = 10.0
PINGING_CLOSED_AFTER = 75.0
# For a busy machine.
MARGIN = 6.0
# Others: connections that fetch the key set, one that signs in, all kept.
FETCHERS = 20
QUIET = 2.0
MAX_P99_MS = 500.0
AT_ONCE = 2.0


class Crowd:
    """A run of crowd.py."""

    def __init__(self, process: asyncio.subprocess.Process):
        self.process = process

    @classmethod
    async def open(cls, service: Service, kind: str, count: int) -> "Crowd":
        script = Path(__file__).with_name("crowd.py")
        words = (script, str(service.port), kind, str(count))
        # Thousands of results are one long line.
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdout=asyncio.subprocess.PIPE, limit=1 << 24
        )
        crowd = cls(process)
        if await process.stdout.readline() != b"open\n":
            raise RuntimeError(f"the crowd of {kind} did not open")
        return crowd

    async def ended(self) -> list[dict]:
        told = json.loads(await self.process.stdout.readline())
        await self.process.wait()
        return told


class Others:
    """Those who behave: fetch the key set 20 times a second, sign in 5 times a second."""

    def __init__(self, service: Service):
        self.service = service
        self.fetches: list[float] = []
        self.sign_ins: list[float] = []
        self.wrong: list[str] = []
        self.is_ending = False

    async def __aenter__(self) -> "Others":
        connection = await Connection.open(self.service.port, "127.1.0.1")
        self.password = await connection.register("user")
        connections = [await Connection.open(self.service.port, "127.1.0.1") for _ in range(FETCHERS)]
        self.tasks = [asyncio.create_task(self.fetch(kept)) for kept in connections]
        self.tasks.append(asyncio.create_task(self.sign_in(connection)))
        return self

    async def __aexit__(self, *_) -> None:
        self.is_ending = True
        await asyncio.gather(*self.tasks)

    async def timed(self, times: list[float], call, expected: int) -> None:
        began = time.monotonic()
        try:
            status = (await call()).status
        except ConnectionError as e:
            status = type(e).__name__
            self.is_ending = True
        times.append(1000 * (time.monotonic() - began))
        if status != expected:
            self.wrong.append(f"{status} for {expected}")

    async def fetch(self, connection: Connection) -> None:
        while not self.is_ending:
            await self.timed(self.fetches, lambda: connection.get(JWKS), 200)
            await asyncio.sleep(0.05)

    async def sign_in(self, connection: Connection) -> None:
        while not self.is_ending:
            call = lambda: connection.post("/auth", username="user", password=self.password)
            await self.timed(self.sign_ins, call, 200)
            await asyncio.sleep(0.2)

    def judge(self, figures: Figures, when: str) -> None:
        for name, times in (("key set", self.fetches), ("sign-in", self.sign_ins)):
            p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
            told = f"{len(times)} answers, p50 {p50:.1f} ms, p99 {p99:.1f} ms"
            is_held = name == "key set"
            limit = f"p99 at most {MAX_P99_MS:.0f} ms" if is_held else "all answered 200"
            figures.hold(f"{name}, {when}", told, not is_held or p99 <= MAX_P99_MS, limit)
            times.clear()
        figures.hold(f"wrong answers, {when}", self.wrong[:5] or "none", not self.wrong, "none")


def judge_end(figures: Figures, what: str, members: list[dict], status: int | None, after: float) -> None:
    times = [member["lasted"] for member in members if member["lasted"] is not None]
    told = f"{len(times)} of {len(members)}"
    if times:
        told += f" closed after {min(times):.1f} to {max(times):.1f} s"
    is_good = len(times) == len(members) and after - 0.5 <= min(times) and max(times) <= after + MARGIN
    figures.hold(what, told, is_good, f"all, {after:.0f} to {after + MARGIN:.0f} s")
    answered = sum(member["status"] == status for member in members)
    name = "without an answer" if status is None else f"answered {status}"
    figures.hold(f"{what}, {name}", answered, answered == len(members), "all")


async def newcomer(service: Service, source: str = "127.0.0.1") -> tuple[float, int]:
    """The seconds until one more connection has its answer, and its status."""
    began = time.monotonic()
    connection = await Connection.open(service.port, source)
    answer = await connection.get(JWKS)
    connection.close()
    return time.monotonic() - began, answer.status


async def idle(service: Service, figures: Figures) -> None:
    """More connections of 200 addresses than the server takes: the oldest give way."""
    async with Others(service) as others:
        await asyncio.sleep(QUIET)
        others.judge(figures, "before")
        crowd = await Crowd.open(service, "idle", CROWD)
        for whose, source, limit in (("another", "127.2.0.1", 1.0), ("the same", "127.0.0.1", AT_ONCE)):
            waited, status = await newcomer(service, source)
            told = f"{status} after {1000 * waited:.1f} ms"
            is_good = status == 200 and waited < limit
            figures.hold(f"a newcomer of {whose} address", told, is_good, f"200 within {limit:.0f} s")
        figures.note("descriptors, RSS in KiB", f"{service.descriptors()}, {service.rss_kib()}")
        members = await crowd.ended()
        others.judge(figures, "with the crowd")
        lasted = [member["lasted"] for member in members if member["lasted"] is not None]
        told = f"{len(lasted)} of {len(members)} closed, the last after {max(lasted):.1f} s"
        is_good = len(lasted) == len(members) and max(lasted) <= CLOSED_AFTER + MARGIN
        figures.hold("idle connections", told, is_good, f"all, at most {CLOSED_AFTER + MARGIN:.0f} s")


async def slow(service: Service, figures: Figures) -> None:
    """800 that send a byte a second, half of them heads and half bodies: fewer than the service holds."""
    async with Others(service) as others:
        await asyncio.sleep(QUIET)
        others.judge(figures, "before")
        crowds = [await Crowd.open(service, kind, 400) for kind in ("heads", "bodies")]
        waits = []
        for _ in range(20):
            waits.append(await newcomer(service))
            await asyncio.sleep(0.25)
        heads, bodies = [await crowd.ended() for crowd in crowds]
        others.judge(figures, "meanwhile")
        slowest = max(waited for waited, _ in waits)
        are_good = all(status == 200 for _, status in waits) and slowest < AT_ONCE
        told = f"{len(waits)}, slowest {1000 * slowest:.1f} ms"
        figures.hold("new connections meanwhile", told, are_good, f"200 within {AT_ONCE:.0f} s")
        judge_end(figures, "slow heads", heads, None, CLOSED_AFTER)
        judge_end(figures, "slow bodies", bodies, 408, CLOSED_AFTER)


async def pings(service: Service, figures: Figures) -> None:
    """HTTP/2 connections that are alive and do nothing."""
    crowd = await Crowd.open(service, "pings", 200)
    members = await crowd.ended()
    judge_end(figures, "HTTP/2 with pings only", members, 200, PINGING_CLOSED_AFTER)
    fewest = min(member["pings"] for member in members)
    figures.hold("pings that each has answered", f"at least {fewest}", fewest >= 2, "at least 2")


PHASES = {"idle": idle, "slow": slow, "pings": pings}
