"""joserfc with a key set that is held as long as the server allows: it has no client of its own."""

import json
import os

from joserfc import jwt
from joserfc.jwk import KeySet

from held_set import HeldSet
from lines import serve

keys = HeldSet(os.environ["JWKS_URL"], lambda document: KeySet.import_key_set(json.loads(document)))
claims = jwt.JWTClaimsRegistry(
    iss={"essential": True, "value": os.environ["ISSUER"]},
    aud={"essential": True, "value": os.environ["AUDIENCE"]},
    exp={"essential": True},
)


def verify(token):
    claims.validate(jwt.decode(token, keys.current(), algorithms=["RS256"]).claims)


serve("joserfc", verify)
