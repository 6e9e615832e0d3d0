"""Queries whose answering sentences are known: file readers, and the split into parts.

A reader gives a query, one passage with its sentences, a label for each, and where the answers are. The parts (`train`,
`calibrate`, `test`) are drawn by the hash of a *family*, so that a paragraph, an article or a query is in one part
only, whatever order the files are read in.

Formats: JSON lines, and the layout of SQuAD 2.0.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.errors import InputError
from thresher.files import read_content, read_lines
from thresher.records import Span
from thresher.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

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
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
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
    """
    articles = json.loads(read_content(path))["data"]
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
