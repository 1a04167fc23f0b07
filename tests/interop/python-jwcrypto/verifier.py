"""jwcrypto with a key set that is held as long as the server allows: it has no client of its own."""

import os

from jwcrypto.jwk import JWKSet
from jwcrypto.jwt import JWT

from held_set import HeldSet
from lines import serve

keys = HeldSet(os.environ["JWKS_URL"], JWKSet.from_json)
claims = {"iss": os.environ["ISSUER"], "aud": os.environ["AUDIENCE"], "exp": None}


def verify(token):
    JWT(jwt=token, key=keys.current(), algs=["RS256"], check_claims=claims, expected_type="JWS")


serve("jwcrypto", verify)
