"""Several servers on one file under load, killed at random and started again.

    cargo build --release && python3 tests/faults/processes.py [SECONDS] [SERVERS]

600 seconds with two servers, then with three, by default. All the while: a
client hears 201, 200 or that its connection has ended, and never of a lock; each
token verifies against the key set of every server that runs, then and until it
expires; whoever signed up with one signs in with another. At the end each
answered sign-in has its row, those who signed up sign in, no key was made twice,
and the file is sound."""

import pathlib
import random
import sys
import tempfile
import threading
import time

from service import Gone, Server, claims, kid, make_settings, rows, sound, verify

CLIENTS = 4
# So short that keys rotate while it runs: a new one comes every 55 s.
TIMES = {
    "KEY_LIFETIME": "80s",
    "KEY_LEAD": "5s",
    "TOKEN_LIFETIME": "10s",
    "CLOCK_SKEW": "5s",
    "JWKS_MAX_AGE": "5s",
}


class Fleet:
    """The servers; at each place one that runs, or is about to."""

    def __init__(self, folder, size):
        self.folder, self.kills, self.errors = folder, 0, []
        self.servers = [Server(folder) for _ in range(size)]

    def replace(self, place):
        """Kills a server at any moment, and starts another in its place."""
        old = self.servers[place]
        old.kill()
        self.kills += 1
        self.note(old)
        self.servers[place] = Server(self.folder)

    def note(self, server):
        self.errors += server.errors()

    def stop(self):
        for server in self.servers:
            server.stop()
            self.note(server)


class Told:
    """Answers that clients got."""

    def __init__(self):
        self.lock = threading.Lock()
        self.passwords, self.sign_ins, self.tokens, self.wrong = {}, {}, [], []
        self.gone = self.verified = 0


class Visitor(threading.Thread):
    """Signs up with one server, signs in with any, and has the token verified
    against the key sets of all."""

    def __init__(self, number, fleet, told, ends):
        super().__init__()
        self.number, self.fleet, self.told, self.ends = number, fleet, told, ends
        self.random = random.Random(number)
        self.clients = {}

    def run(self):
        try:
            for n in range(1_000_000):
                if self.ends.is_set() or self.told.wrong:
                    return
                self.visit(f"c{self.number}n{n}")
        except Exception as e:
            self.told.wrong.append(f"client {self.number}: {e!r}")

    def client(self, server):
        """The connection to a server; one that was killed has no answer for it."""
        if server not in self.clients:
            self.clients[server] = server.client(f"127.0.3.{self.number + 1}")
        return self.clients[server]

    def ask(self, expected, ask):
        """The answer of any server that has one."""
        while not self.ends.is_set():
            server = self.random.choice(self.fleet.servers)
            try:
                reply = ask(self.client(server))
            except Gone:
                self.clients.pop(server, None)
                self.told.gone += 1
                # A killed server's place is empty for a moment.
                time.sleep(0.01)
                continue
            assert reply.status in expected, reply
            return reply
        return None

    def visit(self, name):
        told = self.told
        # The row may be there though the answer was cut off.
        reply = self.ask((201, 409), lambda client: client.register(name))
        if reply is None or reply.status == 409:
            return
        password = reply.json()["password"]
        with told.lock:
            told.passwords[name] = password
        for _ in range(3):
            with told.lock:
                name = self.random.choice(list(told.passwords))
                password = told.passwords[name]
            reply = self.ask((200,), lambda client: client.sign_in(name, password))
            if reply is None:
                return
            token = reply.json()["token"]
            with told.lock:
                told.sign_ins[name] = told.sign_ins.get(name, 0) + 1
                told.tokens.append(token)
                older = self.random.choice(told.tokens[-200:])
            self.check(token)
            self.check(older)

    def check(self, token):
        """Against each server that runs, as long as the token lives."""
        for server in list(self.fleet.servers):
            try:
                reply = self.client(server).key_set()
            except Gone:
                self.clients.pop(server, None)
                continue
            if time.time() >= claims(token)["exp"]:
                return
            assert reply.status == 200, reply
            assert verify(token, reply.json()), f"no key {kid(token)} in {reply.body}"
            self.told.verified += 1


def run(folder, seconds, size):
    folder = pathlib.Path(folder)
    make_settings(folder, **TIMES)
    fleet, told, ends = Fleet(folder, size), Told(), threading.Event()
    visitors = [Visitor(number, fleet, told, ends) for number in range(CLIENTS)]
    for visitor in visitors:
        visitor.start()
    dice, until = random.Random(size), time.monotonic() + seconds
    try:
        while time.monotonic() < until and not told.wrong:
            time.sleep(dice.uniform(0, 2.5))
            fleet.replace(dice.randrange(size))
    finally:
        ends.set()
        for visitor in visitors:
            visitor.join()
    assert not told.wrong, told.wrong
    check_end(folder, fleet, told)
    fleet.stop()
    sound(folder)
    assert not fleet.errors, fleet.errors[:5]
    [(made, different)] = rows(
        folder, "SELECT count(*), count(DISTINCT kid) FROM key_events WHERE event = 'created'"
    )
    assert made == different, "a key was made twice"
    print(
        f"{size} servers, {seconds} s: {fleet.kills} kills, {len(told.passwords)} sign-ups, "
        f"{sum(told.sign_ins.values())} sign-ins, {told.verified} verifications, "
        f"{made} keys made, {told.gone} requests cut off",
        flush=True,
    )


def check_end(folder, fleet, told):
    """All that was answered is there."""
    logged = dict(
        rows(
            folder,
            "SELECT username, count(auth_logs.id) FROM users "
            "LEFT JOIN auth_logs ON users.id = user_id GROUP BY users.id",
        )
    )
    for name in told.passwords:
        assert logged.get(name, -1) >= told.sign_ins.get(name, 0), f"{name}: rows are lost"
    # Enough to find what is lost in one of the files.
    some = random.Random(0).sample(sorted(told.passwords), min(300, len(told.passwords)))
    for n, name in enumerate(some):
        client = fleet.servers[n % len(fleet.servers)].client()
        reply = client.sign_in(name, told.passwords[name])
        assert reply.status == 200, (name, reply)
        client.close()


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    sizes = [int(sys.argv[2])] if len(sys.argv) > 2 else [2, 3]
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            try:
                run(folder, seconds, size)
            except AssertionError as e:
                sys.exit(f"FAILED with {size} servers: {e}")


if __name__ == "__main__":
    main()
