"""Whatever is given as a filter is one, which can be written and read again, or an InputError."""

from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.errors import InputError
from thresher.index.fields import FIELD_TYPES
from thresher.index.filters import OPERATORS, Where

NAMES = ["a", "b c", "and", "Not", "x.y", '"', "'", "é", "\U0001f600", "\n", "1", "-", "=", "a\\", "\x00", "true", "İ"]
names = st.sampled_from(NAMES)
values = st.one_of(
    names, st.text(max_size=3), st.integers(-(2**64), 2**64), st.booleans(), st.floats(), st.none(),
)  # fmt: skip
conditions = st.one_of(
    values, st.dictionaries(st.sampled_from(OPERATORS), st.one_of(values, st.lists(values, max_size=3)), max_size=2)
)
mappings = st.recursive(
    st.dictionaries(names, conditions, max_size=2),
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(["and", "or"]), st.lists(inner, max_size=3), max_size=2),
        st.dictionaries(st.just("not"), inner, max_size=1),
    ),
    max_leaves=8,
)
TOKENS = ["a", "b", "=", "!=", "<", ">=", "(", ")", ",", "and", "or", "not", "in", "any", "exists", "prefix", '"', "'",
          "1", "2.5", "true", " ", "\\", "\n", "1e9", "x:y", "==", "é", "\ud800", "2024-05-01"]  # fmt: skip
texts = st.one_of(st.lists(st.sampled_from(TOKENS), max_size=12).map(" ".join), st.text(max_size=20))


def is_filter_or_refused(value):
    try:
        where = Where.parse(value)
    except InputError:
        return False
    again = Where.parse(str(where))
    assert str(again) == str(where)
    assert again == where
    assert Where.parse(where.key).key == where.key
    try:
        where.check(dict(zip(NAMES, (*FIELD_TYPES, "none", "many", "mixed") * 2, strict=False)))
    except InputError as err:
        assert str(err)
    return True


@settings(max_examples=80, deadline=None)
@given(mappings)
def test_a_mapping_is_a_filter_or_an_input_error(value):
    is_filter_or_refused(value)


@settings(max_examples=250, deadline=None)
@given(texts)
def test_a_text_is_a_filter_or_an_input_error(value):
    is_filter_or_refused(value)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(values, st.lists(values, max_size=2), st.binary(max_size=3), st.dictionaries(values, values, max_size=2))
)
def test_anything_else_is_an_input_error_unless_it_is_a_filter(value):
    is_filter_or_refused(value)
