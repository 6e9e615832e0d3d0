"""Queries to weighted terms, over all shards: encoded by one of them, weighed by the statistics of all."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NoReturn, TypeAlias, cast

import numpy as np

from thresher.distributed.gathering import first_of, gather
from thresher.distributed.messages import CommitGoneError, EncodeRequest, Lists, ListsRequest, Row, Rows
from thresher.errors import InputError, ShardError
from thresher.records import Query as TextQuery
from thresher.search.queries import named_row, to_row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.distributed.asking import Asking
    from thresher.distributed.gathering import ShardReplicas
    from thresher.distributed.messages import Message
    from thresher.distributed.opening import State
    from thresher.distributed.sharded import ShardedIndex
    from thresher.distributed.shared_terms import Query
    from thresher.search.queries import AnyQuery

Named: TypeAlias = "tuple[list[str], NDArray[np.float32]]"
"""A query's terms by their strings, and their weights as they were given."""
Failed: TypeAlias = "dict[int, Exception]"

_SHARE = 0.25
"""Of the time that is left, what a part of a search that comes before others may take at most."""


class Weighing:
    """One search while it goes on: its requests, and its queries as they are scored.

    Args:
        asking: its arguments.
        index: the shards.
        state: what is known of them.

    Attributes:
        failed: the shards that did not answer, which are not asked again.
    """

    def __init__(self, asking: Asking, index: ShardedIndex, state: State) -> None:
        self.x, self.index, self.state = asking, index, state
        self.shards, self.options = index.shards, index.options
        self.failed: Failed = {}

    def weighed(self, queries: Sequence[AnyQuery], space: int) -> list[Query]:
        """Queries with their final weights, in the space of terms of a tier."""
        rows = self._named(queries, space)
        terms = self.state.spaces[space - 1]
        every = dict.fromkeys(term for names, _ in rows for term in names)
        known = terms.known(every)
        missing = tuple(term for term in every if term not in known)
        if missing:
            due = self.share_of_time()
            requests = {
                i: ListsRequest(one.sha256, missing, space)
                for i, one in enumerate(self.state.facts)
                if i not in self.failed
            }
            answers = self.gathered(requests, due)
            known |= terms.learned(missing, {i: cast("Lists", answer) for i, answer in answers.items()})
        found = [terms.query(i, names, weights, known) for i, (names, weights) in enumerate(rows)]
        effort = self.x.effort
        if effort.terms is None or effort.candidates or self.state.by_ids:
            return found  # shards with one vocabulary drop the same terms themselves
        return [query.heaviest(effort.terms) for query in found]

    def _named(self, queries: Sequence[AnyQuery], space: int) -> list[Named]:
        """Queries as terms by their strings, with weights as they were given."""
        texts = {
            i: query.text if isinstance(query, TextQuery) else query
            for i, query in enumerate(queries)
            if isinstance(query, str | TextQuery)
        }
        found: dict[int, Named] = {}
        if texts:
            rows: Sequence[Row] = [Row((), ()) for _ in texts]
            try:
                request = EncodeRequest(tuple(texts.values()), space)
                rows = cast("Rows", first_of(self._answering(space), request, self._patient(self.x.due))).rows
            except ShardError as err:  # none answered in time, so all are missing
                self.failed |= dict.fromkeys(range(len(self.shards)), err)
            for i, row in zip(texts, rows, strict=True):
                found[i] = list(row.terms), np.array(row.weights, np.float32)
        for i, query in enumerate(queries):
            if i not in texts:
                found[i] = named_row(query) if hasattr(query, "items") else self._of_ids(query)  # type: ignore[arg-type]
        return [found[i] for i in range(len(queries))]

    def _answering(self, tier: int) -> list[ShardReplicas]:
        """The shards that have a tier, those that have failed already last."""
        having = [i for i, one in enumerate(self.state.facts) if len(one.passages) >= tier]
        return [self.shards[i] for i in sorted(having, key=lambda i: i in self.failed)]

    def _of_ids(self, query: AnyQuery) -> Named:
        """A query of term ids, where these mean the same in all shards.

        Raises:
            InputError: they do not.
        """
        ids, weights = to_row(query, _Nothing(), _no_encoder)
        if len(ids) and not self.state.by_ids:
            raise InputError(
                "term ids differ from shard to shard here; give the terms by their strings, as ShardedIndex.terms does"
            )
        wanted = tuple(ids.tolist())
        names = self.index.names(wanted) if wanted else ()
        known = [i for i, name in enumerate(names) if name is not None]
        return [str(names[i]) for i in known], weights[known]

    def _patient(self, due: float) -> float:
        """When a request that is sent now is no longer waited for."""
        return min(due, time.monotonic() + self.x.patience)

    def share_of_time(self) -> float:
        """When a part of the search that comes first is no longer waited for."""
        if self.x.due == math.inf:
            return math.inf
        now = time.monotonic()
        return now + _SHARE * max(self.x.due - now, 0.0)

    def gathered(self, requests: Mapping[int, Message], due: float) -> dict[int, Message]:
        """Answers; shards that have none are missing from here on.

        Raises:
            CommitGoneError: a shard has another commit.
        """
        found = gather(self.shards, requests, due=self._patient(due), hedge=self.options.hedge, watch=self.index.watch)
        for error in found.failed.values():
            if isinstance(error, CommitGoneError):
                raise error
        self.failed |= found.failed
        return found.answers


class _Nothing:
    """A vocabulary without terms: a query of ids needs none."""

    def find(self, term: str) -> int:
        """No term is known."""
        return -1


def _no_encoder() -> NoReturn:
    raise InputError("a query of term ids has no text")
