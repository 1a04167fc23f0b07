"""Virtual machines stand still for seconds at a time while the clock goes on. What a run measures is taken less
such times.

They are told from outside the server: a clock thread was late, and meanwhile no core worked for anyone, as
/proc/stat counts it (time that the hypervisor stole is not work). A server that takes all cores makes the clock
thread late as well, but that is work, and no excuse."""

import threading
import time

TICK = 0.05
# A shorter standstill is not told from an ordinary late tick.
LEAST = 0.5
# For how long afterwards the server may think that hashes are slow, since one of
# them seemed to be.
AFTERMATH = 10.0
# Most repetitions of a request that the hashing queue refused.
AGAIN = 3


def worked():
    """For how many seconds all cores together have worked since the machine was started."""
    with open("/proc/stat", encoding="ascii") as stat:
        fields = [int(field) for field in stat.readline().split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, *_steal = fields  # proc(5), hundredths of a second
    return (user + nice + system + irq + softirq) / 100


class Ticker(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.lock, self.spans = threading.Lock(), []
        self.last = time.monotonic(), worked()

    def run(self):
        while True:
            time.sleep(TICK)
            self.tick()

    def tick(self):
        with self.lock:
            now = time.monotonic(), worked()
            late = now[0] - self.last[0] - TICK
            stood = late - (now[1] - self.last[1])
            if stood > LEAST:
                self.spans.append((now[0] - stood, now[0]))
            self.last = now

    def lengths(self, began, ended):
        # The thread that asks may be the first to run again.
        self.tick()
        with self.lock:
            return [max(0.0, min(ended, to) - max(began, at)) for at, to in self.spans]


_ticker = Ticker()
_ticker.start()


def between(began, ended):
    """For how many seconds the machine stood still, between two times of time.monotonic()."""
    return sum(_ticker.lengths(began, ended))


def since(began):
    return between(began, time.monotonic())


def count(began, least):
    """Number of times that the machine has stood still since `began`, for `least` seconds or more."""
    return sum(length >= least for length in _ticker.lengths(began, time.monotonic()))


def elapsed(began):
    """The seconds since `began` in which the machine did not stand still."""
    now = time.monotonic()
    return now - began - between(began, now)


def excuses(status, body, began):
    """True when an answer to a request of `began` is that of a full queue, and may be
    so since the machine stood still: a password that has waited for two seconds is refused."""
    return status == 503 and b"too many passwords" in body and since(began - AFTERMATH) > 0


def patiently(ask):
    """The reply to `ask`, which is asked again when it is excused, and only then."""
    for _ in range(AGAIN):
        began = time.monotonic()
        reply = ask()
        if not excuses(reply.status, reply.body, began):
            return reply
        time.sleep(int(reply.headers["Retry-After"]))
    return ask()
