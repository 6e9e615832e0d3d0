"""Train the shipped context pruner: thresher-context, two heads and low-rank adapters on the embedded MiniLM.

    THRESHER_DATA=... python scripts/train_context.py prepare --out DIR     # groups to learn from, a few minutes
    THRESHER_DATA=... python scripts/train_context.py train --out DIR       # resumes from its last checkpoint
    THRESHER_DATA=... python scripts/train_context.py export --out DIR      # weights into the package

What is learnt from what:

- which sentences: answer sentences of QED, half of SQuAD 2.0, COVID-QA, WikiQA and TrecQA (training parts); passages
  retrieved for a question that hold no answer, and a share of SQuAD's unanswerable questions, as "keep nothing";
- which passages: for real MS MARCO questions (dev), candidates from the two small MS MARCO corpora with the scores of
  a teacher that needs no language model: the standardised sum of the dense MiniLM, BM25, and the SPLADE-v3 weights of
  the question matched against BM25-saturated word pieces of the passage; and the grades of TREC DL 2023 (and, in the
  last stage, 2021). Questions judged in DL 2019 are left out.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from thresher.context import labelled
from thresher.context.fit import FitConfig, Group, LabelledPassage, Trainer
from thresher.records import Span

DATA = Path(os.environ.get("THRESHER_DATA", "data"))
CONTEXT = DATA / "context"
SEED = 7
SHIPPED = Path(__file__).resolve().parents[1] / "src" / "thresher" / "models" / "weights" / "thresher-context"


def tokenizer() -> Any:
    from thresher.models.embedded import embedded_path, load_tokenizer

    found = load_tokenizer(embedded_path())
    found.no_truncation()
    return found


# questions with known answer sentences ------------------------------------------------------------------------------


def labelled_rows() -> list[labelled.LabelledQuestion]:
    """Every labelled question, in its part. The public dev parts of WikiQA and TrecQA are for testing alone."""
    rows = [
        *labelled.read_qed(CONTEXT / "qed-dev.jsonlines.gz"),
        *labelled.read_squad(CONTEXT / "squad2-dev-half.json.gz"),
        *labelled.read_covid_qa(CONTEXT / "covid-qa.json.gz"),
        *labelled.read_wikiqa(CONTEXT / "wikiqa" / "dev", part="test"),
        *labelled.read_trecqa(CONTEXT / "trecqa" / "wang-dev.csv.gz", part="test"),
    ]
    for reader, path in ((labelled.read_wikiqa, "wikiqa/train"), (labelled.read_trecqa, "trecqa/wang-train.csv.gz")):
        for row in reader(CONTEXT / path):
            part = "train" if row.part == "test" else row.part
            rows.append(
                labelled.LabelledQuestion(
                    row.collection, row.question, row.passage, row.sentences, row.labels, row.answers, row.family, part
                )
            )
    return rows


def answered_rows(rows: list[labelled.LabelledQuestion], part: str, count: int) -> list[labelled.LabelledQuestion]:
    """Answered questions of one part, at most `count` of each collection, drawn by hash, no question twice."""
    out = []
    for name in ("qed", "squad2-half", "covid-qa", "wikiqa", "trecqa"):
        mine = [row for row in rows if row.collection == name and row.part == part and row.answers]
        mine.sort(key=lambda row: hashlib.sha256((row.question + row.passage).encode()).digest())
        once = {row.question: row for row in reversed(mine)}
        out += [row for row in mine if once[row.question] is row][:count]
    return out


class Lexical:
    """BM25 and weighted-query scores over word pieces of a pool of passages."""

    def __init__(self, texts: list[str], pieces: Any, k1: float = 0.9, b: float = 0.4) -> None:
        import scipy.sparse

        self.pieces, self.texts = pieces, texts
        counts = [Counter(e.ids[1:-1][:300]) for e in pieces.encode_batch(texts)]
        indptr = np.cumsum([0] + [len(c) for c in counts])
        ids = np.fromiter((t for c in counts for t in c), np.int32, indptr[-1])
        tf = np.fromiter((n for c in counts for n in c.values()), np.float32, indptr[-1])
        lengths = np.array([sum(c.values()) for c in counts], np.float32)
        norm = np.repeat(k1 * (1 - b + b * lengths / lengths.mean()), np.diff(indptr))
        df = np.bincount(ids, minlength=30522)
        self.idf = np.log(1 + (len(texts) - df + 0.5) / (df + 0.5)).astype(np.float32)
        matrix = scipy.sparse.csr_matrix((tf * (k1 + 1) / (tf + norm), ids, indptr), shape=(len(texts), 30522))
        self.by_piece = matrix.T.tocsr()

    def scores(self, weights: dict[int, float]) -> Any:
        """float32[n]: the sum over the question's pieces of weight times saturated frequency."""
        out = np.zeros(len(self.texts), np.float32)
        for piece, weight in weights.items():
            start, end = self.by_piece.indptr[piece : piece + 2]
            out[self.by_piece.indices[start:end]] += weight * self.by_piece.data[start:end]
        return out

    def bm25(self, question: str) -> Any:
        """float32[n]: BM25 of the question."""
        counts = Counter(self.pieces.encode(question).ids[1:-1])
        return self.scores({piece: n * float(self.idf[piece]) for piece, n in counts.items()})


