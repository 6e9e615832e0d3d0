"""What the shipped context pruner learns from, is calibrated on, and is measured on.

Queries with known answer sentences, passages that hold no answer, and lists of passages in order:
`training.context.train` learns from them and `python -m eval context-pruning` measures on them.

Parts: articles, paragraphs or queries are drawn by hash into training, calibration (sentence head and presets) and
measuring. What is measured comes from families that no earlier split measured or calibrated on, and the public dev
parts of WikiQA and TrecQA; passages that repeat a held-out one leave the training part, and those that repeat a
measured one leave the calibration part.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.context.calibrate import LabelledQuery, lost_above, read_squad, wilson
from thresher.context.scorers import SplitPassage
from thresher.durable import replacing
from thresher.files import read_lines, read_text_lines
from thresher.records import Span
from thresher.text.sentences import split_sentences
from training.context import collections
from training.context.fit import Group, LabelledPassage
from training.held_out import held_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    Floats = NDArray[np.float32]

DATA = Path(os.environ.get("THRESHER_DATA", "data"))
CONTEXT = DATA / "context"
COLLECTIONS = ("qed", "squad2-half", "covid-qa", "wikiqa", "trecqa")
SEED = 7
MEASURED, CALIBRATED = 1 / 3, 0.3
"""Share of the fresh families that is measured, and share of the others that calibrates."""
PRIOR = (1.0, 0.7)
"""Weights of standardised dense similarity and BM25 where the rank loss adds them."""


def tokenizer() -> Tokenizer:
    """That of the embedded encoder, without truncation."""
    from thresher.models.files import embedded_path
    from thresher.models.minilm import load_tokenizer

    found: Tokenizer = load_tokenizer(embedded_path())
    found.no_truncation()
    return found


# queries with known answer sentences ------------------------------------------------------------------------------


def labelled_rows() -> list[LabelledQuery]:
    """Every labelled query, in its part. The public dev parts of WikiQA and TrecQA are for measuring alone."""
    rows = [
        *collections.read_qed(CONTEXT / "qed-dev.jsonlines.gz"),
        *read_squad(CONTEXT / "squad2-dev-half.json.gz"),
        *collections.read_covid_qa(CONTEXT / "covid-qa.json.gz"),
    ]
    parts = _parts(rows)
    mine = [replace(row, part=parts[row.family]) for row in rows]
    mine += collections.read_wikiqa(CONTEXT / "wikiqa" / "dev", part="test")
    mine += collections.read_trecqa(CONTEXT / "trecqa" / "wang-dev.csv.gz", part="test")
    for reader, path in (
        (collections.read_wikiqa, "wikiqa/train"),
        (collections.read_trecqa, "trecqa/wang-train.csv.gz"),
    ):
        for row in reader(CONTEXT / path):
            part = "calibrate" if draw("calibrate", row.family) < CALIBRATED else "train"
            mine.append(replace(row, part=part))
    measured = [row for row in mine if row.part == "test"]
    calibration = collections.without_kin([row for row in mine if row.part == "calibrate"], measured)
    training = [row for row in mine if row.part == "train"]
    return [*measured, *calibration, *collections.without_kin(training, [*measured, *calibration])]


def _parts(rows: list[LabelledQuery]) -> dict[str, str]:
    """Part of every family. Measured are a third of those that the readers' own split has for training."""
    own = {row.family: row.part for row in rows}
    articles = {row.family for row in rows if row.collection == "squad2-half"}
    fresh = sorted((f for f in articles if own[f] == "train"), key=lambda f: draw("test", f))[:3]
    others = sorted(articles - set(fresh), key=lambda f: draw("calibrate", f))
    parts = dict.fromkeys(fresh, "test") | dict.fromkeys(others[:3], "calibrate") | dict.fromkeys(others[3:], "train")
    for family, part in own.items():
        if family not in articles:
            measured = part == "train" and draw("test", family) < MEASURED
            parts[family] = "test" if measured else "calibrate" if draw("calibrate", family) < CALIBRATED else "train"
    return parts


