#!/usr/bin/env python3
"""What docs/deployment.md says about backups is run as it stands there, on SQLite and on PostgreSQL; and nginx with
two replicas, as compose.yaml has them.

    cargo build --release && python3 tests/docs/run.py

takes about 10 seconds. A user who signed up before the backup signs in after the restore, one who came later is gone,
and the keys are the same."""

import json
import os
import re
import shutil
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


def main() -> None:
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


if __name__ == "__main__":
    main()
