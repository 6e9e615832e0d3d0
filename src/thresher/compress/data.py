"""What compression is calibrated and measured on: queries with candidate passages, and judgments where there are some.

The queries are split in two by a hash of their number: one part calibrates (layers and neurons are chosen on it), the
other measures. Without queries, passages sampled from a corpus calibrate: the words in front ask for the rest.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.errors import InputError
from thresher.evaluate.measures import Evaluation, evaluate
from thresher.evaluate.trec import read_qrels, read_queries, read_run
from thresher.ranking import Run
from thresher.rerank.candidates import of_run, texts_of_corpus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

SHORT, LONG = 4, 8
"""Words of a short query at most, and of a long one at least."""
RARE = 0.01
"""A rare term is in this share of the candidate passages at most."""
NEGATIONS = frozenset(
    "no not never without except cannot nor neither none non isn aren doesn don didn won wasn".split()
)
GROUPS = ("all", "short", "long", "rare terms", "negation")
_WORD = re.compile(r"\w+")
_ASKING = 8
"""Words in front of a sampled passage that stand for a query."""


@checked_call
@dataclass(frozen=True, slots=True)
class Candidates:
    """A query with the passages to rank.

    Attributes:
        qid: its number.
        query: its text.
        docnos: of the passages, best first as they were found.
        texts: title and text of each.
        grades: docno to grade, of all judged passages of the query; empty where nothing is judged.

    Raises:
        InputError: there is no passage, or not one text for each docno, or a docno occurs twice.
    """

    qid: str
    query: str
    docnos: tuple[str, ...]
    texts: tuple[str, ...]
    grades: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.docnos or len(self.docnos) != len(self.texts) or len(set(self.docnos)) != len(self.docnos):
            raise InputError(
                f"a list needs at least one passage, each docno once and a text for each; query {self.qid!r} has "
                f"{len(self.docnos)} docnos ({len(set(self.docnos))} different) and {len(self.texts)} texts"
            )

    def relevance(self) -> list[int]:
        """The grade of each passage, 0 where it is negative or there is none."""
        return [max(0, self.grades.get(docno, 0)) for docno in self.docnos]


@checked_call
@dataclass(frozen=True, slots=True)
class Task:
    """Lists to calibrate on and lists to measure on, with a sentence that names them.

    Raises:
        InputError: two lists that measure have the same qid.
    """

    calibration: tuple[Candidates, ...]
    measured: tuple[Candidates, ...]
    about: str

    def __post_init__(self) -> None:
        qids = [one.qid for one in self.measured]
        if len(set(qids)) != len(qids):
            raise InputError(f"{len(qids) - len(set(qids))} of the {len(qids)} lists that measure repeat a qid")

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that depend on every text and judgment."""
        digest = hashlib.sha256()
        for one in (*self.calibration, None, *self.measured):
            digest.update(repr(one and (one.query, one.docnos, one.texts, sorted(one.grades.items()))).encode())
        return digest.hexdigest()[:12]


