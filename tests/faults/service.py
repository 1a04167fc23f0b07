"""What the fault runs share: a server in a folder of its own, a small client,
and the check of a token against a key set with Python alone."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FAULTS = ROOT / "tests" / "faults"
DATABASE = "totally_not_my_privateKeys.db"
JWKS = "/.well-known/jwks.json"
PATIENCE = 60

sys.path.append(str(ROOT / "tests"))
import standstill  # noqa: E402


def binary():
    """The server: JWKS_SERVER, or the newer of the two builds."""
    if named := os.environ.get("JWKS_SERVER"):
        return pathlib.Path(named).resolve()
    built = [ROOT / "target" / kind / "jwks-server" for kind in ("release", "debug")]
    built = [path for path in built if path.exists()]
    if not built:
        sys.exit("there is no build of the server; run cargo build")
    return max(built, key=lambda path: path.stat().st_mtime)


def shim(name="disk"):
    """Compiles a library to preload and returns its path."""
    out = pathlib.Path(tempfile.mkdtemp(prefix="faults-")) / f"{name}.so"
    source = FAULTS / f"{name}.c"
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", out, source, "-ldl"], check=True
    )
    return out


class Reply:
    """`began` is when it was asked for; `took` is less what the machine stood still."""

    def __init__(self, status, headers, body, began):
        self.status, self.headers, self.body = status, headers, body
        self.began, self.took = began, standstill.elapsed(began)

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.body[:200]!r} after {self.took:.3f} s"


class Gone(Exception):
    """The connection ended before an answer."""


class Client:
    """A connection that stays open, from any loopback address."""

    def __init__(self, port, source="127.0.0.1", timeout=PATIENCE):
        self.http = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=timeout, source_address=(source, 0)
        )

    def send(self, method, path, body=None):
        began = time.monotonic()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        data = json.dumps(body) if body is not None else None
        try:
            self.http.request(method, path, data, headers)
            answer = self.http.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as e:
            self.http.close()
            raise Gone(e) from e
        return Reply(answer.status, answer.headers, text, began)

    def key_set(self):
        return self.send("GET", JWKS)

    def register(self, name):
        body = {"username": name, "email": f"{name}@example.com"}
        return standstill.patiently(lambda: self.send("POST", "/register", body))

    def sign_in(self, name, password, query=""):
        body = {"username": name, "password": password}
        return standstill.patiently(lambda: self.send("POST", f"/auth{query}", body))

    def close(self):
        self.http.close()


class Server:
    """A running server in `folder`; killed at the end of a with statement."""

    def __init__(self, folder, env=None, wrap=(), settings=None):
        self.folder = pathlib.Path(folder)
        self.lines = []
        # Also set for a wrapped command, which gets the environment of this process.
        inherited = {"PATH": os.environ["PATH"]}
        self.process = subprocess.Popen(
            [*wrap, binary()],
            cwd=folder,
            env=inherited | (settings or {}) | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.listening = threading.Event()
        self.port = None
        threading.Thread(target=self._read, daemon=True).start()
        if not self.listening.wait(PATIENCE) or self.port is None:
            self.process.kill()
            raise AssertionError("it does not listen:\n" + "\n".join(self.lines))

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                self.listening.set()
        self.listening.set()

    def log(self):
        return "\n".join(self.lines)

    def client(self, source="127.0.0.1", timeout=PATIENCE):
        return Client(self.port, source, timeout)

    def pid(self):
        """The server's own number, also when something wraps it."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        children = tasks.read_text().split()
        return int(children[0]) if children else self.process.pid

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Asks it to stop; it must do so cleanly."""
        os.kill(self.pid(), signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        assert code == 0, f"exit code {code}:\n{self.log()}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid(), signal.SIGKILL)
            self.process.kill()
            self.process.wait()


def make_settings(folder, **more):
    """Writes `.env` with a fresh key, a free port, and what else is given."""
    key = subprocess.run([binary(), "keygen"], capture_output=True, text=True, check=True, env={})
    lines = {"NOT_MY_KEY": key.stdout.strip(), "PORT": "0", "AUTH_RATE": "1000"} | more
    text = "".join(f"{name}={value}\n" for name, value in lines.items())
    (pathlib.Path(folder) / ".env").write_text(text)


def rows(folder, query, *values):
    """What a query finds in the database, as another program sees it."""
    with contextlib.closing(sqlite3.connect(pathlib.Path(folder) / DATABASE, timeout=10)) as conn:
        return conn.execute(query, values).fetchall()


def sound(folder):
    """Fails unless SQLite has nothing to say against the database."""
    assert rows(folder, "PRAGMA integrity_check") == [("ok",)]
    assert rows(folder, "PRAGMA foreign_key_check") == []


def wait_for(what, condition, timeout=PATIENCE):
    """Asks until `condition` holds and returns how long that took."""
    began = time.monotonic()
    while not condition():
        if standstill.elapsed(began) > timeout:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.01)
    return standstill.elapsed(began)


def decode(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def claims(token):
    return json.loads(decode(token.split(".")[1]))


def kid(token):
    return json.loads(decode(token.split(".")[0]))["kid"]


def kids(key_set):
    return [key["kid"] for key in key_set["keys"]]


def verify(token, key_set):
    """Whether a key of the set has signed the token: RSASSA-PKCS1-v1_5 with
    SHA-256 (RFC 8017 section 8.2.2), the signature compared whole."""
    head, body, signature = token.split(".")
    found = [key for key in key_set["keys"] if key["kid"] == kid(token)]
    if len(found) != 1:
        return False
    n, e = (int.from_bytes(decode(found[0][name]), "big") for name in ("n", "e"))
    size = (n.bit_length() + 7) // 8
    digest = hashlib.sha256(f"{head}.{body}".encode()).digest()
    prefix = bytes.fromhex("3031300d060960864801650304020105000420")
    padding = b"\xff" * (size - len(prefix) - len(digest) - 3)
    expected = b"\x00\x01" + padding + b"\x00" + prefix + digest
    raw = pow(int.from_bytes(decode(signature), "big"), e, n).to_bytes(size, "big")
    return raw == expected
