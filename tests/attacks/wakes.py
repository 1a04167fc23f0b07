"""An idle service rests."""

import time
from pathlib import Path

import wire
from report import Victim


def wakes(pid):
    """Of each thread."""
    statuses = {path.parent.name: path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")}
    return {thread: int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0]) for thread, text in statuses.items()}


def run(report, is_long):
    seconds = 60 if is_long else 10
    with Victim(APP_ENV="production") as server:
        connection = wire.Http1(server.port)
        connection.ask("GET", "/.well-known/jwks.json")
        # The first keys are made.
        time.sleep(5)
        before = wakes(server.pid())
        time.sleep(seconds)
        after = wakes(server.pid())
        # Threads that have ended did nothing.
        each = sum(count - before.get(thread, 0) for thread, count in after.items()) / seconds
        report.hold("wakes of an idle service, one connection kept", f"{each:.1f} a second", each <= 4)
