"""The types of metadata fields: declared in a recipe, or inferred from the values.

A field of one of these types has a column (`thresher.index.columns`), and filters and facets can use it:

| type | values in the metadata |
|---|---|
| `string` | text |
| `integer` | whole numbers from -(2^63 - 1) to 2^63 - 1 |
| `float` | numbers; NaN counts as missing |
| `date` | ISO 8601 text: a year, a month, a day, or a day and a time, with a zone or in UTC; declared, never inferred |
| `boolean` | true and false |
| `strings` | lists of text; a lone text is a list of one, an empty list counts as missing |

Where a field is not text, text that spells a value of its type is read as one, since CSV, TSV and TREC files have
nothing else; empty text is missing. Inference takes whole numbers and other numbers together as `float`, and texts and
lists of texts as `strings`.

A schema also names the fields that have no column, so that a later segment gives them none that would lack the earlier
values: `none` (the recipe says so), `mixed` (values of several types, nested values, numbers beyond 64 bits) and `many`
(more than `MOST_VALUES` distinct strings or one beyond `MOST_CHARACTERS`, and not declared).
"""

from __future__ import annotations

import hashlib
import math
import re
from calendar import monthrange
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

from thresher.checks import shown
from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from thresher.records import Passage

    Schema: TypeAlias = Mapping[str, str]
    """Field name to type."""

Declared = Literal["string", "integer", "float", "date", "boolean", "strings", "none"]
"""What a recipe may say of a field."""
FIELD_TYPES = ("string", "integer", "float", "date", "boolean", "strings")
NONE, MIXED, MANY = "none", "mixed", "many"
MOST_VALUES = 65_536
"""Distinct strings of a field that gets a column without being declared."""
MOST_CHARACTERS = 1024
"""Characters of a string in such a field; longer ones are texts to read, not values to compare."""
MOST_FIELDS = 256
"""Fields that inference takes up; those that appear later have no column unless they are declared."""

Value: TypeAlias = str | int | float | bool
ColumnValue: TypeAlias = "Value | tuple[str, ...]"
"""What a column holds of one passage: a date is its microseconds since 1970 in UTC."""

LARGEST = 2**63 - 1
"""The largest whole number that a column holds; the smallest is its negative."""
DAY = 86_400_000_000
"""Microseconds of a day."""
_EPOCH = datetime(1970, 1, 1)
_YEAR_OR_MONTH = re.compile(r"([0-9]{4})(?:-([0-9]{2}))?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,5})?")
_POSITION = ("start", "end")


def typed(schema: Schema) -> dict[str, str]:
    """The fields of a schema that have a column."""
    return {name: kind for name, kind in schema.items() if kind in FIELD_TYPES}


def described(schema: Schema) -> str:
    """The fields that have a column, with their types, for messages."""
    return ", ".join(f"{name} ({kind})" for name, kind in typed(schema).items()) or "none"


