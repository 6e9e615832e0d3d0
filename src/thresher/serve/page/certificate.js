// The section of the index page that says what was claimed of the index, and whether it was shown.

import { count, el, many, moment } from "./dom.js";
import { table } from "./tables.js";

const percent = (share) => `${Number((100 * share).toFixed(1))}%`;
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`;

/** What `GET /indexes/NAME` tells of the certificate, in words, figures and a table of every claim. */
export function certificate(one) {
  if (!one.claims) return el("p", { class: "problem" }, one.verdict);
  const shares = Object.entries(one.largest).filter(([name]) => one.tested[name]?.length);
  return [
    one.state === "stale" ? el("p", { class: "difference" }, one.changed.other
      ? "This certificate is of another index, or of an earlier build of this one. It says nothing of the passages that are here now."
      : `Out of date: since it was made there ${one.changed.commits === 1 ? "was 1 commit" : `were ${count(one.changed.commits)} commits`}, with ${changes(one.changed)}. What follows is of commit ${one.system.commit}.`) : null,
    el("p", { class: "verdict" }, one.verdict),
    one.kind === "reference" ? el("p", {}, "There were no judgments: this compares rankings with those of the baseline only, which is weaker. A passage that is as good as the one it displaced counts as a loss.") : null,
    el("dl", { class: "facts-list" }, facts(one).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    shares.length ? [el("h3", {}, "How much may be left out"), table("Largest share of the passages that may be left out", ["pipeline", "certified up to", "tested"],
      shares.map(([name, largest]) => [name, largest === null ? "nothing" : percent(largest), one.tested[name].map(percent).join(", ")]))] : null,
    el("details", {}, el("summary", {}, `Every claim that was tested (${count(one.claims.length)})`), claims(one)),
    one.note ? el("p", { class: "note" }, one.note) : null,
  ].flat();
}

const changes = ({ added, replaced, deleted }) => {
  const parts = [["added", added], ["replaced", replaced], ["deleted", deleted]].filter(([, n]) => n);
  return parts.length ? parts.map(([what, n]) => `${many(n, "passage")} ${what}`).join(", ") : "no passage changed";
};

const facts = (one) => [
  ["Loss that would matter", `${one.margin} or more`],
  ["Measured by", one.measures.join(", ")],
  ["Over", many(one.n, one.kind === "judged" ? "topic" : "query", one.kind === "judged" ? "topics" : "queries")],
  ["Chance that any claim is wrong", `at most ${percent(one.alpha)}`],
  ["Compared with", one.baseline.passages ? `${one.baseline.path}, ${many(one.baseline.passages, "passage")}` : one.baseline.path],
  ["Made", moment(one.made.date) ?? one.made.date ?? "no date is known"],
];

function claims(one) {
  const name = (claim) => (claim.fraction === null ? claim.setting || "as it is" : `${percent(claim.fraction)} left out`);
  return table("Every claim", ["pipeline", "what", "measure", "baseline", "here", "change", `interval (${percent(1 - one.alpha)})`, "shown"], one.claims.map((claim) => [
    claim.pipeline, name(claim), claim.measure, claim.baseline.toFixed(4), claim.system.toFixed(4), signed(claim.difference),
    `${signed(claim.low)} to ${signed(claim.high)}`, claim.proven ? "yes" : "no"]));
}
