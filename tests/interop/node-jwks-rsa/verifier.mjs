// jsonwebtoken with jwks-rsa to find the key, as it comes, or with HOLD seconds as
// `cacheMaxAge` and an hour as `cacheMaxAgeFallback`.

import { promisify } from 'node:util';
import jsonwebtoken from 'jsonwebtoken';
import jwksRsa from 'jwks-rsa';

import { serve } from './lines.mjs';

const { JWKS_URL, ISSUER, AUDIENCE, HOLD } = process.env;
const held = { cacheMaxAge: 1000 * HOLD, cacheMaxAgeFallback: 3_600_000 };
const client = jwksRsa({ jwksUri: JWKS_URL, ...(HOLD && held) });
const rules = { algorithms: ['RS256'], issuer: ISSUER, audience: AUDIENCE };
const verify = promisify(jsonwebtoken.verify);

function keyOf(header, done) {
  client.getSigningKey(header.kid, (error, key) => done(error, key?.getPublicKey()));
}

await serve(['jsonwebtoken', 'jwks-rsa'], (token) => verify(token, keyOf, rules));
