"""The power fails under a running server.

`barriers` reads every system call of a run by strace: before each answer 201 or
200 to a write, its row was written to the log, and after that the log was synced.

`replay` records every write, truncation and sync of the database and its log.
After each of them it rebuilds what a disk may hold if the power fails there:
all that was synced, and of what was not any part, whole or torn into sectors.
Each must be sound and hold all that was answered by then.

    cargo build --release && python3 tests/faults/power.py [barriers|replay] [USERS]

Takes about a minute with the 150 users of the default."""

import contextlib
import os
import pathlib
import random
import re
import shutil
import sqlite3
import struct
import sys
import tempfile
import threading

from service import DATABASE, Server, make_settings, shim, wait_for

CLIENTS = 4
SECTOR = 512
# Number of states that are drawn of those that a disk may hold at one moment.
DRAWS = 2


def name_of(n):
    return f"power{n:04}"


def address_of(n):
    """Each user's own, so that the row of each sign-in can be told by its text."""
    return f"127.50.{100 + n // 100}.{100 + n % 100}"


def load(server, users, told=lambda what: None):
    """Everyone signs up and in, several at once; `told` hears of each answer."""
    names, lock, wrong = iter(range(users)), threading.Lock(), []

    def work():
        while not wrong:
            with lock:
                n = next(names, None)
            if n is None:
                return
            client = server.client(address_of(n))
            reply = client.register(name_of(n))
            if reply.status == 201:
                told(name_of(n))
                reply = client.sign_in(name_of(n), reply.json()["password"])
            if reply.status == 200:
                told(address_of(n))
            else:
                wrong.append(reply)
            client.close()

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong


LINE = re.compile(r"^(\d+) +\d+\.\d+ (?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))$")


def calls(text):
    """The calls of a log of strace in the order of their ends: name, arguments
    with result, and the numbers of the lines on which they began and ended."""
    begun = {}
    for number, line in enumerate(text.splitlines()):
        if not (found := LINE.match(line)):
            continue
        thread, name, rest, resumed, tail = found.groups()
        if resumed:
            name, rest, began = begun.pop(thread)
            yield name, rest + tail, began, number
        elif rest.endswith("<unfinished ...>"):
            begun[thread] = (name, rest.removesuffix("<unfinished ...>"), number)
        else:
            yield name, rest, number, number


def barriers(users):
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        make_settings(folder)
        out = pathlib.Path(folder) / "strace.txt"
        traced = "read,recvfrom,write,pwrite64,writev,sendto,sendmsg,fsync,fdatasync"
        strace = f"strace -f -ttt -yy -s 65536 -e trace={traced} -e signal=none -o {out}"
        with Server(folder, wrap=strace.split()) as server:
            wait_for("both keys", lambda: "a new expired key" in server.log())
            load(server, users)
            server.stop()
        return check_barriers(out.read_text(errors="replace"), users)


def check_barriers(text, users):
    written, syncs, asked, answers = {}, [], {}, []
    markers = re.compile(r"power\d{4}|127\.50\.\d{3}\.\d{3}")
    for name, rest, began, ended in sorted(calls(text), key=lambda call: call[2]):
        file = rest.split(">", 1)[0]
        if file.endswith(f"{DATABASE}-wal"):
            if "sync" in name:
                assert re.search(r"\) += 0$", rest), f"{name}({rest}"
                syncs.append((began, ended))
            else:
                for marker in markers.findall(rest):
                    written.setdefault(marker, ended)
        elif peer := re.search(r"->(127\.50\.\d+\.\d+):\d+\]", rest.split(",", 1)[0]):
            # A sign-in's row is told by the address. The body may come apart from the head.
            if "POST /auth " in rest:
                asked[peer[1]] = peer[1]
            elif peer[1] not in asked and (body := re.search(r"power\d{4}", rest)):
                asked[peer[1]] = body[0]
            elif found := re.search(r"HTTP/1\.1 (\d+)", rest):
                what = asked.pop(peer[1])
                # `load` allows a refusal only where it may ask again.
                if found[1] != "503":
                    assert found[1] in ("200", "201"), rest
                    answers.append((what, began))
    assert len(answers) == 2 * users, f"{len(answers)} answers were seen, not {2 * users}"
    for marker, answered in answers:
        at = written.get(marker, answered)
        assert at < answered, f"{marker} was answered before it was written to the log"
        kept = any(at < begin and end < answered for begin, end in syncs)
        assert kept, f"{marker} was answered before it was synced"
    return f"{len(answers)} answers after their sync, {len(syncs)} syncs of the log"


