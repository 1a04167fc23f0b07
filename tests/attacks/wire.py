"""Bytes on the wire: HTTP/1.1, and frames of HTTP/2 (RFC 9113) with HPACK (RFC 7541) by hand."""

import json
import socket
import struct
import time
from dataclasses import dataclass, field

LOOPBACK = "127.0.0.1"
JSON = ("Content-Type", "application/json")
TIMEOUT = 70.0


def connect(port, source=LOOPBACK, timeout=TIMEOUT, receive=None):
    """A connection from any address of 127.0.0.0/8."""
    sock = socket.socket()
    if receive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Without it a port would belong to the source alone, and there are too few.
    sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    sock.settimeout(timeout)
    sock.bind((source, 0))
    sock.connect((LOOPBACK, port))
    return sock


def request(method, path, *headers, body=b"", host="localhost"):
    lines = [f"{method} {path} HTTP/1.1"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in headers]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@dataclass
class Answer:
    status: int
    headers: dict = field(default_factory=dict)
    body: bytes = b""

    def is_error(self):
        return isinstance(json.loads(self.body)["error"], str)


class Http1:
    """A connection that reads answers one by one."""

    def __init__(self, port, source=LOOPBACK):
        self.sock, self.buffer = connect(port, source), b""

    def send(self, raw):
        self.sock.sendall(raw)

    def more(self):
        came = self.sock.recv(65536)
        self.buffer += came
        return came

    def answer(self, method="GET"):
        """None when the connection ends before one."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        while len(self.buffer) < length:
            if not self.more():
                return None
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return Answer(int(first.split()[1]), headers, body)

    def ask(self, method, path, *headers, body=b""):
        self.send(request(method, path, *headers, body=body))
        return self.answer(method)

    def is_closed(self):
        """Reads to the end; true when it comes within the time."""
        try:
            while self.more():
                pass
            return True
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def close(self):
        self.sock.close()


DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED, ACK = 1, 4, 8, 1
# As many as the service allows at once; more are reset once its SETTINGS hold.
STREAMS = 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(**values):
    """An HTTP/2 connection's first bytes."""
    numbers = {"window": 4, "max_frame": 5}
    return PREFACE + frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", numbers[k], v) for k, v in values.items()))


def literal(value):
    value = value if isinstance(value, bytes) else value.encode()
    assert len(value) < 127
    return bytes([len(value)]) + value


def block(method, path, *fields):
    """A header block without entries of the dynamic table."""
    methods = {"GET": b"\x82", "POST": b"\x83"}
    method = methods.get(method) or b"\x02" + literal(method)
    others = b"".join(b"\x00" + literal(name) + literal(value) for name, value in fields)
    return method + b"\x86" + b"\x04" + literal(path) + b"\x01" + literal("localhost") + others


def head(stream, block, ends=True):
    flags = END_HEADERS | (END_STREAM if ends else 0)
    return frame(HEADERS, flags, stream, block)


# Huffman codes of digits (RFC 7541 appendix B).
DIGITS = {"00000": "0", "00001": "1", "00010": "2"} | {f"{0b011001 + n:06b}": str(3 + n) for n in range(7)}


def digits(raw, is_huffman):
    if not is_huffman:
        return raw.decode()
    bits, text, code = "".join(f"{byte:08b}" for byte in raw), "", ""
    for bit in bits:
        code += bit
        if code in DIGITS:
            text, code = text + DIGITS[code], ""
    return text


class Statuses:
    """As much of an HPACK decoder as finds the statuses of a connection's answers."""

    STATIC = {8: "200", 9: "204", 10: "206", 11: "304", 12: "400", 13: "404", 14: "500"}

    def __init__(self):
        self.table = []

    def number(self, raw, at, bits):
        value, most = raw[at] & (1 << bits) - 1, (1 << bits) - 1
        at += 1
        if value == most:
            shift = 0
            while True:
                value += (raw[at] & 127) << shift
                at, shift = at + 1, shift + 7
                if raw[at - 1] < 128:
                    break
        return value, at

    def text(self, raw, at):
        is_huffman = raw[at] >> 7 == 1
        length, at = self.number(raw, at, 7)
        return (raw[at : at + length], is_huffman), at + length

    def of(self, raw):
        at, status = 0, None
        while at < len(raw):
            byte = raw[at]
            if byte >> 7:
                index, at = self.number(raw, at, 7)
                found = self.STATIC.get(index) if index < 62 else self.table[index - 62]
                status = status or found
            elif byte >> 5 == 1:
                _, at = self.number(raw, at, 5)
            else:
                is_kept = byte >> 6 == 1
                index, at = self.number(raw, at, 6 if is_kept else 4)
                if index == 0:
                    _, at = self.text(raw, at)
                value, at = self.text(raw, at)
                is_status = 8 <= index <= 14 or (index > 61 and self.table[index - 62])
                found = digits(*value) if is_status else None
                status = status or found
                if is_kept:
                    self.table.insert(0, found)
        return int(status) if status else None


class Http2:
    def __init__(self, port, source=LOOPBACK, **values):
        self.sock, self.buffer, self.statuses = connect(port, source), b"", Statuses()
        self.send(settings(**values))

    def send(self, raw):
        self.sock.sendall(raw)

    def frames(self):
        """All that comes until the connection ends. Answers pings and settings."""
        while True:
            while len(self.buffer) >= 9:
                length = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) < 9 + length:
                    break
                kind, flags, stream = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big")
                payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
                if kind in (PING, SETTINGS) and not flags & ACK:
                    self.send(frame(kind, ACK, 0, payload if kind == PING else b""))
                yield kind, flags, stream, payload
            came = self.sock.recv(65536)
            if not came:
                return
            self.buffer += came

    def rest(self, seconds):
        """Only answers pings, for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            # Each ping begins the time again.
            self.sock.settimeout(min(left, 1))
            try:
                for _ in self.frames():
                    pass
                break
            except TimeoutError:
                pass
        self.sock.settimeout(TIMEOUT)

    def answers(self, count):
        """The statuses of so many streams, by stream; a reset one has the status 0."""
        told, ended = {}, set()
        for kind, flags, stream, payload in self.frames():
            if kind == HEADERS and stream not in told:
                told[stream] = self.statuses.of(payload)
            elif kind == RST_STREAM:
                told.setdefault(stream, 0)
            # A stream counts against the limit until then (RFC 9113, 5.1.2).
            if kind == RST_STREAM or kind in (HEADERS, DATA) and flags & END_STREAM:
                ended.add(stream)
            if len(ended) >= count or kind == GOAWAY:
                break
        return told

    def close(self):
        self.sock.close()
