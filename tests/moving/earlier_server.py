"""An issuer as the earlier server in Python was: kids that count from 1, no rotation, tokens by PyJWT.

Arguments: its port, the issuer, the audience, the life of a token in seconds. Prints "ready" once it listens.
"""

import json
import sys
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

port, issuer, audience, life = sys.argv[1:]
KEYS = {str(n): rsa.generate_private_key(public_exponent=65537, key_size=2048) for n in (1, 2)}


def public(kid, key):
    return RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig", "alg": "RS256"}


def token() -> str:
    now = int(time.time())
    claims = {"sub": "alice", "iss": issuer, "aud": audience, "iat": now, "exp": now + int(life), "jti": str(uuid.uuid4())}
    return jwt.encode(claims, KEYS["1"], algorithm="RS256", headers={"kid": "1"})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer({"keys": [public(kid, key) for kid, key in KEYS.items()]})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer({"access_token": token()})

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
print("ready", flush=True)
server.serve_forever()
