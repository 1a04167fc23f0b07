"""The course grader, run as it is against the release binary: full marks five times in a row.

It starts the service itself, on port 8080, in a folder that looks like the project's.
"""

import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from service import BINARY, ROOT
from verifiers import INTO, Missing, command_run

MODULE = "github.com/jh125486/CSCE3550@v1.1.2"
FULL_MARKS = {"project-1": 65, "project-2": 65, "project-3": 90}
ROUNDS = 5


def grade() -> int:
    try:
        marks = [run(grader(), number) for number in range(1, ROUNDS + 1)]
    except Missing as why:
        print(f"grader: skipped: {why}")
        return int(os.environ.get("REQUIRE_INTEROP") == "1")
    print(f"{sum(marks)} passed, {ROUNDS * len(FULL_MARKS) - sum(marks)} failed")
    return int(sum(marks) != ROUNDS * len(FULL_MARKS))


def grader() -> Path:
    into = INTO / "grader"
    into.mkdir(parents=True, exist_ok=True)
    command_run(["go", "install", MODULE], into, GOBIN=str(into))
    return next(path for path in into.iterdir() if os.access(path, os.X_OK) and path.is_file())


def run(program: Path, number: int) -> int:
    """One round of all projects on one new database; how many gave full marks."""
    full = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in ("Cargo.toml", "README.md"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "src", Path(folder, "src"))
        key = subprocess.check_output([BINARY, "keygen"], cwd=folder, text=True).strip()
        for project, most in FULL_MARKS.items():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", 8080))
                except OSError:
                    raise Missing("port 8080 is taken") from None
            # It asks whether to go on, and whether to send the marks to its server.
            done = subprocess.run(
                [program, project, "--run", f"{BINARY} serve --demo-user userABC:password123"],
                cwd=folder, env=os.environ | {"NOT_MY_KEY": key}, input="y\nn\nn\n",
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
            )
            (INTO / "grader" / f"{project}-{number}.txt").write_text(done.stdout)
            good = re.search(rf"\b{most}\s*/\s*{most}\b", done.stdout) is not None
            marks = "full marks" if good else "NOT full marks:\n" + done.stdout
            print(f"{project}, round {number}: {marks}", flush=True)
            full += good
    return full
