"""Filters: both forms, what is refused and how."""

import datetime as dt
import pickle

import numpy as np
import pytest

from thresher.errors import InputError
from thresher.index.filters import MOST_CONDITIONS, MOST_DEPTH, Where

SCHEMA = {
    "lang": "string", "year": "integer", "price": "float", "when": "date", "open": "boolean", "groups": "strings",
    "notes": "none", "extra": "mixed",
}  # fmt: skip


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        ({"lang": "en"}, "lang = en"),
        ({"year": {"gte": 2020, "lt": 2024}}, "year >= 2020 and year < 2024"),
        ({"lang": "en", "year": {"gt": 1}}, "lang = en and year > 1"),
        ({"groups": {"any": ["a", "b c"]}}, 'groups any (a, "b c")'),
        ({"or": [{"lang": "en"}, {"not": {"lang": {"in": ["de", "fr"]}}}]}, "lang = en or not lang in (de, fr)"),
        ({"not": {"or": [{"lang": "en"}, {"open": True}]}}, "not (lang = en or open = true)"),
        ({"url": {"exists": True}}, "exists url"),
        ({"url": {"exists": False}}, "not exists url"),
        ({"lang": {"prefix": "e"}}, "lang prefix e"),
        ({"lang": {"not": 1}, "and": []}, None),
        ({"price": {"lte": -1.5}}, "price <= -1.5"),
        ({"a b": {"ne": "and"}}, '"a b" != "and"'),
        ({"lang": "2020"}, 'lang = "2020"'),
        ({"groups": {"all": []}}, "groups all ()"),
        ({"when": dt.date(2024, 5, 1)}, 'when = "2024-05-01"'),
        ({"when": {"gt": dt.datetime(2024, 5, 1, tzinfo=dt.UTC)}}, 'when > "2024-05-01T00:00:00+00:00"'),
        ({"a": np.int64(3), "b": np.float32(0.5), "c": np.bool_(True)}, "a = 3 and b = 0.5 and c = true"),
    ],
)
def test_both_forms_give_the_same_tree(mapping, text):
    if text is None:
        with pytest.raises(InputError):
            Where.parse(mapping)
        return
    where = Where.parse(mapping)
    assert str(where) == text
    assert Where.parse(text) == where == Where.parse(where)
    assert hash(Where.parse(text)) == hash(where)
    assert pickle.loads(pickle.dumps(where)) == where  # noqa: S301


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (
            "lang = en AND (year >= 2020 OR NOT lang IN (a, 'b c'))",
            'lang = en and (year >= 2020 or not lang in (a, "b c"))',
        ),
        ("lang == en", "lang = en"),
        ("lang <> en", "lang != en"),
        ("lang not in (a)", "not lang in (a)"),
        ("((lang=en))", "lang = en"),
        ("lang='it is'", 'lang = "it is"'),
        (r'lang = "\u00e9\n"', r'lang = "é\n"'),
        ("when >= 2024-05-01T10:00:00Z", 'when >= "2024-05-01T10:00:00Z"'),
        ("a.b:c/d-e#f = https://x.org/y", "a.b:c/d-e#f = https://x.org/y"),
        ("a and b = 1", None),
    ],
)
def test_text_is_read_as_the_grammar_says(text, same):
    if same is None:
        with pytest.raises(InputError, match=r"expected a comparison .* after 'a' at character 3"):
            Where.parse(text)
    else:
        assert str(Where.parse(text)) == same


def test_order_and_repetition_do_not_count_in_the_key():
    first, second = Where.parse("a = 1 and b in (x, y) and a = 1"), Where.parse("b in (y, x, x) and a = 1")
    assert first == second
    assert first.key == second.key
    assert Where.parse("a = 1") != Where.parse('a = "1"')
    assert {first, second} == {first}