def draw(purpose: str, family: str) -> float:
    """A number of 0 to 1 that hangs on the family alone, for one purpose."""
    digest = hashlib.sha256(f"thresher-context-2:{purpose}:{family}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def answered_rows(rows: list[LabelledQuery], part: str, count: int | None) -> list[LabelledQuery]:
    """Answered queries of one part, at most `count` of each collection, drawn by hash, no query twice."""
    out = []
    for name in COLLECTIONS:
        mine = [row for row in rows if row.collection == name and row.part == part and row.answers]
        mine.sort(key=lambda row: hashlib.sha256((row.query + row.passage).encode()).digest())
        once = {row.query: row for row in reversed(mine)}
        out += [row for row in mine if once[row.query] is row][:count]
    return out


class Lexical:
    """BM25 and weighted-query scores over word pieces of a pool of passages."""

    def __init__(self, texts: list[str], pieces: Tokenizer, k1: float = 0.9, b: float = 0.4) -> None:
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

    def scores(self, weights: dict[int, float]) -> Floats:
        """float32[n]: the sum over the query's pieces of weight times saturated frequency."""
        out = np.zeros(len(self.texts), np.float32)
        for piece, weight in weights.items():
            start, end = self.by_piece.indptr[piece : piece + 2]
            out[self.by_piece.indices[start:end]] += weight * self.by_piece.data[start:end]
        return out

    def bm25(self, query: str) -> Floats:
        """float32[n]: BM25 of the query."""
        counts = Counter(self.pieces.encode(query).ids[1:-1])
        return self.scores({piece: n * float(self.idf[piece]) for piece, n in counts.items()})


class AnsweredQueries:
    """Answered queries of one part, and for each a passage that holds no answer.

    That is by turns one of the twenty best BM25 passages of the MS MARCO mini corpora, and one of the twelve best of
    the collection's own passages in that part, without any of the answer's text. Another `turn` draws other passages.
    """

    def __init__(
        self,
        part: str,
        count: int | None,
        everything: list[LabelledQuery],
        marco: Lexical,
        pieces: Tokenizer,
        turn: int = 0,
    ) -> None:
        chooser = random.Random(11 + turn)  # noqa: S311
        self.rows = answered_rows(everything, part, count)
        self.irrelevant: list[SplitPassage] = []
        for name in COLLECTIONS:
            mine = [row for row in everything if row.collection == name and row.part == part]
            own = Lexical(list(dict.fromkeys(row.passage for row in mine)), pieces)
            sentences = {row.passage: row.sentences for row in mine}
            for number, row in enumerate(r for r in self.rows if r.collection == name):
                self.irrelevant.append(self._other(row, number + turn, own, sentences, marco, chooser))

    def _other(
        self,
        row: LabelledQuery,
        number: int,
        own: Lexical,
        sentences: Mapping[str, tuple[Span, ...]],
        marco: Lexical,
        chooser: random.Random,
    ) -> SplitPassage:
        answers = [row.passage[a.start : a.end].lower() for a in row.answers]
        for index, depth in ((marco, 20), (own, 12)) if number % 2 == 0 else ((own, 12), (marco, 20)):
            best = [int(i) for i in np.argsort(-index.bm25(row.query), kind="stable")[:depth]]
            chooser.shuffle(best)
            for place in best:
                text = index.texts[place]
                if text != row.passage and not any(a in text.lower() for a in answers):
                    return SplitPassage(text, tuple(sentences.get(text) or split_sentences(text)))
        raise SystemExit(f"no irrelevant passage for {row.query!r}")

    @property
    def pairs(self) -> list[tuple[str, SplitPassage]]:
        """Queries with their relevant passages, then with their irrelevant ones."""
        relevant = [(row.query, SplitPassage(row.passage, row.sentences)) for row in self.rows]
        return relevant + [(row.query, p) for row, p in zip(self.rows, self.irrelevant, strict=True)]


def measure(
    bench: AnsweredQueries, scores: Sequence[Sequence[float]], threshold: float, rows: list[int]
) -> dict[str, float]:
    """Answers kept, characters pruned and span F1 on some queries of a bench, by sentence scores of its pairs."""
    n = len(bench.rows)
    kept_answers = 0
    before = after = other_before = other_after = 0
    f1 = []
    for i in rows:
        row = bench.rows[i]
        kept_answers += lost_above(row.sentences, scores[i], row.answers) >= threshold
        keep = [x >= threshold for x in scores[i]]
        lengths = [s.end - s.start for s in row.sentences]
        kept = sum(length for length, k in zip(lengths, keep, strict=True) if k)
        gold = sum(length for length, y in zip(lengths, row.labels, strict=True) if y)
        both = sum(length for length, y, k in zip(lengths, row.labels, keep, strict=True) if y and k)
        f1.append(2 * both / (kept + gold) if kept + gold else 0.0)
        before, after = before + sum(lengths), after + kept
        other = [s.end - s.start for s in bench.irrelevant[i].sentences]
        other_before += sum(other)
        other_after += sum(length for length, x in zip(other, scores[n + i], strict=True) if x >= threshold)
    low, high = wilson(kept_answers, len(rows))
    return {
        "answer_kept": kept_answers / len(rows), "low": low, "high": high, "pruned_relevant": 1 - after / before,
        "pruned_irrelevant": 1 - other_after / max(1, other_before), "span_f1": math.fsum(f1) / len(f1),
        "questions": len(rows),
    }  # fmt: skip


def averaged(measured: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure."""
    return {key: math.fsum(m[key] for m in measured) / len(measured) for key in measured[0]}


def keep_groups(rows: list[LabelledQuery], marco: Lexical, pieces: Tokenizer) -> list[Group]:
    """One group for each answered query: its passage, and one or two that hold no answer.

    Of SQuAD, which has the most queries, a share; of passages whose every sentence is to be kept, a third.
    """
    chooser = random.Random(SEED)  # noqa: S311
    training = [row for row in rows if row.part == "train"]
    pools: dict[str, dict[str, LabelledQuery]] = {}
    for row in training:
        pools.setdefault(row.collection, {}).setdefault(row.passage, row)
    lexical = {name: Lexical(list(pool), pieces) for name, pool in pools.items()}
    groups = []
    for row in training:
        if row.collection == "squad2-half" and chooser.random() > (0.55 if row.answers else 0.1):
            continue
        if not row.answers and row.collection != "squad2-half":
            continue
        own = LabelledPassage(row.passage, row.sentences, row.labels)
        if not row.answers:  # unanswerable: keep nothing, but say nothing about relevance
            groups.append(Group(row.query, (own,)))
            continue
        if all(row.labels) and chooser.random() > 1 / 3:
            continue
        answers = [row.passage[a.start : a.end].lower() for a in row.answers]
        negatives = [_other(row, pools, lexical, answers, chooser)] if chooser.random() < 0.4 else []
        if chooser.random() < 0.32:
            best = np.argsort(-marco.bm25(row.query), kind="stable")[:20]
            text = marco.texts[int(best[chooser.randrange(len(best))])]
            if not any(a in text.lower() for a in answers):
                negatives.append(_nothing(text))
        passages = (own, *(n for n in negatives if n is not None))
        groups.append(Group(row.query, passages, (3.0, *(0.0 for _ in passages[1:]))))
    return groups


def _nothing(text: str) -> LabelledPassage:
    sentences = split_sentences(text)
    return LabelledPassage(text, tuple(sentences), tuple(0 for _ in sentences))


def _other(
    row: LabelledQuery,
    pools: Mapping[str, Mapping[str, LabelledQuery]],
    lexical: Mapping[str, Lexical],
    answers: list[str],
    chooser: random.Random,
) -> LabelledPassage | None:
    """A passage of the same collection that looks like the query and holds no answer."""
    index = lexical[row.collection]
    best = np.argsort(-index.bm25(row.query), kind="stable")[:12]
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
    """The texts of a small MS MARCO corpus, by docno."""
    rows = (json.loads(line) for _, line in read_lines(DATA / "trec-dl" / f"{name}.jsonl.gz"))
    return {row["docid"]: row["text"] for row in rows}


def read_pairs(path: Path) -> dict[str, str]:
    """Lines of two columns: queries by qid."""
    pairs = (line.partition("\t") for _, line in read_text_lines(path))
    return {first: second for first, _, second in pairs}


def held_topics() -> set[str]:
    """The third of TREC DL 2021's topics that no training sees: what mixing weights are chosen on."""
    judged = {line.split()[0] for line in (DATA / "trec-dl" / "qrels.dl21.covered.txt").read_text().splitlines()}
    return set(sorted(judged, key=lambda qid: draw("topic", qid))[: (len(judged) + 2) // 3])


class Signals:
    """Dense similarity and BM25 of the passages of both small MS MARCO corpora, standardised over BM25's top 100."""

    def __init__(self, marco: Lexical) -> None:
        self.marco = marco
        self.vectors = np.concatenate(
            [np.load(DATA / "embeddings" / f"msmarco-{v}-mini.npy") for v in ("v1", "v2")]
        ).astype(np.float32)

    def __call__(self, query: str, vector: Floats) -> tuple[Floats, Floats, Floats]:
        """(dense float32[n], BM25 float32[n], their weighted sum) for one query."""
        raw = (self.vectors @ vector, self.marco.bm25(query))
        top = np.argsort(-raw[1], kind="stable")[:100]
        dense, lexical = ((s - s[top].mean()) / (s[top].std() + 1e-6) for s in raw)
        return dense, lexical, PRIOR[0] * dense + PRIOR[1] * lexical


def graded_groups(year: int, places: dict[str, int], signals: Signals, size: int) -> list[Group]:
    """Lists of judged passages of TREC DL, high and low grades in each; targets are grades in natural-log units."""
    chooser = random.Random(SEED + year)  # noqa: S311
    queries = read_pairs(DATA / "trec-dl" / f"queries.dl{year}.tsv")
    judged: dict[str, dict[str, int]] = {}
    for line in (DATA / "trec-dl" / f"qrels.dl{year}.covered.txt").read_text().splitlines():
        qid, _, docno, grade = line.split()
        judged.setdefault(qid, {})[docno] = int(grade)
    left_out = held_topics() | held_out("trec-dl-2021") if year == 21 else set()
    topics = sorted(qid for qid, grades in judged.items() if max(grades.values()) > 0 and qid not in left_out)
    groups = []
    for qid, vector in zip(topics, encode_queries([queries[qid] for qid in topics]), strict=True):
        prior = signals(queries[qid], vector)[2]
        docnos = sorted(judged[qid])
        chooser.shuffle(docnos)
        docnos.sort(key=lambda d: -judged[qid][d])
        lists = max(1, len(docnos) // size)
        for number in range(lists):
            chosen = docnos[number::lists]
            if len({judged[qid][d] for d in chosen}) > 1:
                passages = tuple(LabelledPassage(signals.marco.texts[places[d]]) for d in chosen)
                wanted = tuple(1.3 * judged[qid][d] for d in chosen)
                groups.append(Group(queries[qid], passages, wanted, tuple(float(prior[places[d]]) for d in chosen)))
    return groups


def splade_queries(pieces: Tokenizer) -> dict[str, dict[int, float]]:
    """MS MARCO dev queries as SPLADE-v3 weighs their word pieces, by qid."""
    path = DATA / "encoded-queries" / "topics.msmarco-passage.dev-subset.splade-v3.tsv.gz"
    out = {}
    for qid, words in read_pairs(path).items():
        ids = ((pieces.token_to_id(word), float(n)) for word, n in Counter(words.split()).items())
        out[qid] = {piece: n for piece, n in ids if piece is not None}
    return out


def distilled_groups(signals: Signals, pieces: Tokenizer, count: int) -> list[Group]:
    """Candidates of real queries with the teacher's scores: its best, those it is at odds with dense on, others."""
    chooser = random.Random(SEED)  # noqa: S311
    marco = signals.marco
    queries = read_pairs(DATA / "trec-dl" / "queries.msmarco-dev.tsv")
    measured = {_plain(text) for text in read_pairs(DATA / "trec-dl" / "queries.dl19.tsv").values()}
    weights = splade_queries(pieces)
    chosen = [qid for qid in sorted(queries) if _plain(queries[qid]) not in measured and qid in weights]
    chooser.shuffle(chosen)
    chosen = chosen[:count]
    asked = encode_queries([queries[qid] for qid in chosen])
    groups = []
    for qid, vector in zip(chosen, asked, strict=True):
        dense, lexical, prior = signals(queries[qid], vector)
        expanded = marco.scores(weights[qid])
        pool = np.unique(
            np.concatenate([np.argpartition(-s, n)[:n] for s, n in ((dense, 60), (lexical, 30), (expanded, 50))])
        )
        parts = [(s[pool] - s[pool].mean()) / (s[pool].std() + 1e-6) for s in (dense, lexical, expanded)]
        teacher = parts[0] + 0.5 * parts[1] + parts[2]
        order = np.argsort(-teacher, kind="stable")
        rival = np.argsort(-parts[0], kind="stable")
        gap = teacher / teacher.std() - parts[0]
        picks = [
            int(order[chooser.randrange(2)]),
            int(max(order[:15], key=lambda i: gap[i])),
            int(min(rival[:15], key=lambda i: gap[i])),
            int(order[chooser.randrange(3, 20)]),
            int(order[chooser.randrange(20, len(order))]),
        ]
        picks = list(dict.fromkeys(picks))
        passages = tuple(LabelledPassage(marco.texts[pool[i]]) for i in picks)
        targets = tuple(float(teacher[i]) for i in picks)
        groups.append(Group(queries[qid], passages, targets, tuple(float(prior[pool[i]]) for i in picks)))
    return groups


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def encode_queries(texts: list[str]) -> Floats:
    """float32[n, 384], unit length."""
    from thresher.encode.dense import MiniLMEncoder

    return MiniLMEncoder(storage="float32").encode_queries(texts)


# files ----------------------------------------------------------------------------------------------------------------


def write_groups(path: Path, groups: list[Group]) -> None:
    """Write groups as JSON lines, for `read_groups`."""
    with replacing(path) as out:
        for group in groups:
            passages = [[p.text, [[s.start, s.end] for s in p.sentences], p.labels] for p in group.passages]
            row = json.dumps([group.query, passages, group.targets, group.prior], ensure_ascii=False)
            out.write(f"{row}\n".encode())


def read_groups(path: Path) -> list[Group]:
    """Read what `write_groups` wrote."""
    groups = []
    for _, line in read_lines(path):
        query, passages, targets, prior = json.loads(line)
        made = tuple(
            LabelledPassage(text, tuple(Span(*s) for s in spans), None if labels is None else tuple(labels))
            for text, spans, labels in passages
        )
        scores = (None if s is None else tuple(s) for s in (targets, prior))
        groups.append(Group(query, made, *scores))
    return groups


def prepare(out: Path) -> None:
    """Make all groups and the table of word-piece rarity, and write them into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    pieces, start = tokenizer(), time.time()
    v1, v2 = read_texts("msmarco-v1-mini"), read_texts("msmarco-v2-mini")
    marco = Lexical([*v1.values(), *v2.values()], pieces)
    np.save(out / "rarity.npy", marco.idf)
    print("lexical", len(marco.texts), round(time.time() - start), flush=True)
    kept = keep_groups(labelled_rows(), marco, pieces)
    write_groups(out / "keep.jsonl.gz", kept)
    print("keep", len(kept), sum(len(g.passages) for g in kept), round(time.time() - start), flush=True)
    signals, places = Signals(marco), {docno: n for n, docno in enumerate(v2, len(v1))}
    for year in (21, 23):
        groups = graded_groups(year, places, signals, 6)
        write_groups(out / f"graded{year}.jsonl.gz", groups)
        print("graded", year, len(groups), sum(len(g.passages) for g in groups), round(time.time() - start), flush=True)
    groups = distilled_groups(signals, pieces, 800)
    write_groups(out / "distil.jsonl.gz", groups)
    print("distil", len(groups), sum(len(g.passages) for g in groups), round(time.time() - start), flush=True)


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


def chosen_groups(out: Path) -> list[Group]:
    """Everything to learn from, passages cropped to what one processor core can read in an hour.

    Groups with known sentences come twice as often as those that only rank.
    """
    chooser = random.Random(SEED)  # noqa: S311
    groups = []
    for group in read_groups(out / "keep.jsonl.gz"):
        own, *others = group.passages
        own = cropped(own, chooser, 550 if chooser.random() < 0.7 else 900)
        others = [cropped(p, chooser, 400) for p in others]
        groups.append(Group(group.query, (own, *others), group.targets))
    groups *= 2
    for name in ("graded21", "graded23", "distil"):
        groups += read_groups(out / f"{name}.jsonl.gz")
    return groups
