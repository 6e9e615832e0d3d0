"""Types of metadata fields: declared, inferred, refused."""

import pytest

from thresher.errors import InputError
from thresher.index.column_writer import ColumnWriter
from thresher.index.columns import Columns
from thresher.index.fields import MOST_VALUES, Inference, column_value, date_span, schema_of
from thresher.index.filters import Where
from thresher.records import Passage


def passages(*rows):
    return [Passage(f"D{n}", "text", metadata=row) for n, row in enumerate(rows)]


def inferred(*rows, **arguments):
    found = Inference(**arguments)
    found.add(passages(*rows))
    return found.schema


def test_types_are_inferred_from_the_values():
    rows = [
        {"year": 2020, "price": 1, "lang": "en", "open": True, "groups": ["a"], "none": None, "tags": "x"},
        {"year": -3, "price": 1.5, "lang": "de", "open": False, "groups": [], "tags": ["x", "y"]},
    ]
    wanted = {"year": "integer", "price": "float", "lang": "string", "open": "boolean", "groups": "strings"}
    assert inferred(*rows) == {**wanted, "tags": "strings"}


@pytest.mark.parametrize(
    "values",
    [(1, "a"), (True, 1), ({"a": 1},), ([1],), (["a", 1],), (2**63,), ("a\ud800",), ("a", 1.5), ([["a"]],)],
)
def test_values_that_no_type_holds_have_no_column(values):
    assert inferred(*({"f": value} for value in values)) == {"f": "mixed"}


