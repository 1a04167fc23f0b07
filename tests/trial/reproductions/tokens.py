"""The tokens of the findings, made with PyPI's cryptography alone: one RSA key, and each token signed by it."""

import base64
import json
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def encoded(data) -> str:
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def key_set() -> dict:
    public = KEY.public_key().public_numbers()
    key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k", "n": number(public.n), "e": number(public.e)}
    return {"keys": [key]}


def signed(header: dict, payload: bytes, way=padding.PKCS1v15(), digest=hashes.SHA256()) -> str:
    message = encoded(header) + "." + encoded(payload)
    return message + "." + encoded(KEY.sign(message.encode(), way, digest))


def tokens(issuer: str, audience: str) -> dict:
    """A good token, and one for each finding by its case's id, which differs from it in one respect."""
    now = int(time.time())
    good = {"iss": issuer, "aud": audience, "sub": "me", "iat": now, "exp": now + 300}
    head = {"alg": "RS256", "typ": "JWT", "kid": "k"}
    unknown = "reproduction.example/unknown"

    def claims(**changes) -> str:
        return signed(head, json.dumps(good | changes).encode())

    def header(**changes) -> str:
        return signed(head | changes, json.dumps(good).encode())

    token = claims()
    protected, payload, signature = token.split(".")
    parts = {"protected": protected, "signature": signature}
    return {
        "good": token,
        "exp-text": claims(exp="4102444800"),
        "exp-list": claims(exp=[now + 300]),
        "exp-negative": claims(exp=-1),
        "exp-null": claims(exp=None),
        "nbf-ahead-1h": claims(nbf=now + 3600, exp=now + 7200),
        "nbf-text": claims(nbf="4102444800"),
        "iss-list": claims(iss=[issuer, "https://attacker.example"]),
        "aud-number": claims(aud=0),
        "aud-empty-list": claims(aud=[]),
        "alg-rs384": signed(head | {"alg": "RS384"}, json.dumps(good).encode(), digest=hashes.SHA384()),
        "alg-rs512": signed(head | {"alg": "RS512"}, json.dumps(good).encode(), digest=hashes.SHA512()),
        "alg-ps256": signed(head | {"alg": "PS256"}, json.dumps(good).encode(), PSS),
        "alg-none-signed": header(alg="none"),
        "alg-lower": header(alg="rs256"),
        "alg-missing": signed({"typ": "JWT", "kid": "k"}, json.dumps(good).encode()),
        "kid-null": header(kid=None),
        "kid-number": header(kid=0),
        "kid-list": header(kid=["k"]),
        "header-unknown": header(**{unknown: True}),
        "crit-unknown": header(crit=[unknown], **{unknown: True}),
        "crit-missing-member": header(crit=[unknown]),
        "crit-b64": header(crit=["b64"], b64=False),
        "payload-not-utf8": signed(head, b'{"x":"\xff",' + json.dumps(good).encode()[1:]),
        "payload-trailing": signed(head, json.dumps(good).encode() + b"{}"),
        "json-flattened": json.dumps({"payload": payload} | parts),
        "json-general": json.dumps({"payload": payload, "signatures": [parts]}),
        "parts-dot": token + ".",
    }
