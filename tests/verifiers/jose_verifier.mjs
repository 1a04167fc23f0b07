// Verifies the tokens that come line by line with jose's remote key set.
// Arguments: the key set's address, for how many seconds it may be held, issuer, audience.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

// Installed in the working directory, not beside this script.
const resolve = createRequire(`${process.cwd()}/`).resolve;
const { createRemoteJWKSet, jwtVerify } = await import(resolve('jose'));

const [url, maxAge, issuer, audience] = process.argv.slice(2);
const keys = createRemoteJWKSet(new URL(url), { cacheMaxAge: 1000 * maxAge });
const rules = {
  algorithms: ['RS256'],
  issuer,
  audience,
  requiredClaims: ['sub', 'iat', 'exp', 'jti'],
};

for await (const token of createInterface({ input: process.stdin })) {
  try {
    await jwtVerify(token, keys, rules);
    console.log('ok');
  } catch (error) {
    console.log(`refused ${error.code}: ${error.message}`);
  }
}
