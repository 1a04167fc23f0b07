"""The service and its peers: built, started, stopped."""

import contextlib
import http.client
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "target"
SERVICE = TARGET / "release/jwks-server"
REFERENCES = TARGET / "references/release"
PEER_VENV = TARGET / "peer"
KEY_SET = "/.well-known/jwks.json"
# For a server that never answers; a start is measured in milliseconds.
START_LIMIT = 60


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, **options)


def output(*command, **options):
    return run(*command, stdout=subprocess.PIPE, text=True, **options).stdout


def prepare():
    """Builds and installs everything that is missing."""
    missing = [tool for tool in ("nginx", "wrk", "openssl") if not shutil.which(tool)]
    if missing:
        names = {"nginx": "nginx-light"}
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", *(names.get(tool, tool) for tool in missing),
            stdout=subprocess.DEVNULL)
    run("cargo", "build", "--release", "--locked", cwd=ROOT)
    run("cargo", "build", "--release", "--locked", "--manifest-path",
        ROOT / "benches/references/Cargo.toml", "--target-dir", TARGET / "references")
    if not PEER_VENV.exists():
        run(sys.executable, "-m", "venv", PEER_VENV)
        run(PEER_VENV / "bin/pip", "install", "-q", "-r", ROOT / "benches/peer/requirements.txt")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(port, path=KEY_SET, headers=None):
    """One GET on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


class Server:
    """A started process that serves the key set on `port`."""

    def __init__(self, command, port, cwd, env=None):
        self.port = port
        self.folder = cwd
        self.log = pathlib.Path(cwd) / f"stderr-{port}.log"
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdout=subprocess.DEVNULL,
            stderr=open(self.log, "wb"),
        )
        self.until_up()
        self.start_seconds = time.perf_counter() - self.began

    def until_up(self):
        """Connects as soon as it listens; returns after the first 200 of the key set."""
        status = None
        while time.perf_counter() < self.began + START_LIMIT:
            with contextlib.suppress(ConnectionError):
                status = get(self.port)[0].status
                if status == 200:
                    return
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended with {self.process.returncode}; {self.last_message()}")
            time.sleep(0.0005)
        self.__exit__()
        raise RuntimeError(f"no key set within {START_LIMIT} s, last status {status}; {self.last_message()}")

    def last_message(self):
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return f"its last message: {lines[-1]}" if lines else "it wrote no message"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def cpu_seconds(self):
        """User and system time of the process so far."""
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self):
        """Resident memory of the process and its children."""
        pids = [self.process.pid]
        children = pathlib.Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split()
        total = 0
        for pid in [*pids, *children]:
            for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
        return total / 1024


def service(folder, **settings):
    """The service at its defaults for production, on `folder`'s database."""
    key = folder / "key"
    if not key.exists():
        key.write_text(output(SERVICE, "keygen").strip())
    port = free_port()
    env = {"NOT_MY_KEY": key.read_text(), "PORT": str(port), "HOST": "127.0.0.1", "REGISTER_RATE": "1000",
           "APP_ENV": "production", **{name: str(value) for name, value in settings.items()}}
    return Server([SERVICE], port, folder, env)


def peer(folder):
    """The Flask peer under gunicorn with two workers."""
    key = folder / "key"
    if not key.exists():
        key.write_text(output(SERVICE, "keygen").strip())
    shutil.copy(ROOT / "benches/peer/server.py", folder / "server.py")
    port = free_port()
    command = [PEER_VENV / "bin/gunicorn", "--preload", "-w", "2", "-b", f"127.0.0.1:{port}", "server:app"]
    return Server(command, port, folder, {"NOT_MY_KEY": key.read_text()})


def nginx(folder, answer, body):
    """nginx with the same body as a static file and the same headers of ours."""
    port = free_port()
    file = folder / "www" / KEY_SET.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(body)
    ours = {name: answer.getheader(name) for name in
            ("cache-control", "access-control-allow-origin", "x-content-type-options")}
    headers = "\n".join(f'add_header {name} "{value}";' for name, value in ours.items())
    paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temp = "\n".join(f"{name}_temp_path {folder}/{name};" for name in paths)
    (folder / "nginx.conf").write_text(f"""
        worker_processes 2; daemon off; pid {folder}/pid; error_log {folder}/error.log;
        user root;
        events {{ worker_connections 1024; }}
        http {{
            access_log off; keepalive_requests 1000000000; server_tokens off;
            sendfile on; tcp_nopush on; open_file_cache max=100; {temp}
            server {{
                listen 127.0.0.1:{port};
                location = {KEY_SET} {{
                    root {folder}/www; types {{}} default_type application/json;
                    {headers} add_header x-request-id $request_id;
                }}
            }}
        }}""")
    return Server(["nginx", "-c", folder / "nginx.conf"], port, folder)


def raw_answer(port, path=KEY_SET):
    """The very bytes of an answer."""
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        got = b""
        while True:
            got += s.recv(65536)
            head, end, body = got.partition(b"\r\n\r\n")
            if end:
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                if len(body) == length:
                    return got


def reference(name, folder, content):
    """A server of benches/references that answers with `content`."""
    file = folder / name
    file.write_bytes(content)
    port = free_port()
    return Server([REFERENCES / name, port, file], port, folder)
