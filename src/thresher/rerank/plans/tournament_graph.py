"""Tournament graph: compare only passages whose order does not follow yet from earlier answers.

Algorithm: BlitzRank (Agrawal, Nguyen and Kiela, ICML 2026, arXiv 2602.05448). Every answer adds its ordered pairs to a
graph, and what follows from them by transitivity counts as known. Passages that beat each other in a cycle form one
component, which is a tie. A component is *resolved* when its relation to all others is known. The next match is between
representatives of unresolved components, those that the fewest others beat first, and the search ends when the first k
are resolved. Under a judge that is always right that is the exact top-k, for every n, k and size of a match.

Differences from the public code:

- Matches that do not depend on each other are one batch. Let the *leaders* be the unresolved components that the fewest
  others beat; no two leaders have a known relation. While there are more leaders than a match holds, they are dealt to
  full matches, and the remainder waits. A hundred candidates in matches of 20 take 6 or 7 calls as published, at a
  depth of 2 or 3.
- A passage that k others beat is out, and its relations need not be known.
- A representative is the member with the best record, ties in first-stage order; the members of a tie are shown in
  that order too. Published: the first one found.

Why it ends: two leaders always exist while one is unresolved, so each match makes a pair known. The bound: the best of
n takes ceil((n - 1)/(w - 1)) matches of w. Later, a leader is the first unresolved passage of every match it was in, so
there are at most as many leaders as there have been matches, u, and the next rank takes ceil((u - 1)/(w - 1)) more.

A tie in an answer joins its passages into one component; passages that repair appended lose to those that were named
and tell nothing of each other. A batch without any answer is asked again in another order, twice in a row at most. The
stated bound holds for any judge: a search that reaches it, as with lost answers, returns what it has found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from thresher.checks import whole
from thresher.rerank.plans.plan import Order, Placement, Spent, Steps, Stop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from thresher.rerank.plans.plan import Answer

MOST_LOST = 2
"""Batches in a row without an answer after which a search is given up."""


@dataclass(frozen=True, slots=True)
class TournamentGraph:
    """Compare what is not known yet until the first k are.

    Attributes:
        block: w, passages in one match, at least 2.
    """

    block: int = 20

    def __post_init__(self) -> None:
        whole("block", self.block, 2)

    @property
    def name(self) -> str:
        """`tournament-graph` with its settings."""
        return f"tournament-graph:block={self.block}"

    def bound(self, n: int, k: int) -> Spent:
        """ceil((n - 1)/(w - 1)) matches for the first rank, for each further one at most ceil((u - 1)/(w - 1)).

        u is the number of matches so far.
        """
        calls = depth = 0
        for rank in range(min(k, n)):
            leaders = n if rank == 0 else min(calls, n - rank)
            calls += max(-(-(leaders - 1) // (self.block - 1)), 0)
            while leaders > 1:
                leaders = leaders // self.block + leaders % self.block if leaders > self.block else 1
                depth += 1
            if n <= self.block:
                break
        return Spent.alike(calls, min(self.block, n), depth)

    def exact_top(self, n: int, k: int) -> int:
        """All if one match holds all candidates, else the first k."""
        return n if n <= self.block else min(n, k)

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Play matches until the first k are resolved."""
        graph = _Graph.of(n)
        left = self.bound(n, k)
        lost = 0
        try:
            while left.calls and left.depth and lost <= MOST_LOST:
                matches = graph.matches(self.block, k)[: left.calls]
                if not matches:
                    break
                shown = [tuple(rng.sample(match, len(match)) if lost else match) for match in matches]
                answers = yield [Order(match) for match in shown]
                left = Spent(calls=left.calls - len(matches), depth=left.depth - 1)
                lost = lost + 1 if all(answer is None for answer in answers) else 0
                for answer in answers:
                    if answer is not None:
                        graph.add(answer)
        except Stop:
            pass
        return graph.placement()


@dataclass(slots=True)
class _Graph:
    """Who is known to be above and below whom, as bit sets closed under transitivity."""

    n: int
    above: list[int]
    below: list[int]
    record: list[int] = field(default_factory=list)  # wins minus losses

    @classmethod
    def of(cls, n: int) -> _Graph:
        return cls(n, [0] * n, [0] * n, [0] * n)

    def add(self, answer: Answer) -> None:
        """Add the pairs of an answer."""
        named = set(answer.order[: answer.named])
        tiers = [t for tier in answer.tiers if (t := [item for item in tier if item in named])]
        for tier in tiers:
            for a, b in pairwise([*tier, tier[0]] if len(tier) > 1 else tier):
                self._edge(a, b)
        for higher, lower in pairwise(tiers):
            self._edge(higher[0], lower[0])
        for item in answer.order[answer.named :]:
            if tiers:
                self._edge(tiers[-1][0], item)
        passed, size = 0, len(answer.order)
        for tier in [*tiers, list(answer.order[answer.named :])]:
            for item in tier:
                self.record[item] += size - passed - len(tier) - passed
            passed += len(tier)

    def _edge(self, a: int, b: int) -> None:
        """Make a, and all above it, known to be above b and all below it."""
        if self.below[a] >> b & 1:
            return
        higher, lower = self.above[a] | 1 << a, self.below[b] | 1 << b
        for item in _bits(higher):
            self.below[item] |= lower
        for item in _bits(lower):
            self.above[item] |= higher

    def components(self) -> list[tuple[int, list[int]]]:
        """How many others beat each component, and its members; the least beaten first, then in first-stage order."""
        found = []
        seen = 0
        for item in range(self.n):
            if not seen >> item & 1:
                members = self.above[item] & self.below[item] | 1 << item
                seen |= members
                best_first = sorted(_bits(members), key=lambda one: (-self.record[one], one))
                found.append(((self.above[item] & ~members).bit_count(), best_first))
        return sorted(found, key=lambda one: (one[0], min(one[1])))

    def matches(self, size: int, k: int) -> list[list[int]]:
        """The matches to play now, each in first-stage order; none if the first k are resolved."""
        live = [(beaten, members) for beaten, members in self.components() if beaten < k]
        mask = sum(1 << item for _, members in live for item in members)
        unresolved = []
        settled = 0
        for beaten, members in live:
            one = members[0]
            if mask & ~(self.above[one] | self.below[one] | 1 << one):
                unresolved.append((beaten, -(self.below[one]).bit_count(), one))
            elif not unresolved:
                settled += len(members)
        if not unresolved or settled >= k:
            return []
        unresolved.sort()
        leaders = [one for beaten, _, one in unresolved if beaten == unresolved[0][0]]
        if len(leaders) <= size:
            return [sorted(one for _, _, one in unresolved[:size])]
        count = len(leaders) // size
        dealt = sorted(leaders)[: count * size]
        return [dealt[match::count] for match in range(count)]

    def placement(self) -> Placement:
        """Components in order, each a tie."""
        return Placement(tuple(tuple(members) for _, members in self.components()))


def _bits(mask: int) -> Iterator[int]:
    """The positions in a bit set, ascending."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
