"""Queries whose answering sentences are known, and thresholds that keep the answer as often as wanted on them.

A reader gives a query, one passage with its sentences, a label for each, and where the answers are. The parts (`train`,
`calibrate`, `test`) are drawn by the hash of a *family*, so that a paragraph, an article or a query is in one part
only, whatever order the files are read in. Formats: JSON lines, and the layout of SQuAD 2.0.

For a query with a known answer, the answer is kept as long as every sentence it touches is kept, so each query
has one number: the highest threshold at which (at least one of) its answers is whole. The share of queries whose
number is at least T is the share of answers kept at T; it falls as T rises, and so the threshold for a goal is an
order statistic. The Wilson interval of the share bounds its error on other queries.

`calibrate_confidence` does the same for the confidence below which nothing is handed over: the number of a query is the
score of its passage's best sentence, and queries without an answer show how many are withheld.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thresher.context.structure import find_ties
from thresher.errors import InputError, ThresherError
from thresher.files import read_content, read_json_lines
from thresher.records import Span
from thresher.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from thresher.context.scorers import PassageScores

PARTS = {"test": 0.25, "calibrate": 0.4}
"""Upper ends of the hash ranges; the rest is for training."""


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query, a passage, and which of its sentences answer it.

    Attributes:
        collection: `qed`, `squad2-half`, `covid-qa`, `wikiqa`, `trecqa`, or the user's own name.
        query: the query.
        passage: the text.
        sentences: spans of the text, ascending and disjoint.
        labels: 1 where a sentence holds an answer; all 0 where the passage has none.
        answers: where the answers stand, each one enough; empty where there is none.
        family: paragraphs, articles or queries that must not be parted.
        part: `train`, `calibrate` or `test`.
    """

    collection: str
    query: str
    passage: str
    sentences: tuple[Span, ...]
    labels: tuple[int, ...]
    answers: tuple[Span, ...]
    family: str
    part: str


def read_labelled(path: Path) -> list[LabelledQuery]:
    """The queries of a file: in the layout of SQuAD 2.0 (`.json`, `.json.gz`), or JSON lines.

    Raises:
        InputError: as `read_own` and `read_squad`.
    """
    if path.suffix == ".json" or path.name.endswith(".json.gz"):
        return list(read_squad(path, collection=path.name))
    return list(read_own(path))


def part_of(family: str) -> str:
    """The part a family belongs to: a quarter is `test`, 15 % are `calibrate`, the rest is `train`."""
    value = int.from_bytes(hashlib.sha256(family.encode()).digest()[:8], "big") / 2**64
    return next((part for part, end in PARTS.items() if value < end), "train")


def overlapping(sentences: Sequence[Span], answers: Iterable[Span]) -> tuple[int, ...]:
    """1 for every sentence that an answer overlaps, else 0."""
    spans = list(answers)
    return tuple(int(any(a.start < s.end and s.start < a.end for a in spans)) for s in sentences)


def read_own(path: Path) -> Iterator[LabelledQuery]:
    """The user's own queries: lines `{"query", "passage", "answers": [[start, end], ...]}`.

    Answers are half-open ranges of code points of the passage. Without any, nothing in the passage helps. `family`
    (optional) names what must stay in one part, for instance a document; by default the passage itself.

    Raises:
        InputError: a line is not such a record; names file and line.
        DataNotFoundError: there is no such file.
    """
    for number, row in read_json_lines(path):
        try:
            query, text = row["query"], row["passage"]
            answers = tuple(Span(int(a), int(b)) for a, b in row.get("answers", ()))
            if not isinstance(query, str) or not isinstance(text, str):
                raise TypeError("query and passage must be strings")
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise InputError(
                f'expected {{"query", "passage", "answers": [[start, end], ...]}} ({type(err).__name__}: {err})',
                str(path), number,
            ) from err  # fmt: skip
        if any(a.end > len(text) or a.start == a.end for a in answers):
            raise InputError(
                f"an answer is empty or ends after the passage's {len(text)} code points", str(path), number
            )
        sentences = tuple(split_sentences(text))
        family = str(row.get("family", text))
        labels = overlapping(sentences, answers)
        yield LabelledQuery("own", query, text, sentences, labels, answers, family, part_of(family))


