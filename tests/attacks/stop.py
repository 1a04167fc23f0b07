"""SIGTERM under load ends in time, and cleanly."""

import os
import signal
import time

import wire
from memory import crowd
from report import Victim


def run(report, is_long):
    for what, raw in {
        "unread answers": wire.request("GET", "/.well-known/jwks.json") * 300,
        "half bodies": b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{",
    }.items():
        with Victim(APP_ENV="production") as server:
            members = crowd(server, 2000 if is_long else 500, raw, receive=4096)
            time.sleep(0.5)
            began = time.monotonic()
            os.kill(server.pid(), signal.SIGTERM)
            code = server.process.wait(20)
            took = time.monotonic() - began
            report.hold(f"SIGTERM under {len(members)} {what}", f"exit {code} after {took:.1f} s", code == 0 and took < 10)
