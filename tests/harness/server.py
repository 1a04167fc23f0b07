"""A running server of the binary under test, and its log."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DATABASE = "totally_not_my_privateKeys.db"
JWKS = "/.well-known/jwks.json"
# A limit for a server that hangs, not for one that is slow, in seconds.
PATIENCE = 60


def binary() -> Path:
    """The server: JWKS_SERVER, or the newer of the two builds."""
    if named := os.environ.get("JWKS_SERVER"):
        return Path(named).resolve()
    built = [ROOT / "target" / kind / "jwks-server" for kind in ("release", "debug")]
    built = [path for path in built if path.exists()]
    if not built:
        sys.exit("there is no build of the server; run cargo build --release")
    return max(built, key=lambda path: path.stat().st_mtime)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def sealing_key() -> str:
    """A new value of NOT_MY_KEY."""
    return subprocess.check_output([binary(), "keygen"], text=True, env={}).strip()


class Process:
    """A server that listens, started in `folder`; killed at the end of a with statement.

    `wrap` is a command that runs it, as strace does; `log` the file that it writes to, or one of its own."""

    def __init__(self, folder, environment, arguments=(), wrap=(), log=None):
        self.folder = Path(folder)
        environment = {"REGISTER_RATE": "1000"} | environment
        # Not in the folder, which may be on a disk that is full.
        self.log_file = Path(log) if log else Path(tempfile.mkstemp(prefix="jwks-server-", suffix=".log")[1])
        self.is_log_kept = bool(log)
        with open(self.log_file, "ab") as said:
            self.log_begin = said.tell()
            self.process = subprocess.Popen(
                [*wrap, binary(), *arguments], cwd=folder, env=environment,
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
        self.port = self._listening()

    def _listening(self) -> int:
        for _ in range(PATIENCE * 100):
            if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", self.log()):
                return int(found[1])
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        self.kill()
        raise AssertionError(f"it does not listen:\n{self.log()}")

    def log(self) -> str:
        """The log since its start."""
        with open(self.log_file, "rb") as said:
            said.seek(self.log_begin)
            return said.read().decode(errors="replace")

    def errors(self) -> list[str]:
        """The lines of its log that tell of an error."""
        marks = ('"level":"ERROR"', " ERROR ", "panicked")
        return [line for line in self.log().splitlines() if any(mark in line for mark in marks)]

    def pid(self) -> int:
        """The server's own number, also when something wraps it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else self.process.pid

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Asks it to stop; it must do so cleanly."""
        os.kill(self.pid(), signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        assert code == 0, f"exit code {code}:\n{self.log()}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            try:
                os.kill(self.pid(), signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.kill()
        if not self.is_log_kept:
            self.log_file.unlink(missing_ok=True)