def read_squad(
    path: Path, *, collection: str = "squad2-half", parts: Mapping[str, str] | None = None
) -> Iterator[LabelledQuery]:
    """SQuAD 2.0 paragraphs; a query without an answer labels nothing.

    Args:
        path: the JSON file, compressed or not.
        collection: what to call it.
        parts: article title to part; by default articles are ranked by hash, the first quarter is for testing and the
            next eighth for calibration, because a hash range could leave a small set of articles without one.

    Raises:
        InputError: the file is not in this format.
        DataNotFoundError: there is no such file.
    """
    content = read_content(path)
    try:
        yield from _squad(json.loads(content)["data"], collection, parts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        if isinstance(err, ThresherError):
            raise
        raise InputError(f"not in the format of SQuAD 2.0 ({type(err).__name__}: {err})", str(path)) from err


def _squad(articles: list[dict[str, Any]], collection: str, parts: Mapping[str, str] | None) -> Iterator[LabelledQuery]:
    if parts is None:
        ranked = sorted((a["title"] for a in articles), key=lambda t: hashlib.sha256(t.encode()).hexdigest())
        n = len(ranked)
        parts = {t: "test" if i < n / 4 else "calibrate" if i < 3 * n / 8 else "train" for i, t in enumerate(ranked)}
    for article in articles:
        family = f"{collection}:{article['title']}"
        for paragraph in article["paragraphs"]:
            text = paragraph["context"]
            sentences = tuple(split_sentences(text))
            for row in paragraph["qas"]:
                found = {(a["answer_start"], a["answer_start"] + len(a["text"])) for a in row["answers"]}
                answers = tuple(Span(*pair) for pair in sorted(found))
                yield LabelledQuery(
                    collection, row["question"], text, sentences, overlapping(sentences, answers), answers, family,
                    parts[article["title"]],
                )  # fmt: skip


GOALS = {"conservative": 0.99, "balanced": 0.95, "strong": 0.90}
"""Preset to the share of answers that it keeps on the queries it is calibrated on."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold and what it did on the queries it was chosen on.

    Attributes:
        threshold: keep sentences that score at least this.
        goal: the share of answers to keep.
        answer_kept: the share that is kept at the threshold.
        low: lower end of the 95 % Wilson interval of that share.
        high: its upper end.
        queries: how many it rests on.
        pruned: share of the characters of these passages that is dropped.
    """

    threshold: float
    goal: float
    answer_kept: float
    low: float
    high: float
    queries: int
    pruned: float


def lost_above(sentences: Sequence[Span], scores: Sequence[float], answers: Sequence[Span]) -> float:
    """The highest threshold at which one of `answers` is whole; 0 where a part lies in no sentence at all."""
    best = 0.0
    for answer in answers:
        touched = [x for s, x in zip(sentences, scores, strict=True) if s.start < answer.end and answer.start < s.end]
        best = max(best, min(touched, default=0.0))
    return best


def calibrate(rows: Sequence[LabelledQuery], scores: Sequence[PassageScores], goal: float) -> Calibration:
    """The highest threshold that keeps at least `goal` of the answers, sentences being kept with what belongs to them.

    Args:
        rows: queries with their answers; those without an answer are ignored.
        scores: one for each row.
        goal: share of answers to keep, above 0 and at most 1.

    Raises:
        InputError: the goal is out of range, or no row has an answer.
    """
    if not 0 < goal <= 1:
        raise InputError(f"goal={goal}: give the share of answers to keep, above 0 and at most 1")
    pairs = [(row, one) for row, one in zip(rows, scores, strict=True) if row.answers]
    if not pairs:
        raise InputError("no query has an answer in its passage; give queries with answers to calibrate a threshold on")
    tied = [find_ties(row.passage, row.sentences).tied(one.sentences) for row, one in pairs]
    numbers = sorted(
        (lost_above(row.sentences, s, row.answers) for (row, _), s in zip(pairs, tied, strict=True)), reverse=True
    )
    wanted = math.ceil(goal * len(numbers) - 1e-9)
    threshold = _four_decimals(numbers[wanted - 1])
    kept = sum(number >= threshold for number in numbers)
    low, high = wilson(kept, len(numbers))
    before = after = 0
    for (row, _), scored in zip(pairs, tied, strict=True):
        lengths = [s.end - s.start for s in row.sentences]
        before += sum(lengths)
        after += sum(n for n, x in zip(lengths, scored, strict=True) if x >= threshold)
    return Calibration(threshold, goal, kept / len(numbers), low, high, len(numbers), 1 - after / max(before, 1))


@dataclass(frozen=True, slots=True)
class Confidence:
    """A value for `min_confidence` and what it did on the queries it was chosen on.

    Attributes:
        min_confidence: hand nothing over where no sentence scores at least this.
        answered: share of the queries with an answer for which something is handed over.
        withheld: share of the queries without one for which nothing is; None where all have one.
        queries: how many it rests on.
        unanswerable: how many of them have no answer.
    """

    min_confidence: float
    answered: float
    withheld: float | None
    queries: int
    unanswerable: int


def calibrate_confidence(rows: Sequence[LabelledQuery], scores: Sequence[PassageScores], goal: float) -> Confidence:
    """The highest `min_confidence` at which at least `goal` of the queries with an answer get something.

    A query counts with its one passage here; in a pipeline it counts with the best of k passages, so a little less is
    withheld.

    Args:
        rows: queries, with and without answers.
        scores: one for each row.
        goal: share of queries with an answer, above 0 and at most 1.

    Raises:
        InputError: the goal is out of range, or no row has an answer.
    """
    if not 0 < goal <= 1:
        raise InputError(f"goal={goal}: give the share of queries to answer, above 0 and at most 1")
    best = [(bool(row.answers), max(one.sentences, default=0.0)) for row, one in zip(rows, scores, strict=True)]
    with_answer = sorted((score for answered, score in best if answered), reverse=True)
    without = [score for answered, score in best if not answered]
    if not with_answer:
        raise InputError("no query has an answer in its passage; give queries with answers to calibrate on")
    wanted = math.ceil(goal * len(with_answer) - 1e-9)
    least = _four_decimals(with_answer[wanted - 1])
    return Confidence(
        least,
        sum(score >= least for score in with_answer) / len(with_answer),
        sum(score < least for score in without) / len(without) if without else None,
        len(best),
        len(without),
    )


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    if not trials:
        return 0.0, 1.0
    share, spread = successes / trials, z * z / trials
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / trials + spread / trials / 4) / (1 + spread)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def _four_decimals(number: float) -> float:
    """The largest number of four decimals that is not above `number`."""
    nearest = round(number, 4)
    return nearest if nearest <= number else math.floor(number * 1e4) / 1e4
