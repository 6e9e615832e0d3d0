"""A small TOML file that lists the shards of an index, and the replicas of each.

shards = [
  ["shard-0000"],                                        # a folder, from where the file is
  ["http://10.0.0.2:8080", "http://10.0.0.3:8080#docs"], # two servers with the same shard; #docs names its index
]
"""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

from thresher.checks import path_of, shown
from thresher.durable import write_atomic
from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_SCHEMES = ("http://", "https://")


def is_url(address: str | Path) -> bool:
    """Whether a shard is at a server, and not in a folder."""
    return isinstance(address, str) and address.lower().startswith(_SCHEMES)


def read_shard_file(file: str | Path) -> list[list[str]]:
    """The replicas of each shard: URLs, and folders made absolute by where the file is.

    Raises:
        InputError: it is not a shards file; says what is wrong with it.
    """
    file = path_of(file)
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise InputError(f"not a TOML file that lists shards ({err})", str(file)) from None
    shards = document.get("shards")
    if set(document) != {"shards"} or not isinstance(shards, list) or not shards:
        raise InputError('a file of shards holds shards = [["FOLDER or URL", ...], ...] and nothing else', str(file))
    return [_replicas(one, number, file) for number, one in enumerate(shards, 1)]


def _replicas(value: object, number: int, file: Path) -> list[str]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not given or not all(isinstance(one, str) and one for one in given):
        raise InputError(f"shard {number} is {shown(value)}; give a list of folders or URLs", str(file))
    return [one if is_url(one) else str(file.parent / one) for one in given]


def write_shard_file(file: Path, shards: Iterable[Sequence[str]]) -> None:
    """Write such a file; folders relative to where it is."""
    rows = "".join(f"  {json.dumps(list(replicas), ensure_ascii=False)},\n" for replicas in shards)
    write_atomic(file, f"# the shards of one index, each with its replicas\nshards = [\n{rows}]\n")
