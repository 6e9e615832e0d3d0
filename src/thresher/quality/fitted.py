"""An estimator whose weights were fitted: columns of a passage, and a head that turns them into one score.

The columns are standardised by the collection they are used on, not by the one they were fitted on: what carries over
from one collection to another is which passages are long, wordy or odd *for their collection*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import InputError
from thresher.quality.estimator import digest
from thresher.quality.features import FEATURES, feature_columns
from thresher.quality.head import LinearHead, PerceptronHead
from thresher.quality.words import CollectionStatistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Head = LinearHead | PerceptronHead


@dataclass(frozen=True)
class FittedEstimator:
    """Lexical columns through a fitted head.

    Attributes:
        name: what it is called.
        head: from standardised columns to a score.
        columns: names of the columns the head reads, of `features.FEATURES`.
        statistics: word counts of the collection at hand.
        mean, scale: float64[columns], the columns' moments in the collection at hand.
    """

    name: str
    head: Head
    columns: tuple[str, ...]
    statistics: CollectionStatistics
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    def __post_init__(self) -> None:
        unknown = [c for c in self.columns if c not in FEATURES]
        if unknown:
            raise InputError(f"unknown feature {unknown[0]!r}; known are: {', '.join(FEATURES)}")

    @classmethod
    def on(cls, texts: Iterable[str], head: Head, columns: Sequence[str], name: str = "fitted") -> FittedEstimator:
        """The head, used on the collection `texts` (held in memory while its moments are taken)."""
        held = list(texts)
        statistics = CollectionStatistics.of(held)
        table = select(feature_columns(held, statistics), columns)
        mean, scale = moments(table)
        return cls(name, head, tuple(columns), statistics, mean, scale)

    @property
    def fingerprint(self) -> str:
        """Of the head, the columns and the collection."""
        return digest(
            "fitted", 1, list(self.columns), self.head.fingerprint, self.statistics.fingerprint, self.mean, self.scale
        )

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n], higher is more worth indexing."""
        table = select(feature_columns(texts, self.statistics), self.columns)
        return self.head.predict((table - self.mean) / self.scale).astype(np.float32)

    def save(self, directory: Path) -> dict[str, Any]:
        """Write the word counts beside, and return the rest as plain JSON."""
        self.statistics.save(directory / "words.tsv")
        return {
            "name": self.name,
            "columns": list(self.columns),
            "head": self.head.as_json(),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
        }

    @classmethod
    def load(cls, document: Mapping[str, Any], directory: Path) -> FittedEstimator:
        """Read what `save` wrote."""
        return cls(
            str(document["name"]),
            read_head(document["head"]),
            tuple(document["columns"]),
            CollectionStatistics.load(directory / "words.tsv"),
            np.array(document["mean"], np.float64),
            np.array(document["scale"], np.float64),
        )


def read_head(document: Mapping[str, Any]) -> Head:
    """A head from its JSON.

    Raises:
        ValueError: the kind of head is unknown.
    """
    kinds: dict[str, type[LinearHead] | type[PerceptronHead]] = {"linear": LinearHead, "perceptron": PerceptronHead}
    if document["kind"] not in kinds:
        raise ValueError(f"unknown head {document['kind']!r}")
    return kinds[document["kind"]].from_json(document)


def select(table: NDArray[np.float64], columns: Sequence[str]) -> NDArray[np.float64]:
    """The named columns of a feature table."""
    return table[:, [FEATURES.index(c) for c in columns]]


def moments(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each column; a constant column has the deviation 1."""
    if not len(table):
        raise InputError("the collection has no passages: there is nothing to standardise by")
    deviation = table.std(axis=0)
    return table.mean(axis=0), np.where(deviation > 1e-9, deviation, 1.0)
