// A verifier with jose, tried with `jwks-server sandbox` in Jest.

import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createRemoteJWKSet, jwtVerify } from "jose";

let sandbox, process_;

beforeAll(async () => {
  process_ = spawn(process.env.JWKS_SERVER ?? "jwks-server", ["sandbox", "--port", "0"]);
  const [line] = await once(process_.stdout, "data");
  sandbox = String(line).trim();
});
afterAll(() => process_.kill());

// A realm for each test, so that they can run side by side.
const realm = () => `${sandbox}/${randomUUID()}`;
const ask = async (url, body) => (await fetch(url, body && { method: "POST", body: JSON.stringify(body) })).json();
const sign = async (issuer, more) => (await ask(`${issuer}/sign`, { claims: { aud: "api" }, ...more })).token;

function verifier(issuer) {
  const keys = createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`), { cooldownDuration: 0 });
  const expected = { issuer, audience: "api", algorithms: ["RS256"] };
  return (token) => jwtVerify(token, keys, expected).then(() => true, () => false);
}

test("good tokens are accepted and the key set is fetched once", async () => {
  const issuer = realm();
  const accepts = verifier(issuer);
  expect(await accepts(await sign(issuer))).toBe(true);
  expect(await accepts(await sign(issuer))).toBe(true);
  expect((await ask(`${issuer}/requests`)).requests).toHaveLength(1);
});

test.each(["alg-none", "alg-hs256-pem", "sig-stranger", "exp-past-1h", "aud-wrong", "iss-wrong"])("%s is refused", async (fault) => {
  const issuer = realm();
  expect(await verifier(issuer)(await sign(issuer, { fault }))).toBe(false);
});

test("a rotation is followed", async () => {
  const issuer = realm();
  const accepts = verifier(issuer);
  expect(await accepts(await sign(issuer))).toBe(true);
  await ask(`${issuer}/rotate`, {});
  await ask(`${issuer}/rotate`, {});
  expect(await accepts(await sign(issuer))).toBe(true);
});
