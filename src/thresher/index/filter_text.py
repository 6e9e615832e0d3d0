"""Filters as text: parsed by recursive descent, and written so that they can be parsed again.

    filter     = all-of {"or" all-of}
    all-of     = one {"and" one}
    one        = "not" one | "(" filter ")" | "exists" field | field comparison
    comparison = ("=" | "!=" | ">" | ">=" | "<" | "<=" | "prefix") value
               | ["not"] "in" list | "any" list | "all" list
    list       = "(" [value {"," value}] ")"

Keywords are recognised in any case. A field is a word or quoted. A value is a word, a number, `true` or `false`, or
quoted: `"as JSON"` or `'as it is'`. The parser is written by hand: four rules do not pay for a dependency.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, NoReturn

from thresher.checks import shown
from thresher.errors import InputError
from thresher.index.fields import LARGEST
from thresher.index.filters import COMPARISONS, LISTS, MOST_DEPTH, MOST_TEXT, Where, is_text, joined, refuse_depth

if TYPE_CHECKING:
    from thresher.index.fields import Value

_TOKEN = re.compile(
    r"""\s*(?:(?P<json>"(?:[^"\\]|\\.)*+")|'(?P<raw>[^']*+)'|(?P<op>==|!=|<>|<=|>=|[=<>(),])|(?P<word>[^\s(),"'=<>!]++))""",
    re.DOTALL,
)
_BLANK = re.compile(r"\s*")
_INTEGER = re.compile(r"[+-]?[0-9]++")
_FLOAT = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_SAFE = re.compile(r"[^\W\d][\w./:@#-]*+")
_KEYWORDS = {"and", "or", "not", "in", "any", "all", "exists", "prefix", "true", "false"}
_SIGNS = {sign: op for op, sign in COMPARISONS.items()} | {"==": "eq", "<>": "ne"}


def parse_text(text: str) -> Where:
    """The filter that a text says; its size is not checked, its depth is.

    Raises:
        InputError: it is empty, too long or too deep, or does not follow the grammar; says where.
    """
    return _Text(text).parse()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    """`sign`, `keyword`, `word`, `quoted` or `end`."""
    text: str
    at: int


