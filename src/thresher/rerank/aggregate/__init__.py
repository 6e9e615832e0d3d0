"""Aggregation: one strength for each candidate, from answers about some of them at a time.

| name | settings | score | errors |
|---|---|---|---|
| `bradley-terry` | `penalty`, `first_stage` | log-odds, 0 is average | from the answers |
| `win-rate` | | share of games won | from the answers |
| `borda` | | mean share of the others placed below | from the answers |
| `copeland` | | share of opponents beaten by majority | |
| `elo` | `step`, `shuffles` | rating, 1500 is average | |
| `pagerank` | `damping` | n times a share of time, 1 is average | |
| `rank-centrality` | `prior` | log-odds, 0 is average | |

All are deterministic, and none depends on the order of the answers. A passage without games gets the average, except
from PageRank, where it is below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.checks import real, shown, whole
from thresher.errors import ConfigError
from thresher.rerank.aggregate.chains import pagerank, rank_centrality
from thresher.rerank.aggregate.likelihood import bradley_terry, from_first_stage, variances
from thresher.rerank.aggregate.played import games, table_of, wins
from thresher.rerank.aggregate.rating import elo
from thresher.rerank.aggregate.shares import borda, copeland, win_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.rerank.aggregate.played import Games
    from thresher.rerank.plans.plan import Answer

__all__ = ["AGGREGATORS", "Strengths", "aggregate", "bradley_terry", "wins"]

DIGITS = 9
"""Passages with the same games have scores that differ by rounding alone; rounded to this many digits they tie."""


@dataclass(frozen=True, slots=True, eq=False)
class Strengths:
    """What an aggregator found.

    Attributes:
        scores: float64[n], a higher one is better. Scores of different aggregators have different scales.
        errors: float64[n], standard errors of the scores over answers drawn again; infinite for a passage in none.
            None where they are not estimated.
    """

    scores: NDArray[np.float64]
    errors: NDArray[np.float64] | None = None


def aggregate(name: str, n: int, answers: Iterable[Answer | None], **settings: float) -> Strengths:
    """Give each of n candidates a strength from the answers about some of them.

    Args:
        name: one of `AGGREGATORS`; this module's text says what each is.
        n: number of candidates.
        answers: about any of the candidates. None, and what a single candidate was rated, gives no information.
        settings: of the aggregator.

    Raises:
        ConfigError: the name or a setting is unknown.
        InputError: a setting is out of range, or an answer is about a position that is not there.
    """
    if name not in _KNOWN:
        raise ConfigError(f"there is no aggregation {shown(name)}; choose from {', '.join(AGGREGATORS)}")
    made, known = _KNOWN[name]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ConfigError(
            f"aggregation {name!r} has no setting {unknown[0]!r}; its settings are {', '.join(known) or 'none'}"
        )
    for key, value in settings.items():
        settings[key] = whole(key, value, 1) if key == "shuffles" else real(key, value, *known[key])
    found = made(n, games(n, answers), **settings)
    return Strengths(found.scores.round(DIGITS), found.errors)


def _bradley_terry(n: int, played: Sequence[Games], penalty: float = 0.1, first_stage: float = 0.0) -> Strengths:
    theta = bradley_terry(table_of(n, played), penalty, from_first_stage(n, first_stage))
    return Strengths(theta, np.sqrt(variances(n, played, theta, penalty)))


def _elo(n: int, played: Sequence[Games], step: float = 8.0, shuffles: float = 16) -> Strengths:
    return Strengths(elo(n, played, step, int(shuffles)))


_KNOWN: Mapping[str, tuple[Callable[..., Strengths], Mapping[str, tuple[float, float]]]] = {
    "bradley-terry": (_bradley_terry, {"penalty": (1e-9, 1e9), "first_stage": (0.0, 100.0)}),
    "win-rate": (lambda n, played: Strengths(*win_rate(n, played)), {}),
    "borda": (lambda n, played: Strengths(*borda(n, played)), {}),
    "copeland": (lambda n, played: Strengths(copeland(n, played)), {}),
    "elo": (_elo, {"step": (1e-9, 400.0), "shuffles": (1, 1e4)}),
    "pagerank": (lambda n, played, **of: Strengths(pagerank(n, played, **of)), {"damping": (0.0, 0.99)}),
    "rank-centrality": (lambda n, played, **of: Strengths(rank_centrality(n, played, **of)), {"prior": (1e-9, 1e9)}),
}
"""Each aggregator and the range of each of its settings."""

AGGREGATORS = tuple(_KNOWN)
