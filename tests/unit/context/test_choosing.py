"""Thresholds, budgets and views: what is chosen, and what is shown."""

import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thresher.context import ContextPruner, PassageScores, SplitPassage
from thresher.context.calibrate import (
    LabelledQuery,
    calibrate,
    calibrate_confidence,
    lost_above,
    part_of,
    read_own,
    read_squad,
    wilson,
)
from thresher.context.html import html_page, terminal_text
from thresher.context.pruned import join_passages
from thresher.context.scorers import LexicalScorer, SentenceScorer
from thresher.context.select import select_by_gain
from thresher.context.sentence_head import FEATURES, Evidence, PassageEvidence, read_head, sentence_features
from thresher.context.spans import approximate_tokens
from thresher.errors import InputError, ModelError
from thresher.records import Hit, Passage, Query, Span
from thresher.text.sentences import split_sentences
from training.context.collections import without_kin

TEXT = "Radium was found in 1898. Marie Curie found radium in Paris. It glows faintly blue."


def pruner(**more):
    return ContextPruner("lexical", **more)


# lexical scores -------------------------------------------------------------------------------------------------------


def test_lexical_scores_lie_between_0_and_1_and_follow_the_queries_words():
    (pruned,) = pruner().prune("who found radium in paris", [TEXT], threshold=0)
    assert pruned.scores[1] == max(pruned.scores)
    assert pruned.scores[2] == 0
    assert all(0 <= score < 1 for score in pruned.scores)
    assert pruned.relevance > pruner().prune("who found radium in paris", ["Caves are blue."])[0].relevance


@given(st.text(max_size=60), st.lists(st.text(max_size=80), max_size=4))
def test_the_lexical_scorer_takes_any_text(query, bodies):
    for one in pruner().prune(query, bodies, threshold=0):
        assert all(0 <= score <= 1 for score in one.scores)
        assert 0 <= one.relevance <= 1 + 1e-9


def test_titles_are_kept_only_with_something_under_them():
    kept, dropped = pruner().prune(
        "who found radium", [Passage("a", TEXT, "Radium"), Passage("b", "Caves are blue.", "Caves")], threshold=0.1
    )
    assert kept.contents.startswith("Radium\n")
    assert dropped.contents == ""
    assert pruner().prune("who found radium", [Hit("a", 1.0, 1, TEXT, "Radium")], keep_title=False)[0].title == ""


@pytest.mark.parametrize(
    "wrong", [{"threshold": 1.5}, {"threshold": "bold"}, {"threshold": math.nan}, {"max_tokens": -1}, {"min_keep": -1}]
)
def test_arguments_out_of_range_are_refused_with_their_value(wrong):
    with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
        pruner().prune("q", [TEXT], **wrong)


def test_a_passage_of_another_type_is_refused():
    with pytest.raises(InputError, match=r"passages\[1\] must be text or a Passage or a Hit, got 3"):
        pruner().prune("q", [TEXT, 3])


def test_pruning_is_selecting_from_scores_and_selecting_runs_no_model():
    pruner_ = pruner()
    scores = pruner_.score("who found radium", [Passage("a", TEXT, "Radium"), "Caves are blue."])
    assert [one.docno for one in scores.passages] == ["a", "1"]
    pruner_.scorer = None
    for settings in ({"threshold": 0.1}, {"threshold": "strong", "max_tokens": 9}, {"threshold": 0, "ellipsis": "…"}):
        expected = pruner().prune("who found radium", [Passage("a", TEXT, "Radium"), "Caves are blue."], **settings)
        assert pruner_.select(scores, **settings) == expected


def test_a_query_with_an_identifier_is_its_text():
    assert pruner().prune(Query("q1", "who found radium"), [TEXT]) == pruner().prune("who found radium", [TEXT])


def test_many_queries_at_once_are_pruned_as_one_by_one():
    asked = [("who found radium", [TEXT, "x"]), ("caves", []), ("glows", [TEXT])]
    assert pruner().prune_batch(asked) == [pruner().prune(*one) for one in asked]


# thresholds -----------------------------------------------------------------------------------------------------------


def row(text, answers, part="calibrate"):
    sentences = tuple(split_sentences(text))
    return LabelledQuery("t", "q", text, sentences, tuple(0 for _ in sentences), answers, text, part)


def test_an_answer_is_lost_with_the_weakest_sentence_it_touches():
    sentences = split_sentences("One here. Two here. Three.")
    assert lost_above(sentences, (0.9, 0.2, 0.5), (Span(0, 3),)) == 0.9
    assert lost_above(sentences, (0.9, 0.2, 0.5), (Span(4, 12),)) == 0.2
    assert lost_above(sentences, (0.9, 0.2, 0.5), (Span(4, 12), Span(20, 22))) == 0.5
    assert lost_above(sentences, (0.9, 0.2, 0.5), ()) == 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.01, 1))
