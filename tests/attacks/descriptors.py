"""With few descriptors connections give way, and sign-ins go on."""

import wire
from report import Victim, close_all

JSON_BODY = b'{"username":"alice","email":"alice@example.com"}'


def run(report, _is_long):
    wrap = ("sh", "-c", 'ulimit -n 64; exec "$0" "$@"')
    with Victim(wrap, AUTH_RATE="1000") as server:
        kept = wire.Http1(server.port, "127.0.7.1")
        password = wire.json.loads(kept.ask("POST", "/register", wire.JSON, body=JSON_BODY).body)["password"]
        body = wire.json.dumps({"username": "alice", "password": password}).encode()
        crowd = [wire.connect(server.port, "127.0.7.2") for _ in range(150)]
        statuses = []
        for n in range(48):
            connection = wire.Http1(server.port, f"127.0.8.{n + 1}")
            answer = connection.ask("POST", "/auth", wire.JSON, body=body)
            statuses.append(answer and answer.status)
        close_all(crowd)
        lines = sum("connection can be accepted" in line for line in server.log().splitlines())
        report.hold("64 descriptors, sign-ins", f"{statuses.count(200)} of 48", statuses.count(200) == 48)
        report.hold("64 descriptors, lines in the log", lines, lines <= 4)
