"""A network between replicas and PostgreSQL that drops packets, or loses the answer to COMMIT."""

import re
import time

from load import Load
from harness.postgres import PATIENCE, Server
from proxy import Proxy
from service import Replicas, ask, url

MAX_AGE = 4


def cut_off(folder, is_long: bool) -> str:
    """A replica that is cut off hands out no key set beyond its max-age, and signs nobody in."""
    words = []
    with Server(folder, "primary").create().start() as server:
        server.create_database()
        proxy = Proxy(server.port)
        urls = [url([server.port]), url([server.port]), url([proxy.port])]
        with Replicas(folder, urls, JWKS_MAX_AGE=f"{MAX_AGE}s", KEY_LEAD="10s") as replicas:
            for _ in range(10 if is_long else 2):
                words.append(once(proxy, replicas))
            assert replicas.still_the_same()
            proxy.passing.set()
            replicas.stop()
        proxy.close()
    return "; ".join(words)


def once(proxy: Proxy, replicas: Replicas) -> str:
    replicas.until_equal(within=5)
    old = replicas.kids(2)
    proxy.passing.clear()
    cut = time.monotonic()
    replicas.emergency()
    ordered = time.monotonic()
    statuses = set()
    while time.monotonic() < ordered + MAX_AGE + 1:
        asked = time.monotonic()
        answer = replicas.key_set(2)
        if answer.status == 200 and {key["kid"] for key in answer.json()["keys"]} & old:
            age = int(re.search(r"max-age=(\d+)", answer.headers["Cache-Control"])[1])
            # A poll that was on its way may have been good until just after the cut.
            assert asked + age <= cut + MAX_AGE + 1.2, f"max-age {age}, {asked - cut:.1f} s after the cut"
            assert asked <= ordered + MAX_AGE, "a revoked key is handed out beyond max-age"
        else:
            assert answer.status == 503, answer.status
        statuses.add(answer.status)
        began = time.monotonic()
        status = ask(replicas.ports[2], "/auth", {"username": "nobody", "password": "x"}).status
        took = time.monotonic() - began
        assert status == 503 and took < 3, f"/auth: {status} after {took:.1f} s"
        time.sleep(0.1)
    assert statuses == {200, 503}, statuses
    assert replicas.key_set(2).status == 503
    # Nobody else has noticed.
    assert all(not replicas.kids(index) & old for index in (0, 1))
    proxy.passing.set()
    back = replicas.until(2, "/readyz", 200, within=10)
    replicas.until_equal(within=2)
    assert not replicas.kids(2) & old
    assert ask(replicas.ports[2], "/auth", {"username": "nobody", "password": "x"}).status == 401
    return f"right or gone, back {back:.1f} s after the network"


def outcome(folder, is_long: bool) -> str:
    """Answers to COMMIT are lost at random; nothing is answered that is not there, and nothing is there twice."""
    with Server(folder, "primary").create().start() as server:
        server.create_database()
        proxies = [Proxy(server.port) for _ in range(3)]
        with Replicas(folder, [url([proxy.port]) for proxy in proxies]) as replicas:
            for proxy in proxies:
                proxy.share = 0.15
            ends = time.monotonic() + (120 if is_long else 10)
            with Load(replicas.port, clients=8) as load:
                while time.monotonic() < ends or min(total(proxies).values()) < 2:
                    assert time.monotonic() < ends + PATIENCE, total(proxies)
                    time.sleep(0.1)
            for proxy in proxies:
                proxy.share = 0.0
            replicas.until_ready()
            load.check(server)
            assert replicas.still_the_same()
            replicas.stop()
        names = server.sql("SELECT count(*) - count(DISTINCT lower(username)) FROM users")
        assert names == "0", f"{names} accounts are there twice"
        lost = int(server.sql("SELECT count(*) FROM users")) - len(load.accounts)
    what = ", ".join(f"{number} x {how}" for how, number in total(proxies).items())
    return f"{what}: {load.summary()}; {lost} accounts whose answer was 503 or lost"


def total(proxies: list[Proxy]) -> dict[str, int]:
    """How often each thing was done to a COMMIT."""
    return {how: sum(proxy.done[how] for proxy in proxies) for how in proxies[0].done}
