#!/usr/bin/env python3
"""What docs/deployment.md says about backups, on SQLite and on PostgreSQL, the start behind a proxy and three replicas
are run as they stand there; and nginx with two replicas, as compose.yaml has them.

    cargo build --release && python3 tests/docs/run.py

takes about 15 seconds. A user who signed up before the backup signs in after the restore, one who came later is gone,
and the keys are the same."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from harness import postgres  # noqa: E402
from harness.left_out import left_out  # noqa: E402
from harness.server import DATABASE, JWKS, PATIENCE, ROOT, Process, binary, free_port, sealing_key  # noqa: E402

PAGE = (ROOT / "docs/deployment.md").read_text()


def command_blocks(heading: str) -> list[str]:
    """The commands under a heading, block by block."""
    section = re.search(rf"^## {heading}\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)[1]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def ask(port: int, path: str, body: dict | None = None) -> tuple[int, dict]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def sign_up(port: int, name: str) -> dict:
    status, answer = ask(port, "/register", {"username": name, "email": f"{name}@example.com"})
    assert status == 201, answer
    return {"username": name, "password": answer["password"]}


def back_up_and_restore(name: str, folder: Path, settings: dict, save: str, restore: str, lose) -> None:
    environment = settings | {"NOT_MY_KEY": sealing_key(), "HOST": "127.0.0.1", "PORT": "0"}
    (folder / "bin").mkdir()
    (folder / "bin/jwks-server").symlink_to(binary())
    path = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}

    def run(commands: str) -> None:
        subprocess.run(["bash", "-euxc", commands], cwd=folder, env=environment | path, check=True, stdout=subprocess.DEVNULL)

    with Process(folder, environment) as service:
        early = sign_up(service.port, "early")
        _, keys = ask(service.port, JWKS)
        run(save)
        late = sign_up(service.port, "late")
        service.stop()
    lose()
    run(restore)
    with Process(folder, environment) as service:
        assert ask(service.port, JWKS) == (200, keys)
        assert ask(service.port, "/auth", early)[0] == 200
        assert ask(service.port, "/auth", late)[0] == 401
        service.stop()
    print(f"ok    {name}: backup and restore")


@contextmanager
def database():
    """The DATABASE_URL of a server with a database that is thrown away."""
    folder = postgres.folder()
    with postgres.Server(folder, "primary").create() as server:
        server.start().create_database()
        yield f"postgres://{postgres.USER}@127.0.0.1:{server.port}/{postgres.DATABASE}"
    shutil.rmtree(folder)


def replicas_behind_nginx(url: str, folder: Path) -> None:
    """Both answer, and when one ends the other does."""
    environment = {
        "NOT_MY_KEY": sealing_key(), "DATABASE_URL": url, "TRUSTED_PROXIES": "127.0.0.1", "HOST": "127.0.0.1", "PORT": "0",
    }  # fmt: skip
    port = free_port()
    with Process(folder, environment) as one, Process(folder, environment) as two:
        text = (ROOT / "docs/examples/nginx-replicas.conf").read_text()
        changes = {"one:8080": f"127.0.0.1:{one.port}", "two:8080": f"127.0.0.1:{two.port}", "listen 80;": f"listen 127.0.0.1:{port};"}
        for old, new in changes.items():
            assert old in text, old
            text = text.replace(old, new)
        paths = "".join(f"{kind}_temp_path {folder}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        around = f"daemon off; pid {folder}/pid; error_log {folder}/log; events {{}}\nhttp {{ access_log off; {paths}\n{text}}}\n"
        (folder / "nginx.conf").write_text(around)
        nginx = subprocess.Popen(["nginx", "-c", folder / "nginx.conf"], stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + PATIENCE
            while not (folder / "pid").exists():
                assert time.monotonic() < end and nginx.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
            alice = sign_up(port, "alice")
            for _ in range(4):
                assert ask(port, "/auth", alice)[0] == 200
            one.stop()
            for _ in range(4):
                assert ask(port, "/auth", alice)[0] == 200
            two.stop()
        finally:
            nginx.terminate()
            nginx.wait()
    print("ok    nginx with two replicas")


def in_a_checkout(commands: str, folder: Path, environment: dict) -> subprocess.Popen:
    """A shell that runs them where `./target/release/jwks-server` is the binary; with the servers that it starts it is a group
    of processes, which write to the file `output`."""
    (folder / "target/release").mkdir(parents=True)
    (folder / "target/release/jwks-server").symlink_to(binary())
    with open(folder / "output", "wb") as out:
        return subprocess.Popen(
            ["bash", "-euc", commands], cwd=folder, env={"PATH": os.environ["PATH"]} | environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip


def behind_a_proxy(folder: Path) -> None:
    (command,) = command_blocks("Behind a proxy")
    port = free_port()
    shell = in_a_checkout(command, folder, {"NOT_MY_KEY": sealing_key(), "PORT": str(port)})
    try:
        wait = ["curl", "-sfo", "/dev/null", "--retry", "20", "--retry-delay", "1", "--retry-connrefused", f"http://127.0.0.1:{port}/readyz"]
        assert subprocess.run(wait).returncode == 0, (folder / "output").read_text()
        sign_up(port, "alice")
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
    assert shell.wait(PATIENCE) == 0, (folder / "output").read_text()
    print("ok    the command for use behind a proxy")


def three_replicas(url: str, folder: Path) -> None:
    """One sign-up, and one key set at all three."""
    (commands,) = command_blocks("Several replicas")
    ports = [str(free_port()) for _ in range(3)]
    changes = {"postgres://jwks@localhost/jwks PGPASSWORD=...": url} | dict(zip(("8081", "8082", "8083"), ports))
    for old, new in changes.items():
        assert old in commands, old
        commands = commands.replace(old, new)
    shell = in_a_checkout(commands, folder, {})
    try:
        code = shell.wait(PATIENCE)
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
    output = (folder / "output").read_text()
    assert code == 0 and '{"password":"' in output, output
    tags = re.findall(r"^etag: .*", output, re.MULTILINE)
    assert len(tags) == 3 and len(set(tags)) == 1, output
    print("ok    three replicas by the commands of the page")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:
        behind_a_proxy(Path(folder))
    save, restore, dump, load = command_blocks("Backup and restore")
    with tempfile.TemporaryDirectory(prefix="docs-") as name:
        folder = Path(name)

        def lose() -> None:
            (folder / DATABASE).unlink()

        back_up_and_restore("SQLite", folder, {}, save, restore, lose)
    if not postgres.programs() or not shutil.which("nginx"):
        print(left_out("docs: PostgreSQL", "PostgreSQL or nginx is not installed"))
        return
    with database() as url, tempfile.TemporaryDirectory(prefix="docs-") as folder:
        drop = 'DROP SCHEMA public CASCADE; CREATE SCHEMA public'
        back_up_and_restore(
            "PostgreSQL", Path(folder), {"DATABASE_URL": url}, dump, load,
            lambda: subprocess.run(["psql", "--quiet", "--command", drop, url], check=True, stderr=subprocess.DEVNULL),
        )  # fmt: skip
    with database() as url, tempfile.TemporaryDirectory(prefix="docs-") as folder:
        replicas_behind_nginx(url, Path(folder))
    with database() as url, tempfile.TemporaryDirectory(prefix="docs-") as folder:
        three_replicas(url, Path(folder))


if __name__ == "__main__":
    main()
