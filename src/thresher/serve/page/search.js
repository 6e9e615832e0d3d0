// The search page: type, see each stage's ranking as it ends, then the passages.

import { forgetKey, get, post } from "./api.js";
import { announce, byId, copy, count, el, many, milliseconds } from "./dom.js";
import { countable, fill, MOST } from "./facets.js";
import { prompt } from "./prompt.js";
import * as query from "./query.js";
import { difference, Setting } from "./results.js";
import { failure, nothing, pending, unanswered, welcome } from "./states.js";

const PAUSE = 250; // milliseconds without a key before a question is asked
const SLOW = 700; // milliseconds without anything to show before the page says that it waits

let state = query.read(location.search);
let server = null; // what /info tells; nothing is asked before it is there
let sets = [];
let counts = {};
let counting = 0; // of the requests for counts the last one is shown
let running = null; // the AbortController of what is asked now
let timer = 0;
let slow = 0;

const input = byId("query");
const index = () => server?.indexes.find((one) => one.name === state.index) ?? server?.indexes[0];
const schema = () => index()?.fields ?? {};

function change(next, asks = true, entry = true) {
  const typed = timer ? { q: input.value } : {}; // a pause that has not ended yet must not lose what was typed
  state = { ...state, ...typed, ...next };
  remember(entry);
  entitle();
  if (asks) run(); else shape();
}

/** The URL says what is shown; `entry` also makes it one step of the browser's history. */
function remember(entry) {
  const url = location.pathname + query.write(state);
  if (url !== location.pathname + location.search) history[entry ? "pushState" : "replaceState"](null, "", url);
}

function entitle() {
  document.title = state.q ? `${state.q} · thresher` : "thresher";
}

function stop() {
  running?.abort();
  running = null;
  clearTimeout(timer);
  timer = 0;
  clearTimeout(slow);
  document.body.classList.remove("busy");
  for (const set of sets) set.element.removeAttribute("aria-busy");
}

async function run() {
  stop();
  if (!server) return;
  const asked = state.q.trim();
  document.body.classList.toggle("home", !asked);
  controls();
  if (!asked) return home();
  const mine = (running = new AbortController());
  if (byId("state").contains(document.activeElement)) byId("results").focus(); // its button goes away
  byId("state").replaceChildren();
  wait("Searching …");
  arrange();
  byId("difference").hidden = true;
  const bodies = [query.body(state, schema()), ...(state.versus ? [query.body(state, schema(), query.other(state))] : [])];
  document.body.classList.add("busy");
  try {
    await Promise.all([answers(bodies, mine.signal), facets(mine.signal)]);
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    mine.abort(); // the other setting's request, too
    byId("sets").replaceChildren();
    sets = [];
    controls();
    byId("state").replaceChildren(failure(error, { again: run, settings: showSettings, key: askAgain }));
    announce(`${error.message}`);
  } finally {
    if (running === mine) {
      clearTimeout(slow);
      document.body.classList.remove("busy");
    }
  }
}

/** Say that the answer takes time, and whether that is because the server has only just started. */
function wait(text) {
  clearTimeout(slow);
  const before = byId("state").firstChild;
  const say = async () => {
    if (sets[0]?.list.children.length || byId("state").firstChild !== before || document.querySelector("dialog[open]")) return;
    const note = pending(text);
    byId("state").replaceChildren(note);
    announce(text);
    const ready = await fetch("/ready", { cache: "no-store" }).catch(() => null);
    if (ready?.status !== 503 || !note.isConnected) return;
    note.textContent = "The server has just started and is loading its models. The first answer takes longer.";
    announce(note.textContent);
  };
  slow = setTimeout(say, SLOW);
}

/** One after the other: side by side they would take each other's time, and their milliseconds are compared. */
async function answers(bodies, signal) {
  for (const [i, set] of sets.entries()) {
    set.answer = null;
    await set.run(bodies[i], signal);
    if (signal.aborted) return;
    shape();
  }
  say();
  if (sets[0].answer.commit !== index()?.commit) await renew(signal);
}

/** The index has another commit than when the page was opened: its fields and counts may be others. */
async function renew(signal) {
  try {
    server = await get("/info");
  } catch {
    return; // the passages are there
  }
  if (signal.aborted) return;
  if (!byId("settings").contains(document.activeElement)) settings();
  await facets(signal); // also of fields that are new
}