class _Text:
    """A filter as text, and how far it is parsed."""

    def __init__(self, text: str) -> None:
        if len(text) > MOST_TEXT:
            raise InputError(f"the filter has {len(text):,} characters; at most {MOST_TEXT:,} are allowed")
        if not is_text(text):
            raise InputError(f"the filter holds half of a surrogate pair, which is not text: {shown(text)}")
        self._text = text
        self._end = 0
        self._next = self._read()

    def parse(self) -> Where:
        if self._next.kind == "end":
            raise InputError("the filter is empty; leave it out to take all passages")
        where = self._any_of(0)
        if self._next.kind != "end":
            self._refuse("'and', 'or' or the end")
        return where

    def _read(self) -> _Token:
        begin = _BLANK.match(self._text, self._end)
        at = begin.end() if begin else self._end
        if at == len(self._text):
            return _Token("end", "", at)
        found = _TOKEN.match(self._text, self._end)
        if found is None:
            problem = "a quote that is not closed" if self._text[at] in "\"'" else "a sign that means nothing there"
            raise InputError(f"the filter has {problem} at character {at + 1}: {self._near(at)}")
        self._end = found.end()
        if found["json"] is not None:
            try:
                text = json.loads(found["json"], strict=False)
            except ValueError:
                text = "\ud800"
            if not is_text(text):
                raise InputError(f"the quoted text at character {at + 1} of the filter is not JSON: {self._near(at)}")
            return _Token("quoted", text, at)
        if found["raw"] is not None:
            return _Token("quoted", found["raw"], at)
        if found["op"] is not None:
            return _Token("sign", found["op"], at)
        word = found["word"]
        return _Token("keyword", word.lower(), at) if word.lower() in _KEYWORDS else _Token("word", word, at)

    def _take(self, kind: str, *texts: str) -> str | None:
        """The next token's text, taken, where it is one of these."""
        token = self._next
        if token.kind != kind or (texts and token.text not in texts):
            return None
        self._next = self._read()
        return token.text

    def _any_of(self, depth: int) -> Where:
        parts = [self._all_of(depth)]
        while self._take("keyword", "or"):
            parts.append(self._all_of(depth))
        return joined("or", parts)

    def _all_of(self, depth: int) -> Where:
        parts = [self._one(depth)]
        while self._take("keyword", "and"):
            parts.append(self._one(depth))
        return joined("and", parts)

    def _one(self, depth: int) -> Where:
        if depth > MOST_DEPTH:
            refuse_depth()
        if self._take("keyword", "not"):
            return Where("not", parts=(self._one(depth + 1),))
        if self._take("sign", "("):
            where = self._any_of(depth + 1)
            if not self._take("sign", ")"):
                self._refuse("'and', 'or' or ')'")
            return where
        if self._take("keyword", "exists"):
            return Where("exists", self._name("a field after 'exists'"))
        return self._comparison(self._name("a field, 'not', 'exists' or '('"))

    def _name(self, wanted: str) -> str:
        name = self._take("word") or self._take("quoted")
        if not name:
            self._refuse(wanted)
        return name

    def _comparison(self, field: str) -> Where:
        sign = self._take("sign", *_SIGNS)
        if sign:
            return Where(_SIGNS[sign], field, (self._value(),))
        if self._take("keyword", "prefix"):
            return Where("prefix", field, (self._value(),))
        if self._take("keyword", "not"):
            if not self._take("keyword", "in"):
                self._refuse("'in'")
            return Where("not", parts=(Where("in", field, self._list()),))
        op = self._take("keyword", *LISTS)
        if not op:
            self._refuse(f"a comparison (=, !=, >, >=, <, <=, in, any, all, prefix) after {field!r}")
        return Where(op, field, self._list())

    def _list(self) -> tuple[Value, ...]:
        if not self._take("sign", "("):
            self._refuse("'(' and a list of values")
        values: list[Value] = []
        if self._take("sign", ")"):
            return ()
        while True:
            values.append(self._value())
            if self._take("sign", ")"):
                return tuple(values)
            if not self._take("sign", ","):
                self._refuse("',' or ')'")

    def _value(self) -> Value:
        quoted = self._take("quoted")
        if quoted is not None:
            return quoted
        flag = self._take("keyword", "true", "false")
        if flag:
            return flag == "true"
        at, word = self._next.at, self._take("word")
        if word is None:
            self._refuse("a value (in quotes where it holds spaces or signs, or is a keyword)")
        if _INTEGER.fullmatch(word):
            if len(word) <= 20 and abs(int(word)) <= LARGEST:
                return int(word)
        elif not _FLOAT.fullmatch(word):
            return word
        elif isfinite(float(word)):
            return float(word)
        raise InputError(f"the number {shown(word)} at character {at + 1} of the filter does not fit into 64 bits")

    def _refuse(self, wanted: str) -> NoReturn:
        at = self._next.at
        raise InputError(f"expected {wanted} at character {at + 1} of the filter: {self._near(at)}")

    def _near(self, at: int) -> str:
        before, after = self._text[max(at - 30, 0) : at], self._text[at : at + 30]
        return f"{shown(before)} and then {shown(after)}" if after else f"it ends after {shown(before)}"


def canonical(where: Where) -> Where:
    """The filter with what is joined or listed sorted and without repetition, so that equal ones are written alike."""
    if where.op == "not":
        inner = canonical(where.parts[0])
        return inner.parts[0] if inner.op == "not" else Where("not", parts=(inner,))
    if where.parts:
        flat = joined(where.op, [canonical(part) for part in where.parts])
        if flat.op != where.op:
            return flat
        parts = {written(part): part for part in flat.parts}
        return joined(where.op, [parts[text] for text in sorted(parts)])
    if where.op in LISTS:
        values = {_literal(value): value for value in where.values}
        return Where(where.op, where.field, tuple(values[text] for text in sorted(values)))
    return where


def written(where: Where) -> str:
    """The filter as text."""
    if where.op in ("and", "or"):
        texts = [f"({written(part)})" if part.op in ("and", "or") else written(part) for part in where.parts]
        return f" {where.op} ".join(texts)
    if where.op == "not":
        inner = written(where.parts[0])
        return f"not ({inner})" if where.parts[0].op in ("and", "or") else f"not {inner}"
    field = _quoted(where.field)
    if where.op == "exists":
        return f"exists {field}"
    if where.op in LISTS:
        return f"{field} {where.op} ({', '.join(map(_literal, where.values))})"
    return f"{field} {COMPARISONS.get(where.op, where.op)} {_literal(where.values[0])}"


def _literal(value: Value) -> str:
    if isinstance(value, str):
        return _quoted(value)
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _quoted(text: str) -> str:
    plain = _SAFE.fullmatch(text) and text.lower() not in _KEYWORDS
    return text if plain else json.dumps(text, ensure_ascii=False)
