"""A line for each finding, and the servers that they are tried on."""

import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.server import Process, sealing_key  # noqa: E402

MIB = 1024


class Report:
    def __init__(self):
        self.failed, self.began = 0, time.monotonic()

    def hold(self, finding, figure, is_good):
        self.failed += not is_good
        mark = "ok  " if is_good else "FAIL"
        print(f"{mark} {time.monotonic() - self.began:5.0f} s  {finding}: {figure}", flush=True)


class Victim(Process):
    """A server with settings of its own."""

    def __init__(self, wrap=(), **settings):
        self.home = tempfile.TemporaryDirectory(prefix="attacks-")
        fixed = {"NOT_MY_KEY": sealing_key(), "PORT": "0", "HOST": "127.0.0.1", "PATH": os.environ["PATH"]}
        super().__init__(self.home.name, fixed | settings, wrap=wrap)

    def rss(self):
        """KiB."""
        status = Path(f"/proc/{self.pid()}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def cpu(self):
        """Seconds of user and system time."""
        fields = Path(f"/proc/{self.pid()}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __exit__(self, *args):
        super().__exit__(*args)
        self.home.cleanup()


class Peak(threading.Thread):
    """The most memory that a server has had while this ran, in KiB."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.most, self.is_over = server, server.rss(), threading.Event()

    def run(self):
        while not self.is_over.wait(0.05):
            self.most = max(self.most, self.server.rss())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.join()


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))


def close_all(sockets):
    for sock in sockets:
        sock.close()
