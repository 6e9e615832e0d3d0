"""Filters over metadata fields: from a mapping or from text to one tree, checked against a schema.

    {"lang": "en", "year": {"gte": 2020, "lt": 2024}, "not": {"source": {"in": ["a", "b c"]}}}
    lang = en and year >= 2020 and year < 2024 and not source in (a, "b c")

Both forms can say the same. A mapping's entries hold together; its keys are fields, or `and` and `or` (a list of
mappings) and `not` (one mapping). `thresher.index.filter_text` has the grammar of the text.

A passage without the field matches no comparison, also not `!=`; the `not` of a comparison does match it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from math import isfinite
from numbers import Integral, Real
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from thresher.checks import is_a, shown
from thresher.errors import InputError
from thresher.index.fields import (
    FIELD_TYPES,
    LARGEST,
    MANY,
    MIXED,
    MOST_CHARACTERS,
    MOST_VALUES,
    Value,
    date_span,
    described,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from thresher.index.fields import Schema

MOST_DEPTH = 50
"""Levels of `and`, `or` and `not` in a filter."""
MOST_CONDITIONS = 10_000
MOST_LISTED = 100_000
"""Values in the lists of a filter, all together."""
MOST_TEXT = 4_000_000
"""Characters of a filter as text."""

COMPARISONS = {"eq": "=", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
LISTS = ("in", "any", "all")
OPERATORS = (*COMPARISONS, *LISTS, "exists", "prefix")
_ORDER = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "exists")
_TAKEN: dict[str, tuple[str, ...]] = {
    "string": (*_ORDER, "prefix"), "integer": _ORDER, "float": _ORDER, "date": _ORDER,
    "boolean": ("eq", "ne", "in", "exists"), "strings": ("any", "all", "exists"),
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Where:
    """A filter. Make one with `Where.parse`; two are equal where their `key` is.

    Attributes:
        op: `and`, `or` or `not`, which join `parts`; or one of `OPERATORS`, which compares `field` with `values`.
        field: the field of a condition.
        values: what it is compared with.
        parts: the filters that are joined.
    """

    op: str
    field: str = ""
    values: tuple[Value, ...] = ()
    parts: tuple[Where, ...] = ()

    @classmethod
    def parse(cls, value: Where | str | Mapping[str, object], *, most_listed: int | None = None) -> Where:
        """The filter that a mapping or a text says.

        Args:
            value: the filter.
            most_listed: values in its lists, all together; 100,000 by default. A `Where` is taken as it is.

        Raises:
            InputError: it is empty, is not a filter, or is too large or too deep; says what and where.
        """
        from thresher.index.filter_text import parse_text

        if isinstance(value, Where):
            return value
        if is_a(value, str):
            return _checked_size(parse_text(str(value)), most_listed)
        return _checked_size(_Parsed().tree(value), most_listed)

    @cached_property
    def key(self) -> str:
        """The filter as text in a canonical form: order and repetition of what is joined or listed do not count."""
        from thresher.index.filter_text import canonical, written

        return written(canonical(self))

    @cached_property
    def fields(self) -> frozenset[str]:
        """The fields that it names."""
        return frozenset(one.field for one in _conditions(self))

    def check(self, schema: Schema) -> None:
        """Check that the fields exist, and that they are compared with values of their types.

        Raises:
            InputError: one does not, or is not; lists the fields with their types.
        """
        for one in _conditions(self):
            _check(one, schema)

    def __and__(self, other: Where) -> Where:
        both = joined("and", [self, other])
        return _checked_size(both, most_listed=sum(len(one.values) for one in _conditions(both)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Where) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        from thresher.index.filter_text import written

        return written(self)

    def __repr__(self) -> str:
        return f"Where({str(self)!r})"


Filter: TypeAlias = Where | str | Mapping[str, object]
"""What `where=` takes."""


def _conditions(where: Where) -> Iterator[Where]:
    if not where.parts:
        yield where
    for part in where.parts:
        yield from _conditions(part)


def joined(op: str, parts: list[Where]) -> Where:
    """The parts under one `and` or `or`; parts that are joined in the same way become parts of the whole."""
    flat = [one for part in parts for one in (part.parts if part.op == op else (part,))]
    return flat[0] if len(flat) == 1 else Where(op, parts=tuple(flat))


def _checked_size(where: Where, most_listed: int | None) -> Where:
    most = MOST_LISTED if most_listed is None else most_listed
    conditions = list(_conditions(where))
    if len(conditions) > MOST_CONDITIONS:
        raise InputError(f"the filter has {len(conditions):,} conditions; at most {MOST_CONDITIONS:,} are allowed")
    listed = sum(len(one.values) for one in conditions)
    if listed > most + len(conditions):
        raise InputError(f"the filter lists {listed:,} values; at most {most:,} are allowed")
    if _depth(where) > MOST_DEPTH:
        refuse_depth()
    return where


def _depth(where: Where) -> int:
    return 1 + max(map(_depth, where.parts)) if where.parts else 0


def refuse_depth() -> NoReturn:
    """Refuse a filter that is nested too deep."""
    raise InputError(f"the filter is nested deeper than {MOST_DEPTH} levels; write it flatter")


# --- from a mapping


class _Parsed:
    """Turns mappings into a tree; how much is left stops lists that hold one another again and again."""

    def __init__(self) -> None:
        self._left = MOST_CONDITIONS

    def tree(self, value: object, depth: int = 0) -> Where:
        if isinstance(value, Where):
            return value
        if not isinstance(value, Mapping):
            raise InputError(f'a filter is a mapping, as {{"lang": "en"}}, or text, as "lang = en"; got {shown(value)}')
        if depth > MOST_DEPTH:
            refuse_depth()
        if not value:
            raise InputError("the filter is empty; leave it out to take all passages")
        self._left -= len(value)
        if self._left < 0:
            raise InputError(f"the filter has more than {MOST_CONDITIONS:,} conditions")
        parts = []
        for name, wanted in value.items():
            if name in ("and", "or"):
                if not isinstance(wanted, list | tuple) or not wanted:
                    raise InputError(f"{name!r} in a filter takes a list of filters; got {shown(wanted)}")
                parts.append(joined(name, [self.tree(one, depth + 1) for one in wanted]))
            elif name == "not":
                parts.append(Where("not", parts=(self.tree(wanted, depth + 1),)))
            else:
                parts.extend(_conditions_on(_field(name), wanted))
        return joined("and", parts)


def _conditions_on(field: str, wanted: object) -> list[Where]:
    if not isinstance(wanted, Mapping):
        if isinstance(wanted, list | tuple | set | frozenset):
            raise InputError(
                f'field {field!r} in the filter is compared with a list; say {{"in": [...]}} for one of several '
                'values, or {"any": [...]} and {"all": [...]} for a field that holds lists'
            )
        return [Where("eq", field, (_value(field, wanted),))]
    if not wanted:
        raise InputError(f"field {field!r} in the filter is compared with nothing; use one of {', '.join(OPERATORS)}")
    return [_condition(field, op, value) for op, value in wanted.items()]


def _condition(field: str, op: object, value: object) -> Where:
    if op in LISTS:
        listed = value.tolist() if hasattr(value, "tolist") else value
        if not isinstance(listed, list | tuple | set | frozenset):
            raise InputError(f"{op!r} on field {field!r} takes a list of values; got {shown(value)}")
        values = [_value(field, one) for one in listed]
        return Where(str(op), field, tuple(values if isinstance(listed, list | tuple) else sorted(values, key=repr)))
    if op == "exists":
        if not isinstance(value, bool):
            raise InputError(f"'exists' on field {field!r} takes True or False; got {shown(value)}")
        there = Where("exists", field)
        return there if value else Where("not", parts=(there,))
    if op in COMPARISONS or op == "prefix":
        return Where(str(op), field, (_value(field, value),))
    raise InputError(f"unknown comparison {shown(op)} on field {field!r}; use one of {', '.join(OPERATORS)}")


def _field(name: object) -> str:
    if not isinstance(name, str) or not name or not is_text(name):
        raise InputError(f"a filter names fields by text that is not empty; got {shown(name)}")
    return str(name)


def _value(field: str, value: object) -> Value:
    """A value as the tree holds it: dates as ISO 8601 text, numbers of numpy as Python's."""
    if type(value).__name__ in ("bool", "bool_") and hasattr(value, "__bool__"):
        return bool(value)
    if isinstance(value, str) and is_text(value):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Integral):
        if abs(int(value)) <= LARGEST:
            return int(value)
    elif isinstance(value, Real) and isfinite(value):
        return float(value)
    hint = '; for passages without it say {"exists": False}' if value is None else ""
    raise InputError(
        f"field {field!r} in the filter is compared with {shown(value)}; values are text, finite numbers of at most 64 "
        f"bits, True, False and dates{hint}"
    )


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- against a schema