def few(one: Candidates, most: int = 8) -> Candidates:
    """The list with at most `most` passages: half of them with the highest grades, the others the first."""
    order = sorted(range(len(one.docnos)), key=lambda at: (-one.relevance()[at], at))
    kept = order[: most // 2]
    kept += [at for at in range(len(one.docnos)) if at not in kept][: most - len(kept)]
    kept.sort()
    return replace(one, docnos=tuple(one.docnos[at] for at in kept), texts=tuple(one.texts[at] for at in kept))


def read_candidates(
    queries: Path, run: Path, corpus: str | Path, qrels: Path | None = None, *, depth: int = 50
) -> tuple[Candidates, ...]:
    """The lists of a run with the texts of their first `depth` passages; queries without judgments are left out.

    Raises:
        InputError: a file is not what it should be, or nothing is left.
        DataNotFoundError: a file is not there.
    """
    rankings = read_run(run)
    judgments = read_qrels(qrels).judgments if qrels is not None else None
    wanted = Run({qid: one for qid, one in rankings.items() if judgments is None or qid in judgments})
    chosen = of_run(wanted, read_queries(queries))
    passages = texts_of_corpus(wanted, corpus, depth)
    lists = []
    for query, ranking in chosen:
        docnos = [docno for docno in ranking.docnos[:depth] if docno in passages]
        if len(docnos) > 1:
            texts = tuple(passages[docno].contents for docno in docnos)
            lists.append(Candidates(query.qid, query.text, tuple(docnos), texts, (judgments or {}).get(query.qid, {})))
    if not lists:
        raise InputError(
            f"no query of {queries} has two passages of {corpus} in {run}"
            + (f" and judgments in {qrels}" if qrels else "")
            + "; are they of the same collection?"
        )
    return tuple(sorted(lists, key=lambda one: hashlib.sha256(one.qid.encode()).hexdigest()))


@checked_call(depth=1)
def read_task(
    queries: str | Path | None,
    run: str | Path | None,
    corpus: str | Path | None,
    qrels: str | Path | None = None,
    *,
    depth: int = 50,
) -> Task:
    """What calibrates and measures, from files.

    With judgments half of the queries calibrate and half measure. Without judgments all calibrate. With a corpus alone,
    sampled passages calibrate (`sampled`).

    Args:
        queries: a TSV of queries.
        run: a TREC run with their candidates.
        corpus: the passages, as any command reads them.
        qrels: TREC judgments.
        depth: first passages of each ranking.

    Raises:
        InputError: files are missing, or not what they should be.
        DataNotFoundError: a file is not there.
    """
    if corpus is None:
        raise InputError("data to calibrate on need a corpus: with queries and a run, or alone")
    if queries is None and run is None and qrels is None:
        lists = sampled(corpus)
        return Task(
            lists, (), f"{len(lists)} lists of passages sampled from {_name(corpus)} calibrate; nothing is judged"
        )
    if queries is None or run is None:
        raise InputError("queries need a run with their candidates, and a run its queries; give both, or neither")
    lists = read_candidates(Path(queries), Path(run), corpus, None if qrels is None else Path(qrels), depth=depth)
    named = f"{_name(queries)} with the first {depth} passages of {_name(run)}"
    if qrels is None:
        return Task(lists, (), f"{len(lists)} queries of {named} calibrate; nothing is judged")
    calibration, measured = split(lists)
    about = (
        f"{len(calibration)} queries of {named} calibrate, {len(measured)} others are measured against {_name(qrels)}"
    )
    return Task(calibration, measured, about)


def _name(source: str | Path) -> str:
    return Path(source).name


def split(lists: Sequence[Candidates], share: float = 0.5) -> tuple[tuple[Candidates, ...], tuple[Candidates, ...]]:
    """Lists that calibrate (a `share`, by a hash of the query's number), and lists that measure.

    Raises:
        InputError: one of the two would have fewer than two.
    """
    ordered = sorted(lists, key=lambda one: hashlib.sha256(f"calibration:{one.qid}".encode()).hexdigest())
    count = round(share * len(ordered))
    if min(count, len(ordered) - count) < 2:
        raise InputError(
            f"{len(ordered)} queries cannot be split into some that calibrate and some that measure, at least two each"
        )
    return tuple(ordered[:count]), tuple(ordered[count:])


def sampled(corpus: str | Path, *, lists: int = 32, depth: int = 8, scanned: int = 20_000) -> tuple[Candidates, ...]:
    """Lists made of a corpus: the first words of a passage ask, its rest and other passages answer.

    Args:
        corpus: the corpus.
        lists: how many.
        depth: passages of a list.
        scanned: passages read to sample from.

    Raises:
        InputError: too few passages have enough words.
    """
    from thresher.corpus import open_corpus

    texts: list[tuple[str, str]] = []
    for passage in open_corpus(corpus):
        if len(passage.contents.split()) >= 3 * _ASKING:
            texts.append((passage.docno, passage.contents))
        if len(texts) >= scanned:
            break
    texts.sort(key=lambda row: hashlib.sha256(row[0].encode()).hexdigest())
    if len(texts) < depth * 2:
        raise InputError(
            f"{corpus} has {len(texts)} passages of at least {3 * _ASKING} words; {depth * 2} are needed to calibrate"
        )
    made = []
    for number in range(min(lists, len(texts) // depth)):
        rows = texts[number * depth : (number + 1) * depth]
        words = rows[0][1].split()
        answers = (" ".join(words[_ASKING:]), *(text for _, text in rows[1:]))
        docnos = tuple(docno for docno, _ in rows)
        made.append(Candidates(docnos[0], " ".join(words[:_ASKING]), docnos, answers, {docnos[0]: 1}))
    return tuple(made)


def evaluated(lists: Sequence[Candidates], scores: Sequence[NDArray[np.float32]], measures: str) -> Evaluation:
    """The measures of lists ranked by these scores, one array a list; the ideal is of all judged passages.

    Raises:
        InputError: nothing is judged.
    """
    run = {one.qid: dict(zip(one.docnos, map(float, row), strict=True)) for one, row in zip(lists, scores, strict=True)}
    return evaluate(run, {one.qid: one.grades for one in lists}, measures)


def ndcg(lists: Sequence[Candidates], scores: Sequence[NDArray[np.float32]]) -> float:
    """Mean nDCG@10."""
    return evaluated(lists, scores, "nDCG@10").mean["nDCG@10"]


def groups_of(lists: Sequence[Candidates]) -> dict[str, list[str]]:
    """The qids of each group of queries, `all` among them; a query can be in several.

    short: at most 4 words; long: at least 8; rare terms: a word of the query is in at most 1 % of the candidate
    passages of all queries; negation: it has a word such as not or without.
    """
    frequency: dict[str, int] = {}
    seen: set[str] = set()
    for one in lists:
        for text in one.texts:
            if text not in seen:
                seen.add(text)
                for word in set(_WORD.findall(text.lower())):
                    frequency[word] = frequency.get(word, 0) + 1
    found: dict[str, list[str]] = {name: [] for name in GROUPS}
    for one in lists:
        words = _WORD.findall(one.query.lower())
        belongs = {
            "all": True,
            "short": len(words) <= SHORT,
            "long": len(words) >= LONG,
            "rare terms": any(frequency.get(word, 0) <= RARE * len(seen) for word in words),
            "negation": not NEGATIONS.isdisjoint(words),
        }
        for name, true in belongs.items():
            if true:
                found[name].append(one.qid)
    return found
