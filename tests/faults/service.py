"""Shared by the fault runs: a server in a folder of its own, a small client,
and the check of a token against a key set with Python alone."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from harness import standstill  # noqa: E402
from harness.left_out import left_out  # noqa: E402, F401
from harness.server import DATABASE, JWKS, PATIENCE, ROOT, Process, binary, sealing_key  # noqa: E402, F401

FAULTS = ROOT / "tests" / "faults"


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


class Server(Process):
    """A running server in `folder`, whose settings are in its `.env`."""

    def __init__(self, folder, env=None, wrap=()):
        # Also set for a wrapped command, which gets the environment of this process.
        super().__init__(folder, {"PATH": os.environ["PATH"]} | (env or {}), wrap=wrap)

    def client(self, source="127.0.0.1", timeout=PATIENCE):
        return Client(self.port, source, timeout)


def make_settings(folder, **more):
    """Writes `.env` with a fresh key, a free port, and what else is given."""
    lines = {"NOT_MY_KEY": sealing_key(), "PORT": "0", "AUTH_RATE": "1000"} | more
    text = "".join(f"{name}={value}\n" for name, value in lines.items())
    (pathlib.Path(folder) / ".env").write_text(text)


def rows(folder, query, *values):
    """Rows of a query, as another program sees the database."""
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
    """True when a key of the set has signed the token: RSASSA-PKCS1-v1_5 with
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
