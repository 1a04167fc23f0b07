#!/usr/bin/env python3
"""Old releases with a known fault, each caught by the case of `jwks-server trial` that is named for it, and the
release that mended it clean.

    python3 tests/trial/recall.py [NAME...]

Needs the release binary, or JWKS_SERVER, Python, Node, and the network: it installs old releases with known
faults into target/recall, and runs them on tokens of the trial alone. Prints a table for docs/trial.md; ends
with 1 when a verdict is not as expected.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
INTO = ROOT / "target" / "recall"
SERVER = os.environ.get("JWKS_SERVER", str(ROOT / "target" / "release" / "jwks-server"))

# Each script has the token in `token`, the key as text in `pem` and the expectations in `iss` and `aud`, and fails
# by an exception.
PYTHON = """
import collections, collections.abc, base64, json, os, sys, urllib.request
from cryptography.hazmat.backends import default_backend
from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
collections.Mapping = collections.abc.Mapping  # For releases older than Python 3.10.
token, iss, aud = sys.stdin.read(), os.environ["TRIAL_ISSUER"], os.environ["TRIAL_AUDIENCE"]
jwk = json.load(urllib.request.urlopen(os.environ["TRIAL_JWKS"]))["keys"][0]
number = lambda name: int.from_bytes(base64.urlsafe_b64decode(jwk[name] + "=="), "big")
key = RSAPublicNumbers(number("e"), number("n")).public_key(default_backend())
pem = key.public_bytes(forms.Encoding.PEM, forms.PublicFormat.{form})
try:
    {body}
except Exception as e:
    sys.exit(f"{{type(e).__name__}}: {{e}}")