function askAgain() {
  forgetKey();
  start();
}

function home() {
  byId("sets").replaceChildren();
  sets = [];
  counts = {};
  byId("difference").hidden = true;
  shape();
  byId("state").replaceChildren(welcome(index(), server.indexes.length));
}

/** One column, or two. What is there is kept until the answer comes. */
function arrange() {
  const wanted = state.versus ? 2 : 1;
  const labels = wanted === 1 ? [""] : [label(state.without), label(query.other(state))];
  if (sets.length === wanted && sets.every((set, i) => set.label === labels[i])) return;
  const view = () => ({
    schema: schema(), tiers: () => index()?.tiers ?? 1, changed: controls, toast, stages: () => index()?.stages ?? [],
    filter: (name, value) => change({ fields: { ...state.fields, [name]: [...new Set([...(state.fields[name] ?? []), value])] } }),
  });
  const old = sets[0];
  sets = labels.map((text, i) => Object.assign(new Setting("ab"[i], text, view()), { label: text }));
  if (old && wanted !== 1) sets[0].list.replaceChildren(...old.list.children);
  byId("sets").replaceChildren(...(wanted === 2 ? [switcher()] : []), ...sets.map((set) => set.element));
  byId("sets").className = `sets ${wanted === 2 ? "two" : ""}`;
  byId("sets").dataset.shown = "a";
}

/** Where there is no room for two columns: which of them is shown. */
function switcher() {
  const buttons = sets.map((set) => el("button", { type: "button", "aria-pressed": String(set.name === "a"), onclick: (event) => {
    byId("sets").dataset.shown = set.name;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === event.currentTarget));
  } }, set.label));
  return el("div", { class: "switch", role: "group", "aria-label": "Setting" }, buttons);
}

const label = (without) => (without.length ? `Without ${without.map(plain).join(" and ")}` : "All stages");

const NAMES = { interpolate: "vectors", rerank: "the ranker", select: "context pruning" };
const plain = (stage) => (NAMES[stage] ? `${NAMES[stage]}` : stage);

/** What follows from answers that are there: filters, places, the sentence about both. */
function shape() {
  const filters = Object.values(state.fields).flat().length + Object.keys(state.ranges).length + (state.tiers ? 1 : 0) + (state.where.trim() ? 1 : 0);
  byId("side-toggle").textContent = `Filters and settings${filters ? ` (${many(filters, "filter")})` : ""}`;
  fill(byId("facets"), { state, schema: counts === null ? {} : schemaShown(), counts: counts ?? {}, tiers: index()?.tiers ?? 1, change, again: shape });
  const both = sets.length === 2 && sets.every((set) => set.answer);
  byId("difference").hidden = !both;
  if (both) {
    byId("difference").textContent = difference(...sets);
    sets[1].compare(sets[0]);
    sets[0].compare(sets[1]);
  }
  controls();
  const first = sets[0];
  if (first?.answer && !first.answer.passages.length) byId("state").replaceChildren(nothing({
    withheld: first.answer.withheld, filters: query.filtered(state), clear: () => change({ where: "", fields: {}, ranges: {}, tiers: "" }),
  }));
  else if (first?.answer?.stages.some((one) => one.stage === "select" && one.outcome === "done") && first.answer.tokens === 0) byId("state").replaceChildren(unanswered(first.answer.passages.length));
  else if (state.q.trim() && (first?.answer || first?.list.children.length)) byId("state").replaceChildren();
}

const schemaShown = () => (state.q.trim() ? schema() : {});

function say() {
  const { passages, milliseconds: ms } = sets[0].answer;
  const kept = byId("state").querySelector("h2")?.textContent;
  const found = `${passages.length ? `${many(passages.length, "passage")} in ${milliseconds(ms)}` : ""}${passages.length && kept ? ". " : ""}${kept ?? ""}`;
  announce(sets.length === 2 ? `${found}. ${byId("difference").textContent}` : found);
}

/** Counts of a field under its own selection would hide the other values: they are counted without it. */
async function facets(signal) {
  const mine = ++counting;
  const here = schema(), fields = countable(here);
  const picked = fields.filter((name) => state.fields[name]);
  const rest = fields.filter((name) => !state.fields[name]);
  const counted = async (names, except) => {
    if (!names.length) return {};
    const body = { fields: names, query: state.q, limit: MOST + 1 };
    if (state.index) body.index = state.index;
    const where = query.filter(state, here, except);
    if (where) body.where = where;
    return (await post("/facets", body, { signal })).facets;
  };
  let found = [];
  try {
    found = await Promise.all([counted(rest, ""), ...picked.map((name) => counted([name], name))]);
  } catch { /* without counts the passages are still worth reading; what is wrong with the request, /ask says */ }
  if (signal.aborted || mine !== counting) return;
  counts = Object.assign({}, ...found);
  shape();
}