class Disk:
    """A file as the disk has it for sure, and what may or may not be there."""

    def __init__(self):
        self.sure, self.pending, self.begun = bytearray(), [], 0

    def change(self, kind, offset, data):
        self.pending.append((kind, offset, data))

    def delete(self):
        """A file system keeps the order of names; it may not go back on them."""
        self.__init__()

    def sync_begins(self):
        self.begun = len(self.pending)

    def sync_ends(self):
        for change in self.pending[: self.begun]:
            apply(self.sure, *change)
        del self.pending[: self.begun]
        self.begun = 0

    def draw(self, rng):
        """One of the files that may be there when the power fails now."""
        file = bytearray(self.sure)
        whole = rng.random()
        for kind, offset, data in self.pending:
            if kind == "t" or rng.random() < 0.5:
                if rng.random() < whole:
                    apply(file, kind, offset, data)
            else:
                for at, piece in sectors(offset, data):
                    if rng.random() < whole:
                        apply(file, kind, at, piece)
        return file


def apply(file, kind, offset, data):
    end = offset + len(data)
    if len(file) < end:
        file.extend(bytes(end - len(file)))
    if kind == "t":
        del file[offset:]
    else:
        file[offset:end] = data


def sectors(offset, data):
    at = offset
    while at < offset + len(data):
        end = min((at // SECTOR + 1) * SECTOR, offset + len(data))
        yield at, data[at - offset : end - offset]
        at = end


def records(trace):
    """The records of disk.c: kind, file, offset, data, and where each ends."""
    at = 0
    while at < len(trace):
        kind, file, offset, length = struct.unpack_from("<ccQQ", trace, at)
        at += 18 + length
        yield kind.decode(), file.decode(), offset, trace[at - length : at], at


def check_draw(folder, files, answered):
    """The database that is found after the power came back."""
    base = folder / "drawn.db"
    for end in ("", "-wal", "-shm", "-journal"):
        pathlib.Path(f"{base}{end}").unlink(missing_ok=True)
    for which, end in (("d", ""), ("w", "-wal"), ("j", "-journal")):
        if files[which]:
            pathlib.Path(f"{base}{end}").write_bytes(files[which])
    with contextlib.closing(sqlite3.connect(base)) as conn:
        check = conn.execute("PRAGMA integrity_check").fetchall()
        assert check == [("ok",)], check[:3]
        found = set()
        if answered:
            for query in ("SELECT username FROM users", "SELECT request_ip FROM auth_logs"):
                found |= {text for (text,) in conn.execute(query)}
    lost = answered - found
    assert not lost, f"lost: {sorted(lost)[:5]}"


def replay(users):
    rng = random.Random(1)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        make_settings(folder)
        trace = folder / "trace"
        env = {"LD_PRELOAD": str(shim()), "FAULT_NAME": DATABASE, "TRACE_FILE": str(trace)}
        answers = []
        with Server(folder, env=env) as server:
            wait_for("both keys", lambda: "a new expired key" in server.log())
            load(server, users, lambda what: answers.append((os.path.getsize(trace), what)))
            server.stop()
        assert len(answers) == 2 * users
        return check_replay(folder, trace.read_bytes(), sorted(answers), rng)
    finally:
        shutil.rmtree(folder)


def check_replay(folder, trace, answers, rng):
    disks = {which: Disk() for which in "dwj"}
    answered, next_answer, points, checkpoints = set(), 0, 0, 0
    for kind, which, offset, data, end in records(trace):
        disk = disks[which]
        if kind == "b":
            disk.sync_begins()
        elif kind == "s":
            disk.sync_ends()
        elif kind == "u":
            disk.delete()
        else:
            disk.change(kind, offset, data)
            checkpoints += which == "d" and bool(answered)
        while next_answer < len(answers) and answers[next_answer][0] <= end:
            answered.add(answers[next_answer][1])
            next_answer += 1
        for _ in range(DRAWS):
            files = {which: disk.draw(rng) for which, disk in disks.items()}
            try:
                check_draw(folder, files, answered)
            except (AssertionError, sqlite3.DatabaseError) as e:
                raise AssertionError(f"power fails at byte {end} of the record: {e}") from e
            points += 1
    assert next_answer == len(answers)
    assert checkpoints, "no checkpoint was among the writes; take more users"
    return f"{points} disks after {len(answers)} answers are sound and have them"


def main():
    parts = {"barriers": barriers, "replay": replay}
    args = sys.argv[1:]
    users = int(args.pop()) if args and args[-1].isdigit() else 150
    failed = False
    for name in args or parts:
        try:
            said = parts[name](users)
        except AssertionError as e:
            failed, said = True, f"FAILED: {e}"
        print(f"{name:10} {said}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
