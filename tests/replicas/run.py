#!/usr/bin/env python3
"""Three replicas of the binary behind a round-robin nginx, on a PostgreSQL of its own, through faults.

    cargo build --release && python3 tests/replicas/run.py [--long] [PART...]

The short form takes four minutes, the long one about half an hour. The folder of a part that fails is kept."""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append(str(Path(__file__).resolve().parent.parent))
import deaths  # noqa: E402
import faults  # noqa: E402
import network  # noqa: E402
from harness import postgres  # noqa: E402
import walk  # noqa: E402
from harness.left_out import left_out  # noqa: E402

PARTS = {
    "verifiers": walk.verifiers,
    "kills": deaths.kills,
    "failover": deaths.failover,
    "cut-off": network.cut_off,
    "outcome": network.outcome,
    "server-faults": faults.server_faults,
    "disk-full": faults.disk_full,
}


def missing() -> str | None:
    if not postgres.programs():
        return "PostgreSQL is not installed"
    return None if shutil.which("nginx") else "nginx is not installed"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--long", action="store_true")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if why := missing():
        print(left_out("replicas", why))
        assert not os.environ.get("REQUIRE_POSTGRES"), "REQUIRE_POSTGRES is set"
        return
    for name in asked.parts or PARTS:
        began = time.monotonic()
        folder = postgres.folder()
        words = PARTS[name](folder, asked.long)
        shutil.rmtree(folder)
        print(f"ok    {name}, {time.monotonic() - began:.0f} s: {words}", flush=True)


if __name__ == "__main__":
    main()