def test_two_filters_are_joined_so_that_both_must_hold():
    joined = Where.parse("a = 1 or b = 2") & Where.parse({"c": 3})
    assert str(joined) == "(a = 1 or b = 2) and c = 3"
    assert joined.fields == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "empty"), ("", "empty"), ("  ", "empty"), ({"and": []}, "list of"), ({"or": {}}, "list of"),
        (None, "a filter is a mapping"), ([], "a filter is a mapping"), (3, "a filter is a mapping"),
        ({"a": None}, "exists"), ({"a": ["x"]}, '"in"'), ({"a": {}}, "compared with nothing"),
        ({"a": {"like": 1}}, "unknown comparison 'like'"), ({"a": {"in": "x"}}, "list of values"),
        ({"a": {"exists": 1}}, "True or False"), ({"a": float("nan")}, "finite"), ({"a": 2**63}, "64"),
        ({"a": "\ud800"}, "values are text"), ({"": 1}, "names fields"), ({3: 1}, "names fields"),
        ({"not": []}, "a filter is a mapping"), ({"a": object()}, "values are text"), ({"a": {"eq": {}}}, "values are"),
        ("a = ", "expected a value"), ("a = 'x", "not closed"), ('a = "\\x"', "not JSON"), ("a ! b", "means nothing"),
        ("(a = 1", "expected 'and', 'or' or '\\)'"), ("a = 1 b = 2", "expected 'and', 'or' or the end"),
        ("a in (1 2)", "expected ',' or '\\)'"), ("a in 1", "expected '\\('"), ("a = 99999999999999999999", "64 bits"),
        ("a = 1e999", "64 bits"), ("= 1", "expected a field"), ("a = \ud800", "surrogate"), ('"" = 1', "a field"),
        ("a = and", "expected a value"), ("a not = 1", "expected 'in'"), ("a = \"\\ud800\"", "not JSON"),
    ],
)  # fmt: skip
def test_what_is_not_a_filter_is_refused_with_the_reason(value, message):
    with pytest.raises(InputError, match=message):
        Where.parse(value)


def nested(depth, join):
    value = {"a": 1}
    for _ in range(depth):
        value = join(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        "(" * 100_000 + "a = 1" + ")" * 100_000,
        "not " * 100_000 + "a = 1",
        nested(100_000, lambda one: {"not": one}),
        nested(100_000, lambda one: {"or": [one]}),
        nested(60, lambda one: {"or": [one, one]}),
        nested(MOST_DEPTH // 2 + 1, lambda one: {"or": [{"x": 1, "or": [one, {"b": 1}]}, {"c": 2}]}),
        {"or": [{"a": n} for n in range(MOST_CONDITIONS + 1)]},
        {"a": {"in": list(range(101_000))}},
        " or ".join(["a = 1"] * (MOST_CONDITIONS + 1)),
        "a in (" + ",".join(["1"] * 101_000) + ")",
        "a" * 4_000_001,
    ],
    ids=range(11),
)
def test_a_filter_that_is_too_large_or_too_deep_is_refused(value):
    with pytest.raises(InputError, match=r"deeper|more than|conditions|lists|characters"):
        Where.parse(value)


def test_the_deepest_filter_that_is_taken_is_written_and_read():
    where = Where.parse(nested(MOST_DEPTH, lambda one: {"not": one}))
    assert Where.parse(str(where)) == where
    with pytest.raises(InputError, match="deeper"):
        _ = Where("not", parts=(where,)) & Where.parse("a = 1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yaer = 2020", r"no field 'yaer'; its fields are: lang \(string\), year \(integer\)"),
        ('year = "2020"', r"'year' is of type integer.*without quotes.*lang \(string\)"),
        ("year = true", "without quotes"), ("lang = 2020", 'write text in quotes: "2020"'),
        ("open = 1", "write true or false"), ("when = soon", "ISO 8601"), ("when = 20240", "ISO 8601"),
        ("groups = a", "use one of any, all"), ("lang any (a)", "use one of =, !"), ("groups any (1)", "quotes"),
        ("year prefix 2", "does not compare"), ("open > true", "does not compare"),
        ("notes = a", "the recipe declares it as none"), ("exists extra", "values of several types"),
    ],
)  # fmt: skip
def test_a_filter_that_does_not_fit_the_fields_is_refused_and_the_fields_are_listed(text, message):
    with pytest.raises(InputError, match=message) as caught:
        Where.parse(f"lang = en and not ({text})").check(SCHEMA)
    assert "groups (strings)" in str(caught.value)


def test_a_filter_that_fits_the_fields_passes():
    Where.parse(
        "lang prefix e and year in (1, 2.5) and price >= 3 and when = 2024 and open != false and groups all (a) "
        "and when > 2024-05 and when < 2024-05-01T10:00"
    ).check(SCHEMA)
