"""HybRank: candidates reranked by their similarities to each other, learned from your judgments (arXiv 2210.07820).

    model = train_hybrank(run, queries, qrels, index)          # thresher.rerank.hybrank_training
    model.save("my-hybrank")
    reranker = Reranker.from_name("hybrank:my-hybrank", index="my-index")

The first passages of the first stage are anchors. A relevant passage is similar to the anchors that the query is
similar to, by every retriever of the index (`thresher.rerank.similarities`). No language model is read: of each
candidate some thirty numbers are computed from the similarities of query, candidates and anchors, and a small network
rates it by them. The paper's transformer over all similarities learns these numbers itself; ours are written down
(`features`), and the network needs no more than numpy.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.artifact import read_manifest, writing
from thresher.errors import ConfigError, DamagedArtifactError, InputError
from thresher.files import UNREADABLE_ARRAYS
from thresher.rerank.plans.plan import Answer, Rate
from thresher.rerank.similarities import IndexSimilarities, Similarities

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.llm.client import Client
    from thresher.records import Hit, Query
    from thresher.rerank.plans.plan import Comparison
    from thresher.search.index import Index

    Floats = NDArray[np.float64]

KIND, FORMAT = "hybrank", 1
WEIGHTS = "weights.npz"
ANCHORS = (3, 5, 10, 20, 50)
"""How many first passages are the anchors of each mean."""
NEIGHBOURS = 5
PROFILE = 20
_FIRST = ("rank", "score", "score in its range")
_OF_EACH = (
    "to the query",
    *(f"mean to {count} anchors" for count in ANCHORS),
    "to anchors by score",
    "to anchors by twice the score",
    "nearest",
    f"nearest {NEIGHBOURS}",
    "score of neighbours, weighted",
    f"score of {NEIGHBOURS} nearest",
    "profile",
    f"profile of {PROFILE} anchors",
)


def feature_names(retrievers: Sequence[str]) -> list[str]:
    """What the columns of `features` are."""
    return [*_FIRST, *(f"{name}: {column}" for name in retrievers for column in _OF_EACH)]


def features(scores: Floats, similarities: Sequence[Similarities]) -> NDArray[np.float32]:
    """float32[n, features]: what the network reads of each candidate; names as `feature_names` gives them.

    Similarities and scores are standardised within the list, so that no retriever's scale matters. "Profile" is the
    correlation between the query's and the candidate's similarities to the anchors.

    Args:
        scores: of the first stage, float64[n], in its order.
        similarities: of each retriever.
    """
    n = len(scores)
    if not n:
        return np.empty((0, len(_FIRST) + len(similarities) * len(_OF_EACH)), np.float32)
    own = _standardised(scores)
    columns = [-np.log2(2 + np.arange(n)), own, (scores - scores.min()) / (np.ptp(scores) + 1e-9)]
    for one in similarities:
        columns += _of_retriever(own, one)
    return np.stack(columns, 1).astype(np.float32)


def _of_retriever(first: Floats, one: Similarities) -> list[Floats]:
    """The columns of one retriever; `first` are the standardised first-stage scores."""
    n = len(first)
    others = one.passages.copy()
    np.fill_diagonal(others, 0.0)
    columns = [_standardised(one.query)]
    for count in ANCHORS:
        m = min(count, n)
        known = np.full(n, float(m))
        known[:m] -= 1  # a candidate is not its own anchor
        columns.append(_standardised(others[:, :m].sum(1) / np.maximum(known, 1)))
    for sharpness in (1.0, 2.0):
        weights = np.exp(sharpness * (first - first.max()))
        weights /= weights.sum()
        columns.append(_standardised(others @ weights / np.maximum(1 - weights, 1e-9)))
    order = np.argsort(-others, axis=1, kind="stable")[:, :NEIGHBOURS]
    nearest = np.take_along_axis(others, order, axis=1)
    columns += [_standardised(nearest[:, 0]), _standardised(nearest.mean(1))]
    near = np.maximum(others, 0) ** 2
    columns += [_standardised(near @ first / (near.sum(1) + 1e-9)), _standardised(first[order].mean(1))]
    columns += [_correlation(one.passages, one.query), _correlation(one.passages[:, :PROFILE], one.query[:PROFILE])]
    return columns


def _standardised(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / (values.std() + 1e-6))


def _correlation(rows: Floats, query: Floats) -> Floats:
    """float64[n]: of each row and the query."""
    centred, asked = rows - rows.mean(1, keepdims=True), query - query.mean()
    lengths = np.linalg.norm(centred, axis=1) * np.linalg.norm(asked)
    return np.asarray(centred @ asked / (lengths + 1e-9))


@dataclass(frozen=True, slots=True)
class HybRank:
    """A trained reranker; `thresher.rerank.hybrank_training.train_hybrank` makes one.

    Attributes:
        retrievers: whose similarities it reads.
        layers: of each of its networks, which are averaged: float32[features, hidden], [hidden], [hidden], with one
            hidden layer of rectified units.
        about: how it was trained, plain JSON.
    """

    retrievers: tuple[str, ...]
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]], ...]
    about: dict[str, object]

    def scores(self, rows: NDArray[np.float32]) -> Floats:
        """float64[n]: ratings of candidates by their `features`."""
        rated = [np.maximum(rows @ first + bias, 0) @ second for first, bias, second in self.layers]
        return np.asarray(np.mean(rated, axis=0, dtype=np.float64))

    def rate(self, query: Query, candidates: Sequence[Hit], similarities: IndexSimilarities) -> Floats:
        """float64[n]: ratings of the candidates, which come in first-stage order with their scores.

        Raises:
            ConfigError: the index lacks a retriever.
            InputError: a candidate is not in the index.
        """
        given = np.array([hit.score for hit in candidates], np.float64)
        docnos = [hit.docno for hit in candidates]
        return self.scores(features(given, similarities.of(query, docnos, self.retrievers)))

    @checked_call
    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the directory `path`.

        Raises:
            ArtifactError: there is something else at `path`.
        """
        with writing(path, kind=KIND, format=FORMAT, overwrite=overwrite) as draft:
            arrays = {f"{part}{number}": array for number, layers in enumerate(self.layers)
                      for part, array in zip("abc", layers, strict=True)}  # fmt: skip
            np.savez(draft.path / WEIGHTS, **arrays)  # type: ignore[arg-type]  # keywords are arrays' names
            draft.fields |= {"retrievers": list(self.retrievers), "networks": len(self.layers), "about": self.about}

    @classmethod
    @checked_call
    def open(cls, path: str | Path) -> HybRank:
        """Open what `save` wrote.

        Raises:
            ArtifactError: it is not there, is something else, or is damaged.
        """
        from pathlib import Path as File

        manifest = read_manifest(path, kind=KIND, format=FORMAT)
        retrievers, file = tuple(manifest.fields["retrievers"]), File(path) / WEIGHTS
        width = len(feature_names(retrievers))
        try:
            with np.load(file, allow_pickle=False) as held:
                layers = tuple(
                    (held[f"a{n}"], held[f"b{n}"], held[f"c{n}"]) for n in range(int(manifest.fields["networks"]))
                )
        except UNREADABLE_ARRAYS as err:
            raise DamagedArtifactError(str(file), f"its arrays cannot be read ({err}); train the model again") from None
        if any(first.shape != (width, len(bias)) or bias.shape != second.shape for first, bias, second in layers):
            raise DamagedArtifactError(str(file), f"its layers are not of {width} features; train the model again")
        return cls(retrievers, layers, dict(manifest.fields["about"]))


