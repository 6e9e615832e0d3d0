"""Known-item search: queries made from a corpus that has none.

The first sentence of a docstring says what the thing does. Taken out of its passage and asked as a query, it must
find the passage again by what remains (the rest of the text, and the title). A sentence that is the first of several
passages would have several answers and is not asked. (Known-item topics made from documents: Azzopardi, de Rijke and
Balog, SIGIR 2007; here the query is a whole sentence of the author's, not a sample of terms.)
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.errors import InputError
from thresher.records import Passage, Qrels, Query
from thresher.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Iterable

MIN_SENTENCE, MAX_SENTENCE = 5, 40
MIN_REST = 20
"""Words that a query has, and that its passage must keep."""
_HEAD = 600  # characters in which a first sentence must end


@dataclass(frozen=True, slots=True)
class KnownItems:
    """A test collection for known-item search.

    Attributes:
        passages: all passages in their order, those asked for without their first sentence.
        queries: the sentences.
        qrels: for each query the one passage it came from, with grade 1.
    """

    passages: tuple[Passage, ...]
    queries: tuple[Query, ...]
    qrels: Qrels


def known_items(passages: Iterable[Passage], *, sample: int = 500, seed: int = 0) -> KnownItems:
    """Draw passages and ask for each by its own first sentence.

    Args:
        passages: the corpus; held in memory.
        sample: how many to ask for; fewer where fewer are fit for it.
        seed: of the draw; the same corpus and seed give the same queries.

    Raises:
        InputError: no passage is fit.
    """
    corpus = tuple(passages)
    firsts = {number: found for number, passage in enumerate(corpus) if (found := _first_sentence(passage))}
    uses = Counter(_key(sentence) for sentence, _ in firsts.values())
    fit = [
        number
        for number, (sentence, rest) in firsts.items()
        if MIN_SENTENCE <= len(sentence.split()) <= MAX_SENTENCE
        and len(rest.split()) >= MIN_REST
        and uses[_key(sentence)] == 1
    ]
    if not fit:
        raise InputError("no passage begins with a sentence that could be asked; known-item search needs running text")
    drawn = sorted(random.Random(seed).sample(fit, min(sample, len(fit))))  # noqa: S311  (a sample, not a secret)
    chosen = {number: f"k{at}" for at, number in enumerate(drawn, 1)}
    return KnownItems(
        tuple(_without_first(passage, firsts[n][1]) if n in chosen else passage for n, passage in enumerate(corpus)),
        tuple(Query(qid, " ".join(firsts[number][0].split())) for number, qid in chosen.items()),
        Qrels({qid: {corpus[number].docno: 1} for number, qid in chosen.items()}),
    )


def _first_sentence(passage: Passage) -> tuple[str, str] | None:
    """The first sentence of a text's first passage, and what remains."""
    if passage.docno.startswith("topics.") or "#" in passage.docno:
        return None
    head = passage.text[:_HEAD].partition("\n\n")[0]
    spans = split_sentences(head)
    if not spans or spans[0].end == _HEAD:
        return None
    return head[spans[0].start : spans[0].end], passage.text[spans[0].end :].lstrip()


def _without_first(passage: Passage, rest: str) -> Passage:
    return Passage(passage.docno, rest, passage.title, passage.metadata)


def _key(sentence: str) -> str:
    return " ".join(sentence.lower().split())
