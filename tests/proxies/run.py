#!/usr/bin/env python3
"""Behind a real nginx and a real HAProxy a client cannot hide its address, whatever it sends in X-Forwarded-For.

    cargo build --release && python3 tests/proxies/run.py

takes about 5 seconds. The address in `auth_logs` and the quota are looked at."""

import http.client
import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from harness.left_out import left_out  # noqa: E402
from harness.server import DATABASE, PATIENCE, Process, sealing_key  # noqa: E402

PROXY, CLIENT = "127.0.0.2", "127.0.0.3"
FORGED = [
    None,
    b"9.9.9.9",
    b"\xe9",
    b"\xc3\xa9, 9.9.9.9",
    b"\xff\xff,,,",
    b"127.0.0.2, 127.0.0.2",
    b"[::1",
    b"x" * 3000,
    b"9.9.9.9\t",
    b'"9.9.9.9"',
]

NGINX = """daemon off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{service};
      proxy_bind {proxy};
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""
HAPROXY = """defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend front
  bind 127.0.0.1:{port}
  option forwardfor
  default_backend service
backend service
  server one 127.0.0.1:{service} source {proxy}
"""
PROXIES = {
    "nginx": (NGINX, lambda file: ["nginx", "-c", file]),
    "haproxy": (HAPROXY, lambda file: ["haproxy", "-db", "-f", file]),
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def wait_for(port: int) -> None:
    for _ in range(PATIENCE * 100):
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise AssertionError(f"nothing listens on port {port}")


def post(port: int, path: str, body: dict, forwarded: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, PATIENCE, (CLIENT, 0))
    headers = {"Content-Type": "application/json"}
    if forwarded is not None:
        headers["X-Forwarded-For"] = forwarded
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def through(name: str, folder: Path) -> None:
    template, command = PROXIES[name]
    environment = {"NOT_MY_KEY": sealing_key(), "HOST": "127.0.0.1", "PORT": "0", "TRUSTED_PROXIES": PROXY}
    with Process(folder, environment) as service:
        port = free_port()
        file = folder / f"{name}.conf"
        file.write_text(template.format(folder=folder, port=port, service=service.port, proxy=PROXY))
        proxy = subprocess.Popen(command(file), stderr=subprocess.DEVNULL)
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
