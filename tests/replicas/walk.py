"""Verifiers that others wrote, through the balancer: one replica goes, keys rotate, all keys are replaced."""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.postgres import Server, free_port
from service import JWKS, MAX_AGE, Replicas, ask, url

sys.path.append(str(Path(__file__).resolve().parent.parent / "interop"))
from expectations import EXPLAINED, VERIFIERS  # noqa: E402
from forgeries import kid  # noqa: E402
from harness.left_out import left_out  # noqa: E402
from verifiers import Running, Verifier, install_all  # noqa: E402

LEAD = 2 * MAX_AGE
TIMES = {
    "KEY_LIFETIME": "10m", "KEY_LEAD": f"{LEAD}s", "JWKS_MAX_AGE": f"{MAX_AGE}s", "CLOCK_SKEW": "5s",
    "TOKEN_LIFETIME": "120s",
}  # fmt: skip
AUDIENCE = "replicas"
# With the settings that docs/interop.md tells to make, for these times.
SHORT = [Verifier("python-pyjwt", hold=MAX_AGE), Verifier("node-jose", hold=MAX_AGE)]
# Those as they come ask for an unknown kid once in 30 s, counted from any fetch: the rotation comes later.
UNKNOWN_AGAIN = 35
RECOVERY, RECOVERY_AS_IT_COMES = 3 * MAX_AGE, 45


def verifiers(folder, is_long: bool) -> str:
    rows = VERIFIERS if is_long else SHORT
    commands, skipped = install_all(list(dict.fromkeys(v.folder for v in rows)))
    for name, why in skipped.items():
        print(left_out(f"replicas/{name}", why))
        assert not os.environ.get("REQUIRE_INTEROP"), "REQUIRE_INTEROP is set"
    rows = [v for v in rows if v.folder in commands]
    with Server(folder, "primary").create().start() as server:
        server.create_database()
        port = free_port()
        issuer = f"http://127.0.0.1:{port}"
        settings = {"ISSUER": issuer, "AUDIENCE": AUDIENCE} | TIMES
        with Replicas(folder, [url([server.port])] * 3, port, **settings) as replicas:
            environment = {"JWKS_URL": issuer + JWKS, "ISSUER": issuer, "AUDIENCE": AUDIENCE}
            running = [Running(v, commands[v.folder], environment) for v in rows]
            try:
                assert all(each.ready() for each in running), "a verifier does not start"
                walk = Walk(replicas, rows, running)
                walk.outage(UNKNOWN_AGAIN if is_long else 3 * MAX_AGE)
                walk.rotation()
                walk.emergency()
                words = walk.quota(10 if is_long else 3)
            finally:
                for each in running:
                    each.stop()
            assert not any(run.errors() for run in replicas.running), replicas.logs()
            replicas.stop()
    return f"{len(rows)} verifiers, {walk.asked} tokens verified and none refused; {'; '.join(walk.words)}; {words}"


def follows(verifier: Verifier, step: str) -> bool:
    return step not in EXPLAINED.get(verifier.name, {})


class Walk:
    def __init__(self, replicas: Replicas, rows: list[Verifier], running: list[Running]):
        self.replicas, self.rows, self.running = replicas, rows, running
        answer = ask(replicas.port, "/register", {"username": "walk", "email": "walk@example.com"})
        self.account = {"username": "walk", "password": answer.json()["password"]}
        self.asked, self.words, self.lock = 0, [], threading.Lock()

    def token(self) -> str:
        """From any replica; a client asks again when its connection was lost."""
        for _ in range(3):
            answer = ask(self.replicas.port, "/auth", self.account)
            if answer.status == 200:
                return answer.json()["token"]
            assert answer.status in (0, 502), f"/auth: {answer.status} {answer.body!r}"
        raise AssertionError("no token from three calls")

    def each(self, do):
        with ThreadPoolExecutor(len(self.rows)) as pool:
            list(pool.map(do, self.rows, self.running))

    def accept(self, *tokens: str, step: str):
        """All verifiers take the tokens, but for those that would not on SQLite."""

        def one(verifier, running):
            for token in tokens if follows(verifier, step) else ():
                verdict = running.verdict(token)
                assert verdict == "ok", f"{verifier.name}: {verdict}"
                with self.lock:
                    self.asked += 1

        self.each(one)

    def outage(self, seconds: float):
        """Longer than the set is held."""
        earlier = self.token()
        self.replicas.kill(1)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self.accept(earlier, self.token(), step="start")
            time.sleep(0.3)
        self.replicas.start(1)
        self.replicas.until_ready()
        self.replicas.until_equal(within=2)
        self.accept(earlier, self.token(), step="start")

    def rotation(self):
        """From before the new key is published until well after it signs."""
        before = kid(self.token())
        self.replicas.command("keys", "rotate")
        self.replicas.until_equal(within=2)
        changed, ends = None, time.monotonic() + LEAD + 30
        while changed is None or time.monotonic() < changed + 2 * MAX_AGE:
            assert time.monotonic() < ends, "the new key does not sign"
            # One of each replica.
            tokens = [self.token() for _ in range(3)]
            if changed is None and any(kid(token) != before for token in tokens):
                changed = time.monotonic()
            self.accept(*tokens, step="rotation")
            # Ten tokens a second are let in, and few verifiers take no time.
            time.sleep(0.4)
        self.replicas.until_equal(within=2)

    def emergency(self):
        old = self.token()
        self.accept(old, step="rotation")
        before = self.replicas.kids(0)
        self.replicas.emergency()
        began = time.monotonic()
        while any(self.replicas.kids(index) & before for index in range(3)):
            assert time.monotonic() < began + 2, "a replica does not follow"
            time.sleep(0.02)
        followed = time.monotonic() - began
        self.replicas.until_equal(within=1)
        new = self.token()
        took = {}

        def one(verifier, running):
            limit = RECOVERY if verifier.hold == MAX_AGE else RECOVERY_AS_IT_COMES
            if not follows(verifier, "emergency"):
                return
            drops = follows(verifier, "removed key")
            while running.verdict(new) != "ok" or (drops and running.verdict(old) == "ok"):
                assert time.monotonic() < began + limit, f"{verifier.name} has not followed after {limit} s"
                time.sleep(0.2)
            took[verifier.name] = time.monotonic() - began

        self.each(one)
        self.accept(new, self.token(), step="emergency")
        seconds = ", ".join(f"{name} {time_:.0f} s" for name, time_ in took.items())
        self.words.append(f"replicas followed an emergency after {followed:.1f} s, {seconds}")

    def quota(self, rounds: int) -> str:
        """Of thirty calls at once, over three replicas, ten are let in."""
        for _ in range(rounds):
            time.sleep(1.1)
            began = time.monotonic()
            with ThreadPoolExecutor(30) as pool:
                calls = [pool.submit(ask, self.replicas.ports[n % 3], "/auth", {}, "12.0.0.1") for n in range(30)]
                statuses = [call.result().status for call in calls]
            took = time.monotonic() - began
            # Ten more for each second that they took.
            most = 10 * (1 + int(took))
            assert set(statuses) == {400, 429} and 10 <= statuses.count(400) <= most, (took, statuses)
        return f"10 of 30 calls let in, {rounds} times"
