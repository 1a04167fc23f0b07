"""The service under load: one process of the binary with short key times, watched from /proc."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from harness import standstill  # noqa: E402, F401
from harness.server import DATABASE, JWKS, Process, binary, sealing_key  # noqa: E402, F401

# The shortest that KEY_LIFETIME may be with the others: a new key each minute.
TIMES = {
    "KEY_LIFETIME": "77s",
    "KEY_LEAD": "2s",
    "JWKS_MAX_AGE": "2s",
    "TOKEN_LIFETIME": "10s",
    "CLOCK_SKEW": "5s",
    "KEY_RETENTION": "2m",
}


class Service(Process):
    """A running server in a folder of its own, which goes away with it."""

    def __init__(self):
        folder = Path(tempfile.mkdtemp(prefix="load-"))
        self.environment = TIMES | {"NOT_MY_KEY": sealing_key(), "APP_ENV": "production"}
        self.environment |= {"HOST": "127.0.0.1", "PORT": "0"}
        super().__init__(folder, self.environment, log=folder / "log")
        print(f"   server: pid {self.process.pid}, port {self.port}", flush=True)

    def __exit__(self, *_) -> None:
        super().__exit__()
        shutil.rmtree(self.folder)

    def command(self, *words: str) -> None:
        """Runs a command of the operator's on the same database."""
        subprocess.run(
            [binary(), *words], cwd=self.folder, env=self.environment, check=True, stdout=subprocess.DEVNULL
        )

    def rss_kib(self) -> int:
        return self.memory("VmRSS")

    def peak_rss_kib(self) -> int:
        return self.memory("VmHWM")

    def memory(self, which: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{which}:\s+(\d+) kB$", status, re.M)[1])

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def number(self, query: str):
        """Result of a query of one value, after the stop."""
        connection = sqlite3.connect(self.folder / DATABASE)
        try:
            return connection.execute(query).fetchone()[0]
        finally:
            connection.close()
