#!/usr/bin/env python3
"""What `jwks-server check` warns of at issuers that others wrote, felt by clients that others wrote.

    python3 tests/trial/issuers_reproduced.py [NAME...]

For each warning of `issuers.py`, a client meets the issuer itself and fails, or pays; through a relay that mends that one
thing it does not. Needs what `issuers.py` needs (not the release binary), `python3 tests/interop/run.py --install` before,
and Debian's nginx, curl and chromium; installs @hapi/jwt into target/issuers. Ends with 1 when an outcome is another.
"""

import base64
import functools
import hashlib
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "interop")]

import issuers
import verifiers

HAPI = """import Hapi from '@hapi/hapi';
import Jwt from '@hapi/jwt';
const server = Hapi.server();
await server.register(Jwt);
const validate = () => ({ isValid: true });
server.auth.strategy('jwt', 'jwt', { keys: { uri: process.argv[2] }, verify: { aud: false, iss: false, sub: false }, validate });
await server.initialize();
process.exit();
"""
PAGE = """<title>nothing</title><script type=module>
import { createRemoteJWKSet } from '/jose/index.js';
const keys = createRemoteJWKSet(new URL(decodeURIComponent(location.search.slice(1))));
keys.reload().then(() => (document.title = 'read'), (e) => (document.title = e));
</script>"""
NGINX = """daemon off; master_process off; pid {folder}/pid; error_log {folder}/error;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2;
  fastcgi_temp_path {folder}/3; uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  proxy_cache_path {folder}/cache keys_zone=sets:1m;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {site}; proxy_cache sets; add_header Cache $upstream_cache_status always;
    }}
  }}
}}
"""
NGINX_PORT = 8817


