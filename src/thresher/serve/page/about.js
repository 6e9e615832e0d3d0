// The index page: what an index holds, the quality of its passages, its commits.

import { forgetKey, get } from "./api.js";
import { certificate } from "./certificate.js";
import { announce, byId, count, el, many, moment, score } from "./dom.js";
import { failure } from "./states.js";
import { table } from "./tables.js";

const content = byId("content");

async function start() {
  content.replaceChildren(el("p", { class: "note" }, "Loading …"));
  try {
    const server = await get("/info");
    const wanted = new URLSearchParams(location.search).get("index");
    const info = server.indexes.find((one) => one.name === wanted) ?? server.indexes[0];
    choose(server.indexes, info);
    if (!info) { content.replaceChildren(el("p", {}, "This key may use none of the server's indexes.")); return; }
    await show(info, server);
  } catch (error) {
    content.replaceChildren(failure(error, { again: start, settings: start, key: () => { forgetKey(); start(); } }));
    announce(error.message);
  }
}

function choose(indexes, info) {
  byId("search").href = info && info !== indexes[0] ? `/?index=${encodeURIComponent(info.name)}` : "/";
  byId("choose").replaceChildren(indexes.length < 2 ? "" : el("label", {}, "Index ",
    el("select", { onchange: (event) => { location.search = `?index=${encodeURIComponent(event.target.value)}`; } },
      indexes.map((one) => el("option", { selected: one === info }, one.name)))));
}

/** What the server tells of an index; null where it has nothing, or this key may not see it. */
async function told(path) {
  try {
    return await get(path);
  } catch (error) {
    if (error.status === 404 || error.status === 403 || error.status === 400) return { refused: error };
    throw error;
  }
}

/** The sections in their order: what `/indexes/NAME` told, and the requests that may take longer, give the content; null leaves it out. */
const SECTIONS = [
  ["Quality", async (all, later) => (scored(all) ? histogram(await later.quality, all.pruned) : null)],
  ["Certificate", (all) => (all.certificate ? certificate(all.certificate) : null)],
  ["Fields", (all) => table("Fields", ["field", "type"], Object.entries(all.fields ?? {})) ?? el("p", { class: "note" }, "The passages have no metadata with columns.")],
  ["Stages", (all) => [stages(all), all.encoder ? el("p", {}, "Encoder: ", el("code", {}, all.encoder)) : null]],
  ["Commits", async (all, later) => (later.commits ? history((await later.commits).commits ?? []) : null)],
  ["Recipe", (all) => (all.recipe ? facts(all.recipe) : null)],
];

const scored = (all) => Object.keys(all.pruned ?? {}).length > 0;

async function show(info, server) {
  const base = `/indexes/${encodeURIComponent(info.name)}`;
  const index = await told(base);
  const all = { ...info, ...(index.refused ? {} : index) };
  const later = index.refused ? {} : {
    commits: told(`${base}/commits`),
    quality: scored(all) ? told(`${base}/quality?bins=24&examples=3`) : null, // a model may have to read for it
  };
  document.title = `${info.name} · thresher`;
  const places = SECTIONS.map(([title, content]) => filled(title, content(all, later)));
  content.replaceChildren(
    el("h1", { dir: "auto" }, info.name),
    figures(all),
    index.refused?.status === 403 ? el("p", { class: "difference" }, "This key sees a part of the index. The rest of this page is for keys that see all of it.") : "",
    ...places.map((one) => one.place),
    el("p", { class: "note" }, `thresher ${server.version}`));
  announce(`${info.name}: ${many(all.passages, "passage")}`);
  await Promise.all(places.map((one) => one.done));
}

/** A section, which says that it waits where its content comes later, and goes where there is none. */
function filled(title, given) {
  const fill = (found) => {
    const children = [found].flat(2).filter((one) => one);
    place.replaceChildren(el("h2", {}, title), ...children);
    place.hidden = !children.length;
  };
  const place = el("section", { class: "part" });
  if (!(given instanceof Promise)) { fill(given); return { place, done: null }; }
  fill(el("p", { class: "note" }, "Loading …"));
  return { place, done: given.then(fill, (error) => fill(el("p", { class: "problem" }, error.message))) };
}

const REASONS = { score: "for a low score", duplicate: "as duplicates", junk: "as junk", dropped: "of these in no tier at all" };

function figures(all) {
  const shown = [
    ["passages", all.passages], ["commit", all.commit === undefined ? null : String(all.commit)], [all.segments?.length === 1 ? "segment" : "segments", all.segments?.length], ["deleted", all.deleted || null],
    ...(Array.isArray(all.tiers) && all.tiers.length > 1 ? all.tiers.map((tier, i) => [`in tier ${tier.tier ?? i + 1}`, tier.passages ?? tier]) : []),
    ...(all.bytes ? [bytes(all.bytes)] : []),
  ].filter(([, value]) => value !== null && value !== undefined && typeof value !== "object");
  return el("dl", { class: "figures" }, shown.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, typeof value === "number" ? count(value) : String(value)))));
}

