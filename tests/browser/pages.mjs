// Looks at one page in Chromium, at three widths, light and dark, and writes what is wrong with it to standard output
// as JSON, with the bars of its drawing. node pages.mjs URL FOLDER NAME PROFILE: FOLDER has node_modules, and gets the screenshots.

import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [url, folder, name, profile] = process.argv.slice(2);
const require = createRequire(resolve(folder, "package.json"));
const connect = require("chrome-remote-interface");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const WIDTHS = [320, 768, 1440];
const SCHEMES = ["light", "dark"];

/** Runs in the page. */
function bars() {
  const drawing = document.querySelector("svg[data-from]");
  if (!drawing) return null;
  const { left, width } = drawing.getBoundingClientRect();
  const { from, to, now } = drawing.dataset;
  const keys = [...drawing.querySelectorAll("g.key")].map((key) => ({
    kid: key.dataset.kid ?? null,
    parts: [...key.querySelectorAll("rect")].map((rect) => {
      const box = rect.getBoundingClientRect();
      const drawn = [box.left, box.right].map((x) => (x - left) / width);
      return { part: rect.classList[0], from: +rect.dataset.from, to: +rect.dataset.to, drawn };
    }),
  }));
  return { from: +from, to: +to, now: +now, width, keys };
}

/** Runs in the page: what only a person would see otherwise. */
async function faults() {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth) found.push(`scrolls sideways: ${root.scrollWidth} px in ${innerWidth}`);
  for (const key of document.querySelectorAll("g.key")) {
    const [kid, state] = [".kid", ".state"].map((part) => key.querySelector(part).getBoundingClientRect());
    if (kid.right > state.left) found.push(`kid and state overlap: ${key.dataset.kid}`);
  }
  // Only one of them is open at a time, and axe passes over the others.
  for (const it of document.querySelectorAll("details")) {
    it.removeAttribute("name");
    it.open = true;
  }
  if (root.scrollWidth > innerWidth) found.push(`scrolls sideways when all is open: ${root.scrollWidth} px`);
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  for (const { id, nodes } of violations) found.push(`axe: ${id}: ${nodes.map((node) => node.html).join(" ")}`);
  return found;
}

async function debuggingPort(browser) {
  for await (const chunk of browser.stderr) {
    const found = /DevTools listening on ws:\/\/127\.0\.0\.1:(\d+)/.exec(chunk);
    if (found) return +found[1];
  }
  throw new Error("chromium has ended");
}

const browser = spawn(
  "chromium",
  ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--remote-debugging-port=0", `--user-data-dir=${profile}`, "about:blank"],
  { stdio: ["ignore", "ignore", "pipe"] },
);
const looks = [];
try {
  const client = await connect({ port: await debuggingPort(browser) });
  const { Emulation, Log, Page, Runtime } = client;
  let said = [];
  Log.entryAdded(({ entry }) => said.push(`${entry.source}: ${entry.text}`));
  Runtime.consoleAPICalled(({ type, args }) => said.push(`console.${type}: ${args.map((it) => it.value).join(" ")}`));
  Runtime.exceptionThrown(({ exceptionDetails }) => said.push(exceptionDetails.text));
  await Promise.all([Log.enable(), Page.enable(), Runtime.enable()]);
  const run = async (expression) => {
    const { result, exceptionDetails } = await Runtime.evaluate({ expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  for (const width of WIDTHS) {
    for (const scheme of SCHEMES) {
      said = [];
      await Emulation.setDeviceMetricsOverride({ width, height: 900, deviceScaleFactor: 1, mobile: false });
      await Emulation.setEmulatedMedia({ features: [{ name: "prefers-color-scheme", value: scheme }] });
      const loaded = Page.loadEventFired();
      await Page.navigate({ url });
      await loaded;
      const isStyled = await run("getComputedStyle(document.body).fontFamily.includes('system-ui')");
      const drawn = await run(`(${bars})()`);
      const { data } = await Page.captureScreenshot({ captureBeyondViewport: true });
      writeFileSync(join(folder, `${name}-${width}-${scheme}.png`), Buffer.from(data, "base64"));
      // Over the page's policy, which stops its own scripts only.
      await run(axe);
      const wrong = [...(await run(`(${faults})()`)), ...said];
      if (!isStyled) wrong.push("the style is not in force");
      looks.push({ width, scheme, wrong, drawn });
    }
  }
  await client.close();
} finally {
  browser.kill();
}
console.log(JSON.stringify(looks));
