"""Models made smaller in every way that `thresher compress` knows, measured on given rankings, against random removal.

Each model ranks the first passages of the BM25 lists of TREC DL 2021. Topics that are not put aside calibrate (layers,
neurons, heads and weights are chosen on them), topics that are put aside measure, so no figure is of a topic that chose
anything. Writes eval/results/compression.json: a row for each model, method, level and group of queries; the best point
of each axis also on Cranfield as a whole. Shipped and embedded models run as they are; others are given by directory:

    python -m eval compression --model splade-tiny=DIRECTORY --model mpnet=DIRECTORY
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt

from eval.bench import Bench, Row, options
from eval.collections import given_hits
from thresher.compress.curve import MAIN, Curve, Kept, Level, rows_of, smallest_equivalent
from thresher.compress.data import Candidates, Task, evaluated, sampled
from thresher.compress.ranker import Ranker
from thresher.errors import ThresherError
from thresher.evaluate.collections import load
from thresher.evaluate.comparison import averaged, differences
from thresher.evaluate.significance import mean_interval
from thresher.models.files import directory_fingerprint, embedded_path, shipped_weights
from thresher.models.hf import import_torch
from training.held_out import held_out

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from thresher.compress.methods import Cut

COLLECTION, RUN, WHOLE = "trec-dl-2021", "bm25.dl21", "cranfield"
SEEDS = 3
TURNS = 5
"""Times that a batch of `TIMED` passages is timed, by turns with the whole model."""
TIMED = 4
MARGIN = 0.02
HEALED = 120
"""Steps of healing, of the levels that are also measured healed."""
DEPTH_METHODS = ("block-influence", "angular", "loss", "taylor-layers", "early-exit", "greedy", "last")
SCORES = ("taylor", "fisher", "integrated-gradients", "aligned", "magnitude")
WEIGHT_METHODS = ("magnitude", "magnitude:2:4", "wanda", "wanda:2:4", "int8", "int4", "bfloat16")
LARGE = 3e8
"""Bytes of weights above which a level takes a minute."""
SHARES = (0.25, 0.5)
"""Shares of neurons and heads that are measured, of those a method plans; of weights all are."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to compress.

    Attributes:
        name: what the rows call it.
        source: name or directory.
        depth: passages of each list.
        topics: topics that measure, at most.
        calibrating: topics that calibrate, at most.
        methods: which methods.
        layers: shares of layers to remove; none for all.
        seeds: random removals of each size.
    """

    name: str
    source: str
    depth: int
    topics: int
    calibrating: int
    methods: tuple[str, ...]
    layers: tuple[float, ...] = ()
    seeds: int = SEEDS

    @property
    def large(self) -> bool:
        """Whether a level takes a minute: fewer methods, no whole collection."""
        return len(self.methods) < len(ALL)


ALL = (
    *DEPTH_METHODS,
    *(f"neurons:{score}" for score in SCORES),
    *(f"heads:{score}" for score in SCORES),
    *WEIGHT_METHODS,
)
QUICK = ("block-influence", "angular", "last", "neurons:taylor", "int8", "int4", "bfloat16")
"""Methods for a large model, of which a level takes a minute."""


def lists_of(depth: int, topics: int, calibrating: int) -> tuple[tuple[Candidates, ...], tuple[Candidates, ...]]:
    """Lists that calibrate, `calibrating` at most, and lists that measure, `topics` at most."""
    collection = load(COLLECTION)
    put_aside = held_out(COLLECTION)
    texts = {query.qid: query.text for query in collection.queries}
    made: dict[bool, list[Candidates]] = {True: [], False: []}
    for qid, hits in sorted(given_hits(collection, RUN, depth).items()):
        contents = tuple(f"{hit.title} {hit.text}" if hit.title else hit.text for hit in hits)
        one = Candidates(qid, texts[qid], tuple(hit.docno for hit in hits), contents, collection.qrels.judgments[qid])
        if len(hits) > 1:
            made[qid in put_aside].append(one)
    return tuple(made[False][:calibrating]), tuple(made[True][:topics])


def wanted(cut: Cut, subject: Subject) -> bool:
    """Whether a level is measured."""
    if cut.axis == "layers":
        return not subject.layers or any(abs(cut.removed - share) < 0.01 for share in subject.layers)
    return cut.axis == "weights" or any(abs(cut.removed - share) < 0.02 for share in SHARES) or cut.removed == 0.5


def baselines(curve: Curve, cut: Cut, seeds: int) -> list[Level]:
    """Random removal of as much, one level a seed; none for stored forms."""
    if "stored" in cut.spec:
        return []
    found = []
    for seed in range(seeds):
        name = f"random-{cut.axis}:{seed}"
        same = [one for one in curve.cuts(name) if abs(one.removed - cut.removed) < 0.005]
        found += [curve.level(name, one) for one in same]
    return found


def measured(curve: Curve, subject: Subject) -> Iterator[tuple[Level, list[Level]]]:
    """Every level with random removal of as much."""
    for method in subject.methods:
        try:
            cuts = curve.cuts(method)
        except ThresherError as err:
            print(f"{subject.name}: {method} does not apply: {err}", flush=True)
            continue
        for cut in cuts:
            if wanted(cut, subject):
                yield curve.level(method, cut), baselines(curve, cut, subject.seeds)


def retimed(curve: Curve, level: Level, times: Kept) -> Level:
    """The level with processor time, the least of some turns with the whole model; levels of one shape have one time.

    What is set to zero has the whole model's shape; so have heads, which none of these models can do without.
    """
    cut, shape = level.cut, "whole"
    if cut is not None and "stored" in cut.spec:
        shape = str(cut.spec["stored"])
    elif cut is not None and cut.axis in ("layers", "neurons"):
        shape = f"{cut.axis} {cut.removed:.3f}"

    def measure() -> list[float]:
        made = curve.ranker if cut is None or shape == "whole" else curve.compressed(cut)
        texts = [text for one in curve.task.measured for text in one.texts][:TIMED]
        spent: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(TURNS):
            for whole in (True, False):
                started = time.process_time()
                (curve.ranker if whole else made).milliseconds(texts, repeats=1)
                spent[whole].append(1000.0 * (time.process_time() - started) / len(texts))
        return [min(spent[True]), min(spent[False])]

    base, mine = times.get(shape, measure)
    return replace(level, ms=mine, speedup=base / mine)


def rows_for(subject: Subject, bench: Bench, dtype: str) -> tuple[list[Row], list[Row]]:
    """Rows of one model on the lists, and its best points on a whole collection."""
    ranker = Ranker.load(subject.source, dtype=dtype)
    layers = len(ranker.layers)
    calibration, held = lists_of(subject.depth, subject.topics, subject.calibrating)
    task = Task(calibration, held, f"{len(calibration)} topics of {COLLECTION} calibrate, {len(held)} others measure")
    key = f"{directory_fingerprint(ranker.path)} {task.fingerprint()} {dtype}"
    kept = Kept(bench.work / f"compression-{subject.name}.json", key)
    curve = Curve(ranker, task, kept, lambda line: print(f"{subject.name}: {line}", flush=True))
    whole, seen = curve.whole(), list(measured(curve, subject))
    levels = [whole, *(level for level, _ in seen)]
    randoms = {(one.method, one.label): one for _, found in seen for one in found}
    times = Kept(bench.work / f"compression-{subject.name}-ms.json", key)
    rows = [
        row
        for level in levels
        for row in described(subject, retimed(curve, level, times), whole, held, layers, "queries")
    ]
    for level in randoms.values():
        found = described(subject, retimed(curve, level, times), whole, held, layers, "queries")
        rows += [row for row in found if row["group"] == "all"]
    against = {(level.method, level.label): over_random(level, found) for level, found in seen if found}
    for row in rows:
        if row["group"] == "all":
            row.update(against.get((row["method"], row["level"]), {}))
    rows += other_choices(subject, curve, whole, held, bench, times)
    best = best_points([level for level, _ in seen], whole)
    return rows, [] if subject.large else on_whole_collection(subject, curve, best, bench, key)


def described(
    subject: Subject, level: Level, whole: Level, lists: Sequence[Candidates], layers: int, calibration: str
) -> list[Row]:
    """Rows of a level, one a group of queries."""
    kept = len(level.cut.spec["kept"]) if level.cut is not None and level.cut.axis == "layers" else layers
    axis = "none" if level.cut is None else level.cut.axis
    about = {"model": subject.name, "axis": axis, "calibration": calibration, "layers": kept}
    return [about | row for row in rows_of(level, whole, lists, MARGIN)]


def over_random(level: Level, randoms: Sequence[Level]) -> Row:
    """How much better than random removal of as much, seeds averaged by topic, with a 95 % interval."""
    others = averaged([one.evaluation() for one in randoms])
    difference = differences(level.evaluation(), others, MAIN)
    interval = mean_interval(difference)
    return {
        "random": others.mean[MAIN], "over random": float(difference.mean()), "over random lo": interval.low,
        "over random hi": interval.high,
    }  # fmt: skip


def best_points(levels: Sequence[Level], whole: Level) -> list[Level]:
    """By axis: of the methods' largest levels proven equivalent the one that removes most, else the one nearest."""
    found = []
    for axis in ("layers", "neurons", "heads", "weights"):
        of_axis = [level for level in levels if level.cut is not None and level.cut.axis == axis]
        methods = dict.fromkeys(level.method for level in of_axis)
        equivalent = [
            smallest_equivalent([one for one in of_axis if one.method == method], whole, MARGIN) for method in methods
        ]
        proven = [one for one in equivalent if one is not None and one.cut is not None and "stored" not in one.cut.spec]
        if proven:
            found.append(max(proven, key=lambda one: (one.removed, one.evaluation().mean[MAIN])))
        elif of_axis:
            found.append(max(of_axis, key=lambda one: one.evaluation().mean[MAIN]))
    return found


