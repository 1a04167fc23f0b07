"""Requests whose length two parsers may understand differently: never a second answer."""

import wire
from report import Victim

HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
CASES = [
    ("Content-Length and chunked", b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", True),
    ("two Content-Lengths", b"Content-Length: 0\r\nContent-Length: 34\r\n\r\n", False),
    ("a list of Content-Lengths", b"Content-Length: 0, 34\r\n\r\n", False),
    ("Content-Length +0", b"Content-Length: +0\r\n\r\n", False),
    ("Content-Length 0x0", b"Content-Length: 0x0\r\n\r\n", False),
    ("an overflow", b"Content-Length: 18446744073709551616\r\n\r\n", False),
    ("a length of no use", b"Content-Length: 9223372036854775807\r\n\r\n", False),
    ("chunked twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
    ("xchunked", b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", False),
    ("gzip, chunked", b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", False),
    ("a chunk size of 0x0", b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n", False),
    ("a chunk size that overflows", b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n", False),
    ("a folded field", b"A: b\r\n c: d\r\nContent-Length: 0\r\n\r\n", False),
    ("a bare CR", b"A: b\rContent-Length: 0\r\n\r\n", False),
    ("a NUL", b"A: b\0\r\nContent-Length: 0\r\n\r\n", False),
    ("a vertical tab", b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", False),
    ("chunked in quotes", b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', False),
    ("a chunk size of +1", b"Transfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n", False),
    ("LF behind a chunk size", b"Transfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n", False),
    ("LF in a chunk extension", b"Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\n\r\n", False),
    ("no CRLF behind a chunk", b"Transfer-Encoding: chunked\r\n\r\n1\r\nx0\r\n\r\n", False),
]
# Requests whose bodies look like requests, and those that ask for another protocol.
HIDING = f"Content-Length: {len(HIDDEN)}\r\n\r\n".encode() + HIDDEN
ONE_ANSWER = [
    ("GET with a body", b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\n" + HIDING, 200),
    ("404 with a body", b"POST /nope HTTP/1.1\r\nHost: x\r\n" + HIDING, 404),
    ("405 with a body", b"PUT /healthz HTTP/1.1\r\nHost: x\r\n" + HIDING, 405),
    ("trailers", b"POST /nope HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n", 404),
    ("Upgrade: h2c", b"GET /nope HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", 404),
    ("TRACE", b"TRACE /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ("CONNECT", b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 404),
]  # fmt: skip
LAST = b"GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def all_statuses(server, raw):
    connection, statuses = wire.Http1(server.port, "127.0.3.1"), []
    connection.send(raw)
    try:
        while answer := connection.answer():
            statuses.append(answer.status)
    except (ConnectionError, TimeoutError) as e:
        statuses.append(type(e).__name__)
    connection.close()
    return statuses


def run(report, _is_long):
    with Victim() as server:
        for what, rest, may_be_taken in CASES:
            statuses = all_statuses(server, b"POST /nope HTTP/1.1\r\nHost: x\r\n" + rest + HIDDEN)
            # With both lengths it is chunked (RFC 9112 section 6.3), and what follows is another request.
            is_good = 200 not in statuses or may_be_taken
            report.hold(f"smuggling, {what}", statuses, is_good)
        for what, raw, status in ONE_ANSWER:
            statuses = all_statuses(server, raw + LAST)
            report.hold(f"smuggling, {what}", statuses, statuses == [status, 404])