def test_the_threshold_is_the_highest_that_keeps_the_goal(numbers, goal):
    rows = [row("One here.", (Span(0, 3),)) for _ in numbers]
    scores = [PassageScores(0.0, (x,)) for x in numbers]
    found = calibrate(rows, scores, goal)
    kept = sum(x >= found.threshold for x in numbers) / len(numbers)
    assert found.answer_kept == kept >= goal - 1e-9
    higher = found.threshold + 1e-4
    assert sum(x >= higher for x in numbers) / len(numbers) < goal or higher > max(numbers)
    assert found.low <= kept <= found.high


def test_a_calibration_without_answers_is_refused():
    with pytest.raises(InputError, match="no query has an answer"):
        calibrate([row("One here.", ())], [PassageScores(0.0, (0.5,))], 0.9)
    with pytest.raises(InputError, match="goal=0"):
        calibrate([row("One here.", (Span(0, 3),))], [PassageScores(0.0, (0.5,))], 0)


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30).filter(lambda r: any(a for a, _ in r)),
    st.floats(0.01, 1),
)
@example([(True, 0.6789)], 1.0)  # 0.6789 * 10,000 is less than 6,789
def test_min_confidence_is_the_highest_that_answers_the_goal(numbers, goal):
    rows = [row("One here.", (Span(0, 3),) if answered else ()) for answered, _ in numbers]
    found = calibrate_confidence(rows, [PassageScores(0.0, (x,)) for _, x in numbers], goal)
    answered = [x for has, x in numbers if has]
    without = [x for has, x in numbers if not has]
    assert found.answered == sum(x >= found.min_confidence for x in answered) / len(answered) >= goal - 1e-9
    higher = found.min_confidence + 1e-4
    assert sum(x >= higher for x in answered) / len(answered) < goal or higher > max(answered)
    if without:
        assert found.withheld == sum(x < found.min_confidence for x in without) / len(without)
    else:
        assert found.withheld is None


def test_wilsons_interval_is_the_textbooks():
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_families_stay_in_one_part_and_kin_leave_the_training_part():
    assert {part_of(f"family {n}") for n in range(100)} == {"train", "calibrate", "test"}
    long = "It was the best of times and it was the worst of times in the old city of Paris."
    near, far = row(long + " Yes.", (), "train"), row("Another passage about caves of ice.", (), "train")
    held = LabelledQuery("t", "other", long, (), (), (), "f", "test")
    assert without_kin([near, far], [held]) == [far]
    same_query = LabelledQuery("t", "Other?", "words unlike any", (), (), (), "f", "train")
    assert without_kin([same_query], [held]) == []


def test_own_queries_are_read_and_mistakes_named_by_line(tmp_path):
    file = tmp_path / "own.jsonl"
    file.write_text(json.dumps({"query": "q", "passage": "One here. Two.", "answers": [[0, 3]]}) + "\n\n")
    (one,) = read_own(file)
    assert one.labels == (1, 0)
    for line in (
        "{}",
        "[",
        '{"query": "q", "passage": "x", "answers": [[0, 9]]}',
        '{"query": 1, "passage": "x"}',
    ):
        file.write_text("\n" + line)
        with pytest.raises(InputError, match=r"own\.jsonl:2"):
            list(read_own(file))


# how many passages ----------------------------------------------------------------------------------------------------


def scored(*bodies, query="who found radium in paris"):
    return pruner().prune(query, list(bodies), threshold=0)


def test_what_repeats_is_not_bought_twice():
    chosen = select_by_gain(scored(TEXT, TEXT, "Caves are blue."), approximate_tokens)
    assert [p.docno for p in chosen.passages] == ["0"]
    assert chosen.repeated >= 1
    assert chosen.stopped == "gain"


@given(st.integers(0, 60), st.floats(0, 1), st.floats(0, 2))
def test_selection_never_exceeds_its_budget(budget, min_gain, thrift):
    bodies = [TEXT, "Radium is rare in Paris. It is costly.", "Who found what? Nobody knows.", ""]
    chosen = select_by_gain(scored(*bodies), approximate_tokens, max_tokens=budget, min_gain=min_gain, thrift=thrift)
    assert approximate_tokens(join_passages(chosen.pruned)) == chosen.tokens <= budget
    assert all(p.spans for p in chosen.passages)
    relevance = [p.relevance for p in chosen.passages]
    assert relevance == sorted(relevance, reverse=True)


