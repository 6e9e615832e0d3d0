"""The check of a value by its type, for each kind of type that annotations of public calls name.

A check gives the value to pass on, or raises `Mismatch`. `thresher.arguments` applies them to the arguments of a call.
"""

from __future__ import annotations

import inspect
import math
import os
import sys
import types
import typing
from collections import abc
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from thresher.checks import shown
from thresher.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[object], object]
    """Gives the value to pass on, or raises `Mismatch`."""


_MOST = 2**63 - 1


class Mismatch(Exception):  # noqa: N818  (public calls raise InputError in its place)
    """Says what the value must be, and which one: `at` is `[1]` for the second item of a list, empty for the whole."""

    def __init__(self, wanted: str, *, found: str = "", at: str = "") -> None:
        super().__init__(wanted)
        self.wanted, self.found, self.at = wanted, found, at


MAY_BE_SECRET = frozenset({"key", "base_url"})
"""Arguments of which a message names the type alone."""


def passed(check: Check, name: str, value: object) -> object:
    """What a check gives for a value.

    Raises:
        InputError, ConfigError: the value does not pass; the message calls it `name`.
    """
    try:
        value = check(value)
        if isinstance(value, float) and math.isnan(value):  # inside a container it may be a score that is missing
            raise Mismatch("a number")
        return value
    except Mismatch as err:
        if err.wanted.startswith("one of "):
            raise ConfigError(f"unknown {name}{err.at} {err.found or shown(value)}; choose {err.wanted}") from None
        found = type(value).__name__ if name in MAY_BE_SECRET else err.found or shown(value)
        raise InputError(f"{name}{err.at} must be {err.wanted}, got {found}") from None


def check_of(kind: Any) -> Check | None:  # noqa: PLR0911, PLR0912  (one line a kind)
    """The check of a type; None where everything passes."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is None or kind is type(None):
        return _nothing
    if any(getattr(get_origin(one), "__name__", "") == "_SupportsArray" for one in inner):  # ArrayLike is a union
        return partial(_any_of, (_array_like, _nothing)) if type(None) in inner else _array_like
    if kind in _SCALARS:
        return _SCALARS[kind]
    if origin in (Union, types.UnionType):
        return _union(inner)
    if origin is Literal:
        return partial(_choice, inner)
    if origin is typing.Annotated:
        return check_of(inner[0])
    if inner[1:] == (...,) and origin is tuple:
        return partial(_several, tuple, check_of(inner[0]))
    if origin is tuple or kind is tuple:
        return partial(_tuple, tuple(map(check_of, inner)))
    if _is_array(origin):
        return partial(_array, getattr(get_args(inner[1])[0], "__name__", ""))
    if origin is abc.Callable or kind is abc.Callable:
        return _callable
    wanted = origin or kind
    if (
        isinstance(wanted, type)
        and issubclass(wanted, abc.Mapping)
        and wanted.__module__ in ("collections.abc", "builtins")
    ):
        return partial(_mapping, *(map(check_of, inner) if inner else (None, None)))
    if wanted in (abc.Sequence, abc.Iterable, abc.Collection, list, set, frozenset):
        return partial(_several, wanted, check_of(inner[0]) if inner else None)
    if isinstance(wanted, type) and wanted is not object and wanted is not Any:
        return partial(_instance, wanted)
    return None


def _nothing(value: object) -> None:
    if value is not None:
        raise Mismatch("None")


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise Mismatch("text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as err:
            raise Mismatch(
                "valid Unicode", found=f"the lone surrogate {value[err.start]!a} at character {err.start}"
            ) from None
    return value


def _path(value: object) -> object:
    if not isinstance(value, os.PathLike | str):
        raise Mismatch("a path")
    path = os.fspath(value)
    if isinstance(path, bytes):
        raise Mismatch("a path of text")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise Mismatch("a path that the file system can hold") from None
    if "\x00" in path:
        raise Mismatch("a path without NUL characters")
    return value


def _only_path(value: object) -> object:
    checked = _path(value)
    return Path(checked) if isinstance(checked, str) else checked


def _flag(value: object) -> object:
    if isinstance(value, bool):
        return value
    if type(value).__name__ in ("bool", "bool_") and type(value).__module__ == "numpy":
        return bool(value)
    raise Mismatch("True or False")


def _whole(value: object) -> object:
    if type(value) is not int:
        if isinstance(value, bool) or not hasattr(value, "__index__") or hasattr(value, "__len__"):
            raise Mismatch("a whole number")
        try:
            value = int(value.__index__())
        except (TypeError, ValueError):
            raise Mismatch("a whole number") from None
    if not -_MOST <= value <= _MOST:
        raise Mismatch("a number of at most 63 bits", found=f"one of {value.bit_length()} bits")
    return value


def number(value: object) -> object:
    """The check of `float`: numbers of numpy become Python's, whole ones stay whole."""
    if type(value) is not float and type(value) is not int:
        if (
            isinstance(value, bool | str | bytes | bytearray)
            or not hasattr(value, "__float__")
            or hasattr(value, "__len__")
        ):
            raise Mismatch("a number")
        try:
            value = value.__index__() if hasattr(value, "__index__") else float(value)
        except (TypeError, ValueError, OverflowError):
            raise Mismatch("a number") from None
    return _whole(value) if isinstance(value, int) else value


def _callable(value: object) -> object:
    if not callable(value):
        raise Mismatch("callable")
    return value


_SCALARS: dict[object, Check] = {
    str: _text, Path: _only_path, bool: _flag, int: _whole, float: number, type: lambda value: _instance(type, value),
}  # fmt: skip


