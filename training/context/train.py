"""Train the shipped context pruner: thresher-context, two heads and low-rank adapters on the embedded MiniLM.

    THRESHER_DATA=... python -m training.context.train prepare --out DIR     # groups to learn from, a few minutes
    THRESHER_DATA=... python -m training.context.train train --out DIR       # resumes from its last checkpoint
    THRESHER_DATA=... python -m training.context.train export --out DIR      # weights into the package
    THRESHER_DATA=... python -m training.context.train refit --out DIR       # sentence head and presets alone, again

What is learnt from what:

- which sentences: answer sentences of QED, half of SQuAD 2.0, COVID-QA, WikiQA and TrecQA (training parts); passages
  retrieved for a query that hold no answer, and a share of SQuAD's unanswerable queries, as "keep nothing";
- which passages: for real MS MARCO queries (dev), candidates from the two small MS MARCO corpora with the scores of
  a teacher that needs no language model: the standardised sum of the dense MiniLM, BM25, and the SPLADE-v3 weights of
  the query matched against BM25-saturated word pieces of the passage; and the grades of TREC DL 2023 and of two
  thirds of TREC DL 2021's topics. Half of this loss is read from the rank score's sum with BM25 and dense similarity,
  so that it learns what those two miss. Queries judged in DL 2019 are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.context.calibrate import lost_above
from thresher.models.two_headed import JoinedBertConfig
from thresher.records import Span
from training.context import model as model_files
from training.context.data import (
    COLLECTIONS,
    DATA,
    SEED,
    AnsweredQueries,
    Lexical,
    averaged,
    chosen_groups,
    draw,
    held_topics,
    labelled_rows,
    measure,
    prepare,
    read_texts,
    tokenizer,
)
from training.context.fit import FitConfig, Trainer
from training.context.learners import fit_logistic, fit_perceptron

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.context.model import TwoHeadedScorer
    from thresher.context.sentence_head import Perceptron

    Floats = NDArray[np.float64]

SHIPPED = Path(__file__).resolve().parents[2] / "src" / "thresher" / "models" / "weights" / "thresher-context"


def train(out: Path, config: FitConfig, states_alone: bool) -> None:
    """Train on the prepared groups from the last checkpoint, or only compute the states below the join."""
    import torch
    from safetensors.torch import load_file

    from thresher.models.files import embedded_path

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(config.seed)
    groups = chosen_groups(out)
    print(len(groups), "groups", sum(len(g.passages) for g in groups), "pairs", flush=True)
    model = model_files.build(JoinedBertConfig())
    model_files.load_body(model, load_file(str(embedded_path() / "model.safetensors")))
    trainer = Trainer(model, tokenizer(), groups, config)
    trainer.remember(out / "states", progress=True)
    if states_alone:
        return
    window: list[dict[str, float]] = []
    clock = time.time()

    def report(parts: dict[str, float]) -> None:
        nonlocal clock
        window.append(parts)
        if len(window) == 10:
            mean = {k: round(sum(p[k] for p in window) / 10, 4) for k in ("pairs", "keep", "rank")}
            print(int(parts["step"]), mean, f"{(time.time() - clock) / 10:.2f} s/step", flush=True)
            window.clear()
            clock = time.time()

    trainer.run(out / "run", report)
    model_files.save(model, out / "model")


def blended(untrained: dict[str, Any], trained: dict[str, Any], share: float) -> dict[str, Any]:
    """Weights part of the way from the start of the training to its end.

    Between a pretrained model and what a few examples made of it lie models that keep more of what the first knew and
    most of what the second learnt (WiSE-FT; Wortsman and others, CVPR 2022, arXiv 2109.01903). An adapter starts at
    nothing, so a share of its outer factor is that share of the way.
    """
    out = {}
    for name, value in trained.items():
        if name.endswith(".lora_a"):
            out[name] = value
        else:
            start = untrained[name] * 0 if name.endswith(".lora_b") else untrained[name]
            out[name] = (1 - share) * start + share * value
    return out


def export(out: Path, target: Path, share: float) -> None:
    """The last checkpoint, blended, as a model, with its rank head, sentence head and calibrated presets."""
    import torch
    from safetensors.torch import load_file

    from thresher.context.model import RARITY, TwoHeadedScorer
    from thresher.models.files import embedded_path

    model = model_files.build(JoinedBertConfig())
    model_files.load_body(model, load_file(str(embedded_path() / "model.safetensors")))
    state = json.loads((out / "run" / "trainer.json").read_text())
    saved = load_file(str(out / "run" / f"trainer-{state['step']}.safetensors"))
    weights = {name.removeprefix("weight."): tensor for name, tensor in saved.items() if name.startswith("weight.")}
    untrained = {name: value.clone() for name, value in model_files.trained_state(model).items()}
    model_files.load_trained(model, blended(untrained, weights, share))
    rarity = {RARITY: torch.tensor(np.load(out / "rarity.npy"))}
    about: dict[str, Any] = {
        "name": "thresher-context-3",
        "trained": {**state["config"], "steps": state["step"], "share": share},
    }
    model_files.save(model, target, about, rarity)
    about["rank_head"] = fit_rank_head(TwoHeadedScorer(target))
    model_files.save(model, target, about, rarity)
    about |= fit_head(TwoHeadedScorer(target), out)
    model_files.save(model, target, about, rarity)
    print(json.dumps({key: about[key] for key in ("rank_head", "presets", "calibration")}, indent=1))


def refit(out: Path, target: Path) -> None:
    """Fit the sentence head of a model again, in the form that it has, and its presets; the encoder stays.

    After a change of what the head reads or of how sentences are kept: the engine that computes the encoder by default,
    the splitter, what belongs together.
    """
    from thresher.context.model import TwoHeadedScorer

    file = target / "config.json"
    about = json.loads(file.read_text(encoding="utf-8"))
    form = {key: about["sentence_head_form"][key] for key in HEADS[0]}
    scorer = TwoHeadedScorer(target)
    about |= fit_head(scorer, out, (form,))
    about["sentence_head_form"]["backend"] = scorer.backend.name
    file.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: about[key] for key in ("presets", "calibration")}, indent=1))


class RankEvidence:
    """What the model says of BM25's top 100 for the topics of DL 2021 that no training saw.

    Attributes:
        qrels: the judgments.
        lists: passages by topic, in BM25's order.
        tables: float64[passages, evidence] by topic.
    """

    def __init__(self, scorer: TwoHeadedScorer) -> None:
        from thresher.context.model import RANK_FEATURES
        from thresher.context.scorers import SplitPassage
        from thresher.evaluate.collections import load
        from thresher.evaluate.trec import read_run

        collection, run = load("trec-dl-2021"), read_run(DATA / "runs" / "bm25.dl21.run.gz")
        texts = {passage.docno: passage.contents for passage in collection.corpus}
        self.qrels = collection.qrels
        self.lists: dict[str, list[str]] = {}
        self.tables: dict[str, Floats] = {}
        held = held_topics()
        for query in sorted((q for q in collection.queries if q.qid in held), key=lambda q: q.qid):
            docnos = [row.docno for row in run.rankings[query.qid] if row.docno in texts][:100]
            pairs = [(query.text, SplitPassage(texts[d], (Span(0, len(texts[d])),))) for d in docnos]
            said = [[r.rank, *(getattr(r.sentences[0], f) for f in RANK_FEATURES[1:])] for r in scorer.read(pairs)]
            self.lists[query.qid], self.tables[query.qid] = docnos, np.array(said)

    def differences(self, qid: str) -> Floats:
        """Rows of pairs of one topic that differ in grade, the better less the worse."""
        grades = self.qrels.judgments[qid]
        rows = [(grades[d], row) for d, row in zip(self.lists[qid], self.tables[qid], strict=True) if d in grades]
        better = [one - other for g, one in rows for h, other in rows if g > h]
        return np.array(better).reshape(-1, self.tables[qid].shape[1])

    def left_out(self, penalty: float) -> dict[str, Floats]:
        """Relevance of every passage by weights that were fitted without its topic."""
        pairs = {qid: self.differences(qid) for qid in self.tables}
        return {
            qid: table @ direction(np.concatenate([rows for other, rows in pairs.items() if other != qid]), penalty)
            for qid, table in self.tables.items()
        }

    def quality(self, scores: dict[str, Floats]) -> float:
        """nDCG@10 of scores by topic."""
        from thresher.evaluate.measures import evaluate

        runs = {qid: dict(zip(self.lists[qid], s.tolist(), strict=True)) for qid, s in scores.items()}
        values = evaluate(runs, self.qrels, "nDCG@10").per_query["nDCG@10"]
        return float(np.mean([values[qid] for qid in scores]))


def fit_rank_head(scorer: TwoHeadedScorer) -> dict[str, Any]:
    """Weights of the rank score and of the other evidence of a window, from topics that no training saw.

    Pairs come from one topic's list and differ in grade; a logistic model without a constant says which is better. Its
    penalty is the one whose models rank best the topic that they were not fitted on.
    """
    from thresher.context.model import RANK_FEATURES

    evidence = RankEvidence(scorer)
    print("rank score alone", evidence.quality({qid: table[:, 0] for qid, table in evidence.tables.items()}))
    tried = [(evidence.quality(evidence.left_out(penalty)), penalty) for penalty in (1.0, 10.0, 100.0, 1000.0)]
    print("rank head, topics left out by turns", tried)
    penalty = max(tried)[1]
    weights = direction(np.concatenate([evidence.differences(qid) for qid in evidence.tables]), penalty)
    return {"features": list(RANK_FEATURES), "weights": [float(w) for w in weights], "penalty": penalty}


def direction(differences: Floats, penalty: float) -> Floats:
    """Weights by which the better passage of most pairs scores higher."""
    labels = np.concatenate([np.ones(len(differences)), np.zeros(len(differences))])
    found = fit_logistic(np.concatenate([differences, -differences]), labels, penalty=penalty)
    return np.asarray(np.array(found.weights) / np.array(found.scales), np.float64)


HEADS = (
    {"penalty": 15.0, "irrelevant": 1.0},
    {"penalty": 30.0, "irrelevant": 1.0},
    {"penalty": 30.0, "irrelevant": 2.0},
    {"penalty": 100.0, "irrelevant": 1.0},
)
"""Forms of the sentence head to choose from: penalty, and how much more a sentence of an irrelevant passage counts."""
UNITS = 8
TURNS = 3
"""Irrelevant passages drawn for each query of the calibration part."""
LEVELS = (0.93, 0.94, 0.95, 0.96, 0.97)
"""Shares of answers kept at which forms of the head are compared; one alone would be a matter of a few queries."""
CALIBRATED = 200
"""Queries of each collection, at most, that the presets are calibrated on."""


class HeadData:
    """Features and labels of every sentence of the calibration part: of each query its passage, and `TURNS` others.

    Loss weights: a dropped sentence saves its length, a dropped answer costs one query. So sentences without an
    answer count by their characters, and answers by one over their number in the passage. Collections count alike,
    where TrecQA, which has few queries, counts as one with WikiQA; and so do the query's passage and the mean of
    its others.

    Attributes:
        benches: one for each turn, with the same queries.
        table: float64[sentences, features].
        labels: float64[sentences].
        part: int[sentences], the fifth that the query's family is in.
        importance: float64[sentences].
        relevant: bool[sentences].
        members: the queries of each collection.
    """

    def __init__(self, scorer: TwoHeadedScorer) -> None:
        rows = labelled_rows()
        marco = Lexical([*read_texts("msmarco-v1-mini").values(), *read_texts("msmarco-v2-mini").values()], tokenizer())
        self.benches = [AnsweredQueries("calibrate", None, rows, marco, tokenizer(), turn) for turn in range(TURNS)]
        mine = self.benches[0].rows
        pairs = self.benches[0].pairs[: len(mine)] + [p for bench in self.benches for p in bench.pairs[len(mine) :]]
        tables = [scorer.features(*pair, reading) for pair, reading in zip(pairs, scorer.read(pairs), strict=True)]
        counts = [len(table) for table in tables]
        if counts != [len(passage.sentences) for _, passage in pairs]:
            raise SystemExit("a passage has not one token")
        self.starts = np.cumsum([0, *counts])
        owner = np.repeat(np.arange(len(pairs)), counts)
        query = owner % len(mine)
        self.table, self.relevant = np.concatenate(tables), owner < len(mine)
        self.labels = np.zeros(len(owner))
        self.labels[self.relevant] = [float(label) for row in mine for label in row.labels]
        self.part = np.array([int(draw("fold", row.family) * 5) for row in mine])[query]
        names = [row.collection for row in mine]
        self.members = [[i for i, own in enumerate(names) if own == name] for name in COLLECTIONS]
        domains = Counter(self.domain(name) for name in names)
        share = np.array([len(mine) / len(domains) / domains[self.domain(name)] for name in names])[query]
        length = np.array([s.end - s.start for _, passage in pairs for s in passage.sentences], float)
        answers = np.maximum(1, np.bincount(owner, self.labels))[owner]
        turned = share * np.where(self.relevant, 1.0, 1 / TURNS)
        self.importance = turned * np.where(self.labels > 0, 1 / answers, length / length.mean())
        print(dict(domains), self.table.shape, flush=True)

    @staticmethod
    def domain(collection: str) -> str:
        """What a collection counts as."""
        return "wikiqa" if collection == "trecqa" else collection

    def fit(self, form: dict[str, float], chosen: NDArray[np.bool_] | slice = slice(None)) -> Perceptron:
        """A head of that form, from the chosen sentences."""
        importance = self.importance * np.where(self.relevant, 1.0, form["irrelevant"])
        return fit_perceptron(
            self.table[chosen], self.labels[chosen], importance=importance[chosen], units=UNITS,
            penalty=form["penalty"],
        )  # fmt: skip

    def unseen(self, form: dict[str, float]) -> list[list[float]]:
        """Scores of every passage by a model that was fitted without its family's fifth."""
        scores = np.zeros(len(self.labels))
        for number in range(5):
            model = self.fit(form, self.part != number)
            scores[self.part == number] = model(self.table[self.part == number])
        return [scores[a:b].tolist() for a, b in pairwise(self.starts)]

    def measured(self, scores: list[list[float]]) -> dict[str, float]:
        """The mean over `LEVELS`, domains counting alike, of what is pruned where so many answers are kept."""
        n = len(self.benches[0].rows)
        merged: dict[str, list[int]] = {}
        for name, members in zip(COLLECTIONS, self.members, strict=True):
            merged.setdefault(self.domain(name), []).extend(members)
        groups = list(merged.values())
        lists = [scores[:n] + scores[n * (1 + turn) : n * (2 + turn)] for turn in range(TURNS)]
        return averaged(
            [at_level(b, s, groups, level) for b, s in zip(self.benches, lists, strict=True) for level in LEVELS]
        )


