// Drives a real Chromium over the bank's page: node drive.mjs URL DIRECTORY
//
// The bank has the whole ledger. What it does not find as it should be fails; pictures of the page go
// to DIRECTORY. For a restart of the service it says `restart` and waits for a line.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [url, directory] = process.argv.slice(2);
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WIDE = { width: 1280, height: 900 };
const NARROW = { width: 375, height: 800 };
const HOLDER = `<b>Ada</b> & "Co" <img src=x onerror=alert(1)>`;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
console.log(`chromium ${browser.version()}`);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// A page, and all that went wrong on it.
async function open(options, at = "/") {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const faults = [];
  page.on("console", (message) => { if (message.type() === "error") faults.push(message.text()); });
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("dialog", (dialog) => { faults.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => { if (!request.url().startsWith(url)) faults.push(`asked ${request.url()}`); });
  await page.goto(url + at);
  await page.getByText("live", { exact: true }).waitFor();
  return { page, faults, context };
}

const shows = (page, selector, text) => page.locator(selector).filter({ hasText: text }).first().waitFor();

async function walk() {
  const { page, faults, context } = await open({ viewport: WIDE });
  // The whole ledger is there: sums, months, pages, search.
  await shows(page, "#sum", "23,570 accounts");
  await shows(page, "#months svg", "at most");
  assert.ok(await page.locator("#months rect").count() >= 18, "a bar a month");
  await shows(page, "#rows", "CDNOW customer 00001");
  assert.equal(await page.locator("#rows tr").count(), 25);
  assert.ok(await page.locator("#previous").isDisabled());
  await page.getByRole("button", { name: "Next" }).click();
  await shows(page, "#page", "page 2");
  await shows(page, "#rows", "CDNOW customer 00026");
  await page.getByRole("button", { name: "Previous" }).click();
  await shows(page, "#page", "page 1");
  await page.getByLabel("Search by id or holder").fill("customer 2357");
  await shows(page, "#rows", "CDNOW customer 23570");
  assert.equal(await page.locator("#rows tr").count(), 1);
  await page.getByLabel("Search by id or holder").fill("");
  await shows(page, "#rows", "CDNOW customer 00001");

  // By keys alone: to the content, then an account is opened.
  await page.reload();
  await shows(page, "#rows", "CDNOW customer 00001");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await page.goBack();
  await page.locator("#accounts summary").focus();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.type(HOLDER);
  await page.keyboard.press("Tab");
  await page.keyboard.type("ada");
  await page.keyboard.press("Enter");
  await shows(page, "#account-title", HOLDER);
  assert.equal(await page.locator("b, img").count(), 0, "a name is text");
  await shows(page, "#balance", "$0.00");
  await shows(page, "#events li", `opened by ${HOLDER}`);

  // Somebody else looks at the same.
  const other = await open({ viewport: NARROW, colorScheme: "dark" }, "/#/accounts/ada");
  await shows(other.page, "#balance", "$0.00");

  // Money comes and goes; balance, history and event appear, on both.
  const amount = page.locator("#amount");
  await amount.fill("1234.56");
  await page.getByRole("button", { name: "Deposit" }).click();
  for (const here of [page, other.page]) {
    await shows(here, "#balance", "$1,234.56");
    await shows(here, "#history", "deposited");
    await shows(here, "#events li", "deposited $1,234.56");
  }
  await shows(page, "#notice", "Deposited $1,234.56.");
  await amount.fill("2000");
  await page.getByRole("button", { name: "Withdraw" }).click();
  await shows(page, "#notice", "the account holds $1,234.56, $2,000.00 cannot be withdrawn");
  await amount.fill("34.56");
  await page.getByRole("button", { name: "Withdraw" }).click();
  await shows(page, "#balance", "$1,200.00");
  await page.getByLabel("To account").fill("00001");
  await page.locator("#transfer-amount").fill("200");
  await page.getByRole("button", { name: "Transfer" }).click();
  await shows(page, "#notice", "Transferred $200.00 to 00001.");
  await shows(page, "#balance", "$1,000.00");
  await shows(other.page, "#balance", "$1,000.00");
  await page.getByLabel("To account").fill("nobody");
  await page.locator("#transfer-amount").fill("1");
  await page.getByRole("button", { name: "Transfer" }).click();
  await shows(page, "#notice", "there is no account nobody");
  await shows(page, "#balance", "$1,000.00");
  await page.getByLabel("Search by id or holder").fill("ada");
  await shows(page, "#rows", "$1,000.00");
  // What was refused is said by the browser, too; nothing else is.
  const expected = /the server responded with a status of 409/;
  assert.deepEqual(faults.filter((fault) => !expected.test(fault)), []);
  assert.deepEqual(other.faults, []);

  // The service goes away and comes back: so does the page.
  console.log("restart");
  await lines.next();
  await shows(page, "#connection", "live");
  await amount.fill("5");
  await page.getByRole("button", { name: "Deposit" }).click();
  for (const here of [page, other.page]) {
    await shows(here, "#balance", "$1,005.00");
    await shows(here, "#events li", "deposited $5.00");
  }
  await other.context.close();

  // An account with a history, and one that is closed.
  await page.goto(`${url}/#/accounts/00499`);
  await shows(page, "#account-title", "CDNOW customer 00499");
  await shows(page, "#history", "opened by CDNOW customer 00499");
  assert.equal(await page.locator("#balances path").count(), 1);
  await page.goto(`${url}/#/accounts/ada`);
  await shows(page, "#balance", "$1,005.00");
  await page.getByRole("button", { name: "Close the account" }).click();
  await shows(page, "#balance", "(closed)");
  assert.ok(await page.locator("#actions").isHidden());
  await context.close();
}

// Each view in each look: no fault that axe knows, nothing wider than the window, and a picture.
async function look() {
  for (const colorScheme of ["light", "dark"]) {
    for (const [size, viewport] of [["wide", WIDE], ["narrow", NARROW]]) {
      for (const [view, at, says] of [["bank", "/", "CDNOW customer 00001"], ["account", "/#/accounts/00499", "opened by"]]) {
        const { page, context } = await open({ viewport, colorScheme, bypassCSP: true }, at);
        await shows(page, view === "bank" ? "#rows" : "#history", says);
        await shows(page, "#months svg", "at most");
        await shows(page, "#status", "records safe from a power cut");
        await page.evaluate(axe);
        const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document));
        const found = violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`);
        assert.deepEqual(found, [], `${view} ${size} ${colorScheme}`);
        const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wider <= 0, `${view} ${size}: ${wider} pixels wider than the window`);
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

try {
  await walk();
  await look();
} finally {
  await browser.close();
}
process.exit(0);