def asked(url: str, method: str = "GET", body: dict | None = None, headers: dict | None = None):
    """Status, headers and body, of a redirection too."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    form = urllib.parse.urlencode(body) if body else None
    kind = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
    connection.request(method, f"{parts.path}?{parts.query}".rstrip("?"), form, kind | (headers or {}))
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


@contextmanager
def served(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Quiet(BaseHTTPRequestHandler):
    def answer(self, status: int, headers: dict, body: bytes):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 304:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def relay(url: str, headers: dict | None = None, members: dict | None = None, head: bool = False, etag: bool = False):
    """The key set as it is, but for what is mended; and the list of requests."""
    requests = []

    class Relay(Quiet):
        def do_GET(self):
            requests.append(self.command)
            status, found, body = asked(url, "GET" if head else self.command)
            kept = {name: found[name] for name in ("Content-Type", "Cache-Control", "ETag", "Location") if found[name]}
            if members:
                body = json.dumps({"keys": [members | key for key in json.loads(body)["keys"]]}).encode()
            if etag:
                kept["ETag"] = f'"{hashlib.sha256(body).hexdigest()}"'
                status = 304 if self.headers["If-None-Match"] == kept["ETag"] else status
            self.answer(status, kept | (headers or {}), body)

        do_HEAD = do_GET

    with served(Relay) as site:
        yield site + "/jwks", requests


# Each says what a client got at the URL of a key set.


def by_nginx(url: str) -> str:
    """What its cache says of three requests."""
    parts = urllib.parse.urlsplit(url)
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder) / "nginx.conf"
        conf.write_text(NGINX.format(folder=folder, port=NGINX_PORT, site=f"http://{parts.netloc}"))
        nginx = subprocess.Popen(["nginx", "-e", f"{folder}/error", "-c", str(conf)], stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                try:
                    said = [asked(f"http://127.0.0.1:{NGINX_PORT}{parts.path}")[1]["Cache"] for _ in range(3)]
                    return " ".join(said).lower()
                except ConnectionError:
                    time.sleep(0.1)
            return "nginx did not start"
        finally:
            nginx.terminate()
            nginx.wait()


def by_curl(url: str) -> str:
    """Whether a second request with the ETag of the first one transfers the set again."""
    with tempfile.TemporaryDirectory() as folder:
        first = ["curl", "-s", "-o", f"{folder}/set", "--etag-save", f"{folder}/etag", url]
        subprocess.run(first, check=True, timeout=60)
        again = ["curl", "-s", "-o", f"{folder}/again", "-w", "%{http_code}, %{size_download} bytes"]
        again += ["--etag-compare", f"{folder}/etag", url]
        said = subprocess.run(again, check=True, timeout=60, capture_output=True, text=True).stdout
    return "200, the set again" if said.startswith("200") and not said.endswith(", 0 bytes") else said


def by_curl_head(url: str) -> str:
    said = subprocess.run(["curl", "-sI", url], check=True, timeout=60, capture_output=True, text=True).stdout.splitlines()
    return ", ".join([said[0].split()[1], *(line for line in said if line.startswith("Location:"))])


def by_browser(url: str) -> str:
    """jose in a page of another origin."""
    library = verifiers.INTO / "node-jose" / "node_modules" / "jose" / "dist" / "webapi"

    class Page(Quiet):
        def do_GET(self):
            path = urllib.parse.urlsplit(self.path).path
            if path == "/":
                return self.answer(200, {"Content-Type": "text/html"}, PAGE.encode())
            file = library / path.removeprefix("/jose/")
            if not file.is_file():
                return self.answer(404, {}, b"")
            self.answer(200, {"Content-Type": "text/javascript"}, file.read_bytes())

    with served(Page) as site, tempfile.TemporaryDirectory() as folder:
        command = ["chromium", "--headless=new", "--no-sandbox", f"--user-data-dir={folder}", "--virtual-time-budget=10000"]
        command += ["--dump-dom", f"{site}/?{urllib.parse.quote(url, safe='')}"]
        page = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    return page.partition("<title>")[2].partition("</title>")[0]


def by_hapi(url: str) -> str:
    """@hapi/jwt 3.2.4, which reads the set when it starts."""
    folder = issuers.INTO / "hapi-jwt"
    if not (folder / "ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "main.mjs").write_text(HAPI)
        install = issuers.NPM + "@hapi/jwt@3.2.4 @hapi/hapi@21"
        subprocess.run(install.split(), cwd=folder, check=True, timeout=600, stdout=subprocess.DEVNULL)
        (folder / "ready").touch()
    done = subprocess.run(["node", "main.mjs", url], cwd=folder, capture_output=True, text=True, timeout=60)
    return "starts" if done.returncode == 0 else next(line for line in done.stderr.splitlines() if "Error" in line)


def by_python_jose(url: str) -> str:
    """`jwk.construct` on each key, as many examples have it."""
    code = "import json, sys; from jose import jwk; [jwk.construct(key) for key in json.load(sys.stdin)['keys']]"
    python = verifiers.INTO / "python-python-jose" / "venv" / "bin" / "python"
    done = subprocess.run([python, "-c", code], input=asked(url)[2], capture_output=True, timeout=60)
    return "takes it" if done.returncode == 0 else done.stderr.decode().strip().splitlines()[-1]


def verdicts(folder: str, url: str, token: str, wait: float | None = None) -> str:
    """A verifier of tests/interop, once, or twice with some seconds between."""
    payload = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    audience = payload["aud"] if isinstance(payload["aud"], str) else payload["aud"][0]
    environment = {"JWKS_URL": url, "ISSUER": payload["iss"], "AUDIENCE": audience}
    command = verifiers.KINDS[verifiers.kind_of(folder)][2]
    running = verifiers.Running(verifiers.Verifier(folder), command, environment)
    running.ready()
    said = running.verdict(token)
    if wait is not None and said == "ok":
        time.sleep(wait)
        said = running.verdict(token)
    running.stop()
    return said


def token_of(issuer: str, headers: dict) -> str:
    """By client credentials."""
    form = {"grant_type": "client_credentials", "aud": "api"}
    discovery = json.loads(asked(issuer + "/.well-known/openid-configuration")[2])
    return json.loads(asked(discovery["token_endpoint"], "POST", form, headers)[2])["access_token"]


def by_jwx(url: str, token: str) -> str:
    return verdicts("go-jwx", url, token)


def by_jose4j(url: str, token: str) -> str:
    """How often it fetches the set for two tokens with two seconds between."""
    with relay(url) as (counted, requests):
        said = verdicts("java-jose4j", counted, token, 2)
    return f"{said}, fetches in 2 s: {len(requests)}"


CACHE = {"headers": {"Cache-Control": "public, max-age=300"}}
A_SECOND = {"headers": {"Cache-Control": "public, max-age=1"}}
CORS = {"headers": {"Access-Control-Allow-Origin": "*"}}
# The warning, the client, what it gets at the issuer, and at the relay that mends so.
NO_CACHE = ("Cache-Control", by_nginx, "miss miss miss", CACHE, "miss hit hit")
NO_MAX_AGE = ("Cache-Control", by_jose4j, "ok, fetches in 2 s: 1", A_SECOND, "ok, fetches in 2 s: 2")
NO_ETAG = ("ETag", by_curl, "200, the set again", {"etag": True}, "304, 0 bytes")
NO_CORS = ("CORS", by_browser, "TypeError: Failed to fetch", CORS, "read")
NO_HEAD = ("HEAD", by_curl_head, "302, Location: http://127.0.0.1:8815/login", {"head": True}, "200")
NO_USE = ("use", by_hapi, "Error: JWKS endpoint response contained no valid keys", {"members": {"use": "sig"}}, "starts")
NO_ALG = (
    "alg", by_python_jose, "jose.exceptions.JWKError: Unable to find an algorithm for key", {"members": {"alg": "RS256"}}, "takes it",
)
NO_ALG_JWX = ("alg", by_jwx, "no ", {"members": {"alg": "RS256"}}, "ok")
BASIC = {"Authorization": "Basic " + base64.b64encode(b"c:unused").decode()}
FELT = {
    "npm oidc-provider": [NO_CACHE, NO_ETAG],
    "npm oauth2-mock-server": [NO_CACHE, NO_MAX_AGE, NO_USE],
    "PyPI oidc-provider-mock": [NO_CORS, NO_CACHE, NO_ETAG, NO_ALG, NO_USE],
    "Go mockoidc": [NO_CORS, NO_CACHE, NO_ETAG],
    "Maven Spring": [NO_CORS, NO_CACHE, NO_MAX_AGE, NO_ETAG, NO_HEAD, NO_ALG, NO_ALG_JWX, NO_USE],
}


def reproduced(name: str) -> bool:
    is_all = True
    with issuers.running(name) as issuer:
        if not issuer:
            return False
        url = json.loads(asked(issuer + "/.well-known/openid-configuration")[2])["jwks_uri"]
        for warning, client, wanted, mending, mended in next(felt for word, felt in FELT.items() if word in name):
            if client in (by_jwx, by_jose4j):
                token = token_of(issuer, BASIC if "Spring" in name else {})
                client = functools.partial(client, token=token)
            at_issuer = client(url)
            with relay(url, **mending) as (better, _):
                at_relay = client(better)
            is_so = at_issuer.startswith(wanted) and at_relay == mended
            is_all &= is_so
            by = getattr(client, "func", client).__name__.removeprefix("by_")
            print(f"{'ok  ' if is_so else 'FAIL'} {name}, {warning}, {by}: {at_issuer[:150]} | mended: {at_relay[:150]}", flush=True)
    return is_all


def main() -> int:
    names = [name for name in issuers.ISSUERS if not sys.argv[1:] or any(word in name for word in sys.argv[1:])]
    if not names:
        sys.exit(f"no issuer is named so; there are {', '.join(issuers.ISSUERS)}")
    return int(not all([reproduced(name) for name in names]))


if __name__ == "__main__":
    sys.exit(main())
