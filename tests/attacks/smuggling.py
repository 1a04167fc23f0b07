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
]


def run(report, _is_long):
    with Victim() as server:
        for what, rest, may_be_taken in CASES:
            connection = wire.Http1(server.port, "127.0.3.1")
            connection.send(b"POST /nope HTTP/1.1\r\nHost: x\r\n" + rest + HIDDEN)
            statuses = []
            try:
                while answer := connection.answer():
                    statuses.append(answer.status)
            except (ConnectionError, TimeoutError) as e:
                statuses.append(type(e).__name__)
            # With both lengths it is chunked (RFC 9112 section 6.3), and what follows is another request.
            is_good = 200 not in statuses or may_be_taken
            report.hold(f"smuggling, {what}", statuses, is_good)
            connection.close()
