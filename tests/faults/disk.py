"""The disk fails under a running server. In each case: no wrong answer (no 401
or 409 for the fault), 503 with Retry-After, the key set within a second all the
while, recovery without a restart (but for a file that is gone), and nothing lost that was answered.

    cargo build --release && python3 tests/faults/disk.py [CASE...]

Takes about a minute. Two cases need the permission to mount; without it they are
left out aloud, and REQUIRE_MOUNT=1 makes that a failure."""

import contextlib
import errno
import os
import pathlib
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

from service import (
    DATABASE,
    PATIENCE,
    Gone,
    Server,
    binary,
    left_out,
    make_settings,
    rows,
    shim,
    sound,
    standstill,
    wait_for,
)

from harness.left_out import cases

QUICK = 1.0


class Watch:
    """Fetches the key set without a pause from a thread of its own."""

    def __init__(self, server):
        self.client = server.client()
        first = self.client.key_set()
        assert first.status == 200, first
        self.set, self.slowest, self.fetches = first.body, first.took, 0
        self.wrong, self.ends = None, threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.ends.is_set() and not self.wrong:
            try:
                reply = self.client.key_set()
            except Gone as e:
                self.wrong = e
                return
            self.slowest = max(self.slowest, reply.took)
            self.fetches += 1
            if reply.status != 200 or reply.body != self.set:
                self.wrong = reply
            time.sleep(0.005)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join()

    def check(self):
        assert self.wrong is None, f"the key set: {self.wrong}"
        assert self.slowest < QUICK, f"a key set took {self.slowest:.3f} s"


class Run:
    """A server with an account, a watch on its key set, and what was answered."""

    def __init__(self, folder, **more):
        self.folder = pathlib.Path(folder)
        make_settings(folder)
        self.server = Server(folder, **more)
        self.client = self.server.client()
        wait_for("both keys", lambda: "a new expired key" in self.server.log())
        self.passwords, self.sign_ins, self.count = {}, {}, 0
        self.register()
        self.watch = Watch(self.server)

    def register(self):
        """A sign-up of a name of its own; the reply."""
        name = f"user{self.count}"
        self.count += 1
        reply = self.client.register(name)
        assert reply.status in (201, 503), reply
        if reply.status == 201:
            self.passwords[name] = reply.json()["password"]
        return self._proper(reply)

    def sign_in(self, name="user0"):
        reply = self.client.sign_in(name, self.passwords[name])
        assert reply.status in (200, 503), reply
        if reply.status == 200:
            self.sign_ins[name] = self.sign_ins.get(name, 0) + 1
        return self._proper(reply)

    def _proper(self, reply):
        if reply.status == 503:
            assert int(reply.headers["Retry-After"]) >= 1, reply
            assert reply.json()["error"]
        return reply

    def refuses_writes(self):
        """Both kinds of write are refused."""
        assert self.register().status == 503
        assert self.sign_in().status == 503

    def recovers(self):
        """The fault is over: both kinds of write work, and at once."""
        took = wait_for("a sign-up", lambda: self.register().status == 201, timeout=10)
        assert self.sign_in().status == 200
        return took

    def finish(self):
        """All that was answered is there: before a kill, after it, and whole."""
        self.watch.__exit__()
        self.watch.check()
        for again in (False, True):
            if again:
                self.server.kill()
                self.server = Server(self.folder)
                self.client = self.server.client()
            for name in self.passwords:
                assert self.sign_in(name).status == 200, name
        self.server.stop()
        sound(self.folder)
        for name, answered in self.sign_ins.items():
            [(logged,)] = rows(
                self.folder,
                "SELECT count(*) FROM auth_logs JOIN users ON users.id = user_id WHERE username = ?",
                name,
            )
            assert logged >= answered, f"{name}: {logged} rows for {answered} answers"
        return f"slowest key set {self.watch.slowest * 1000:.0f} ms of {self.watch.fetches}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.watch.__exit__()
        self.server.__exit__()


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix="faults-") as made:
        yield pathlib.Path(made)


@contextlib.contextmanager
def small_disk(size):
    """A file system that is soon full; None when it cannot be mounted."""
    with folder() as made:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", made]
        if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode != 0:
            yield None
            return
        try:
            yield made
        finally:
            subprocess.run(["umount", "-l", made], check=True)


def not_mounted(case):
    why = "a file system cannot be mounted here"
    assert not os.environ.get("REQUIRE_MOUNT"), why
    return left_out(case, why)


