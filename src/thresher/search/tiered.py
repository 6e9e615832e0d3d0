"""Two tiers of one corpus: the second, of what was pruned, is searched only where the first looks unsure.

A pruned passage is not gone: it is in the second tier, cheaply indexed, and an answer that looks unsure goes on to it.
How unsure an answer looks is a linear function of its score margins (`margins`); its weights and its threshold are
calibrated on logged questions, without judgments: for each, both tiers are searched, and the target is the share of the
joint first k, by the discount of nDCG, that only the second tier has. The threshold is set so that a wanted share of
such questions falls through.

Where both tiers were made by the same encoder (with the statistics of the whole corpus), scores compare, and a question
that falls through gets what one index of everything would have given, to within quantisation. Otherwise the two
rankings are joined by reciprocal ranks (Cormack, Clarke and Büttcher, SIGIR 2009).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from thresher.errors import ArtifactError, ConfigError, DamagedArtifactError, InputError
from thresher.records import Hit
from thresher.search.searcher import Searcher

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thresher.search.queries import Query
    from thresher.search.result import SearchResult

__all__ = [
    "MARGINS",
    "MarginTest",
    "TieredResult",
    "TieredSearcher",
    "calibrate",
    "margins",
    "missed_share",
    "open_tiers",
]

SECOND = "tier-2"
_MARGIN_FILE = "margin.json"
MARGINS = ("best", "second", "middle", "last", "spread", "few")
_FUSION = 60
_RIDGE = 0.01


def margins(scores: Sequence[float] | NDArray[np.float64], k: int = 10) -> NDArray[np.float64]:
    """What the scores of a first-tier answer say of its certainty, float64[len(MARGINS)].

    ln(1 + best score); second, middle and last of the first k divided by the best; the relative spread of the first k;
    the share of the k places that stayed empty. An empty answer has all margins 0 and `few` 1.
    """
    top = np.asarray(scores, np.float64)[:k]
    if not len(top) or top[0] <= 0:
        return np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    padded = np.concatenate([top, np.zeros(k - len(top))])
    best = padded[0]
    return np.array(
        [
            np.log1p(best),
            padded[min(1, k - 1)] / best,
            padded[(k - 1) // 2] / best,
            padded[k - 1] / best,
            padded.std() / best,
            1 - len(top) / k,
        ]
    )


def missed_share(first: Sequence[Any], joint: Sequence[Any], k: int = 10) -> float:
    """Share of the joint first k, by the discount of nDCG, that the first tier does not hold."""
    held = set(first)
    gains = [1 / np.log2(rank + 2) for rank in range(min(k, len(joint)))]
    lost = sum(gain for gain, item in zip(gains, joint, strict=False) if item not in held)
    return float(lost / sum(gains)) if gains else 0.0


@dataclass(frozen=True, slots=True)
class MarginTest:
    """Whether an answer of the first tier looks unsure.

    Attributes:
        mean, scale, weights: float64[len(MARGINS)]; weights of the standardised margins, higher is less sure.
        threshold: answers above it go on to the second tier.
        rate: share of the questions it was calibrated on that do.
        k: length of the answers it was calibrated on.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    threshold: float
    rate: float
    k: int

    @classmethod
    def fit(cls, table: NDArray[np.float64], missed: NDArray[np.float64], rate: float, k: int = 10) -> MarginTest:
        """Calibrate on the margins (float64[questions, len(MARGINS)]) and missed shares of logged questions.

        Ridge regression of the missed share; the threshold is a quantile of what it predicts for the same questions.

        Raises:
            ConfigError: the rate is not in [0, 1].
            InputError: there are no questions.
        """
        if not 0 <= rate <= 1:
            raise ConfigError(f"a fall-through rate of {rate} is not a share between 0 and 1")
        if not len(table):
            raise InputError("a margin test is calibrated on questions: give at least one")
        deviation = table.std(axis=0)
        mean, scale = table.mean(axis=0), np.where(deviation > 1e-9, deviation, 1.0)
        x = (table - mean) / scale
        gram = x.T @ x / len(x) + _RIDGE * np.eye(len(mean))
        weights = np.linalg.solve(gram, x.T @ (missed - missed.mean()) / len(x))
        doubt = np.sort(x @ weights)[::-1]
        through = round(rate * len(doubt))
        if through == 0:
            threshold = float(doubt[0])
        elif through == len(doubt):
            threshold = float(doubt[-1]) - 1.0
        else:
            threshold = float((doubt[through - 1] + doubt[through]) / 2)
        return cls(mean, scale, weights, threshold, rate, k)

    def doubt(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """How unsure answers look, float64[n] of float64[n, len(MARGINS)]."""
        doubts: NDArray[np.float64] = ((table - self.mean) / self.scale) @ self.weights
        return doubts

    def unsure(self, scores: Sequence[float] | NDArray[np.float64]) -> bool:
        """Whether the answer with these scores, best first, goes on to the second tier."""
        return bool(self.doubt(margins(scores, self.k)[None, :])[0] > self.threshold)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads."""
        return {
            "margins": list(MARGINS),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "weights": self.weights.tolist(),
            "threshold": self.threshold,
            "rate": self.rate,
            "k": self.k,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> MarginTest:
        """Read what `as_json` wrote.

        Raises:
            ValueError: the margins are not those of this release.
        """
        if tuple(document["margins"]) != MARGINS:
            raise ValueError(f"margins {document['margins']}, expected {list(MARGINS)}")
        mean, scale, weights = (np.array(document[key], np.float64) for key in ("mean", "scale", "weights"))
        return cls(mean, scale, weights, float(document["threshold"]), float(document["rate"]), int(document["k"]))


class TieredResult(Sequence[Hit]):
    """Hits, best first, and where they come from. Hits are made when they are looked at.

    Attributes:
        tiers: the tier of each hit, 1 or 2.
        scores: float64[hits].
        fell_through: the second tier was searched.
        exact: always False: the tiers quantise their impacts each for itself, so scores agree with one index of both to
            within a quantisation step.
        explanations: how each tier that was searched was, where it was asked to explain.
    """

    exact = False

    def __init__(
        self,
        parts: Sequence[SearchResult],
        rows: Sequence[tuple[int, int]],
        scores: NDArray[np.float64],
        *,
        fell_through: bool,
    ) -> None:
        self._parts = parts
        self._rows = rows
        self.scores = scores
        self.tiers = tuple(tier for tier, _ in rows)
        self.fell_through = fell_through
        self.explanations = tuple(part.explanation for part in parts if part.explanation is not None)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | Sequence[Hit]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        tier, place = self._rows[at]
        return replace(self._parts[tier - 1][place], score=float(self.scores[at]), rank=at + 1)

    @property
    def docnos(self) -> list[str]:
        """Docnos of the hits, best first."""
        names = [part.docnos for part in self._parts]
        return [names[tier - 1][place] for tier, place in self._rows]


class TieredSearcher:
    """A first and a second tier, and the test between them.

    Args:
        first: index of the kept passages.
        second: index of the pruned ones.
        test: when to go on; None never goes on by itself.
    """

    def __init__(self, first: Searcher, second: Searcher, test: MarginTest | None = None) -> None:
        self.first, self.second, self.test = first, second, test
        self.comparable = _encoder_of(first) == _encoder_of(second) != ""

    @classmethod
    def open(cls, path: str | Path) -> TieredSearcher:
        """Open an index whose directory holds its second tier, and its margin test where one was kept.

        Raises:
            ArtifactError: there is no index, or it has no second tier.
            DamagedArtifactError: the margin test cannot be read.
        """
        path = Path(path)
        if not (path / SECOND).is_dir():
            raise ArtifactError(f"{path} has no second tier; build it with a [prune] table whose rest is 'tier-2'")
        file = path / SECOND / _MARGIN_FILE
        test = None
        if file.is_file():
            try:
                test = MarginTest.from_json(json.loads(file.read_bytes()))
            except (ValueError, KeyError, TypeError) as err:
                raise DamagedArtifactError(str(file), f"not a readable margin test ({err}); calibrate again") from err
        return cls(Searcher.open(path), Searcher.open(path / SECOND), test)

    def __len__(self) -> int:
        """Passages in both tiers."""
        return len(self.first) + len(self.second)

    def search(self, query: Query, k: int = 10, *, second: str = "auto", explain: bool = False) -> TieredResult:
        """The k best passages of the first tier, and of both where the answer looks unsure.

        Args:
            query: as `Searcher.search`.
            k: how many.
            second: `auto` asks the margin test; `always` and `never` do not.
            explain: say in the result's `explanations` how the tiers were searched.

        Raises:
            ConfigError: `second` is none of these, or `auto` without a margin test.
        """
        if second not in ("auto", "always", "never"):
            raise ConfigError(f"second is {second!r}, expected auto, always or never")
        if second == "auto" and self.test is None:
            raise ConfigError("there is no margin test: calibrate one, or say whether to search the second tier")
        wide = max(k, self.test.k) if self.test is not None else k
        kept = self.first.search(query, wide, explain=explain)
        go_on = second == "always" or (second == "auto" and self.test is not None and self.test.unsure(kept.scores))
        return self._answer(kept, query, k, go_on, explain)

    def search_uncalibrated(self, query: Query, k: int = 10, *, explain: bool = False) -> TieredResult:
        """As `search`, and where no margin test was calibrated by a rule that needs none.

        Where scores of the tiers compare, both are searched, since a second list costs a fraction of a millisecond and
        the best of both is the best of all. Where they do not, the second tier fills the places the first left empty,
        below it: its scores are scaled to lie under the first tier's last.
        """
        if self.test is not None:
            return self.search(query, k, explain=explain)
        if self.comparable:
            return self.search(query, k, second="always", explain=explain)
        kept = self.first.search(query, k, explain=explain)
        if len(kept) >= k:
            return self._answer(kept, query, k, False, explain)
        pruned = self.second.search(query, k - len(kept), explain=explain)
        rows = [(1, i) for i in range(len(kept))] + [(2, i) for i in range(len(pruned))]
        last = float(kept.scores[-1]) if len(kept) else 1.0
        top = float(pruned.scores[0]) if len(pruned) else 1.0
        scores = np.concatenate([kept.scores, pruned.scores * (0.999 * last / top)])
        return TieredResult((kept, pruned), rows, scores, fell_through=True)

    def _answer(self, kept: SearchResult, query: Query, k: int, go_on: bool, explain: bool) -> TieredResult:
        if not go_on:
            count = min(k, len(kept))
            return TieredResult((kept,), [(1, i) for i in range(count)], kept.scores[:count], fell_through=False)
        pruned = self.second.search(query, k, explain=explain)
        rows = [(1, i) for i in range(len(kept))] + [(2, i) for i in range(len(pruned))]
        both = np.concatenate([kept.scores, pruned.scores])
        if self.comparable:
            names = [docno.encode() for docno in (*kept.docnos, *pruned.docnos)]
            order = sorted(range(len(rows)), key=lambda i: (-both[i], names[i]))[:k]
            scores = both[order]
        else:  # by rank; of equal ranks the higher score first, then the first tier's
            order = sorted(range(len(rows)), key=lambda i: (rows[i][1], -both[i]))[:k]
            scores = np.array([1 / (_FUSION + rows[i][1] + 1) for i in order])
        return TieredResult((kept, pruned), [rows[i] for i in order], scores, fell_through=True)


def open_tiers(path: str | Path) -> Searcher | TieredSearcher:
    """The index at `path`: with its second tier where it has one.

    Raises:
        ArtifactError: there is no index, or a newer thresher wrote it.
        DamagedArtifactError: a file is missing or cannot be read.
    """
    return TieredSearcher.open(path) if (Path(path) / SECOND).is_dir() else Searcher.open(path)


def calibrate(tiers: TieredSearcher, questions: Sequence[Query], rate: float, *, k: int = 10) -> MarginTest:
    """A margin test that lets about `rate` of questions like these fall through, the ones that miss most.

    Both tiers are searched for every question; no judgments are needed.
    """
    table, missed = [], []
    for question in questions:
        kept = tiers.first.search(question, k)
        joint = tiers.search(question, k, second="always")
        table.append(margins(kept.scores, k))
        missed.append(missed_share(kept.docnos, joint.docnos, k))
    return MarginTest.fit(np.array(table).reshape(-1, len(MARGINS)), np.array(missed), rate, k)


def _encoder_of(searcher: Searcher) -> str:
    """Fingerprint of the encoder an index was made by, empty where it has none."""
    if not (searcher.layout.path / "encoder").is_dir():
        return ""
    return str(searcher.encoder.fingerprint)
