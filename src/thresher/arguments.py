"""Checks of what a public call is given, from its annotations: `@checked_call`.

    @checked_call(k=1)
    def search(self, query: str, k: int = 10, *, effort: Effort | None = None) -> Ranking: ...

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
import sys
import threading
import typing
from collections import abc
from contextlib import suppress
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, overload

from thresher.argument_types import at_least, check_of, number, passed

if TYPE_CHECKING:
    from collections.abc import Callable

    from thresher.argument_types import Check

T = TypeVar("T", bound="Callable[..., Any]")
_PARSING, _ATTEMPTS = threading.Lock(), 100


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
                given[at] = passed(checks[name], name, value)
        for name, value in kwargs.items():
            if name in checks:
                kwargs[name] = passed(checks[name], name, value)
        return call(*given, **kwargs)

    made: Any = type(target)(checking) if isinstance(target, classmethod | staticmethod) else checking
    return typing.cast("T", made)


def _checks_of(call: Callable[..., Any], least: abc.Mapping[str, float]) -> dict[str, Check]:
    """A check by parameter; never empty, so that it is made once."""
    names = _Names(inspect.unwrap(call).__globals__)
    checks: dict[str, Check] = {"": lambda value: value}
    for name, annotation in inspect.get_annotations(call).items():
        kind = names.evaluate(annotation) if isinstance(annotation, str) else annotation
        check = check_of(kind) if name != "return" else None
        if name in least:
            check = partial(at_least, check or number, least[name])
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
                tree = parsed(inspect.getsource(module)) if module is not None else ast.Module([], [])
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


def parsed(source: str) -> ast.Module:
    """The syntax tree of a module.

    CPython 3.11 counts the depth of trees once for all threads, and fails if two make one at a time: calls of ours take
    turns, and one that met a call of another library tries again.

    Raises:
        OSError: it never had its turn.
    """
    with _PARSING:
        for _ in range(_ATTEMPTS):
            with suppress(SystemError):
                return ast.parse(source)
    raise OSError("the source could not be parsed while other threads parse")


def _imports(line: ast.stmt) -> dict[str, tuple[str, str]]:
    if not isinstance(line, ast.ImportFrom) or line.module is None:
        return {}
    return {one.asname or one.name: (line.module, one.name) for one in line.names}
