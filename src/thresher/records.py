"""The values that pass between stages: frozen, checked when made, without other behaviour.

Nothing here imports numpy at run time, so that `import thresher` stays light.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING

from thresher.checks import is_a, shown
from thresher.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Hit",
    "Passage",
    "Qrels",
    "Query",
    "Span",
    "SparseBatch",
    "StageUsage",
    "Usage",
]

Count = int | float


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text to index.

    Attributes:
        docno: the identifier; not empty and without white space, which separates the columns of TREC files.
        text: the text.
        title: a title or heading, empty where there is none.
        metadata: the source's other fields, as JSON has them: text, numbers, true and false, lists, objects.

    Raises:
        InputError: the docno is empty or has white space, or a field has another type.
    """

    docno: str
    text: str
    title: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (is_a(self.docno, str) and is_a(self.text, str) and is_a(self.title, str)):
            fields = f"docno {shown(self.docno)}, title {shown(self.title)}, text {shown(self.text)}"
            raise InputError(f"docno, title and text of a passage are strings; got {fields}")
        if not is_a(self.metadata, Mapping):
            raise InputError(f"the metadata of passage {self.docno!r} is not a mapping: {shown(self.metadata)}")
        if not self.docno or self.docno.split() != [self.docno]:
            raise InputError(
                f"docno {self.docno!r} is empty or has white space, which TREC run files do not allow; "
                "use another identifier field or replace the white space"
            )

    @property
    def contents(self) -> str:
        """Title and text joined by a space: the input of encoders."""
        return f"{self.title} {self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Query:
    """A query and its identifier in runs and qrels.

    Raises:
        InputError: one is not a string.
    """

    qid: str
    text: str

    def __post_init__(self) -> None:
        if not (is_a(self.qid, str) and is_a(self.text, str)):
            raise InputError(f"qid and text of a query are strings; got {shown(self.qid)} and {shown(self.text)}")


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found for a query.

    Attributes:
        docno: the passage's identifier.
        score: higher is better; its scale depends on the stage.
        rank: 1-based.
        text: the passage's text, empty where the index stores none.
        title: its title, empty where there is none.
        metadata: the passage's other fields.
        aliases: docnos of the duplicates that were folded into the passage when the index was built.
    """

    docno: str
    score: float
    rank: int
    text: str = ""
    title: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Qrels:
    """Relevance judgments: qid to docno to grade."""

    judgments: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class SparseBatch:
    """Weighted terms of n texts in compressed-row form.

    Within a row, terms are distinct and ascend, and weights are finite and positive.

    Attributes:
        indptr: int64[n + 1], ascending from 0; row i is `terms[indptr[i]:indptr[i + 1]]`.
        terms: uint32[nnz], ids into the encoder's vocabulary.
        weights: float32[nnz].
    """

    indptr: NDArray[np.int64]
    terms: NDArray[np.uint32]
    weights: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name, wanted in (("indptr", "int64"), ("terms", "uint32"), ("weights", "float32")):
            array = getattr(self, name)
            if str(getattr(array, "dtype", "")) != wanted or array.ndim != 1:
                given = f"{array.dtype}{array.shape}" if hasattr(array, "dtype") else shown(array)
                raise InputError(f"SparseBatch.{name} is {given}, expected one-dimensional {wanted}")
        n = self.indptr.shape[0] - 1
        if n < 0 or self.indptr[0] != 0 or self.indptr[n] != self.terms.shape[0]:
            raise InputError("SparseBatch.indptr must start at 0 and end at the number of terms")
        if n > 1 and bool((self.indptr[1:] < self.indptr[:-1]).any()):
            raise InputError("SparseBatch.indptr does not ascend")
        if self.terms.shape != self.weights.shape:
            raise InputError(f"SparseBatch has {self.terms.shape[0]} terms but {self.weights.shape[0]} weights")

    def __len__(self) -> int:
        return int(self.indptr.shape[0]) - 1


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range of Unicode code points of some text."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not (is_a(self.start, Integral) and is_a(self.end, Integral) and 0 <= self.start <= self.end):
            raise InputError(f"span [{shown(self.start)}, {shown(self.end)}) does not satisfy 0 <= start <= end")


@dataclass(frozen=True, slots=True)
class StageUsage:
    """What one stage did: its name, how long it took, and what it counted.

    Attributes:
        stage: the stage's name (`encode`, `search`, `rerank`).
        seconds: wall-clock seconds.
        counts: what went in, came out or was spent, by name (`passages`, `postings`, `bytes`, `calls`).
        engine: what its model ran on (`thresher.models.backend`), empty where it has none or does not say.
    """

    stage: str
    seconds: float
    counts: Mapping[str, Count] = field(default_factory=dict)
    engine: str = ""

    def as_json(self) -> dict[str, object]:
        """Plain JSON; an engine only where there is one."""
        engine = {"engine": self.engine} if self.engine else {}
        return {"stage": self.stage, "seconds": self.seconds, "counts": dict(self.counts), **engine}


@dataclass(frozen=True, slots=True)
class Usage:
    """What the stages of a build or a query used, in the order they ran."""

    stages: tuple[StageUsage, ...] = ()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds over all stages."""
        return sum(stage.seconds for stage in self.stages)

    def with_stage(self, stage: str, seconds: float, **counts: Count) -> Usage:
        """A copy with one more stage."""
        return Usage((*self.stages, StageUsage(stage, seconds, counts)))
