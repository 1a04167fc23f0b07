"""Nobody shuts others out: 10,000 connections of one address in any state, and newcomers."""

import threading
import time

import wire
from report import Victim, close_all

CROWD, CLIENT = 10_000, "127.0.5.1"
ASK = b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b"POST /register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
STATES = {
    "silent": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost:",
    "half a body": BODY,
    "asking": ASK,
    "idle HTTP/2": wire.settings() + wire.head(1, wire.block("GET", "/healthz")),
}


def is_alive(sock):
    try:
        while came := sock.recv(65536):
            pass
        return came != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def again(members, raw, is_over, pause):
    while not is_over.wait(pause):
        for sock in members:
            try:
                sock.send(raw)
            except OSError:
                pass


def newcomers(server):
    """The slowest of a few, of another address and of the same."""
    slowest = []
    for source in ("127.0.6.1", CLIENT):
        times = []
        for _ in range(5):
            began = time.monotonic()
            connection = wire.Http1(server.port, source)
            answer = connection.ask("GET", "/healthz")
            times.append(time.monotonic() - began if answer and answer.status == 200 else 99)
            connection.close()
        slowest.append(max(times))
    return slowest


def run(report, is_long):
    with Victim(APP_ENV="production") as server:
        for state, raw in STATES.items():
            members = []
            for _ in range(CROWD):
                sock = wire.connect(server.port, CLIENT)
                sock.setblocking(False)
                members.append(sock)
                try:
                    sock.send(raw)
                except OSError:
                    pass
            is_over = threading.Event()
            if state == "asking":
                threading.Thread(target=again, args=(members, ASK, is_over, 1 if not is_long else 5), daemon=True).start()
            if is_long and state == "idle HTTP/2":
                ping = wire.frame(wire.PING, wire.ACK, 0, bytes(8))
                threading.Thread(target=again, args=(members, ping, is_over, 5), daemon=True).start()
                time.sleep(30)
            # Those who came before are in by then.
            wire.Http1(server.port, "127.0.6.2").ask("GET", "/healthz")
            other, same = newcomers(server)
            held = sum(map(is_alive, members))
            told = f"another address {other:.3f} s, the same {same:.3f} s, {held} held"
            report.hold(f"newcomers, 10,000 {state}", told, other <= 1 and same <= 2)
            is_over.set()
            close_all(members)
