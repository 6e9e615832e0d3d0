"""Names to classes: one registry for each kind of thing a user names (encoders, estimators, judges, plans, scorers).

A name is `kind` or `kind:argument` (`bm25`, `cross-encoder:path`, `sliding:window=20`). A registry maps the kind
to a factory, given as `module:attribute` and imported when it is first asked for, which is called with the argument and
the caller's options. Other packages add kinds through entry points in the registry's group; a built-in kind cannot be
replaced.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from thresher.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


class Registry(Generic[T]):
    """The kinds of one thing.

    Args:
        what: the thing in a message: `encoder`, `judge`.
        group: the entry-point group that other packages register in: `thresher.encoders`.
        targets: kind to `module:attribute` of its factory, which takes the argument (empty where the name has none) and
            keyword options.
    """

    def __init__(self, what: str, group: str, targets: Mapping[str, str]) -> None:
        self.what, self.group = what, group
        self._targets = dict(targets)

    def kinds(self) -> tuple[str, ...]:
        """The kinds that can be made: built-in ones, then those of installed packages, sorted."""
        others = {point.name for point in entry_points(group=self.group)} - set(self._targets)
        return (*self._targets, *sorted(others))

    def __contains__(self, kind: str) -> bool:
        return kind in self.kinds()

    def factory(self, kind: str) -> Callable[..., T]:
        """The factory of `kind`, imported now.

        Raises:
            ConfigError: no factory has that kind.
            MissingExtraError: its module needs what is not installed.
        """
        target = self._targets.get(kind)
        if target is None:
            for point in entry_points(group=self.group):
                if point.name == kind:
                    return cast("Callable[..., T]", point.load())
            raise ConfigError(f"unknown {self.what} {kind!r}; choose one of {', '.join(self.kinds())}")
        module, _, attribute = target.partition(":")
        return cast("Callable[..., T]", getattr(import_module(module), attribute))

    def make(self, name: str, **options: object) -> T:
        """The thing called `name` (`kind` or `kind:argument`), made with `options`.

        Raises:
            ConfigError: the kind is unknown.
            MissingExtraError: it needs what is not installed.
        """
        kind, _, argument = name.partition(":")
        return self.factory(kind)(argument, **options)