def test_a_lower_gain_hands_over_no_less():
    pruned = scored(TEXT, "Radium is rare. Paris is large.", "Curie was in Paris.")
    taken = [select_by_gain(pruned, approximate_tokens, min_gain=g).taken for g in (0.0, 0.05, 0.2, 0.5, 1.0)]
    assert taken == sorted(taken, reverse=True)


def test_some_sentences_are_taken_whatever_they_bring():
    pruned = scored(TEXT, TEXT, "Caves are blue. Moss is green.")
    assert select_by_gain(pruned, approximate_tokens, min_gain=1.0).taken == 0
    one_each = select_by_gain(pruned, approximate_tokens, min_gain=1.0, min_keep=1)
    assert [sum(p.keep) for p in one_each.pruned] == [1, 1, 1]
    best = max(range(len(pruned[0].scores)), key=lambda i: pruned[0].scores[i])
    assert one_each.pruned[0].keep[best]
    whole = select_by_gain(pruned, approximate_tokens, min_gain=1.0, whole=[1])
    assert [sum(p.keep) for p in whole.pruned] == [0, len(pruned[1].sentences), 0]
    assert whole.pruned[0].contents == whole.pruned[2].contents == ""
    assert [p.docno for p in whole.pruned] == ["0", "1", "2"]
    assert [p.docno for p in whole.passages] == ["1"]
    tight = select_by_gain(pruned, approximate_tokens, min_gain=0.0, whole=[2], max_tokens=whole.tokens)
    assert any(tight.pruned[2].keep)  # what is needed goes before what is worth more


def test_selecting_from_nothing_selects_nothing():
    assert select_by_gain([], approximate_tokens).passages == ()
    with pytest.raises(InputError, match="min_gain=2"):
        select_by_gain([], approximate_tokens, min_gain=2)


# views ----------------------------------------------------------------------------------------------------------------


def test_views_show_every_character_and_obey_none():
    evil = "<script>alert(1)</script> \x1b[31mred. Radium & Paris \u202eesrever. \x00 [bold]x[/bold]"
    (pruned,) = pruner().prune("radium <b>", [Passage("a<b>", evil, "T<i>")], threshold=0.1)
    page = html_page("radium <b>", [pruned])
    assert "<script" not in page and "<b>" not in page and "<i>" not in page and "\x00" not in page
    assert "Radium &amp; Paris" in page and "<mark" in page and "<del" in page
    shown = terminal_text(pruned).plain
    assert "\x1b" not in shown and "\u202e" not in shown and "\x00" not in shown
    assert "[bold]x[/bold]" in shown


def test_token_counts_are_additive_enough_and_zero_for_nothing():
    assert approximate_tokens("") == 0
    assert approximate_tokens("Marie Curie found radium.") == 5
    assert approximate_tokens("internationalization") > 1
    assert isinstance(SentenceScorer.from_name("lexical"), LexicalScorer)


# the sentence head ----------------------------------------------------------------------------------------------------


@given(st.text(max_size=60), st.text(max_size=200), st.floats(-30, 30))
def test_sentence_features_are_numbers_for_any_text(query, text, rank):
    passage = SplitPassage(text, tuple(split_sentences(text)))
    evidence = [Evidence(0.1 * n, 0.2, 0.3, 0.4, 0.5) for n in range(len(passage.sentences))]
    whole = PassageEvidence(*(0.1 * n for n in range(10)), pieces=7)
    features = sentence_features(query, passage, evidence, rank, [0.5] * len(evidence), rank / 2, whole)
    assert features.shape == (len(passage.sentences), len(FEATURES))
    assert np.isfinite(features).all()
    assert (features[:, FEATURES.index("question_pieces")] == 7).all()
    assert (features[:, FEATURES.index("whole_near")] == whole.near).all()


def test_of_several_windows_the_best_speaks_for_the_passage():
    one = PassageEvidence(1.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, missing=5.0, rarest=9.0, pieces=3)
    two = PassageEvidence(0.0, 0.3, 0.2, 0.5, 0.4, 0.7, 0.6, 0.9, missing=2.0, rarest=9.0, pieces=3)
    best = PassageEvidence(1.0, 0.3, 0.3, 0.5, 0.5, 0.7, 0.7, 0.9, missing=2.0, rarest=9.0, pieces=3)
    assert PassageEvidence.best([one, two]) == PassageEvidence.best([two, one]) == best
    assert PassageEvidence.best([one]) == one


