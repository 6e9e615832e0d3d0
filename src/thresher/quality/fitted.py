"""Estimators whose weights were fitted: features of a passage, and a head that turns them into one score.

Features are standardised on the collection at hand, not on the one the head was fitted on: what transfers from one
collection to another is which passages are long, wordy or odd *for their collection*.

`embedded`, the default, is such an estimator with weights that ship: a few kilobytes, no model and no network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ConfigError, InputError
from thresher.models.files import shipped_weights
from thresher.quality.estimator import QualityEstimator, chunks, digest, no_argument, rereadable
from thresher.quality.features import FEATURES, feature_columns
from thresher.quality.head import LinearHead, PerceptronHead
from thresher.quality.lexical import CollectionStatistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Head = LinearHead | PerceptronHead


@dataclass(frozen=True)
class FittedEstimator(QualityEstimator):
    """Features through a fitted head.

    Attributes:
        label: the estimator's name.
        head: from standardised features to a score.
        columns: names of the features the head takes, of `features.FEATURES`.
        statistics: word counts of the collection at hand.
        mean, scale: float64[columns], mean and standard deviation of the features in the collection at hand.
    """

    label: str
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
        """The head, standardised on the collection `texts`.

        Reads the texts twice, in chunks; their features (8 bytes each) are in memory meanwhile.

        Raises:
            InputError: there are no texts, or a column is unknown.
        """
        kept = rereadable(texts)
        statistics = CollectionStatistics.of(kept)
        tables = [select(feature_columns(chunk, statistics), columns) for chunk in chunks(kept)]
        mean, scale = moments(np.concatenate(tables) if tables else np.zeros((0, len(columns))))
        return cls(name, head, tuple(columns), statistics, mean, scale)

    @property
    def name(self) -> str:
        """The label."""
        return self.label

    @property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the head, the columns and the collection."""
        return digest(
            "fitted", 1, list(self.columns), self.head.fingerprint, self.statistics.fingerprint, self.mean, self.scale
        )

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n], higher is more worth indexing."""
        table = select(feature_columns(texts, self.statistics), self.columns)
        return self.head.predict((table - self.mean) / self.scale).astype(np.float32)

    @property
    def can_save(self) -> bool:
        """True."""
        return True

    def document(self, directory: Path) -> dict[str, object]:
        """The head and the moments; word counts go to `words.tsv`."""
        self.statistics.save(directory / "words.tsv")
        return {
            "type": "fitted",
            "name": self.label,
            "columns": list(self.columns),
            "head": self.head.as_json(),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
        }

    @classmethod
    def read(cls, document: Mapping[str, Any], directory: Path) -> FittedEstimator:
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
    """The named columns of a table of `FEATURES`."""
    return table[:, [FEATURES.index(c) for c in columns]]


def moments(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column; 1 for the deviation of a constant column."""
    if not len(table):
        raise InputError("the collection has no passages to standardise features on")
    deviation = table.std(axis=0)
    return table.mean(axis=0), np.where(deviation > 1e-9, deviation, 1.0)


def open_embedded(argument: str = "", *, texts: Iterable[str] | None = None) -> FittedEstimator:
    """What `QualityEstimator.from_name` calls for `embedded`: the shipped weights, standardised on `texts`.

    Raises:
        ConfigError: no texts, or an argument.
        InputError: `texts` is empty.
    """
    no_argument("embedded", argument)
    if texts is None:
        raise ConfigError("the estimator 'embedded' compares passages with their collection; give texts=")
    head, columns = _shipped()
    return FittedEstimator.on(texts, head, columns, "embedded")


@lru_cache(maxsize=1)
def _shipped() -> tuple[Head, tuple[str, ...]]:
    document = json.loads((shipped_weights() / "quality-embedded" / "head.json").read_text(encoding="utf-8"))
    return read_head(document["head"]), tuple(document["columns"])
