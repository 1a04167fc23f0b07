"""PyJWT with its own client for key sets, as it comes, or with HOLD seconds as `lifespan`."""

import os

import jwt

from lines import serve

hold = os.environ.get("HOLD")
keys = jwt.PyJWKClient(os.environ["JWKS_URL"], **({"lifespan": float(hold)} if hold else {}))


def verify(token):
    jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token),
        algorithms=["RS256"],
        issuer=os.environ["ISSUER"],
        audience=os.environ["AUDIENCE"],
    )


serve("PyJWT", verify)
