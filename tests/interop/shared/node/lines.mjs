// The line protocol: `ready VERSION`, then for each line with a token `ok` or `no REASON`.

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

export async function serve(packages, verify) {
  const version = (name) => JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version;
  console.log('ready', packages.map((name) => `${name} ${version(name)}`).join(', '));
  for await (const token of createInterface({ input: process.stdin })) {
    try {
      await verify(token);
      console.log('ok');
    } catch (error) {
      console.log('no', `${error.code ?? error.name}: ${error.message}`.replaceAll('\n', ' '));
    }
  }
  process.exit(0);
}
