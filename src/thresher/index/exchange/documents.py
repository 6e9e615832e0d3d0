"""The documents of an index in order, with their weighted terms: what every format is written from.

    with open_collection("my-index") as collection:
        documents = Documents.of(collection)
        for document in documents:
            print(document.docno, document.terms, document.text)

Live passages come segment by segment, in the order that the index has them inside (after bisection, similar ones stand
together, which other engines profit from too). Nothing is held but one chunk: rows are made from the posting lists of
a range of documents, as a merge does it, and texts are read when a format asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher.errors import InputError
from thresher.index.collection import joint_vocabulary
from thresher.index.exchange.facts import Facts, vocabulary_hash
from thresher.index.filters import Where
from thresher.index.uninvert import NONE, Rows, rows_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Literal

    from numpy.typing import NDArray

    from thresher.encode.terms import LinearScale
    from thresher.index.arrays import Array
    from thresher.index.collection import Collection, Part
    from thresher.index.filters import Filter
    from thresher.records import Passage

    Vectors = Callable[[NDArray[np.int64]], NDArray[np.float32]]
    """Dense vectors, float32[n, dimensions], of the passages with these numbers in the collection, int64[n]; NaN where
    a passage has none."""

POSTINGS = 2**25
"""Postings of a part that are turned into rows at a time, about 300 MB."""
CHUNK = 4096
"""Documents of a batch."""


@dataclass(frozen=True, slots=True)
class Document:
    """One passage with its weighted terms.

    Attributes:
        docno: its identifier.
        terms: impact by term, in ascending order of term ids; a weight is impact x `Facts.scale`.
        title: its title, empty where it has none.
        text: its text.
        metadata: its other fields.
        vector: float32[dimensions], its dense vector; None where none is asked for.
    """

    docno: str
    terms: Mapping[str, int]
    title: str = ""
    text: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)
    vector: NDArray[np.float32] | None = None


class Batch(NamedTuple):
    """Consecutive documents.

    Attributes:
        part: the tier of a segment that holds them.
        own: int64[n], their numbers within it.
        rows: their terms by id, ascending in a row, and impacts.
    """

    part: Part
    own: NDArray[np.int64]
    rows: Rows

    def __len__(self) -> int:
        return len(self.own)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """int64[n]: their numbers in the collection."""
        return self.own + self.part.start

    @property
    def docnos(self) -> list[str]:
        """Their docnos."""
        docno = self.part.layout.docnos
        return [docno[number] for number in self.own.tolist()]

    @property
    def passages(self) -> list[Passage]:
        """Their docnos, titles, texts and metadata, read now."""
        return [self.part.layout.passage(number) for number in self.own.tolist()]

    @property
    def tokens(self) -> NDArray[np.uint32] | None:
        """uint32[n]: for BM25, their terms with repetitions; None for learned weights."""
        tokens = self.part.layout.tokens
        return None if tokens is None else tokens[self.own]


@dataclass(frozen=True, eq=False)
class Documents:
    """Documents of an index, in order; can be iterated again and again. `Documents.of` takes them from a collection.

    Attributes:
        parts: the tiers of the segments they come from, each with bool[passages] by internal id: which are among them.
        facts: what holds of all of them.
        words: the terms by id.
        renumbered: for each part, uint32[terms]: the ids in `words` of its own terms; None where they are the same.
        vectors: gives dense vectors by number; None where there are none.
    """

    parts: tuple[tuple[Part, NDArray[np.bool_]], ...]
    facts: Facts
    words: Sequence[str]
    renumbered: tuple[NDArray[np.uint32] | None, ...]
    vectors: Vectors | None = None

    @classmethod
    def of(
        cls,
        collection: Collection,
        *,
        tiers: Literal["first", "both"] = "both",
        where: Filter | None = None,
        vectors: Vectors | None = None,
    ) -> Documents:
        """The live passages of an open index.

        Args:
            collection: the index at one commit.
            tiers: `both`, or only the `first`.
            where: only those whose metadata match this filter.
            vectors: gives their dense vectors.

        Raises:
            InputError: the filter names an unknown field, nothing is left, or both tiers are asked for and have no
                common terms or scale.
        """
        wanted = None if where is None else Where.parse(where)
        if wanted is not None:
            wanted.check(collection.schema)
        parts = [
            (part, _live(part, wanted))
            for part in collection.parts
            if part.size and (part.tier == 1 or tiers == "both")
        ]
        parts = [(part, live) for part, live in parts if live.any()]
        if not parts:
            which = "" if wanted is None else f" that match {wanted}"
            raise InputError(f"the index has no passages{which} to export", str(collection.path))
        first = _same(parts, str(collection.path))
        words, renumbered = joint_vocabulary([part for part, _ in parts])
        encoder = _encoder_of(first)
        facts = Facts(
            documents=sum(int(np.count_nonzero(live)) for _, live in parts),
            terms=len(words),
            scale=first.layout.counts.scale,
            bits=8 if first.layout.counts.bits == 8 else 16,
            vocabulary=vocabulary_hash(words),
            idf=first.layout.counts.idf,
            encoder=encoder.get("name", ""),
            fingerprint=encoder.get("fingerprint", ""),
            order="index" if any(part.layout.sources is not None for part, _ in parts) else "source",
        )
        return cls(tuple(parts), facts, words, tuple(renumbered), vectors)

    def __len__(self) -> int:
        return self.facts.documents

    @property
    def impacts(self) -> LinearScale:
        """The scale of the impacts."""
        return self.facts.impacts

    @cached_property
    def encoder(self) -> Part:
        """A part that names the query encoder of all of them (`Layout.encoder` is its folder, None for none)."""
        return self.parts[0][0]

    def batches(self, size: int = CHUNK) -> Iterator[Batch]:
        """The documents with their rows, at most `size` at a time."""
        for (part, wanted), terms in zip(self.parts, self.renumbered, strict=True):
            n = part.layout.counts
            ranges = max(-(-n.postings // POSTINGS), 1)
            bounds = np.linspace(0, n.passages, ranges + 1).astype(np.int64).tolist()
            for first, after in pairwise(bounds):
                docs = np.flatnonzero(wanted[first:after]) + first
                if not len(docs):
                    continue
                places = np.full(n.passages, NONE, np.uint32)
                places[docs] = np.arange(len(docs), dtype=np.uint32)
                rows = rows_at(part.layout, places, len(docs))
                own = part.layout.numbers_of(docs)
                for at in range(0, len(docs), size):
                    yield Batch(part, own[at : at + size], _slice(rows, at, min(at + size, len(docs)), terms))

    def __iter__(self) -> Iterator[Document]:
        """The documents one by one, with their texts."""
        words = self.words
        for batch in self.batches():
            vectors = None if self.vectors is None else self.vectors(batch.numbers)
            bounds, terms, impacts = batch.rows.indptr.tolist(), batch.rows.terms.tolist(), batch.rows.impacts.tolist()
            for i, passage in enumerate(batch.passages):
                low, high = bounds[i], bounds[i + 1]
                own = dict(zip([words[term] for term in terms[low:high]], impacts[low:high], strict=True))
                vector = None if vectors is None or np.isnan(vectors[i]).any() else vectors[i]
                yield Document(passage.docno, own, passage.title, passage.text, passage.metadata, vector)

    def docnos(self) -> Iterator[str]:
        """The docnos, in order."""
        for part, wanted in self.parts:
            docno = part.layout.docnos
            for number in part.layout.numbers_of(np.flatnonzero(wanted)).tolist():
                yield docno[number]

    def shards(self, size: int) -> Iterator[Documents]:
        """The documents in runs of `size`, in order; the last may be shorter."""
        for start in range(0, len(self), size):
            stop, done = min(start + size, len(self)), 0
            kept, numbers = [], []
            for (part, wanted), terms in zip(self.parts, self.renumbered, strict=True):
                docs = np.flatnonzero(wanted)
                docs, done = docs[max(start - done, 0) : max(stop - done, 0)], done + len(docs)
                if len(docs):
                    mask = np.zeros(len(wanted), bool)
                    mask[docs] = True
                    kept.append((part, mask))
                    numbers.append(terms)
            facts = replace(self.facts, documents=stop - start)
            yield Documents(tuple(kept), facts, self.words, tuple(numbers), self.vectors)


def _live(part: Part, where: Where | None) -> NDArray[np.bool_]:
    """bool[passages] by internal id: the live passages of a part that match."""
    live = np.ones(part.size, bool) if part.deleted is None else ~part.deleted
    if where is not None:
        live = live & part.columns.mask(where)
    return live[part.layout.numbers_of(np.arange(part.size))]


def _encoder_of(part: Part) -> dict[str, str]:
    """Name and fingerprint of the encoder that a part was made with."""
    said = part.layout.manifest.fields.get("encoder")
    return {key: value for key, value in said.items() if isinstance(value, str)} if isinstance(said, dict) else {}


def _same(parts: Sequence[tuple[Part, Array]], source: str) -> Part:
    """The first part, once all have one encoder and one scale.

    Raises:
        InputError: they do not.
    """
    first = parts[0][0]
    for part, _ in parts[1:]:
        one, other = part.layout.counts, first.layout.counts
        if _encoder_of(part).get("fingerprint") != _encoder_of(first).get("fingerprint"):
            names = [_encoder_of(each).get("name", "?") for each in (first, part)]
            problem = f"the tiers were encoded by {names[0]} and {names[1]}, whose terms differ"
        elif (one.scale, one.bits, one.idf) != (other.scale, other.bits, other.idf):
            problem = f"impacts have the scales {other.scale:g} ({other.bits} bits) and {one.scale:g} ({one.bits} bits)"
        else:
            continue
        raise InputError(f"{problem}; export the first tier alone (--tiers first)", source)
    return first


def _slice(rows: Rows, first: int, after: int, terms: NDArray[np.uint32] | None) -> Rows:
    """Rows first ... after - 1, with terms renumbered."""
    low, high = int(rows.indptr[first]), int(rows.indptr[after])
    ids = rows.terms[low:high]
    return Rows(rows.indptr[first : after + 1] - low, ids if terms is None else terms[ids], rows.impacts[low:high])
