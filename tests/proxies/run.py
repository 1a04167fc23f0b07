#!/usr/bin/env python3
"""Behind a real nginx, HAProxy and Caddy a client cannot hide its address, whatever it sends in X-Forwarded-For.

    cargo build --release && python3 tests/proxies/run.py

takes about 10 seconds. The proxies are configured as docs/deployment.md says, with other ports and a certificate of
our own. The address in `auth_logs` and the quota are looked at."""

import http.client
import json
import os
import re
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from harness.left_out import left_out  # noqa: E402
from harness.server import DATABASE, JWKS, PATIENCE, ROOT, Process, free_port, sealing_key  # noqa: E402

PROXY, CLIENT = "127.0.0.1", "127.0.0.3"
FORGED = [
    None,
    b"9.9.9.9",
    b"\xe9",
    b"\xc3\xa9, 9.9.9.9",
    b"\xff\xff,,,",
    b"127.0.0.1, 127.0.0.1",
    b"[::1",
    b"x" * 3000,
    b"9.9.9.9\t",
    b'"9.9.9.9"',
]

# What stands around the configuration of docs/deployment.md, what is changed in it, and how the proxy is started.
PROXIES = {
    "nginx": (
        """daemon off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  {configuration}
}}
""",
        {
            "listen 443 ssl": "listen 127.0.0.1:{port} ssl",
            "/etc/ssl/issuer.example.com.pem": "{folder}/certificate.pem",
            "/etc/ssl/private/issuer.example.com.key": "{folder}/certificate.pem",
        },
        ["nginx", "-c"],
    ),
    "haproxy": (
        "{configuration}",
        {"bind :443": "bind 127.0.0.1:{port}", "/etc/haproxy/issuer.example.com.pem": "{folder}/certificate.pem"},
        ["haproxy", "-db", "-f"],
    ),
    "caddy": (
        "{{\n  admin off\n  auto_https disable_redirects\n}}\n{configuration}",
        {"issuer.example.com {": "https://127.0.0.1:{port} {\n  tls {folder}/certificate.pem {folder}/certificate.pem"},
        ["caddy", "run", "--adapter", "caddyfile", "--config"],
    ),
}


def configuration(name: str, folder: Path, port: int, service: int) -> str:
    """The one of docs/deployment.md, for this folder and these ports."""
    around, changes, _ = PROXIES[name]
    page = (ROOT / "docs/deployment.md").read_text()
    text = re.search(rf"^```{name}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    for old, new in ({"127.0.0.1:8080": f"127.0.0.1:{service}"} | changes).items():
        assert old in text, f"{name}: no {old!r} in docs/deployment.md"
        text = text.replace(old, new.replace("{port}", str(port)).replace("{folder}", str(folder)))
    return around.format(folder=folder, configuration=text)


def wait_for(port: int) -> None:
    for _ in range(PATIENCE * 100):
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise AssertionError(f"nothing listens on port {port}")


def post(port: int, path: str, body: dict, forwarded: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=PATIENCE, source_address=(CLIENT, 0), context=ssl._create_unverified_context()
    )
    headers = {"Content-Type": "application/json"}
    if forwarded is not None:
        headers["X-Forwarded-For"] = forwarded
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def through(name: str, folder: Path) -> None:
    environment = {"NOT_MY_KEY": sealing_key(), "HOST": "127.0.0.1", "PORT": "0", "TRUSTED_PROXIES": PROXY}
    with Process(folder, environment) as service:
        # Answered once there is a key: HAProxy takes a server that is not ready at its first
        # check for down.
        urllib.request.urlopen(f"http://127.0.0.1:{service.port}{JWKS}").close()
        port = free_port()
        file = folder / f"{name}.conf"
        file.write_text(configuration(name, folder, port, service.port))
        certificate = folder / "certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-subj", "/CN=127.0.0.1",
             "-keyout", certificate, "-out", folder / "certificate"],
            check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        certificate.write_bytes(certificate.read_bytes() + (folder / "certificate").read_bytes())
        said = (folder / f"{name}.log").open("w")
        home = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        proxy = subprocess.Popen([*PROXIES[name][2], file], stdout=said, stderr=said, env=home)
        try:
            wait_for(port)
            status, answer = post(port, "/register", {"username": "alice", "email": "alice@example.com"})
            assert status == 201, answer
            alice = {"username": "alice", "password": json.loads(answer)["password"]}
            for forwarded in FORGED:
                status, answer = post(port, "/auth", alice, forwarded)
                assert status == 200, (forwarded, status, answer)
                time.sleep(0.11)
            time.sleep(1)
            began = time.monotonic()
            statuses = [post(port, "/auth", {}, FORGED[n % len(FORGED)])[0] for n in range(40)]
            seconds = time.monotonic() - began
            assert set(statuses) == {400, 429}, statuses
            assert statuses.count(400) <= 10 * (int(seconds) + 1), (seconds, statuses)
        finally:
            proxy.terminate()
            proxy.wait()
        service.stop()
    with sqlite3.connect(folder / DATABASE) as database:
        seen = [row[0] for row in database.execute("SELECT request_ip FROM auth_logs ORDER BY id")]
    assert seen == [CLIENT] * len(FORGED), list(zip(FORGED, seen))
    print(f"ok    {name}: {len(seen)} sign-ins and the quota, all of {CLIENT}")


def main() -> None:
    for name in PROXIES:
        if not shutil.which(name):
            print(left_out(f"proxies/{name}", "it is not installed"))
            continue
        with tempfile.TemporaryDirectory(prefix="proxies-") as folder:
            through(name, Path(folder))


if __name__ == "__main__":
    main()