def test_a_head_says_which_features_it_reads_and_one_for_others_is_refused():
    vector = [0.0] * len(FEATURES)
    ones = [1.0] * len(FEATURES)
    good = {"features": list(FEATURES), "weights": vector, "means": vector, "scales": ones, "bias": 0.0}
    assert read_head(good, "config.json").model.bias == 0
    pair = {"features": ["bm25", "logit"], "weights": [0.0, 2.0], "means": [0.0] * 2, "scales": [1.0] * 2, "bias": 0.0}
    table = np.arange(len(FEATURES), dtype=float)[None] * 0 + np.eye(len(FEATURES))[:1]  # the logit is 1, the rest 0
    assert read_head(pair, "config.json")(table) == pytest.approx(1 / (1 + np.exp(-2.0)))
    many = np.random.default_rng(2).normal(size=(4_500, len(FEATURES)))
    assert (read_head(pair, "config.json")(many)[::500] == read_head(pair, "config.json")(many[::500])).all()
    deep = {"features": ["logit"], "inner": [[1.0]], "inner_bias": [0.0], "outer": [1.0], "direct": [0.0]}
    deep |= {"means": [0.0], "scales": [1.0], "bias": 0.0}
    assert read_head(deep, "config.json")(table) == pytest.approx(1 / (1 + np.exp(-np.tanh(1.0))))
    damaged = ({**good, "features": ["other"]}, {**good, "means": [0.0]}, {**good, "bias": None}, {})
    for wrong in (*damaged, {**deep, "inner": [[1.0, 2.0]]}, {**deep, "outer": []}, {**deep, "direct": 3}):
        with pytest.raises(ModelError, match=r"config\.json"):
            read_head(wrong, "config.json")


@pytest.mark.parametrize(
    ("query", "passages", "how"),
    [
        (None, ["x."], {}),
        (3, ["x."], {}),
        ("q", None, {}),
        ("q", "hello. world", {}),
        ("q", Passage("d", "x."), {}),
        ("q", [None], {}),
        ("q", [b"x."], {}),
        ("q", 7, {}),
        *(("q", ["x."], {"threshold": t}) for t in (None, "5", "tight", float("nan"), -1, 3, True, [0.5])),
        *(("q", ["x."], {"max_tokens": n}) for n in (-1, 2.5, "5", True)),
        *(("q", ["x."], {"min_keep": n}) for n in (-1, 2.5, None)),
    ],
)
def test_a_wrong_argument_is_a_plain_error(query, passages, how):
    with pytest.raises(InputError):
        ContextPruner("lexical").prune(query, passages, **how)


@pytest.mark.parametrize("scorer", ["lexical", pytest.param("thresher-context", marks=pytest.mark.models)])
def test_half_of_a_surrogate_pair_is_pruned_like_any_text(scorer):
    text = "Radium \ud83d was found. It glows \udc00."
    (one,) = ContextPruner(scorer).prune("radium", [Passage("d", text, "T \ud83d")], threshold=0)
    assert one.original == text
    assert one.text == text


HEAD = {"features": ["logit", "near"], "bias": 0.0, "means": [0, 0], "scales": [1, 1], "weights": [1, 1]}


@pytest.mark.parametrize(
    "damage",
    [
        {"features": None}, {"features": []}, {"features": [1]}, {"features": ["unknown"]}, {"bias": None},
        {"bias": "x"}, {"bias": float("nan")}, {"bias": 10**400}, {"means": [0]}, {"means": [0, float("inf")]},
        {"scales": [1, 0]}, {"scales": 3}, {"weights": [[1], 2]},
        {"inner": [[1]], "inner_bias": [1], "outer": [1], "direct": [1]},
    ],
)  # fmt: skip
def test_a_damaged_head_is_a_plain_error(damage):
    read_head(HEAD, "config.json")
    with pytest.raises(ModelError, match=r"config\.json"):
        read_head({**HEAD, **damage}, "config.json")


def test_features_of_thousands_of_sentences_take_little_memory():
    n = 20_000
    passage = SplitPassage("a " * n, tuple(Span(2 * i, 2 * i + 1) for i in range(n)))
    evidence = [Evidence(float(i % 50), 0.0, 0.0, 0.0, 0.0) for i in range(n)]
    whole = PassageEvidence(*([0.0] * 10), 1)
    table = sentence_features("q", passage, evidence, 0.0, [0.0] * n, 0.0, whole)
    place = table[:, FEATURES.index("logit_place")]
    assert place[49] == 0
    assert place[0] == pytest.approx(49 / 50)


@pytest.mark.parametrize("content", ["[]", "{}", '{"data": [{"title": 1}]}', '{"data": [5]}', "[" * 5000, "{"])
def test_a_file_that_is_not_in_the_format_of_squad_is_named(tmp_path, content):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(InputError, match=r"s\.json: not in the format of SQuAD 2\.0"):
        list(read_squad(tmp_path / "s.json"))
