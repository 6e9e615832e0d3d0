// One passage: kept sentences plain, dropped ones dim until they are brought back, its scores and its metadata.

import { announce, copy, el, linkable, many, moment, score } from "./dom.js";
import { cited } from "./prompt.js";

const LONG = 320; // characters of a dropped run that are shown whole
const HEAD = 140; // characters shown of a longer one

/** Pieces of a text by code points, as the server counts them; JavaScript counts UTF-16 units. */
function slicer(text) {
  if (!/[\ud800-\udfff]/.test(text)) return { length: text.length, slice: (start, end) => text.slice(start, end) };
  const points = Array.from(text);
  return { length: points.length, slice: (start, end) => points.slice(start, end).join("") };
}

/** Runs of sentences that are kept, or dropped, together; they cover the whole text. */
export function runs(passage) {
  const text = slicer(passage.original ?? passage.text);
  const sentences = passage.sentences?.length
    ? passage.sentences
    : (passage.spans ?? []).map(([start, end]) => ({ start, end, kept: true }));
  const found = [];
  const push = (kept, start, end, sentence) => {
    const last = found.at(-1);
    if (last && last.kept === kept) {
      last.end = end;
      last.sentences += sentence;
    } else found.push({ kept, start, end, sentences: sentence });
  };
  if (!passage.sentences?.length) {
    let at = 0;
    for (const { start, end } of sentences) {
      if (text.slice(at, start).trim()) push(false, at, start, 1);
      push(true, start, end, 1);
      at = end;
    }
    if (!sentences.length || text.slice(at, text.length).trim()) push(!sentences.length, at, text.length, 1);
  } else for (const sentence of sentences) push(sentence.kept, sentence.start, sentence.end, 1);
  for (let i = 0; i < found.length; i++) {
    const from = i ? found[i].start : 0;
    const to = i + 1 < found.length ? found[i + 1].start : text.length;
    found[i].text = text.slice(from, to);
  }
  return found;
}

export class Card {
  /** `view` gives `schema`, `tiers()` (how many the index has), `scale` (the range of each score in this answer), `filter(name, value)`, `changed()`, `toast(text)`. */
  constructor(passage, place, view) {
    this.passage = passage;
    this.place = place; // from 1, without gaps: a passage of which no sentence is kept has a rank and is not here
    this.view = view;
    this.runs = runs(passage);
    this.restored = new Set();
    this.moved = el("span", { class: "moved" });
    this.body = el("p", { class: "text", dir: "auto" });
    this.all = this.runs.some((run) => !run.kept)
      ? el("button", { type: "button", onclick: () => this.toggleAll() })
      : null;
    this.element = this.#element();
    this.#fill();
  }

  /** What a reader gets: kept sentences and those brought back. */
  get text() {
    const shown = this.runs.filter((run, i) => run.kept || this.restored.has(i)).map((run) => run.text.trim());
    return shown.join(" ");
  }

  get cited() {
    const { passage } = this;
    const link = Object.values(passage.metadata ?? {}).map(linkable).find((url) => url);
    return { place: this.place, title: passage.title || passage.original_title, docno: passage.docno, url: link ?? null, text: this.text };
  }

  toggleAll() {
    const dropped = this.runs.flatMap((run, i) => (run.kept ? [] : [i]));
    const back = this.#left;
    this.restored = new Set(back ? dropped : []);
    this.#fill();
    announce(back ? `Brought back ${many(back, "sentence")}` : "Left out again");
    this.view.changed();
  }

  async copy() {
    await copy(cited(this.cited));
    announce(`Passage ${this.place} is copied, with its citation`);
    this.view.toast(`Passage ${this.place} copied`);
  }

