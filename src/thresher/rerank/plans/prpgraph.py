"""PRP-Graph: a Swiss tournament of pairs, then one ranking from its games.

Source: PRP-Graph (Luo et al., ACL 2024). In each of R rounds every passage plays one game, against the next one in the
current order that it has not met; the first round pairs neighbours in the first stage's order. A game is shown in both
orders. With p_a the probability that a is better where a is shown first, p_b that of b where b is shown first, and g
the games a passage has played, this one included, the scores before the game change by

    s_a += p_a s_b / g_a        s_b += p_b s_a / g_b

starting from 1 - i/n (the paper: 1 - i/100). In the end a walk goes from a to b in proportion to the p_b of their
games, and restarts, with probability 1 - `damping`, at a passage drawn by its reciprocal rank in the first stage;
passages are ordered by the time it spends at them.

By default, though, the ranking is the Bradley-Terry strengths of the same games: on TREC DL 2021, with a perfect judge
and with errors, they are better than the rounds' scores and those better than the walk.

Unlike the public code: with an odd number of passages the one that pauses is the last of those that paused least, so
the last one plays too; a game of which one order was not answered counts with the other alone, and without an answer
not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from thresher.checks import real, shown
from thresher.errors import InputError
from thresher.rerank.aggregate import AGGREGATORS, aggregate
from thresher.rerank.aggregate.chains import walk
from thresher.rerank.plans.plan import Placement, Prefer, Spent, Steps, Stop, setting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from numpy.typing import NDArray

    from thresher.rerank.plans.plan import Answer

WALK, SWISS = "pagerank", "swiss"


@dataclass(frozen=True, slots=True)
class PrpGraph:
    """Swiss rounds of pairs, each pair shown in both orders.

    Attributes:
        rounds: R, games of each passage, at least 1.
        aggregation: "pagerank", the walk of the paper; "swiss", the scores of the rounds; or another of
            `thresher.rerank.aggregate`, from all answers.
        damping: probability that the walk goes on, 0 to 0.99.
    """

    rounds: int = 10
    aggregation: str = "bradley-terry"
    damping: float = 0.85

    def __post_init__(self) -> None:
        setting("rounds", self.rounds, 1)
        real("damping", self.damping, 0.0, 0.99)
        if self.aggregation not in (known := (SWISS, *AGGREGATORS)):
            raise InputError(f"there is no aggregation {shown(self.aggregation)}; choose from {', '.join(known)}")

    @property
    def name(self) -> str:
        """`prp-graph` with its settings."""
        damping = f",damping={self.damping}" if self.aggregation == WALK else ""
        return f"prp-graph:rounds={self.rounds},aggregation={self.aggregation}{damping}"

    def bound(self, n: int, k: int) -> Spent:
        """At most n prompts a round, one fewer where n is odd, and no more rounds than each passage has opponents."""
        rounds = min(self.rounds, n - 1 + n % 2) if n > 1 else 0
        return Spent.alike(2 * (n // 2) * rounds, 2, rounds)

    def exact_top(self, n: int, k: int) -> int:
        """None: it does not compare all pairs."""
        return n if n < 2 else 0

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Play the rounds, each one batch."""
        games = _Games(n)
        try:
            for _ in range(self.bound(n, k).depth):
                pairs = games.paired()
                if not pairs:
                    break
                answers = yield [Prefer(items) for a, b in pairs for items in ((a, b), (b, a))]
                games.play(pairs, answers)
        except Stop:
            pass
        return self._placed(games)

    def _placed(self, games: _Games) -> Placement:
        """The placement, in first-stage order if no answer was read."""
        n = len(games.scores)
        if not games.answers:
            return Placement.of(range(n))
        if self.aggregation == SWISS:
            values = np.array(games.scores)
        elif self.aggregation == WALK:
            values = walk(games.beaten_by, self.damping, 1.0 / np.arange(1, n + 1))
        else:
            values = aggregate(self.aggregation, n, games.answers).scores
        return Placement.by_score(dict(enumerate(values.round(9).tolist())))


@dataclass(slots=True)
class _Games:
    """The state of a tournament of n passages.

    Attributes:
        n: passages.
        scores: of each.
        beaten_by: float64[n, n], the sum over games of i and j of the probability that j is better.
        met: opponents of each.
        pauses: rounds in which each did not play.
        answers: all that were given.
    """

    n: int
    scores: list[float] = field(init=False)
    beaten_by: NDArray[np.float64] = field(init=False)
    met: list[set[int]] = field(init=False)
    pauses: list[int] = field(init=False)
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scores = [1.0 - item / self.n for item in range(self.n)]
        self.beaten_by = np.zeros((self.n, self.n))
        self.met = [set() for _ in range(self.n)]
        self.pauses = [0] * self.n

    def paired(self) -> list[tuple[int, int]]:
        """The games of the next round, the best passages' first; none of a pair that has met."""
        waiting = sorted(range(self.n), key=lambda item: (-self.scores[item], item))
        if self.n % 2:
            least = min(self.pauses)
            waiting.remove(next(item for item in reversed(waiting) if self.pauses[item] == least))
        pairs, alone = [], []
        while waiting:
            a = waiting.pop(0)
            b = next((item for item in waiting if item not in self.met[a]), None)
            if b is None:
                alone.append(a)
            else:
                waiting.remove(b)
                pairs.append((a, b))
        self._rematch(pairs, alone)
        playing = {item for pair in pairs for item in pair}
        for item in range(self.n):
            self.pauses[item] += item not in playing
        return pairs

    def _rematch(self, pairs: list[tuple[int, int]], alone: list[int]) -> None:
        """Give passages that have met each other the opponents of another pair, where all four can play then."""
        while len(alone) > 1:
            x, y = alone.pop(), alone.pop()
            for at in range(len(pairs) - 1, -1, -1):
                a, b = pairs[at]
                if b in self.met[y] or a in self.met[x]:
                    a, b = b, a
                if a not in self.met[x] and b not in self.met[y]:
                    pairs[at] = (a, x)
                    pairs.append((b, y))
                    break

    def play(self, pairs: Sequence[tuple[int, int]], answers: Sequence[Answer | None]) -> None:
        """Take in the answers of a round, two for each pair."""
        for at, (a, b) in enumerate(pairs):
            given = answers[2 * at : 2 * at + 2]
            self.met[a].add(b)
            self.met[b].add(a)
            self.answers += [answer for answer in given if answer is not None]
            first, second = (_chance_of_first(one, two) for one, two in zip(given, ((a, b), (b, a)), strict=True))
            if first is None and second is None:
                continue
            better = 1.0 - second if first is None and second is not None else first or 0.0
            worse = 1.0 - better if second is None else second
            before = self.scores[a], self.scores[b]
            self.scores[a] += better * before[1] / len(self.met[a])
            self.scores[b] += worse * before[0] / len(self.met[b])
            self.beaten_by[b, a] += better
            self.beaten_by[a, b] += worse


def _chance_of_first(answer: Answer | None, items: tuple[int, int]) -> float | None:
    """The probability that the first of two is better; where the judge gives none, 1, 0, or 0.5 for a tie."""
    if answer is None:
        return None
    if answer.score is not None:
        return min(max(answer.score, 0.0), 1.0)
    return 0.5 if len(answer.tiers[0]) > 1 else float(answer.tiers[0][0] == items[0])
