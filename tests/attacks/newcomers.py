"""Nobody shuts others out: 10,000 connections of one address in any state, all places for bodies, and newcomers."""

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


def unfinished(server, client, forwarded):
    """640 connections of a client, each with a body of its own that does not end."""
    head = f"POST /register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{forwarded}Content-Length: 99\r\n\r\n{{"
    members = []
    for _ in range(640):
        members.append(wire.connect(server.port, client))
        members[-1].setblocking(False)
        members[-1].send(head.encode())
    return members


def bodies(report):
    """Two clients hold all places for bodies, directly or behind a trusted proxy; a newcomer has a whole small one."""
    proxy, others = "127.0.0.9", {"two addresses": ("127.0.7.1", "127.0.7.2"), "two behind a proxy": ("127.0.0.9",) * 2}
    for what, clients in others.items():
        with Victim(APP_ENV="production", TRUSTED_PROXIES=proxy) as server:
            members = []
            for n, client in enumerate(clients):
                members += unfinished(server, client, f"X-Forwarded-For: 192.0.2.{n}\r\n" if client == proxy else "")
            # Those who came before are in by then.
            wire.Http1(server.port).ask("GET", "/healthz")
            slowest, statuses = 0, []
            for n, client in enumerate(("127.0.8.1", "127.0.8.2", proxy)):
                began = time.monotonic()
                body = f'{{"username":"newcomer{n}","email":"newcomer{n}@example.com"}}'.encode()
                headers = [wire.JSON] + [("X-Forwarded-For", "192.0.2.99")] * (client == proxy)
                answer = wire.Http1(server.port, client).ask("POST", "/register", *headers, body=body)
                statuses.append(answer and answer.status)
                slowest = max(slowest, time.monotonic() - began)
            told = f"newcomers' sign-ups {statuses}, slowest {slowest:.3f} s, {sum(map(is_alive, members))} held"
            report.hold(f"all bodies, {what}", told, statuses == [201] * 3 and slowest <= 1)
            close_all(members)


def fresh(report):
    """Two addresses hold all connections and ask on them again and again; one of a third must stay, idle for longest."""
    with Victim(APP_ENV="production") as server:
        kept = wire.Http1(server.port, "127.0.6.1")
        kept.ask("GET", "/healthz")
        members, is_over = [], threading.Event()
        for n in range(2400):
            members.append(wire.connect(server.port, f"127.0.7.{1 + n % 2}"))
            members[-1].setblocking(False)
            members[-1].send(ASK)
        threading.Thread(target=again, args=(members, ASK, is_over, 1), daemon=True).start()
        other = newcomers(server)[0]
        try:
            answer = kept.ask("GET", "/healthz")
        except ConnectionError:
            answer = None
        told = f"the one that is idle for longest: {answer and answer.status}, a newcomer {other:.3f} s"
        report.hold("two addresses with fresh connections", told, answer and answer.status == 200 and other <= 1)
        is_over.set()
        close_all(members)


def run(report, is_long):
    bodies(report)
    fresh(report)
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
