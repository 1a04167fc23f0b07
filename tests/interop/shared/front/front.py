"""For a server that people put in front: starts it in this folder, and asks it for a page with each token."""

import http.client
import os
import pwd
import socket
import subprocess
import sys
import time
from pathlib import Path


def serve(packages: list, command: list, configuration: str):
    """`command` reads the file `configuration`: what ends in `.in`, with each @NAME@ replaced."""
    # Bound and never listening: nothing else gets the port, but a server that sets SO_REUSEADDR does.
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    port = reserved.getsockname()[1]
    values = {name: os.environ[name] for name in ("ISSUER", "AUDIENCE", "JWKS_URL")}
    values |= {"PORT": str(port), "HERE": str(Path.cwd()), "USER": pwd.getpwuid(os.getuid()).pw_name}
    text = Path(configuration + ".in").read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    Path(configuration).write_text(text)
    # Left by a server that was killed; its number may be another process's by now.
    Path("pid").unlink(missing_ok=True)
    server = subprocess.Popen(command, stdout=sys.stderr)
    while not answers(port):
        if server.poll() is not None:
            sys.exit(f"{command[0]} did not start")
        time.sleep(0.1)
    print("ready", ", ".join(map(version, packages)), flush=True)
    for line in sys.stdin:
        print(verdict(port, line.strip()), flush=True)
    server.terminate()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    except OSError:
        return False


def verdict(port: int, token: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return "ok" if answer.status == 200 else f"no {answer.status} {answer.headers.get('WWW-Authenticate', '')}"
    except OSError as error:
        return f"no {error}"
    finally:
        connection.close()


def version(package: str) -> str:
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}", package]
    return subprocess.check_output(query, text=True)
