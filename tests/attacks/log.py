"""The log does not multiply what a client sends."""

import wire
from report import Victim


def run(report, is_long):
    count = 20_000 if is_long else 4_000
    with Victim(APP_ENV="production") as server:
        before = len(server.log())
        connection = wire.Http2(server.port)
        connection.send(wire.frame(wire.WINDOW_UPDATE, 0, 0, b"\x7f\xff\0\0"))
        path = b"/" + b"x" * 4000
        # The path goes into the dynamic table, and is a byte from then on.
        length = b"\x7f" + bytes([(len(path) - 127) & 127 | 128, (len(path) - 127) >> 7])
        fields = b"\x82\x86" + b"\x01" + wire.literal("localhost")
        for n in range(count):
            stream = 2 * n + 1
            block = fields + (b"\x44" + length + path if n == 0 else b"\xbe")
            connection.send(wire.head(stream, block))
            if n % wire.STREAMS == wire.STREAMS - 1:
                connection.answers(wire.STREAMS)
        each = (len(server.log()) - before) / count
        report.hold("log, a path of 4,000 bytes again and again", f"{each:.0f} bytes for each", each <= 1000)
