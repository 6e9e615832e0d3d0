"""Front matter: the table of YAML (between lines of `---`) or TOML (`+++`) that a document may begin with."""

from __future__ import annotations

import re
import tomllib
from datetime import date, time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_YAML = re.compile(r"---[ \t]*\r?\n(?P<body>.*?)^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_TOML = re.compile(r"\+\+\+[ \t]*\r?\n(?P<body>.*?)^\+\+\+[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_LONGEST = 65_536
"""Characters of front matter; a longer head is text."""
_PAIR = re.compile(r"(?P<key>[A-Za-z_][\w -]{0,60}):(?:[ \t]+(?P<value>.*?))?[ \t]*$")


def front_matter(text: str) -> tuple[dict[str, object], int]:
    """The fields at the head of a text, and where the text goes on after them; ({}, 0) where there are none.

    Values are text, numbers, true and false, dates, lists of text, and tables. YAML that is malformed, as an unquoted
    title with a colon is, is read line by line: `key: value`.
    """
    head = text[:_LONGEST]
    found = _YAML.match(head)
    fields: Mapping[str, object] | Mapping[object, object] | None
    if found:
        fields = _yaml(found["body"])
    else:
        found = _TOML.match(head)
        if found is None:
            return {}, 0
        try:
            fields = tomllib.loads(found["body"])
        except (ValueError, RecursionError):
            return {}, 0
    if fields is None:
        return {}, 0
    return {str(key): value for key, value in map(_plain, fields.items()) if value is not None}, found.end()


def _yaml(body: str) -> Mapping[object, object] | None:
    """The mapping that YAML describes; None where it describes another thing, such as a paragraph between two rules.

    Aliases are refused, since a few of them make a file of gigabytes.
    """
    import yaml

    if not body.strip():
        return {}
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(body, Loader=yaml.SafeLoader)):
            return {}
        fields = yaml.safe_load(body)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):
        fields = _pairs(body)
    return fields if isinstance(fields, dict) else None


def _pairs(body: str) -> dict[object, object] | None:
    """Lines of `key: value` as text; None where the first line is none."""
    lines = [line for line in body.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines or _PAIR.match(lines[0]) is None:
        return None
    pairs = (found for line in lines if (found := _PAIR.match(line)))
    return {found["key"]: (found["value"] or "").strip("\"'") for found in pairs}


def _plain(item: tuple[object, object]) -> tuple[object, object]:
    """A field as metadata has it; a list of numbers or dates as one of text, for a column of texts."""
    key, value = item
    if isinstance(value, list) and not all(isinstance(one, str) for one in value):
        if all(isinstance(one, str | int | float | date | time) for one in value):
            value = [str(one) for one in value]
    return key, value
