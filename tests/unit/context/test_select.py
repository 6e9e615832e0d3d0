"""Which sentences are selected, on passages whose scores and costs are written down."""

import math

import pytest

from thresher.context.pruned import ScoredPassage, Scores
from thresher.context.select import select_by_gain, select_by_score
from thresher.errors import InputError
from thresher.records import Span


def words(text):
    return len(text.split())


def passage(docno, *sentences, relevance=0.0, title=""):
    """A passage of (sentence, score) pairs joined by spaces."""
    spans, here = [], 0
    for text, _ in sentences:
        spans.append(Span(here, here + len(text)))
        here += len(text) + 1
    text = " ".join(text for text, _ in sentences)
    return ScoredPassage(docno, text, tuple(spans), tuple(score for _, score in sentences), relevance, title)


def by_score(*passages, **settings):
    return select_by_score(Scores(tuple(passages), "a scorer", {"half": 0.5}), words, **settings)


def by_gain(*passages, threshold=0.0, **settings):
    return select_by_gain(by_score(*passages, threshold=threshold), words, **settings)


def kept(found):
    return [list(one.keep) for one in found]


# by score -------------------------------------------------------------------------------------------------------------


def test_a_sentence_is_kept_from_the_threshold_on():
    one = passage("a", ("One.", 0.49), ("Two.", 0.5), ("Three.", 0.51))
    assert kept(by_score(one, threshold=0.5)) == [[False, True, True]]
    assert kept(by_score(one, threshold="half")) == [[False, True, True]]
    assert kept(by_score(passage("a", ("One.", 1.0)), threshold=1)) == [[True]]


def test_the_least_number_to_keep_is_filled_with_the_best():
    one = passage("a", ("One.", 0.1), ("Two.", 0.3), ("Three.", 0.2), ("Four.", 0.3))
    assert kept(by_score(one, threshold=1.0, min_keep=1)) == [[False, True, False, False]]
    assert kept(by_score(one, threshold=1.0, min_keep=3)) == [[False, True, True, True]]


def test_a_budget_goes_to_the_highest_scores_whatever_their_passage():
    one = passage("a", ("One one.", 0.5), ("Two two.", 0.9))
    other = passage("b", ("Three three.", 0.7), ("Four four.", 0.5))
    assert kept(by_score(one, other, threshold=0, max_tokens=2)) == [[False, True], [False, False]]
    assert kept(by_score(one, other, threshold=0, max_tokens=4)) == [[False, True], [True, False]]
    assert kept(by_score(one, other, threshold=0, max_tokens=6)) == [[True, True], [True, False]], "ties in order"
    assert kept(by_score(one, other, threshold=0, max_tokens=7)) == [[True, True], [True, False]]
    assert kept(by_score(one, other, threshold=0, max_tokens=8)) == [[True, True], [True, True]]


@pytest.mark.parametrize(("keep_title", "tokens"), [(True, 6), (False, 4)])
def test_a_title_costs_what_it_costs_only_where_it_is_kept(keep_title, tokens):
    one = passage("a", ("One one.", 0.5), ("Two two.", 0.9), title="A title")
    (whole,) = by_score(one, threshold=0, keep_title=keep_title)
    assert whole.tokens == words(whole.contents) == tokens
    assert whole.original_tokens == 6
    (fits,) = by_score(one, threshold=0, keep_title=keep_title, max_tokens=tokens)
    assert fits == whole
    (less,) = by_score(one, threshold=0, keep_title=keep_title, max_tokens=tokens - 1)
    assert list(less.keep) == [False, True]


def test_of_a_passage_without_a_kept_sentence_nothing_is_left():
    (one,) = by_score(passage("a", ("One.", 0.1), title="A title"), threshold=1.0, ellipsis="…")
    assert (one.spans, one.title, one.text, one.contents, one.tokens, one.ellipsis) == ((), "", "", "", 0, "")
    (blank,) = by_score(ScoredPassage("a", "   ", (), (), title="A title"), threshold=0)
    assert (blank.spans, blank.title, blank.tokens) == ((), "", 0)


def test_an_ellipsis_is_part_of_the_text_and_of_its_cost():
    (one,) = by_score(passage("a", ("One.", 0.1), ("Two.", 0.9)), threshold=0.5, ellipsis="[…] ")
    assert (one.text, one.tokens) == ("[…] Two.", 2)


# by gain --------------------------------------------------------------------------------------------------------------


def test_a_sentence_is_taken_from_the_least_gain_on_and_never_for_nothing():
    one = passage("a", ("Apples ripen.", 0.5), ("Bread bakes.", 0.0))
    assert kept(by_gain(one, min_gain=0.5).pruned) == [[True, False]]
    assert kept(by_gain(one, min_gain=0.501).pruned) == [[False, False]]
    at_no_gain = by_gain(one, min_gain=0.0)
    assert (kept(at_no_gain.pruned), at_no_gain.stopped, at_no_gain.repeated) == ([[True, False]], "gain", 0)


def test_a_sentence_counts_less_in_a_less_relevant_passage():
    best = passage("a", ("Apples ripen.", 0.5), relevance=3.0)
    other = passage("b", ("Bread bakes.", 0.5), relevance=1.0)
    share = 0.5 * 2 / (1 + math.exp(2 / 4))
    assert kept(by_gain(best, other, min_gain=share - 1e-6).pruned) == [[True], [True]]
    assert kept(by_gain(best, other, min_gain=share + 1e-6).pruned) == [[True], [False]]
    assert kept(by_gain(best, other, min_gain=share - 1e-6, temperature=2.0).pruned) == [[True], [False]]