def full_disk():
    # Sign-ups are refused below 64 MiB already.
    with small_disk("96m") as disk:
        if disk is None:
            return not_mounted("a full disk")
        with Run(disk) as run:
            ballast = disk / "ballast"
            for _ in range(3):
                with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))
                # Space that the WAL has already may be written over.
                wait_for("a full disk", lambda: run.sign_in().status == 503)
                run.refuses_writes()
                ballast.unlink()
                run.recovers()
            return run.finish()


def read_only_at_start():
    """A file system that is read-only, and a file without the right to write:
    the start is refused with one line, and nothing is changed."""
    with small_disk("1m") as disk:
        if disk is None:
            return not_mounted("a read-only file system at the start")
        make_settings(disk)
        with Server(disk) as server:
            assert server.client().key_set().status == 200
            server.stop()
        before = (disk / DATABASE).read_bytes()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        said = refused_start(disk)
        assert "cannot be used" in said, said
        assert (disk / DATABASE).read_bytes() == before
        return said


def failing(kind, number):
    """Writes or syncs of the database fail, three times over."""

    def case():
        with folder() as made:
            fault = made / "fault"
            env = {
                "LD_PRELOAD": str(shim()),
                "FAULT_NAME": DATABASE,
                "FAULT_FILE": str(fault),
            }
            with Run(made, env=env) as run:
                for _ in range(3):
                    fault.write_text(f"{kind} {number}\n")
                    run.refuses_writes()
                    run.refuses_writes()
                    fault.unlink()
                    run.recovers()
                return run.finish()

    return case


def immutable_file():
    """The read-only file: `chattr +i` where the file system knows it."""
    with folder() as made, Run(made) as run:
        files = [made / DATABASE, made / f"{DATABASE}-wal"]
        set_flag = subprocess.run(["chattr", "+i", *files], stderr=subprocess.DEVNULL)
        if set_flag.returncode != 0:
            subprocess.run(["chattr", "-i", *files], stderr=subprocess.DEVNULL)
            return left_out("an immutable file", "no chattr here; `write-erofs` stands for it")
        try:
            # The flag holds for whoever opens the file; some file systems let one
            # that is open be written all the same.
            for file in files:
                try:
                    os.close(os.open(file, os.O_RDWR))
                except PermissionError:
                    continue
                raise AssertionError(f"{file.name} is not immutable")
            for _ in range(3):
                run.register()
                run.sign_in()
        finally:
            subprocess.run(["chattr", "-i", *files], check=True)
        run.recovers()
        return run.finish()


def locked():
    """Another process holds the lock: longer than a write waits, and for 3 s more."""
    holder = """
import sqlite3, sys, time
conn = sqlite3.connect(sys.argv[1])
conn.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
time.sleep(3)
conn.rollback()
"""
    with folder() as made, Run(made) as run:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, "-c", holder, made / DATABASE], **pipes) as other:
            assert other.stdout.readline() == "held\n"
            reply = run.register()
            assert reply.status == 503 and reply.took < 6, reply
            told = time.monotonic()
            other.stdin.write("soon\n")
            other.stdin.flush()
            # This one waits for the rest of the lock.
            reply = run.sign_in()
            # While all stood still its five seconds may have come to their end too.
            assert reply.status == 200 or standstill.since(told), reply
            assert reply.status == 503 or time.monotonic() - told > 2.9, reply
        assert other.returncode == 0
        run.recovers()
        return run.finish()


def page_of(conn, name):
    [(page,)] = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,))
    return page


def corrupt(what):
    """The root page of a table or index is overwritten with zeros, and later
    put back. What needs the page is 503; the rest goes on."""

    def case():
        with folder() as made, Run(made) as run:
            with contextlib.closing(sqlite3.connect(made / DATABASE)) as conn:
                assert conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
                [(size,)] = conn.execute("PRAGMA page_size")
                at = (page_of(conn, what) - 1) * size
            with (made / DATABASE).open("r+b", buffering=0) as file:
                good = os.pread(file.fileno(), size, at)
                os.pwrite(file.fileno(), bytes(size), at)
                # A commit of another program makes all connections read anew.
                touch(made)
                seen = {run.register().status for _ in range(3)}
                seen |= {run.sign_in().status for _ in range(3)}
                assert 503 in seen, seen
                os.pwrite(file.fileno(), good, at)
            touch(made)
            run.recovers()
            return run.finish()

    return case


def touch(made):
    """A commit that writes the pages of no table of the service."""
    with contextlib.closing(sqlite3.connect(made / DATABASE, timeout=10)) as conn:
        [(version,)] = conn.execute("PRAGMA user_version")
        conn.execute(f"PRAGMA user_version = {1 - version % 2}")


