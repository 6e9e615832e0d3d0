// Tables that scroll by themselves, also with the keyboard.

import { el } from "./dom.js";

/** A table with a name for those who do not see it; null where there are no rows. */
export function table(title, head, rows) {
  if (!rows.length) return null;
  return el("div", { class: "wide-table", tabindex: "0", role: "region", "aria-label": title }, el("table", { class: "plain" },
    el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((value) => el("td", { dir: "auto" }, value)))))));
}