class HybRankJudge:
    """Rates the candidates of a query by a `HybRank` and the index they were found in. Answers `Rate` alone.

    No request goes through the client, so it costs no calls and no tokens.

    Args:
        model: a trained model, or the directory of one.
        index: the index, or its directory.
    """

    rates_only = True
    reads_text = False
    comparisons_per_call = 1 << 20

    @checked_call
    def __init__(self, model: HybRank | str | Path, *, index: Index | str | Path | None = None) -> None:
        if index is None:
            raise ConfigError("hybrank compares passages by the index they were found in; give it as index (--index)")
        self._name = str(model) if not isinstance(model, HybRank) else "trained here"
        self._model = model if isinstance(model, HybRank) else HybRank.open(model)
        self._similarities = IndexSimilarities(index)

    @property
    def name(self) -> str:
        """The model."""
        return f"hybrank({self._name})"

    async def answer(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """Rate the passages of the comparisons, by all candidates.

        Raises:
            InputError: a comparison is not a `Rate`, or a candidate is not in the index.
        """
        del client
        for one in comparisons:
            if not isinstance(one, Rate):
                raise InputError(
                    f"{self.name} only rates single passages and cannot answer {type(one).__name__}; use the plan "
                    "`pointwise`"
                )
        rated = await asyncio.to_thread(self._model.rate, query, candidates, self._similarities)
        return [Answer((one.items,), score=float(rated[one.items[0]])) for one in comparisons]
