// oidc-provider as the other issuer: JWT access tokens by client credentials.
// Arguments: its port, the issuer, the audience, the life of a token in seconds.
// Prints "ready" once it listens.

import { createRequire } from 'node:module';
import { generateKeyPairSync } from 'node:crypto';

// Installed in the working directory, not beside this script.
const resolve = createRequire(`${process.cwd()}/`).resolve;
const { default: Provider } = await import(resolve('oidc-provider'));

const [port, issuer, audience, life] = process.argv.slice(2);
const key = (kid) => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' };
};
const resource = {
  scope: 'api',
  audience,
  accessTokenFormat: 'jwt',
  accessTokenTTL: Number(life),
  jwt: { sign: { alg: 'RS256' } },
};
const client = {
  client_id: 'alice',
  client_secret: 'secret',
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
};
const provider = new Provider(issuer, {
  clients: [client],
  jwks: { keys: [key('signer / 1'), key('signer / 2')] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => audience,
      getResourceServerInfo: () => resource,
    },
  },
});
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
