"""Answers kept against characters pruned, for the pruner that ships and for what it must beat: context-pruning.json.

    THRESHER_DATA=... python eval/context_pruning.py [--model DIRECTORY] [--scores DIRECTORY] [--queries 150]

Held-out queries of QED, half of SQuAD 2.0, COVID-QA, WikiQA dev and TrecQA dev. For each, the passage that holds an
answer (relevant), and one that does not (irrelevant): by turns one of the twenty best BM25 passages of the MS MARCO
mini corpus, and one of the twelve best of the collection's own held-out passages, without any of the answer's text.

Every system gives each sentence a score and keeps those over a threshold. Thresholds of the presets are chosen on the
calibration part, for each system in the same way: the highest that keeps the preset's share of answers (by scores of
models that had not seen the query, where a system was fitted on that part). `first` keeps
the first k sentences; `position` scores by how often a sentence at that place of a passage of that many sentences
answers, in the training part; `random` is the mean of five draws. Scores are kept in --scores, so that an interrupted
run goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import altair as alt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from thresher.context.calibrate import GOALS, calibrate, lost_above
from thresher.context.model import SHIPPED, TwoHeadedScorer
from thresher.context.scorers import LexicalScorer
from thresher.context.scoring import PassageScores
from thresher.evaluate.results import write_results
from training.context.data import COLLECTIONS, Bench, Lexical, averaged, labelled_rows, measure, read_texts, tokenizer

SEED = 11
RESULTS = Path(__file__).parent / "results"
DRAWS = 5


# systems: sentence scores for pairs ----------------------------------------------------------------------------------


def by_model(scorer, pairs):
    return [one.sentences for one in scorer.score(pairs)]


def by_cosine(pairs):
    """MiniLM cosine of sentence and query."""
    from thresher.encode.dense import MiniLMEncoder

    minilm = MiniLMEncoder(storage="float32")
    minilm.tokenizer.enable_truncation(128)
    texts = list(
        dict.fromkeys([q for q, _ in pairs] + [p.text[s.start : s.end] for _, p in pairs for s in p.sentences])
    )
    vectors = minilm.encode_passages(texts)
    place = {text: n for n, text in enumerate(texts)}
    return [
        [(1 + float(vectors[place[q]] @ vectors[place[p.text[s.start : s.end]]])) / 2 for s in p.sentences]
        for q, p in pairs
    ]


def by_position(training, pairs):
    """How often the sentence at that place answers, among training passages of that many sentences (smoothed)."""
    hits, seen = defaultdict(float), defaultdict(float)
    for row in training:
        for place, label in enumerate(row.labels):
            for key in ((min(place, 9), min(len(row.labels), 12)), (min(place, 9), 0)):
                hits[key] += label
                seen[key] += 1
    out = []
    for _, passage in pairs:
        n = min(len(passage.sentences), 12)
        scores = []
        for place in range(len(passage.sentences)):
            back = (hits[min(place, 9), 0] + 1) / (seen[min(place, 9), 0] + 2)
            scores.append((hits[min(place, 9), n] + 5 * back) / (seen[min(place, 9), n] + 5))
        out.append(scores)
    return out


def by_first(pairs):
    """Falls with the place: threshold 1/k keeps the first k sentences."""
    return [[1 / (1 + place) for place in range(len(p.sentences))] for _, p in pairs]


def by_chance(pairs, draw):
    chooser = random.Random(SEED + draw)  # noqa: S311
    return [[chooser.random() for _ in p.sentences] for _, p in pairs]


def remembered(directory: Path, name: str, pairs, make):
    """Scores of `pairs`, from `directory` where they were computed before."""
    key = hashlib.sha256(json.dumps([(q, p.text) for q, p in pairs]).encode()).hexdigest()[:12]
    file = directory / f"{name}-{key}.json"
    if not file.exists():
        file.write_text(json.dumps([list(map(float, one)) for one in make(pairs)]))
    return json.loads(file.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--scores", type=Path, default=Path(tempfile.gettempdir()) / "thresher-context-pruning")
    parser.add_argument("--questions", type=int, default=150, help="of each collection, at most")
    parser.add_argument(
        "--calibration", type=int, default=200, help="queries of each collection to calibrate on, at most"
    )
    parser.add_argument("--baselines", action="store_true", help="compute the baselines' scores and stop")
    options = parser.parse_args()
    options.scores.mkdir(parents=True, exist_ok=True)
    everything, pieces = labelled_rows(), tokenizer()
    marco = Lexical(list(read_texts("msmarco-v1-mini").values()), pieces)
    test = Bench("test", options.queries, everything, marco, pieces)
    tuning = Bench("calibrate", options.calibration, everything, marco, pieces)
    training = [row for row in everything if row.part == "train" and row.answers]
    lexical = LexicalScorer()
    makers = {
        "first": by_first, "position": lambda pairs: by_position(training, pairs),
        "bm25": lambda pairs: by_model(lexical, pairs), "minilm-cosine": by_cosine,
        **{f"random-{draw}": lambda pairs, draw=draw: by_chance(pairs, draw) for draw in range(DRAWS)},
    }  # fmt: skip
    presets: dict[str, float] = {}
    if not options.baselines:
        scorer = TwoHeadedScorer(options.model)
        presets = scorer.presets
        makers = {scorer.name: lambda pairs: by_model(scorer, pairs), **makers}
    scored = {
        name: [
            remembered(options.scores, name, bench.pairs, make)
            for bench in ((test,) if "@" in name and presets else (test, tuning))
        ]
        for name, make in makers.items()
    }
    if options.baselines:
        return
    report(options, test, tuning, scored, presets)


def report(options, test: Bench, tuning: Bench, scored, presets: dict[str, float]) -> None:
    groups = {name: [i for i, row in enumerate(test.rows) if row.collection == name] for name in COLLECTIONS}
    rows = []
    everything = [[1.0] * len(p.sentences) for _, p in test.pairs]
    for collection, members in groups.items():
        kept = measure(test, everything, 0, members)
        rows.append({"collection": collection, "system": "nothing", "preset": "", "threshold": 0.0, **kept})
    systems: dict[str, list[str]] = {}
    for name in scored:
        system = "thresher-context" if "@" in name else "random" if name.startswith("random") else name
        systems.setdefault(system, []).append(name)
    for system, names in systems.items():
        chosen = {}
        for preset, goal in GOALS.items():
            if system == "thresher-context" and presets:
                chosen[preset] = presets[preset]
                continue
            tuned = [PassageScores(0.0, tuple(s)) for s in scored[names[0]][1][: len(tuning.rows)]]
            found = calibrate(tuning.rows, tuned, goal)
            chosen[preset] = found.threshold
            print(system, preset, found)
        first = scored[names[0]][0]
        values = [lost_above(row.sentences, x, row.answers) for row, x in zip(test.rows, first, strict=False)]
        values += [x for one in first[: len(test.rows)] for x in one]
        grid = sorted({0.0, *(float(v) for v in np.quantile(values, np.linspace(0, 1, 301)))})
        for preset, threshold in [*chosen.items(), *(("", t) for t in grid)]:
            parts = []
            for collection, members in groups.items():
                one = averaged([measure(test, scored[name][0], threshold, members) for name in names])
                parts.append(one)
                rows.append(
                    {"collection": collection, "system": system, "preset": preset, "threshold": threshold, **one}
                )
            mean = averaged(parts) | {"questions": sum(p["questions"] for p in parts)}
            rows.append({"collection": "mean", "system": system, "preset": preset, "threshold": threshold, **mean})
    for row in rows:
        row.update({k: round(v, 4) for k, v in row.items() if isinstance(v, float)})
        if row["preset"]:
            print(row)
    note = dominance(rows)
    print(note)
    curve = [row for row in rows if not row["preset"] and row["system"] != "nothing"]
    base = alt.Chart(alt.Data(values=curve)).encode(
        x=alt.X("pruned_relevant:Q", title="characters pruned, relevant passages"),
        y=alt.Y("answer_kept:Q", title="answer kept", scale=alt.Scale(domain=[0.4, 1], clamp=True)),
        color=alt.Color("system:N", title=None),
    )
    plot = (
        base.mark_line().properties(width=260, height=200).facet(facet=alt.Facet("collection:N", title=None), columns=3)
    )
    shown = [r for r in rows if r["preset"] or r["system"] == "nothing"]
    made = RESULTS / "context-pruning.json"
    write_results(made, shown + curve, command="python eval/context_pruning.py", seed=SEED, plot=plot,
                  packages=("torch",), title="Context pruning", note=note)  # fmt: skip
    table = [r for r in shown if r["preset"] == "balanced" or r["system"] == "nothing"]
    _short_table(made.with_suffix(".md"), table)


def _short_table(file: Path, rows) -> None:
    """The page shows the balanced preset; curves stay in the JSON."""
    from thresher.evaluate.results import markdown_table

    lines = file.read_text(encoding="utf-8").split("\n")
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    last = max(i for i, line in enumerate(lines) if line.startswith("|"))
    columns = {"collection": "", "system": "", "preset": "", "threshold": ".4f", "questions": ".0f"}
    columns |= dict.fromkeys(("answer_kept", "pruned_relevant", "pruned_irrelevant", "span_f1"), ".3f")
    body = markdown_table(rows, columns).rstrip("\n").split("\n")
    file.write_text("\n".join([*lines[:first], *body, *lines[last + 1 :]]), encoding="utf-8")


def dominance(rows) -> str:
    """Where the shipped pruner prunes more than every baseline that keeps as many answers, by collection."""
    said = []
    for collection in (*COLLECTIONS, "mean"):
        curves = defaultdict(list)
        for row in rows:
            if row["collection"] == collection and not row["preset"] and row["system"] != "nothing":
                curves[row["system"]].append((row["answer_kept"], row["pruned_relevant"]))
        levels = [x / 100 for x in range(60, 100)]
        worse = defaultdict(int)
        for level in levels:
            best = {s: max((p for kept, p in points if kept >= level), default=0.0) for s, points in curves.items()}
            for system, pruned in best.items():
                if system != "thresher-context" and pruned > best["thresher-context"] + 1e-9:
                    worse[system] += 1
        total = len(levels)
        said.append(
            f"{collection}: "
            + (", ".join(f"{s} above at {n} of {total} levels" for s, n in worse.items()) or "above all")
        )
    return "At answer-kept levels .60 to .99, thresher-context against each baseline: " + "; ".join(said) + "."


if __name__ == "__main__":
    main()
