// Drives a real Chromium over a bank that goes to a replica and to Kafka: node sinks.mjs URL DIRECTORY
//
// Neither can be reached at first. When it says `restart`, they can, and one refuses a stream, the other
// another one.

import assert from "node:assert/strict";
import { WIDE, drive, look, open, shows, tell } from "./kit.mjs";

// What stands beside a name in the list of how far all is.
const far = (page, name) => page.locator("#status dt", { hasText: name }).locator("xpath=following-sibling::dd[1]");

const { page, faults } = await open({ viewport: WIDE });

async function without() {
  for (const name of ["replica", "Kafka"]) {
    await far(page, name).filter({ hasText: /^tries again .* [1-9][0-9]* records, .* behind; 0 parked$/ }).waitFor();
  }
  await shows(page, "#parked", "none");
  assert.deepEqual(faults, []);
}

async function withAll() {
  for (const name of ["replica", "Kafka"]) {
    await far(page, name).filter({ hasText: /^is level; 0 records, 0.0 s behind; 1 parked$/ }).waitFor();
  }
  await shows(page, "#parked li", "BankAccount/carl (replication): another origin's event");
  await shows(page, "#parked li", "BankAccount/long (publishing): ");
}

const away = [["#status dd", "tries again"]];
const back = [["#status dd", "is level"], ["#parked li", "BankAccount/carl"], ["#parked li", "BankAccount/long"]];
await drive(
  without,
  () => look([["away", "/", ...away]]),
  () => tell("restart"),
  withAll,
  () => look([["back", "/", ...back]]),
);
