// What drives a page of the bank: opening it, waiting for what it shows, and looking at it.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

export const [url, directory] = process.argv.slice(2);
export const WIDE = { width: 1280, height: 900 };
export const NARROW = { width: 375, height: 800 };

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
  // Of a machine that is slow, and has it not in memory yet.
  timeout: 180_000,
});
console.log(`chromium ${browser.version()}`);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// Whoever drives this does what is said, then says a line.
export async function tell(what) {
  console.log(what);
  await lines.next();
}

// A page, and all that went wrong on it.
export async function open(options, at = "/") {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(120_000);
  const faults = [];
  page.on("console", (message) => { if (message.type() === "error") faults.push(message.text()); });
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("dialog", (dialog) => { faults.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => { if (!request.url().startsWith(url)) faults.push(`asked ${request.url()}`); });
  await page.goto(url + at);
  await page.getByText("live", { exact: true }).waitFor();
  return { page, faults, context };
}

export const shows = (page, selector, text) => page.locator(selector).filter({ hasText: text }).first().waitFor();

// Each view in each look: no fault that axe knows, nothing wider than the window, and a picture.
// `views` are [name, address, what it shows when it is whole: selector and text …].
export async function look(views) {
  for (const colorScheme of ["light", "dark"]) {
    for (const [size, viewport] of [["wide", WIDE], ["narrow", NARROW]]) {
      for (const [view, at, ...whole] of views) {
        const { page, context } = await open({ viewport, colorScheme, bypassCSP: true }, at);
        for (const [selector, text] of whole) await shows(page, selector, text);
        await page.evaluate(axe);
        const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document));
        const found = violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`);
        assert.deepEqual(found, [], `${view} ${size} ${colorScheme}`);
        const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wider <= 0, `${view} ${size}: ${wider} pixels wider than the window`);
        const tall = await page.evaluate(() => document.documentElement.scrollHeight);
        assert.ok(tall <= 6_000, `${view} ${size}: ${tall} pixels long`);
        await page.screenshot({ path: `${directory}/${view}-${size}-${colorScheme}.png`, fullPage: size === "narrow" });
        if (view === "account" && size === "wide" && colorScheme === "light") {
          await page.screenshot({ path: `${directory}/page.jpg`, type: "jpeg", quality: 75 });
        }
        console.log(`${view} ${size} ${colorScheme}: axe finds 0 violations, ${passes.length} rules hold`);
        await context.close();
      }
    }
  }
}

// Runs all of it, and ends.
export async function drive(...steps) {
  try {
    for (const step of steps) await step();
  } finally {
    await browser.close();
  }
  process.exit(0);
}