def keep_groups(rows: list[labelled.LabelledQuestion], marco: Lexical, pieces: Any) -> list[Group]:
    """One group for each answered question: its passage, and one or two that hold no answer."""
    chooser = random.Random(SEED)  # noqa: S311
    held = [row for row in rows if row.part != "train"]
    training = labelled.without_kin([row for row in rows if row.part == "train"], held)
    pools: dict[str, dict[str, labelled.LabelledQuestion]] = {}
    for row in training:
        pools.setdefault(row.collection, {}).setdefault(row.passage, row)
    lexical = {name: Lexical(list(pool), pieces) for name, pool in pools.items()}
    groups = []
    for row in training:
        if not row.answers and row.collection != "squad2-half":
            continue
        own = LabelledPassage(row.passage, row.sentences, row.labels)
        if not row.answers:
            if chooser.random() < 0.2:  # unanswerable: keep nothing, but say nothing about relevance
                groups.append(Group(row.question, (own,)))
            continue
        answers = [row.passage[a.start : a.end].lower() for a in row.answers]
        negatives = [_other(row, pools, lexical, answers, chooser)] if chooser.random() < 0.75 else []
        if chooser.random() < 0.6:
            best = np.argsort(-marco.bm25(row.question), kind="stable")[:20]
            text = marco.texts[int(best[chooser.randrange(len(best))])]
            if not any(a in text.lower() for a in answers):
                negatives.append(_nothing(text))
        passages = (own, *(n for n in negatives if n is not None))
        groups.append(Group(row.question, passages, (3.0, *(0.0 for _ in passages[1:]))))
    return groups


def _nothing(text: str) -> LabelledPassage:
    sentences = labelled.split_sentences(text)
    return LabelledPassage(text, tuple(sentences), tuple(0 for _ in sentences))


def _other(row: Any, pools: Any, lexical: Any, answers: list[str], chooser: random.Random) -> LabelledPassage | None:
    """A passage of the same collection that looks like the question and holds no answer."""
    index = lexical[row.collection]
    best = np.argsort(-index.bm25(row.question), kind="stable")[:12]
    order = [int(i) for i in best]
    chooser.shuffle(order)
    for number in order:
        text = index.texts[number]
        sentence = max(
            (row.passage[s.start : s.end] for s, y in zip(row.sentences, row.labels, strict=True) if y), key=len
        )
        if text != row.passage and sentence not in text and not any(a in text.lower() for a in answers):
            other = pools[row.collection][text]
            return LabelledPassage(text, other.sentences, tuple(0 for _ in other.sentences))
    return None


# passages in order ---------------------------------------------------------------------------------------------------


