#!/usr/bin/env python3
"""Runs the examples of `jwks-server sandbox`: pytest, Jest, Go's testing, JUnit.

    python3 tests/sandbox/run.py [NAME...]

Needs the release binary, or JWKS_SERVER, and each example's toolchain. Each example starts a
sandbox by itself, as a project that uses it would.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
INTO = ROOT / "target" / "sandbox"
# Commands that fetch, and the one that runs the tests.
EXAMPLES = {
    "pytest": (
        [
            ["python3", "-m", "venv", "venv"],
            ["venv/bin/pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:", "-r", "requirements.txt"],
        ],
        ["venv/bin/pytest", "-q"],
    ),
    "jest": ([["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]], ["npm", "test", "--silent"]),
    "go": ([["go", "mod", "download"]], ["go", "test", "./..."]),
    "junit": ([["mvn", "-q", "-B", "test-compile"]], ["mvn", "-q", "-B", "test"]),
}


def fetched(command: list, folder: Path) -> None:
    """Up to three times, as networks fail for a moment."""
    for pause in (10, 30, None):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
        if done.returncode == 0:
            return
        if pause is None:
            raise SystemExit(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        time.sleep(pause)


def main() -> int:
    server = os.environ.get("JWKS_SERVER", str(ROOT / "target" / "release" / "jwks-server"))
    failed = []
    for name in sys.argv[1:] or EXAMPLES:
        fetching, test = EXAMPLES[name]
        folder, began = INTO / name, time.monotonic()
        shutil.copytree(HERE / name, folder, dirs_exist_ok=True)
        for command in fetching:
            fetched(command, folder)
        ready = time.monotonic()
        done = subprocess.run(test, cwd=folder, env=os.environ | {"JWKS_SERVER": server}, timeout=300)
        failed += [name] if done.returncode else []
        say = "failed" if done.returncode else "passed"
        print(f"{name}: {say}; {ready - began:.0f} s to fetch, {time.monotonic() - ready:.0f} s to run", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
