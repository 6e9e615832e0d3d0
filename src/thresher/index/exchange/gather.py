"""Posting lists of documents, term by term: what formats that hold lists rather than documents are written from."""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher._lazy import njit
from thresher.index.layout import VALID
from thresher.index.lists import read_list, validate
from thresher.index.uninvert import FAULTS, NONE, refuse, stored_lists

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from thresher.index.exchange.documents import Documents

POSTINGS = 2**22
"""Postings of the lists that are gathered at a time, but for a longer list."""


class TermLists(NamedTuple):
    """The lists of some terms.

    Attributes:
        words: their strings.
        ends: int64[terms]: where the postings of each end.
        docs: uint32[n]: numbers of documents in the order of the documents, ascending in a list.
        impacts: uint16[n].
    """

    words: list[str]
    ends: NDArray[np.int64]
    docs: NDArray[np.uint32]
    impacts: NDArray[np.uint16]


def term_lists(documents: Documents) -> Iterator[TermLists]:
    """The posting lists of documents, terms in bytewise order; terms without postings among them.

    Memory: some 50 bytes a document of the largest segment, and ten a posting of the longest list.

    Raises:
        DamagedArtifactError: a list is damaged.
    """
    words = documents.words
    order = sorted(range(len(words)), key=lambda term: words[term].encode("utf-8", "surrogatepass"))
    parts, base = [], 0
    lengths = np.zeros(len(words), np.int64)
    for (part, wanted), terms in zip(documents.parts, documents.renumbered, strict=True):
        layout, own = part.layout, np.full(len(words), -1, np.int64)
        own[np.arange(len(words)) if terms is None else terms] = np.arange(layout.counts.terms)
        count = int(np.count_nonzero(wanted))
        places = np.full(len(wanted), NONE, np.uint32)
        places[wanted] = np.arange(base, base + count, dtype=np.uint32)
        lengths[own >= 0] += layout.postings_of(own[own >= 0])
        parts.append((layout, stored_lists(layout), own, places))
        base += count
    first = 0
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[order])])
    while first < len(order):
        after = max(int(np.searchsorted(sums, sums[first] + POSTINGS, side="right")) - 1, first + 1)
        chosen = np.array(order[first:after], np.int64)
        room = int(sums[after] - sums[first])
        found = []
        for layout, index, own, places in parts:
            docs, impacts = np.empty(room, np.uint32), np.empty(room, np.uint16)
            ends = np.zeros(len(chosen), np.int64)
            refuse(layout, _gather(own[chosen], index, places, docs, impacts, ends))
            used = int(ends[-1]) if len(ends) else 0
            found.append((ends, docs[:used], impacts[:used]))
        yield TermLists([words[term] for term in chosen.tolist()], *_joined(found))
        first = after


def _joined(
    found: list[tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint16]]],
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint16]]:
    """The lists of all parts, each term's one after the other."""
    if len(found) == 1:
        return found[0]
    counts = [np.diff(ends, prepend=0) for ends, _, _ in found]
    ends = np.cumsum(np.sum(counts, axis=0, dtype=np.int64))
    docs, impacts = np.empty(int(ends[-1]), np.uint32), np.empty(int(ends[-1]), np.uint16)
    place = ends - np.sum(counts, axis=0)
    for own, (own_ends, own_docs, own_impacts) in zip(counts, found, strict=True):
        at = np.repeat(place - (own_ends - own), own) + np.arange(len(own_docs))
        docs[at], impacts[at] = own_docs, own_impacts
        place = place + own
    return ends, docs, impacts


@njit(cache=True, nogil=True)
def _gather(terms, index, places, docs, impacts, ends):
    """The lists of some terms, of documents that have a place; returns a status as in `thresher.index.uninvert`.

    terms     int64[n], -1 for terms that the part lacks
    index     `Stored`
    places    uint32[passages]   number of each document, `NONE` where it is not wanted
    docs, impacts   out
    ends      int64[n]           out: where each list ends
    """
    all_docs, all_impacts = np.empty(index.passages, np.uint32), np.empty(index.passages, index.impacts.dtype)
    count = 0
    for i in range(terms.shape[0]):
        if terms[i] >= 0:
            fault = validate(terms[i], index)
            if fault != VALID:
                return terms[i] * FAULTS + fault
            for p in range(read_list(terms[i], index, all_docs, all_impacts)):
                place = places[all_docs[p]]
                if place != NONE:
                    docs[count], impacts[count] = place, all_impacts[p]
                    count += 1
        ends[i] = count
    return np.int64(-1)