  /** Sentences that are left out now. */
  get #left() {
    return this.runs.reduce((sum, run, i) => sum + (run.kept || this.restored.has(i) ? 0 : run.sentences), 0);
  }

  #toggle(i) {
    if (!this.restored.delete(i)) this.restored.add(i);
    this.#fill();
    this.body.querySelector(`[data-run="${i}"]`)?.focus();
    this.view.changed();
  }

  #fill() {
    this.body.replaceChildren(...this.runs.map((run, i) => (run.kept ? el("span", {}, run.text) : this.#run(run, i))));
    if (!this.all) return;
    this.all.textContent = this.#left ? `Bring back ${many(this.#left, "sentence")}` : "Leave out again";
  }

  #run(run, i) {
    const back = this.restored.has(i);
    let shown = run.text;
    let more = null;
    if (!back && run.text.length > LONG) {
      const head = run.text.slice(0, HEAD);
      shown = `${(head.replace(/\s+\S*$/, "") || head).replace(/[\s#>*|-]+$|[\ud800-\udbff]$/, "")} `;
      more = el("span", { class: "more" }, `… ${many(run.sentences, "sentence")}`);
    }
    const press = (event) => {
      if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
      if (event.type === "click" && String(window.getSelection())) return; // the reader selects text
      event.preventDefault();
      event.stopPropagation();
      this.#toggle(i);
    };
    return el("span", {
      class: back ? "dropped back" : "dropped", role: "button", tabindex: "0", "data-run": String(i), onclick: press, onkeydown: press,
    }, el("span", { class: "hidden" }, back ? "Leave out again: " : "Bring back: "), shown, more);
  }

  #element() {
    const { passage } = this;
    const title = passage.title || passage.original_title;
    const name = title || passage.docno;
    const id = `passage-${this.view.set}-${this.place}`;
    const link = Object.values(passage.metadata ?? {}).map(linkable).find((url) => url);
    const heading = el("h3", { id, dir: "auto" },
      link ? el("a", { href: link, rel: "noreferrer noopener", target: "_blank" }, name) : name);
    const facts = el("p", { class: "facts" },
      title && title !== passage.docno ? el("span", { class: "docno" }, passage.docno) : null,
      this.view.tiers() > 1 ? el("span", {}, `tier ${passage.tier}`) : null,
      passage.tokens ? el("span", {}, many(passage.tokens, "token")) : null,
      typeof passage.confidence === "number" ? el("span", { title: "how sure the sentence scorer is of its best sentence" }, `confidence ${score(passage.confidence)}`) : null,
      passage.aliases?.length ? el("span", {}, `also ${passage.aliases.slice(0, 5).join(", ")}`) : null,
      this.moved);
    return el("li", {},
      el("article", { tabindex: "-1", "aria-labelledby": `${id}-rank ${id}`, onkeydown: (event) => this.#keys(event) },
        el("div", { class: "rank", id: `${id}-rank`, "aria-hidden": "true" }, String(this.place)),
        el("div", { class: "words" }, heading, facts, this.body, this.#metadata(),
          el("p", { class: "actions" }, this.all, el("button", { type: "button", onclick: () => this.copy() }, "Copy"))),
        this.#scores()));
  }

  #keys(event) {
    if (event.target !== event.currentTarget || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" && this.all) { event.preventDefault(); this.toggleAll(); }
    if (event.key === "c") { event.preventDefault(); this.copy(); }
  }

  #scores() {
    const entries = Object.entries(this.passage.scores ?? {});
    if (!entries.length) return null;
    return el("dl", { class: "scores", "aria-label": "Scores" }, entries.map(([name, value]) => {
      const { low, high } = this.view.scale[name] ?? { low: 0, high: 1 };
      const fill = el("span", {});
      fill.style.inlineSize = `${high > low ? Math.max(2, (100 * (value - low)) / (high - low)) : 100}%`;
      return el("div", {}, el("dt", {}, name), el("dd", {}, el("span", { class: "meter", "aria-hidden": "true" }, fill), score(value)));
    }));
  }

  /** What can be filtered by, or followed; in a further list what the docno says too, and the rest. */
  #metadata() {
    const { docno, metadata } = this.passage;
    const entries = Object.entries(metadata ?? {}).filter(([, value]) => value !== null && value !== "");
    const telling = ([name, value]) => (name in this.view.schema || linkable(value)) && !docno.includes(String(value)) && !moment(value);
    const [first, rest] = [entries.filter(telling).slice(0, 12), entries.filter((one) => !telling(one)).slice(0, 40)];
    const list = (some, label) => el("ul", { class: "metadata", "aria-label": label }, some.map(([name, value]) =>
      el("li", {}, el("span", { class: "name" }, name), (Array.isArray(value) ? value : [value]).slice(0, 8).map((one) => this.#value(name, one)))));
    return [
      first.length ? list(first, "Metadata") : null,
      rest.length ? el("details", { class: "rest" }, el("summary", {}, first.length ? "More metadata" : "Metadata"), list(rest, "More metadata")) : null,
    ];
  }

  #value(name, value) {
    const text = typeof value === "object" ? JSON.stringify(value) : String(value);
    const shown = text.length > 80 ? `${text.slice(0, 77).replace(/[\ud800-\udbff]$/, "")}…` : text;
    const link = linkable(value);
    const time = moment(value);
    if (time) return time;
    if (link) return el("a", { href: link, rel: "noreferrer noopener", target: "_blank" }, shown);
    const kind = this.view.schema[name];
    if (!["string", "strings", "integer", "boolean"].includes(kind)) return el("span", { dir: "auto" }, shown);
    return el("button", { type: "button", dir: "auto", title: `Only passages with ${name} ${text}`, onclick: () => this.view.filter(name, text) }, shown);
  }
}
