"""Holds the running server against its own description, /openapi.json, with all checks of schemathesis; the
description itself against the schema of OpenAPI 3.1.

    cargo build --release && python3 tests/openapi/run.py            some 19,000 cases, three minutes
                             python3 tests/openapi/run.py --short    some 5,000, with a fixed seed

Starts the release binary on a new folder and a free port, with an issuer, so that every route is there, and a user.
Fails when a check does, when fewer cases were sent than asked for, when an answer was 5xx or the log has an error, and
when a status that must come up did not. Needs Python 3.11 or newer with venv and, the first time, the network.
"""

import argparse
import collections
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BINARY = ROOT / "target/release/jwks-server"
TOOLS = ROOT / "target/openapi"
USER = "tester:no-secret"
# (cases for each operation, cases that must have been sent)
LONG, SHORT = (1000, 15_000), (200, 3_000)
# What a run has to come across, or it has not tried much.
COME_UP = {200, 201, 204, 304, 400, 401, 405, 409, 415}


def install() -> Path:
    """Programs, at the versions and hashes locked beside this script; where they are."""
    lock = HERE / "requirements.txt"
    mark = TOOLS / "installed.txt"
    if not mark.exists() or mark.read_bytes() != lock.read_bytes():
        venv.create(TOOLS, clear=True, with_pip=True)
        pip = [TOOLS / "bin/python", "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"]
        # Networks fail for a moment.
        for pause in (10, 30, None):
            done = subprocess.run([*pip, "-r", lock], check=pause is None)
            if done.returncode == 0:
                break
            time.sleep(pause)
        mark.write_bytes(lock.read_bytes())
    return TOOLS / "bin"


def start(folder: Path, log: Path) -> tuple[subprocess.Popen, int]:
    """The server and its port."""
    settings = {
        "PATH": os.environ["PATH"],
        "NOT_MY_KEY": subprocess.check_output([BINARY, "keygen"], text=True).strip(),
        "APP_ENV": "production",
        "RUST_LOG": "info,jwks_server::http::access_log=debug",
        "HOST": "127.0.0.1",
        "PORT": "0",
        "AUTH_RATE": "1000",
        "ISSUER": "https://issuer.example",
        "AUDIENCE": "tests",
    }
    with open(log, "wb") as out:
        command = [BINARY, "serve", "--demo-user", USER]
        server = subprocess.Popen(command, cwd=folder, env=settings, stdout=out, stderr=out)
    for _ in range(400):
        said = log.read_text()
        if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", said):
            return server, int(found[1])
        if server.poll() is not None:
            break
        time.sleep(0.05)
    server.kill()
    sys.exit(f"the server did not start: {said}")


def is_openapi(programs: Path, folder: Path, url: str) -> bool:
    document = folder / "openapi.json"
    with urllib.request.urlopen(url, timeout=30) as answer:
        document.write_bytes(answer.read())
    return subprocess.run([programs / "openapi-spec-validator", document], check=False).returncode == 0


def check(programs: Path, folder: Path, url: str, cases: int, seed: int) -> tuple[bool, int]:
    """Whether all checks held, and how many cases were sent."""
    command = [
        programs / "schemathesis", "run", url, "--checks", "all", "--auth", USER,
        "--max-examples", str(cases), "--seed", str(seed), "--generation-database", "none",
        "--continue-on-failure", "--no-color", "--wait-for-schema", "10",
    ]  # fmt: skip
    environment = os.environ | {"SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"), "PYTHONUNBUFFERED": "1"}
    run = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    said = []
    for line in run.stdout:
        print(line, end="", flush=True)
        said.append(line)
    sent = re.search(r"(\d+) generated", "".join(said))
    return run.wait() == 0, int(sent[1]) if sent else 0


def read(log: Path) -> tuple[collections.Counter, list]:
    """How often each status was answered, and the lines that tell of a fault."""
    statuses, faults = collections.Counter(), []
    for line in log.read_text().splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            faults.append(line)
            continue
        if event["message"] == "answered":
            statuses[event["status"]] += 1
        if event["level"] == "ERROR" or event.get("status", 0) >= 500:
            faults.append(line)
    return statuses, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="fewer cases, with a fixed seed")
    parser.add_argument("--seed", type=int, help="repeats a run")
    asked = parser.parse_args()
    cases, least = SHORT if asked.short else LONG
    seed = asked.seed or (1 if asked.short else random.randrange(1, 2**32))
    programs = install()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        log = folder / "log"
        server, port = start(folder, log)
        url = f"http://127.0.0.1:{port}/openapi.json"
        try:
            valid = is_openapi(programs, folder, url)
            began = time.monotonic()
            held, sent = check(programs, folder, url, cases, seed)
            took = time.monotonic() - began
        finally:
            server.terminate()
            stopped = server.wait(20)
        statuses, faults = read(log)
    print(f"\nseed {seed}: {sent} cases in {took:.0f} s, {sent / took:.0f} a second")
    print("answers:", ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())))
    wrong = {
        "the description is not OpenAPI 3.1": not valid,
        "a check failed": not held,
        f"fewer than {least} cases were sent": sent < least,
        f"these did not come up: {sorted(COME_UP - set(statuses))}": not COME_UP <= set(statuses),
        "the log has faults:\n" + "\n".join(faults[:20]): bool(faults),
        f"the server ended with {stopped}": stopped != 0,
    }
    found = [text for text, is_so in wrong.items() if is_so]
    print("\n".join(found) if found else "ok")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