function bytes(n) {
  const [unit, by] = n >= 1e9 ? ["gigabytes", 1e9] : n >= 1e6 ? ["megabytes", 1e6] : ["kilobytes", 1e3];
  return [unit, (n / by).toFixed(n / by < 10 ? 1 : 0)];
}

function stages(all) {
  const off = Object.entries(all.without ?? {});
  return [
    el("ol", { class: "stages" }, (all.stages ?? []).map((name) => el("li", {}, name))),
    off.length ? el("dl", { class: "facts" }, off.map(([name, why]) => el("div", {}, el("dt", {}, `Without ${name}`), el("dd", {}, why)))) : null,
  ];
}

/** Bars by score; those below the threshold are what static pruning leaves out. */
function histogram(quality, pruned) {
  if (quality.refused) return el("p", {}, quality.refused.message);
  const bins = quality.bins ?? [];
  if (!bins.length) return null;
  const most = Math.max(1, ...bins.map((bin) => bin.count));
  const limit = quality.threshold;
  const bars = bins.map((bin) => {
    const bar = el("span", { class: typeof limit === "number" && bin.high <= limit ? "low" : "" });
    bar.style.blockSize = `${(100 * bin.count) / most}%`;
    return el("span", { class: "column", title: `${score(bin.low)} to ${score(bin.high)}: ${many(bin.count, "passage")}` }, bar);
  });
  const what = `Quality of ${many(bins.reduce((sum, bin) => sum + bin.count, 0), "passage")}, from ${score(bins[0].low)} to ${score(bins.at(-1).high)}`;
  return [
    el("p", {}, quality.estimator ? `${many(quality.passages ?? 0, "passage")}, evenly spaced over the index, scored by the estimator “${quality.estimator}”. ` : "", "A low score means that hardly any question would be answered by the passage.", typeof limit === "number" ? ` Passages below ${score(limit)} (grey) are left out of the first tier.` : "",
      ` Left out: ${Object.entries(pruned).map(([reason, n]) => `${count(n)} ${REASONS[reason] ?? reason}`).join(", ")}.`),
    el("figure", { class: "histogram" }, el("div", { class: "columns", role: "img", "aria-label": what }, bars),
      el("figcaption", { class: "axis" }, el("span", {}, score(bins[0].low)), el("span", {}, "quality"), el("span", {}, score(bins.at(-1).high)))),
    el("details", {}, el("summary", {}, "As a table"), table("Passages by quality", ["from", "to", "passages"], bins.map((bin) => [score(bin.low), score(bin.high), count(bin.count)]))),
    examples(quality.examples ?? []),
  ];
}

function examples(found) {
  if (!found.length) return null;
  return [el("h3", {}, "Examples"), el("ul", { class: "examples" }, found.map((one) => el("li", {},
    el("p", { class: "facts" }, el("span", {}, `quality ${score(one.score)}`), el("span", { class: "docno" }, one.docno), one.tier ? el("span", {}, `tier ${one.tier}`) : null, one.pruned ? el("span", { class: "pruned" }, one.pruned === "duplicate" ? "folded into a duplicate" : "pruned for its score") : el("span", {}, "kept")) ,
    one.title ? el("h4", { dir: "auto" }, one.title) : null,
    el("p", { class: "text", dir: "auto" }, one.text?.length > 400 ? `${one.text.slice(0, 400).replace(/[\ud800-\udbff]$/, "")}…` : one.text))))];
}

function history(commits) {
  if (!commits.length) return el("p", { class: "note" }, "No commits are kept.");
  const names = [...new Set(commits.flatMap((one) => Object.keys(one)))].filter((name) => commits.some((one) => typeof one[name] !== "object" && one[name] !== ""));
  return table("Commits", names.map(plain), commits.map((one) => names.map((name) => cell(name, one[name]))));
}

function cell(name, value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return /number|commit/.test(name) ? String(value) : count(value);
  return moment(value) ?? String(value);
}

const plain = (name) => name.replaceAll("_", " ");

/** Any document as names and values, a level at a time. */
function facts(document) {
  return el("dl", { class: "facts-list" }, Object.entries(document).filter(([, value]) => value !== null && value !== "").map(([name, value]) =>
    el("div", { class: typeof value === "object" && Object.keys(value).length ? "nested" : null }, el("dt", {}, plain(name)), el("dd", {}, shown(value)))));
}

function shown(value) {
  if (Array.isArray(value)) return value.every((one) => typeof one !== "object") ? value.join(", ") : list(value);
  if (value !== null && typeof value === "object") return Object.keys(value).length ? facts(value) : "as by default";
  if (typeof value === "string" && moment(value)) return moment(value);
  return typeof value === "number" && Number.isInteger(value) ? count(value) : String(value);
}

const list = (values) => el("ul", { class: "documents" }, values.map((one) => el("li", {}, typeof one === "object" ? facts(one) : String(one))));

start();
