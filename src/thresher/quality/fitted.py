"""Estimators whose weights were fitted: features of a passage, and a head that turns them into one score.

Features are standardised on the collection at hand, not on the one the head was fitted on: what transfers from one
collection to another is which passages are long, wordy or odd *for their collection*.

A head is linear, or a perceptron with one hidden layer. It clips standardised features at four deviations, so that no
single outlier decides. Heads only predict here; `thresher.quality.fit` fits them.

`embedded`, the default, is such an estimator with weights that ship: a few kilobytes, no model and no network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.errors import ConfigError, InputError
from thresher.models.files import shipped_weights
from thresher.quality.estimator import QualityEstimator, chunks, digest, no_argument, rereadable
from thresher.quality.lexical import FEATURES, CollectionStatistics, feature_columns
from thresher.quality.moments import Moments

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.quality.estimator import Json

CLIP = 4.0


def standardise(
    columns: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Columns with this mean and scale, clipped at `CLIP` deviations."""
    return np.clip((columns - mean) / scale, -CLIP, CLIP)


@dataclass(frozen=True, slots=True)
class LinearHead:
    """weights · standardised columns + bias.

    Attributes:
        mean, scale, weights: float64[columns].
        bias: added to every score.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: float = 0.0

    def predict(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[n] of float64[n, columns]."""
        result: NDArray[np.float64] = standardise(columns, self.mean, self.scale) @ self.weights + self.bias
        return result

    @property
    def fingerprint(self) -> str:
        """Sha256 (hex) of all numbers."""
        return digest("linear-head", 1, self.mean, self.scale, self.weights, self.bias)

    def as_json(self) -> dict[str, object]:
        """Plain JSON that `from_json` reads."""
        return {
            "kind": "linear",
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "weights": self.weights.tolist(),
            "bias": self.bias,
        }

    @classmethod
    def from_json(cls, document: Json) -> LinearHead:
        """Read what `as_json` wrote."""
        arrays = [np.array(document[key], np.float64) for key in ("mean", "scale", "weights")]
        return cls(arrays[0], arrays[1], arrays[2], float(document["bias"]))


@dataclass(frozen=True, slots=True)
class PerceptronHead:
    """One hidden layer of ReLU units over standardised columns.

    Attributes:
        mean, scale: float64[columns].
        inner: float64[columns + 1, hidden]; the last row is the bias.
        outer: float64[hidden + 1]; the last entry is the bias.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    inner: NDArray[np.float64]
    outer: NDArray[np.float64]

    def predict(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[n] of float64[n, columns]."""
        x = standardise(columns, self.mean, self.scale)
        hidden = np.maximum(x @ self.inner[:-1] + self.inner[-1], 0)
        result: NDArray[np.float64] = hidden @ self.outer[:-1] + self.outer[-1]
        return result

    @property
    def fingerprint(self) -> str:
        """Sha256 (hex) of all numbers."""
        return digest("perceptron-head", 1, self.mean, self.scale, self.inner, self.outer)

    def as_json(self) -> dict[str, object]:
        """Plain JSON that `from_json` reads."""
        names = ("mean", "scale", "inner", "outer")
        return {"kind": "perceptron", **{name: getattr(self, name).tolist() for name in names}}

    @classmethod
    def from_json(cls, document: Json) -> PerceptronHead:
        """Read what `as_json` wrote."""
        mean, scale, inner, outer = (np.array(document[key], np.float64) for key in ("mean", "scale", "inner", "outer"))
        return cls(mean, scale, inner, outer)


Head = LinearHead | PerceptronHead


@dataclass(frozen=True)
class FittedEstimator(QualityEstimator):
    """Features through a fitted head.

    Attributes:
        label: the estimator's name.
        head: from standardised features to a score.
        columns: names of the features the head takes, of `FEATURES`.
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

        Reads the texts twice, in chunks.

        Raises:
            InputError: there are no texts, or a column is unknown.
        """
        kept = rereadable(texts)
        statistics = CollectionStatistics.of(kept)
        mean, scale = moments_of(kept, statistics, columns).mean_and_scale()
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

    @checked_call
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
    def read(cls, document: Json, directory: Path) -> FittedEstimator:
        """Read what `save` wrote."""
        return cls(
            str(document["name"]),
            read_head(document["head"]),
            tuple(document["columns"]),
            CollectionStatistics.load(directory / "words.tsv"),
            np.array(document["mean"], np.float64),
            np.array(document["scale"], np.float64),
        )


def read_head(document: Json) -> Head:
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


def moments_of(texts: Iterable[str], statistics: CollectionStatistics, columns: Sequence[str]) -> Moments:
    """Sums of the named features of texts, which are read in chunks."""
    found = Moments.none(len(columns))
    for chunk in chunks(texts):
        found.add(select(feature_columns(chunk, statistics), columns))
    return found


def moments(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column; 1 for the deviation of a constant column."""
    found = Moments.none(table.shape[1])
    found.add(table)
    return found.mean_and_scale()


def open_embedded(argument: str = "", *, texts: Iterable[str] | None = None) -> FittedEstimator:
    """What `QualityEstimator.from_name` calls for `embedded`: the shipped weights, standardised on `texts`.

    Raises:
        ConfigError: no texts, or an argument.
        InputError: `texts` is empty.
    """
    no_argument("embedded", argument)
    if texts is None:
        raise ConfigError("the estimator 'embedded' compares passages with their collection; give texts=")
    head, columns = shipped_head()
    return FittedEstimator.on(texts, head, columns, "embedded")


@lru_cache(maxsize=1)
def shipped_head() -> tuple[Head, tuple[str, ...]]:
    """The head of `embedded`, and the features it takes."""
    document = json.loads((shipped_weights() / "quality-embedded" / "head.json").read_text(encoding="utf-8"))
    return read_head(document["head"]), tuple(document["columns"])
