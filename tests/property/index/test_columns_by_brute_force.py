"""Masks and counts of columns equal what a loop over the passages' metadata gives."""

import math
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.index import column_writer
from thresher.index.column_writer import ColumnWriter
from thresher.index.columns import Columns
from thresher.index.fields import Inference
from thresher.index.filters import Where
from thresher.records import Passage

WORDS = ["", "a", "b", "ab", "a b", "é", "z\u0301", "\U0001f600", "and", "2020", '"', "'", "a\nb", "\0"]
strings = st.one_of(st.sampled_from(WORDS), st.text(max_size=4).filter(lambda s: s.isascii() or encodes(s)))
integers = st.one_of(
    st.integers(-3, 3), st.sampled_from([127, -127, 128, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63) + 1])
)
floats = st.one_of(st.floats(-2, 2, width=16), st.sampled_from([0.0, -0.0, 1e300, 2.0**53, math.inf, -math.inf]))
DAY = date(2024, 2, 28)
days = st.integers(0, 3).map(lambda n: DAY + timedelta(n))
moments = st.builds(
    lambda day, hour, zone: datetime(day.year, day.month, day.day, hour, tzinfo=UTC).isoformat() if zone else
    f"{day}T{hour:02}:00", days, st.integers(0, 23), st.booleans(),
)  # fmt: skip
dates = st.one_of(days.map(date.isoformat), moments, st.sampled_from(["2024", "2024-02", "2024-03-01T00:30+05:00"]))

VALUES = {
    "s": strings,
    "i": integers,
    "f": st.one_of(floats, integers, st.just(math.nan)),
    "d": dates,
    "b": st.booleans(),
    "l": st.lists(strings, max_size=3),
}
DECLARED = {"s": "string", "i": "integer", "f": "float", "d": "date", "b": "boolean", "l": "strings"}


