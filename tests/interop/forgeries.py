"""Tokens that every verifier must refuse, made from a good one and its public key."""

import base64
import hashlib
import hmac
import json


def forgeries(token: str, jwk: dict) -> dict:
    header, payload, signature = token.split(".")
    claims = decoded(payload)
    bytes_of = bytearray(unbase64(signature))
    bytes_of[len(bytes_of) // 2] ^= 1
    pem = public_pem(jwk)
    kid = jwk["kid"]

    def hs256(key: bytes) -> str:
        message = encoded({"alg": "HS256", "typ": "JWT", "kid": kid}) + "." + payload
        return message + "." + base64url(hmac.digest(key, message.encode(), hashlib.sha256))

    return {
        "payload": [f"{header}.{encoded(claims | {'sub': 'someone else'})}.{signature}"],
        "signature": [f"{header}.{payload}.{base64url(bytes_of)}", f"{header}.{payload}."],
        "none": [
            f"{encoded({'alg': alg, 'typ': 'JWT', 'kid': kid})}.{payload}.{rest}"
            for alg, rest in [("none", ""), ("None", ""), ("none", signature)]
        ],
        "HS256": [hs256(key) for key in (pem, pem.strip(), unbase64(jwk["n"]))],
        "unknown kid": [f"{encoded(decoded(header) | {'kid': '1234567890'})}.{payload}.{signature}"],
    }


def kid(token: str) -> str:
    return decoded(token.split(".")[0])["kid"]


def public_pem(jwk: dict) -> bytes:
    """The RSA key as SubjectPublicKeyInfo (RFC 5280) in PEM."""
    integers = [b"\0" + unbase64(jwk["n"]), unbase64(jwk["e"])]
    key = der(0x30, b"".join(der(0x02, integer) for integer in integers))
    algorithm = bytes.fromhex("300d06092a864886f70d0101010500")
    body = base64.encodebytes(der(0x30, algorithm + der(0x03, b"\0" + key))).replace(b"\n", b"")
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    return b"\n".join([b"-----BEGIN PUBLIC KEY-----", *lines, b"-----END PUBLIC KEY-----", b""])


def der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encoded(value: dict) -> str:
    return base64url(json.dumps(value, separators=(",", ":")).encode())


def decoded(part: str) -> dict:
    return json.loads(unbase64(part))
