// The index page: what an index holds, the quality of its passages, its commits.

import { forgetKey, get } from "./api.js";
import { announce, byId, count, el, many, score } from "./dom.js";
import { failure } from "./states.js";

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

async function show(info, server) {
  const base = `/indexes/${encodeURIComponent(info.name)}`;
  const index = await told(base);
  const scored = !index.refused && Object.keys(index.pruned ?? {}).length > 0;
  const all = { ...info, ...(index.refused ? {} : index) };
  const quality = scored ? told(`${base}/quality?bins=24&examples=3`) : { refused: true }; // a model may have to read for it
  const commits = index.refused ? index : await told(`${base}/commits`);
  const place = el("div", {}, scored ? section("Quality", el("p", {}, "Passages are scored …")) : "");
  document.title = `${info.name} · thresher`;
  content.replaceChildren(
    el("h1", { dir: "auto" }, info.name),
    figures(all),
    index.refused?.status === 403 ? el("p", { class: "difference" }, "This key sees a part of the index. The rest of this page is for keys that see all of it.") : "",
    place,
    section("Fields", table(["field", "type"], Object.entries(all.fields ?? {})) ?? el("p", { class: "note" }, "The passages have no metadata with columns.")),
    section("Stages", stages(all), all.encoder ? el("p", {}, "Encoder: ", el("code", {}, all.encoder)) : ""),
    commits.refused ? "" : section("Commits", history(commits.commits ?? [])),
    all.recipe ? section("Recipe", facts(all.recipe)) : "",
    el("p", { class: "note" }, `thresher ${server.version}`));
  announce(`${info.name}: ${many(all.passages, "passage")}`);
  const found = await quality;
  if (scored) place.replaceChildren(found.refused ? section("Quality", el("p", {}, found.refused.message)) : histogram(found, all.pruned));
}

const REASONS = { score: "for a low score", duplicate: "as duplicates", junk: "as junk", dropped: "of these in no tier at all" };

const section = (title, ...children) => el("section", { class: "part" }, el("h2", {}, title), children.flat());

function figures(all) {
  const shown = [
    ["passages", all.passages], ["commit", all.commit === undefined ? null : String(all.commit)], [all.segments?.length === 1 ? "segment" : "segments", all.segments?.length], ["deleted", all.deleted || null],
    ...(Array.isArray(all.tiers) ? all.tiers.map((tier, i) => [`in tier ${tier.tier ?? i + 1}`, tier.passages ?? tier]) : []),
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
    off.length ? el("dl", { class: "facts" }, off.map(([name, why]) => el("div", {}, el("dt", {}, `${name} is off`), el("dd", {}, why)))) : null,
  ];
}

/** Bars by score; those below the threshold are what static pruning leaves out. */
function histogram(quality, pruned) {
  const bins = quality.bins ?? [];
  if (!bins.length) return "";
  const most = Math.max(1, ...bins.map((bin) => bin.count));
  const limit = quality.threshold;
  const bars = bins.map((bin) => {
    const bar = el("span", { class: typeof limit === "number" && bin.high <= limit ? "low" : "" });
    bar.style.blockSize = `${(100 * bin.count) / most}%`;
    return el("span", { class: "column", title: `${score(bin.low)} to ${score(bin.high)}: ${many(bin.count, "passage")}` }, bar);
  });
  const what = `Quality of ${many(bins.reduce((sum, bin) => sum + bin.count, 0), "passage")}, from ${score(bins[0].low)} to ${score(bins.at(-1).high)}`;
  return section("Quality",
    el("p", {}, quality.estimator ? `${many(quality.passages ?? 0, "passage")}, evenly spaced over the index, scored by the estimator “${quality.estimator}”. ` : "", "A low score means that hardly any question would be answered by the passage.", typeof limit === "number" ? ` Passages below ${score(limit)} (grey) are left out of the first tier.` : "",
      ` Left out: ${Object.entries(pruned).map(([reason, n]) => `${count(n)} ${REASONS[reason] ?? reason}`).join(", ")}.`),
    el("figure", { class: "histogram" }, el("div", { class: "columns", role: "img", "aria-label": what }, bars),
      el("figcaption", { class: "axis" }, el("span", {}, score(bins[0].low)), el("span", {}, "quality"), el("span", {}, score(bins.at(-1).high)))),
    el("details", {}, el("summary", {}, "As a table"), table(["from", "to", "passages"], bins.map((bin) => [score(bin.low), score(bin.high), count(bin.count)]))),
    examples(quality.examples ?? []));
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
  return table(names.map(plain), commits.map((one) => names.map((name) => cell(name, one[name]))));
}

function cell(name, value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return /number|commit/.test(name) ? String(value) : count(value);
  const moment = typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value) ? new Date(value) : null;
  return moment && !Number.isNaN(moment.valueOf()) ? el("time", { datetime: value }, moment.toLocaleString()) : String(value);
}

const plain = (name) => name.replaceAll("_", " ");

function table(head, rows) {
  if (!rows.length) return null;
  return el("div", { class: "wide-table", tabindex: "0", role: "region", "aria-label": head.join(", ") }, el("table", { class: "plain" },
    el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((value) => el("td", { dir: "auto" }, value)))))));
}

/** Any document as names and values, a level at a time. */
function facts(document) {
  return el("dl", { class: "facts-list" }, Object.entries(document).filter(([, value]) => value !== null && value !== "").map(([name, value]) =>
    el("div", { class: typeof value === "object" ? "nested" : null }, el("dt", {}, plain(name)), el("dd", {}, shown(value)))));
}

function shown(value) {
  if (Array.isArray(value)) return value.every((one) => typeof one !== "object") ? value.join(", ") : list(value);
  if (value !== null && typeof value === "object") return facts(value);
  return typeof value === "number" && Number.isInteger(value) ? count(value) : String(value);
}

const list = (values) => el("ul", { class: "documents" }, values.map((one) => el("li", {}, typeof one === "object" ? facts(one) : String(one))));

start();