def deleted():
    """The tests in tests/process/replaced.rs, under load: from the moment the file is gone no sign-up is
    answered 201, the server ends with exit code 1, and what was answered is in the file."""
    with folder() as made, Run(made) as run:
        for turn in range(3):
            run.watch.__exit__()
            # The time of each request, its name and password.
            told, wrong = [], []

            def sign_up(number, turn=turn, told=told, wrong=wrong):
                client = run.server.client(f"127.0.1.{number}")
                with contextlib.suppress(Gone):
                    for n in range(1000):
                        name = f"t{turn}c{number}n{n}"
                        reply = client.register(name)
                        if reply.status == 201:
                            told.append((reply.began, name, reply.json()["password"]))
                        elif reply.status != 503:
                            wrong.append(reply)

            threads = [threading.Thread(target=sign_up, args=(n + 1,)) for n in range(4)]
            for thread in threads:
                thread.start()
            wait_for("sign-ups", lambda told=told: len(told) >= 8)
            os.rename(made / DATABASE, made / "away")
            gone = time.monotonic()
            code = run.server.process.wait(PATIENCE)
            for thread in threads:
                thread.join()
            late = [name for began, name, _ in told if began > gone]
            assert code == 1, f"exit code {code}:\n{run.server.log()}"
            assert not wrong, wrong
            assert not late, f"asked for after the file was gone, and answered 201: {late}"
            os.rename(made / "away", made / DATABASE)
            run.passwords |= {name: password for _, name, password in told}
            run.server = Server(made)
            run.client = run.server.client()
            run.watch = Watch(run.server)
            run.recovers()
        return run.finish()


def crashed(made, names):
    """Registers names in a server that is killed then; what its log has."""
    with Server(made) as server:
        for name in names:
            assert server.client().register(name).status == 201
        server.kill()
    log = (made / f"{DATABASE}-wal").read_bytes()
    assert len(log) > 32
    return log


def refused_start(made):
    """The start ends with code 2, and its last line is returned."""
    with subprocess.Popen([binary()], cwd=made, env={}, stderr=subprocess.PIPE, text=True) as server:
        try:
            said = server.communicate(timeout=PATIENCE)[1]
        finally:
            server.kill()
    assert server.returncode == 2, (server.returncode, said)
    return said.splitlines()[-1]


def stale_log():
    """Beside the file at the start lies the log of another database with the
    same NOT_MY_KEY, or one of a later time than the file, which is a backup.
    Both are refused, and both files left as they are."""
    with folder() as made, folder() as other:
        make_settings(made)
        (other / ".env").write_bytes((made / ".env").read_bytes())
        alien = crashed(other, [f"bob{n}" for n in range(20)])
        crashed(made, ["alice"])
        with Server(made) as server:
            server.stop()
        backup = (made / DATABASE).read_bytes()
        # Some that are only in the file, then some that are only in the log.
        crashed(made, [f"later{n}" for n in range(40)])
        with Server(made) as server:
            server.stop()
        own = crashed(made, [f"last{n}" for n in range(5)])
        for log in (alien, own):
            (made / DATABASE).write_bytes(backup)
            (made / f"{DATABASE}-wal").write_bytes(log)
            (made / f"{DATABASE}-shm").unlink(missing_ok=True)
            said = refused_start(made)
            assert "move it away" in said, said
            assert (made / DATABASE).read_bytes() == backup
            assert (made / f"{DATABASE}-wal").read_bytes() == log
            # Without it, all is there.
            (made / f"{DATABASE}-wal").unlink()
            (made / f"{DATABASE}-shm").unlink(missing_ok=True)
            with Server(made) as server:
                server.stop()
            sound(made)
            assert rows(made, "SELECT username FROM users") == [("alice",)]
        return "refused, the file and the log are left as they are"


CASES = {
    "full": full_disk,
    "read-only-start": read_only_at_start,
    "write-erofs": failing("write", errno.EROFS),
    "write-eio": failing("write", errno.EIO),
    "write-enospc": failing("write", errno.ENOSPC),
    "sync-eio": failing("sync", errno.EIO),
    "immutable": immutable_file,
    "locked": locked,
    "corrupt-users": corrupt("users"),
    "corrupt-names": corrupt("sqlite_autoindex_users_1"),
    "corrupt-auth_logs": corrupt("auth_logs"),
    "deleted": deleted,
    "stale-log": stale_log,
}


def main():
    failed = False
    for name in sys.argv[1:] or CASES:
        began = time.monotonic()
        try:
            said = CASES[name]()
        except AssertionError as e:
            failed, said = True, f"FAILED: {e}"
        print(f"{name:18} {time.monotonic() - began:5.1f} s  {said}", flush=True)
    print(f"{len(cases)} left out")
    sys.exit(failed)


if __name__ == "__main__":
    main()
