"""The course grader, run as it is against the release binary: full marks five times in a row.

It starts the service itself, on port 8080, in a folder that looks like the project's.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from service import ROOT, binary
from verifiers import INTO, Missing, command_run

MODULE = "github.com/jh125486/CSCE3550@v1.1.2"
FULL_MARKS = {"project-1": 65, "project-2": 65, "project-3": 90}
ROUNDS = 5
# The grader sends all source to its server for marks on quality; nothing listens here.
NO_SERVER = "http://127.0.0.1:9"
# A line of its table: an item, its points, the points awarded.
ITEM = re.compile(r"^│ (\S.*?) +│ +([\d.]+) │ +([\d.]+) │", re.MULTILINE)


def grade(given: str) -> int:
    """Runs the program that is given, or else the one that can be installed."""
    try:
        program = Path(given).resolve() if given else installed()
        if not free():
            raise Missing("port 8080 is taken")
    except Missing as why:
        print(f"grader: skipped: {why}")
        return int(os.environ.get("REQUIRE_INTEROP") == "1")
    full = sum(run(program, number) for number in range(1, ROUNDS + 1))
    print(f"{full} passed, {ROUNDS * len(FULL_MARKS) - full} failed")
    return int(full != ROUNDS * len(FULL_MARKS))


def installed() -> Path:
    into = INTO / "grader" / "bin"
    into.mkdir(parents=True, exist_ok=True)
    command_run(["go", "install", MODULE], into, GOBIN=str(into))
    return next(path for path in into.iterdir() if os.access(path, os.X_OK) and path.is_file())


def run(program: Path, number: int) -> int:
    """One round of all projects on one new database; how many gave full marks."""
    full = 0
    reports = INTO / "grader"
    reports.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("Cargo.toml", "README.md"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "src", Path(folder, "src"))
        key = subprocess.check_output([binary(), "keygen"], cwd=folder, text=True).strip()
        for project, most in FULL_MARKS.items():
            said = visit(program, project, folder, key)
            (reports / f"{project}-{number}.txt").write_text(said)
            good = marks(said) == (most, most)
            verdict = "full marks" if good else "NOT full marks:\n" + said
            print(f"{project}, round {number}: {verdict}", flush=True)
            full += good
    return full


def visit(program: Path, project: str, folder: str, key: str) -> str:
    """Output of the grader. It leaves the service running, mostly; that is ended here."""
    command = [program, project, "--server-url", NO_SERVER, "--run", f"{binary()} serve --demo-user userABC:password123"]
    started = subprocess.Popen(
        command, cwd=folder, env=os.environ | {"NOT_MY_KEY": key}, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    try:
        # Its one question: whether to send the marks to its server.
        return started.communicate("n\n", timeout=120)[0]
    finally:
        end_session(started.pid)
        started.wait()
        until = time.monotonic() + 10
        while not free() and time.monotonic() < until:
            time.sleep(0.05)


def marks(said: str) -> tuple:
    """Points awarded and points to be had, without those that its server gives."""
    items = [(float(awarded), float(points)) for name, points, awarded in ITEM.findall(said) if name != "Quality"]
    return sum(awarded for awarded, _ in items), sum(points for _, points in items)


def end_session(session: int):
    """Ends all processes of the session, whatever group they are in."""
    for process in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
        try:
            if os.getsid(process) == session:
                os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass


def free() -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 8080))
        except OSError:
            return False
    return True
