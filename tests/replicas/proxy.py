"""A proxy between a replica and PostgreSQL that drops everything, or meddles with COMMIT."""

import contextlib
import random
import socket
import threading
import time

# What a transaction ends with, or is alone.
COMMITS = (b"COMMIT\0", b"record_sign_ins($1")
# Longer than a replica waits for the answer to a statement.
LATE = 2.5


class Proxy:
    def __init__(self, to: int):
        self.to = to
        # Clear while nothing passes either way, as when a network drops packets.
        self.passing = threading.Event()
        self.passing.set()
        # Share of the COMMITs that are meddled with.
        self.share = 0.0
        self.done = {"cut before": 0, "cut after": 0, "answer swallowed": 0, "late": 0}
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._join, args=[client], daemon=True).start()

    def _join(self, client: socket.socket):
        try:
            server = socket.create_connection(("127.0.0.1", self.to))
        except OSError:
            return client.close()
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Set once the answers to this connection are dropped.
        deaf = threading.Event()
        threading.Thread(target=self._pump, args=[server, client, deaf], daemon=True).start()
        self._pump(client, server, deaf, is_upward=True)

    def _pump(self, source: socket.socket, sink: socket.socket, deaf: threading.Event, is_upward: bool = False):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.passing.wait()
                if is_upward and any(it in data for it in COMMITS) and random.random() < self.share:
                    self._meddle(data, sink, deaf)
                elif is_upward or not deaf.is_set():
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _meddle(self, data: bytes, server: socket.socket, deaf: threading.Event):
        how = random.choice(list(self.done))
        self.done[how] += 1
        match how:
            case "cut before":
                raise ConnectionError
            case "cut after":
                deaf.set()
                server.sendall(data)
                time.sleep(random.random() * 0.005)
                raise ConnectionError
            case "answer swallowed":
                deaf.set()
                server.sendall(data)
            case "late":
                # By now the replica has given up, and has looked the outcome up.
                time.sleep(LATE)
                server.sendall(data)

    def close(self):
        self.listener.close()
