"""What an answer may look like, for models whose output can be constrained: a JSON schema, a regular expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def places_schema(labels: Sequence[str]) -> dict[str, object]:
    """An object that maps every label to its place: no id can be missing, repeated or unknown."""
    place = {"type": "integer", "minimum": 1, "maximum": len(labels)}
    return {
        "type": "object",
        "properties": dict.fromkeys(labels, place),
        "required": list(labels),
        "additionalProperties": False,
    }


def chain_pattern(labels: Sequence[str], *, ties: bool = False) -> str:
    """A chain of as many ids as there are; a regular expression of reasonable size cannot forbid repeats."""
    one = rf"\[({'|'.join(labels)})\]"
    return one + rf"( {'[>=]' if ties else '>'} {one}){{{len(labels) - 1}}}"