def test_the_most_relevant_passage_comes_first_and_one_that_gives_nothing_has_no_title():
    one = passage("a", ("Apples ripen.", 0.9), relevance=1.0, title="A title")
    other = passage("b", ("Bread bakes.", 0.9), relevance=3.0, title="Another")
    third = passage("c", ("Cows graze.", 0.05), relevance=2.0, title="A third")
    found = by_gain(one, other, third, min_gain=0.1)
    assert [p.docno for p in found.passages] == ["b", "a"]
    assert [p.contents for p in found.pruned] == ["A title\nApples ripen.", "Another\nBread bakes.", ""]


def test_gain_for_cost_decides_who_comes_first_and_thrift_how_much_cost_counts():
    long = " ".join(f"word{i}" for i in range(40)) + "."
    one = passage("a", (long, 0.6), ("Bread bakes.", 0.5))
    assert kept(by_gain(one, min_gain=0.1, max_tokens=40).pruned) == [[False, True]]
    assert kept(by_gain(one, min_gain=0.1, max_tokens=40, thrift=0.0).pruned) == [[True, False]]


def test_of_equals_the_first_is_taken():
    one = passage("a", ("Apples ripen.", 0.5), ("Bread bakes.", 0.5))
    other = passage("b", ("Cows graze.", 0.5))
    assert kept(by_gain(one, other, max_tokens=2).pruned) == [[True, False], [False]]
    assert kept(by_gain(one, other, max_tokens=4).pruned) == [[True, True], [False]]


def test_what_is_needed_comes_before_what_is_worth_more():
    one = passage("a", ("Apples ripen.", 0.9))
    other = passage("b", ("Bread bakes.", 0.1), ("Cows graze.", 0.2))
    assert kept(by_gain(one, other, max_tokens=2, whole=[1]).pruned) == [[False], [False, True]]
    assert kept(by_gain(one, other, max_tokens=4, min_keep=1, min_gain=1.0).pruned) == [[True], [False, True]]


def test_a_smaller_sentence_is_taken_where_a_larger_one_does_not_fit():
    one = passage("a", ("Apples ripen late in the year.", 0.9), ("Bread bakes.", 0.5))
    found = by_gain(one, max_tokens=3)
    assert (kept(found.pruned), found.tokens, found.stopped) == ([[False, True]], 2, "budget")
    whole = by_gain(one, max_tokens=8)
    assert (kept(whole.pruned), whole.tokens, whole.stopped) == ([[True, True]], 8, "end")
    assert by_gain(one, max_tokens=7).tokens == 6


def test_repetition_counts_by_the_sentence_that_holds_most_of_it():
    one = passage(
        "a", ("Apples ripen red.", 0.9), ("Apples ripen.", 0.8), ("Bread bakes brown.", 0.7), ("Apples bake.", 0.6)
    )
    found = by_gain(one, min_gain=0.31)
    assert kept(found.pruned) == [[True, False, True, True]], "half of the last one is new"
    assert found.repeated == 1
    assert by_gain(passage("a", ("Apples ripen.", 0.9), ("Bread bakes.", 0.1)), min_gain=0.3).repeated == 0


def test_only_sentences_that_passed_the_threshold_compete():
    one = passage("a", ("Apples ripen.", 0.4), ("Bread bakes.", 0.6), title="A title")
    other = passage("b", ("Cows graze.", 0.4), title="Another")
    found = by_gain(one, other, threshold=0.5, min_gain=0.0)
    assert kept(found.pruned) == [[False, True], [False]]
    assert [(p.title, p.tokens) for p in found.pruned] == [("A title", 4), ("", 0)]
    assert [p.docno for p in found.passages] == ["a"]


def test_of_two_sentences_that_repeat_each_other_the_one_in_the_better_passage_is_taken():
    better = passage("a", ("The apples ripen in autumn.", 0.5), ("Bread bakes slowly.", 0.4), relevance=2.0)
    lower = passage("b", ("In autumn apples ripen.", 0.9), ("Cows graze.", 0.4), relevance=1.9)
    found = by_gain(better, lower, min_gain=0.3)
    assert kept(found.pruned) == [[True, True], [False, True]]
    assert found.repeated == 1
    assert kept(by_gain(lower, better, min_gain=0.3).pruned) == [[True, True], [False, True]], "order is rank"


def test_code_repeats_only_what_is_the_same():
    texts = ["```\npip install this\n```", "```\npip install -e this\n```"]
    rows = [ScoredPassage(str(n), text, (Span(0, len(text)),), (0.5,)) for n, text in enumerate((*texts, texts[0]))]
    assert kept(by_gain(*rows, min_gain=0.3).pruned) == [[True], [True], [False]]


@pytest.mark.parametrize("budget", [None, 3_000])
def test_thousands_of_sentences_are_selected(budget):
    one = passage("a", *((f"Word{n} is here once and it is not there {n}.", 0.2 + n % 7 / 10) for n in range(5_000)))
    pruned = by_score(one, threshold=0.1, max_tokens=budget)
    assert by_gain(one, min_gain=0.1, max_tokens=budget).taken > 250
    assert pruned[0].tokens > 2_900


@pytest.mark.parametrize("answer", [None, "3", -1, 2.5, float("nan"), "raises"])
def test_a_counter_that_does_not_count_is_a_plain_error(answer):
    def count(text):
        if answer == "raises":
            raise ValueError("Encountered text corresponding to disallowed special token '<|endoftext|>'.")
        return answer

    one = passage("a", ("A text with <|endoftext|> in it.", 0.9))
    with pytest.raises(InputError, match="count_tokens"):
        select_by_score(Scores((one,)), count, threshold=0.5)
