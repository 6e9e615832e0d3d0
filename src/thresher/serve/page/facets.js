// Filters: values of fields with their counts, ranges of numbers and dates, the tiers that are searched.

import { count, el, linkable, many } from "./dom.js";

const FEW = 6; // values of a field that are shown at first
export const MOST = 60; // values shown in all
const ranged = new Set(); // whole numbers that had many values: they stay a range, however few a filter leaves
const opened = new Set(); // fields whose further values are shown

/** Fields whose values can be counted. */
export const countable = (schema) =>
  Object.entries(schema).filter(([, kind]) => ["string", "strings", "boolean", "integer"].includes(kind)).map(([name]) => name).slice(0, 20);

/** `view` gives `state`, `schema`, `counts` (field to values), `tiers` (how many the index has), `change(state)`. */
export function fill(box, view) {
  const held = box.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  box.replaceChildren(...parts(view));
  if (held) box.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus();
}

function parts(view) {
  const { state, schema, counts, tiers, change } = view;
  const made = [];
  if (tiers > 1) made.push(group("Tiers", "that are searched", TIERS.map(([value, label]) => radio("tiers", label, state.tiers === value, `tiers/${value}`, () => change({ tiers: value })))));
  const seen = new Set(); // fields that say the same, such as the path and the document, need one facet
  for (const [name, kind] of Object.entries(schema)) {
    const values = counts[name] ?? [];
    const picked = state.fields[name] ?? [];
    if (kind === "integer" && (values.length > FEW || state.ranges[name])) ranged.add(name);
    const wide = kind === "float" || kind === "date" || ranged.has(name);
    if (wide) made.push(range(view, name, kind));
    else if (picked.length || (telling(values) && !seen.has(said(values)))) made.push(choices(view, name, values, picked));
    seen.add(said(values));
  }
  return made;
}

/** Whether to filter by a field's values leaves more than one passage, and they are no addresses. */
const telling = (values) => values.length > 0 && !(values.length > 2 && values[0].count === 1) && !linkable(values[0].value);

const said = (values) => JSON.stringify(values);

function choices(view, name, values, picked) {
  const all = [...picked.filter((one) => !values.some(({ value }) => String(value) === one)).map((value) => ({ value, count: 0 })), ...values];
  const shown = all.filter(({ value }, i) => i < (opened.has(name) ? MOST : FEW) || picked.includes(String(value)));
  const more = all.length - shown.length;
  const flip = () => { if (!opened.delete(name)) opened.add(name); view.again(); };
  return group(name, null, [
    ...shown.map(({ value, count: n }) => box(String(value), n, picked.includes(String(value)), `is/${name}/${value}`, () => view.change({
      fields: pruned({ ...view.state.fields, [name]: toggled(picked, String(value)) }),
    }))),
    more > 0 && !opened.has(name) ? el("button", { type: "button", class: "more", "data-key": `more/${name}`, onclick: flip }, `${many(Math.min(more, MOST - FEW), "more value")}`) : null,
    opened.has(name) ? el("button", { type: "button", class: "more", "data-key": `more/${name}`, onclick: flip }, "Fewer values") : null,
  ]);
}

function range(view, name, kind) {
  const held = view.state.ranges[name] ?? {};
  const input = (part, label) => el("label", {}, label, el("input", {
    type: kind === "date" ? "text" : "number", step: kind === "integer" ? "1" : "any", value: held[part] ?? "", "data-key": `${part}/${name}`,
    placeholder: kind === "date" ? "2024-05" : null, inputmode: kind === "date" ? "text" : "decimal", "aria-label": `${name} ${label}`,
    onchange: (event) => {
      const next = { ...held, [part]: event.target.value.trim() };
      for (const one of ["from", "to"]) if (!next[one]) delete next[one];
      const ranges = { ...view.state.ranges, [name]: next };
      if (!Object.keys(next).length) delete ranges[name];
      view.change({ ranges });
    },
  }));
  return group(name, null, [el("div", { class: "range" }, input("from", "from"), input("to", "to"))]);
}

function group(name, note, children) {
  return el("fieldset", { class: "facet" }, el("legend", { dir: "auto" }, name, note ? el("span", { class: "note" }, ` ${note}`) : null), children);
}

const TIERS = [["", "as the index says"], ["first", "the first only"], ["both", "both"]];

function radio(name, label, checked, key, change) {
  const input = el("input", { type: "radio", name, "data-key": key, onchange: change });
  input.checked = checked;
  return el("label", { class: "choice" }, input, el("span", { class: "value" }, label));
}

function box(label, n, checked, key, change) {
  const input = el("input", { type: "checkbox", "data-key": key, onchange: change });
  input.checked = checked;
  return el("label", { class: "choice" }, input, el("span", { class: "value", dir: "auto", title: label.length > 24 ? label : null }, label), el("span", { class: "count" }, count(n), el("span", { class: "hidden" }, n === 1 ? " passage" : " passages")));
}

const toggled = (values, value) => (values.includes(value) ? values.filter((one) => one !== value) : [...values, value]);

const pruned = (fields) => Object.fromEntries(Object.entries(fields).filter(([, values]) => values.length));
