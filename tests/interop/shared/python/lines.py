"""The line protocol: `ready VERSION`, then for each line with a token `ok` or `no REASON`."""

import sys
from importlib.metadata import version


def serve(package, verify):
    print(f"ready {package} {version(package)}", flush=True)
    for line in sys.stdin:
        try:
            verify(line.strip())
            print("ok", flush=True)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".replace("\n", " ")
            print(f"no {reason}", flush=True)
