"""Checks of what a public call is given, from its annotations: `@checked_call`.

    @checked_call(k=1)
    def search(self, query: str, k: int = 10, *, approx: float | None = None) -> Ranking: ...

An argument of another type than its annotation names, a number that is NaN or beyond 64 bits, and text or a path that
no file can hold raise an `InputError` that names the parameter and shows the value. What a type cannot say (that one
argument fits another) stays with the call. Numbers of numpy arrive as Python's; nothing else is changed.

A type that can only be named while type checking is looked up among the loaded modules of thresher. One that cannot be
found, or that is a type variable, is not checked. Checks of one value are in `thresher.checks`, which says when to
use which.
"""

from __future__ import annotations

import ast
import inspect
import math
import os
import sys
import types
import typing
from collections import abc
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, overload

from thresher.checks import shown
from thresher.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[object], object]
    """Gives the value to pass on, or raises `_Mismatch`."""

T = TypeVar("T", bound="Callable[..., Any]")

_MOST = 2**63 - 1


class _Mismatch(Exception):  # noqa: N818  (never leaves this module)
    """Says what the value must be, and which one: `at` is `[1]` for the second item of a list, empty for the whole."""

    def __init__(self, wanted: str, *, found: str = "", at: str = "") -> None:
        super().__init__(wanted)
        self.wanted, self.found, self.at = wanted, found, at


class _Unknown:
    """Stands for a type that cannot be found: everything passes."""

    def __getitem__(self, _: object) -> _Unknown:
        return self

    def __getattr__(self, _: str) -> _Unknown:
        return self

    def __or__(self, _: object) -> _Unknown:
        return self

    __ror__ = __or__


_UNKNOWN = _Unknown()


@overload
def checked_call(target: T, /) -> T: ...
@overload
def checked_call(**least: float) -> Callable[[T], T]: ...
def checked_call(target: T | None = None, /, **least: float) -> T | Callable[[T], T]:
    """Check the arguments of a function, a method or a class when it is called.

    Args:
        target: what to decorate; for a class its `__init__`.
        least: the smallest value of a numeric parameter, by name.

    Raises:
        InputError: (by the decorated call) an argument is not of its annotated type, or below its least value.
        ConfigError: it is none of the choices of its `Literal`.
    """
    if target is None:
        return partial(_checked, least=least)
    return _checked(target, least)


def _checked(target: T, least: abc.Mapping[str, float]) -> T:
    if isinstance(target, type):
        target.__init__ = _checked(target.__init__, least)  # type: ignore[misc]
        return target
    call: Any = target.__func__ if isinstance(target, classmethod | staticmethod) else target
    parameters = inspect.signature(call).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "")
    checks: dict[str, Check] = {}

    @wraps(call)
    def checking(*args: Any, **kwargs: Any) -> Any:
        if not checks:
            checks.update(_checks_of(call, least))
        given = list(args)
        for at, value in enumerate(args):
            name = names[at] if at < len(names) else rest
            if name in checks:
                given[at] = _pass(checks[name], name, value)
        for name, value in kwargs.items():
            if name in checks:
                kwargs[name] = _pass(checks[name], name, value)
        return call(*given, **kwargs)

    made: Any = type(target)(checking) if isinstance(target, classmethod | staticmethod) else checking
    return typing.cast("T", made)


MAY_BE_SECRET = frozenset({"key", "base_url"})
"""Arguments of which a message names the type alone."""


def _pass(check: Check, name: str, value: object) -> object:
    try:
        value = check(value)
        if isinstance(value, float) and math.isnan(value):  # inside a container it may be a score that is missing
            raise _Mismatch("a number")
        return value
    except _Mismatch as err:
        if err.wanted.startswith("one of "):
            raise ConfigError(f"unknown {name}{err.at} {err.found or shown(value)}; choose {err.wanted}") from None
        found = type(value).__name__ if name in MAY_BE_SECRET else err.found or shown(value)
        raise InputError(f"{name}{err.at} must be {err.wanted}, got {found}") from None


def _checks_of(call: Callable[..., Any], least: abc.Mapping[str, float]) -> dict[str, Check]:
    """A check by parameter; never empty, so that it is made once."""
    names = _Names(inspect.unwrap(call).__globals__)
    checks: dict[str, Check] = {"": lambda value: value}
    for name, annotation in inspect.get_annotations(call).items():
        kind = names.evaluate(annotation) if isinstance(annotation, str) else annotation
        check = _check_of(kind) if name != "return" else None
        if name in least:
            check = partial(_at_least, check or _number, least[name])
        if check is not None:
            checks[name] = check
    return checks


