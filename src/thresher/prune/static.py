"""Static pruning of postings: fewer terms in a passage's vector, or fewer passages in a term's list.

Inside a passage's vector, as the engines offer it:

- `absolute`      postings of at least this weight
- `share`         postings of at least this share of the passage's largest weight
- `top`           the passage's heaviest postings, this many
- `mass`          the heaviest postings that together make up this share of the passage's weight

Over the whole collection, to a target fraction of postings:

- `document`      document-centric: of every passage the same share of its postings, its heaviest
- `term`          term-centric (Carmel et al., SIGIR 2001): of every list the same share, its heaviest; with `depth` the
                  cut is relative to the list's weight at that depth, which spares short lists
- `global`        one weight threshold for all postings

At the edges, equal weights in a vector are ordered by term id and in a list by passage, so a result never depends on
how a batch was cut. Every passage keeps its heaviest posting and, in term-centric pruning, every list its own, so
nothing becomes unfindable by this alone. Compose with passage pruning by pruning passages first: the two spend one
budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.errors import ConfigError
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from numpy.typing import NDArray


@checked_call
@dataclass(frozen=True, slots=True)
class VectorPruning:
    """Rules for a passage's vector; those that are set all apply. Each passage keeps its heaviest posting.

    Attributes:
        absolute: least weight, in the encoder's unit.
        share: least share of the passage's largest weight, in [0, 1].
        top: at most this many postings; 0 sets no limit.
        mass: share of the passage's summed weight to keep, in (0, 1].
    """

    absolute: float = 0.0
    share: float = 0.0
    top: int = 0
    mass: float = 1.0

    def __post_init__(self) -> None:
        if not self.absolute >= 0 or not 0 <= self.share <= 1 or self.top < 0 or not 0 < self.mass <= 1:
            raise ConfigError(
                f"{self}: absolute must be at least 0, share in [0, 1], top at least 0, and mass in (0, 1]"
            )


@checked_call
def prune_vectors(batch: SparseBatch, rules: VectorPruning) -> SparseBatch:
    """`batch` with the postings that every rule keeps."""
    rows = np.repeat(np.arange(len(batch)), np.diff(batch.indptr))
    rank, before = _rank_in_rows(batch, rows)
    weights = batch.weights.astype(np.float64)
    largest = np.zeros(len(batch))
    np.maximum.at(largest, rows, weights)
    keep = (weights >= rules.absolute) & (weights >= rules.share * largest[rows])
    if rules.top:
        keep &= rank < rules.top
    if rules.mass < 1:
        total = np.bincount(rows, weights, len(batch))
        keep &= before < rules.mass * total[rows] * (1 - 1e-12)
    return _select(batch, keep | (rank == 0), rows)


@checked_call
def prune_lists(batch: SparseBatch, keep: float, *, by: str = "global", depth: int = 0) -> SparseBatch:
    """`batch` with about the fraction `keep` of its postings; see above for `by` (`document`, `term`, `global`).

    Args:
        batch: the vectors of all passages.
        keep: fraction of postings, in (0, 1].
        by: how the fraction is spread.
        depth: for `term`: weights of a list are divided by its weight at this depth (its largest where it is shorter)
            before one threshold cuts all lists; 0 cuts each list to the same share.

    Raises:
        ConfigError: `keep`, `by` or `depth` is not one of those.
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"keep is {keep}, expected a fraction of the postings above 0 and up to 1")
    if depth < 0:
        raise ConfigError(f"depth is {depth}, expected a number that is not negative")
    rows = np.repeat(np.arange(len(batch)), np.diff(batch.indptr))
    rank, _ = _rank_in_rows(batch, rows)
    if by == "document":
        lengths = np.diff(batch.indptr)
        return _select(batch, (rank < np.ceil(keep * lengths)[rows]) | (rank == 0), rows)
    if by == "global":
        return _select(batch, _heaviest(batch.weights.astype(np.float64), keep) | (rank == 0), rows)
    if by != "term":
        raise ConfigError(f"postings can be pruned by document, term or global, not by {by!r}")
    list_rank, lengths, order = _rank_in_lists(batch)
    first = list_rank == 0
    if depth == 0:
        wanted = list_rank < np.ceil(keep * lengths)
    else:
        wanted = _heaviest(batch.weights / _weight_at(batch, order, list_rank, lengths, depth), keep)
    return _select(batch, wanted | first | (rank == 0), rows)


def select_passages(batch: SparseBatch, keep: NDArray[np.bool_]) -> SparseBatch:
    """`batch` with empty vectors for the passages that `keep` (bool[n]) does not keep; positions stay."""
    rows = np.repeat(np.arange(len(batch)), np.diff(batch.indptr))
    return _select(batch, np.asarray(keep, bool)[rows], rows)


def _select(batch: SparseBatch, keep: NDArray[np.bool_], rows: NDArray[np.int64]) -> SparseBatch:
    indptr = np.zeros(len(batch) + 1, np.int64)
    np.cumsum(np.bincount(rows[keep], minlength=len(batch)), out=indptr[1:])
    return SparseBatch(indptr, batch.terms[keep], batch.weights[keep])


def _rank_in_rows(batch: SparseBatch, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each posting's rank by weight in its passage, and the weight of those before it."""
    order = np.lexsort((batch.terms, -batch.weights.astype(np.float64), rows))
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows)) - batch.indptr[rows[order]]
    sorted_weights = batch.weights[order].astype(np.float64)
    running = np.concatenate([[0.0], np.cumsum(sorted_weights)])
    before = np.empty(len(rows))
    before[order] = running[:-1] - running[batch.indptr[rows[order]]]
    return rank, before


def _rank_in_lists(batch: SparseBatch) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Each posting's rank by weight in its term's list, the list's length, and the order (by term, then weight)."""
    order = np.lexsort((np.arange(len(batch.terms)), -batch.weights.astype(np.float64), batch.terms))
    terms = batch.terms[order]
    starts = np.flatnonzero(np.append(True, terms[1:] != terms[:-1])) if len(terms) else np.zeros(0, np.int64)
    lengths = np.diff(np.append(starts, len(terms)))
    rank = np.empty(len(terms), np.int64)
    rank[order] = np.arange(len(terms)) - np.repeat(starts, lengths)
    length = np.empty(len(terms), np.int64)
    length[order] = np.repeat(lengths, lengths)
    return rank, length, order


def _weight_at(
    batch: SparseBatch,
    order: NDArray[np.int64],
    rank: NDArray[np.int64],
    lengths: NDArray[np.int64],
    depth: int,
) -> NDArray[np.float64]:
    """For each posting the weight its list has at `depth` (from 1), or the list's largest where it is shorter."""
    weights = batch.weights[order].astype(np.float64)
    starts = np.arange(len(order)) - rank[order]
    at = np.where(lengths[order] >= depth, starts + depth - 1, starts)
    out = np.empty(len(order))
    out[order] = weights[at]
    return out


def _heaviest(values: NDArray[np.float64], keep: float) -> NDArray[np.bool_]:
    """The `keep` share of the largest values; of values equal to the last one kept, the earlier ones."""
    wanted = round(keep * len(values))
    chosen = np.zeros(len(values), bool)
    chosen[np.argsort(-values, kind="stable")[:wanted]] = True
    return chosen
