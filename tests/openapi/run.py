"""Holds the running server against its own description, /openapi.json, with all checks of schemathesis; the
description itself against the schema of OpenAPI 3.1.

    cargo build --release && python3 tests/openapi/run.py            some 19,000 cases, three minutes
                             python3 tests/openapi/run.py --short    some 5,000, one minute

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
sys.path.append(str(HERE.parent))
from harness.server import ROOT, Process, sealing_key  # noqa: E402

TOOLS = ROOT / "target/openapi"
USER = "tester:no-secret"
# (cases for each operation, cases that must have been sent)
LONG, SHORT = (1000, 15_000), (200, 3_000)
# Statuses that a run has to see, or it has not tried much.
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


def start(folder: Path) -> Process:
    settings = {
        "PATH": os.environ["PATH"],
        "NOT_MY_KEY": sealing_key(),
        "APP_ENV": "production",
        "RUST_LOG": "info,jwks_server::http::access_log=debug",
        "HOST": "127.0.0.1",
        "PORT": "0",
        "AUTH_RATE": "1000",
        "ISSUER": "https://issuer.example",
        "AUDIENCE": "tests",
    }
    return Process(folder, settings, ["serve", "--demo-user", USER])


def is_openapi(programs: Path, folder: Path, url: str) -> bool:
    document = folder / "openapi.json"
    with urllib.request.urlopen(url, timeout=30) as answer:
        document.write_bytes(answer.read())
    return subprocess.run([programs / "openapi-spec-validator", document], check=False).returncode == 0


def check(programs: Path, folder: Path, url: str, cases: int, seed: int) -> tuple[bool, int]:
    """Result of all checks, and the number of cases sent."""
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


def read(log: str) -> tuple[collections.Counter, list]:
    """Count of each status, and the lines that tell of a fault."""
    statuses, faults = collections.Counter(), []
    for line in log.splitlines():
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
    parser.add_argument("--short", action="store_true", help="fewer cases, others in each run too")
    parser.add_argument("--seed", type=int, help="that of the run to repeat; otherwise a new one")
    asked = parser.parse_args()
    cases, least = SHORT if asked.short else LONG
    seed = asked.seed or random.randrange(1, 2**32)
    print(f"to repeat: --seed {seed}", flush=True)
    programs = install()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with start(folder) as server:
            url = f"http://127.0.0.1:{server.port}/openapi.json"
            valid = is_openapi(programs, folder, url)
            began = time.monotonic()
            held, sent = check(programs, folder, url, cases, seed)
            took = time.monotonic() - began
            server.stop()
            statuses, faults = read(server.log())
    print(f"\nseed {seed}: {sent} cases in {took:.0f} s, {sent / took:.0f} a second")
    print("answers:", ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())))
    wrong = {
        "the description is not OpenAPI 3.1": not valid,
        "a check failed": not held,
        f"fewer than {least} cases were sent": sent < least,
        f"these did not come up: {sorted(COME_UP - set(statuses))}": not COME_UP <= set(statuses),
        "the log has faults:\n" + "\n".join(faults[:20]): bool(faults),
    }
    found = [text for text, is_so in wrong.items() if is_so]
    print("\n".join(found) if found else "ok")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
