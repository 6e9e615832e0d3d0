// What stands in the place of passages where there are none, each with the way out.

import { el, many } from "./dom.js";

export function failure(error, { again, settings, key }) {
  const button = (label, act, main = true) => el("button", { type: "button", class: main ? "main" : "", onclick: act }, label);
  if (error.status === 401) return panel("This server asks for a key", "Passages are shown to those who have one.", button("Enter the key", key));
  if (error.status === 403) return panel("This key may not do that", error.message, button("Use another key", key));
  if (error.status === 429) return waiting("The server is busy", error, again);
  if (error.status === 503) return waiting("The server is not ready", error, again);
  if (error.status === 0) return panel("No connection", error.message, button("Try again", again));
  if (error.status === 400 || error.status === 422) return panel("This cannot be asked", error.message, button("Change the settings", settings));
  return panel("The request failed", error.message, button("Try again", again));
}

export function nothing({ withheld, filters, clear }) {
  if (withheld) return panel("Nothing to hand over", "Passages were found, but no sentence of them scored as high as this index asks for (min_confidence).");
  if (filters) return panel("No passage matches", "None that passes the filters shares a term with the question.", el("button", { type: "button", class: "main", onclick: clear }, "Remove the filters"));
  return panel("No passage matches", "None shares a term with the question. Other words for the same thing may help.");
}

export function welcome(index, indexes) {
  if (!index) return panel("No index", "This key may use none of the server's indexes.");
  return el("p", { class: "welcome" }, indexes > 1 ? `${many(indexes, "index", "indexes")}; ` : "",
    `${many(index.passages, "passage")} in ${index.name}`, ". ", el("span", { class: "wide" }, "Press ", el("kbd", {}, "/"), " to ask, ", el("kbd", {}, "?"), " for all keys."));
}

function panel(title, said, ...actions) {
  const text = said.charAt(0).toUpperCase() + said.slice(1);
  return el("div", { class: "panel-state", role: "group", "aria-label": title }, el("h2", {}, title), el("p", {}, text), actions.length ? el("p", { class: "buttons" }, actions) : null);
}

/** Busy or loading: tries again by itself when the server says so. */
function waiting(title, error, again) {
  let left = Math.min(60, Math.max(1, Math.ceil(error.retryAfter ?? 2)));
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
