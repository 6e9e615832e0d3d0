"""Answers of a random grammar are read as they are meant, or not at all."""

import os
from collections import Counter
from random import Random

import pytest

from thresher.rerank.parsing import get_parser, read_order
from training.rerank.answer_grammar import SCRIPTS, Written, ending, han, verdict, write

NIGHTLY = os.environ.get("THRESHER_PROFILE") == "nightly"
COUNT = 10_000 if NIGHTLY else 800
SEED = 20  # neither a seed that the parser was mended on, nor the one of eval/answer_grammar.py


def read(text, shown, labels):
    return read_order(text, shown, get_parser("brackets-v1"), labels)


def readings(kind, count, seed=SEED):
    rng = Random(seed)
    drawn = [write(rng, kind) for _ in range(count)]
    found = [(verdict(one, read), one) for one in drawn]
    wrong = [one.text for how, one in found if how == "wrong"]
    assert not wrong, wrong[:3]
    return Counter(how for how, _ in found)


def test_an_answer_with_an_order_is_read_right_and_never_wrong():
    counts = readings("plain", COUNT)
    assert counts["right"] >= 0.99 * COUNT


@pytest.mark.parametrize("kind", ["hard", "orderless"])
def test_scores_worst_first_refusals_and_unfinished_thoughts_are_never_read_as_another_order(kind):
    readings(kind, COUNT // 5)


def test_the_grammar_draws_the_same_answers_from_the_same_seed():
    assert [write(Random(5)) for _ in range(3)] == [write(Random(5)) for _ in range(3)]


def test_the_grammar_covers_its_forms_and_its_phrases():
    rng = Random(3)
    drawn = [write(rng, phrases=phrases) for phrases in ("known", "fresh", "all") for _ in range(300)]
    parts = {part for one in drawn for part in one.parts}
    assert {"chain", "numbered", "bulleted", "table", "places", "sentences", "json", "ranged"} <= parts
    assert {"thought", "spoken-thought", "correction", "ties", "partial", "script", "closing", "lead-in"} <= parts
    assert all(set(one.labels) >= {label for tier in one.tiers for label in tier} for one in drawn)
    assert len(SCRIPTS) == 6


@pytest.mark.parametrize(
    ("written", "text", "expected"),
    [
        ((("2",), ("1",), ("3",)), "[2] > [1] > [3]", "right"), ((("2",), ("1",)), "[2] > [1]", "right"),
        ((("1",), ("2",), ("3",)), "[2] > [1] > [3]", "wrong"), ((("2", "1"), ("3",)), "[2] > [1] > [3]", "wrong"),
        ((("2",),), "no idea", "unreadable"), ((), "no idea", "right"), ((), "[2] > [1] > [3]", "wrong"),
    ],
)  # fmt: skip
def test_a_reading_is_judged_against_what_was_meant(written, text, expected):
    assert verdict(Written(text, ("1", "2", "3"), written, "plain", ()), read) == expected


@pytest.mark.parametrize(("number", "name"), [(1, "一"), (10, "十"), (12, "十二"), (20, "二十"), (35, "三十五")])
def test_chinese_numerals_are_written_as_people_do(number, name):
    assert han(number) == name


def test_places_have_english_endings():
    assert [ending(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 111)] == "1st 2nd 3rd 4th 11th 12th 13th 21st 111th".split()
