#!/usr/bin/env python3
"""Runs the examples of `jwks-server sandbox`: pytest, Jest, Go's testing, JUnit.

    python3 tests/sandbox/run.py [--install] [NAME...]

Needs the release binary, or JWKS_SERVER, and each example's toolchain. Each example starts a
sandbox by itself, as a project that uses it would. With --install it fetches what they need only.
"""

import hashlib
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
    "go": ([["go", "mod", "download"]], ["go", "test", "-count=1", "./..."]),
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


def installed(name: str) -> Path:
    """The folder of the example, with all that it needs, fetched again when a file has changed."""
    folder, digest = INTO / name, hashlib.sha256()
    for path in sorted(path for path in (HERE / name).rglob("*") if path.is_file()):
        digest.update(path.read_bytes())
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != digest.hexdigest():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(HERE / name, folder)
        for command in EXAMPLES[name][0]:
            fetched(command, folder)
        stamp.write_text(digest.hexdigest())
    return folder


def main() -> int:
    server = os.environ.get("JWKS_SERVER", str(ROOT / "target" / "release" / "jwks-server"))
    names = [name for name in sys.argv[1:] if name != "--install"] or list(EXAMPLES)
    failed = []
    for name in names:
        folder, began = installed(name), time.monotonic()
        if "--install" in sys.argv:
            continue
        done = subprocess.run(EXAMPLES[name][1], cwd=folder, env=os.environ | {"JWKS_SERVER": server}, timeout=300)
        failed += [name] if done.returncode else []
        print(f"{name}: {'failed' if done.returncode else 'passed'} in {time.monotonic() - began:.0f} s", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
