"""`metadata_condition` of the external knowledge contract (Dify, RAGFlow) as a filter.

https://docs.dify.ai/en/use-dify/knowledge/external-knowledge-api lists the operators; RAGFlow also writes some of them
in ASCII. They are read by the type of the field:

    contains, start with, end with      of a text: those of the field's values that do; of a list: its elements
    is, is not, =, ≠                    equal, or not; of a list: has the element, or lacks it
    in, not in                          one of several values, as a list or separated by commas; or none of them
    >, <, ≥, ≤, before, after           numbers, dates, texts in the order of their code points
    empty, not empty                    the field is missing (or an empty text); or it is there

What a text contains or ends with is looked for among the values that the field has, so such a condition may take
seconds where these are millions. A passage without the field fits no condition but `empty`. Upper and lower case
differ. Against a date, a number beyond 9999 is seconds since 1970.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from thresher.checks import shown
from thresher.errors import InputError
from thresher.index.filters import MOST_LISTED, Where, check_field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from thresher.index.fields import Value
    from thresher.search.any_index import AnyIndex

    Given = str | int | float | bool | list[str | int | float | bool] | None

MOST_FITTING = 2_000_000
"""Values of fields that the conditions of a request fit, all together."""
_SAME = {
    "==": "=", "!=": "≠", ">=": "≥", "<=": "≤", "not is": "is not", "null": "empty", "not null": "not empty"
}  # fmt: skip
"""Other ways to write an operator."""
_ORDER = {">": "gt", "<": "lt", "≥": "gte", "≤": "lte", "before": "lt", "after": "gt"}
_PARTS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda value, part: part in value,
    "start with": str.startswith,
    "end with": str.endswith,
}
OPERATORS = (
    "contains", "not contains", "start with", "end with", "is", "is not", "in", "not in", "empty", "not empty",
    "=", "≠", *_ORDER,
)  # fmt: skip


class Condition(BaseModel):
    """A comparison.

    Attributes:
        name: the field; of several names, one of the fields must fit.
        comparison_operator: one of `OPERATORS`, or another way to write it.
        value: what the field is compared with.
    """

    model_config = ConfigDict(extra="ignore")

    name: str | Annotated[list[str], Field(max_length=20)]
    comparison_operator: str
    value: str | int | float | bool | list[str | int | float | bool] | None = None


class MetadataCondition(BaseModel):
    """Comparisons that must all hold, or one of them.

    Attributes:
        logical_operator: `and` or `or`.
        conditions: the comparisons.
    """

    model_config = ConfigDict(extra="ignore")

    logical_operator: Literal["and", "or"] | None = "and"
    conditions: list[Condition] | None = Field(default=None, max_length=100)


def as_filter(condition: MetadataCondition | None, index: AnyIndex) -> Where | None:
    """The filter that says the same; None where there is no condition.

    Args:
        condition: of the request.
        index: as the caller may see it; which values a field has is looked up here.

    Raises:
        InputError: an operator is unknown, the field does not exist or has another type, or a value is missing or of
            another type; names it. Or the conditions list, or fit, too many values.
    """
    if condition is None or not condition.conditions:
        return None
    fields = _Fields(index)
    parts = [_one(one, f"condition {place}", fields) for place, one in enumerate(condition.conditions)]
    return Where.parse({condition.logical_operator or "and": parts}, most_listed=MOST_LISTED + fields.fitting)


def _one(condition: Condition, place: str, fields: _Fields) -> dict[str, object]:
    given = condition.comparison_operator.strip()
    operator = _SAME.get(given, given)
    if operator not in OPERATORS:
        raise InputError(
            f"{place}: unknown comparison_operator {shown(condition.comparison_operator)}; use one of "
            f"{', '.join(OPERATORS)}"
        )
    names = [condition.name] if isinstance(condition.name, str) else condition.name
    if not names:
        raise InputError(f"{place} names no field")
    return {"or": [_Compared(name, operator, condition.value, place, fields).filter() for name in names]}


class _Fields:
    """The values that the fields of an index have, each looked up once.

    Args:
        index: as the caller may see it.

    Attributes:
        index: the same.
        fitting: values that conditions have fitted so far.
    """

    def __init__(self, index: AnyIndex) -> None:
        self.index, self.fitting = index, 0
        self._values: dict[str, list[str]] = {}

    def fit(self, name: str, fits: Callable[[str], bool], where: str) -> list[Value]:
        """The values of a field that fit."""
        if name not in self._values:
            self._values[name] = [str(one) for one in self.index.facets(name)]
        found: list[Value] = [one for one in self._values[name] if fits(one)]
        self.fitting += len(found)
        if self.fitting > MOST_FITTING:
            raise InputError(f"{where} fits too many values: with the conditions before it more than {MOST_FITTING:,}; "
                             "compare with a longer text, or use fewer conditions")  # fmt: skip
        return found


class _Compared:
    """One field compared in one way."""

    def __init__(self, name: str, operator: str, value: Given, place: str, fields: _Fields) -> None:
        self.name, self.operator, self.value, self.fields = name, operator, value, fields
        self.kind = check_field(name, fields.index.schema)
        self.where = f"{place}: {operator!r} on field {name!r}, which is of type {self.kind},"

    def filter(self) -> dict[str, object]:
        operator = self.operator
        if operator in ("empty", "not empty"):
            return self._empty(empty=operator == "empty")
        wanted = self._values()
        if operator in _ORDER:
            return {self.name: {_ORDER[operator]: self._only(wanted)}}
        if operator == "start with" and self.kind == "string":
            return {"or": [{self.name: {"prefix": part}} for part in wanted]} if wanted else self._among(())
        if operator.removeprefix("not ") in _PARTS:
            wanted = self._holding(operator.removeprefix("not "), wanted)
        negative = operator in ("not contains", "is not", "not in", "≠")
        return self._but(wanted) if negative else self._among(wanted)

    def _among(self, values: Iterable[Value]) -> dict[str, object]:
        """The field has one of the values."""
        return {self.name: {"any" if self.kind == "strings" else "in": [*values]}}

    def _but(self, values: Iterable[Value]) -> dict[str, object]:
        """The field is there, and has none of the values."""
        return {"and": [{self.name: {"exists": True}}, {"not": self._among(values)}]}

    def _empty(self, *, empty: bool) -> dict[str, object]:
        missing: dict[str, object] = {self.name: {"exists": False}}
        if self.kind == "string":
            missing = {"or": [missing, {self.name: ""}]}
        return missing if empty else {"not": missing}

    def _values(self) -> list[Value]:
        """What the field is compared with, in its type."""
        value = self.value
        if value is None:
            raise InputError(f"{self.where} needs a value")
        if isinstance(value, str) and self.operator in ("in", "not in"):
            value = [one.strip() for one in value.split(",")]
        return [self._typed(one) for one in (value if isinstance(value, list) else [value])]

    def _only(self, values: list[Value]) -> Value:
        if len(values) != 1:
            raise InputError(f"{self.where} takes one value; got {len(values)}")
        return values[0]

    def _holding(self, operator: str, parts: list[Value]) -> list[Value]:
        """The values of the field that hold one of the parts; a list that contains an element has it whole."""
        if self.kind not in ("string", "strings"):
            raise InputError(f"{self.where} compares texts only")
        if self.kind == "strings" and operator == "contains":
            return parts
        fits = _PARTS[operator]
        return self.fields.fit(self.name, lambda one: any(fits(one, str(part)) for part in parts), self.where)

    def _typed(self, value: Value) -> Value:
        kind = self.kind
        if kind in ("string", "strings"):
            return value if isinstance(value, str) else str(value)
        try:
            if kind == "boolean":
                return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]
            if kind == "date":
                return _date(value)
            if isinstance(value, str):
                return float(value) if kind == "float" or not value.strip().lstrip("+-").isdigit() else int(value)
        except (ValueError, KeyError, OverflowError, OSError):
            raise InputError(f"{self.where} is compared with {shown(value)}, which is none") from None
        return value


def _date(value: Value) -> Value:
    """A date as a filter takes it: text as it is, large numbers as seconds since 1970."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value <= 9999:
        return value
    return datetime.fromtimestamp(value, UTC).isoformat()
