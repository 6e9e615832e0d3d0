"""How much the order in which passages are shown changes what a judge answers.

Two answers about the same passages, shown in other orders, should agree. `order_bias` compares every two such answers:

*Same first*: the share of pairs of answers that name the same passage as the best. A judge that looks at nothing but
the order shown has 1/n or less for n passages.

*Tau*: the mean of Kendall's tau-b over the pairs, 1 for equal orders and 0 for unrelated ones; passages tied in one of
the two count as neither agreement nor disagreement.

*Pull*: by how many places a passage moves in the answer for each place that it moves in the order shown, by least
squares over all passages and pairs. What passages are about cancels, since both answers are about the same ones: 0 is a
judge without a bias to places, 1 one that repeats the order shown, and a negative number one that prefers what comes
last.

*First by fifth*: the share of answers whose best passage was shown in the first, second, ... fifth of the list, over
all answers about at least five passages. Without a bias every share is .2 where the order shown is random; where
passages are shown in first-stage order the first fifth is larger because the first stage is right.

Plans that ask again in other orders give such answers at no further cost: `choice-pool` with `repeats` of at least 2,
and the pairwise plans with `both_orders`. `Watched` keeps what a judge was asked and answered.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from thresher.rerank.plans.plan import Rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from thresher.llm.client import Client
    from thresher.records import Hit, Query
    from thresher.rerank.judges import Judge
    from thresher.rerank.plans.plan import Answer, Comparison

FIFTHS = 5


@dataclass(frozen=True, slots=True)
class OrderBias:
    """What `order_bias` found; None where nothing could be compared.

    Attributes:
        pairs: pairs of answers about the same passages in other orders.
        same_first: share of the pairs with the same best passage.
        tau: mean Kendall tau-b of the pairs.
        pull: places that a passage moves in the answer for each place it moves in the order shown.
        first_by_fifth: share of answers whose best passage was shown in each fifth of the list.
    """

    pairs: int = 0
    same_first: float | None = None
    tau: float | None = None
    pull: float | None = None
    first_by_fifth: tuple[float, ...] | None = None

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "first_by_fifth": None if self.first_by_fifth is None else list(self.first_by_fifth)}


class Watched:
    """A judge whose comparisons and answers are kept, by query.

    Args:
        judge: answers them.

    Attributes:
        answered: query identifier, comparison and answer of everything that was answered.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.answered: list[tuple[str, Comparison, Answer]] = []
        self.reads_text = bool(getattr(judge, "reads_text", True))

    @property
    def name(self) -> str:
        """As the judge's."""
        return self._judge.name

    @property
    def comparisons_per_call(self) -> int:
        """As the judge's."""
        return self._judge.comparisons_per_call

    async def answer(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """Let the judge answer, and keep what it says."""
        answers = await self._judge.answer(query, candidates, comparisons, client)
        self.answered += [
            (query.qid, one, said) for one, said in zip(comparisons, answers, strict=True) if said is not None
        ]
        return answers

    def close(self) -> None:
        """Close the judge."""
        close = getattr(self._judge, "close", None)
        if close is not None:
            close()


def order_bias(answered: Iterable[tuple[str, Comparison, Answer]]) -> OrderBias:
    """Compare the answers about the same passages in other orders.

    Args:
        answered: query identifier, comparison and answer; ratings are left out.
    """
    sets: defaultdict[tuple[str, frozenset[int]], dict[tuple[int, ...], Answer]] = defaultdict(dict)
    fifths = np.zeros(FIFTHS)
    for qid, asked, answer in answered:
        if isinstance(asked, Rate) or len(asked.items) < 2:
            continue
        sets[qid, frozenset(asked.items)][asked.items] = answer
        if len(asked.items) >= FIFTHS and len(answer.tiers[0]) == 1:
            fifths[asked.items.index(answer.tiers[0][0]) * FIFTHS // len(asked.items)] += 1
    same: list[bool] = []
    taus: list[float] = []
    moved = squares = 0.0
    for items, given in ((sorted(key[1]), value) for key, value in sets.items()):
        seen = [(_places(items, [(item,) for item in shown]), _places(items, said.tiers), said) for shown, said in
                given.items()]  # fmt: skip
        for (shown, places, one), (shown_then, places_then, other) in combinations(seen, 2):
            same.append(set(one.tiers[0]) == set(other.tiers[0]))
            if not math.isnan(tau := _tau(places, places_then)):
                taus.append(tau)
            step = shown - shown_then
            moved += float((step * (places - places_then)).sum())
            squares += float((step * step).sum())
    return OrderBias(
        pairs=len(same),
        same_first=sum(same) / len(same) if same else None,
        tau=sum(taus) / len(taus) if taus else None,
        pull=moved / squares if squares else None,
        first_by_fifth=tuple((fifths / fifths.sum()).tolist()) if fifths.sum() else None,
    )


def _places(items: Sequence[int], tiers: Sequence[tuple[int, ...]]) -> NDArray[np.float64]:
    """float64[n]: the place of each item, ties at the mean of their places."""
    place_of: dict[int, float] = {}
    for tier in tiers:
        place_of.update(dict.fromkeys(tier, len(place_of) + (len(tier) - 1) / 2))
    return np.array([place_of[item] for item in items])


def _tau(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Kendall's tau-b; NaN if one of the two ties everything."""
    first, second = np.sign(a[:, None] - a[None, :]), np.sign(b[:, None] - b[None, :])
    untied = float(np.sqrt((first != 0).sum() * (second != 0).sum(dtype=float)))
    return float((first * second).sum()) / untied if untied else math.nan