def other_choices(
    subject: Subject, curve: Curve, whole: Level, held: Sequence[Candidates], bench: Bench, times: Kept
) -> list[Row]:
    """Half of the layers removed: healed, and chosen on sampled passages instead of queries."""
    layers = len(curve.ranker.layers)
    if layers < 4 or subject.large:
        return []
    rows: list[Row] = []
    cut = next(one for one in curve.cuts("block-influence") if len(one.spec["kept"]) == layers // 2)
    healed = retimed(curve, curve.level("block-influence", cut, HEALED), times)
    rows += described(subject, healed, whole, held, layers, "queries")
    from eval.collections import data_file

    texts = sampled(data_file("trec-dl", "msmarco-v2-mini.jsonl.gz"), scanned=4000)
    task = replace(curve.task, calibration=texts)
    file = bench.work / f"compression-{subject.name}-sampled.json"
    other = Curve(curve.ranker, task, Kept(file, f"{curve.kept.key} {task.fingerprint()}"), curve.tell)
    for method in ("block-influence", "loss", "neurons:taylor"):
        for one in other.cuts(method):
            if abs(one.removed - 0.5) < 0.01:
                level = retimed(curve, other.level(method, one), times)
                rows += described(subject, level, whole, held, layers, "sampled passages")
    return rows


def on_whole_collection(subject: Subject, curve: Curve, best: Sequence[Level], bench: Bench, key: str) -> list[Row]:
    """The whole model and its best points ranking all passages of Cranfield."""
    collection = load(WHOLE)
    passages = list(collection.corpus)
    docnos, texts = tuple(one.docno for one in passages), tuple(one.contents for one in passages)
    judged = collection.qrels.judgments
    lists = [Candidates(q.qid, q.text, docnos, texts, judged[q.qid]) for q in collection.queries if q.qid in judged]
    kept = Kept(bench.work / f"compression-{subject.name}-{WHOLE}.json", key)
    rows: list[Row] = []
    base: Any = None
    for level in (None, *best):
        cut = None if level is None else level.cut
        name = "whole" if level is None else f"{level.method} {level.label}"

        def measure(cut: Cut | None = cut) -> dict[str, dict[str, float]]:
            model = curve.ranker if cut is None else curve.compressed(cut)
            found = evaluated(lists, model.scores(lists), MAIN).per_query
            return {measure: dict(values) for measure, values in found.items()}

        found = Level("", cut, 0, 1.0, 1.0, kept.get(name, measure)).evaluation()
        base = base or found
        interval = mean_interval(differences(found, base, MAIN))
        rows.append(
            {
                "model": subject.name, "collection": WHOLE, "method": "none" if level is None else level.method,
                "level": "whole" if level is None else level.label, MAIN: found.mean[MAIN],
                "difference": found.mean[MAIN] - base.mean[MAIN], "lo": interval.low, "hi": interval.high,
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def told(row: Row) -> str:
    """A row of the whole collection, as the note tells it."""
    return f"{row['model']} {row['method']} {row['level']} {row[MAIN]:.4f} ({row['difference']:+.4f})"


def shipped(bench: Bench) -> Path:
    """A directory with the shipped sparse encoder and the tokenizer that it shares with the embedded MiniLM."""
    target = bench.work / "thresher-mini"
    target.mkdir(exist_ok=True)
    for file in (shipped_weights() / "thresher-mini").iterdir():
        shutil.copyfile(file, target / file.name)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(embedded_path() / name, target / name)
    return target


def subjects(given: argparse.Namespace, bench: Bench) -> list[Subject]:
    """The embedded and the shipped models, and those given as NAME=DIRECTORY."""
    lists = (given.depth, given.topics, given.calibrating)
    found = [Subject("MiniLM", "minilm", *lists, ALL), Subject("thresher-mini", str(shipped(bench)), *lists, ALL)]
    for one in given.model:
        name, _, directory = one.partition("=")
        if (Path(directory) / "model.safetensors").stat().st_size > LARGE:
            fewer = (max(10, given.depth // 2), given.large_topics, given.large_calibrating)
            found.append(Subject(name, directory, *fewer, QUICK, (0.25, 0.5), 2))
        else:
            found.append(Subject(name, directory, *lists, ALL))
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("compression", __doc__)
    parser.add_argument("--model", action="append", default=[], help="NAME=DIRECTORY of a model; repeat for several")
    parser.add_argument("--only", action="append", default=[], help="measure this model only; repeat for several")
    parser.add_argument("--depth", type=int, default=15, help="passages of each list (half of it for large models)")
    parser.add_argument("--topics", type=int, default=30, help="topics that measure, at most")
    parser.add_argument("--calibrating", type=int, default=12, help="topics that calibrate, at most")
    parser.add_argument("--large-topics", type=int, default=30, help="topics that measure large models, at most")
    parser.add_argument("--large-calibrating", type=int, default=12, help="topics that calibrate large models")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch, also for milliseconds")
    parser.add_argument("--dtype", default="bfloat16", help="of the computation: float32 or bfloat16")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    import_torch("measuring models").set_num_threads(given.threads)
    rows: list[Row] = []
    whole: list[Row] = []
    skipped = ["thresher-context has no layers of its own to remove: its body is the embedded MiniLM's."]
    for subject in subjects(given, bench):
        if given.only and subject.name not in given.only:
            continue
        try:
            more, points = rows_for(subject, bench, given.dtype)
        except ThresherError as err:
            skipped.append(f"{subject.name} was skipped: {err}")
            print(skipped[-1], flush=True)
            continue
        rows, whole = rows + more, whole + points
    shown = [row for row in rows if row["group"] == "all" and not str(row["method"]).startswith("random")]
    plot = (
        alt.Chart(alt.Data(values=[{**row, "MB": row["bytes"] / 1e6} for row in shown]))
        .mark_point(filled=True, size=50)
        .encode(
            x=alt.X("ms:Q", title="milliseconds a passage"),
            y=alt.Y(f"{MAIN}:Q", scale=alt.Scale(zero=False)),
            color="axis:N",
            shape="model:N",
            tooltip=["model:N", "method:N", "level:N"],
        )
        .properties(width=520, height=320)
    )
    bench.write(
        "compression",
        rows,
        plot=plot,
        columns={
            "model": "", "method": "", "level": "", "layers": "d", "calibration": "", "healed": "d", "group": "",
            "queries": "d", "bytes": "d", "ms": ".2f", MAIN: ".4f", "lo": ".4f", "hi": ".4f", "R@10": ".4f",
            "difference": "+.4f", "equivalent": "", "random": ".4f", "over random": "+.4f", "over random lo": "+.4f",
            "over random hi": "+.4f",
        },
        packages=("torch", "transformers", "sentence-transformers", "scipy"),
        title="Models made smaller, measured on ranking",
        note=(
            f"First passages of the BM25 lists of {COLLECTION}, in {given.dtype}, {given.threads} thread(s). "
            "`equivalent`: within "
            f"{MARGIN} {MAIN} of the whole model by two one-sided tests at .05, each row alone. `over random`: over "
            "random removal of as much, 2 or 3 seeds averaged by topic. Zeroed heads and weights save no bytes "
            "and no time. `ms`: processor time of one thread a passage, of a batch of "
            f"{TIMED}, the least of {TURNS}. Models of more than {LARGE / 1e6:.0f} MB have at most "
            f"{given.large_topics} topics, of {given.large_calibrating} that calibrate. {' '.join(skipped)} "
            f"On {WHOLE} as a whole: "
            + "; ".join(told(row) for row in whole)
        ),
        details=whole,
    )  # fmt: skip
