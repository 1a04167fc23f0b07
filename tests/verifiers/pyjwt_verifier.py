"""Verifies the tokens that come line by line with PyJWT's key set client.

Arguments: the key set's address, for how many seconds it may be held, issuer, audience.
"""

import sys

import jwt

url, max_age, issuer, audience = sys.argv[1:]
keys = jwt.PyJWKClient(url, lifespan=float(max_age))

for line in sys.stdin:
    token = line.strip()
    try:
        jwt.decode(
            token,
            keys.get_signing_key_from_jwt(token),
            algorithms=["RS256"],
            issuer=issuer,
            audience=audience,
            options={"require": ["sub", "iat", "exp", "jti"]},
        )
        print("ok", flush=True)
    except jwt.PyJWTError as error:
        print(f"refused {type(error).__name__}: {error}", flush=True)