class _Names(dict[str, Any]):
    """The names that annotations of a module use: its own, and those that it imports for type checkers only."""

    def __init__(self, scope: dict[str, Any]) -> None:
        super().__init__()
        self._scope = scope
        self._for_checkers: dict[str, tuple[str, str]] | None = None

    def _imported(self) -> dict[str, tuple[str, str]]:
        """Module and name in it of what the module imports under `if TYPE_CHECKING`, by its name here."""
        if self._for_checkers is None:
            self._for_checkers = {}
            module = sys.modules.get(self._scope.get("__name__", ""))
            try:
                tree = ast.parse(inspect.getsource(module)) if module is not None else ast.Module([], [])
            except (OSError, TypeError):  # no source file is there: nothing is known
                return self._for_checkers
            for block in tree.body:
                if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
                    for line in block.body:
                        self._for_checkers |= _imports(line)
        return self._for_checkers

    def evaluate(self, annotation: str) -> object:
        try:
            return eval(annotation, {"__builtins__": {}}, self)  # noqa: S307  (annotations of thresher's own functions)
        except TypeError:  # an operand that takes no `|`, or a type that takes no `[]`
            return _UNKNOWN

    def __missing__(self, name: str) -> Any:
        if name in self._scope:
            return self._scope[name]
        for module in (__builtins__, vars(typing), vars(abc)):
            scope = module if isinstance(module, dict) else vars(module)
            if name in scope:
                return scope[name]
        if "numpy" in sys.modules and name in ("np", "NDArray", "ArrayLike"):
            import numpy as np
            import numpy.typing as npt

            return np if name == "np" else getattr(npt, name)
        home, original = self._imported().get(name, ("", ""))
        if home in sys.modules:
            return getattr(sys.modules[home], original, _UNKNOWN)
        return _UNKNOWN


def _imports(line: ast.stmt) -> dict[str, tuple[str, str]]:
    if not isinstance(line, ast.ImportFrom) or line.module is None:
        return {}
    return {one.asname or one.name: (line.module, one.name) for one in line.names}


def _check_of(kind: Any) -> Check | None:  # noqa: PLR0911, PLR0912  (one line a kind)
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
        return _check_of(inner[0])
    if inner[1:] == (...,) and origin is tuple:
        return partial(_several, tuple, _check_of(inner[0]))
    if origin is tuple or kind is tuple:
        return partial(_tuple, tuple(map(_check_of, inner)))
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
        return partial(_mapping, *(map(_check_of, inner) if inner else (None, None)))
    if wanted in (abc.Sequence, abc.Iterable, abc.Collection, list, set, frozenset):
        return partial(_several, wanted, _check_of(inner[0]) if inner else None)
    if isinstance(wanted, type) and wanted is not object and wanted is not Any:
        return partial(_instance, wanted)
    return None


