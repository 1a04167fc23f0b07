"""Replicas that are killed, and a primary that is."""

import random
import time

from load import Load
from harness.postgres import Server
from service import Replicas, url


def kills(folder, is_long: bool) -> str:
    """Random replicas are killed all the time; nothing that was answered is lost."""
    with Server(folder, "primary").create().start() as server:
        server.create_database()
        with Replicas(folder, [url([server.port])] * 3) as replicas:
            ends = time.monotonic() + (600 if is_long else 12)
            killed = 0
            with Load(replicas.port) as load:
                while time.monotonic() < ends:
                    index = random.randrange(3)
                    time.sleep(random.uniform(0.1, 0.9))
                    replicas.kill(index)
                    killed += 1
                    time.sleep(random.uniform(0, 0.3))
                    replicas.start(index)
            replicas.until_ready()
            load.check(server)
            replicas.until_equal(within=2)
            replicas.stop()
    return f"{killed} kills: {load.summary()}"


# The service has to be back this soon after a promotion, in seconds.
BACK = 5


def failover(folder, is_long: bool) -> str:
    """The primary is killed, its synchronous standby promoted, and the old one made a standby again."""
    primary = Server(folder, "one", synchronous_commit="on").create().start().create_database()
    standby = Server(folder, "two").create_standby_of(primary)
    back = []
    try:
        standby.start()
        follow(primary)
        hosts = [primary.port, standby.port]
        with Replicas(folder, [url(hosts), url(hosts[::-1]), url(hosts)]) as replicas:
            with Load(replicas.port) as load:
                for number in range(6 if is_long else 2):
                    load.until_answered(time.monotonic(), within=30, calls=20)
                    if number % 2:
                        wait_for_nobody(primary, standby)
                    primary.kill()
                    time.sleep(random.uniform(0, 3))
                    if number % 2:
                        standby.start()
                    promoted = time.monotonic()
                    standby.promote()
                    back.append(load.until_answered(promoted, within=30))
                    replicas.until_ready()
                    primary, standby = standby, primary
                    standby.create_standby_of(primary).start()
                    follow(primary)
                time.sleep(1)
            assert replicas.still_the_same(), replicas.logs()
            load.check(primary)
            replicas.until_equal(within=2)
            replicas.stop()
    finally:
        for server in (primary, standby):
            server.__exit__()
    seconds = ", ".join(f"{each:.1f}" for each in back)
    assert max(back) <= BACK, f"back {seconds} s after the promotion"
    return f"back {seconds} s after the promotion: {load.summary()}"


def wait_for_nobody(primary: Server, standby: Server):
    """Commits wait for a standby that is gone, until an operator ends their sessions: they are on the primary then,
    but may not be answered."""
    standby.kill()
    ends = time.monotonic() + 2
    while time.monotonic() < ends:
        primary.terminate_sessions()
        time.sleep(0.3)


def follow(primary: Server):
    """From now on each commit waits for the standby."""
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'", "postgres")
    primary.sql("SELECT pg_reload_conf()", "postgres")
    primary.wait_for("SELECT string_agg(sync_state, ',') FROM pg_stat_replication", "sync", "postgres")
