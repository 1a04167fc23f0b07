// An Express server that express-oauth2-jwt-bearer guards; it finds the key set by discovery.
// As it comes, or with HOLD seconds as `cacheMaxAge`.

import { once } from 'node:events';
import express from 'express';
import { auth } from 'express-oauth2-jwt-bearer';

import { serve } from './lines.mjs';

const { ISSUER, AUDIENCE, HOLD } = process.env;
const app = express();
app.use(auth({ issuerBaseURL: ISSUER, audience: AUDIENCE, ...(HOLD && { cacheMaxAge: 1000 * HOLD }) }));
app.get('/', (request, response) => response.send(request.auth.payload.sub));
app.use((error, request, response, next) => response.status(error.status ?? 500).send(error.message));
const listener = app.listen(0, '127.0.0.1');
await once(listener, 'listening');
const url = `http://127.0.0.1:${listener.address().port}/`;

await serve(['express-oauth2-jwt-bearer', 'express'], async (token) => {
  const answer = await fetch(url, { headers: { Authorization: `Bearer ${token}` } });
  if (answer.status !== 200) {
    throw Object.assign(new Error(await answer.text()), { code: answer.status });
  }
});
