"""Sign-ins in great number: what `audit list`, `export` and `prune` take, and what the service's
calls take meanwhile. One row in 10,000 is of the user who is asked for. Arguments: number of rows [1000000]."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time

from client import Connection
from service import DATABASE, Service, binary

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000


def fill(service) -> None:
    with sqlite3.connect(service.folder / DATABASE, timeout=60) as db:
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO auth_logs"
            " (request_ip, request_timestamp, user_id) SELECT '192.0.2.' || (i % 250),"
            " datetime(1000000000 + i, 'unixepoch'), iif(i % 10000, NULL, 1) FROM n",
            [ROWS],
        )


async def calls(port: int, password: str, until) -> list[float]:
    """Times of sign-ins, four a second."""
    connection, times = await Connection.open(port), []
    while not until.done() or len(times) < 20:
        began = time.monotonic()
        answer = await connection.post("/auth", username="alice", password=password)
        assert answer.status == 200, answer.body
        times.append(time.monotonic() - began)
        await asyncio.sleep(0.25)
    return sorted(times)


def told(what: str, times: list[float]) -> None:
    median, late, last = (times[int(part * (len(times) - 1))] * 1000 for part in (0.5, 0.99, 1))
    print(f"{what}: {len(times)} sign-ins, median {median:.0f} ms, p99 {late:.0f} ms, max {last:.0f} ms", flush=True)


def run(service, words) -> str:
    began = time.monotonic()
    process = subprocess.Popen(
        [binary(), *words], cwd=service.folder, env=service.environment, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, status
    return f"{' '.join(words)}: {time.monotonic() - began:.1f} s, peak {used.ru_maxrss // 1024} MiB"


async def main() -> None:
    with Service() as service:
        connection = await Connection.open(service.port)
        answer = await connection.post("/register", username="alice", email="a@example.com")
        password = json.loads(answer.body)["password"]
        quiet = asyncio.get_running_loop().create_future()
        quiet.set_result(None)
        fill(service)
        print(f"{ROWS} rows, {(service.folder / DATABASE).stat().st_size >> 20} MiB")
        told("alone", await calls(service.port, password, quiet))
        for words in (
            ["audit", "list", "--user", "alice"],
            ["audit", "export"],
            ["audit", "export", "--user", "alice"],
            ["audit", "prune", "--before", "2010-01-01", "--keep-file", "kept"],
        ):
            task = asyncio.create_task(asyncio.to_thread(run, service, words))
            times = await calls(service.port, password, task)
            print(await task, flush=True)
            told("meanwhile", times)
        print(f"service: peak {service.peak_rss_kib() // 1024} MiB")


asyncio.run(main())
