"""A verifier with PyJWT, tried with `jwks-server sandbox` in pytest."""

import json
import os
import subprocess
import urllib.request
import uuid

import jwt
import pytest


@pytest.fixture(scope="session")
def sandbox():
    program = [os.environ.get("JWKS_SERVER", "jwks-server"), "sandbox", "--port", "0"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.kill()


@pytest.fixture
def issuer(sandbox):
    """A realm for each test, so that they can run side by side."""
    return f"{sandbox}/{uuid.uuid4()}"


def ask(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data)) as answer:
        return json.load(answer)


def sign(issuer, **body):
    return ask(f"{issuer}/sign", {"claims": {"aud": "api"}, **body})["token"]


class Verifier:
    def __init__(self, issuer):
        self.issuer = issuer
        self.keys = jwt.PyJWKClient(f"{issuer}/.well-known/jwks.json")

    def accepts(self, token):
        try:
            key = self.keys.get_signing_key_from_jwt(token)
            jwt.decode(token, key, ["RS256"], audience="api", issuer=self.issuer)
            return True
        except jwt.PyJWTError:
            return False


def test_good_tokens_are_accepted_and_the_key_set_is_fetched_once(issuer):
    verifier = Verifier(issuer)
    assert verifier.accepts(sign(issuer)) and verifier.accepts(sign(issuer))
    assert [it["path"] for it in ask(f"{issuer}/requests")["requests"]] == ["/.well-known/jwks.json"]


@pytest.mark.parametrize("fault", ["alg-none", "alg-hs256-pem", "sig-stranger", "exp-past-1h", "aud-wrong", "iss-wrong"])
def test_bad_tokens_are_refused(issuer, fault):
    assert not Verifier(issuer).accepts(sign(issuer, fault=fault))


def test_a_rotation_is_followed(issuer):
    verifier = Verifier(issuer)
    old = sign(issuer)
    assert verifier.accepts(old)
    ask(f"{issuer}/rotate", {})
    ask(f"{issuer}/rotate", {})
    assert verifier.accepts(sign(issuer)) and verifier.accepts(old)


def test_an_outage_refuses_and_is_over_when_it_is_over(issuer):
    ask(f"{issuer}/fault", {"fault": "500", "times": 1})
    verifier = Verifier(issuer)
    assert not verifier.accepts(sign(issuer))
    assert verifier.accepts(sign(issuer))
