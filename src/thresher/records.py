"""The values that pass between stages: frozen, checked when made, without other behaviour.

Nothing here imports numpy at run time, so that `import thresher` stays light.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.errors import ConfigError, InputError

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
_HALF = re.compile("[\ud800-\udfff]")


def shown(value: object) -> str:
    """A value as an error message shows it: its `repr` on one line, shortened."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 80 else f"{text[:77]}..."


_CONTROLS = {
    **dict.fromkeys((*range(32), *range(127, 160), *range(55296, 57344)), "�"),
    **dict.fromkeys((8234, 8235, 8237, 8238, 8294, 8295, 8296), "�"),
    **{code: chr(code) for code in b"\n\t"},
}


def printable(text: str) -> str:
    """`text` without what could move the cursor, change the terminal or reorder what stands beside it.

    Controls, halves of surrogate pairs, and embeddings, overrides and isolates of direction become U+FFFD. All else
    stays, among it no-break spaces, joiners and soft hyphens, which belong to texts; a line end is one character.
    """
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def is_a(value: object, *kinds: type) -> bool:
    """Whether `value` is of one of `kinds`, for checks of arguments whose type says so already."""
    return isinstance(value, kinds)


def whole(name: str, value: object, least: int = 0) -> int:
    """`value` as an int.

    Raises:
        InputError: it is not a whole number, or below `least`; the message calls it `name`.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} must be a whole number, at least {least}; got {shown(value)}")
    return int(value)


def real(name: str, value: object, least: float, most: float = float("inf")) -> float:
    """`value` as a finite float from `least` to `most`.

    Raises:
        InputError: it is something else; the message calls it `name`.
    """
    try:
        if not isinstance(value, bool) and isinstance(value, Real):
            number = float(value)
            if least <= number <= most and abs(number) != float("inf"):
                return number
    except OverflowError:  # a whole number beyond every float
        pass
    bounds = "of any size" if least == float("-inf") else f"at least {least:g}"
    bounds += "" if most == float("inf") else f" and at most {most:g}"
    raise InputError(f"{name} must be a finite number, {bounds}; got {shown(value)}")


def one_of(name: str, value: object, choices: Iterable[str]) -> None:
    """Check a choice.

    Raises:
        ConfigError: `value` is none of `choices`; the message calls it `name`.
    """
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise ConfigError(f"unknown {name} {shown(value)}; use {', '.join(known[:-1])} or {known[-1]}")


def strings(name: str, values: object) -> list[str]:
    """`values` as a list of str.

    Raises:
        InputError: it is one string, or holds something else; the message calls it `name`.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable) or getattr(values, "shape", None) == ():
        raise InputError(f"{name} must be a list of strings; got {shown(values)}")
    made = list(values)
    for value in made:
        if not isinstance(value, str):
            raise InputError(f"{name} must be strings; got {shown(value)}")
    return made


def sound(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, which no encoder takes; most texts are as they are."""
    if text.isascii() or not _HALF.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def path_of(value: object) -> Path:
    """`value` as a path.

    Raises:
        InputError: it is not the name of a file or directory.
    """
    try:
        if isinstance(value, str | os.PathLike) and b"\0" not in (name := os.fsencode(value)) and name:
            return Path(os.fsdecode(name))
    except UnicodeEncodeError:
        pass
    raise InputError(f"a path must be a str or a Path that can name a file; got {shown(value)}")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text to index.

    Attributes:
        docno: the identifier; not empty and without white space, which separates the columns of TREC files.
        text: the text.
        title: a title or heading, empty where there is none.
        metadata: the source's other fields, as strings.

    Raises:
        InputError: the docno is empty or has white space, or a field has another type.
    """

    docno: str
    text: str
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

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
    """

    docno: str
    score: float
    rank: int
    text: str = ""
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


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
    """

    stage: str
    seconds: float
    counts: Mapping[str, Count] = field(default_factory=dict)


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