def read_texts(name: str) -> dict[str, str]:
    with gzip.open(DATA / "trec-dl" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return {row["docid"]: row["text"] for row in map(json.loads, lines)}


def read_pairs(path: Path) -> dict[str, str]:
    return dict(line.rstrip("\n").split("\t", 1) for line in path.read_text(encoding="utf-8").splitlines())


def graded_groups(year: int, texts: dict[str, str], size: int, rounds: int) -> list[Group]:
    """Lists of judged passages of TREC DL; targets are grades in natural-log units."""
    chooser = random.Random(SEED + year)  # noqa: S311
    questions = read_pairs(DATA / "trec-dl" / f"queries.dl{year}.tsv")
    judged: dict[str, dict[str, int]] = {}
    for line in (DATA / "trec-dl" / f"qrels.dl{year}.covered.txt").read_text().splitlines():
        qid, _, docno, grade = line.split()
        judged.setdefault(qid, {})[docno] = int(grade)
    groups = []
    for qid, grades in sorted(judged.items()):
        for _ in range(rounds):
            docnos = sorted(grades)
            chooser.shuffle(docnos)
            for first in range(0, len(docnos) - size + 1, size):
                chosen = docnos[first : first + size]
                if len({grades[d] for d in chosen}) > 1:
                    passages = tuple(LabelledPassage(texts[d]) for d in chosen)
                    groups.append(Group(questions[qid], passages, tuple(1.3 * grades[d] for d in chosen)))
    return groups


def splade_queries(pieces: Any) -> dict[str, dict[int, float]]:
    path = DATA / "encoded-queries" / "topics.msmarco-passage.dev-subset.splade-v3.tsv.gz"
    out = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            qid, _, words = line.rstrip("\n").partition("\t")
            counts = Counter(words.split())
            ids = ((pieces.token_to_id(word), float(n)) for word, n in counts.items())
            out[qid] = {piece: n for piece, n in ids if piece is not None}
    return out


def distilled_groups(marco: Lexical, vectors: Any, pieces: Any, count: int, size: int) -> list[Group]:
    """Candidates of real questions with the teacher's scores, from the top of its ranking to far below."""
    chooser = random.Random(SEED)  # noqa: S311
    questions = read_pairs(DATA / "trec-dl" / "queries.msmarco-dev.tsv")
    measured = {_plain(text) for text in read_pairs(DATA / "trec-dl" / "queries.dl19.tsv").values()}
    weights = splade_queries(pieces)
    chosen = [qid for qid in sorted(questions) if _plain(questions[qid]) not in measured and qid in weights]
    chooser.shuffle(chosen)
    chosen = chosen[:count]
    asked = encode_questions([questions[qid] for qid in chosen])
    groups = []
    for qid, vector in zip(chosen, asked, strict=True):
        dense = vectors @ vector
        signals = [dense, marco.bm25(questions[qid]), marco.scores(weights[qid])]
        pool = np.unique(
            np.concatenate([np.argsort(-s, kind="stable")[:n] for s, n in zip(signals, (60, 30, 50), strict=True)])
        )
        parts = [(s[pool] - s[pool].mean()) / (s[pool].std() + 1e-6) for s in signals]
        teacher = parts[0] + 0.5 * parts[1] + parts[2]
        order = pool[np.argsort(-teacher, kind="stable")]
        score = dict(zip(pool.tolist(), teacher.tolist(), strict=True))
        picks = [
            0,
            chooser.randrange(1, 5),
            chooser.randrange(5, 15),
            chooser.randrange(15, 40),
            chooser.randrange(40, len(order)),
        ]
        ids = [int(order[i]) for i in picks[:size]]
        passages = [LabelledPassage(marco.texts[i]) for i in ids[:-1]] + [_nothing(marco.texts[ids[-1]])]
        groups.append(Group(questions[qid], tuple(passages), tuple(score[i] for i in ids)))
    return groups


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def encode_questions(texts: list[str]) -> Any:
    import torch

    from thresher.models.embedded import load_minilm
    from thresher.models.two_headed import pad

    minilm = load_minilm(device="cpu")
    out = np.zeros((len(texts), 384), np.float32)
    ids = minilm.token_ids(texts)
    order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
    with torch.inference_mode():
        for first in range(0, len(order), 64):
            rows = order[first : first + 64]
            padded, lengths = pad([ids[i] for i in rows])
            mask = torch.arange(padded.shape[1])[None] < lengths[:, None]
            states = minilm.module(input_ids=padded, attention_mask=mask.long())[0]
            mean = (states * mask[..., None]).sum(1) / lengths[:, None]
            out[rows] = torch.nn.functional.normalize(mean, dim=-1).numpy()
    return out


# stages --------------------------------------------------------------------------------------------------------------


def write_groups(path: Path, groups: list[Group]) -> None:
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=3) as out:
        for group in groups:
            passages = [[p.text, [[s.start, s.end] for s in p.sentences], p.labels] for p in group.passages]
            out.write(json.dumps([group.question, passages, group.targets], ensure_ascii=False) + "\n")


