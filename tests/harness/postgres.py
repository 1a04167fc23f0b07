"""Servers of PostgreSQL in a temporary folder, not as root: a primary, and standbys made from it."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from harness.server import PATIENCE, free_port

USER = "postgres"
DATABASE = "jwks"
# A kill of processes loses nothing that was written, so nothing here needs the disk.
SETTINGS = {"fsync": "off", "max_connections": "100", "listen_addresses": "127.0.0.1", "wal_level": "replica"}


def programs() -> Path | None:
    """The folder of the newest version."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: float(path.parent.name), default=None)


def unprivileged(*command) -> list:
    """PostgreSQL does not run as root."""
    drop = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    return [*(drop if os.getuid() == 0 else []), *map(str, command)]


def folder() -> Path:
    """A new one that PostgreSQL may write to."""
    path = Path(tempfile.mkdtemp(prefix="postgres-"))
    path.chmod(0o777)
    return path


class Server:
    """A server of PostgreSQL, started in a folder of its own; killed at the end of a with statement."""

    def __init__(self, within: Path, name: str, **settings: str):
        self.name, self.within, self.data = name, within, within / name
        self.settings = SETTINGS | settings
        self.port = free_port()
        self.process = None

    def _run(self, program: str, *arguments):
        command = unprivileged(programs() / program, *arguments)
        done = subprocess.run(command, cwd="/", capture_output=True, text=True)
        assert done.returncode == 0, f"{program}: {done.stderr}"

    def create(self, *options: str) -> "Server":
        self._run("initdb", "--auth=trust", f"--username={USER}", "--no-sync", "-D", self.data, *options)
        return self

    def create_standby_of(self, primary: "Server") -> "Server":
        """Its name is that of its connection, for synchronous_standby_names."""
        if self.data.exists():
            shutil.rmtree(self.data)
        source = f"host=127.0.0.1 port={primary.port} user={USER} application_name={self.name}"
        self._run("pg_basebackup", "--checkpoint=fast", "--no-sync", "-R", "-d", source, "-D", self.data)
        # Once promoted it waits for nobody until it is told to.
        with open(self.data / "postgresql.auto.conf", "a", encoding="utf-8") as lines:
            lines.write("synchronous_standby_names = ''\n")
        return self

    def start(self) -> "Server":
        settings = [part for pair in self.settings.items() for part in ("-c", "=".join(pair))]
        with open(self.within / f"{self.name}.log", "ab") as log:
            command = unprivileged(programs() / "postgres", "-D", self.data, "-p", self.port, "-k", self.within)
            self.process = subprocess.Popen([*command, *settings], cwd="/", stdout=log, stderr=log)
        self.wait_for("SELECT 1", "1", "postgres")
        return self

    def create_database(self, name: str = DATABASE) -> "Server":
        self.sql(f"CREATE DATABASE {name}", "postgres")
        return self

    def ask(self, sql: str, database: str = DATABASE) -> str | None:
        """Output of a statement, a line a row; none when it fails."""
        command = ["psql", "-h", "127.0.0.1", "-U", USER, "-XAtq", "-p", str(self.port), "-d", database, "-c", sql]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    def sql(self, sql: str, database: str = DATABASE) -> str:
        answer = self.ask(sql, database)
        assert answer is not None, f"it fails: {sql}"
        return answer

    def wait_for(self, sql: str, answer: str, database: str = DATABASE, patience: float = PATIENCE):
        ends = time.monotonic() + patience
        while (got := self.ask(sql, database)) != answer:
            assert time.monotonic() < ends, f"{self.name}: {sql} gives {got}; {self.log()}"
            time.sleep(0.02)

    def terminate_sessions(self):
        """Those of the service."""
        self.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'jwks-server'")

    def log(self) -> str:
        return (self.within / f"{self.name}.log").read_text(errors="replace")[-2000:]

    def children(self) -> list[int]:
        try:
            text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        except FileNotFoundError:
            return []
        return [int(pid) for pid in text.split()]

    def kill(self):
        """SIGKILL of all its processes, as when its machine is gone."""
        children = self.children()
        for pid in [self.process.pid, *children]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        for pid in children:
            ends = time.monotonic() + PATIENCE
            while Path(f"/proc/{pid}").exists() and time.monotonic() < ends:
                time.sleep(0.005)

    def stop(self, how: signal.Signals = signal.SIGINT):
        """By default a fast shutdown; SIGQUIT is an immediate one."""
        self.process.send_signal(how)
        self.process.wait(PATIENCE)

    def promote(self):
        self.sql("SELECT pg_promote(true)", "postgres")
        self.wait_for("SELECT pg_is_in_recovery()", "f", "postgres")

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.kill()
