// Elements made of text nodes only: nothing here, and nothing on this page, parses a string as markup.

export function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const byId = (id) => document.getElementById(id);

export const count = (n) => Number(n).toLocaleString("en");

export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

export function milliseconds(value) {
  if (value >= 999.5) return `${(value / 1000).toFixed(value >= 9950 ? 1 : 2)} s`;
  return `${value >= 99.5 ? Math.round(value) : value >= 9.95 ? value.toFixed(1) : value.toFixed(2)} ms`;
}

export function score(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size >= 1000 ? String(Math.round(value)) : size >= 10 ? value.toFixed(1) : value.toFixed(size >= 1 ? 2 : 3);
}

/** A URL that may be linked: http and https only, never `javascript:` or `data:`. */
export function linkable(value) {
  if (typeof value !== "string" || !/^https?:\/\//i.test(value)) return null;
  try {
    const url = new URL(value);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

/** An ISO 8601 moment or day as the reader's locale writes it; null where the text is none. */
export function moment(text) {
  if (typeof text !== "string" || !/^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(text)) return null;
  const time = new Date(text);
  return Number.isNaN(time.valueOf()) ? null : el("time", { datetime: text, title: text }, time.toLocaleString([], { dateStyle: "medium", timeStyle: "short" }));
}

let clearing = 0;

/** Say something to people who do not see the page; an equal text is said again. */
export function announce(text) {
  const live = byId("live");
  live.textContent = "";
  clearTimeout(clearing);
  clearing = setTimeout(() => { live.textContent = text; }, 60);
}

export async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = el("textarea", { class: "hidden", "aria-hidden": "true" });
  area.value = text;
  const before = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus();
  if (!done) throw new Error("the browser did not allow copying");
}
