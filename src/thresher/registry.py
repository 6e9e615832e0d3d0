"""Names to classes: one registry for each kind of thing a user names (encoders, estimators, judges, plans, scorers).

A name is `kind` or `kind:argument` (`bm25`, `cross-encoder:path`, `sliding:window=20`). A registry maps the kind to a
factory, given as `module:attribute` and imported on first use. The factory is called with the argument and the caller's
options. Other packages add kinds through entry points in the registry's group; they cannot replace a built-in kind.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.metadata import entry_points
from operator import attrgetter
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from thresher.checks import is_a, shown
from thresher.errors import ConfigError, ThresherError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class Registry(Generic[T]):
    """The kinds of one thing.

    Args:
        what: the thing, as error messages call it: `encoder`, `judge`.
        group: the entry-point group in which other packages register: `thresher.encoders`.
        targets: kind to `module:attribute` of its factory, which takes the argument (empty if the name has none) and
            keyword options.
        arguments: kind to a placeholder for its argument (`MODEL`), for listings.
    """

    def __init__(
        self, what: str, group: str, targets: Mapping[str, str], arguments: Mapping[str, str] | None = None
    ) -> None:
        self.what, self.group = what, group
        self._targets, self._arguments = dict(targets), dict(arguments or {})

    def kinds(self) -> tuple[str, ...]:
        """All kinds: the built-in ones in order, then those of installed packages, sorted."""
        others = {point.name for point in entry_points(group=self.group)} - set(self._targets)
        return (*self._targets, *sorted(others))

    def forms(self) -> tuple[str, ...]:
        """The kinds as a user writes them, with a placeholder for the argument: `bm25`, `qualt5:MODEL`."""
        return tuple(self._form(kind) for kind in self.kinds())

    def _form(self, kind: str) -> str:
        """One kind as a user writes it."""
        if kind not in self._arguments:
            return kind
        return f"{kind}{'' if kind.endswith('+') else ':'}{self._arguments[kind]}"

    def __contains__(self, kind: object) -> bool:
        return isinstance(kind, str) and (kind in self._targets or kind in self.kinds())

    def factory(self, kind: str) -> Callable[..., T]:
        """The factory of `kind`, imported now.

        Raises:
            ConfigError: no factory has that kind, or another package's factory fails to import.
            MissingExtraError: its module needs an optional dependency that is not installed.
        """
        target = self._targets.get(kind)
        if target is None:
            for point in entry_points(group=self.group):
                if point.name == kind:
                    return cast("Callable[..., T]", self._load(point))
            raise ConfigError(f"unknown {self.what} {shown(kind)}; choose one of {', '.join(self.forms())}")
        module, _, attribute = target.partition(":")
        return cast("Callable[..., T]", attrgetter(attribute)(import_module(module)))

    def make(self, name: str, *, offered: Mapping[str, object] | None = None, **options: object) -> T:
        """The thing called `name` (`kind` or `kind:argument`).

        Args:
            name: which one.
            offered: options that every caller gives (a device, for instance); the factory gets those it has a parameter
                for.
            options: options of this kind; the factory must have a parameter for each.

        Raises:
            ConfigError: the kind is unknown, or does not take one of `options`.
            MissingExtraError: it needs an optional dependency that is not installed.
        """
        if not is_a(name, str):
            raise ConfigError(f"the name of a {self.what} must be a string; got {shown(name)}")
        kind, _, argument = name.partition(":")
        factory = self.factory(kind)
        parameters = inspect.signature(factory).parameters
        open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        unknown = [] if open_ended else [option for option in options if option not in parameters]
        if unknown:
            raise ConfigError(
                f"the {self.what} {kind!r} takes no option {unknown[0]!r}; it takes: {', '.join([*parameters][1:])}"
            )
        given = {option: value for option, value in (offered or {}).items() if open_ended or option in parameters}
        return factory(argument, **given, **options)

    def _load(self, point: EntryPoint) -> object:
        try:
            return point.load()
        except ThresherError:
            raise
        except Exception as err:
            package = point.dist.name if point.dist is not None else point.value
            raise ConfigError(
                f"the {self.what} {point.name!r} of the package {package} cannot be loaded "
                f"({type(err).__name__}: {err}); reinstall or remove that package"
            ) from err
