"""The service under load: one process of the binary with short key times, watched from /proc."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "tests"))
import standstill  # noqa: E402

BINARY = ROOT / "target/release/jwks-server"
JWKS = "/.well-known/jwks.json"
DATABASE = "totally_not_my_privateKeys.db"
# The shortest that KEY_LIFETIME may be with the others: a new key each minute.
TIMES = {
    "KEY_LIFETIME": "77s",
    "KEY_LEAD": "2s",
    "JWKS_MAX_AGE": "2s",
    "TOKEN_LIFETIME": "10s",
    "CLOCK_SKEW": "5s",
    "KEY_RETENTION": "2m",
}


class Service:
    """A running server in a folder of its own, which goes away with it."""

    def __init__(self, binary: Path):
        self.binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="load-"))
        sealing_key = subprocess.check_output([binary, "keygen"], cwd=self.folder).decode().strip()
        self.environment = TIMES | {"NOT_MY_KEY": sealing_key, "APP_ENV": "production"}
        self.environment |= {"HOST": "127.0.0.1", "PORT": "0"}
        self.log = self.folder / "log"

    def __enter__(self) -> "Service":
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.binary], cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )
        # A limit for one that hangs, not for one that is slow.
        for _ in range(1200):
            if match := re.search(rb"listening on http://127\.0\.0\.1:(\d+)", self.log.read_bytes()):
                self.port = int(match[1])
                print(f"   server: pid {self.process.pid}, port {self.port}", flush=True)
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"the server did not start: {self.log.read_text()}")

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)

    def command(self, *words: str) -> None:
        """Runs a command of the operator's on the same database."""
        subprocess.run(
            [self.binary, *words], cwd=self.folder, env=self.environment, check=True, stdout=subprocess.DEVNULL
        )

    def stop(self) -> int:
        """Asks it to stop and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB$", status, re.M)[1])

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def number(self, query: str):
        """What a query of one value says, after the stop."""
        connection = sqlite3.connect(self.folder / DATABASE)
        try:
            return connection.execute(query).fetchone()[0]
        finally:
            connection.close()

    def errors(self) -> list[str]:
        """The lines of the log at level error."""
        with open(self.log, encoding="utf-8", errors="replace") as lines:
            return [line.strip() for line in lines if '"level":"ERROR"' in line or "panicked" in line]
