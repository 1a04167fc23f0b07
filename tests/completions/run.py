#!/usr/bin/env python3
"""Bash, zsh and fish complete commands and options: each on a terminal, with the script that
`jwks-server completions` prints, where a Tab is pressed.

    cargo build --release && python3 tests/completions/run.py

takes about 3 seconds."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from harness.left_out import left_out  # noqa: E402
from harness.server import PATIENCE, binary  # noqa: E402

# Typed up to the Tab, and the words that the command gets then.
ASKED = [
    ("jwks-server keyg", "keygen"),
    ("jwks-server keys rot", "keys rotate"),
    ("jwks-server keys rotate --rea", "keys rotate --reason"),
    ("jwks-server audit pr", "audit prune"),
]
# The command is replaced by a function that prints what it was given, and READY is printed before each line is read.
SHELLS = {
    "bash": (
        ".bashrc",
        "PS1='REA''DY>'\nsource ./script\njwks-server() { echo \"ASKED:$*;\"; }\n",
        ["bash", "--noprofile", "--rcfile", ".bashrc", "-i"],
    ),
    "zsh": (
        ".zshrc",
        "PS1='READY>'\nautoload -U compinit && compinit -u\nsource ./script\njwks-server() { echo \"ASKED:$*;\"; }\n",
        ["zsh", "-i"],
    ),
    "fish": (
        "config.fish",
        "function fish_prompt; echo 'READY>'; end\nfunction jwks-server; echo \"ASKED:$argv;\"; end\nsource ./script\n",
        ["fish", "--no-config", "--init-command", "source config.fish"],
    ),
}


class Terminal:
    def __init__(self, command: list[str], folder: str):
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "ZDOTDIR": folder, "TERM": "dumb", "LC_ALL": "C.UTF-8"}
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, environment)
        self.shown = ""

    def wait_for(self, pattern: str) -> re.Match:
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.shown)):
            readable, _, _ = select.select([self.terminal], [], [], max(0, end - time.monotonic()))
            assert readable, f"no {pattern!r} in {self.shown!r}"
            self.shown += os.read(self.terminal, 65536).decode(errors="replace")
        self.shown = self.shown[found.end() :]
        return found

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def close(self) -> None:
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


def complete(shell: str) -> None:
    name, settings, command = SHELLS[shell]
    with tempfile.TemporaryDirectory(prefix="completions-") as folder:
        script = subprocess.check_output([binary(), "completions", shell])
        (Path(folder) / "script").write_bytes(script)
        (Path(folder) / name).write_text(settings)
        terminal = Terminal(command, folder)
        try:
            for typed, meant in ASKED:
                terminal.wait_for("READY>")
                terminal.type(f"{typed}\t\n")
                words = terminal.wait_for(r"ASKED:([^;$]*);")[1].split()
                assert words == meant.split(), (shell, typed, words)
        finally:
            terminal.close()
    print(f"ok    {shell}: {len(ASKED)} completions")


def main() -> None:
    for shell in SHELLS:
        if shutil.which(shell):
            complete(shell)
        else:
            print(left_out(f"completions/{shell}", "it is not installed"))


if __name__ == "__main__":
    main()