def date_span(text: str) -> tuple[int, int]:
    """First microsecond of what an ISO 8601 text names, and the first one after it, counted from 1970 in UTC.

    A year, a month or a day is that whole period; a time of day is one microsecond. A time without a zone is in UTC.

    Raises:
        ValueError: it is not ISO 8601.
    """
    found = _YEAR_OR_MONTH.fullmatch(text)
    if found:
        year, first, last = int(found[1]), int(found[2] or 1), int(found[2] or 12)
        return _days(date(year, first, 1), date(year, last, monthrange(year, last)[1]))
    try:
        day = date.fromisoformat(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
    else:
        return _days(day, day)
    since = moment.replace(tzinfo=None) - _EPOCH - (moment.utcoffset() or timedelta())
    micros = since // timedelta(microseconds=1)
    return micros, micros + 1


def _days(first: date, last: date) -> tuple[int, int]:
    epoch = _EPOCH.toordinal()
    return (first.toordinal() - epoch) * DAY, (last.toordinal() + 1 - epoch) * DAY


def column_value(kind: str, value: object) -> ColumnValue | None:  # noqa: PLR0911  (one line a type)
    """What the column of a field of type `kind` holds for `value`; None where that counts as missing.

    Raises:
        ValueError: the value is of another type.
    """
    if value is None:
        return None
    if isinstance(value, str):
        if not _is_text(value):
            raise ValueError("half of a surrogate pair, which is not text")
        return _READ[kind](value)
    if isinstance(value, bool):
        if kind == "boolean":
            return value
    elif isinstance(value, int | float) and kind == "float":
        return _as_float(value)
    elif isinstance(value, int) and kind == "integer" and abs(value) <= LARGEST:
        return value
    found = type_of(value)
    if not found:
        return None
    if found == kind and isinstance(value, list | tuple):
        return tuple(dict.fromkeys(value))
    raise ValueError(f"a {type(value).__name__}" if found == MIXED else found)


def type_of(value: object) -> str:  # noqa: PLR0911  (one line a type)
    """The type of field that a value suggests: one of those with a column, `mixed`, or empty where it is missing."""
    if isinstance(value, str):
        return "string" if _is_text(value) else MIXED
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if abs(value) <= LARGEST else MIXED
    if isinstance(value, float):
        return "" if math.isnan(value) else "float"
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        if not value:
            return ""
        return "strings" if all(isinstance(one, str) and _is_text(one) for one in value) else MIXED
    return MIXED


def _is_text(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_float(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        raise ValueError("a whole number beyond every float") from None
    return None if math.isnan(number) else number


def _read_integer(text: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    if not _WHOLE.fullmatch(text) or abs(int(text)) > LARGEST:
        raise ValueError("text")
    return int(text)


def _read_float(text: str) -> float | None:
    text = text.strip()
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise ValueError("text")
    return _as_float(float(text))


def _read_date(text: str) -> int | None:
    text = text.strip()
    return date_span(text)[0] if text else None


def _read_boolean(text: str) -> bool | None:
    text = text.strip().lower()
    if text not in ("true", "false", ""):
        raise ValueError("text")
    return text == "true" if text else None


_READ: dict[str, Callable[[str], ColumnValue | None]] = {
    "string": lambda text: text,
    "integer": _read_integer,
    "float": _read_float,
    "date": _read_date,
    "boolean": _read_boolean,
    "strings": lambda text: (text,),
}


class State(TypedDict):
    """What an `Inference` found.

    Attributes:
        found: types by field, in the order they appeared.
        values: hashes of the distinct strings of a field.
    """

    found: dict[str, str]
    values: dict[str, list[int]]


class Inference:
    """The schema of a stream of passages: give it every one, then ask for `schema`.

    Args:
        declared: the types that the recipe declares, `none` for a field that shall have no column.
        known: the schema that the collection has already; its types stay.
        expected: types of fields that passages may have, where the values are of them; those that no passage has are
            in no schema. Read anew for every passage, so that a corpus may add to it while it is read.

    Raises:
        InputError: a field is declared with another type than the one it has.
    """

    def __init__(
        self, declared: Schema | None = None, known: Schema | None = None, expected: Schema | None = None
    ) -> None:
        self._declared = dict(declared or {})
        self._expected = {} if expected is None else expected
        self._fixed = schema_of(known or {}, self._declared)
        self._checked = typed(self._fixed)
        self._found: dict[str, str] = {}
        self._values: dict[str, set[int]] = {}  # hashes of the distinct strings of a field

    def complaint(self, passage: Passage) -> str:
        """What is wrong with the fields of a passage whose type is fixed already; empty where nothing is."""
        metadata = passage.metadata
        if metadata:
            for name, kind in self._checked.items():
                if name in metadata:
                    try:
                        column_value(kind, metadata[name])
                    except ValueError as err:
                        return wrong_value(
                            passage.docno, name, metadata[name], kind, err, declared=name in self._declared
                        )
        return ""

    def add(self, passages: Iterable[Passage]) -> None:
        """Take up the fields of `passages`.

        Raises:
            InputError: a value is not of the type that its field has or is declared to have; names docno and field.
        """
        for passage in passages:
            if not passage.metadata:
                continue
            wrong = self.complaint(passage)
            if wrong:
                raise InputError(wrong)
            skipped = _POSITION if _is_part(passage) else ()
            for name, value in passage.metadata.items():
                if name not in self._fixed and name not in skipped:
                    self._take(name, value)

    def state(self) -> State:
        """What was found, as plain JSON: for `merge_state` in another process."""
        return {"found": dict(self._found), "values": {name: sorted(seen) for name, seen in self._values.items()}}

    def merge_state(self, state: State) -> None:
        """As `merge`, of what `state` gave in another process."""
        for name, kind in state["found"].items():
            self._note(name, kind)
            if name in self._found:
                self._count(name, state["values"].get(name, ()))

    def merge(self, other: Inference) -> None:
        """Take up what `other`, which has the same declared and known types, found in other passages."""
        self.merge_state(other.state())

    @property
    def schema(self) -> dict[str, str]:
        """Type by field: known and declared ones first, then the others in the order they appeared."""
        return {**self._fixed, **self._found}

    def _take(self, name: str, value: object) -> None:
        kind = type_of(value)
        if not kind or not 0 < len(name) <= MOST_CHARACTERS or not _is_text(name):
            return
        expected = self._expected.get(name, "")
        if expected and _is_of(expected, value):
            self._note(name, expected)
            return
        if (kind == "string" and len(str(value)) > MOST_CHARACTERS) or (
            kind == "strings" and isinstance(value, list | tuple) and max(map(len, value)) > MOST_CHARACTERS
        ):
            kind = MANY
        self._note(name, kind)
        if kind == "string":
            self._count(name, (_key(str(value)),))
        elif kind == "strings" and isinstance(value, list | tuple):
            self._count(name, map(_key, value))

    def _note(self, name: str, kind: str) -> None:
        before = self._found.get(name)
        if before is None:
            if len(self._found) < MOST_FIELDS:
                self._found[name] = kind
        elif before != kind:
            self._found[name] = _wider(before, kind)
            if self._found[name] in (MIXED, MANY):
                self._values.pop(name, None)

    def _count(self, name: str, hashes: Iterable[int]) -> None:
        if self._found.get(name) not in ("string", "strings"):
            return
        seen = self._values.setdefault(name, set())
        seen.update(hashes)
        if len(seen) > MOST_VALUES:
            self._found[name] = MANY
            del self._values[name]


def _key(value: str) -> int:
    """A 64-bit hash, the same in every process."""
    return int.from_bytes(hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _is_of(kind: str, value: object) -> bool:
    try:
        return column_value(kind, value) is not None
    except ValueError:
        return False


def schema_of(old: Schema, new: Schema) -> dict[str, str]:
    """The fields of both schemas.

    Raises:
        InputError: they give a field different types.
    """
    for name, kind in new.items():
        if old.get(name, kind) != kind:
            raise InputError(
                f"field {name!r} is declared as {kind}, but the index has it as {old[name]}; a field keeps its type: "
                "give the new values another name, or build the index again"
            )
    return {**old, **new}


def _wider(one: str, other: str) -> str:
    """The type of a field that has values of both types."""
    both = {one, other}
    if both == {"integer", "float"}:
        return "float"
    if both == {"string", "strings"}:
        return "strings"
    return MANY if MANY in both and both <= {MANY, "string", "strings"} else MIXED


def _is_part(passage: Passage) -> bool:
    """Whether a passage was split from a document: its position in the text is not for filters."""
    values = passage.metadata
    if "document" not in values or "start" not in values or "end" not in values:
        return False
    return all(isinstance(values[name], str) and str(values[name]).isdecimal() for name in _POSITION)


def wrong_value(docno: str, name: str, value: object, kind: str, err: ValueError, *, declared: bool = False) -> str:
    """What is wrong with a value of a field of type `kind`."""
    why = f"the recipe declares it as {kind}" if declared else f"the index has it as {kind}"
    found = f"{shown(value)} ({err})" if kind != "date" else f"{shown(value)}, which is not ISO 8601 text"
    return f"field {name!r} of docno {docno!r} is {found}, but {why}; mend the value, or leave it out"
