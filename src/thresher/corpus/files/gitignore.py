"""The patterns of `.gitignore` files, as gitignore(5) describes them."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One pattern.

    Attributes:
        expression: of paths relative to the file's folder, with `/`.
        negated: what it fits is read again.
        folders: it fits folders alone.
    """

    expression: re.Pattern[str]
    negated: bool
    folders: bool


def rules_of(text: str) -> list[Rule]:
    """The rules of a file in order; lines that are no pattern are left out."""
    return [rule for line in text.splitlines() if (rule := _rule(line)) is not None]


def is_ignored(path: str, levels: list[tuple[str, list[Rule]]], *, folder: bool) -> bool:
    """Whether a path is ignored: by the last rule that fits, those of deeper folders after those above.

    Args:
        path: relative to the root, with `/`.
        levels: (folder with a `/` at its end, empty for the root; its rules), from the root down.
        folder: whether the path is a folder.
    """
    for place, rules in reversed(levels):
        inner = path.removeprefix(place)
        for rule in reversed(rules):
            if (folder or not rule.folders) and rule.expression.fullmatch(inner):
                return not rule.negated
    return False


def _rule(line: str) -> Rule | None:
    pattern = re.sub(r"(?<!\\)[ \t]+$", "", line.rstrip("\r\n"))
    if not pattern or pattern.startswith("#"):
        return None
    negated = pattern.startswith("!")
    pattern = pattern[1:] if negated else pattern
    folders = pattern.endswith("/")
    pattern = pattern.rstrip("/") if folders else pattern
    if not pattern:
        return None
    anchored = "/" in pattern
    body = _expression(pattern.removeprefix("/"))
    try:
        return Rule(re.compile(body if anchored else f"(?:.*/)?{body}", re.DOTALL), negated, folders)
    except re.error:
        return None


def _expression(pattern: str) -> str:
    """A pattern as a regular expression."""
    out: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**/", at) and (at == 0 or pattern[at - 1] == "/"):
            out.append("(?:.*/)?")
            at += 3
        elif pattern[at:] == "**" and (at == 0 or pattern[at - 1] == "/"):
            out.append(".*" if at == 0 else ".+")
            at += 2
        elif char == "*":
            out.append("[^/]*")
            at += 1 + (pattern[at + 1 : at + 2] == "*")
        elif char == "?":
            out.append("[^/]")
            at += 1
        elif char == "[" and (end := pattern.find("]", at + 2 + (pattern[at + 1 : at + 2] in ("!", "^")))) > 0:
            inner = pattern[at + 1 : end].replace("\\", "\\\\")
            inner = f"^/{inner[1:]}" if inner[:1] in ("!", "^") else inner
            out.append(f"[{inner}]")
            at = end + 1
        elif char == "\\" and at + 1 < len(pattern):
            out.append(re.escape(pattern[at + 1]))
            at += 2
        else:
            out.append(re.escape(char))
            at += 1
    return "".join(out)
