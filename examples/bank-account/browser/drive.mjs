// Drives a real Chromium over the bank's page: node drive.mjs URL DIRECTORY
//
// The bank has the whole ledger. What it does not find as it should be fails; pictures of the page go
// to DIRECTORY. For a restart of the service it says `restart` and waits for a line.

import assert from "node:assert/strict";
import { NARROW, WIDE, drive, look, open, shows, tell, url } from "./kit.mjs";

const HOLDER = `<b>Ada</b> & "Co" <img src=x onerror=alert(1)>`;

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
  // A word that all have in common is paged as all of them are.
  await page.getByLabel("Search by id or holder").fill("cdnow");
  await shows(page, "#rows", "CDNOW customer 00025");
  for (const [number, first] of [[2, "00026"], [3, "00051"]]) {
    await page.getByRole("button", { name: "Next" }).click();
    await shows(page, "#page", `page ${number}`);
    await shows(page, "#rows tr:first-child", `CDNOW customer ${first}`);
  }
  await page.getByLabel("Search by id or holder").fill("cdnow zebra");
  await shows(page, "#rows", "No account is found.");
  await page.getByLabel("Search by id or holder").fill("");
  await shows(page, "#rows", "CDNOW customer 00001");
  // The months of the chart are those of the table, and their sum is the ledger's.
  await page.locator("#overview summary").click();
  const months = await page.locator("#months-rows td.number").allTextContents();
  assert.equal(months.length, await page.locator("#months rect").count());
  const cents = months.map((text) => Number(text.replace(/[$,.]/g, "")));
  assert.equal(cents.reduce((sum, one) => sum + one, 0), 250_031_563);

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
  await tell("restart");
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
  await shows(page, "#history", "deposited");
  assert.equal(await page.locator("#balances path").count(), 1);
  // The longest one comes in portions, down to its beginning.
  await page.goto(`${url}/#/accounts/14048`);
  await shows(page, "#account-title", "CDNOW customer 14048");
  const told = page.locator("#history tr");
  for (let lines = await told.count(); ; lines = await told.count()) {
    if (lines === 25) assert.equal(await told.filter({ hasText: "opened by" }).count(), 0);
    if (await page.locator("#older").isHidden()) break;
    await page.locator("#older").click();
    await told.nth(lines).waitFor();
  }
  assert.ok(await told.count() > 200, "it has more than 200 events");
  await shows(page, "#history tr:last-child", "opened by CDNOW customer 14048");
  await page.goto(`${url}/#/accounts/ada`);
  await shows(page, "#balance", "$1,005.00");
  await page.getByRole("button", { name: "Close the account" }).click();
  await shows(page, "#balance", "(closed)");
  assert.ok(await page.locator("#actions").isHidden());
  await context.close();
}

const whole = [["#months svg", "at most"], ["#status", "records safe from a power cut"]];
await drive(walk, () => look([
  ["bank", "/", ["#rows", "CDNOW customer 00001"], ...whole],
  ["account", "/#/accounts/00499", ["#history", "deposited"], ...whole],
]));
