"""What is made when it is first needed: public names (PEP 562), and compiled functions, which are kept in a cache."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit(**options)` wherever thresher is installed.

    Numba keeps compiled code beside the module, in the user's cache folder, or in `NUMBA_CACHE_DIR`, and refuses to
    define a function where none of them can be written. Then it is kept in a folder of the user's own under the
    system's temporary files, or compiled anew in each process.
    """
    import numba

    def define(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(**options)(function)
        except RuntimeError as err:
            if "cannot cache" not in str(err):
                raise
        folder = _own_temporary_folder()
        if folder:
            numba.config.CACHE_DIR = folder
            try:
                return numba.njit(**options)(function)
            except RuntimeError:
                pass
        return numba.njit(**{**options, "cache": False})(function)

    return define


def _own_temporary_folder() -> str:
    """A folder that no other user can write to, whose content may be run; empty where there can be none."""
    try:
        folder = os.path.join(tempfile.gettempdir(), f"thresher-{os.getuid()}")  # noqa: PTH118
        with suppress(FileExistsError):
            os.mkdir(folder, mode=0o700)  # noqa: PTH102
        found = os.lstat(folder)
        own = os.path.isdir(folder) and not os.path.islink(folder)  # noqa: PTH112, PTH114
        own = own and found.st_uid == os.getuid() and not found.st_mode & 0o022
        return folder if own and os.access(folder, os.W_OK) else ""
    except (OSError, AttributeError):  # no folder; no users
        return ""
