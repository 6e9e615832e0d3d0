"""Filters of other frameworks as `thresher.index.filters`: comparisons by their signs, joined by and, or and not.

The frameworks let a document without the field match `!=` and `not in`, and thresher does not: those two become the
`not` of `=` and `in`, which does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from thresher.checks import shown
from thresher.errors import InputError

Tree: TypeAlias = dict[str, object]
"""A filter as `Where.parse` takes it."""

_OPERATORS = {
    "==": "eq", "eq": "eq", "!=": "ne", "ne": "ne", ">": "gt", "gt": "gt", ">=": "gte", "gte": "gte", "<": "lt",
    "lt": "lt", "<=": "lte", "lte": "lte", "in": "in", "not in": "nin", "nin": "nin", "any": "any", "all": "all",
    "contains": "contains", "contain": "contains", "is_empty": "empty",
}  # fmt: skip


def comparison(field: object, operator: object, value: object, taken: Sequence[str] = tuple(_OPERATORS)) -> Tree:
    """One comparison of a field with a value.

    Args:
        field: the field.
        operator: a sign or a word of `taken`.
        value: what it is compared with; None, with `==` and `!=`, is a field that is missing.
        taken: the operators of the framework.

    Raises:
        InputError: the operator is unknown, the field is not a name, or the value does not go with it.
    """
    op = _OPERATORS.get(operator) if isinstance(operator, str) and operator in taken else None
    if op is None:
        raise InputError(f"the filter compares {shown(field)} by {shown(operator)}; use one of {', '.join(taken)}")
    if not isinstance(field, str) or not field:
        raise InputError(f"a filter names fields by text that is not empty; got {shown(field)}")
    if op in ("in", "nin", "any", "all") and not isinstance(value, list | tuple | set | frozenset):
        raise InputError(f"the filter compares field {field!r} by {operator!r} with {shown(value)}; give a list")
    if op == "empty" or (op == "eq" and value is None):
        return {field: {"exists": False}}
    if op == "ne" and value is None:
        return {field: {"exists": True}}
    if op in ("ne", "nin"):
        return {"not": {field: {"eq" if op == "ne" else "in": value}}}
    if op == "contains":
        return {field: {"any": [value]}}
    return {field: {op: value}}


def joined(operator: object, parts: Sequence[Tree], *, nots: str = "and") -> Tree:
    """Filters joined by `and`, `or` or `not`, in any case.

    Args:
        operator: how.
        parts: the filters.
        nots: what several parts of a `not` are joined by before it.

    Raises:
        InputError: the operator is unknown, or there are no parts.
    """
    how = operator.lower() if isinstance(operator, str) else ""
    if how not in ("and", "or", "not"):
        raise InputError(f"a filter joins conditions by and, or or not; got {shown(operator)}")
    if not parts:
        raise InputError(f"the filter has {how!r} without conditions; leave it out to take all passages")
    return {"not": {nots: list(parts)}} if how == "not" else {how: list(parts)}


def from_haystack(filters: object) -> Tree | None:
    """A filter from Haystack's dictionaries; None where there is none. `meta.` before a field's name is left out.

    Raises:
        InputError: it is not a filter.
    """
    if filters is None or filters == {}:
        return None
    if not isinstance(filters, Mapping):
        raise InputError(f"a filter of Haystack is a dictionary; got {shown(filters)}")
    missing = [name for name in ("operator",) if name not in filters]
    missing += [] if "field" not in filters or "value" in filters else ["value"]
    missing += [] if "field" in filters or "conditions" in filters else ["conditions"]
    if missing:
        raise InputError(f"{missing[0]!r} is missing in the filter {shown(filters)}")
    if "field" in filters:
        field = filters["field"]
        name = field.removeprefix("meta.") if isinstance(field, str) else field
        signs = ("==", "!=", ">", ">=", "<", "<=", "in", "not in")
        return comparison(name, filters["operator"], filters["value"], signs)
    conditions = filters["conditions"]
    if not isinstance(conditions, list | tuple):
        raise InputError(f"'conditions' in a filter is a list; got {shown(conditions)}")
    parts = [from_haystack(one) for one in conditions]
    return joined(filters["operator"], [one for one in parts if one is not None])
