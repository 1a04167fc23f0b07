"""PostgreSQL's own faults: the answer is 503 and the key set stays up, until it is well again."""

import signal
import subprocess
import threading
import time

from load import Load
from harness.postgres import DATABASE, Server, unprivileged
from service import Replicas, ask, url

# Replicas are ready again this long after the server is, in seconds.
BACK = 5


class Watch(threading.Thread):
    """Fetches the key set of each replica all the time: it must be there."""

    def __init__(self, replicas: Replicas):
        super().__init__(daemon=True)
        self.replicas, self.stopped, self.wrong, self.fetches = replicas, threading.Event(), [], 0
        self.paused: int | None = None

    def run(self):
        while not self.stopped.wait(0.05):
            for index in range(len(self.replicas.ports)):
                if index != self.paused:
                    status = self.replicas.key_set(index).status
                    self.fetches += 1
                    if status != 200 and index != self.paused:
                        self.wrong.append((index, status))


class Trial:
    """A fault, under load; then all must be well by itself."""

    def __init__(self, folder, server: Server, replicas: Replicas):
        self.folder, self.server, self.replicas, self.words = folder, server, replicas, []

    def go(self, name: str, fault, wants_refusals: bool = True):
        watch = Watch(self.replicas)
        watch.start()
        with Load(self.replicas.port) as load:
            load.until_answered(time.monotonic(), within=30, calls=4)
            fault(watch, load)
            ended = time.monotonic()
            back = max(self.replicas.until_ready(within=BACK + 5), load.until_answered(ended, within=BACK + 5))
        watch.stopped.set()
        watch.join()
        assert not watch.wrong, f"{name}: the key set was answered {watch.wrong[:5]}"
        assert watch.fetches > 10
        assert back < BACK, f"{name}: back after {back:.1f} s"
        refused = sum(status == 503 for _, status in load.answers)
        assert refused or not wants_refusals, f"{name}: nothing was refused: {load.count()}"
        load.check(self.server)
        self.server.sql("TRUNCATE auth_logs")
        assert self.replicas.still_the_same(), self.replicas.logs()
        self.words.append(f"{name}: {refused} x 503, back after {back:.1f} s")

    def until_refused(self, load: Load, within: float = 30):
        began = time.monotonic()
        while not any(status == 503 and when > began for when, status in list(load.answers)):
            assert time.monotonic() < began + within, f"nothing is refused: {load.count()}"
            time.sleep(0.02)

    # -------------------------------------------------------------- the faults

    def restart(self, watch, load):
        self.server.stop()
        self.until_refused(load)
        self.server.start()

    def crash(self, watch, load):
        self.server.kill()
        self.until_refused(load)
        self.server.start()

    def storm(self, watch, load):
        ends = time.monotonic() + 3
        while time.monotonic() < ends:
            self.server.terminate_sessions()
            time.sleep(0.05)

    def read_only(self, watch, load):
        self.server.sql(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on", "postgres")
        self.server.terminate_sessions()
        self.until_refused(load)
        self.replicas.until(0, "/readyz", 503, within=5)
        self.server.sql(f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only", "postgres")

    def statement_timeout(self, watch, load):
        self.server.sql(f"ALTER DATABASE {DATABASE} SET statement_timeout = 1", "postgres")
        self.server.terminate_sessions()
        self.until_refused(load)
        time.sleep(1)
        self.server.sql(f"ALTER DATABASE {DATABASE} RESET statement_timeout", "postgres")
        # The sessions that are there keep it.
        self.server.terminate_sessions()

    def lock(self, watch, load):
        """Statements wait for a lock that another program holds, until they time out."""
        self.server.sql("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT")

    def stopped_replica(self, watch, load):
        """A replica stops within its transactions, as a machine that is moved does; the locks that it holds are
        taken from it by idle_in_transaction_session_timeout."""
        self.replicas.signal(2, signal.SIGSTOP)
        watch.paused = 2
        time.sleep(7)
        for index, port in enumerate(self.replicas.ports[:2]):
            name = f"other{index}x{time.time_ns()}"
            answer = ask(port, "/register", {"username": name, "email": f"{name}@example.com"})
            assert answer.status == 201, answer.body
        self.replicas.signal(2, signal.SIGCONT)
        self.replicas.until(2, "/readyz", 200, within=BACK)
        watch.paused = None

    def disk_full(self, watch, load):
        full = self.server.data / "full"
        subprocess.run(unprivileged("dd", "if=/dev/zero", f"of={full}", "bs=64k"), stderr=subprocess.DEVNULL)
        # What is left of pages that are there.
        while self.server.ask("INSERT INTO commits SELECT gen_random_uuid() FROM generate_series(1, 100)") is not None:
            pass
        self.until_refused(load)
        time.sleep(1)
        full.unlink()


def server_faults(folder, is_long: bool) -> str:
    words = []
    with Server(folder, "primary").create().start() as server:
        server.create_database()
        with Replicas(folder, [url([server.port])] * 3) as replicas:
            trial = Trial(folder, server, replicas)
            for _ in range(3 if is_long else 1):
                trial.go("restart", trial.restart)
                trial.go("crash", trial.crash)
                trial.go("sessions terminated", trial.storm, wants_refusals=False)
                trial.go("read-only", trial.read_only)
                trial.go("statement_timeout", trial.statement_timeout)
                trial.go("locked table", trial.lock)
                if is_long:
                    trial.go("a replica stands still", trial.stopped_replica, wants_refusals=False)
            replicas.until_equal(within=2)
            replicas.stop()
            words += trial.words
    return "; ".join(words)


def disk_full(folder, is_long: bool) -> str:
    """The disk of the tables is full, that of the log is not."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m,mode=777", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        return "LEFT OUT: a file system cannot be mounted here"
    try:
        with Server(disk, "primary").create("--waldir", folder / "wal").start() as server:
            server.create_database()
            with Replicas(folder, [url([server.port])] * 3) as replicas:
                trial = Trial(folder, server, replicas)
                for _ in range(5 if is_long else 1):
                    trial.go("disk full", trial.disk_full)
                replicas.stop()
            return "; ".join(trial.words)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
