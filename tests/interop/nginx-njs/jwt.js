// Verifies the bearer token of a request by the key set at /_keys, for auth_request.

const RSA = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
// Seconds by which the issuer's clock may be ahead.
const LEEWAY = 60;
// The AlgorithmIdentifier of rsaEncryption (RFC 3279).
const RSA_ENCRYPTION = Buffer.from('300d06092a864886f70d0101010500', 'hex');

async function check(r) {
  try {
    const given = (r.headersIn.Authorization || '').match(/^Bearer ([\w-]+)\.([\w-]+)\.([\w-]+)$/);
    if (!given) {
      throw new Error('no token');
    }
    await verify(r, given[1], given[2], given[3]);
    r.return(204);
  } catch (error) {
    r.headersOut['WWW-Authenticate'] = `Bearer error="invalid_token", error_description="${error.message}"`;
    r.return(401);
  }
}

async function verify(r, header, payload, signature) {
  const head = decoded(header);
  if (head.alg !== 'RS256') {
    throw new Error('another algorithm');
  }
  if ('crit' in head) {
    throw new Error('unknown extension');
  }
  const answer = await ngx.fetch(`http://127.0.0.1:${r.variables.server_port}/_keys`);
  if (answer.status !== 200) {
    throw new Error('no key set');
  }
  const set = await answer.json();
  const jwk = set.keys.find((key) => key.kid === head.kid && key.kty === 'RSA');
  if (!jwk) {
    throw new Error('unknown kid');
  }
  const key = await crypto.subtle.importKey('spki', spki(jwk), RSA, false, ['verify']);
  if (!(await crypto.subtle.verify(RSA, key, bytes(signature), `${header}.${payload}`))) {
    throw new Error('bad signature');
  }
  const claims = decoded(payload);
  const now = Date.now() / 1000;
  if (typeof claims.exp !== 'number' || claims.exp <= now) {
    throw new Error('expired');
  }
  if ('nbf' in claims && (typeof claims.nbf !== 'number' || claims.nbf > now + LEEWAY)) {
    throw new Error('not valid yet');
  }
  if (claims.iss !== r.variables.issuer) {
    throw new Error('another issuer');
  }
  if (![].concat(claims.aud).includes(r.variables.audience)) {
    throw new Error('another audience');
  }
}

// Debian's njs 0.7.9 imports no 'jwk' yet: the public key as SubjectPublicKeyInfo.
function spki(jwk) {
  // With a zero in front, or the modulus, whose top bit is set, would be negative.
  const modulus = der(0x02, [Buffer.from([0]), bytes(jwk.n)]);
  const exponent = der(0x02, [bytes(jwk.e)]);
  const key = der(0x30, [modulus, exponent]);
  return der(0x30, [RSA_ENCRYPTION, der(0x03, [Buffer.from([0]), key])]);
}

function der(tag, parts) {
  const content = Buffer.concat(parts);
  const size = content.length;
  const length = size < 128 ? [size] : size < 256 ? [0x81, size] : [0x82, size >> 8, size & 255];
  return Buffer.concat([Buffer.from([tag].concat(length)), content]);
}

function bytes(text) {
  return Buffer.from(text, 'base64url');
}

function decoded(part) {
  return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes(part)));
}

export default { check };
