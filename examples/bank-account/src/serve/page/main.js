// The page: which accounts are listed, what is open, and what comes.

import * as account from "./account.js";
import { accountPath, ask, change } from "./bank.js";
import { bars } from "./charts.js";
import { $, count, dollars, make, name, say, soon, when } from "./dom.js";
import * as status from "./status.js";

const KINDS = ["Opened", "Deposited", "Withdrawn", "Closed", "TransferRequested", "TransferDebited",
  "TransferRefused", "TransferCompleted", "TransferCreditRefused", "TransferRefunded",
  "TransferRefundFailed", "TransferExpired"];
const PAGE = 25;
const KEPT = 50;

// The pages that were gone through, as what each begins after.
const list = { q: "", pages: [null], next: null, ids: new Set(), round: 0 };
// The newest event that was seen: a list that is asked for because of it has it.
let seen = 0;

async function showList() {
  list.round += 1;
  const { round } = list;
  const query = new URLSearchParams({ limit: PAGE });
  if (list.q !== "") query.set("q", list.q);
  if (list.pages.at(-1) !== null) query.set("after", list.pages.at(-1));
  if (seen > 0) query.set("at_least", seen);
  let page = await ask(`/v1/accounts?${query}`);
  // A search for common words looks at so many accounts at once, and no more.
  while (page.accounts.length === 0 && page.next !== null && round === list.round) {
    query.set("after", page.next);
    page = await ask(`/v1/accounts?${query}`);
  }
  if (round !== list.round) return;
  list.next = page.next;
  list.ids = new Set(page.accounts.map((one) => one.id));
  const rows = page.accounts.map((one) => make("tr", { "aria-current": one.id === account.current() && "true" },
    make("td", {}, make("a", { href: `#/accounts/${encodeURIComponent(one.id)}` }, name(one.id))),
    make("td", {}, name(one.holder)),
    make("td", { class: "number" }, dollars(one.balance) + (one.closed ? " (closed)" : ""))));
  if (rows.length === 0) rows.push(make("tr", {}, make("td", { colspan: "3" }, "No account is found.")));
  $("rows").replaceChildren(...rows);
  $("page").textContent = `page ${count(list.pages.length)}`;
  $("previous").disabled = list.pages.length === 1;
  $("next").disabled = list.next === null;
}

const complain = (error) => say(error.message, true);
const showListSoon = soon(() => showList().catch(complain), 300);
const showMonths = async () => {
  const { months } = await ask("/v1/months");
  bars($("months"), months);
  $("months-rows").replaceChildren(...months.map((one) => make("tr", {},
    make("td", {}, one.month), make("td", { class: "number" }, dollars(one.deposited)))));
};
const showMonthsSoon = soon(() => showMonths().catch(complain), 1000);
const showStatusSoon = soon(() => status.refresh().catch(complain), 1000);
const showAccountSoon = soon(() => account.refresh(), 300);

// What came since the last picture was drawn: however much comes, only the newest are shown.
let came = [];
const showEvents = () => {
  const lines = came.slice(-KEPT).reverse().map((event) => {
    const of = event.account ?? event.transfer;
    const link = event.account === undefined ? name(of) : make("a", { href: `#/accounts/${encodeURIComponent(of)}` }, name(of));
    return make("li", {}, when(event.recorded), link, " ", ...account.said(event),
      event.amount === undefined ? "" : ` ${dollars(event.amount)}`);
  });
  came = [];
  $("no-events").hidden = true;
  $("events").prepend(...lines);
  while ($("events").children.length > KEPT) $("events").lastElementChild.remove();
};

function take(message) {
  const event = JSON.parse(message.data);
  seen = Math.max(seen, event.position);
  if (came.length === 0) requestAnimationFrame(showEvents);
  came.push(event);
  if (came.length > 10 * KEPT) came.splice(0, came.length - KEPT);
  if (event.type === "Opened" || list.ids.has(event.account)) showListSoon();
  if (event.type === "Deposited") showMonthsSoon();
  if (event.account !== undefined && event.account === account.current()) showAccountSoon();
  showStatusSoon();
}

function follow() {
  const source = new EventSource("/v1/events");
  const badge = (says, kind) => {
    $("connection").textContent = says;
    $("connection").className = `badge ${kind}`;
  };
  source.addEventListener("open", () => badge("live", "good"));
  source.addEventListener("error", () => {
    badge("connection lost", "bad");
    // The browser goes on by itself, unless it was told no.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 3000);
  });
  KINDS.forEach((kind) => source.addEventListener(kind, take));
}

function route() {
  const at = location.hash.match(/^#\/accounts\/(.+)$/);
  if (at) {
    let id = at[1];
    try { id = decodeURIComponent(id); } catch { /* it stands there as it is */ }
    if (id !== account.current()) account.show(id).then(showListSoon);
  } else if (location.hash === "" || location.hash === "#/") {
    account.hide();
    showListSoon();
  }
}

function begin() {
  account.begin();
  const search = soon(() => {
    if ($("q").value.trim() === list.q) return;
    list.q = $("q").value.trim();
    list.pages = [null];
    showList().catch(complain);
  }, 200);
  $("q").addEventListener("input", search);
  $("search").addEventListener("submit", (event) => { event.preventDefault(); search(); });
  $("next").addEventListener("click", () => {
    list.pages.push(list.next);
    showList().catch(complain);
  });
  $("previous").addEventListener("click", () => {
    list.pages.pop();
    showList().catch(complain);
  });
  $("open").addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    const id = $("new-id").value;
    try {
      const holder = { holder: $("holder").value };
      const opened = id === "" ? await change("POST", "/v1/accounts", holder) : await change("PUT", accountPath(id), holder);
      form.reset();
      say("Opened.");
      location.hash = `#/accounts/${encodeURIComponent(opened.id)}`;
    } catch (error) {
      complain(error);
    }
  });
  addEventListener("hashchange", route);
  route();
  follow();
  Promise.all([showList(), showMonths(), status.refresh()]).catch(complain);
  setInterval(showStatusSoon, 5000);
}

begin();
