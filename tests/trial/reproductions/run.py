#!/usr/bin/env python3
"""Each finding of grade `must` on a verifier of today, again without `jwks-server trial`.

    python3 tests/trial/reproductions/run.py [NAME...]

The tokens are made by `tokens.py` with PyPI's cryptography, the key set is served by Python, and the verifiers are the
programs of tests/interop, of some twenty lines each around their libraries. Needs `python3 tests/interop/run.py --install`
before. Ends with 1 when a verifier refuses the good token, or does not what the table says.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parent.parent.parent.parent
sys.path[:0] = [str(ROOT / "tests" / "interop")]

import verifiers

PYTHON = verifiers.INTO / "python-pyjwt" / "venv" / "bin" / "python"
# Good tokens, which a verifier must not refuse.
GOOD = ["header-unknown"]
CRIT = ["crit-unknown", "crit-missing-member", "crit-b64"]
# The table of docs/trial.md: what each accepts, or of the good ones refuses, though an RFC says that it must not.
FOUND = {
    "python-pyjwt": ["exp-text"],
    "python-authlib": ["aud-empty-list"],
    "python-joserfc": ["header-unknown"],
    "python-jwcrypto": ["nbf-ahead-1h", "nbf-text"],
    "python-python-jose": ["exp-text", "kid-number", "kid-null", "kid-list", *CRIT],
    "node-jwks-rsa": [*CRIT, "payload-not-utf8"],
    "node-express-oauth2": ["payload-not-utf8"],
    "go-keyfunc": [*CRIT, "payload-not-utf8"],
    "go-oidc": ["exp-text", "kid-null", "payload-not-utf8", "json-flattened", "json-general"],
    "go-jwx": ["exp-text", "alg-none-signed", "alg-missing", *CRIT[:2], "payload-not-utf8", "payload-trailing"],
    "rust-jsonwebtoken": ["nbf-ahead-1h", "nbf-text", "iss-list", *CRIT],
    "java-nimbus": ["exp-null", "kid-null", "payload-not-utf8"],
    "java-spring": ["exp-null", "kid-null", "payload-not-utf8"],
    "java-jose4j": ["kid-null", "payload-not-utf8"],
    "java-auth0": ["exp-null", *CRIT, "payload-not-utf8", "payload-trailing"],
    "apache-oidc": [
        "exp-negative", "exp-null", "exp-text", "exp-list", "nbf-ahead-1h", "nbf-text", "iss-list", "aud-number",
        "alg-rs384", "alg-rs512", "alg-ps256", "kid-number", "kid-null", "kid-list", *CRIT,
    ],
    "ruby-jwt": ["exp-text", "alg-lower", *CRIT, "payload-not-utf8", "parts-dot"],
}


class Issuer(BaseHTTPRequestHandler):
    documents = {}

    def do_GET(self):
        body = json.dumps(self.documents.get(self.path)).encode()
        self.send_response(200 if self.path in self.documents else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "max-age=300")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main() -> int:
    if not os.environ.get("WITH_CRYPTOGRAPHY"):
        os.execve(PYTHON, [PYTHON, *sys.argv], os.environ | {"WITH_CRYPTOGRAPHY": "1"})
    import tokens

    server = ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
    issuer = f"http://127.0.0.1:{server.server_port}"
    discovery = {
        "issuer": issuer, "jwks_uri": f"{issuer}/jwks", "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token", "response_types_supported": ["code"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
    }
    Issuer.documents = {"/jwks": tokens.key_set(), "/.well-known/openid-configuration": discovery}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = tokens.tokens(issuer, "api")
    environment = {"JWKS_URL": f"{issuer}/jwks", "ISSUER": issuer, "AUDIENCE": "api"}
    failed = 0
    chosen = [it for it in FOUND if not sys.argv[1:] or any(name in it for name in sys.argv[1:])]
    if not chosen:
        sys.exit(f"no verifier is named so; there are {', '.join(FOUND)}")
    for folder in chosen:
        found = FOUND[folder]
        command = verifiers.KINDS[verifiers.kind_of(folder)][2]
        running = verifiers.Running(verifiers.Verifier(folder), command, environment)
        versions = running.ready()
        said = {case: running.verdict(made[case]) for case in ["good", *found]}
        running.stop()
        accepted = [case for case, answer in said.items() if answer == "ok"]
        refused = {case: answer for case, answer in said.items() if answer != "ok"}
        print(f"{versions}: accepts {', '.join(accepted)}", flush=True)
        for case, answer in refused.items():
            print(f"  refuses {case}: {answer}", flush=True)
        failed += sum((case in refused) != (case in GOOD) for case in said)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
