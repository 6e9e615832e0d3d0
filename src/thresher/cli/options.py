"""Options in groups: a command takes dataclasses, and typer sees their fields as options."""

from __future__ import annotations

import inspect
from dataclasses import is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters annotated with a dataclass are replaced by the dataclass's fields.

    Each field is a parameter with its annotation and default; the command gets the dataclasses, made of the values
    given. Field names are distinct over all groups.
    """
    hints = get_type_hints(command, include_extras=True)
    plain: list[inspect.Parameter] = []
    groups: dict[str, tuple[Callable[..., object], list[str]]] = {}
    for name in inspect.signature(command).parameters:
        kind = hints[name]
        if not (isinstance(kind, type) and is_dataclass(kind)):
            plain.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind))
            continue
        own = get_type_hints(kind, include_extras=True)
        fields = inspect.signature(kind).parameters
        groups[name] = (kind, list(fields))
        plain += [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=own[key])
            for key, one in fields.items()
        ]

    @wraps(command)
    def flat(**values: object) -> None:
        made = {name: kind(**{key: values.pop(key) for key in keys}) for name, (kind, keys) in groups.items()}
        command(**values, **made)

    flat.__signature__ = inspect.Signature(plain)  # type: ignore[attr-defined]
    flat.__annotations__ = {one.name: one.annotation for one in plain}
    return flat