def encodes(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@st.composite
def metadata(draw):
    there = draw(st.sets(st.sampled_from(sorted(VALUES))))
    return {name: draw(VALUES[name]) for name in sorted(there)}


finite = st.one_of(floats.filter(math.isfinite), integers)
ASKED = {"s": strings, "i": finite, "f": finite, "d": dates, "b": st.booleans(), "l": strings}


@st.composite
def conditions(draw):
    field = draw(st.sampled_from(sorted(ASKED)))
    ops = ["exists"]
    ops += {"l": ["any", "all"], "b": ["eq", "ne", "in"]}.get(field, ["eq", "ne", "gt", "gte", "lt", "lte", "in"])
    ops += ["prefix"] if field == "s" else []
    op = draw(st.sampled_from(ops))
    if op == "exists":
        return {field: {"exists": draw(st.booleans())}}
    if op in ("in", "any", "all"):
        return {field: {op: draw(st.lists(ASKED[field], max_size=12))}}
    return {field: {op: draw(ASKED[field])}}


filters = st.recursive(
    conditions(),
    lambda inner: st.one_of(
        st.builds(lambda parts: {"and": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"or": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda one: {"not": one}, inner),
    ),
    max_leaves=6,
)


def moment(text):
    """The instant that a text begins at, and the one its period ends before."""
    if len(text) == 4:
        return datetime(int(text), 1, 1, tzinfo=UTC), datetime(int(text) + 1, 1, 1, tzinfo=UTC)
    if len(text) == 7:
        year, month = map(int, text.split("-"))
        return datetime(year, month, 1, tzinfo=UTC), datetime(year, month + 1, 1, tzinfo=UTC)
    found = datetime.fromisoformat(text)
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
    return found, found + (timedelta(1) if len(text) == 10 else timedelta(microseconds=1))


def holds(where, fields):
    """Whether a passage with these fields fulfils a filter, by the definition."""
    ((name, wanted),) = where.items()
    if name == "and":
        return all(holds(one, fields) for one in wanted)
    if name == "or":
        return any(holds(one, fields) for one in wanted)
    if name == "not":
        return not holds(wanted, fields)
    ((op, asked),) = wanted.items()
    value = fields.get(name)
    there = name in fields and value != [] and not (isinstance(value, float) and math.isnan(value))
    if op == "exists":
        return there == asked
    if not there:
        return False
    if op in ("any", "all"):
        return (any if op == "any" else all)(one in value for one in asked)
    if name == "f":
        value = float(value)
    if op == "in":
        return any(compare(name, "eq", value, one) for one in asked)
    return compare(name, op, value, asked)


def compare(name, op, value, asked):
    if op == "ne":
        return not compare(name, "eq", value, asked)
    if op == "prefix":
        return value.startswith(asked)
    if name == "d":
        (value, _), (begin, end) = moment(value), moment(asked)
        return {"eq": begin <= value < end, "gt": value >= end, "gte": value >= begin,
                "lt": value < begin, "lte": value < end}[op]  # fmt: skip
    return {"eq": value == asked, "gt": value > asked, "gte": value >= asked,
            "lt": value < asked, "lte": value <= asked}[op]  # fmt: skip


def columns_of(rows, schema, directory, chunk=3):
    writer = ColumnWriter(directory, schema)
    passages = [Passage(f"D{n}", "text", metadata=row) for n, row in enumerate(rows)]
    for first in range(0, len(passages), chunk):
        writer.add(passages[first : first + chunk])
    writer.close()
    return Columns.open(directory, schema, len(rows))


@settings(max_examples=30, deadline=None)
@given(st.lists(metadata(), max_size=12), st.lists(filters, min_size=1, max_size=6))
def test_a_mask_is_what_the_definition_gives_for_each_passage(rows, asked):
    with tempfile.TemporaryDirectory() as place:
        columns = columns_of(rows, DECLARED, Path(place) / "fields")
        for where in asked:
            wanted = [holds(where, row) for row in rows]
            assert columns.mask(Where.parse(where)).tolist() == wanted
            assert columns.mask(Where.parse(str(Where.parse(where)))).tolist() == wanted


@settings(max_examples=20, deadline=None)
@given(st.lists(metadata(), max_size=12), st.data())
def test_counts_are_those_of_a_loop_over_the_passages(rows, data):
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
    with tempfile.TemporaryDirectory() as place:
        columns = columns_of(rows, DECLARED, Path(place) / "fields")
        for name in DECLARED:
            wanted = {}
            for row, counted in zip(rows, mask.tolist(), strict=True):
                value = row.get(name)
                if not counted or value is None or value != value:
                    continue
                if name == "d":
                    value = moment(value)[0].astimezone(UTC).date().isoformat()
                for one in dict.fromkeys(value) if name == "l" else [float(value) if name == "f" else value]:
                    wanted[one] = wanted.get(one, 0) + 1
            found = columns.counts(name, mask)
            assert found == wanted
            assert list(found.values()) == sorted(found.values(), reverse=True)
            everything = columns.counts(name)
            assert everything == columns.counts(name, np.ones(len(rows), bool))


@pytest.mark.parametrize("name", ["s", "l"])
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_strings_coded_in_several_runs_are_the_same(name, data):
    values = VALUES[name]
    rows = data.draw(st.lists(st.one_of(st.just({}), values.map(lambda value: {name: value})), max_size=40))
    asked = data.draw(st.lists(conditions().filter(lambda where: name in where), max_size=3))
    before = column_writer._RUN, column_writer._CHUNK
    column_writer._RUN, column_writer._CHUNK = 3, 5
    try:
        with tempfile.TemporaryDirectory() as place:
            columns = columns_of(rows, {name: DECLARED[name]}, Path(place) / "fields", chunk=2)
            for where in asked:
                assert columns.mask(Where.parse(where)).tolist() == [holds(where, row) for row in rows]
    finally:
        column_writer._RUN, column_writer._CHUNK = before


anything = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(), strings, st.lists(strings, max_size=2),
    st.lists(integers, max_size=2), st.dictionaries(strings, integers, max_size=1),
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("pq"), anything), max_size=6), st.integers(0, 6))
def test_whatever_inference_finds_can_be_written_and_does_not_depend_on_how_it_is_divided(rows, cut):
    passages = [Passage(f"D{n}", "text", metadata=row) for n, row in enumerate(rows)]
    whole, first, second = Inference(), Inference(), Inference()
    whole.add(passages)
    first.add(passages[:cut])
    second.add(passages[cut:])
    first.merge(second)
    assert first.schema == whole.schema
    with tempfile.TemporaryDirectory() as place:
        columns = columns_of(rows, whole.schema, Path(place) / "fields")
        for name, kind in whole.schema.items():
            if kind not in ("mixed", "many"):
                assert columns.mask(Where.parse(f"exists {name}")).any()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(metadata(), max_size=6), max_size=4), st.lists(filters, min_size=1, max_size=4), st.data())
def test_merged_columns_are_those_of_the_passages_that_stay(parts, asked, data):
    kept = [data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))) for rows in parts]
    stay = [row for rows, flags in zip(parts, kept, strict=True) for row, flag in zip(rows, flags, strict=True) if flag]
    before = column_writer._RUN, column_writer._TAKEN
    column_writer._RUN, column_writer._TAKEN = 3, 2
    try:
        with tempfile.TemporaryDirectory() as place:
            writer = ColumnWriter(Path(place) / "merged", DECLARED)
            for number, (rows, flags) in enumerate(zip(parts, kept, strict=True)):
                columns = columns_of(rows, DECLARED, Path(place) / str(number))
                writer.add_columns(columns, np.flatnonzero(flags))
            writer.close()
            merged = Columns.open(Path(place) / "merged", DECLARED, len(stay))
            for where in asked:
                assert merged.mask(Where.parse(where)).tolist() == [holds(where, row) for row in stay]
            fresh = columns_of(stay, DECLARED, Path(place) / "fresh")
            assert all(merged.counts(name) == fresh.counts(name) for name in DECLARED)
    finally:
        column_writer._RUN, column_writer._TAKEN = before
