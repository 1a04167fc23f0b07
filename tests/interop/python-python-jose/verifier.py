"""python-jose with a key set that is held as long as the server allows: it has no client of its own."""

import json
import os

from jose import jwt

from held_set import HeldSet
from lines import serve

keys = HeldSet(os.environ["JWKS_URL"], json.loads)


def verify(token):
    jwt.decode(
        token,
        keys.current(),
        algorithms=["RS256"],
        issuer=os.environ["ISSUER"],
        audience=os.environ["AUDIENCE"],
    )


serve("python-jose", verify)
