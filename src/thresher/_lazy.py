"""Public names that load their module when they are first asked for (PEP 562)."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def load(package: str, homes: Mapping[str, str], name: str) -> Any:
    """The attribute `name` of `package`, from its home; for the body of a package's `__getattr__`.

    Args:
        package: the package's `__name__`.
        homes: public name to the submodule that defines it.
        name: what was asked for; kept in the package, so that it is loaded once.

    Raises:
        AttributeError: there is no such public name.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    value = getattr(import_module(f"{package}.{homes[name]}"), name)
    setattr(sys.modules[package], name, value)
    return value