def fit_head(scorer: TwoHeadedScorer, out: Path, forms: Sequence[dict[str, float]] = HEADS) -> dict[str, Any]:
    """The sentence head and the presets, from the calibration part.

    Five models, each fitted without a fifth of the families, score the families that they have not seen; by those
    scores the form of the head is chosen (what it prunes of relevant and of irrelevant passages, together) and the
    presets are calibrated. The head that ships is then fitted on all.
    """
    from thresher.context.calibrate import GOALS, calibrate
    from thresher.context.scorers import PassageScores
    from thresher.context.sentence_head import FEATURES

    data = HeadData(scorer)
    np.savez(out / "head.npz", table=data.table, labels=data.labels, part=data.part, importance=data.importance)
    tried: list[tuple[float, int, list[list[float]]]] = []
    for form in forms:
        scores = data.unseen(form)
        mean = data.measured(scores)
        tried.append((mean["pruned_relevant"] + mean["pruned_irrelevant"], len(tried), scores))
        print(form, {k: round(v, 3) for k, v in mean.items()}, flush=True)
    _, best, scores = max(tried, key=lambda one: one[0])
    form = forms[best]
    head = data.fit(form)
    rows = data.benches[0].rows
    chosen = [i for members in data.members for i in members[:CALIBRATED]]
    read = [PassageScores(0.0, tuple(scores[i])) for i in chosen]
    found = {preset: calibrate([rows[i] for i in chosen], read, goal) for preset, goal in GOALS.items()}
    for preset, one in found.items():
        parts = [measure(data.benches[0], scores, one.threshold, members) for members in data.members]
        print(preset, "the five alike", {k: round(v, 3) for k, v in averaged(parts).items()}, flush=True)
    return {
        "sentence_head": {"features": list(FEATURES), **asdict(head)},
        "sentence_head_form": {**form, "units": UNITS, "questions": len(rows), "turns": TURNS},
        "presets": {name: one.threshold for name, one in found.items()},
        "calibration": {name: asdict(one) for name, one in found.items()},
    }


