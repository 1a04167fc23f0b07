#!/usr/bin/env python3
"""Attacks by turns on a server that serves others meanwhile (`tests/load/run.py --only mixed` starts this):
the floods of connections and of HTTP/2 frames, and a newcomer of an address of its own during each.

    mixed.py PORT SECONDS

prints a JSON document: how often each attack ran, and what newcomers met."""

import json
import sys
import threading
import time
from collections import Counter
from types import SimpleNamespace

import frames
import memory
import wire
from report import close_all, raise_file_limit

CONNECTIONS = 2_000
# For how long an attack goes on, and the pause after it.
LASTS, PAUSE = 3.0, 1.0
KEY_SET = "/.well-known/jwks.json"


def newcomer(port, told):
    began = time.monotonic()
    try:
        connection = wire.Http1(port, f"127.0.20.{1 + sum(told['statuses'].values()) % 250}")
        answer = connection.ask("GET", KEY_SET)
        connection.close()
        status = answer.status if answer else "closed"
    except OSError as e:
        status = type(e).__name__
    told["statuses"][str(status)] += 1
    told["slowest"] = max(told["slowest"], time.monotonic() - began)


def connections(flood, server, told):
    members = flood(server, CONNECTIONS)
    ends = time.monotonic() + LASTS
    while time.monotonic() < ends:
        newcomer(server.port, told)
        time.sleep(0.5)
    close_all(members)


def streams(first, again, server, told):
    attackers = [wire.Http2(server.port, f"127.0.21.{n}") for n in range(1, 5)]
    threads = []
    for each in attackers:
        each.send(first)
        threads.append(threading.Thread(target=frames.send_all, args=(each, again, LASTS)))
        threads[-1].start()
    while any(thread.is_alive() for thread in threads):
        newcomer(server.port, told)
        time.sleep(0.5)
    close_all(attackers)


def main():
    raise_file_limit()
    server, ends = SimpleNamespace(port=int(sys.argv[1])), time.monotonic() + float(sys.argv[2])
    attacks = [(flood.__name__, lambda told, it=flood: connections(it, server, told)) for flood in memory.FLOODS]
    attacks += [(what, lambda told, it=it: streams(*it, server, told)) for what, it in frames.FLOODS.items()]
    told = {"of": len(attacks), "attacks": Counter(), "statuses": Counter(), "slowest": 0.0, "broken off": Counter()}
    while True:
        for what, attack in attacks:
            if time.monotonic() >= ends:
                print(json.dumps(told))
                return
            try:
                attack(told)
            except OSError as e:
                # The server may end the connections of an attacker at any moment.
                told["broken off"][f"{what}: {type(e).__name__}"] += 1
            told["attacks"][what] += 1
            time.sleep(PAUSE)


if __name__ == "__main__":
    main()
