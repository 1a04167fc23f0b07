"""The service under test: the release binary with short key times, and its log."""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from harness import standstill  # noqa: E402
from harness.server import JWKS, ROOT, Process, binary, sealing_key  # noqa: E402, F401

AUDIENCE = "interop"
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
        self.running = None

    def environment(self) -> dict:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        key = self.folder / "sealing-key"
        if not key.exists():
            key.write_text(sealing_key())
        sealing = {"NOT_MY_KEY": key.read_text()}
        # With a line for each fetch of the key set.
        log = {"RUST_LOG": "info,jwks_server::http::access_log=debug"}
        listen = {"HOST": "127.0.0.1", "PORT": "0", "AUTH_RATE": "1000"}
        return kept | sealing | TIMES | log | listen | self.settings

    def start(self) -> "Service":
        arguments = ["serve", "--demo-user", f"{USER}:{PASSWORD}"]
        self.running = Process(self.folder, self.environment(), arguments, log=self.log)
        self.port = self.running.port
        self.key_set()
        return self

    def stop(self):
        running, self.running = self.running, None
        running.stop()

    def keys(self, *arguments: str):
        """An operator's command on the keys."""
        command = [binary(), "keys", *arguments]
        subprocess.run(command, cwd=self.folder, env=self.environment(), check=True, stdout=subprocess.DEVNULL)

    def key_set(self) -> list:
        return json.loads(self.fetch(JWKS))["keys"]

    def token(self, path: str = "/auth") -> str:
        body = json.dumps({"username": USER, "password": PASSWORD}).encode()
        return json.loads(self.fetch(path, body))["token"]

    def fetch(self, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json"} if body else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers)
        answer = standstill.patiently(lambda: Answer(request))
        if answer.status != 200:
            raise RuntimeError(f"{path} was answered {answer.status}: {answer.body.decode()}")
        return answer.body

    def key_set_requests(self) -> dict:
        """By client address: the statuses of the answers to requests for the key set."""
        found = {}
        pattern = rf'method=GET path="{re.escape(JWKS)}" status=(\d+) .* client=([0-9.]+)'
        for status, client in re.findall(pattern, self.log.read_text()):
            found.setdefault(client, []).append(int(status))
        return found


class Answer:
    """The answer to a request, whatever its status."""

    def __init__(self, request: urllib.request.Request):
        try:
            answer = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            self.status, self.headers, self.body = answer.status, answer.headers, answer.read()