def test_strings_with_many_distinct_values_have_no_column_unless_it_is_declared():
    rows = [{"url": f"https://example.org/{n}"} for n in range(MOST_VALUES + 1)]
    assert inferred(*rows[:-1]) == {"url": "string"}
    schema = inferred(*rows)
    assert schema == {"url": "many"}
    with pytest.raises(InputError, match=r'more than 65,536 distinct values.*\[fields\] url = "string"'):
        Where.parse("url = x").check(schema)
    assert inferred(*rows, declared={"url": "string"}) == {"url": "string"}
    first, second = Inference(), Inference()
    first.add(passages(*rows[: len(rows) // 2]))
    second.add(passages(*rows[len(rows) // 2 :]))
    first.merge(second)
    assert first.schema == {"url": "many"}


def test_long_texts_have_no_column_unless_it_is_declared():
    assert inferred({"abstract": "x" * 1025}, {"abstract": "y"}) == {"abstract": "many"}
    assert inferred({"abstract": "x" * 1025}, declared={"abstract": "string"}) == {"abstract": "string"}


def test_a_field_without_a_column_stays_without_one_in_later_segments():
    known = {"a": "mixed", "b": "none", "c": "many"}
    assert inferred({"a": 1, "b": 1, "c": "x", "d": 1}, known=known) == {**known, "d": "integer"}


def test_the_position_of_a_split_passage_has_no_column():
    part = {"document": "D", "start": "0", "end": "12"}
    assert inferred(part) == {"document": "string"}
    assert inferred({"start": 3, "end": 4}) == {"start": "integer", "end": "integer"}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("integer", "12a"), ("integer", 1.5), ("integer", True), ("integer", 2**63), ("float", "abc"), ("float", False),
        ("date", "1st of May"), ("date", 2024), ("boolean", 1), ("boolean", "yes"), ("strings", [1]), ("strings", 3),
        ("string", 3), ("string", ["a"]), ("date", "2024-13-01"), ("string", "\ud800"), ("float", 10**400),
    ],
)  # fmt: skip
def test_a_value_of_another_type_than_declared_is_refused_with_docno_field_and_value(kind, value, tmp_path):
    found = Inference({"f": kind})
    bad = Passage("D7", "text", metadata={"f": value})
    with pytest.raises(InputError, match=rf"field 'f' of docno 'D7' is .*the recipe declares it as {kind}"):
        found.add([bad])
    writer = ColumnWriter(tmp_path / "fields", {"f": kind})
    with pytest.raises(InputError, match=rf"field 'f' of docno 'D7' is .*the index has it as {kind}"):
        writer.add([bad])


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("integer", " 12 ", 12), ("integer", "-7", -7), ("float", "1e3", 1000.0), ("float", ".5", 0.5),
        ("boolean", "True", True), ("boolean", "false", False), ("strings", "a", ("a",)), ("string", "", ""),
        ("integer", "", None), ("float", " ", None), ("date", "", None), ("boolean", "", None),
        ("date", "1970-01-02", 86_400_000_000),
    ],
)  # fmt: skip
def test_text_is_read_as_the_type_of_its_field(kind, text, value):
    assert column_value(kind, text) == value


def test_an_iso_date_covers_the_period_that_it_names():
    day, hour = 86_400_000_000, 3_600_000_000
    assert date_span("1970-01-02") == (day, 2 * day)
    assert date_span("1970") == (0, 365 * day)
    assert date_span("1970-12") == (334 * day, 365 * day)
    assert date_span("1970-01-01T02:00") == (2 * hour, 2 * hour + 1)
    assert date_span("1970-01-01T02:00Z") == date_span("1970-01-01T04:00+02:00") == (2 * hour, 2 * hour + 1)
    assert date_span("9999-12-31")[1] > date_span("0001")[0]
    for text in ("0000", "24", "2024-5", "2024-05-32", "tomorrow", "2024-05-01T25:00", "", "२०२४"):
        with pytest.raises(ValueError, match=r".*"):
            date_span(text)


def test_a_new_field_extends_a_schema_and_another_type_is_refused():
    assert schema_of({"a": "string"}, {"b": "integer"}) == {"a": "string", "b": "integer"}
    with pytest.raises(InputError, match=r"field 'a' is declared as integer, but the index has it as string"):
        schema_of({"a": "string"}, {"a": "integer"})


def test_passages_without_metadata_have_no_files(tmp_path):
    writer = ColumnWriter(tmp_path / "fields", {"lang": "string"})
    writer.add(passages({}, {"other": 1}, {"lang": None}))
    assert writer.close() == {}
    assert not (tmp_path / "fields").exists()
    columns = Columns.open(tmp_path / "fields", {"lang": "string"}, 3)
    assert columns.mask(Where.parse("lang = en")).tolist() == [False] * 3
    assert columns.mask(Where.parse("not lang = en")).tolist() == [True] * 3
    assert columns.counts("lang") == {}


def test_a_segment_made_before_a_field_existed_lacks_it(tmp_path):
    writer = ColumnWriter(tmp_path / "fields", {"lang": "string"})
    writer.add(passages({"lang": "en"}))
    assert set(writer.close()) == {
        "fields/columns.json",
        "fields/0.values",
        "fields/0.strings.bytes",
        "fields/0.strings.offsets",
    }
    columns = Columns.open(tmp_path / "fields", {"lang": "string", "year": "integer"}, 1)
    assert columns.mask(Where.parse("lang = en and not year > 3")).tolist() == [True]
    assert columns.mask(Where.parse("exists year")).tolist() == [False]


def test_only_files_of_columns_are_left(tmp_path):
    writer = ColumnWriter(tmp_path / "fields", {"s": "string", "l": "strings", "i": "integer", "d": "date"})
    writer.add(passages({"s": "a", "l": ["b", "c"], "i": 300, "d": "2024-05-01"}, {}, {"s": "b", "l": "c"}))
    writer.close()
    names = {file.name for file in (tmp_path / "fields").iterdir()}
    strings = {f"{n}.strings.{part}" for n in "01" for part in ("bytes", "offsets")}
    assert names == {"columns.json", "0.values", "1.passages", "1.starts", "2.values", "3.values", *strings}
    assert (tmp_path / "fields" / "0.values").stat().st_size == 3
    assert (tmp_path / "fields" / "2.values").stat().st_size == 6
