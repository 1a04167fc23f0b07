"""Kept connections: usable behind refusals, and told when they are not."""

import time

import wire
from report import Victim


def run(report, is_long):
    with Victim(APP_ENV="production") as server:
        refusals(report, server)
        too_large(report, server)
        idle(report, server, 70 if is_long else 12)


def refusals(report, server):
    connection, statuses = wire.Http1(server.port), []
    body = b'{"username":"nobody","password":"wrong"}'
    for n in range(28):
        path = "/auth" if n < 14 else "/nope"
        answer = connection.ask("POST", path, wire.JSON, body=body + b" " * (40_000 * (n % 3)))
        statuses.append(answer and answer.status)
        if answer is None or answer.headers.get("connection"):
            break
    report.hold("28 refusals with bodies on one connection", statuses, len(statuses) == 28 and statuses[-1] == 404)


def too_large(report, server):
    for size in (2, 8):
        connection = wire.Http1(server.port)
        try:
            answer = connection.ask("POST", "/register", wire.JSON, body=b"x" * (size << 20))
        except ConnectionError as e:
            answer, told = None, type(e).__name__
        if answer:
            told = f"{answer.status}, Connection: {answer.headers.get('connection')}"
        is_good = answer and answer.status == 413 and answer.headers.get("connection") == "close"
        report.hold(f"{size} MiB sent before reading", told, is_good)


def idle(report, server, seconds):
    """Longer than a head may take; with --long, longer than load balancers keep connections."""
    http1, http2 = wire.Http1(server.port), wire.Http2(server.port)
    http1.ask("GET", "/healthz")
    http2.send(wire.head(1, wire.block("GET", "/healthz")))
    http2.answers(1)
    began, half = time.monotonic(), wire.Http1(server.port)
    half.send(b"GET / HTTP/1.1\r\nHost:")
    closed = half.is_closed()
    took = time.monotonic() - began
    report.hold("half a head", f"closed after {took:.1f} s" if closed else "open", closed and 8 < took < 13)
    http2.rest(max(0, seconds - took))
    answer = http1.ask("GET", "/healthz")
    report.hold(f"HTTP/1.1, {seconds} s idle", answer and answer.status, answer and answer.status == 200)
    http2.send(wire.head(3, wire.block("GET", "/healthz")))
    told = http2.answers(1)
    report.hold(f"HTTP/2, {seconds} s idle", told.get(3), told.get(3) == 200)
