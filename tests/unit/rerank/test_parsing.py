"""What a model said, and what is made of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.errors import InputError
from thresher.rerank.parsing import PARSERS, get_parser, label_letters, read_choice, read_order, strip_reasoning

SHOWN = (10, 11, 12, 13)


def order(text, parser="brackets-v1", labels=()):
    answer = read_order(text, SHOWN, get_parser(parser), labels)
    return None if answer is None else (answer.tiers, answer.repairs, answer.named)


def row(*items):
    return tuple((item,) for item in items)


@pytest.mark.parametrize(
    ("text", "tiers", "repairs"),
    [
        ("[2] > [1] > [4] > [3]", row(11, 10, 13, 12), ()),
        ("[2] > [1]", row(11, 10, 12, 13), ("missing",)),
        ("[2] > [2] > [1] > [4] > [3]", row(11, 10, 13, 12), ("duplicate",)),
        ("[2] > [9] > [1] > [4] > [3]", row(11, 10, 13, 12), ("unknown",)),
        ("2] > [1] > [4] > [3]", row(11, 10, 13, 12), ("format",)),
        ("2 > 1 > 4 > 3", row(11, 10, 13, 12), ("format",)),
        ("Here are my 3 favourites: [2] > [1] > [4] > [3]", row(11, 10, 13, 12), ("format",)),
        ("[2] [1] [4] [3]", row(11, 10, 13, 12), ("format",)),
        ("[2] > [1] [4] > [3]", row(11, 10, 13, 12), ("format",)),
        ("<think>[1] > [2], no: 3 is better</think>\n[2] > [1] > [4] > [3]", row(11, 10, 13, 12), ()),
        ("the passage [1] seems ... </think> [2] > [1] > [4] > [3]", row(11, 10, 13, 12), ()),
        ("[2] = [1] > [4] = [3]", ((11, 10), (13, 12)), ()),
        ("[2, 1, 4, 3]", row(11, 10, 13, 12), ()),
        ('["2", "1", "4", "3"]', row(11, 10, 13, 12), ()),
        ('{"ranking": [2, 1, 4, 3]}', row(11, 10, 13, 12), ()),
        ('```json\n{"ranking": [2, 1, 4, 3]}\n```', row(11, 10, 13, 12), ()),
        ('{"1": 2, "2": 1, "3": 4, "4": 3}', row(11, 10, 13, 12), ()),
        ('{"1": 1, "2": 1, "3": 4, "4": 3}', ((10, 11), (13,), (12,)), ()),
        ("[２] > [１] > [٤] > [３]", row(11, 10, 13, 12), ()),
        ("【2】＞【1】＞【4】＞【3】", row(11, 10, 13, 12), ("format",)),
        ("[02] > [1] > [4] > [3]", row(11, 10, 13, 12), ()),
        ("[1] = [2] [3] > [4]", ((10, 11), (12,), (13,)), ("format",)),
        ("[1] = [2] [3] [4]", ((10, 11), (12,), (13,)), ("format",)),
        ('{"ranking": [2, 1]}', row(11, 10, 12, 13), ("missing",)),
        ("[3, 4]", row(12, 13, 10, 11), ("missing",)),
    ],
)
def test_an_order_is_read_and_repaired_by_the_stated_rule(text, tiers, repairs):
    assert order(text)[:2] == (tiers, repairs)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot rank these.",
        "There are 4 passages, and 3 of them are about cats.",
        "relevance > 2",
        "the best = 3",
        "<think>[1] > [2] and then",
        "1. The first passage says 2. things",
        '{"error": "overloaded"}',
        "[99] > [98]",
    ],
)
def test_an_answer_without_ids_is_no_information(text):
    assert order(text) is None


def test_appended_ids_are_not_named():
    assert order("[2] > [1]")[2] == 2


def test_the_digit_rule_reads_every_run_of_digits():
    assert order("There are 4 passages, [2] > [1]", "digits-v1")[0] == row(13, 11, 10, 12)
    assert order("no digits", "digits-v1") is None


def test_letters_count_where_letters_are_the_labels():
    labels = label_letters(4)
    assert order("[B] > [A] > [D] > [C]", labels=labels)[:2] == (row(11, 10, 13, 12), ())
    assert order("b > a > d > c", labels=labels)[0] == row(11, 10, 13, 12)
    assert order("A passage about cats", labels=labels) is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("B", "B"), ("b", "B"), ("[B]", "B"), ("(B)", "B"), ("B.", "B"), ("Passage B", "B"), ('{"best": "B"}', "B"),
        ("Passage B is better than the other.", "B"), ("The answer is: B", "B"), ("<think>A?</think>B", "B"),
        ("B: it names the drug", "B"), ("", None), ("neither", None), ("A passage that answers both", None),
        ("Passage A and Passage B", None), ("Z", None), ("[A] or [B]", None),
    ],
)  # fmt: skip
def test_a_choice_is_one_label_or_none(text, label):
    assert read_choice(text, ["A", "B"]) == label


@given(text=st.text(), parser=st.sampled_from(sorted(PARSERS)), n=st.integers(1, 20))
def test_any_text_is_a_permutation_or_no_information(text, parser, n):
    shown = tuple(range(100, 100 + n))
    answer = read_order(text, shown, get_parser(parser))
    assert answer is None or sorted(answer.order) == list(shown)


@given(text=st.text(alphabet='[]0123456789>= \n{},"', max_size=60), parser=st.sampled_from(sorted(PARSERS)))
def test_any_near_miss_is_a_permutation_or_no_information(text, parser):
    answer = read_order(text, SHOWN, get_parser(parser))
    assert answer is None or sorted(answer.order) == list(SHOWN)


@given(st.permutations(range(1, 21)))
def test_what_is_well_formed_is_read_as_written(ids):
    answer = read_order(" > ".join(f"[{i}]" for i in ids), tuple(range(1, 21)), get_parser("brackets-v1"))
    assert list(answer.order) == ids
    assert not answer.repairs


def test_a_thought_that_never_ends_leaves_nothing():
    assert strip_reasoning("<think> hm [1] > [2]") == ""


def test_an_unknown_parser_is_an_error_that_names_the_known():
    with pytest.raises(InputError, match="brackets-v1, digits-v1"):
        get_parser("guess")


def test_more_labels_than_letters_are_refused():
    with pytest.raises(InputError):
        label_letters(27)
