"""The exceptions that thresher raises, and the import of optional dependencies.

    ThresherError
    ├── InputError            bad data from outside: a line, a record, an argument (also a ValueError)
    ├── ConfigError           a recipe or experiment with an unknown key or a wrong type (also a ValueError)
    ├── ArtifactError         a directory that is missing, incomplete, damaged, or of the wrong kind or format
    │   ├── DamagedArtifactError     a file whose size, checksum or content does not match the manifest
    │   ├── ArtifactVersionError     written by a newer thresher
    │   └── BusyArtifactError        another process is writing it
    ├── DataNotFoundError     a collection, file or model that is not on this machine (also a FileNotFoundError)
    ├── MissingExtraError     an optional dependency that is not installed (also an ImportError)
    ├── ModelError            a model that cannot be loaded, or whose output is unusable
    ├── ShardError            shards of a sharded index that did not answer
    └── BudgetExhaustedError  a limit on calls, tokens, money or seconds was reached before there was any result

A message says what happened, gives the offending value and its place, and says how to fix it. Every error keeps its
fields in `args`, so that it can be pickled.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "ArtifactError",
    "ArtifactVersionError",
    "BudgetExhaustedError",
    "BusyArtifactError",
    "ConfigError",
    "DamagedArtifactError",
    "DataNotFoundError",
    "InputError",
    "MissingExtraError",
    "ModelError",
    "ShardError",
    "ThresherError",
]


class ThresherError(Exception):
    """Base class of the exceptions that thresher raises."""


class InputError(ThresherError, ValueError):
    """Bad input: a line, a record, an argument.

    Args:
        message: what is wrong, with the offending value, and how to fix it.
        source: the file or stream; empty for arguments.
        line: 1-based line (or record) number, 0 where there is none.
    """

    def __init__(self, message: str, source: str = "", line: int = 0) -> None:
        super().__init__(message, source, line)

    @property
    def source(self) -> str:
        """The file or stream the value came from."""
        return str(self.args[1])

    @property
    def line(self) -> int:
        """1-based line number, 0 where there is none."""
        return int(self.args[2])

    def __str__(self) -> str:
        message, source, line = self.args
        where = f"{source}:{line}: " if line else (f"{source}: " if source else "")
        return f"{where}{message}"


class ConfigError(ThresherError, ValueError):
    """A recipe, experiment or name with a missing, unknown or invalid setting."""


class ArtifactError(ThresherError):
    """A directory that is not the expected artifact."""


class DamagedArtifactError(ArtifactError):
    """A file of an artifact whose size, checksum or content differs from what was written.

    Args:
        file: path of the damaged file.
        problem: what is wrong with it, and how to fix it.
    """

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(file, problem)

    @property
    def file(self) -> str:
        """Path of the damaged file."""
        return str(self.args[0])

    def __str__(self) -> str:
        file, problem = self.args
        return f"{file}: {problem}"


class ArtifactVersionError(ArtifactError):
    """An artifact in a format that this release cannot read."""


class BusyArtifactError(ArtifactError):
    """An artifact that another process is writing."""


class DataNotFoundError(ThresherError, FileNotFoundError):
    """A collection, file or model that is not on this machine."""


class MissingExtraError(ThresherError, ImportError):
    """An optional dependency that is not installed."""


class ModelError(ThresherError):
    """A model that cannot be loaded, or whose output is unusable."""


class ShardError(ThresherError):
    """Shards of a sharded index that did not answer, or cannot be searched together."""


class BudgetExhaustedError(ThresherError):
    """A limit on calls, tokens, money or seconds was reached before there was any result."""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import `module`; if it is not installed, name the extra that installs it.

    An import that fails inside an installed module keeps its own traceback.

    Raises:
        MissingExtraError: `module` is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as err:
        if err.name is None or not f"{module}.".startswith(f"{err.name}."):
            raise
        message = (
            f"{purpose} needs {module!r}, which is not installed. Install it with: pip install 'thresher[{extra}]'"
        )
        raise MissingExtraError(message, name=module) from err
