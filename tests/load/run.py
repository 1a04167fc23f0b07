#!/usr/bin/env python3
"""The release binary under load: saturation, idle connections, slow connections.

    cargo build --release && python3 tests/load/run.py

takes about 50 seconds; `--minutes 30` is the long run, with connections that
only answer pings as well. `--only mixed --minutes 60` is saturation with the floods
of `tests/attacks` among it. Exits with 1 when a figure is not within its limit.
"""

import argparse
import asyncio
import resource
import signal
import sys
import time

import crowds
import mixed
import saturation
from figures import Figures
from service import Service, standstill

SHORT = 10.0
# A machine that stood still this long, well under the limits, has measured nothing but itself.
STANDSTILL = 0.75
# For how long a phase is begun anew after such a time; and for one that hangs.
BEGUN_FOR = 600.0
PATIENCE = 300.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="how long saturation lasts (default: 10 seconds)")
    parser.add_argument("--only", choices=["saturation", "mixed", *crowds.PHASES], help="one phase")
    return parser.parse_args()


def crowd_phase(name: str) -> Figures:
    """Times count here, so what was measured while the machine stood still is measured again."""
    first, times = time.monotonic(), 0
    while time.monotonic() - first < BEGUN_FOR:
        figures, failed, began = Figures(), None, time.monotonic()
        with Service() as service:
            phase = crowds.PHASES[name](service, figures)
            try:
                asyncio.run(asyncio.wait_for(phase, PATIENCE))
            except Exception as error:
                failed = error
        stood = standstill.since(began)
        if stood < STANDSTILL:
            if failed:
                raise failed
            return figures
        times += 1
        print(f"   not counted: the machine stood still for {stood:.1f} s", flush=True)
    figures = Figures()
    figures.hold("measured", "not", False, f"the machine stood still {times} times")
    return figures


def mixed_phase(minutes: float | None) -> Figures:
    figures, seconds = Figures(), max(minutes * 60 if minutes else 0, mixed.LEAST)
    with Service() as service:
        asyncio.run(mixed.Mixed(service, seconds, None).run(figures))
    return figures


def saturation_phase(minutes: float | None) -> Figures:
    """The server rotates each minute; in a short run the operator does so more often."""
    figures = Figures()
    seconds, rotate_every = (minutes * 60, None) if minutes else (SHORT, 4.0)
    with Service() as service:
        asyncio.run(saturation.run(service, seconds, rotate_every, figures))
    return figures


def main() -> int:
    args = arguments()
    # So that a terminated run ends its server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Pings take more than a minute.
    wanted = [name for name in [*crowds.PHASES, "saturation"] if args.minutes or name != "pings"]
    are_good = True
    for name in [args.only] if args.only else wanted:
        print(f"-- {name}", flush=True)
        if name in crowds.PHASES:
            figures = crowd_phase(name)
        elif name == "mixed":
            figures = mixed_phase(args.minutes)
        else:
            figures = saturation_phase(args.minutes)
        print("\n".join(figures.lines), flush=True)
        are_good &= figures.are_good
    print("good" if are_good else "NOT good")
    return 0 if are_good else 1


if __name__ == "__main__":
    sys.exit(main())
