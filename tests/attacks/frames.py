"""Floods of HTTP/2 frames: the key set goes on, and the connection ends."""

import threading
import time

import wire
from report import MIB, Victim

ASKS = wire.block("GET", "/.well-known/jwks.json")


def send_all(connection, raw, seconds):
    """Sends again and again; true when the server ends the connection."""
    connection.sock.settimeout(seconds)
    began = time.monotonic()
    try:
        while time.monotonic() - began < seconds:
            connection.send(raw())
    except OSError as e:
        return not isinstance(e, TimeoutError)
    return False


def resets(stream=[1]):
    raw = b""
    for _ in range(200):
        raw += wire.head(stream[0], ASKS) + wire.frame(wire.RST_STREAM, 0, stream[0], b"\0\0\0\x08")
        stream[0] += 2
    return raw


FLOODS = {
    "rapid reset": (b"", resets),
    "CONTINUATION": (wire.frame(wire.HEADERS, 0, 1, ASKS), lambda: wire.frame(wire.CONTINUATION, 0, 1, b"\x00\x01a\x01b" * 1000)),
    "empty CONTINUATION": (wire.frame(wire.HEADERS, 0, 1, ASKS), lambda: wire.frame(wire.CONTINUATION, 0, 1) * 1000),
    "SETTINGS": (b"", lambda: wire.frame(wire.SETTINGS, 0, 0) * 1000),
    "PING": (b"", lambda: wire.frame(wire.PING, 0, 0, bytes(8)) * 1000),
    "PRIORITY": (b"", lambda: wire.frame(wire.PRIORITY, 0, 1, bytes(5)) * 1000),
    "WINDOW_UPDATE": (b"", lambda: wire.frame(wire.WINDOW_UPDATE, 0, 0, b"\0\0\0\x01") * 1000),
    "padded DATA": (wire.head(1, wire.block("POST", "/register"), ends=False),
                    lambda: wire.frame(wire.DATA, wire.PADDED, 1, b"\xff" + bytes(255)) * 1000),
    "empty DATA": (wire.head(1, wire.block("POST", "/register"), ends=False), lambda: wire.frame(wire.DATA, 0, 1) * 1000),
}  # fmt: skip


def run(report, is_long):
    seconds = 20 if is_long else 1.5
    with Victim(APP_ENV="production") as server:
        kept = wire.Http1(server.port, "127.0.9.1")
        kept.ask("GET", "/.well-known/jwks.json")
        before = server.rss()
        for what, (first, again) in FLOODS.items():
            connections = [wire.Http2(server.port) for _ in range(4)]
            for connection in connections:
                connection.send(first)
            threads = [threading.Thread(target=send_all, args=(each, again, seconds)) for each in connections]
            for thread in threads:
                thread.start()
            slowest, statuses = 0, set()
            while any(thread.is_alive() for thread in threads):
                began = time.monotonic()
                statuses.add(kept.ask("GET", "/.well-known/jwks.json").status)
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.02)
            for connection in connections:
                connection.close()
            more = (server.rss() - before) // MIB
            told = f"key set {statuses or 'not asked'}, slowest {1000 * slowest:.0f} ms, {more} MiB more"
            report.hold(f"flood of {what}", told, statuses <= {200} and slowest < 1 and more <= 32)
