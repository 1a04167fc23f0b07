"""Moves from another issuer to this service and back, under the eyes of verifiers that refuse nothing.

    cargo build --release && python3 tests/moving/run.py [oidc-provider|earlier]

The verifiers, PyJWT and jose, fetch the key set at one address, behind which a front sends them to the issuer whose
turn it is. A token is fetched every 100 ms and shown to both at once, and again every second until it expires. The
steps are those of docs/moving.md. Tools: those of tests/verifiers, which installs them, and npm.
"""

import argparse
import base64
import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness.server import JWKS, ROOT, Process, binary, free_port, sealing_key

HERE = Path(__file__).resolve().parent
VERIFIERS = ROOT / "target" / "verifiers"
ISSUERS = ("oidc-provider", "earlier")
AUDIENCE = "https://api.example"
LIFE = 6  # seconds, of tokens
HELD = 1  # seconds for which verifiers hold a key set


class Front:
    """The one address of the key set."""

    def __init__(self):
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                host, path = front.target
                connection = http.client.HTTPConnection(host, timeout=5)
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.target = ("", "")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Verifier:
    """A verifier of another maker, line by line."""

    def __init__(self, name, command, folder):
        self.name, self.seen, self.refusals = name, 0, []
        self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def show(self, token):
        self.process.stdin.write(token + "\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline().strip()
        self.seen += 1
        if said != "ok":
            self.refusals.append(f"{said}: {claims(token)}")


def claims(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def post(port, path, body, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, (answer.status, text)
    return json.loads(text)


def basic(password):
    return {"Authorization": "Basic " + base64.b64encode(f"alice:{password}".encode()).decode()}


class Move:
    def __init__(self, front, verifiers):
        self.front, self.verifiers = front, verifiers
        self.tokens, self.counts = [], {}
        self.sign_in, self.issuer = None, None
        self.stop = False
        self.failure = None
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        """A fresh token every 100 ms, and all live ones every second."""
        again = time.monotonic()
        try:
            while not self.stop:
                issuer, sign_in = self.issuer, self.sign_in
                token = sign_in()
                self.counts[issuer] = self.counts.get(issuer, 0) + 1
                self.tokens.append(token)
                shown = [token]
                if time.monotonic() > again + 1:
                    again = time.monotonic()
                    # One that expires while it is shown is refused rightly.
                    self.tokens = [it for it in self.tokens if claims(it)["exp"] > time.time() + 1]
                    shown = self.tokens
                for token in shown:
                    for verifier in self.verifiers:
                        if claims(token)["exp"] > time.time() + 0.3:
                            verifier.show(token)
                time.sleep(0.1)
        except Exception as e:
            self.failure = e

    def turn(self, issuer, sign_in):
        self.issuer, self.sign_in = issuer, sign_in


def wait_until(what, holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def kids(address, path):
    connection = http.client.HTTPConnection(address, timeout=5)
    connection.request("GET", path)
    return [key["kid"] for key in json.loads(connection.getresponse().read())["keys"]]


def install():
    subprocess.run([ROOT / "tests" / "verifiers" / "install.sh"], check=True)
    into = ROOT / "target" / "moving"
    lock = HERE / "package-lock.json"
    into.mkdir(parents=True, exist_ok=True)
    installed = into / "installed.json"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, into / name)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=into, check=True)
        shutil.copy(lock, installed)
    return into


def hashed(password):
    """A bcrypt hash, as the other issuer's table of accounts may have it."""
    code = "import sys, crypt; print(crypt.crypt(sys.argv[1], crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))"
    return subprocess.check_output([sys.executable, "-W", "ignore", "-c", code, password], text=True).strip()


def move(kind, modules, folder):
    front, port = Front(), free_port()
    arguments = [str(port), front.address, AUDIENCE, str(LIFE)]
    if kind == "oidc-provider":
        command, old_path, token_path = ["node", str(HERE / "oidc_issuer.mjs")], "/jwks", "/token"
    else:
        command, old_path, token_path = [str(VERIFIERS / "venv/bin/python"), str(HERE / "earlier_server.py")], JWKS, "/auth"
    old = subprocess.Popen([*command, *arguments], cwd=modules, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    verifiers = []
    try:
        while (line := old.stdout.readline().strip()) != "ready":
            assert old.poll() is None, f"the other issuer does not start: {line}"
        old_address = f"127.0.0.1:{port}"
        front.target = (old_address, old_path)
        given = [front.address + "/keys", str(HELD), front.address, AUDIENCE]
        tests = ROOT / "tests" / "verifiers"
        python = [str(VERIFIERS / "venv/bin/python"), str(tests / "pyjwt_verifier.py"), *given]
        node = ["node", str(tests / "jose_verifier.mjs"), *given]
        verifiers = [Verifier("PyJWT", python, folder), Verifier("jose", node, VERIFIERS / "node")]
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        run = Move(front, verifiers)
        at_old = lambda: post(port, token_path, "grant_type=client_credentials&scope=api", form | basic("secret"))["access_token"]
        run.turn("other", at_old)
        run.thread.start()
        wait_until("tokens of the other issuer", lambda: run.counts.get("other", 0) > 10)
        environment = {
            "NOT_MY_KEY": sealing_key(), "PORT": "0", "ISSUER": front.address, "AUDIENCE": AUDIENCE, "AUTH_RATE": "1000",
            "TOKEN_LIFETIME": f"{LIFE}s", "KEY_LIFETIME": "5m", "KEY_LEAD": "2s", "CLOCK_SKEW": "1s", "JWKS_MAX_AGE": f"{HELD}s",
        }  # fmt: skip

        def command_line(*arguments, fed=None):
            done = subprocess.run([binary(), *arguments], cwd=folder, env=environment, input=fed, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout

        with Process(folder, environment) as server:
            new_address = f"127.0.0.1:{server.port}"
            wait_until("the first key", lambda: len(kids(new_address, JWKS)) > 0)
            # 1: the accounts, with their passwords.
            (folder / "accounts").write_text(json.dumps({"username": "alice", "password_hash": hashed("secret")}) + "\n")
            command_line("users", "import", "accounts")
            at_new = lambda: post(server.port, "/auth", "", basic("secret"))["token"]
            # 2: the keys; 3: the address of the key set.
            began = time.monotonic()
            command_line("keys", "adopt", f"http://{old_address}{old_path}", "--until", "1h", "--reason", "moving here")
            old_kids = set(kids(old_address, old_path))
            wait_until("the other issuer's keys", lambda: old_kids <= set(kids(new_address, JWKS)))
            followed = time.monotonic() - began
            front.target = (new_address, JWKS)
            time.sleep(2 * HELD)
            # 4: the sign-ins. 5: the keys leave when the last token has expired.
            run.turn("this service", at_new)
            time.sleep(1)
            command_line("keys", "adopt", f"http://{old_address}{old_path}", "--until", f"{LIFE + 1}s", "--reason", "the end")
            wait_until("the keys to leave", lambda: not old_kids & set(kids(new_address, JWKS)))
            # Back: the other issuer's keys once more, sign-ins there, and the key set last.
            command_line("keys", "adopt", f"http://{old_address}{old_path}", "--until", "1h", "--reason", "moving back")
            wait_until("the other issuer's keys", lambda: old_kids <= set(kids(new_address, JWKS)))
            time.sleep(2 * HELD)
            run.turn("other", at_old)
            time.sleep(LIFE + 2)
            front.target = (old_address, old_path)
            time.sleep(2 * HELD + 1)
            run.stop = True
            run.thread.join(30)
            assert not server.errors(), server.errors()
    finally:
        for process in [old, *(verifier.process for verifier in verifiers)]:
            process.kill()
    assert run.failure is None, run.failure
    refusals = sum(len(verifier.refusals) for verifier in verifiers)
    shown = ", ".join(f"{verifier.name} {verifier.seen}" for verifier in verifiers)
    print(
        f"{kind}: {run.counts['other']} tokens of it, {run.counts['this service']} of this service; "
        f"shown {shown}; refused {refusals}; the keys followed after {followed:.2f} s"
    )
    for verifier in verifiers:
        for refusal in verifier.refusals[:5]:
            print(f"  {verifier.name}: {refusal}")
    return refusals == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("issuer", nargs="?", choices=ISSUERS)
    asked, modules = parser.parse_args().issuer, install()
    good = True
    for kind in [asked] if asked else ISSUERS:
        with tempfile.TemporaryDirectory() as folder:
            good &= move(kind, modules, Path(folder))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