def check_field(field: str, schema: Schema) -> str:
    """The type of a field.

    Raises:
        InputError: there is no such field, or it has no column; lists the fields that have one.
    """
    kind = schema.get(field)
    if kind is None:
        raise InputError(f"the index has no field {field!r}; its fields are: {described(schema)}")
    if kind not in FIELD_TYPES:
        raise InputError(f"{_without_column(field, kind)} Fields with a column are: {described(schema)}")
    return kind


def _check(one: Where, schema: Schema) -> None:
    kind = check_field(one.field, schema)
    taken = _TAKEN[kind]
    if one.op not in taken:
        signs = ", ".join(COMPARISONS.get(op, op) for op in taken)
        raise InputError(
            f"field {one.field!r} is of type {kind}, which {COMPARISONS.get(one.op, one.op)!r} does not compare; use "
            f"one of {signs}. The fields are: {described(schema)}"
        )
    for value in one.values:
        wrong = _FITS[kind](value)
        if wrong:
            raise InputError(
                f"field {one.field!r} is of type {kind}, but the filter compares it with {shown(value)}; {wrong}. "
                f"The fields are: {described(schema)}"
            )


def _without_column(field: str, kind: str) -> str:
    declare = f"declare it in the recipe, as [fields] {field} = "
    if kind == MANY:
        return (
            f"field {field!r} cannot be filtered: it has more than {MOST_VALUES:,} distinct values, or one longer than "
            f"{MOST_CHARACTERS:,} characters, and such a field has a column only where it is declared; "
            f'{declare}"string", and build the index again.'
        )
    if kind == MIXED:
        return (
            f"field {field!r} cannot be filtered: it has values of several types, nested values or numbers beyond 64 "
            f'bits; give all passages values of one type, or {declare}"float", and build the index again.'
        )
    return f'field {field!r} cannot be filtered: the recipe declares it as {kind}; {declare}"string", to change that.'


def _is_string(value: Value) -> str:
    return "" if isinstance(value, str) else f'write text in quotes: "{json.dumps(value)}"'


def _is_number(value: Value) -> str:
    return "" if isinstance(value, int | float) and not isinstance(value, bool) else "write a number, without quotes"


def _is_flag(value: Value) -> str:
    return "" if isinstance(value, bool) else "write true or false"


def _is_date(value: Value) -> str:
    wrong = "write an ISO 8601 date, as 2024-05-01 or 2024-05-01T10:30:00Z"
    try:
        span_of(value)
    except ValueError:
        return wrong
    return ""


def span_of(value: Value) -> tuple[int, int]:
    """The period that a value compared with a date names, as `date_span`; a number of four digits is a year.

    Raises:
        ValueError: it names none.
    """
    if isinstance(value, str):
        return date_span(value)
    if type(value) is int and 1 <= value <= 9999:
        return date_span(f"{value:04}")
    raise ValueError("not a date")


_FITS: dict[str, Callable[[Value], str]] = {
    "string": _is_string, "strings": _is_string, "integer": _is_number, "float": _is_number, "boolean": _is_flag,
    "date": _is_date,
}  # fmt: skip
