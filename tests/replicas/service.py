"""Three replicas of the service behind a round-robin nginx."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from harness.server import JWKS, PATIENCE, Process, binary, sealing_key  # noqa: E402
from harness.postgres import DATABASE, USER, free_port  # noqa: E402

# The balancer asks another replica when one is gone, and for a GET also when one is not ready.
NGINX = """daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream replicas {{ {servers} }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://replicas;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_next_upstream error timeout http_503;
    }}
  }}
}}
"""
# Seconds that verifiers hold the key set; the table of verifiers asks for it here too.
MAX_AGE = 3
# What a client gets when there is no answer: the service's process is gone, and nginx may say so.
LOST = 0


class Answer:
    def __init__(self, status: int, headers=None, body: bytes = b""):
        self.status, self.headers, self.body = status, headers or {}, body

    def json(self):
        return json.loads(self.body)


def ask(port: int, path: str, body: dict | None = None, address: str | None = None, timeout: float = 30) -> Answer:
    """An answer; its status is LOST when the connection was. `address` is the client's."""
    headers = {"X-Forwarded-For": address} if address else {}
    data = None
    if body is not None:
        data = json.dumps(body)
        headers["Content-Type"] = "application/json"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET" if data is None else "POST", path, data, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    except TimeoutError:
        return Answer(-1)
    except (OSError, http.client.HTTPException):
        return Answer(LOST)
    finally:
        connection.close()


def url(ports: list[int], database: str = DATABASE) -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgres://{USER}@{hosts}/{database}"


class Replicas:
    """`urls`: the DATABASE_URL of each; `port`: the balancer's, one of its own by default."""

    def __init__(self, folder: Path, urls: list[str], port: int | None = None, **settings: str):
        self.folder = folder
        self.environment = {
            "NOT_MY_KEY": sealing_key(), "HOST": "127.0.0.1", "TRUSTED_PROXIES": "127.0.0.0/8", "NO_COLOR": "1",
        } | settings  # fmt: skip
        self.urls = urls
        self.ports = [free_port() for _ in urls]
        self.port = port or free_port()
        self.running: list[Process | None] = [None for _ in urls]
        self.balancer = None

    def start(self, index: int):
        own = self.folder / f"replica{index}"
        own.mkdir(exist_ok=True)
        more = {"DATABASE_URL": self.urls[index], "PORT": str(self.ports[index])}
        self.running[index] = Process(own, self.environment | more, ["serve"], log=own / "log")

    def kill(self, index: int):
        self.running[index].kill()

    def signal(self, index: int, number: int):
        os.kill(self.running[index].process.pid, number)

    def command(self, *arguments: str) -> str:
        """An operator's command, given on the machine of the first replica."""
        environment = self.environment | {"DATABASE_URL": self.urls[0]}
        done = subprocess.run(
            [binary(), *arguments], cwd=self.folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def emergency(self):
        self.command("keys", "rotate", "--now", "--reason", "drill", "--yes")

    def key_set(self, index: int) -> Answer:
        return ask(self.ports[index], JWKS)

    def kids(self, index: int) -> set[str]:
        return {key["kid"] for key in self.key_set(index).json()["keys"]}

    def etags(self) -> list[str | None]:
        return [self.key_set(index).headers.get("ETag") for index in range(len(self.ports))]

    def until_equal(self, within: float) -> float:
        """Seconds until all have the same key set."""
        began = time.monotonic()
        while None in (tags := set(self.etags())) or len(tags) > 1:
            assert time.monotonic() < began + within, f"the key sets differ: {tags}"
            time.sleep(0.02)
        return time.monotonic() - began

    def until(self, index: int, path: str, status: int, within: float = PATIENCE) -> float:
        """Seconds until the replica answers so."""
        began = time.monotonic()
        while (got := ask(self.ports[index], path).status) != status:
            assert time.monotonic() < began + within, f"{path} of {index} is {got} after {within} s\n{self.logs()}"
            time.sleep(0.02)
        return time.monotonic() - began

    def until_ready(self, within: float = PATIENCE) -> float:
        return max(self.until(index, "/readyz", 200, within) for index in range(len(self.ports)))

    def logs(self) -> str:
        return "".join(f"replica {n}:\n{run.log()[-1500:]}\n" for n, run in enumerate(self.running) if run)

    def still_the_same(self) -> bool:
        """None of the processes has ended."""
        return all(run.process.poll() is None for run in self.running)

    def stop(self):
        """They must stop cleanly, and may have said nothing of a panic."""
        for index, run in enumerate(self.running):
            assert "panicked" not in run.log_file.read_text(errors="replace"), self.logs()
            run.stop()

    def __enter__(self) -> "Replicas":
        for index in range(len(self.urls)):
            self.start(index)
        servers = " ".join(f"server 127.0.0.1:{port} max_fails=1 fail_timeout=1s;" for port in self.ports)
        file = self.folder / "nginx.conf"
        file.write_text(NGINX.format(folder=self.folder, servers=servers, port=self.port))
        self.balancer = subprocess.Popen(["nginx", "-c", file], stderr=subprocess.DEVNULL)
        self.until_ready()
        ends = time.monotonic() + PATIENCE
        while ask(self.port, JWKS).status != 200:
            assert time.monotonic() < ends, "nginx does not answer"
            time.sleep(0.02)
        return self

    def __exit__(self, *_):
        if self.balancer:
            self.balancer.terminate()
            self.balancer.wait()
        for run in filter(None, self.running):
            with contextlib.suppress(ProcessLookupError):
                os.kill(run.process.pid, 9)
            run.kill()