function controls() {
  const bar = byId("bar");
  bar.hidden = !state.q.trim() || !index();
  if (bar.hidden) return;
  const stages = (index().stages ?? []).slice(1);
  const held = bar.contains(document.activeElement) ? document.activeElement.id : null;
  const choose = el("select", { id: "versus", onchange: (event) => change({ versus: event.target.value }) },
    el("option", { value: "" }, "nothing"),
    stages.map((name) => el("option", { value: name, selected: state.versus === name }, `${state.without.includes(name) ? "with" : "without"} ${plain(name)}`)));
  const cards = sets[0]?.cards ?? [];
  bar.replaceChildren(
    stages.length ? el("label", { for: "versus" }, "Compare with ", choose) : "",
    el("span", { class: "space" }),
    el("button", { id: "copy-prompt", type: "button", disabled: !cards.length, onclick: copyPrompt }, "Copy as prompt"),
    el("button", { id: "copy-link", type: "button", onclick: copyLink }, "Copy link"));
  if (held) byId(held)?.focus();
}

async function copyPrompt() {
  const cards = sets[0].cards;
  await copied(prompt(state.q.trim(), cards.map((card) => card.cited)), `Prompt with ${many(cards.length, "passage")} copied`);
}

const copyLink = () => copied(location.href, "Link copied");

async function copied(text, done) {
  try {
    await copy(text);
    announce(done);
    toast(done);
  } catch (error) {
    announce(error.message);
    toast(error.message);
  }
}

function toast(text) {
  document.querySelector(".toast")?.remove();
  const made = el("div", { class: "toast", "aria-hidden": "true" }, text);
  document.body.append(made);
  setTimeout(() => made.remove(), 1800);
}

// ---- settings

function settings() {
  const box = byId("settings");
  const number = (key, label, hint, most) => el("label", {}, label, el("input", {
    type: "number", min: 1, max: most, step: 1, value: state[key] ?? "", placeholder: hint, "data-key": key,
    onchange: (event) => change({ [key]: event.target.value && event.target.checkValidity() ? Number(event.target.value) : null }),
  }));
  const stages = index()?.stages ?? [];
  const off = Object.entries(index()?.without ?? {});
  const defaults = index()?.defaults ?? {};
  box.replaceChildren(
    el("legend", {}, "Settings"),
    server.indexes.length > 1 ? el("label", {}, "Index", el("select", { id: "index", onchange: (event) => {
      Object.assign(state, { fields: {}, ranges: {}, where: "", without: [], versus: "", tiers: "", index: event.target.value });
      counts = {};
      sets = [];
      settings();
      change({});
      byId("index").focus();
    } }, server.indexes.map((one) => el("option", { selected: one === index() }, one.name)))) : "",
    el("label", {}, "Filter", el("input", { id: "where", type: "text", spellcheck: "false", autocapitalize: "off", value: state.where, placeholder: example(), "aria-describedby": "where-hint", onchange: (event) => change({ where: event.target.value }) })),
    el("p", { id: "where-hint", class: "note" }, "field = value, with and, or, not, >, in, exists"),
    number("k", "Passages", `${defaults.k ?? 5}, as the index says`, server.limits?.max_k ?? 1000),
    number("tokens", "Tokens at most", defaults.max_context_tokens ? `${count(defaults.max_context_tokens)}, as the index says` : "no limit", 1000000),
    ...(stages.length > 1 ? [el("p", { class: "legend", id: "stages-label" }, "Stages"), el("div", { role: "group", "aria-labelledby": "stages-label" }, stages.slice(1).map((name) => {
      const check = el("input", { type: "checkbox", onchange: (event) => change({ without: event.target.checked ? state.without.filter((one) => one !== name) : [...state.without, name] }) });
      check.checked = !state.without.includes(name);
      return el("label", { class: "choice" }, check, el("span", { class: "value" }, name), el("span", { class: "note" }, NAMES[name] ?? ""));
    }))] : []),
    off.length ? el("details", { class: "off" }, el("summary", {}, many(off.length, "stage is off", "stages are off")), el("dl", {}, off.map(([name, why]) => [el("dt", {}, name), el("dd", {}, why)]))) : "");
  byId("about").href = `/page/about.html${state.index ? `?index=${encodeURIComponent(state.index)}` : ""}`;
}

