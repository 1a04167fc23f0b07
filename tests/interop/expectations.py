"""The verifiers, what to know of each, and what each does otherwise than the script would have it.

An explanation is the verifier's own documented behaviour. A cell that is not as it should be and
has none here is a surprise, and fails the run.
"""

from service import MAX_AGE
from verifiers import Verifier

VERIFIERS = [
    Verifier("python-pyjwt"),
    Verifier("python-pyjwt", hold=MAX_AGE),
    Verifier("python-authlib"),
    Verifier("python-joserfc"),
    Verifier("python-jwcrypto"),
    Verifier("python-python-jose"),
    Verifier("node-jose"),
    Verifier("node-jose", hold=MAX_AGE),
    Verifier("node-jwks-rsa"),
    Verifier("node-jwks-rsa", hold=MAX_AGE),
    Verifier("node-express-oauth2"),
    Verifier("go-keyfunc"),
    Verifier("go-keyfunc", hold=MAX_AGE),
    Verifier("go-oidc"),
    Verifier("go-jwx"),
    Verifier("go-jwx", hold=MAX_AGE),
    Verifier("rust-jsonwebtoken"),
    Verifier("java-nimbus"),
    Verifier("java-nimbus", hold=MAX_AGE),
    Verifier("java-spring", label="java-spring, jwk-set-uri"),
    Verifier("java-spring", more={"DISCOVERY": "1"}, label="java-spring, issuer-uri"),
    Verifier("java-jose4j"),
    Verifier("java-jose4j", hold=3600, label="java-jose4j, retain 1 h"),
    Verifier("java-auth0"),
    Verifier("java-auth0", hold=MAX_AGE),
    Verifier("ruby-jwt"),
    Verifier("apache-oidc"),
    Verifier("nginx-njs"),
]
# The way in which each fetches and caches, and the settings that suit the service's default times
# (KEY_LEAD=10m, JWKS_MAX_AGE=5m).
HELD = (
    "It fetches nothing itself: the program holds the set for the `max-age` that came with it, then asks with"
    " `If-None-Match`, and goes on with the old set while the server cannot be reached. Do the same."
)
NOTES = {
    "python-pyjwt": "`PyJWKClient` holds the set for `lifespan=300` seconds, and asks for an unknown `kid` at most once"
    " in `cooldown_duration=30` seconds. The defaults suit.",
    "python-authlib": "The client of its framework integrations, by discovery, with joserfc inside. It holds the set without"
    " end, and asks for every unknown `kid` without limit. A key that was removed is trusted until then; nothing can be set.",
    "python-joserfc": HELD,
    "python-jwcrypto": HELD + " It says `Missing Key` whatever is wrong with a token's signature or algorithm.",
    "python-python-jose": HELD,
    "node-jose": "`createRemoteJWKSet` holds the set for `cacheMaxAge` of 10 minutes, and asks for an unknown `kid` at"
    " most once in `cooldownDuration` of 30 seconds. The defaults suit.",
    "node-jwks-rsa": "It holds each key by itself for `cacheMaxAge` of 10 minutes, and asks for every unknown `kid`"
    " without limit. Set `cacheMaxAge: 300_000`, `cacheMaxAgeFallback: 3_600_000` to bridge an outage, and"
    " `rateLimit: true`, since anyone can send an unknown `kid`.",
    "node-express-oauth2": "Discovery, then jose's remote key set with the same defaults, which suit.",
    "go-keyfunc": "`NewDefaultCtx` fetches the set every hour, and for an unknown `kid` at most once in 5 minutes; a"
    " caller may wait a minute for that. One made-up `kid` spends it, so set `Override.RefreshInterval` to 5 minutes, which"
    " needs no unknown `kid` at all.",
    "go-oidc": "Discovery. It holds the set without end, and asks again whenever no key verifies a token, without limit."
    " A key that was removed is trusted until then; nothing can be set.",
    "go-jwx": "`jwk.Cache` fetches in the background, by default every 15 minutes whatever `max-age` says, and never for"
    " an unknown `kid`. Set `jwk.WithMinInterval` and `jwk.WithMaxInterval` to at most 5 minutes.",
    "rust-jsonwebtoken": HELD,
    "java-nimbus": "`JWKSourceBuilder` holds the set for 5 minutes, fetches it half a minute ahead when in use, and"
    " for an unknown `kid` at most twice in 30 seconds. Give it a `DefaultResourceRetriever` with some seconds, as the program"
    " does: by default a fetch may take half a second, and one that failed counts as well. The"
    " other defaults suit; add `outageTolerantForever()` to bridge an outage.",
    "java-spring": "The same source as nimbus-jose-jwt without its limit on requests and without fetching ahead: the set"
    " is held for 5 minutes. The defaults suit.",
    "java-jose4j": "`HttpsJwks` holds the set for the `max-age` that came with it, and asks at once for an unknown"
    " `kid`. Set `setRetainCacheOnErrorDuration` to bridge an outage.",
    "java-auth0": "`JwkProviderBuilder` holds each key by itself, five of them, for 10 hours, and makes at most 10 requests"
    " a minute. Set `cached(10, 5, TimeUnit.MINUTES)`.",
    "ruby-jwt": "It leaves fetching and caching to a loader that it calls, once more for an unknown `kid`: the program"
    " holds the set for 5 minutes, fetches it for an unknown `kid` at most once in 30 seconds, and keeps it while the server"
    " cannot be reached. Do the same.",
    "apache-oidc": "`AuthType oauth20`. The key set is found through the discovery document, since"
    " `OIDCOAuthVerifyJwksUri` takes `https` only. It holds the set for `OIDCJWKSRefreshInterval`, an hour by default, and"
    " fetches it for every unknown `kid` without limit. Set it to 300, its least. Issuer and audience are checked by"
    " `Require claim` only.",
    "nginx-njs": "`auth_request` leads to a script, `jwt.js`, that finds the key and checks the token with WebCrypto. njs"
    " keeps nothing from one request to the next, so nginx itself holds the set: `proxy_cache` for the `max-age` that came"
    " with it, then `proxy_cache_revalidate`, and `proxy_cache_use_stale` while the server cannot be reached. It does not ask"
    " for an unknown `kid`. Debian's njs 0.7.9 cannot import a JWK, so the script makes a SubjectPublicKeyInfo of it.",
}

