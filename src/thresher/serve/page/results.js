// One setting's answer: the stages as they finish, then the passages. Two of them may stand side by side.

import { ask } from "./api.js";
import { count, el, many, milliseconds } from "./dom.js";
import { Card } from "./passage.js";

const PATIENCE = 160; // milliseconds after which a ranking is shown although the passages are not there yet

/** The label of an answer that is not exact: its expected recall where that is known. */
function exactness(answer) {
  const recall = finished(answer).map((row) => row.counts?.expected_recall).find((value) => value !== undefined);
  return recall === undefined ? "not exact" : `expected recall ${(100 * recall).toFixed(1)} %`;
}

export class Setting {
  /** `view` as a card's, `label` for the heading where there are two. */
  constructor(name, label, view) {
    this.name = name;
    this.view = { ...view, set: name };
    this.cards = [];
    this.stages = [];
    this.answer = null;
    this.list = el("ol", { class: "passages" });
    this.summary = el("p", { class: "summary" });
    this.waterfall = el("div", { class: "waterfall" });
    this.element = el("section", { class: "set", "aria-label": label || "Passages", "data-set": name },
      label ? el("h2", { class: "label" }, label) : el("h2", { class: "hidden" }, "Passages"),
      el("div", { class: "answer" }, el("div", { class: "timing" }, this.summary, this.waterfall), this.list));
  }

  /** Ask; what was shown before stays, dimmed, until there is something to replace it. */
  async run(body, signal) {
    this.stages = [];
    this.element.setAttribute("aria-busy", "true");
    let patience = 0;
    let there = false;
    const began = performance.now();
    try {
      this.answer = await ask(body, {
        signal,
        stage: (report) => {
          if (signal.aborted) return;
          this.stages.push(report);
          this.#time(null);
          clearTimeout(patience);
          if (!there) patience = setTimeout(() => this.#preview(report.ranking ?? [], body), PATIENCE);
        },
        passages: (found) => {
          there = true;
          clearTimeout(patience);
          if (!signal.aborted) this.#show(found);
        },
      });
      this.elapsed = performance.now() - began;
      this.#time(this.answer);
      this.#sum();
      return this.answer;
    } finally {
      clearTimeout(patience);
      if (!signal.aborted) this.element.removeAttribute("aria-busy");
    }
  }

  /** Say beside each passage how its place differs from that in another answer. */
  compare(other) {
    const places = new Map(other.cards.map((card) => [card.passage.docno, card.place]));
    for (const { passage, place, moved } of this.cards) {
      const before = places.get(passage.docno);
      const by = before === undefined ? null : before - place;
      moved.className = `moved ${by === null ? "only" : by > 0 ? "up" : by < 0 ? "down" : "same"}`;
      moved.textContent = by === null ? "only here" : by === 0 ? "" : by > 0 ? `▲ ${by} higher` : `▼ ${-by} lower`;
    }
  }

  #preview(ranking, body) {
    const shown = ranking.slice(0, body.k ?? 5);
    this.cards = [];
    this.list.replaceChildren(...shown.map((hit) =>
      el("li", { class: "preview" }, el("article", {},
        el("div", { class: "rank", "aria-hidden": "true" }, String(hit.rank)),
        el("div", { class: "words" }, el("h3", { dir: "auto" }, hit.title || hit.docno),
          hit.text ? el("p", { class: "text", dir: "auto" }, hit.text.length > 240 ? `${hit.text.slice(0, 240)}…` : hit.text) : null)))));
  }

