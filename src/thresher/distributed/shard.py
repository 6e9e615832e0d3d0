"""`Shard`: an open index that answers a coordinator's requests (`thresher.distributed.messages`).

Weights of queries come final and are not weighed again; scores are those that the index itself gives. Requests that
belong to one ranking name the commit they want, and some commits before the last one are kept open for them.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from thresher.distributed.messages import (
    FIRST,
    Asked,
    CommitGoneError,
    EncodeRequest,
    Facets,
    FacetsRequest,
    Facts,
    FactsRequest,
    Found,
    Lists,
    ListsRequest,
    Message,
    Names,
    NamesRequest,
    PassagesRequest,
    Row,
    Rows,
    Text,
    Texts,
    Top,
    TopRequest,
)
from thresher.errors import InputError
from thresher.search.effort import EXACT, Effort, deadline_after
from thresher.search.kernels.types import PLANS
from thresher.search.parts import joined
from thresher.search.statistics import live_lengths, live_postings
from thresher.search.tiers import Wanted, list_statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from thresher.search.index import Index
    from thresher.search.parts import Masks
    from thresher.search.snapshot import Snapshot
    from thresher.search.tiers import Tier, TierAnswer
    from thresher.search.vocabulary import TermSpace

_KEPT = 4
"""Commits that are kept open."""


class Shard:
    """Answers requests over one index. Safe to share between threads.

    Args:
        current: gives the open index at its last commit.
    """

    def __init__(self, current: Callable[[], Index]) -> None:
        self._current = current
        self._kept: OrderedDict[str, Snapshot] = OrderedDict()
        self._lock = threading.Lock()

    def call(self, request: Message) -> Message:
        """The answer to a request.

        Raises:
            CommitGoneError: the commit that it names is not open any more.
            InputError: an argument is out of range, or a filter names a field that there is not.
            ThresherError: the index is damaged, or an encoder cannot be loaded.
        """
        answer = self._answers.get(type(request))
        if answer is None:
            raise InputError(f"a shard does not answer {type(request).__name__}")
        return answer(self, request)

    def _encode(self, request: EncodeRequest) -> Rows:
        rows = self._space(self._now(), request.tier).encode_strings(request.texts)
        return Rows(tuple(Row(tuple(row), tuple(row.values())) for row in rows))

    def _named(self, request: NamesRequest) -> Names:
        vocabulary = self._space(self._now(), request.tier).vocabulary
        known = len(vocabulary)
        return Names(tuple(vocabulary.term(n) if 0 <= n < known else None for n in request.ids))

    def _now(self) -> Snapshot:
        """The last commit, which is kept for later requests."""
        snapshot = self._current()._current()
        sha256 = snapshot.collection.commit.sha256
        if sha256 not in self._kept:
            with self._lock:
                self._kept[sha256] = snapshot
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return snapshot

    def _at(self, sha256: str) -> Snapshot:
        found = self._kept.get(sha256)
        if found is None:
            found = self._now()
            if found.collection.commit.sha256 != sha256:
                raise CommitGoneError(f"the shard {found.collection.path} has another commit by now")
        return found

    @staticmethod
    def _tier(snapshot: Snapshot, tier: int) -> Tier | None:
        return snapshot.first if tier == FIRST else snapshot.second

    def _space(self, snapshot: Snapshot, tier: int) -> TermSpace:
        found = self._tier(snapshot, tier)
        if found is None:
            raise InputError(f"the shard {snapshot.collection.path} has no second tier")
        return found.space

    def _facts(self, _: FactsRequest) -> Facts:
        index = self._current()
        snapshot = self._now()
        commit = snapshot.collection.commit
        tiers = [tier for tier in (snapshot.first, snapshot.second) if tier is not None]
        counts = [[part.layout.counts for part in tier.parts] for tier in tiers]
        average = commit.frozen.get("average_length")
        return Facts(
            commit=commit.number,
            sha256=commit.sha256,
            passages=tuple(tier.live for tier in tiers),
            encoders=tuple(tier.parts[0].fingerprint for tier in tiers),
            lexical=tuple(tier.space.statistics is not None for tier in tiers),
            scales=tuple(one[0].scale if len({n.scale for n in one}) == 1 else 0.0 for one in counts),
            counted=tuple(_counted(tier.space) for tier in tiers),
            vocabularies=tuple(_content(tier.space) for tier in tiers),
            average_length=float(average) if isinstance(average, int | float) else 0.0,
            schema=dict(commit.schema),
            routing="" if commit.routing is None else json.dumps(commit.routing),
            recipe=index.recipe.model_dump_json(),
            masked=snapshot.masks is not None,
        )

    def _lists(self, request: ListsRequest) -> Lists:
        snapshot = self._at(request.sha256)
        own = self._tier(snapshot, request.tier)
        if own is None:
            nothing = len(request.terms)
            empty = ((0.0, 0.0, 0.0),) * nothing
            return Lists((False,) * nothing, (), empty if request.tier == FIRST else (), empty)
        space = own.space
        ids = _ids(space, request.terms)
        known = ids >= 0
        live = np.zeros(len(ids), np.int64)
        if space.statistics is not None:
            for part, local in zip(space.parts, space.vocabulary.locals(ids), strict=True):
                has = local >= 0
                live[has] += live_postings(part.part, local[has])
        tiers = [
            _statistics(tier, ids) if tier is not None and tier.space is space else ()
            for tier in (snapshot.first, snapshot.second)
        ]
        return Lists(
            tuple(known.tolist()), tuple(live.tolist()) if space.statistics is not None else (), tiers[0], tiers[1]
        )

    def _top(self, request: TopRequest) -> Top:
        snapshot = self._at(request.sha256)
        tier = self._tier(snapshot, request.tier)
        if request.plan not in PLANS:
            raise InputError(f"plan must be one of {', '.join(PLANS)}; got {request.plan!r}")
        if tier is None:
            return Top(tuple(Found((), (), True) for _ in request.queries))
        masks = _masks(snapshot, request.where, request.allow)
        limits = (Effort.parse(request.effort) if request.effort else EXACT).limits
        wanted = Wanted(request.k, limits, request.plan, request.explain, deadline_after(request.deadline_ms or None))
        if len(request.queries) == 1:
            (one,) = request.queries
            ids, weights = _ids(tier.space, one.terms), np.array(one.weights, np.float32)
            return Top((_found(snapshot, tier.top(ids, weights, wanted, masks, one.least)),))
        rows = _rows(tier.space, request.queries)
        least = [one.least for one in request.queries]
        found = tier.top_batch(rows, wanted, masks, request.threads, least)
        return Top(tuple(_found(snapshot, one) for one in found))

    def _passages(self, request: PassagesRequest) -> Texts:
        snapshot = self._now()
        stored = snapshot.stored
        here = [docno for docno in request.docnos if stored.find(docno) >= 0]
        if request.where and here:
            seen = joined(snapshot.parts, _masks(snapshot, request.where, None))
            if seen is not None:
                here = [docno for docno in here if seen[stored.find(docno)]]
        aliases: list[tuple[str, ...]] = [()] * len(here) if request.where else stored.aliases(here)
        return Texts(
            tuple(
                Text(one.docno, one.text, one.title, json.dumps(dict(one.metadata)), others)
                for one, others in zip(stored.passages(here), aliases, strict=True)
            )
        )

    def _facets(self, request: FacetsRequest) -> Facets:
        snapshot = self._at(request.sha256)
        masks = _masks(snapshot, request.where, request.allow)
        terms: dict[int, NDArray[np.int64]] | None = None
        if request.terms is not None:
            terms = {}
            for tier, named in zip((snapshot.first, snapshot.second), request.terms, strict=False):
                if tier is not None:
                    own = tier.space.vocabulary.locals(_ids(tier.space, named))
                    terms |= {part.number: own[place] for part, place in zip(tier.parts, tier.places, strict=True)}
        return Facets(tuple(snapshot.counted(request.field, terms, masks).items()))

    _answers: ClassVar[dict[type[Message], Callable[[Shard, Any], Message]]] = {
        TopRequest: _top,
        ListsRequest: _lists,
        PassagesRequest: _passages,
        EncodeRequest: _encode,
        NamesRequest: _named,
        FacetsRequest: _facets,
        FactsRequest: _facts,
    }


def _counted(space: TermSpace) -> int:
    return 0 if space.statistics is None else live_lengths([part.part for part in space.parts])[0]


def _content(space: TermSpace) -> str:
    """Names the content of a vocabulary that all parts share; empty where they differ."""
    vocabulary = space.vocabulary
    return "/".join(vocabulary.parts[0].content) if vocabulary.same else ""


def _ids(space: TermSpace, terms: tuple[str, ...]) -> NDArray[np.int64]:
    return np.fromiter(map(space.vocabulary.find, terms), np.int64, len(terms))


def _statistics(tier: Tier, ids: NDArray[np.int64]) -> tuple[tuple[float, float, float], ...]:
    return tuple((row[0], row[1], row[2]) for row in list_statistics(tier, ids).tolist())


def _masks(snapshot: Snapshot, where: str, allow: tuple[str, ...] | None) -> Masks:
    return snapshot.masked(where or None, None if allow is None else list(allow))


def _rows(
    space: TermSpace, queries: tuple[Asked, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    indptr = np.zeros(len(queries) + 1, np.int64)
    np.cumsum([len(one.terms) for one in queries], out=indptr[1:])
    ids = _ids(space, tuple(term for one in queries for term in one.terms))
    return indptr, ids, np.array([weight for one in queries for weight in one.weights], np.float32)


def _found(snapshot: Snapshot, answer: TierAnswer) -> Found:
    return Found(
        tuple(snapshot.stored.docnos_at(answer.numbers)),
        tuple(answer.scores.tolist()),
        answer.exact,
        complete=answer.complete,
        told=tuple(asdict(one) for one in answer.explanations),
    )
