#!/usr/bin/env python3
"""`jwks-server trial` on the verifiers of tests/interop, and a table of what each got, for docs/trial.md.

    python3 tests/trial/interop.py [NAME...]

Needs the release binary, or JWKS_SERVER, and `python3 tests/interop/run.py --install` before. Each verifier
gets its tokens from a small server here, which answers 200 or 401, or 500 when the verifier has ended.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))

import verifiers
from expectations import VERIFIERS

SERVER = os.environ.get("JWKS_SERVER", str(ROOT / "target" / "release" / "jwks-server"))
ISSUER = "http://127.0.0.1:8790"


class Front:
    """The server before a verifier, which is started again when it has ended."""

    def __init__(self, verifier, listener: socket.socket):
        self.verifier, self.listener, self.lock = verifier, listener, threading.Lock()
        self.start()

    def start(self):
        command = verifiers.KINDS[verifiers.kind_of(self.verifier.folder)][2]
        environment = {"JWKS_URL": f"{ISSUER}/.well-known/jwks.json", "ISSUER": ISSUER, "AUDIENCE": "api"}
        self.running = verifiers.Running(self.verifier, command, environment)
        self.versions = self.running.ready()

    def serve(self):
        self.listener.listen()
        while True:
            stream = self.listener.accept()[0]
            threading.Thread(target=self.answer_all, args=(stream,), daemon=True).start()

    def answer_all(self, stream: socket.socket):
        reader = stream.makefile("rb")
        while True:
            token = ""
            if not reader.readline():
                return
            while line := reader.readline().strip(b"\r\n"):
                name, _, value = line.partition(b": ")
                if name.lower() == b"authorization":
                    token = value.decode().removeprefix("Bearer ")
            status, said = self.verdict(token)
            body = said.encode()[:300]
            stream.sendall(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    def verdict(self, token: str) -> tuple:
        with self.lock:
            said = self.running.verdict(token)
            if said == "ok":
                return 200, said
            if said.startswith("no ") and said != "no it has ended":
                return 401, said
            self.running.stop()
            self.start()
            return 500, said


def tried(verifier) -> tuple:
    """What a verifier is, and the report of its trial; none when it could not be tried."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    # The issuer is there first; it waits for the port of the verifier.
    trial = subprocess.Popen(
        [SERVER, "trial", "--url", url, "--listen", "127.0.0.1:8790", "--audience", "api", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    front = Front(verifier, listener)
    threading.Thread(target=front.serve, daemon=True).start()
    out, err = trial.communicate()
    front.running.stop()
    try:
        return front.versions, json.loads(out)
    except ValueError:
        print(f"{verifier.name}: {err.strip()}", file=sys.stderr)
        return front.versions, None


def main() -> int:
    print("| verifier | must | should | policy | cases of must and should |\n| --- | --- | --- | --- | --- |")
    for verifier in VERIFIERS:
        wanted = not sys.argv[1:] or any(name in verifier.name for name in sys.argv[1:])
        if not wanted or verifier.hold or not (verifiers.INTO / verifier.folder).exists():
            continue
        versions, report = tried(verifier)
        if report is None:
            continue
        counts = [report["findings"][grade] for grade in ("must", "should", "policy")]
        named = [
            f"{'**' if case['finding'] == 'must' else ''}`{case['id']}`{'**' if case['finding'] == 'must' else ''}"
            for case in report["cases"]
            if case["finding"] in ("must", "should")
        ]
        print(f"| {versions} | {counts[0]} | {counts[1]} | {counts[2]} | {', '.join(named)} |", flush=True)
        if os.environ.get("VERBOSE"):
            for case in report["cases"]:
                if case["finding"] == "must":
                    print(f"  {case['id']}: {case['verdict']}: {case['detail']}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