"""
NODE = """
const {{ createPublicKey }} = require("node:crypto");
let token = "";
process.stdin.on("data", (part) => (token += part)).on("end", async () => {{
  const iss = process.env.TRIAL_ISSUER, aud = process.env.TRIAL_AUDIENCE;
  const keys = (await (await fetch(process.env.TRIAL_JWKS)).json()).keys;
  const pem = createPublicKey({{ key: keys[0], format: "jwk" }}).export({{ type: "{form}", format: "pem" }});
  try {{
    {body}
  }} catch (e) {{
    console.error(String(e));
    process.exit(1);
  }}
}});
"""


@dataclass
class Fault:
    package: str
    # The release that has it, and one that mended it.
    bad: str
    good: str
    fault: str
    case: str
    body: str
    form: str = "SubjectPublicKeyInfo"
    # Other packages beside it.
    beside: tuple = ()


AUTHLIB = 'from authlib.jose import JsonWebToken; JsonWebToken({algs}).decode(token, pem, claims_options={{"iss": {{"value": iss}}}}).validate()'
PYJWT = 'import jwt; jwt.decode(token, pem, algorithms=["RS256"{more}], audience=aud, issuer=iss)'
FAULTS = [
    Fault("PyJWT", "1.5.0", "1.5.3", "CVE-2017-11424: HS256 with the public key as PKCS#1 for the secret", "alg-hs256-pkcs1",
          PYJWT.format(more=', "HS256"'), "PKCS1", ("cryptography==36.0.2",)),
    Fault("PyJWT", "2.10.0", "2.10.1", "CVE-2024-53861: a part of the issuer passes for it", "iss-part",
          PYJWT.format(more=""), beside=("cryptography==45.0.7",)),
    Fault("PyJWT", "2.11.0", "2.12.0", "CVE-2026-32597: crit is not looked at", "crit-unknown",
          PYJWT.format(more=""), beside=("cryptography==45.0.7",)),
    Fault("Authlib", "1.3.0", "1.3.1", "CVE-2024-37568: HS256 with the public key for the secret", "alg-hs256-pem",
          AUTHLIB.format(algs='["RS256", "HS256"]'), beside=("cryptography==45.0.7",)),
    Fault("Authlib", "1.6.3", "1.6.4", "CVE-2025-59420: crit is not looked at", "crit-unknown",
          AUTHLIB.format(algs='["RS256"]'), beside=("cryptography==45.0.7",)),
    Fault("jsonwebtoken", "4.1.0", "5.0.0", "CVE-2015-9235: HS256 with the public key for the secret", "alg-hs256-pem",
          'require("jsonwebtoken").verify(token, pem, { audience: aud, issuer: iss });', "spki"),
    Fault("jsonwebtoken", "8.5.1", "9.0.0", "CVE-2022-23540: alg none when no key is found", "alg-none-no-kid",
          'const find = (head, done) => done(null, head.kid === keys[0].kid ? pem : undefined);\n'
          '    await new Promise((yes, no) => require("jsonwebtoken").verify(token, find, { audience: aud, issuer: iss }, (e) => (e ? no(e) : yes())));',
          "spki"),
    Fault("fast-jwt", "5.0.5", "5.0.6", "CVE-2025-30144: a list of issuers with ours in it", "iss-list",
          'require("fast-jwt").createVerifier({ key: pem, algorithms: ["RS256"], allowedAud: aud, allowedIss: iss })(token);', "spki"),
    Fault("fast-jwt", "6.1.0", "6.2.0", "CVE-2026-35042: crit is not looked at", "crit-unknown",
          'require("fast-jwt").createVerifier({ key: pem, algorithms: ["RS256"], allowedAud: aud, allowedIss: iss })(token);', "spki"),
    Fault("node-jose", "0.10.0", "0.11.0", "CVE-2018-0114: the key in the header is taken", "jwk-embedded",
          'const { JWK, JWS } = require("node-jose");\n'
          '    const store = await JWK.asKeyStore({ keys });\n'
          "    await JWS.createVerify(store).verify(token);", "spki"),
]


def run(command: list, folder: Path, **more) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, **more)


def must(command: list, folder: Path, **more) -> None:
    done = run(command, folder, **more)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stdout[-500:]}{done.stderr[-1500:]}")


def installed(fault: Fault, release: str) -> str:
    """The command that verifies with the release."""
    folder = INTO / f"{fault.package}-{release}-{fault.case}"
    is_new = not (folder / "ready").exists()
    if is_new:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    if "require" in fault.body:
        (folder / "verify.cjs").write_text(NODE.format(form=fault.form, body=fault.body))
        if is_new:
            must(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", f"{fault.package}@{release}"], folder)
        command = f"node {folder}/verify.cjs"
    else:
        (folder / "verify.py").write_text(PYTHON.format(form=fault.form, body=fault.body))
        if is_new:
            wanted = [f"{fault.package}=={release}", *fault.beside]
            must([sys.executable, "-m", "pip", "install", "-q", "--target", "packages", *wanted], folder)
        command = f"PYTHONPATH={folder}/packages {sys.executable} {folder}/verify.py"
    (folder / "ready").touch()
    return command


def verdict(command: str, case: str) -> str:
    args = ["trial", "--command", command, "--audience", "api", "--only", case, "--json"]
    done = run([SERVER, *args], INTO)
    try:
        return json.loads(done.stdout)["cases"][0]["verdict"]
    except (ValueError, LookupError):
        return done.stderr.strip()[-300:]


def main() -> int:
    INTO.mkdir(parents=True, exist_ok=True)
    failed = 0
    print("| release | fault | case | this release | mended in |\n| --- | --- | --- | --- | --- |")
    for fault in FAULTS:
        if sys.argv[1:] and not any(name in fault.package for name in sys.argv[1:]):
            continue
        verdicts = []
        for release in (fault.bad, fault.good):
            verdicts.append(verdict(installed(fault, release), fault.case))
        failed += verdicts != ["accepted", "refused"]
        print(f"| {fault.package} {fault.bad} | {fault.fault} | `{fault.case}` | {verdicts[0]} | {fault.good}: {verdicts[1]} |", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
