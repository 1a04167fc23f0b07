"""The verifiers: which there are, how each is installed, and how one is talked to."""

import hashlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
INTO = HERE.parent.parent / "target" / "interop"
# Longest time of an answer, in seconds; some wait for their own limit on requests.
PATIENCE = 90
# Programs that fetch what they install or build.
FETCHING = {"venv/bin/python", "npm", "go", "cargo", "mvn"}


@dataclass
class Verifier:
    folder: str
    # Seconds to hold the key set, when not as it comes.
    hold: int | None = None
    # More settings, by environment variable.
    more: dict = field(default_factory=dict)
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or (f"{self.folder}, hold {self.hold} s" if self.hold else self.folder)


class Missing(Exception):
    """Why a verifier is left out."""


def install_all(folders: list) -> tuple:
    """The command for each folder that could be installed, and for the others the reason. Those of
    a kind after each other, since they share a cache; kinds at the same time."""
    commands, skipped = {}, {}

    def install_kind(kind: str):
        for folder in folders:
            if kind_of(folder) != kind:
                continue
            started = time.monotonic()
            try:
                commands[folder] = install(folder)
                say(f"{folder}: installed, {time.monotonic() - started:.0f} s")
            except Missing as why:
                skipped[folder] = str(why)
                say(f"{folder}: skipped: {why}")

    kinds = dict.fromkeys(map(kind_of, folders))
    with ThreadPoolExecutor(len(KINDS)) as pool:
        list(pool.map(install_kind, kinds))
    return commands, {folder: skipped[folder] for folder in folders if folder in skipped}


def kind_of(folder: str) -> str:
    return folder.partition("-")[0]


def install(folder: str) -> list:
    """Copies the program with what its kind shares into target/interop, builds it there unless
    that was done before, and returns the command that runs it."""
    shared, build, run = KINDS[kind_of(folder)]
    sources = [
        path
        for root in (HERE / "shared" / shared, HERE / folder)
        for path in sorted(root.glob("*"))
        if path.is_file()
    ]
    digest = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in sources))
    into = INTO / folder
    stamp = into / "installed"
    if not stamp.exists() or stamp.read_text() != digest.hexdigest():
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        for path in sources:
            shutil.copy(path, into)
        for command in build:
            command_run(command, into)
        stamp.write_text(digest.hexdigest())
    return run


def command_run(command: list, folder: Path, **environment: str):
    """Programs that fetch are tried up to three times, as networks fail for a moment."""
    for pause in (10, 30) if command[0] in FETCHING else ():
        try:
            return run_once(command, folder, environment)
        except Missing as why:
            if not isinstance(why.__cause__, subprocess.CalledProcessError):
                raise
        time.sleep(pause)
    return run_once(command, folder, environment)


def run_once(command: list, folder: Path, environment: dict):
    try:
        subprocess.run(
            command, cwd=folder, env=os.environ | environment, check=True, capture_output=True,
            text=True, timeout=900,
        )
    except FileNotFoundError:
        raise Missing(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Missing(f"`{' '.join(command)}` did not end") from None
    except subprocess.CalledProcessError as failed:
        said = (failed.stderr or failed.stdout).strip().splitlines()
        raise Missing(f"`{' '.join(command)}` failed: {' / '.join(said[-3:])}") from failed


# For each kind: the folder that it shares, the commands that build, and the one that runs; all in the copy.
KINDS = {
    "python": (
        "python",
        [
            ["python3", "-m", "venv", "venv"],
            ["venv/bin/python", "-m", "pip", "install", "--quiet", "--require-hashes",
             "--only-binary", ":all:", "-r", "requirements.txt"],
        ],
        ["venv/bin/python", "verifier.py"],
    ),
    "node": (
        "node",
        [["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]],
        ["node", "verifier.mjs"],
    ),
    "go": (
        "go",
        [["go", "build", "-mod=readonly", "-o", "verifier", "."]],
        ["./verifier"],
    ),
    "rust": (
        "rust",
        [["cargo", "build", "--quiet", "--locked"]],
        ["target/debug/verifier"],
    ),
    "apache": (
        "front",
        [["apache2", "-v"], ["ls", "/usr/lib/apache2/modules/mod_auth_openidc.so"]],
        ["python3", "verifier.py"],
    ),
    "nginx": (
        "front",
        [["nginx", "-v"], ["ls", "/usr/lib/nginx/modules/ngx_http_js_module.so"]],
        ["python3", "verifier.py"],
    ),
    "ruby": (
        "ruby",
        [["ruby", "-e", "require 'jwt'"]],
        ["ruby", "verifier.rb"],
    ),
    "java": (
        "java",
        [["mvn", "-q", "-B", "package"]],
        ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
         "-cp", "target/classes:target/lib/*", "Verifier"],
    ),
}


class Running:
    """A verifier's process: a token a line in, a verdict a line out."""

    def __init__(self, verifier: Verifier, command: list, environment: dict):
        folder = INTO / verifier.folder
        hold = {"HOLD": str(verifier.hold)} if verifier.hold else {}
        self.log = INTO / "logs" / f"{verifier.name}.log"
        self.log.parent.mkdir(exist_ok=True)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=os.environ | environment | verifier.more | hold,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,
            )
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.strip())
        self.lines.put("no it has ended")

    def line(self) -> str:
        try:
            return self.lines.get(timeout=PATIENCE)
        except queue.Empty:
            self.stop()
            return "no answer"

    def ready(self) -> str:
        """The versions; nothing if it did not start."""
        ready, _, versions = self.line().partition("ready ")
        return versions if not ready else ""

    def verdict(self, token: str) -> str:
        try:
            self.process.stdin.write(token + "\n")
            self.process.stdin.flush()
        except OSError:
            return "no it has ended"
        return self.line()

    def stop(self):
        """Ends it with all that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def say(text: str):
    print(text, file=sys.stderr, flush=True)
