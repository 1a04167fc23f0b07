"""The calls of `saturation`, with attacks among them: all that behave are served as without."""

import asyncio
import json
import sys
from pathlib import Path

from client import Connection
from figures import Figures
from saturation import Saturation
from service import JWKS, standstill

ATTACKS = Path(__file__).resolve().parent.parent / "attacks" / "mixed.py"
# Least seconds of a run: each attack has its turn once.
LEAST = 110.0
MAX_MORE_KIB = 160 * 1024
# On the cores that the load and the attackers use too.
MAX_NEWCOMER = 2.0


class Mixed(Saturation):
    async def run(self, figures: Figures) -> None:
        connection = await Connection.open(self.service.port)
        await connection.get(JWKS)
        connection.close()
        self.idle_kib = self.service.rss_kib()
        await super().run(figures)

    async def watch(self) -> None:
        self.warm_kib = self.service.peak_rss_kib()
        words = (str(ATTACKS), str(self.service.port), str(self.seconds - 10))
        attackers = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
        try:
            await super().watch()
            told, _ = await attackers.communicate()
        finally:
            if attackers.returncode is None:
                attackers.kill()
        self.attacks = json.loads(told)

    def judge_answers(self, figures: Figures, active: float) -> None:
        super().judge_answers(figures, active)
        ran, of = self.attacks["attacks"], self.attacks["of"]
        figures.hold("attacks", ran, len(ran) == of, f"each of {of}")
        figures.note("broken off by the server", self.attacks["broken off"] or "none")
        statuses, slowest = self.attacks["statuses"], self.attacks["slowest"]
        figures.hold("newcomers' key sets", statuses, set(statuses) == {"200"}, "200")
        allowed = MAX_NEWCOMER + standstill.since(self.began)
        figures.hold("slowest newcomer, s", f"{slowest:.2f}", slowest <= allowed, f"at most {allowed:.1f}")

    def judge_memory(self, figures: Figures) -> None:
        more = self.service.peak_rss_kib() - self.idle_kib
        told = f"{self.idle_kib}, {self.warm_kib}, {self.samples[-1][1]}"
        figures.note("RSS idle, at most before the attacks, at the end, KiB", told)
        figures.hold("RSS at most, above idle, KiB", more, more <= MAX_MORE_KIB, f"at most {MAX_MORE_KIB}")