def read_groups(path: Path) -> list[Group]:
    groups = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for question, passages, targets in map(json.loads, lines):
            made = tuple(
                LabelledPassage(text, tuple(Span(*s) for s in spans), None if labels is None else tuple(labels))
                for text, spans, labels in passages
            )
            groups.append(Group(question, made, None if targets is None else tuple(targets)))
    return groups


def prepare(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    pieces, start = tokenizer(), time.time()
    v1, v2 = read_texts("msmarco-v1-mini"), read_texts("msmarco-v2-mini")
    marco = Lexical([*v1.values(), *v2.values()], pieces)
    print("lexical", len(marco.texts), round(time.time() - start))
    write_groups(out / "graded23.jsonl.gz", graded_groups(23, v2, 5, 1))
    write_groups(out / "graded21.jsonl.gz", graded_groups(21, v2, 5, 1))
    kept = keep_groups(labelled_rows(), marco, pieces)
    write_groups(out / "keep.jsonl.gz", kept)
    print("keep", len(kept), sum(len(g.passages) for g in kept), round(time.time() - start))
    vectors = np.concatenate([np.load(DATA / "embeddings" / f"msmarco-{v}-mini.npy") for v in ("v1", "v2")]).astype(
        np.float32
    )
    groups = distilled_groups(marco, vectors, pieces, 3500, 5)
    write_groups(out / "distil.jsonl.gz", groups)
    print("distil", len(groups), round(time.time() - start))


def cropped(passage: LabelledPassage, chooser: random.Random, characters: int) -> LabelledPassage:
    """A run of whole sentences of about so many characters, around a labelled one where there is one."""
    if passage.labels is None or len(passage.text) <= characters or not passage.sentences:
        return passage
    wanted = [n for n, label in enumerate(passage.labels) if label] or list(range(len(passage.sentences)))
    first = last = chooser.choice(wanted)
    while True:
        sides = [n for n in (first - 1, last + 1) if 0 <= n < len(passage.sentences)]
        chooser.shuffle(sides)
        for n in sides:
            low, high = min(first, n), max(last, n)
            if passage.sentences[high].end - passage.sentences[low].start <= characters:
                first, last = low, high
                break
        else:
            break
    start = passage.sentences[first].start
    spans = tuple(Span(s.start - start, s.end - start) for s in passage.sentences[first : last + 1])
    text = passage.text[start : passage.sentences[last].end]
    return LabelledPassage(text, spans, passage.labels[first : last + 1])


def chosen_groups(out: Path, stage: str) -> list[Group]:
    """The mix of a stage: cropped to what one processor core can read in half an hour."""
    chooser = random.Random(SEED)  # noqa: S311
    groups = []
    for group in read_groups(out / "keep.jsonl.gz"):
        own, *others = group.passages
        own = cropped(own, chooser, 480 if chooser.random() < 0.75 else 800)
        others = [cropped(p, chooser, 320) for p in others if chooser.random() < 0.6]
        targets = None if group.targets is None else (3.0, *(0.0 for _ in others))
        groups.append(Group(group.question, (own, *others), targets))
    for group in read_groups(out / "distil.jsonl.gz")[: 900 if stage == "main" else 300]:
        picked = [0, 1, 2 + chooser.randrange(2), 4]
        targets = tuple((group.targets or ())[i] for i in picked)
        groups.append(Group(group.question, tuple(group.passages[i] for i in picked), targets))
    for name, share in (("graded23", 0.35), ("graded21", 0.0 if stage == "main" else 1.0)):
        groups += [group for group in read_groups(out / f"{name}.jsonl.gz") if chooser.random() < share]
    return groups


def train(out: Path, stage: str, steps: int, rate: float, seed: int, length: int, tokens: int, start_from: str) -> None:
    import torch
    from safetensors.torch import load_file

    from thresher.models import two_headed
    from thresher.models.embedded import embedded_path

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(seed)
    groups = chosen_groups(out, stage)
    print(len(groups), "groups", sum(len(g.passages) for g in groups), "pairs", flush=True)
    model = two_headed.build(two_headed.JoinedBertConfig())
    two_headed.load_body(model, load_file(str(embedded_path() / "model.safetensors")))
    if start_from:
        trained = load_file(start_from)
        two_headed.load_trained(
            model, {k.removeprefix("weight."): v.float() for k, v in trained.items() if not k.startswith("adam.")}
        )
    config = FitConfig(steps=steps, rate=rate, seed=seed, length=length, tokens=tokens)
    trainer = Trainer(model, tokenizer(), groups, config)
    window: list[dict[str, float]] = []
    clock = time.time()

    def report(parts: dict[str, float]) -> None:
        nonlocal clock
        window.append(parts)
        if len(window) == 10:
            mean = {k: round(sum(p[k] for p in window) / 10, 4) for k in ("pairs", "keep", "rank")}
            print(
                int(parts["step"]),
                mean,
                f"{sum(p['pairs'] for p in window) / (time.time() - clock):.2f} pairs/s",
                flush=True,
            )
            window.clear()
            clock = time.time()

    trainer.run(out / f"run-{stage}", report)
    two_headed.save(model, out / f"model-{stage}")


def export(out: Path, stage: str, target: Path) -> None:
    """The last checkpoint as a model with calibrated presets."""
    from dataclasses import asdict

    import torch
    from safetensors.torch import load_file

    from thresher.context.calibrate import calibrate_presets
    from thresher.context.model import RARITY, TwoHeadedScorer
    from thresher.models import two_headed
    from thresher.models.embedded import embedded_path

    model = two_headed.build(two_headed.JoinedBertConfig())
    two_headed.load_body(model, load_file(str(embedded_path() / "model.safetensors")))
    state = json.loads((out / f"run-{stage}" / "trainer.json").read_text())
    saved = load_file(str(out / f"run-{stage}" / f"trainer-{state['step']}.safetensors"))
    weights = {name.removeprefix("weight."): tensor for name, tensor in saved.items() if name.startswith("weight.")}
    two_headed.load_trained(model, weights)
    rarity = torch.tensor(piece_rarity(out))
    about = {"name": "thresher-context-1", "trained": {"steps": state["step"], **state["config"]}}
    two_headed.save(model, target, about, {RARITY: rarity})
    rows = labelled_rows()
    about["rank_head"] = fit_rank_head(TwoHeadedScorer(target))
    about["sentence_head"] = fit_head(TwoHeadedScorer(target), out, rows)
    two_headed.save(model, target, about, {RARITY: rarity})
    found = calibrate_presets(answered_rows(rows, "calibrate", 80), TwoHeadedScorer(target))
    presets = {name: one.threshold for name, one in found.items()}
    about |= {"presets": presets, "calibration": {name: asdict(one) for name, one in found.items()}}
    two_headed.save(model, target, about, {RARITY: rarity})
    print(json.dumps(about, indent=1))


def fit_rank_head(scorer: Any) -> dict[str, Any]:
    """Weights of the rank score and of the other evidence, from judged passages in BM25's top 50 of DL 2021.

    Pairs come from one question's list and differ in grade; a logistic model without a constant says which is better.
    """
    from thresher.collection import load
    from thresher.context.logistic import fit_logistic
    from thresher.context.model import RANK_FEATURES
    from thresher.context.scoring import SplitPassage
    from thresher.evaluate.trec import read_run

    collection, run = load("trec-dl-2021"), read_run(DATA / "runs" / "bm25.dl21.run.gz")
    texts = {passage.docno: passage.contents for passage in collection.corpus}
    better = []
    for query in sorted(collection.queries, key=lambda q: q.qid):
        grades = collection.qrels.judgments.get(query.qid, {})
        docnos = [
            row.docno for row in run.rankings.get(query.qid, ())[:50] if row.docno in grades and row.docno in texts
        ]
        pairs = [(query.text, SplitPassage(texts[d], (Span(0, len(texts[d])),))) for d in docnos]
        table = [
            np.array([r.rank, *(getattr(r.sentences[0], name) for name in RANK_FEATURES[1:])])
            for r in scorer.read(pairs)
        ]
        for one, first in zip(docnos, table, strict=True):
            better += [
                first - second for other, second in zip(docnos, table, strict=True) if grades[one] > grades[other]
            ]
    differences = np.stack(better)
    labels = np.concatenate([np.ones(len(better)), np.zeros(len(better))])
    found = fit_logistic(np.concatenate([differences, -differences]), labels, penalty=3.0)
    weights = np.array(found.weights) / np.array(found.scales)
    return {"features": list(RANK_FEATURES), "weights": [float(w) for w in weights]}


def piece_rarity(out: Path) -> Any:
    """Inverse document frequency of every word piece in the two small MS MARCO corpora, float32[vocabulary]."""
    file = out / "rarity.npy"
    if not file.exists():
        marco = [*read_texts("msmarco-v1-mini").values(), *read_texts("msmarco-v2-mini").values()]
        np.save(file, Lexical(marco, tokenizer()).idf)
    return np.load(file)


def fit_head(scorer: Any, out: Path, rows: list[labelled.LabelledQuestion]) -> dict[str, Any]:
    """The sentence head, from training groups: 110 of each collection, every collection counting alike."""
    from dataclasses import asdict

    from thresher.context.logistic import fit_logistic
    from thresher.context.scoring import SplitPassage
    from thresher.context.sentence_head import FEATURES

    named = {row.passage: row.collection for row in rows}
    chooser = random.Random(SEED)  # noqa: S311
    groups = [g for g in read_groups(out / "keep.jsonl.gz") if g.targets is not None]
    chooser.shuffle(groups)
    taken: Counter[str] = Counter()
    pairs, labels, owners = [], [], []
    for group in groups:
        name = named[group.passages[0].text]
        if taken[name] < 110:
            taken[name] += 1
            for passage in group.passages:
                pairs.append((group.question, SplitPassage(passage.text, passage.sentences)))
                labels.append(passage.labels or ())
                owners.append(name)
    features, marks, counts = [], [], []
    for (question, passage), label, name, reading in zip(pairs, labels, owners, scorer.read(pairs), strict=True):
        if reading.sentences:
            features.append(scorer.features(question, passage, reading))
            marks += label
            counts += [110 / taken[name]] * len(label)
    table = np.concatenate(features)
    np.savez(out / "head.npz", features=table, labels=np.array(marks), counts=np.array(counts))
    head = fit_logistic(table, np.array(marks, float), penalty=3.0, importance=np.array(counts))
    for feature, weight in zip(FEATURES, head.weights, strict=True):
        print(f"{feature:20s} {weight:+.3f}")
    return {"features": list(FEATURES), **asdict(head)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("prepare", "train", "export"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--groups", choices=("main", "last"), default="main")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--length", type=int, default=224)
    parser.add_argument("--tokens", type=int, default=2600)
    parser.add_argument("--start-from", default="", help="weights of a checkpoint")
    parser.add_argument("--target", type=Path, default=SHIPPED, help="where export writes")
    options = parser.parse_args()
    if options.stage == "prepare":
        prepare(options.out)
    elif options.stage == "export":
        export(options.out, options.groups, options.target)
    else:
        train(
            options.out,
            options.groups,
            options.steps,
            options.rate,
            SEED,
            options.length,
            options.tokens,
            options.start_from,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
