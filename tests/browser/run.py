#!/usr/bin/env python3
"""A page in a real browser: it verifies a token with a key set of another origin, signs in at its own origin, and is
refused at another.

    cargo build --release && python3 tests/browser/run.py

takes about 5 seconds and needs Debian's `chromium`."""

import http.client
import json
import queue
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from harness.left_out import left_out  # noqa: E402
from harness.server import DATABASE, PATIENCE, Process, sealing_key  # noqa: E402

PAGE = Path(__file__).with_name("page.html")
EXPECTED = {
    "verified": True,
    "etag": True,
    "json to another origin": "TypeError",
    "form to another origin": "opaque",
    "own origin": 200,
    # At a challenge of Basic the browser would open its login box.
    "own origin, wrong password": [401, "Body"],
}


def send(port: int, method: str, path: str, body: bytes, headers: dict) -> tuple[int, list, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.getheaders(), answer.read()


def post(port: int, path: str, body: dict) -> dict:
    status, _, answer = send(port, "POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    assert status in (200, 201), answer
    return json.loads(answer)


def site(service: int, task: dict, verdicts: queue.Queue) -> ThreadingHTTPServer:
    """The page's own server, which is a proxy for the service's POST routes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            files = {"/": ("text/html", PAGE.read_bytes()), "/task": ("application/json", json.dumps(task).encode())}
            kind, body = files.get(self.path, ("text/plain", b""))
            self.answer(200 if self.path in files else 404, [("Content-Type", kind)], body)

        def do_POST(self):  # noqa: N802
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/verdict":
                verdicts.put(json.loads(body))
                return self.answer(200, [], b"")
            status, headers, answer = send(service, "POST", self.path, body, dict(self.headers))
            self.answer(status, [it for it in headers if it[0] in ("content-type", "www-authenticate")], answer)

        def answer(self, status, headers, body):
            self.send_response(status)
            for name, value in [*headers, ("Content-Length", str(len(body)))]:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def in_browser(folder: Path) -> dict:
    environment = {"NOT_MY_KEY": sealing_key(), "HOST": "127.0.0.1", "PORT": "0"}
    with Process(folder, environment) as service:
        new = post(service.port, "/register", {"username": "alice", "email": "alice@example.com"})
        alice = {"username": "alice", "password": new["password"]}
        token = post(service.port, "/auth", alice)["token"]
        verdicts = queue.Queue()
        task = {"service": f"http://127.0.0.1:{service.port}", "token": token, "user": "alice", **new}
        page = site(service.port, task, verdicts)
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"]
        browser = subprocess.Popen(
            ["chromium", *options, f"--user-data-dir={folder / 'browser'}", f"http://127.0.0.1:{page.server_port}/"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            verdict = verdicts.get(timeout=PATIENCE)
        finally:
            browser.terminate()
            browser.wait()
            page.shutdown()
        service.stop()
    with sqlite3.connect(folder / DATABASE) as database:
        signed_in = database.execute("SELECT count(*) FROM auth_logs").fetchone()[0]
    assert signed_in == 2, f"{signed_in} sign-ins, and one of this program and one of the own origin were to be"
    return verdict


def main() -> None:
    if not shutil.which("chromium"):
        print(left_out("browser", "chromium is not installed"))
        return
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as folder:
        verdict = in_browser(Path(folder))
    assert verdict == EXPECTED, json.dumps(verdict, indent=2)
    print(f"ok    chromium: {', '.join(EXPECTED)}")


if __name__ == "__main__":
    main()
