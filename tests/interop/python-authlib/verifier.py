"""Authlib's client for OpenID Connect in Flask, which finds the key set by discovery, as it comes.

Tokens of this service pass as ID tokens for the client that is the audience.
"""

import os

from authlib.integrations.flask_client import OAuth
from authlib.oidc.core import CodeIDToken
from flask import Flask

from lines import serve

discovery = os.environ["ISSUER"] + "/.well-known/openid-configuration"
client = OAuth(Flask(__name__)).register("interop", client_id=os.environ["AUDIENCE"], server_metadata_url=discovery)


def verify(token):
    client.parse_id_token({"id_token": token}, nonce=None, claims_cls=CodeIDToken)


serve("Authlib", verify)
