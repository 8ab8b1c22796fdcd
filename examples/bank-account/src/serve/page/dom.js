// Making and filling elements. Whatever users wrote becomes text, never markup.

export const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Names may be written in either direction: what stands beside them keeps its own.
export const name = (text) => make("bdi", {}, text);

export const dollars = (amount) => {
  const [whole, cents] = amount.split(".");
  return `$${whole.replace(/\B(?=(\d{3})+$)/g, ",")}.${cents}`;
};

export const count = (number) => number.toLocaleString("en-US");

// On narrow screens the day alone; the clock is a touch away.
export const when = (text) => make("time", { datetime: text, title: text },
  text.slice(0, 10), make("span", { class: "clock" }, ` ${text.slice(11, 19)}`));

export function say(text, bad = false) {
  const notice = $("notice");
  notice.textContent = text;
  notice.className = bad ? "bad" : "good";
}

// Runs `work` soon, once for however many asked.
export function soon(work, milliseconds) {
  let timer = 0;
  return () => {
    if (timer === 0) timer = setTimeout(() => { timer = 0; work(); }, milliseconds);
  };
}