def at_least(check: Check, low: float, value: object) -> object:
    """`check`, and that a number is not below `low`."""
    value = check(value)
    if value is not None and isinstance(value, int | float) and value < low:
        raise Mismatch(f"at least {low}")
    return value


def _union(kinds: tuple[Any, ...]) -> Check | None:
    if str in kinds and Path in kinds:
        kinds = tuple(kind for kind in kinds if kind is not str)
    if float in kinds:
        kinds = tuple(kind for kind in kinds if kind is not int)
    checks = [_path if kind is Path else check_of(kind) for kind in kinds]
    known = [check for check in checks if check is not None]
    return partial(_any_of, tuple(known)) if len(known) == len(checks) else None


def _any_of(checks: tuple[Check, ...], value: object) -> object:
    wanted: list[str] = []
    nearest: Mismatch | None = None  # of the right kind as a whole, but not within
    for check in checks:
        try:
            return check(value)
        except Mismatch as err:
            if err.at or err.found:
                nearest = nearest or err
            wanted.append(err.wanted)
    if nearest is not None:
        raise nearest
    raise Mismatch(" or ".join(dict.fromkeys(wanted)))


def _choice(choices: tuple[object, ...], value: object) -> object:
    if not isinstance(value, abc.Hashable) or not any(type(value) is type(one) and value == one for one in choices):
        raise Mismatch(f"one of {', '.join(map(str, choices))}")
    return value


def _instance(kind: type, value: object) -> object:
    if getattr(kind, "_is_protocol", False):
        fitting = all(hasattr(value, name) for name in _members(kind)) and not isinstance(value, type)
    else:
        fitting = isinstance(value, kind)
    if not fitting:
        name = kind.__name__.lstrip("_")
        raise Mismatch(f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}")
    return value


def _members(protocol: type) -> list[str]:
    return [
        name
        for base in protocol.__mro__
        if getattr(base, "_is_protocol", False)
        for name in {**vars(base), **inspect.get_annotations(base)}
        if not name.startswith("_")
    ]


def _several(kind: Any, check: Check | None, value: Any) -> object:
    what = "a list" if kind is not abc.Iterable else "iterable"
    if isinstance(value, str | bytes | bytearray | memoryview):
        raise Mismatch(f"{what} (not one text)" if isinstance(value, str) else what)
    if kind in (list, set, frozenset):
        fitting = isinstance(value, kind)
    elif kind is tuple:
        fitting = isinstance(value, tuple | list)
    elif kind is abc.Sequence:
        fitting = (
            hasattr(value, "__getitem__") and hasattr(value, "__len__") and not isinstance(value, abc.Mapping | type)
        )
        fitting = fitting and getattr(value, "shape", True) != ()
    else:
        fitting = hasattr(value, "__iter__") and not isinstance(value, type) and getattr(value, "shape", True) != ()
    if not fitting:
        raise Mismatch(what)
    if check is not None and (
        _is_array(type(value)) or isinstance(value, list | tuple | set | frozenset | dict | range)
    ):
        for at, item in enumerate(value):
            _inside(check, item, at)
    elif check is not None and kind is abc.Iterable and isinstance(value, abc.Iterator):
        return _each(check, value)
    return value


def _each(check: Check, items: abc.Iterator[object]) -> abc.Iterator[object]:
    """The items, each checked when it is reached."""
    for at, item in enumerate(items):
        yield passed(check, f"item {at}", item)


def _mapping(key_check: Check | None, value_check: Check | None, value: object) -> object:
    if not isinstance(value, abc.Mapping):
        raise Mismatch("a mapping")
    for key, item in value.items():
        if key_check is not None:
            _inside(key_check, key, key)
        if value_check is not None:
            _inside(value_check, item, key)
    return value


def _tuple(checks: tuple[Check | None, ...], value: object) -> object:
    if not isinstance(value, tuple | list):
        raise Mismatch("a tuple")
    if checks and len(checks) != len(value):
        raise Mismatch(f"a tuple of {len(checks)}")
    for at, (check, item) in enumerate(zip(checks, value, strict=False)):
        if check is not None:
            _inside(check, item, at)
    return value


def _inside(check: Check, item: object, key: object) -> None:
    try:
        check(item)
    except Mismatch as err:
        raise Mismatch(err.wanted, found=err.found or shown(item), at=f"[{shown(key)}]{err.at}") from None


def _is_array(kind: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and kind is numpy.ndarray


_KINDS = {"bool": "b", "int": "iu", "uint": "iu", "float": "fiub", "str": "U"}


def _array(dtype: str, value: object) -> object:
    import numpy as np

    if not isinstance(value, np.ndarray):
        raise Mismatch("a numpy array")
    name = dtype.rstrip("0123456789_").removesuffix("eger").removesuffix("ing")
    kinds = _KINDS.get(name.removesuffix("eger"), "biuf")
    if value.dtype.kind not in kinds:
        raise Mismatch(f"a numpy array of {dtype or 'number'}s", found=f"one of {value.dtype}")
    return value


def _array_like(value: object) -> object:
    import numpy as np

    if not isinstance(value, np.ndarray):
        if isinstance(value, str | bytes | bytearray | abc.Mapping | set | frozenset) or value is None:
            raise Mismatch("an array of numbers")
        try:
            np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise Mismatch("an array of numbers") from None
    elif value.dtype.kind not in "biuf":
        raise Mismatch("an array of numbers", found=f"one of {value.dtype}")
    return value
