"""Answers kept against characters pruned, for the shipped pruner and the baselines that it must beat.

Writes eval/results/context-pruning.json; resumes where it was interrupted.

Held-out queries of QED, half of SQuAD 2.0, COVID-QA, WikiQA dev and TrecQA dev. For each, the passage that holds an
answer (relevant), and one that does not (irrelevant): by turns one of the twenty best BM25 passages of the MS MARCO
mini corpus, and one of the twelve best of the collection's own held-out passages, without any of the answer's text.

Every system gives each sentence a score, and those are kept that reach a threshold, with what belongs to them
(`thresher.context.structure`), as the pruner hands them over. Thresholds of the presets are chosen on
the calibration part, for each system in the same way: the highest that keeps the preset's share of answers (by scores
of models that had not seen the query, where a system was fitted on that part). `first` keeps the first k sentences;
`position` scores by how often a sentence at that place of a passage of that many sentences answers, in the training
part; `random` is the mean of five draws.
"""

from __future__ import annotations

import random
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from eval.bench import Bench, key_of, options
from thresher.context.calibrate import GOALS, calibrate, lost_above
from thresher.context.model import TwoHeadedScorer
from thresher.context.scorers import LexicalScorer, PassageScores
from thresher.context.structure import find_ties
from thresher.models.two_headed import SHIPPED
from training.context.data import (
    COLLECTIONS,
    AnsweredQueries,
    Lexical,
    averaged,
    labelled_rows,
    measure,
    read_texts,
    tokenizer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eval.bench import Row
    from thresher.context.calibrate import LabelledQuery
    from thresher.context.scorers import SentenceScorer, SplitPassage

    Pairs = Sequence[tuple[str, SplitPassage]]
    Scores = list[list[float]]
    """By pair, then by sentence."""

SEED = 11
DRAWS = 5


# systems: sentence scores for pairs ----------------------------------------------------------------------------------


def by_model(scorer: SentenceScorer, pairs: Pairs) -> Scores:
    """Scores of a sentence scorer."""
    return [list(one.sentences) for one in scorer.score(pairs)]


def by_cosine(pairs: Pairs) -> Scores:
    """MiniLM cosine of sentence and query."""
    from thresher.encode.dense import MiniLMEncoder

    minilm = MiniLMEncoder(storage="float32")
    minilm.minilm.tokenizer.enable_truncation(128)
    texts = list(
        dict.fromkeys([q for q, _ in pairs] + [p.text[s.start : s.end] for _, p in pairs for s in p.sentences])
    )
    vectors = minilm.encode_passages(texts)
    place = {text: n for n, text in enumerate(texts)}
    return [
        [(1 + float(vectors[place[q]] @ vectors[place[p.text[s.start : s.end]]])) / 2 for s in p.sentences]
        for q, p in pairs
    ]


def by_position(training: Sequence[LabelledQuery], pairs: Pairs) -> Scores:
    """How often the sentence at that place answers, among training passages of that many sentences (smoothed)."""
    hits: dict[tuple[int, int], float] = defaultdict(float)
    seen: dict[tuple[int, int], float] = defaultdict(float)
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


def by_first(pairs: Pairs) -> Scores:
    """Falls with the place: threshold 1/k keeps the first k sentences."""
    return [[1 / (1 + place) for place in range(len(p.sentences))] for _, p in pairs]


def by_chance(draw: int, pairs: Pairs) -> Scores:
    """Random scores."""
    chooser = random.Random(SEED + draw)  # noqa: S311
    return [[chooser.random() for _ in p.sentences] for _, p in pairs]


def report_systems(names: Sequence[str]) -> dict[str, list[str]]:
    """The names under which scores are kept, by system: the draws of `random` are one system."""
    systems: dict[str, list[str]] = {}
    for name in names:
        system = "thresher-context" if "@" in name else "random" if name.startswith("random") else name
        systems.setdefault(system, []).append(name)
    return systems


def thresholds(
    test: AnsweredQueries, tuning: AnsweredQueries, scored: Sequence[Scores], presets: Mapping[str, float]
) -> list[tuple[str, float]]:
    """(preset, threshold) of a system: its presets, and 301 quantiles of what decides (preset "").

    Args:
        test: what is measured.
        tuning: what presets are chosen on.
        scored: scores of `test`, and of `tuning` unless presets are given.
        presets: thresholds that the system ships with; empty to choose them.
    """
    chosen = dict(presets)
    if not presets:
        tuned = [PassageScores(0.0, tuple(s)) for s in scored[1][: len(tuning.rows)]]
        chosen = {preset: calibrate(tuning.rows, tuned, goal).threshold for preset, goal in GOALS.items()}
    values = [lost_above(row.sentences, x, row.answers) for row, x in zip(test.rows, scored[0], strict=False)]
    values += [x for one in scored[0][: len(test.rows)] for x in one]
    grid = sorted({0.0, *(float(v) for v in np.quantile(values, np.linspace(0, 1, 301)))})
    return [*chosen.items(), *(("", t) for t in grid)]


def measured(
    test: AnsweredQueries, tuning: AnsweredQueries, scored: Mapping[str, Sequence[Scores]], presets: Mapping[str, float]
) -> list[Row]:
    """A row for each collection, system and threshold."""
    groups = {name: [i for i, row in enumerate(test.rows) if row.collection == name] for name in COLLECTIONS}
    everything = [[1.0] * len(p.sentences) for _, p in test.pairs]
    rows: list[Row] = []
    for collection, members in groups.items():
        kept = measure(test, everything, 0, members)
        rows.append({"collection": collection, "system": "nothing", "preset": "", "threshold": 0.0, **kept})
    for system, names in report_systems(list(scored)).items():
        own = presets if system == "thresher-context" else {}
        for preset, threshold in thresholds(test, tuning, scored[names[0]], own):
            same = {"system": system, "preset": preset, "threshold": threshold}
            parts = [
                averaged([measure(test, scored[name][0], threshold, members) for name in names])
                for members in groups.values()
            ]
            rows += [{"collection": c, **same, **part} for c, part in zip(groups, parts, strict=True)]
            mean = averaged(parts) | {"questions": sum(p["questions"] for p in parts)}
            rows.append({"collection": "mean", **same, **mean})
    for row in rows:
        row["queries"] = row.pop("questions")
        row.update({k: round(v, 4) for k, v in row.items() if isinstance(v, float)})
    return rows


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("context-pruning", __doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--queries", type=int, default=150, help="of each collection, at most")
    parser.add_argument(
        "--calibration", type=int, default=200, help="queries of each collection to calibrate on, at most"
    )
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    everything, pieces = labelled_rows(), tokenizer()
    marco = Lexical(list(read_texts("msmarco-v1-mini").values()), pieces)
    test = AnsweredQueries("test", given.queries, everything, marco, pieces)
    tuning = AnsweredQueries("calibrate", given.calibration, everything, marco, pieces)
    training = [row for row in everything if row.part == "train" and row.answers]
    scorer = TwoHeadedScorer(given.model)
    makers: dict[str, Callable[[Pairs], Scores]] = {
        scorer.name: partial(by_model, scorer),
        "first": by_first,
        "position": partial(by_position, training),
        "bm25": partial(by_model, LexicalScorer()),
        "minilm-cosine": by_cosine,
        **{f"random-{draw}": partial(by_chance, draw) for draw in range(DRAWS)},
    }

    def scores(name: str, part: AnsweredQueries) -> Scores:
        key = key_of([(query, passage.text) for query, passage in part.pairs])
        alone = bench.kept(f"context-{name}-{key}", lambda: makers[name](part.pairs))
        if part is tuning:  # `calibrate` keeps together by itself
            return alone
        return [
            list(find_ties(passage.text, passage.sentences).tied(one))
            for (_, passage), one in zip(part.pairs, alone, strict=True)
        ]

    scored = {name: [scores(name, part) for part in ((test,) if "@" in name else (test, tuning))] for name in makers}
    rows = measured(test, tuning, scored, scorer.presets)
    curve = [row for row in rows if not row["preset"] and row["system"] != "nothing"]
    columns = {"collection": "", "system": "", "preset": "", "threshold": ".4f", "queries": ".0f"}
    columns |= dict.fromkeys(("answer_kept", "pruned_relevant", "pruned_irrelevant", "span_f1"), ".3f")
    bench.write(
        "context-pruning",
        [row for row in rows if row["preset"] or row["system"] == "nothing"],
        seed=SEED,
        plot=plot(curve),
        columns=columns,
        packages=("torch",),
        title="Context pruning",
        note=dominance(rows),
        details=curve,
    )


def plot(curve: Sequence[Row]) -> Any:
    """Answers kept against characters pruned."""
    base = alt.Chart(alt.Data(values=curve)).encode(
        x=alt.X("pruned_relevant:Q", title="characters pruned, relevant passages"),
        y=alt.Y("answer_kept:Q", title="answer kept", scale=alt.Scale(domain=[0.4, 1], clamp=True)),
        color=alt.Color("system:N", title=None),
    )
    lines = base.mark_line().properties(width=260, height=200)
    return lines.facet(facet=alt.Facet("collection:N", title=None), columns=3)


def dominance(rows: Sequence[Row]) -> str:
    """Where the shipped pruner prunes more than every baseline that keeps as many answers, by collection."""
    said = []
    for collection in (*COLLECTIONS, "mean"):
        curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for row in rows:
            if row["collection"] == collection and not row["preset"] and row["system"] != "nothing":
                curves[row["system"]].append((row["answer_kept"], row["pruned_relevant"]))
        levels = [x / 100 for x in range(60, 100)]
        worse: dict[str, int] = defaultdict(int)
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
