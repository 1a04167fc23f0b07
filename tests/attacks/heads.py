"""Header sections: bounds on fields and bytes, and what RFC 9112 forbids in them."""

import wire
from report import Victim

AT_ONCE = 2.0


def http1(report, server):
    for what, raw, statuses in [
        ("101 fields", wire.request("POST", "/register", *[("a", "")] * 101), {431}),
        ("17 KiB", wire.request("POST", "/register", ("a", "x" * 17408)), {431}),
        ("no Host", wire.request("GET", "/healthz", host=None), {400}),
        ("two Hosts", wire.request("GET", "/healthz", ("Host", "a")), {400}),
        ("a Host with a space", wire.request("GET", "/healthz", host="a b"), {400}),
        ("a Host with a user", wire.request("GET", "/healthz", host="u@a"), {400}),
        ("HTTP/1.0 without Host", b"GET /healthz HTTP/1.0\r\n\r\n", {200}),
        ("gzip, chunked", wire.request("GET", "/", ("Transfer-Encoding", "gzip, chunked")), {400, 501}),
        ("a space in a name", wire.request("GET", "/", ("a b", "c")), {400}),
    ]:
        connection = wire.Http1(server.port)
        connection.send(raw)
        answer = connection.answer()
        is_good = answer and answer.status in statuses and (answer.status == 200 or answer.is_error())
        report.hold(f"head, {what}", answer and answer.status, is_good)
        connection.close()


def http2(report, server):
    for what, fields, statuses in [
        ("100 fields", b"\x40\x01a\x00" + b"\xbe" * 94, {405}),
        ("101 fields that wait for a body", b"\x40\x01a\x00" + b"\xbe" * 100, {431}),
        ("1,800 fields of a byte", b"\x40\x01a\x00" + b"\xbe" * 1800, {431, 0}),
    ]:
        connection = wire.Http2(server.port)
        connection.send(wire.head(1, wire.block("POST", "/healthz") + fields, ends=False))
        told = connection.answers(1)
        report.hold(f"HTTP/2 head, {what}", told.get(1), told.get(1) in statuses)
        connection.close()


def malformed(report, server):
    """RFC 9113 section 8: the stream is reset, answered 400, or the connection ended."""
    for what, block in {
        "LF in the path": wire.block("GET", b"/healthz\n"),
        "NUL in the path": wire.block("GET", b"/healthz\0"),
        "CR and LF in a value": wire.block("GET", "/healthz", ("a", b"b\r\nc: d")),
        "an upper-case name": wire.block("GET", "/healthz", ("A", "b")),
        "two methods": wire.block("GET", "/healthz") + b"\x82",
        "no path": b"\x82\x86\x01" + wire.literal("localhost"),
        "connection": wire.block("GET", "/healthz", ("connection", "close")),
        "te: gzip": wire.block("GET", "/healthz", ("te", "gzip")),
        "a length without a body": wire.block("GET", "/healthz", ("content-length", "5")),
        "an index beyond the table": wire.block("GET", "/healthz") + b"\xff\xff\x03",
        "a number that overflows": wire.block("GET", "/healthz") + b"\xff" * 12,
    }.items():
        connection = wire.Http2(server.port)
        connection.send(wire.head(1, block))
        status = connection.answers(1).get(1, "ended")
        report.hold(f"HTTP/2 head, {what}", status, status in {0, 400, "ended"})
        connection.close()
    answer = wire.Http1(server.port).ask("GET", "/healthz")
    report.hold("HTTP/2 heads, others afterwards", answer and answer.status, answer and answer.status == 200)


def run(report, _is_long):
    with Victim() as server:
        http1(report, server)
        http2(report, server)
        malformed(report, server)
