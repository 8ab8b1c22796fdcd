// Charts, drawn element by element.

import { dollars, draw } from "./dom.js";

const HEIGHT = 200;
// A bar is no wider, however few there are.
const BAR = 48;
const LEFT = 8;
const BOTTOM = 24;
const TOP = 20;

// Cents are exact; what is drawn need not be.
const size = (amount) => Number(amount);

function empty(into, says) {
  into.replaceChildren(document.createTextNode(says));
}

// As wide as there is room, so that its text is as large as all other.
const room = (into) => Math.min(Math.max(into.clientWidth, 240), 800);

function frame(width, label) {
  return draw("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label });
}

function text(x, y, anchor, says) {
  return draw("text", { x, y, "text-anchor": anchor }, says);
}

export function bars(into, months) {
  if (months.length === 0) return empty(into, "Nothing was deposited yet.");
  const largest = Math.max(...months.map((month) => size(month.deposited)), 0.01);
  const first = months[0].month;
  const last = months.at(-1).month;
  const width = room(into);
  const svg = frame(width, `Dollars deposited by month, ${first} to ${last}, at most ${dollars(best(months).deposited)} in ${best(months).month}`);
  const step = (width - 2 * LEFT) / months.length;
  const thick = Math.min(step * 0.8, BAR);
  months.forEach((month, at) => {
    const height = (size(month.deposited) / largest) * (HEIGHT - BOTTOM - TOP);
    const bar = draw("rect", {
      class: "bar", x: LEFT + at * step + (step - thick) / 2, y: HEIGHT - BOTTOM - height, width: thick, height,
    }, draw("title", {}, `${month.month}: ${dollars(month.deposited)}`));
    svg.append(bar);
  });
  svg.append(draw("line", { class: "axis", x1: LEFT, x2: width - LEFT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }));
  svg.append(text(LEFT, HEIGHT - 6, "start", first));
  if (months.length > 1) svg.append(text(width - LEFT, HEIGHT - 6, "end", last));
  svg.append(text(LEFT, 12, "start", `at most ${dollars(best(months).deposited)}`));
  return into.replaceChildren(svg);
}

function best(months) {
  return months.reduce((best, month) => (size(month.deposited) > size(best.deposited) ? month : best));
}

// `events` newest first, each with its time and the balance after it.
export function steps(into, events) {
  if (events.length === 0) return empty(into, "Nothing has happened yet.");
  const oldest = events.at(-1);
  const newest = events[0];
  const from = Date.parse(oldest.time);
  const to = Math.max(Date.parse(newest.time), from + 1);
  const largest = Math.max(...events.map((event) => size(event.balance)), 0.01);
  const width = room(into);
  const x = (time) => LEFT + ((Math.min(Math.max(Date.parse(time), from), to) - from) / (to - from)) * (width - 2 * LEFT);
  const y = (balance) => HEIGHT - BOTTOM - (size(balance) / largest) * (HEIGHT - BOTTOM - TOP);
  let path = "";
  for (const event of [...events].reverse()) {
    path += path === "" ? `M${x(event.time)} ${y(event.balance)}` : `H${x(event.time)}V${y(event.balance)}`;
  }
  const svg = frame(width, `Balance from ${oldest.time.slice(0, 10)} to ${newest.time.slice(0, 10)}: now ${dollars(newest.balance)}`);
  svg.append(draw("path", { class: "line", d: `${path}H${width - LEFT}` }));
  svg.append(draw("line", { class: "axis", x1: LEFT, x2: width - LEFT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }));
  svg.append(text(LEFT, HEIGHT - 6, "start", oldest.time.slice(0, 10)), text(width - LEFT, HEIGHT - 6, "end", newest.time.slice(0, 10)));
  return into.replaceChildren(svg);
}
