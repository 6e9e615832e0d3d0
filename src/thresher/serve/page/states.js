// What stands in the place of passages where there are none, each with the way out.

import { el, many } from "./dom.js";

export function failure(error, { again, settings, key }) {
  const button = (label, act, main = true) => el("button", { type: "button", class: main ? "main" : "", onclick: act }, label);
  if (error.status === 401) return panel("This server asks for a key", "Passages are shown to those who have one.", button("Enter the key", key));
  if (error.status === 403) return panel("This key may not do that", error.message, button("Use another key", key));
  if (error.status === 429) return waiting("The server is busy", error, again);
  if (error.status === 503) return waiting("The server is not ready", error, again);
  if (error.status === 0) return waiting("No connection", error, again, 5);
  if (error.status === 400 || error.status === 422) return panel("This cannot be asked", error.message, button("Change the settings", settings));
  return panel("The request failed", error.message, button("Try again", again));
}

export function nothing({ withheld, filters, clear }) {
  if (withheld) return panel("Nothing to hand over", "Passages were found, but no sentence of them scored as high as this index asks for (min_confidence).");
  if (filters) return panel("No passage matches", "None that passes the filters shares a term with the question.", el("button", { type: "button", class: "main", onclick: clear }, "Remove the filters"));
  return panel("No passage matches", "None shares a term with the question. Other words for the same thing may help.");
}

/** Passages are there, and pruning keeps no sentence of them. */
export function unanswered(passages) {
  return panel("No sentence is kept", `The first ${many(passages, "passage")} may not answer the question: none of their sentences scored high enough to be handed over. They are shown dim.`);
}

/** While the server has not answered yet. */
export const pending = (text) => el("p", { class: "pending" }, text);

export function welcome(index, indexes) {
  if (!index) return panel("No index", "This key may use none of the server's indexes.");
  if (!index.passages) return panel("The index is empty", `${index.name} has no passages yet. \`thresher sync\` and \`thresher add\` put some in; the page shows them at once.`);
  return el("p", { class: "welcome" }, indexes > 1 ? `${many(indexes, "index", "indexes")}; ` : "",
    `${many(index.passages, "passage")} in `, el("bdi", {}, index.name), ". ", el("span", { class: "wide" }, "Press ", el("kbd", {}, "/"), " to ask, ", el("kbd", {}, "?"), " for all keyboard shortcuts."));
}

function panel(title, said, ...actions) {
  const text = said.charAt(0).toUpperCase() + said.slice(1);
  return el("div", { class: "panel-state", role: "group", "aria-label": title }, el("h2", {}, title), el("p", {}, text), actions.length ? el("p", { class: "buttons" }, actions) : null);
}

/** Busy, loading or away: tries again by itself when the server says so, or after `pause` seconds. */
function waiting(title, error, again, pause = 2) {
  let left = Math.min(60, Math.max(1, Math.ceil(error.retryAfter ?? pause)));
  const clock = el("span", { "aria-hidden": "true" });
  const made = panel(title, error.message, el("button", { type: "button", class: "main", onclick: () => { clearInterval(timer); again(); } }, "Try now"), clock);
  const tick = () => {
    clock.textContent = ` or by itself in ${left} s`;
    if (left-- > 0) return;
    clearInterval(timer);
    if (made.isConnected) again();
  };
  const timer = setInterval(() => (made.isConnected ? tick() : clearInterval(timer)), 1000);
  tick();
  return made;
}