  #show(found) {
    const scale = {};
    for (const { scores } of found.passages) for (const [name, value] of Object.entries(scores ?? {})) {
      const range = (scale[name] ??= { low: 0, high: 0 });
      range.low = Math.min(range.low, value);
      range.high = Math.max(range.high, value);
    }
    this.cards = found.passages.map((passage, i) => new Card(passage, i + 1, { ...this.view, scale }));
    const held = this.list.contains(document.activeElement);
    this.list.replaceChildren(...this.cards.map((card) => card.element));
    for (const [i, card] of this.cards.entries()) card.element.firstChild.tabIndex = i === 0 ? 0 : -1;
    if (held) (this.cards[0]?.element.firstChild ?? this.element.closest("main"))?.focus({ preventScroll: true }); // what had the focus is gone
  }

  #sum() {
    const { answer } = this;
    const shown = answer.passages.length;
    const left = this.cards.flatMap((card) => card.runs).reduce((sum, run) => sum + (run.kept ? 0 : run.sentences), 0);
    this.summary.replaceChildren(
      el("strong", {}, milliseconds(answer.milliseconds)), ` · ${many(shown, "passage")} of ${many(answer.candidates ?? shown, "candidate")}`,
      answer.tokens ? ` · ${many(answer.tokens, "token")}` : "", left ? ` · ${many(left, "sentence")} left out` : "",
      answer.exact === false ? el("span", { class: "warning" }, ` · ${exactness(answer)}`) : "");
  }

  /** Each stage begins where the one before ended. Stages that did not run say why. */
  #time(answer) {
    const rows = answer ? finished(answer) : this.stages.map((stage) => ({ ...stage, name: stage.stage, ms: stage.milliseconds ?? 0 }));
    for (const name of this.view.stages()) if (!rows.some((row) => row.name === name)) rows.push({ name, outcome: answer ? "left out" : "…", ms: 0 });
    const order = (row) => (this.view.stages().indexOf(row.name) + 1) || 99;
    rows.sort((a, b) => order(a) - order(b));
    const total = Math.max(answer?.milliseconds ?? 0, rows.reduce((sum, row) => sum + row.ms, 0), 0.001);
    let at = 0;
    const body = rows.map((row) => {
      const ran = row.outcome === "done" || row.outcome === "cut";
      const bar = el("span", { class: `span ${row.outcome}` });
      bar.style.insetInlineStart = `${(100 * at) / total}%`;
      bar.style.inlineSize = `${(100 * row.ms) / total}%`;
      at += row.ms;
      return el("tr", { class: ran ? null : "idle" }, el("th", { scope: "row" }, row.name), el("td", { class: "track", "aria-hidden": "true" }, el("span", { class: "lane" }, ran ? bar : null)),
        el("td", { class: "ms", title: counted(row.counts) }, ran ? milliseconds(row.ms) : row.outcome === "…" ? el("span", { "aria-label": "not yet" }, "…") : row.outcome, row.outcome === "cut" ? el("span", { class: "warning" }, " cut") : null),
        row.reason && row.outcome !== "done" ? el("td", { class: "reason" }, row.reason) : null);
    });
    const open = this.waterfall.querySelector("details")?.open ?? !matchMedia("(max-width: 60rem)").matches;
    this.waterfall.replaceChildren(el("details", { open }, el("summary", {}, "Where the time went"),
      el("table", {}, el("caption", { class: "hidden" }, "Milliseconds by stage, one after the other"), el("tbody", {}, body)),
      this.elapsed && answer ? el("p", { class: "note" }, `${milliseconds(this.elapsed)} seen from this page, with the network`) : null));
  }
}

function finished(answer) {
  const spent = new Map((answer.usage ?? []).map((one) => [one.stage, one]));
  const rows = (answer.stages ?? []).map((stage) => {
    const used = spent.get(stage.stage);
    spent.delete(stage.stage);
    return { ...stage, name: stage.stage, ms: (used?.seconds ?? 0) * 1000, counts: used?.counts };
  });
  for (const [name, used] of spent) rows.push({ name, outcome: "done", ms: used.seconds * 1000, counts: used.counts });
  return rows;
}

const counted = (counts) => Object.entries(counts ?? {}).map(([name, n]) => `${name.replaceAll("_", " ")} ${typeof n === "number" ? count(n) : n}`).join(", ") || undefined;

/** What two answers have in common, in a sentence. */
export function difference(first, second) {
  const a = first.answer, b = second.answer;
  const there = new Set(a.passages.map((one) => one.docno));
  const same = b.passages.filter((one) => there.has(one.docno)).length;
  const place = b.passages.filter((one, i) => a.passages[i]?.docno === one.docno).length;
  const ms = b.milliseconds - a.milliseconds, tokens = b.tokens - a.tokens;
  return [
    `${same} of ${many(b.passages.length, "passage")} are in both answers, ${place} of them in the same place.`,
    `${second.label}: ${milliseconds(Math.abs(ms))} ${ms < 0 ? "less" : "more"},`,
    `${tokens === 0 ? "as many tokens" : `${many(Math.abs(tokens), "token")} ${tokens < 0 ? "fewer" : "more"}`} in the context.`,
  ].join(" ");
}

