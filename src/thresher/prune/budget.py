"""Budgets in the units people have them in: bytes of index, hours of encoding.

What a passage costs is taken from what was measured: bytes or seconds a word, from an index or an encoding run that
exists, times the passage's words. A budget over such costs is kept by `Policy(budget=...)`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import ConfigError
from thresher.quality.lexical import words_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SECONDS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
_BUDGET = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]+)\s*$")


def parse_budget(text: str) -> tuple[float, str]:
    """`2 GB` gives (2e9, "bytes"), `3 hours` gives (10800.0, "seconds").

    Raises:
        ConfigError: the text is not a number with a unit of bytes or time.
    """
    found = _BUDGET.match(text)
    unit = found.group(2).lower() if found else ""
    if found and unit in _BYTES:
        return float(found.group(1)) * _BYTES[unit], "bytes"
    singular = unit if unit in _SECONDS else unit.removesuffix("s")
    if found and singular in _SECONDS:
        return float(found.group(1)) * _SECONDS[singular], "seconds"
    raise ConfigError(f"budget {text!r} is not a number and a unit, such as '2 GB', '500 MiB', '3 hours' or '90 min'")


def costs_by_words(texts: Iterable[str], total: float, words: int) -> NDArray[np.float64]:
    """What each text costs where `words` words cost `total` (bytes, seconds), float64[n]; an empty text counts a word.

    Raises:
        ConfigError: the measurement is not of some words and some cost.
    """
    if words <= 0 or not total > 0:
        raise ConfigError(f"a rate needs a measurement: {total} for {words} words is none")
    return np.array([max(len(words_of(text)), 1) for text in texts], np.float64) * (total / words)
