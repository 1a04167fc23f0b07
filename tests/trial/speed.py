#!/usr/bin/env python3
"""How long the cases of `jwks-server trial` take with a verifier of a few lines, and the CPU time of each side.

    python3 tests/trial/speed.py

Needs the release binary, or JWKS_SERVER, and Node. Prints figures for docs/trial.md, no verdict.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness.server import binary  # noqa: E402

SERVER = str(binary())
ISSUER = "127.0.0.1:8790"
VERIFIER = """
import { createServer } from "node:http";
import { createPublicKey, verify } from "node:crypto";
const issuer = process.env.ISSUER;
let keys;
async function isGood(token) {
  keys ??= (await (await fetch(`${issuer}/.well-known/jwks.json`)).json()).keys;
  const [header, payload, signature] = token.split(".");
  const { alg, kid } = JSON.parse(Buffer.from(header, "base64url"));
  const key = createPublicKey({ key: keys.find((key) => key.kid === kid), format: "jwk" });
  if (alg !== "RS256" || !verify("sha256", `${header}.${payload}`, key, Buffer.from(signature, "base64url"))) return false;
  const { exp, iss, aud } = JSON.parse(Buffer.from(payload, "base64url"));
  return exp > Date.now() / 1000 && iss === issuer && aud === "api";
}
const server = createServer(async (request, response) => {
  const good = await isGood(request.headers.authorization.slice(7)).catch(() => false);
  response.writeHead(good ? 200 : 401, { "content-length": 0 }).end();
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit()).resume();
"""


def used() -> float:
    """CPU seconds of the children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def main():
    verifier = subprocess.Popen(
        ["node", "--input-type=module", "-e", VERIFIER], env=os.environ | {"ISSUER": f"http://{ISSUER}"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    url = f"http://127.0.0.1:{int(verifier.stdout.readline())}/"
    args = ["trial", "--url", url, "--listen", ISSUER, "--audience", "api", "--json"]
    started = time.monotonic()
    done = subprocess.run([SERVER, *args], capture_output=True, text=True)
    took, trial = time.monotonic() - started, used()
    verifier.communicate()
    cases = len(json.loads(done.stdout)["cases"])
    print(f"{cases} cases in {took:.1f} s; CPU time: the trial {trial:.1f} s, the verifier {used() - trial:.1f} s")
    print(f"busy programs on this machine: {os.getloadavg()[0]:.0f}, cores: {os.cpu_count()}")


if __name__ == "__main__":
    main()
