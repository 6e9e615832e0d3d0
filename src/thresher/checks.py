"""Checks of one value from outside, and how a message shows it.

Which to use: a public call whose annotations say it all takes `@checked_call` (`thresher.arguments`), which checks
every argument by its type. These are for the rest: a range that a type cannot say (`whole`, `real`), one of several
names (`one_of`), lists and arrays that become something else (`strings`, `places`, `floats`, `path_of`), fields of
records, and calls for which a decorator would cost too much. Each names what it checks and shows the value (`shown`).

`sound` and `printable` refuse nothing: they make any text fit for an encoder, and for a terminal. Nothing here imports
numpy before an array is checked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.errors import ConfigError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

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


def places(values: ArrayLike) -> NDArray[np.int64]:
    """Whole numbers as int64[n].

    Raises:
        InputError: they are something else.
    """
    import numpy as np

    try:
        made = np.asarray(values)
        if made.ndim == 1 and (made.dtype.kind in "iu" or not made.size):
            return made.astype(np.int64, copy=False)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"expected a list of whole numbers; got {shown(values)}")


def floats(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Numbers as float64[n].

    Raises:
        InputError: they are something else; the message calls them `name`.
    """
    import numpy as np

    try:
        made = np.asarray(values)
        if made.dtype.kind not in "biufO" or made.ndim != 1:
            raise TypeError(f"not {made.dtype}{list(made.shape)}")
        made = made.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError) as err:
        raise InputError(f"{name} must be numbers ({err}); got {shown(values)}") from err
    return made
