#!/usr/bin/env python3
"""Attacks on the service by bytes on its sockets: a line for each, with its figure; exits with 1 when one succeeds.

    python3 tests/attacks/run.py [--long] [--only PART] [BINARY]
"""

import argparse
import importlib
import os
import sys

PARTS = ["heads", "kept", "smuggling", "quota", "newcomers", "memory", "descriptors", "log", "frames", "stop", "wakes"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--long", action="store_true", help="larger crowds, and longer")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("binary", nargs="?", help="default: JWKS_SERVER, or the newer build")
    args = parser.parse_args()
    if args.binary:
        os.environ["JWKS_SERVER"] = args.binary
    from report import Report, raise_file_limit

    raise_file_limit()
    report = Report()
    for part in [args.only] if args.only else PARTS:
        try:
            importlib.import_module(part).run(report, args.long)
        except (OSError, AssertionError, ValueError) as e:
            report.hold(part, f"{type(e).__name__}: {e}", False)
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