def _nothing(value: object) -> None:
    if value is not None:
        raise _Mismatch("None")


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise _Mismatch("text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as err:
            raise _Mismatch(
                "valid Unicode", found=f"the lone surrogate {value[err.start]!a} at character {err.start}"
            ) from None
    return value


def _path(value: object) -> object:
    if not isinstance(value, os.PathLike | str):
        raise _Mismatch("a path")
    path = os.fspath(value)
    if isinstance(path, bytes):
        raise _Mismatch("a path of text")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise _Mismatch("a path that the file system can hold") from None
    if "\x00" in path:
        raise _Mismatch("a path without NUL characters")
    return value


def _only_path(value: object) -> object:
    checked = _path(value)
    return Path(checked) if isinstance(checked, str) else checked


def _flag(value: object) -> object:
    if isinstance(value, bool):
        return value
    if type(value).__name__ in ("bool", "bool_") and type(value).__module__ == "numpy":
        return bool(value)
    raise _Mismatch("True or False")


def _whole(value: object) -> object:
    if type(value) is not int:
        if isinstance(value, bool) or not hasattr(value, "__index__") or hasattr(value, "__len__"):
            raise _Mismatch("a whole number")
        try:
            value = int(value.__index__())
        except (TypeError, ValueError):
            raise _Mismatch("a whole number") from None
    if not -_MOST <= value <= _MOST:
        raise _Mismatch("a number of at most 63 bits", found=f"one of {value.bit_length()} bits")
    return value


def _number(value: object) -> object:
    if type(value) is not float and type(value) is not int:
        if (
            isinstance(value, bool | str | bytes | bytearray)
            or not hasattr(value, "__float__")
            or hasattr(value, "__len__")
        ):
            raise _Mismatch("a number")
        try:
            value = value.__index__() if hasattr(value, "__index__") else float(value)
        except (TypeError, ValueError, OverflowError):
            raise _Mismatch("a number") from None
    return _whole(value) if isinstance(value, int) else value


def _callable(value: object) -> object:
    if not callable(value):
        raise _Mismatch("callable")
    return value


_SCALARS: dict[object, Check] = {
    str: _text, Path: _only_path, bool: _flag, int: _whole, float: _number, type: lambda value: _instance(type, value),
}  # fmt: skip


def _at_least(check: Check, low: float, value: object) -> object:
    value = check(value)
    if value is not None and isinstance(value, int | float) and value < low:
        raise _Mismatch(f"at least {low}")
    return value


def _union(kinds: tuple[Any, ...]) -> Check | None:
    if str in kinds and Path in kinds:
        kinds = tuple(kind for kind in kinds if kind is not str)
    if float in kinds:
        kinds = tuple(kind for kind in kinds if kind is not int)
    checks = [_path if kind is Path else _check_of(kind) for kind in kinds]
    known = [check for check in checks if check is not None]
    return partial(_any_of, tuple(known)) if len(known) == len(checks) else None


def _any_of(checks: tuple[Check, ...], value: object) -> object:
    wanted: list[str] = []
    nearest: _Mismatch | None = None  # of the right kind as a whole, but not within
    for check in checks:
        try:
            return check(value)
        except _Mismatch as err:
            if err.at or err.found:
                nearest = nearest or err
            wanted.append(err.wanted)
    if nearest is not None:
        raise nearest
    raise _Mismatch(" or ".join(dict.fromkeys(wanted)))


def _choice(choices: tuple[object, ...], value: object) -> object:
    if not isinstance(value, abc.Hashable) or not any(type(value) is type(one) and value == one for one in choices):
        raise _Mismatch(f"one of {', '.join(map(str, choices))}")
    return value


def _instance(kind: type, value: object) -> object:
    if getattr(kind, "_is_protocol", False):
        fitting = all(hasattr(value, name) for name in _members(kind)) and not isinstance(value, type)
    else:
        fitting = isinstance(value, kind)
    if not fitting:
        name = kind.__name__.lstrip("_")
        raise _Mismatch(f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}")
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
        raise _Mismatch(f"{what} (not one text)" if isinstance(value, str) else what)
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
        raise _Mismatch(what)
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
        yield _pass(check, f"item {at}", item)


def _mapping(key_check: Check | None, value_check: Check | None, value: object) -> object:
    if not isinstance(value, abc.Mapping):
        raise _Mismatch("a mapping")
    for key, item in value.items():
        if key_check is not None:
            _inside(key_check, key, key)
        if value_check is not None:
            _inside(value_check, item, key)
    return value


def _tuple(checks: tuple[Check | None, ...], value: object) -> object:
    if not isinstance(value, tuple | list):
        raise _Mismatch("a tuple")
    if checks and len(checks) != len(value):
        raise _Mismatch(f"a tuple of {len(checks)}")
    for at, (check, item) in enumerate(zip(checks, value, strict=False)):
        if check is not None:
            _inside(check, item, at)
    return value


def _inside(check: Check, item: object, key: object) -> None:
    try:
        check(item)
    except _Mismatch as err:
        raise _Mismatch(err.wanted, found=err.found or shown(item), at=f"[{shown(key)}]{err.at}") from None


def _is_array(kind: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and kind is numpy.ndarray


_KINDS = {"bool": "b", "int": "iu", "uint": "iu", "float": "fiub", "str": "U"}


def _array(dtype: str, value: object) -> object:
    import numpy as np

    if not isinstance(value, np.ndarray):
        raise _Mismatch("a numpy array")
    name = dtype.rstrip("0123456789_").removesuffix("eger").removesuffix("ing")
    kinds = _KINDS.get(name.removesuffix("eger"), "biuf")
    if value.dtype.kind not in kinds:
        raise _Mismatch(f"a numpy array of {dtype or 'number'}s", found=f"one of {value.dtype}")
    return value


def _array_like(value: object) -> object:
    import numpy as np

    if not isinstance(value, np.ndarray):
        if isinstance(value, str | bytes | bytearray | abc.Mapping | set | frozenset) or value is None:
            raise _Mismatch("an array of numbers")
        try:
            np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise _Mismatch("an array of numbers") from None
    elif value.dtype.kind not in "biuf":
        raise _Mismatch("an array of numbers", found=f"one of {value.dtype}")
    return value
