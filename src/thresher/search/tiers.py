"""Two tiers of one corpus: the second, of what was pruned, is searched only where the first looks unsure.

A pruned passage is not gone: it is in the second tier, cheaply indexed, and an answer that looks unsure goes on to it.
How unsure an answer looks (`thresher.search.routing`) is a linear function of its score margins and of what the second
tier's lists could hold against it; its weights and its threshold are calibrated on logged queries, without judgments:
for each, both tiers are searched, and the target is the share of the joint first k, by the discount of nDCG, that only
the second tier has. The threshold is set so that a wanted share of such queries falls through.

Where both tiers were made by the same encoder (with the statistics of the whole corpus), scores compare, and a query
that falls through gets what one index of everything would have given, to within quantisation. Otherwise the two
rankings are joined by reciprocal ranks (Cormack, Clarke and Büttcher, SIGIR 2009).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from thresher.errors import ArtifactError, ConfigError, DamagedArtifactError
from thresher.records import Hit
from thresher.search.routing import PROSPECTS, SIGNS, MarginTest, margins, missed_share, signs
from thresher.search.searcher import Searcher

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thresher.search.queries import Query, Terms
    from thresher.search.result import SearchResult

SECOND = "tier-2"
_MARGIN_FILE = "margin.json"
_FUSION = 60


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
            InputError, DamagedArtifactError: as `Searcher.search`.
        """
        if second not in ("auto", "always", "never"):
            raise ConfigError(f"second is {second!r}, expected auto, always or never")
        if second == "auto" and self.test is None:
            raise ConfigError("there is no margin test: calibrate one, or say whether to search the second tier")
        wide = max(k, self.test.k) if self.test is not None else k
        terms = self.first.terms(query)
        kept = self.first.search(terms, wide, explain=explain)
        go_on = second == "always"
        if second == "auto" and self.test is not None:
            go_on = self.test.unsure(self.signs(terms, kept, self.test.k))
        # where scores compare, term ids are the same in both: a text need not be encoded again
        return self._answer(kept, terms if self.comparable else query, k, go_on, explain)

    def signs(self, terms: Terms, kept: SearchResult, k: int) -> NDArray[np.float64]:
        """What the margin test looks at, float64[len(SIGNS)]; prospects are all 1 where scores do not compare.

        Args:
            terms: the query, as `Searcher.terms` gives it for the first tier.
            kept: the first tier's answer to it.
            k: length of the answers the test is calibrated on.
        """
        if not self.comparable:
            return np.concatenate([margins(kept.scores, k), np.ones(len(PROSPECTS))])
        ids, weights = terms
        # one encoder made both tiers, so term ids are the same in both
        known = (ids >= 0) & (ids < min(self.first.layout.counts.terms, self.second.layout.counts.terms))
        ids = ids[known]
        return signs(kept.scores, weights[known], _lists(self.first, ids), _lists(self.second, ids), k)

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

    def candidates(self, query: Query, k: int, *, explain: bool = False) -> TieredResult:
        """The k best passages of both tiers, for a stage that scores them again.

        With a margin test as `search`. Without one both tiers are searched. Where their scores do not compare, the
        passages of the second take the scores that the first has where they would stand, were the tiers samples of one
        ranking: its j-th at rank (j + 1/2) * len(first) / len(second), and below the first tier's last where that is
        shorter.
        """
        if self.test is not None or self.comparable:
            return self.search_uncalibrated(query, k, explain=explain)
        kept = self.first.search(query, k, explain=explain)
        pruned = self.second.search(query, k, explain=explain)
        ranks = (np.arange(len(pruned)) + 0.5) * len(self.first) / max(1, len(self.second))
        if len(kept):
            beyond = kept.scores[-1] * len(kept) / np.maximum(ranks + 1, len(kept))
            placed = np.where(ranks <= len(kept) - 1, np.interp(ranks, np.arange(len(kept)), kept.scores), beyond)
        else:
            placed = pruned.scores
        rows = [(1, i) for i in range(len(kept))] + [(2, i) for i in range(len(pruned))]
        scores = np.concatenate([kept.scores, placed])
        order = np.argsort(-scores, kind="stable")[:k]
        return TieredResult((kept, pruned), [rows[i] for i in order], scores[order], fell_through=True)

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


def calibrate(tiers: TieredSearcher, queries: Sequence[Query], rate: float, *, k: int = 10) -> MarginTest:
    """A margin test that lets about `rate` of queries like these fall through, the ones that miss most.

    Both tiers are searched for every query; no judgments are needed. Queries that decided what was pruned miss
    less than others will: keep some of the log for this.
    """
    table, missed = [], []
    for query in queries:
        terms = tiers.first.terms(query)
        kept = tiers.first.search(terms, k)
        joint = tiers.search(query, k, second="always")
        table.append(tiers.signs(terms, kept, k))
        missed.append(missed_share(kept.docnos, joint.docnos, k))
    return MarginTest.fit(np.array(table).reshape(-1, len(SIGNS)), np.array(missed), rate, k)


def _lists(searcher: Searcher, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """What an index says of its terms' lists, float64[terms, len(LISTS)].

    Raises:
        DamagedArtifactError: its lists are not those its counts tell of.
    """
    layout = searcher.layout
    starts, rows, postings = layout.starts, layout.rows[ids], layout.postings_of(ids)
    impacts = np.zeros((len(ids), 2))
    impacts[rows >= 0] = layout.kth[rows[rows >= 0], :2]
    for i in np.flatnonzero(rows < 0).tolist():  # too short for a row, and for a tenth posting
        impacts[i, 0] = layout.impacts[starts[ids[i]] : starts[ids[i] + 1]].max(initial=0)
    return np.concatenate([impacts * layout.counts.scale, postings[:, None].astype(np.float64)], axis=1)


def _encoder_of(searcher: Searcher) -> str:
    """Fingerprint of the encoder an index was made by, empty where it has none."""
    if not (searcher.layout.path / "encoder").is_dir():
        return ""
    return str(searcher.encoder.fingerprint)
