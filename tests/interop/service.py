"""The service under test: the release binary with short key times, its log, and the gate in front of it.

Verifiers connect to the gate at the issuer's address. It finds out which process a connection
belongs to and passes it on from a loopback address of that verifier's own, so that the server's
log tells the verifiers apart. An outage closes the gate too: connections are refused.
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BINARY = ROOT / "target/release/jwks-server"
JWKS = "/.well-known/jwks.json"
AUDIENCE = "interop"
# Of Linux; the module socket has no name for it.
IP_BIND_ADDRESS_NO_PORT = 24
USER, PASSWORD = "interop", "no-secret-at-all"
LEAD, MAX_AGE, SKEW, TOKEN = 12, 6, 5, 90
TIMES = {
    "KEY_LIFETIME": "10m",
    "KEY_LEAD": f"{LEAD}s",
    "JWKS_MAX_AGE": f"{MAX_AGE}s",
    "CLOCK_SKEW": f"{SKEW}s",
    "TOKEN_LIFETIME": f"{TOKEN}s",
}


class Service:
    """One process of the server on the database in `folder`; several may share it."""

    def __init__(self, folder: Path, log: str, **settings: str):
        self.folder, self.settings = folder, settings
        self.log = folder / log
        self.process = None

    def environment(self) -> dict:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        key = self.folder / "sealing-key"
        if not key.exists():
            key.write_bytes(subprocess.check_output([BINARY, "keygen"], cwd=self.folder))
        sealing = {"NOT_MY_KEY": key.read_text().strip()}
        return kept | sealing | TIMES | {"HOST": "127.0.0.1", "PORT": "0", "AUTH_RATE": "1000"} | self.settings

    def start(self) -> "Service":
        with open(self.log, "ab") as log:
            begin = log.tell()
            self.process = subprocess.Popen(
                [BINARY, "serve", "--demo-user", f"{USER}:{PASSWORD}"],
                cwd=self.folder, env=self.environment(), stdout=log, stderr=log,
            )
        for _ in range(200):
            said = self.log.read_bytes()[begin:].decode()
            if match := re.search(r"listening on http://127\.0\.0\.1:(\d+)", said):
                self.port = int(match[1])
                self.key_set()
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"the server did not start: {said}")

    def stop(self):
        self.process.terminate()
        self.process.wait(20)

    def keys(self, *arguments: str):
        """An operator's command on the keys."""
        command = [BINARY, "keys", *arguments]
        subprocess.run(command, cwd=self.folder, env=self.environment(), check=True, stdout=subprocess.DEVNULL)

    def key_set(self) -> list:
        return json.loads(self.fetch(JWKS))["keys"]

    def token(self, path: str = "/auth") -> str:
        body = json.dumps({"username": USER, "password": PASSWORD}).encode()
        return json.loads(self.fetch(path, body))["token"]

    def fetch(self, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json"} if body else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def key_set_requests(self) -> dict:
        """By client address: the statuses of the answers to requests for the key set."""
        found = {}
        pattern = rf'method=GET path="{re.escape(JWKS)}" status=(\d+) .* client=([0-9.]+)'
        for status, client in re.findall(pattern, self.log.read_text()):
            found.setdefault(client, []).append(int(status))
        return found


class Gate:
    """Listens at the issuer's address; `addresses` maps a session (setsid) to the address that its processes get."""

    def __init__(self):
        self.addresses = {}
        # Set when they are complete; until then connections wait, for some come at once.
        self.complete = threading.Event()
        self.to = None
        self.open_sockets = set()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def open(self, to: int):
        self.to = to
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self.accept, args=[self.listener], daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in list(self.open_sockets):
            shut(end)

    def accept(self, listener: socket.socket):
        while True:
            try:
                client, peer = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.join, args=[client, peer[1]], daemon=True).start()

    def join(self, client: socket.socket, peer_port: int):
        self.complete.wait()
        source = self.addresses.get(self.owner(peer_port), "127.0.0.1")
        try:
            server = connect(source, self.to)
        except OSError as error:
            print(f"the gate: no way to the server from {source}: {error}", file=sys.stderr, flush=True)
            client.close()
            return
        self.open_sockets |= {client, server}
        back = threading.Thread(target=pump, args=[server, client], daemon=True)
        back.start()
        pump(client, server)
        back.join()
        self.open_sockets -= {client, server}
        client.close()
        server.close()

    def owner(self, peer_port: int) -> int | None:
        """The session of the process at the other end of a connection."""
        ports = f"{peer_port:04X}", f"{self.port:04X}"
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if (fields[1][-4:], fields[2][-4:]) == ports:
                    return self.holder(fields[9])
        return None

    def holder(self, inode: str) -> int | None:
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            try:
                session = os.getsid(int(pid))
                if session in self.addresses and holds(pid, inode):
                    return session
            except OSError:
                pass  # It has ended.
        return None


def connect(source: str, port: int) -> socket.socket:
    server = socket.socket()
    # The port is chosen on connecting, when it is known what it must differ from: also on a
    # machine that is short of ports.
    server.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    server.bind((source, 0))
    server.connect(("127.0.0.1", port))
    return server


def holds(pid: str, inode: str) -> bool:
    entries = os.scandir(f"/proc/{pid}/fd")
    return any(os.readlink(entry.path) == f"socket:[{inode}]" for entry in entries)


def pump(source: socket.socket, sink: socket.socket):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    shut(source)
    shut(sink)


def shut(end: socket.socket):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
