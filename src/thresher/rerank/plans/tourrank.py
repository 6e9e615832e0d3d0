"""TourRank: tournaments of groups, in which the best of each group go on to the next stage.

Algorithm: TourRank (Chen et al., WWW 2025, arXiv 2406.11678). A tournament of a hundred goes from 100 to 50, 20, 10, 5
and 2 candidates, in 5 groups of 20, 5 groups of 10 and then one group. That is 13 calls at a depth of 5. Each time a
candidate goes on it gets a point. r tournaments run at the same time and their points add up.

For any n, a stage of m candidates keeps the largest number of the series 1, 2, 5, 10, 20, 50, 100, ... that is at most
2m/3, but at least one of each group. While m candidates do not fit in one window there are at least `groups` groups of
equal size (within one); for n = 100 that is the published tournament. Groups are equally strong: the order so far is
cut into runs of as many candidates as there are groups, and each run is dealt to them at random. The order so far is
the first stage's, and later that of the places in the groups. A group is shown shuffled.

Published points have as many levels as there are stages, and leave the rest to the first stage: the two finalists are
tied. The answers say more, so by default (`aggregation=places`) a candidate also gets the share of its last group that
it was placed above. Then the first ranks are exact under a judge that is always right, as many as the smallest number
that goes on from one of several groups (4 for n = 100), in one tournament. `aggregation=points` is as published; a name
of `thresher.rerank.aggregate` aggregates all answers instead. Several tournaments sum up luck of the draw and promise
nothing, unless one window holds all candidates.

Of a group without an answer, and of passages that repair appended to one, the first in first-stage order go on. That is
no point for them until the answer of a later group confirms it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.checks import shown, whole
from thresher.errors import InputError
from thresher.rerank.aggregate import AGGREGATORS, aggregate
from thresher.rerank.plans.plan import Order, Placement, Spent, Steps, Stop, parallel, setting

if TYPE_CHECKING:
    from random import Random

    from thresher.rerank.plans.plan import Answer

RULES = ("places", "points")
FINALISTS = 2


@dataclass(slots=True)
class _Record:
    """What one tournament found: each candidate's points and its share of the last group that was answered."""

    points: list[int]
    share: list[float]
    answers: list[Answer]

    def add(self, stage: int, group: list[int], answer: Answer | None, goes_on: int) -> list[int]:
        """Note the answer for a group; returns those that go on, best first."""
        if answer is None:
            return sorted(group)[:goes_on]
        self.answers.append(answer)
        order = [item for tier in answer.tiers for item in sorted(tier)]
        named, appended = order[: answer.named], sorted(order[answer.named :])
        for place, item in enumerate(named):
            self.points[item] = stage + (place < goes_on)
            self.share[item] = (len(order) - 1 - place) / len(order)
        for item in appended:
            self.points[item], self.share[item] = stage, 0.0
        return (named + appended)[:goes_on]


@dataclass(frozen=True, slots=True)
class TourRank:
    """Run tournaments at the same time and add up what they found.

    Attributes:
        tournaments: r, at least 1.
        window: w, the largest group, at least 2.
        groups: the least number of groups while the candidates do not fit in one.
        aggregation: "places", "points", or a name of `thresher.rerank.aggregate`.
    """

    tournaments: int = 1
    window: int = 20
    groups: int = 5
    aggregation: str = "places"

    def __post_init__(self) -> None:
        setting("tournaments", self.tournaments, 1)
        whole("window", self.window, 2)
        setting("groups", self.groups, 1)
        if self.aggregation not in (*RULES, *AGGREGATORS):
            raise InputError(
                f"aggregation={shown(self.aggregation)} must be one of {', '.join((*RULES, *AGGREGATORS))}"
            )

    @property
    def name(self) -> str:
        """`tourrank` with its settings."""
        rule = "" if self.aggregation == "places" else f",aggregation={self.aggregation}"
        return f"tourrank:tournaments={self.tournaments},window={self.window},groups={self.groups}{rule}"

    def bound(self, n: int, k: int) -> Spent:
        """As many calls as there are groups of two or more, in as many batches as there are stages."""
        total = Spent()
        for m, groups, _ in self._stages(n):
            asked = [size for g in range(groups) if (size := len(range(g, m, groups))) > 1]
            calls = self.tournaments * len(asked)
            total += Spent(calls, self.tournaments * sum(asked), 1, calls)
        return total

    def exact_top(self, n: int, k: int) -> int:
        """With places: all if one window holds all; else as many as go on from each group, in one tournament."""
        if self.aggregation != "places":
            return 0
        if n <= self.window:
            return n
        return min(t // groups for _, groups, t in self._stages(n) if groups > 1) if self.tournaments == 1 else 0

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Run the stages of all tournaments side by side."""
        records = [_Record([0] * n, [0.0] * n, []) for _ in range(self.tournaments)]
        try:
            yield from parallel([self._tournament(n, record, rng) for record in records])
        except Stop:
            pass
        if self.aggregation not in RULES:
            answers = [answer for record in records for answer in record.answers]
            found = aggregate(self.aggregation, n, answers)
            placement = Placement.by_score(dict(enumerate(found.scores.tolist())))
            if found.errors is None or not answers:
                return placement
            return Placement(placement.tiers, placement.scores, tuple(found.errors[[*placement.order]].tolist()))
        scores = {item: float(sum(record.points[item] for record in records)) for item in range(n)}
        if self.aggregation == "places":
            scores = {item: round(scores[item] + sum(one.share[item] for one in records), 9) for item in scores}
        return Placement.by_score(scores)

    def _stages(self, n: int) -> list[tuple[int, int, int]]:
        """Of each stage: the candidates, the groups, and how many candidates go on. The last has one group."""
        stages: list[tuple[int, int, int]] = []
        while n > 1:
            least = -(-n // self.window)
            groups = least if least == 1 else max(min(max(least, self.groups), n // 2), least)
            kept = max(_in_series(2 * n // 3), groups)
            stages.append((n, groups, kept))
            if groups == 1 and kept <= FINALISTS:
                break
            n = kept
        return stages

    def _tournament(self, n: int, record: _Record, rng: Random) -> Steps[None]:
        order = list(range(n))
        for stage, (m, count, kept) in enumerate(self._stages(n)):
            groups: list[list[int]] = [[] for _ in range(count)]
            for start in range(0, m, count):
                run = order[start : start + count]
                for group, item in zip(groups, rng.sample(run, len(run)), strict=False):
                    group.append(item)
            shuffled = [tuple(rng.sample(group, len(group))) for group in groups if len(group) > 1]
            answers = iter((yield [Order(group) for group in shuffled]))
            winners: list[tuple[int, int]] = []
            for number, group in enumerate(groups):
                answer = next(answers) if len(group) > 1 else None
                best = record.add(stage, group, answer, kept // count + (number < kept % count))
                winners += [(place, item) for place, item in enumerate(best)]
            order = [item for _, item in sorted(winners)]


def _in_series(most: int) -> int:
    """The largest of 1, 2, 5, 10, 20, 50, ... that is at most `most`, at least 1."""
    power = 10 ** (len(str(most)) - 1)
    return max((power * digit for digit in (1, 2, 5) if power * digit <= most), default=1)
