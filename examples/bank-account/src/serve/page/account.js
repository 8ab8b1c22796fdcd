// One account: what is in it, what happened to it, and what can be done.

import { accountPath, ask, change } from "./bank.js";
import { steps } from "./charts.js";
import { $, count, dollars, make, name, say, when } from "./dom.js";

// Lines of a history that are shown at first, and with each wish for older ones.
const FIRST = 25;
const MORE = 50;

let shown = null;

export const current = () => shown?.id ?? null;

export async function show(id) {
  shown = { id, sequence: 0, events: [], next: null, lines: FIRST };
  const mine = shown;
  $("account-title").replaceChildren(name(id));
  $("balance").textContent = "";
  $("history").replaceChildren();
  $("balances").replaceChildren();
  $("actions").hidden = true;
  $("older").hidden = true;
  $("account").hidden = false;
  $("main").classList.add("one");
  await refresh();
  if (mine === shown) $("account-title").focus();
}

export function hide() {
  shown = null;
  $("account").hidden = true;
  $("main").classList.remove("one");
}

export async function refresh() {
  const mine = shown;
  if (mine === null) return;
  try {
    const account = await ask(accountPath(mine.id));
    const page = await ask(`${accountPath(mine.id)}/events?limit=200`);
    if (mine !== shown) return;
    mine.sequence = account.sequence;
    take(mine, page);
    $("account-title").replaceChildren(name(account.holder), " ", make("span", { class: "quiet" }, name(account.id)));
    $("balance").textContent = dollars(account.balance) + (account.closed ? " (closed)" : "");
    $("actions").hidden = account.closed;
    fill();
  } catch (error) {
    if (mine === shown) say(error.message, true);
  }
}

// Puts the newest events before those that were read already, where the two meet.
function take(mine, page) {
  const last = page.events.at(-1);
  const meet = mine.events.findIndex((event) => event.position === last?.position);
  mine.next = meet < 0 ? page.next : mine.next;
  mine.events = [...page.events, ...(meet < 0 ? [] : mine.events.slice(meet + 1))];
}

function fill() {
  $("history").replaceChildren(...shown.events.slice(0, shown.lines).map(line));
  $("older").hidden = shown.lines >= shown.events.length && shown.next === null;
  steps($("balances"), shown.events);
}

function line(event) {
  const sign = event.type === "Withdrawn" ? "−" : "";
  return make("tr", {},
    make("td", { class: "number ordinal" }, count(event.sequence)),
    make("td", {}, when(event.time)),
    make("td", {}, ...said(event)),
    make("td", { class: "number" }, event.amount === undefined ? "" : sign + dollars(event.amount)),
    make("td", { class: "number" }, dollars(event.balance)));
}

// What an event says, in words.
export function said(event) {
  switch (event.type) {
    case "Opened": return ["opened by ", name(event.holder)];
    case "Deposited": return [event.cds === undefined ? "deposited" : `deposited for ${event.cds} ${event.cds === 1 ? "CD" : "CDs"}`];
    case "Withdrawn": return ["withdrawn"];
    case "Closed": return ["closed"];
    case "TransferRequested": return ["transfer wanted from ", name(event.from), " to ", name(event.to)];
    case "TransferDebited": return ["transfer taken out of ", name(event.from)];
    case "TransferCompleted": return ["transfer arrived"];
    case "TransferRefused": return ["transfer refused: ", name(event.reason)];
    case "TransferRefunded": return ["transfer given back"];
    case "TransferExpired": return ["transfer came too late"];
    default: return [event.type, ...(event.reason === undefined ? [] : [": ", name(event.reason)])];
  }
}

async function act(form, work) {
  const buttons = form.querySelectorAll("button");
  buttons.forEach((button) => { button.disabled = true; });
  try {
    say(await work());
    form.reset();
    await refresh();
  } catch (error) {
    say(error.message, true);
  } finally {
    buttons.forEach((button) => { button.disabled = false; });
  }
}

export function begin() {
  $("move").addEventListener("submit", (event) => {
    event.preventDefault();
    const { id } = shown;
    const amount = $("amount").value;
    const kind = event.submitter?.value ?? "deposits";
    act(event.target, async () => {
      const done = await change("POST", `${accountPath(id)}/${kind}`, { amount });
      return `${kind === "deposits" ? "Deposited" : "Withdrew"} ${dollars(done.event.amount)}.`;
    });
  });
  $("transfer").addEventListener("submit", (event) => {
    event.preventDefault();
    const { id } = shown;
    const body = { from: id, to: $("to").value, amount: $("transfer-amount").value };
    act(event.target, async () => {
      const { id: transfer } = await change("POST", "/v1/transfers", body);
      const ended = await ask(`/v1/transfers/${transfer}?wait=true`);
      if (ended.phase === "completed") return `Transferred ${dollars(ended.amount)} to ${ended.to}.`;
      throw new Error(`The transfer is ${ended.phase}${ended.reason === null ? "" : `: ${ended.reason}`}.`);
    });
  });
  $("close").addEventListener("submit", (event) => {
    event.preventDefault();
    const { id, sequence } = shown;
    // What is closed is what was seen: nothing came in meanwhile.
    act(event.target, async () => {
      await change("POST", `${accountPath(id)}/close`, undefined, sequence);
      return "Closed.";
    });
  });
  $("older").addEventListener("click", async () => {
    const mine = shown;
    mine.lines += MORE;
    try {
      while (mine.lines > mine.events.length && mine.next !== null) {
        const page = await ask(`${accountPath(mine.id)}/events?limit=200&before=${mine.next}`);
        if (mine !== shown) return;
        mine.events.push(...page.events);
        mine.next = page.next;
      }
      fill();
    } catch (error) {
      say(error.message, true);
    }
  });
}