function example() {
  const found = Object.entries(schema()).find(([, kind]) => ["string", "integer"].includes(kind));
  return found ? `${found[0]} = ${found[1] === "integer" ? "2024" : "…"}` : "";
}

function showSettings() {
  side(true);
  byId("where").focus();
}

function side(open) {
  byId("side-toggle").setAttribute("aria-expanded", String(open));
  byId("side").classList.toggle("open", open);
}

// ---- keys

function step(by) {
  const set = sets.find((one) => one.element.contains(document.activeElement)) ?? sets[0];
  const cards = set?.cards ?? [];
  const at = cards.findIndex((card) => card.element.contains(document.activeElement));
  if (at + by < 0) { input.focus(); return; }
  focus(set, cards[Math.min(cards.length - 1, at + by)]);
}

function focus(set, card) {
  if (!card) return;
  for (const one of set.cards) one.element.firstChild.tabIndex = one === card ? 0 : -1;
  card.element.firstChild.focus({ preventScroll: true });
  card.element.scrollIntoView({ block: "nearest" });
}

function across(by) {
  if (sets.length < 2) return false;
  const from = sets.findIndex((set) => set.element.contains(document.activeElement));
  const to = sets[from + by];
  if (from < 0 || !to) return false;
  const at = sets[from].cards.findIndex((card) => card.element.contains(document.activeElement));
  focus(to, to.cards[Math.min(at, to.cards.length - 1)]);
  return true;
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest("input, textarea, select");
  const passage = event.target.closest("article");
  if (event.key === "/" && (!typing || typing.type === "checkbox")) { event.preventDefault(); input.focus(); input.select(); }
  else if (event.key === "?" && (!typing || typing.type === "checkbox")) byId("keys-dialog").showModal();
  else if (event.key === "ArrowDown" && (passage || event.target === input || event.target === document.body) && sets[0]?.cards.length) { event.preventDefault(); step(1); }
  else if (event.key === "ArrowUp" && passage) { event.preventDefault(); step(-1); }
  else if (event.key === "ArrowRight" && passage && across(1)) event.preventDefault();
  else if (event.key === "ArrowLeft" && passage && across(-1)) event.preventDefault();
  else if (event.key === "Escape") escape(event, passage);
});

function escape(event, passage) {
  if (event.target !== input) {
    const within = passage && passage !== event.target;
    if (within) passage.focus(); else input.focus();
    return;
  }
  event.preventDefault();
  if (document.body.classList.contains("busy")) { stop(); return; }
  input.value = "";
  change({ q: "" });
}

input.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(() => change({ q: input.value }, true, !state.q), PAUSE);
});
byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(timer);
  const asking = input.value === state.q && document.body.classList.contains("busy");
  if (!asking) change({ q: input.value });
});
byId("side-toggle").addEventListener("click", () => side(byId("side-toggle").getAttribute("aria-expanded") !== "true"));
byId("help").addEventListener("click", () => byId("keys-dialog").showModal());
addEventListener("popstate", () => {
  state = query.read(location.search);
  input.value = state.q;
  entitle();
  if (server) settings();
  run();
});

// ---- start

async function start() {
  if (document.activeElement !== input) input.value = state.q; // somebody may have typed before this script was there
  entitle();
  if (!state.q) input.focus();
  document.body.classList.toggle("home", !state.q.trim());
  byId("state").replaceChildren();
  wait("Waiting for the server …");
  try {
    server = await get("/info");
    clearTimeout(slow);
    byId("state").replaceChildren();
  } catch (error) {
    clearTimeout(slow);
    byId("state").replaceChildren(failure(error, { again: start, settings: showSettings, key: askAgain }));
    announce(error.message);
    return;
  }
  const stages = index()?.stages.slice(1) ?? []; // a link may come from another index, or another time
  state.without = state.without.filter((name) => stages.includes(name));
  if (!stages.includes(state.versus)) state.versus = "";
  settings();
  change({ q: input.value }, true, false); // typed while the server was waited for
}

start();
