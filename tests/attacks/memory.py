"""Floods: how much memory each takes of a new server, and how soon it has given it back."""

import time

import wire
from report import MIB, Peak, Victim, close_all

MOST = 160 * MIB
# What may be left of it, and the seconds until then.
LEFT, BACK_WITHIN = 32 * MIB, 60
CLIENTS = [f"127.0.1.{n}" for n in range(1, 9)]


def crowd(server, count, raw, receive=None):
    """Connections of several addresses that send `raw` and do not read."""
    members = []
    for n in range(count):
        sock = wire.connect(server.port, CLIENTS[n % len(CLIENTS)], receive=receive)
        sock.setblocking(False)
        members.append(sock)
        try:
            sock.send(raw)
        except (BlockingIOError, ConnectionError):
            pass
    return members


def compressed_heads(server, _):
    """Fields of one byte each: the first is kept in the dynamic table, the others refer to it."""
    fields = b"\x40\x01a\x00" + b"\xbe" * 1800
    first = wire.block("POST", "/register") + fields
    others = wire.block("POST", "/register") + b"\xbe" * 1801
    streams = b"".join(wire.head(n, first if n == 1 else others, ends=False) for n in range(1, 200, 2))
    return crowd(server, 100, wire.settings() + streams)


def half_bodies(server, count):
    body = b"x" * 16383
    raw = b"POST /register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 16384\r\n\r\n"
    return crowd(server, count, raw + body)


def chunks_of_one_byte(server, count):
    raw = b"POST /register HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 9000
    return crowd(server, count // 4, raw)


def half_heads(server, count):
    return crowd(server, count, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 16000)


def half_streams(server, count):
    """Each stream waits for its body."""
    streams = b"".join(wire.head(n, wire.block("POST", "/register"), ends=False) + wire.frame(wire.DATA, 0, n, b"x" * 500)
                       for n in range(1, 64, 2))  # fmt: skip
    return crowd(server, count, wire.settings() + streams)


def unread_answers(server, count):
    return crowd(server, count // 2, wire.request("GET", "/.well-known/jwks.json") * 300, receive=4096)


def closed_windows(server, count):
    """Streams whose answers may not be sent."""
    streams = b"".join(wire.head(n, wire.block("GET", "/.well-known/jwks.json")) for n in range(1, 64, 2))
    return crowd(server, count, wire.settings(window=0) + streams, receive=4096)


def pages(server, count, window):
    """Pages that are made for one request each."""
    block = wire.block("GET", "/", ("accept", "text/html"), ("host", "x" * 120))
    streams = b"".join(wire.head(n, block) for n in range(1, 16, 2))
    update = wire.frame(wire.WINDOW_UPDATE, 0, 0, b"\0\x10\0\0")
    return crowd(server, count, wire.settings(window=window) + update + streams, receive=4096)


def pages_in_closed_windows(server, count):
    return pages(server, count, 1)


def unread_pages(server, count):
    return pages(server, count, 1024 * 1024)


def endless_continuation(server, count):
    block = wire.block("GET", "/healthz") + b"\x40\x01a\x00"
    raw = wire.frame(wire.HEADERS, 0, 1, block) + wire.frame(wire.CONTINUATION, 0, 1, b"\xbe" * 1000) * 50
    return crowd(server, count // 10, wire.settings() + raw)


def idle_http2(server, count):
    return crowd(server, count, wire.settings() + wire.head(1, wire.block("GET", "/healthz")))


FLOODS = [compressed_heads, half_bodies, chunks_of_one_byte, half_heads, half_streams, unread_answers, closed_windows,
          pages_in_closed_windows, unread_pages, endless_continuation, idle_http2]  # fmt: skip


def run(report, is_long):
    count = 10_000 if is_long else 3_000
    for flood in FLOODS:
        with Victim(APP_ENV="production") as server:
            wire.Http1(server.port).ask("GET", "/.well-known/jwks.json")
            idle = server.rss()
            with Peak(server) as peak:
                members = flood(server, count)
                time.sleep(1)
                asked = wire.Http1(server.port, "127.0.2.1").ask("GET", "/.well-known/jwks.json")
                close_all(members)
            ended = time.monotonic()
            while server.rss() - idle > LEFT and time.monotonic() - ended < BACK_WITHIN:
                time.sleep(0.1)
            name = flood.__name__.replace("_", " ")
            taken, left = ((size - idle) // MIB for size in (peak.most, server.rss()))
            figures = f"{idle // MIB} MiB and {taken} more, {left} left after {time.monotonic() - ended:.1f} s"
            is_good = peak.most - idle <= MOST and left <= LEFT // MIB and asked and asked.status == 200
            report.hold(f"memory, {name}", f"{figures}, key set {asked and asked.status}", is_good)
