// jose with its own remote key set, as it comes, or with HOLD seconds as `cacheMaxAge`.

import { createRemoteJWKSet, jwtVerify } from 'jose';

import { serve } from './lines.mjs';

const { JWKS_URL, ISSUER, AUDIENCE, HOLD } = process.env;
const keys = createRemoteJWKSet(new URL(JWKS_URL), HOLD ? { cacheMaxAge: 1000 * HOLD } : {});
const rules = { algorithms: ['RS256'], issuer: ISSUER, audience: AUDIENCE };

await serve(['jose'], (token) => jwtVerify(token, keys, rules));