# Of those that were to be here.
ABSENT = {
    "php-jwt": "firebase/php-jwt is in no package of Debian 12.",
    "course grader": "It is no verifier. `run.py --grader` installs it where the module proxy has it, and runs it.",
    "nginx `auth_jwt`": "It comes with the commercial build only; `nginx-njs` is what Debian has.",
}

NO_BRIDGE = "It holds no key past its time, so an outage that is longer than that time is felt."
EXPLAINED = {
    f"python-pyjwt, hold {MAX_AGE} s": {"outage": NO_BRIDGE},
    f"node-jose, hold {MAX_AGE} s": {"outage": NO_BRIDGE},
    "node-jwks-rsa": {"removed key": "A key is held for 10 minutes of its own, also when others have come."},
    "go-keyfunc": {
        "rotation": "The made-up `kid` before had spent the one request in 5 minutes, and the hourly one was far off.",
        "emergency": "As in the rotation; it recovers when the 5 minutes are over.",
    },
    "go-jwx": {
        "rotation": "It fetches every 15 minutes, longer than the lead here, and never for an unknown `kid`.",
        "emergency": "As in the rotation; it recovers within 15 minutes.",
    },
    "java-jose4j": {"outage": NO_BRIDGE + " Its time is the `max-age`, here 6 s."},
    "java-auth0": {"removed key": "A key is held for 10 hours, also when others have come."},
}
