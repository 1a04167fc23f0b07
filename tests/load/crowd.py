"""`crowd.py PORT KIND COUNT`: connections that waste time, in a process of their own.

`idle` sends nothing; `heads` and `bodies` send one byte a second of a head that
has no end, or of the body of a sign-up; `pings` speaks HTTP/2, fetches the key
set once, and then only answers pings.

Says `open` when all are open, and at the end one line of JSON: for each
connection the status of its last answer, or null, and the seconds from its
opening until it was closed. Ends by itself when all have been closed.
"""

import json
import resource
import select
import socket
import sys
import time

JWKS = "/.well-known/jwks.json"
# Seconds after which a server that closes nothing has failed.
PATIENCE = 150.0
HEAD = f"GET {JWKS} HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".encode()
BODY = b"POST /register HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n"

# Frames of HTTP/2 (RFC 9113): types, and the flag of an answer.
HEADERS, SETTINGS, PING, ACK = 1, 4, 6, 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def http2_request() -> bytes:
    """Preface, settings, and a GET of the key set as stream 1; indexed fields and plain literals (RFC 7541)."""
    path, authority = JWKS.encode(), b"localhost"
    fields = b"\x82\x86\x04" + bytes([len(path)]) + path + b"\x01" + bytes([len(authority)]) + authority
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0) + frame(HEADERS, 0x5, 1, fields)


class Member:
    """One connection."""

    def __init__(self, port: int, kind: str, n: int):
        self.kind = kind
        self.socket = socket.socket()
        self.socket.bind((f"127.2.0.{n % 200 + 1}", 0))
        self.socket.connect(("127.0.0.1", port))
        self.opened = time.monotonic()
        self.lasted = self.status = None
        self.received = b""
        self.pings = 0
        first = {"idle": b"", "heads": HEAD[:1], "bodies": BODY, "pings": http2_request()}[kind]
        self.socket.sendall(first)
        self.rest = HEAD[1:] + b"x" * 900 if kind == "heads" else b"{" + b" " * 899
        self.socket.setblocking(False)

    def drip(self) -> None:
        """One more byte."""
        byte, self.rest = self.rest[:1], self.rest[1:]
        try:
            self.socket.send(byte)
        except OSError:
            pass  # Closed: what can be read says so.

    def read(self) -> bool:
        """True while it is open."""
        try:
            received = self.socket.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            received = b""
        if not received:
            self.lasted = time.monotonic() - self.opened
            self.socket.close()
            return False
        self.received += received
        if self.kind == "pings":
            self.answer_frames()
        elif self.received.startswith(b"HTTP/1.1 "):
            self.status = int(self.received[9:12])
        return True

    def answer_frames(self) -> None:
        while len(self.received) >= 9:
            end = 9 + int.from_bytes(self.received[:3])
            if len(self.received) < end:
                return
            kind, flags = self.received[3], self.received[4]
            payload, self.received = self.received[9:end], self.received[end:]
            if kind == HEADERS:
                # 0x88 is `:status: 200` in the static table.
                self.status = 200 if payload[0] == 0x88 else 0
            elif kind == SETTINGS and not flags & ACK:
                self.send(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                self.pings += 1
                self.send(frame(PING, ACK, 0, payload))

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError:
            pass


def main(port: int, kind: str, count: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    members = []
    for n in range(count):
        members.append(Member(port, kind, n))
    print("open", flush=True)
    poll = select.epoll()
    by_descriptor = {member.socket.fileno(): member for member in members}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    begun = next_drip = time.monotonic()
    while by_descriptor and time.monotonic() < begun + PATIENCE:
        for descriptor, _ in poll.poll(max(0.0, min(1.0, next_drip - time.monotonic()))):
            # A closed socket leaves the poll by itself.
            if not by_descriptor[descriptor].read():
                del by_descriptor[descriptor]
        if time.monotonic() >= next_drip:
            next_drip += 1.0
            if kind in ("heads", "bodies"):
                for member in by_descriptor.values():
                    member.drip()
    told = [{"status": m.status, "lasted": m.lasted, "pings": m.pings} for m in members]
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
