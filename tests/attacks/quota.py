"""The quota is exact, whatever carries the calls, and whose address they claim."""

import time

import wire
from report import Victim

BODY = b'{"username":"nobody","password":"wrong"}'


def count(report, what, statuses, began):
    let_in = sum(status != 429 for status in statuses)
    most = 10 * (1 + int(time.monotonic() - began))
    report.hold(f"quota, {what}", f"{let_in} of {len(statuses)} let in", 0 not in statuses and 10 <= let_in <= most)


def run(report, _is_long):
    with Victim(TRUSTED_PROXIES="127.0.0.9") as server:
        began, connection = time.monotonic(), wire.Http1(server.port, "127.0.4.1")
        connection.send(wire.request("POST", "/auth", wire.JSON, body=BODY) * 60)
        count(report, "60 sent ahead", [connection.answer().status for _ in range(60)], began)

        began, connection = time.monotonic(), wire.Http2(server.port, "127.0.4.2")
        statuses = []
        for first in range(1, 14 * 2 * wire.STREAMS, 2 * wire.STREAMS):
            for stream in range(first, first + 2 * wire.STREAMS, 2):
                block = wire.block("POST", "/auth", ("content-type", "application/json"))
                connection.send(wire.head(stream, block, ends=False) + wire.frame(wire.DATA, 1, stream, BODY))
            statuses += connection.answers(wire.STREAMS).values()
        count(report, "112 streams", statuses, began)
        forwarded(report, server)


def forwarded(report, server):
    """The address that a proxy appended counts, whatever bytes the client wrote before it."""
    for client, line in enumerate([b"\xe9, %s", b"\xff\xfe,%s", b"1.1.1.1, %s", b", %s", b"\x80 ,, %s"]):
        address = f"9.9.9.{client}".encode()
        began, connection, statuses = time.monotonic(), wire.Http1(server.port, "127.0.0.9"), []
        for n in range(24):
            fields = line % address if n % 2 else address
            raw = wire.request("POST", "/auth", wire.JSON, body=BODY)
            raw = raw.replace(b"\r\n", b"\r\nX-Forwarded-For: " + fields + b"\r\n", 1)
            connection.send(raw)
            statuses.append(connection.answer().status)
        count(report, f"X-Forwarded-For {line!r}", statuses, began)