def at_level(
    bench: AnsweredQueries, scores: Sequence[Sequence[float]], members: list[list[int]], level: float
) -> dict[str, float]:
    """What is pruned at the highest threshold that keeps such a share of answers, the groups counting alike."""
    lost = [
        (lost_above(bench.rows[i].sentences, scores[i], bench.rows[i].answers), 1 / len(m)) for m in members for i in m
    ]
    lost.sort(reverse=True)
    shares = np.cumsum([weight for _, weight in lost]) / len(members)
    threshold = lost[int(np.searchsorted(shares, level - 1e-9))][0]
    return averaged([measure(bench, scores, threshold, m) for m in members])


def main() -> int:
    """Run one stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("prepare", "states", "train", "export", "refit"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--length", type=int, default=224)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.5, help="of the way from untrained to trained weights")
    parser.add_argument("--target", type=Path, default=SHIPPED, help="where export and refit write")
    options = parser.parse_args()
    if options.stage == "prepare":
        prepare(options.out)
    elif options.stage == "export":
        export(options.out, options.target, options.share)
    elif options.stage == "refit":
        options.out.mkdir(parents=True, exist_ok=True)
        refit(options.out, options.target)
    else:
        config = FitConfig(
            steps=options.steps, rate=options.rate, length=options.length, tokens=options.tokens, seed=SEED,
            rank_weight=0.7,
        )  # fmt: skip
        train(options.out, config, options.stage == "states")
    return 0


if __name__ == "__main__":
    sys.exit(main())
