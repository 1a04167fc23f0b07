#!/usr/bin/env python3
"""Does the time of a refusal say whether a name exists?

Signs in with wrong passwords of accounts and with unknown names, in random
order, one after the other on one connection, and compares the two samples of
times with the two-sample Kolmogorov-Smirnov test and the Mann-Whitney U test
(asymptotic p, ties neglected). A small p means that the two can be told apart.
A report, not a test that passes or fails: tests/api/same_work.rs counts the
work exactly. Hashes with older parameters take another time by design, until
their account signs in; they are not measured.

    unknown_name.py [--server target/release/jwks-server] [--samples 400]
"""

import argparse
import base64
import contextlib
import http.client
import json
import math
import os
import random
import re
import signal
import sqlite3
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

# Settings that set the parameters of a hash.
SETTINGS = "ARGON2_MEMORY_KIB={m}\nARGON2_PASSES={t}\nARGON2_LANES={p}"
ACCOUNTS = 400
SCENARIOS = {
    "default parameters": {"m": 19456, "t": 2, "p": 1},
    "raised parameters": {"m": 32768, "t": 3, "p": 2},
}


def stored_hash(parameters):
    """A hash with a salt of its own, which no known password fits."""
    salt, output = (base64.b64encode(os.urandom(n)).decode().rstrip("=") for n in (16, 32))
    return "$argon2id$v=19$m={m},t={t},p={p}".format(**parameters) + f"${salt}${output}"


@contextlib.contextmanager
def running(binary, folder):
    process = subprocess.Popen(
        [binary], cwd=folder, env={}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", line)
            if found:
                break
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]))
        # Answered once there is a key, when the start has ended.
        connection.request("GET", "/.well-known/jwks.json")
        connection.getresponse().read()
        yield connection
    finally:
        process.send_signal(signal.SIGTERM)
        process.stderr.close()
        process.wait()


def refused(connection, name):
    """The time of one refusal, ms."""
    body = json.dumps({"username": name, "password": "wrong"})
    began = time.perf_counter_ns()
    connection.request("POST", "/auth", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    took = time.perf_counter_ns() - began
    assert response.status == 401, response.status
    return took / 1e6


def measure(binary, parameters, samples):
    with tempfile.TemporaryDirectory() as folder:
        key = subprocess.check_output([binary, "keygen"], cwd=folder, env={}, text=True).strip()
        env = f"NOT_MY_KEY={key}\nPORT=0\nAUTH_RATE=1000\nAPP_ENV=production\n"
        env += SETTINGS.format(**parameters) + "\n"
        Path(folder, ".env").write_text(env)
        with running(binary, folder):
            pass
        database = sqlite3.connect(Path(folder, "totally_not_my_privateKeys.db"))
        with database:
            database.executemany(
                "INSERT INTO users (username, password_hash) VALUES (?, ?)",
                ((f"account{n}", stored_hash(parameters)) for n in range(ACCOUNTS)))
        database.close()
        with running(binary, folder) as connection:
            for n in range(20):
                refused(connection, f"warm{n}")
            order = [(is_account, n) for n in range(samples) for is_account in (True, False)]
            random.shuffle(order)
            times = {True: [], False: []}
            for is_account, n in order:
                name = f"account{n % ACCOUNTS}" if is_account else f"nobody{n}"
                times[is_account].append(refused(connection, name))
            return times[True], times[False]


def kolmogorov_smirnov(one, other):
    """D and p."""
    n, m = len(one), len(other)
    merged = sorted([(x, 1 / n) for x in one] + [(x, -1 / m) for x in other])
    level = distance = 0.0
    for _, step in merged:
        level += step
        distance = max(distance, abs(level))
    root = math.sqrt(n * m / (n + m))
    x = (root + 0.12 + 0.11 / root) * distance
    p = 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101)) if x > 0.2 else 1
    return distance, min(max(p, 0.0), 1.0)


def mann_whitney(one, other):
    """The share of pairs in which `one` is longer, and p (two-sided)."""
    n, m = len(one), len(other)
    ranked = sorted([(x, True) for x in one] + [(x, False) for x in other])
    ranks = sum(rank for rank, (_, is_one) in enumerate(ranked, 1) if is_one)
    u = ranks - n * (n + 1) / 2
    z = (u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
    return u / (n * m), math.erfc(abs(z) / math.sqrt(2))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="target/release/jwks-server")
    parser.add_argument("--samples", type=int, default=400)
    arguments = parser.parse_args()
    binary = os.path.abspath(arguments.server)
    for name, parameters in SCENARIOS.items():
        known, unknown = measure(binary, parameters, arguments.samples)
        distance, ks = kolmogorov_smirnov(known, unknown)
        share, mw = mann_whitney(known, unknown)
        print(f"{name}: {len(known)} each")
        for label, times in (("wrong password", known), ("unknown name", unknown)):
            deciles = statistics.quantiles(times, n=10)
            print(f"  {label}: median {statistics.median(times):.2f} ms, "
                  f"10% {deciles[0]:.2f}, 90% {deciles[-1]:.2f}")
        print(f"  Kolmogorov-Smirnov D={distance:.4f} p={ks:.3g}; "
              f"Mann-Whitney share={share:.4f} p={mw:.3g}", flush=True)


if __name__ == "__main__":
    main()
