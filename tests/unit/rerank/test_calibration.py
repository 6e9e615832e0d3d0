"""Calibration of scores: the curves against definitions and scikit-learn, folds, files, thresholds."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.errors import ArtifactVersionError, ConfigError, DamagedArtifactError, InputError
from thresher.ranking import Ranking, Run
from thresher.records import Qrels
from thresher.rerank.calibration import ScoreCalibration, worth_reading
from thresher.rerank.calibration_fit import (
    Judged,
    ece_interval,
    equal_mass,
    equal_width,
    fit_calibration,
    folds_of,
    isotonic,
    judged_pairs,
    platt,
)

PAIRS = st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=1, max_size=40)


def drawn(topics=60, size=30, seed=0, slope=1.5, constant=-1.0):
    """Pairs whose probability of being relevant is a logistic function of the score."""
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.normal(size=(topics, size)), axis=1)[:, ::-1].ravel()
    hit = rng.random(topics * size) < 1 / (1 + np.exp(-(slope * scores + constant)))
    qids = tuple(f"q{t}" for t in range(topics) for _ in range(size))
    return Judged(scores, np.tile(np.arange(1.0, size + 1), topics), hit, qids)


def fitted(**settings):
    return fit_calibration(drawn(), judge="judge", plan="pointwise", **settings)


@given(PAIRS)
@settings(max_examples=80, deadline=None)
def test_isotonic_blocks_are_the_least_squares_curve_with_one_pair_added_at_each_end(pairs):
    x, y = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    values = np.unique(x)
    weight = np.array([(x == v).sum() for v in values], float)
    hits = np.array([y[x == v].sum() for v in values], float)
    weight[0], hits[0] = weight[0] + 1, hits[0] + 1
    weight[-1] += 1
    n = len(values)
    wanted = [
        max(min(hits[a : b + 1].sum() / weight[a : b + 1].sum() for b in range(i, n)) for a in range(i + 1))
        for i in range(n)
    ]  # the min-max formula of isotonic regression
    points = isotonic(x, y)
    assert sorted({round(p, 9) for _, p in points}) == sorted({round(p, 9) for p in wanted})
    for value, p in points:
        inside = [w for v, w in zip(values, wanted, strict=True) if np.isclose(w, p)]
        block = values[np.isclose(wanted, p)]
        assert inside
        assert block.min() - 1e-9 <= value <= block.max() + 1e-9
    assert 0 < points[0][1] <= points[-1][1] < 1


def test_curves_are_those_of_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration")
    from sklearn.isotonic import IsotonicRegression

    pairs = drawn(seed=3)
    a, b = calibration._sigmoid_calibration(pairs.scores, pairs.relevant)
    assert platt(pairs.scores, pairs.relevant) == pytest.approx((-a, -b), abs=1e-4)
    x = np.concatenate([pairs.scores, [pairs.scores.min(), pairs.scores.max()]])
    theirs = IsotonicRegression().fit(x, np.concatenate([pairs.relevant, [1, 0]]))
    own = np.array(isotonic(pairs.scores, pairs.relevant))
    for value, p in own:
        near = pairs.scores[np.argmin(np.abs(pairs.scores - value))]
        assert theirs.predict([near])[0] == pytest.approx(p, abs=0.08)  # theirs has steps at the pairs
    assert set(np.round(theirs.predict(pairs.scores), 9)) == set(np.round(own[:, 1], 9))


def test_a_logistic_curve_never_falls():
    pairs = drawn()
    slope, constant = platt(-pairs.scores, pairs.relevant)
    share = (pairs.relevant.sum() + 1) / (len(pairs.relevant) + 2)
    assert slope == 0
    assert 1 / (1 + np.exp(-constant)) == pytest.approx(share)


def test_a_calibration_recovers_the_curve_and_holds_on_other_topics():
    made = fitted()
    x = np.linspace(-2, 2, 9)
    assert made.probability(x) == pytest.approx(1 / (1 + np.exp(-(1.5 * x - 1))), abs=0.06)
    assert made.held_out.ece < 0.05
    assert made.held_out.low <= made.held_out.ece <= made.held_out.high
    assert made.signal == "score"
    assert set(made.held_out.compared) == {"score platt", "score isotonic"}
    assert (made.topics, made.pairs, made.positives) == (60, 1800, int(drawn().relevant.sum()))


def test_the_better_curve_on_held_out_topics_is_chosen():
    assert fitted().method == "platt"  # what the pairs were drawn by
    one = drawn()
    step = np.random.default_rng(1).random(1800) < np.where(one.scores > 1, 0.5, 0.1)
    stepped = Judged(one.scores, one.ranks, step, one.topics)
    assert fit_calibration(stepped, judge="j", plan="pointwise").method == "isotonic"


def test_strengths_and_ranks_are_compared_where_scores_are_not_ratings():
    assert set(fit_calibration(drawn(), judge="j", plan="jointrank").held_out.compared) == {
        "score platt", "score isotonic", "rank platt", "rank isotonic"
    }  # fmt: skip
    order = Judged(None, drawn().ranks, drawn().relevant, drawn().topics)
    made = fit_calibration(order, judge="j", plan="sliding")
    assert made.signal == "rank"
    p = made.of_ranking(None, 30)
    assert (np.diff(p) <= 0).all()
    assert 0 < p[-1] < p[0] < 1


def test_topics_are_dealt_out_to_folds_whole():
    topics = tuple(f"q{i % 11}" for i in range(55))
    fold = folds_of(topics, 4)
    by_topic = {qid: {int(f) for q, f in zip(topics, fold, strict=True) if q == qid} for qid in topics}
    assert all(len(folds) == 1 for folds in by_topic.values())
    assert sorted(sum(folds == {f} for folds in by_topic.values()) for f in range(4)) == [2, 3, 3, 3]


def test_the_calibration_error_is_the_mean_gap_of_the_bins():
    p, hit = np.array([0.1, 0.1, 0.9, 0.9]), np.array([False, True, True, True])
    assert equal_width(p, hit).ece == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)
    assert equal_mass(p, hit, bins=2).ece == pytest.approx(0.25)
    assert equal_mass(np.full(9, 0.5), np.arange(9) < 3).counts.tolist() == [9]  # equal probabilities stay together
    low, high = ece_interval(p, hit, ("a", "a", "b", "b"), rounds=500)
    assert low == pytest.approx(0.1)
    assert high == pytest.approx(0.4)


def test_passages_without_a_judgment_are_not_relevant_or_left_out():
    run = Run({"q": Ranking.from_pairs([("a", 3.0), ("b", 2.0), ("c", 1.0)])})
    full = judged_pairs(run, Qrels({"q": {"a": 2, "b": 0}}), relevant=2, unjudged="left out")
    assert (full.relevant.tolist(), full.unjudged) == ([True, False], "left out")
    positive = judged_pairs(run, Qrels({"q": {"a": 2}}), depth=2)
    assert (positive.relevant.tolist(), positive.unjudged) == ([True, False], "not relevant")
    assert judged_pairs(run, Qrels({"q": {"c": 0}})).ranks.tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="none of the run's 1 queries"):
        judged_pairs(run, Qrels({"other": {"a": 1}}))


@pytest.mark.parametrize(("change", "message"), [
    ({"topics": ("q",) * 1800}, "1 judged topic is too few"),
    ({"relevant": np.ones(1800, bool)}, "all pairs are relevant"),
    ({"relevant": np.zeros(1800, bool)}, "no pair is relevant"),
])  # fmt: skip
def test_what_cannot_be_calibrated_is_refused(change, message):
    one = drawn()
    parts = {"scores": one.scores, "ranks": one.ranks, "relevant": one.relevant, "topics": one.topics}
    with pytest.raises(InputError, match=message):
        fit_calibration(Judged(**{**parts, **change}), judge="j", plan="pointwise")


def test_ranks_and_scores_are_not_taken_for_each_other():
    with pytest.raises(InputError, match="calibrate its ranks"):
        fitted().of_ranking(None, 3)
    with pytest.raises(InputError, match="only an order"):
        fit_calibration(Judged(None, drawn().ranks, drawn().relevant, drawn().topics), judge="j", plan="p",
                        signal="score")  # fmt: skip
    with pytest.raises(InputError, match="ranks begin with 1"):
        fitted(signal="rank").probability([0])


def test_a_calibration_is_the_same_after_reading_it_back(tmp_path):
    for settings_of in ({}, {"method": "isotonic"}, {"signal": "rank"}):
        made = fitted(**settings_of, model="abc", source="sixty topics")
        assert ScoreCalibration.read(made.save(tmp_path / "scores.json")) == made


def test_a_calibration_is_refused_for_another_judge_plan_or_model():
    made = fitted(model="abc")
    made.check("judge", "pointwise")
    made.check("judge", "pointwise", "abc")
    for wrong in (("other", "pointwise"), ("judge", "sliding"), ("judge", "pointwise", "def")):
        with pytest.raises(ConfigError, match=f"has '{wrong[-1] if len(wrong) == 3 else ''}.*calibrate scores"):
            made.check(*wrong)


@pytest.mark.parametrize(("change", "message"), [
    ({"kind": "certificate"}, "not a calibration"),
    ({"points": []}, "not finite"),
    ({"method": "isotonic", "points": [[0, 0.5], [1, 0.4]]}, "falls"),
    ({"method": "isotonic", "points": [[0, 0.0], [1, 0.4]]}, "reaches 0"),
    ({"points": [[-1, 0.4]]}, "falls"),
    ({"judge": 7}, "judge"),
])  # fmt: skip
def test_a_damaged_file_is_refused_by_its_name(tmp_path, change, message):
    file = tmp_path / "scores.json"
    file.write_text(json.dumps({**fitted(method="platt").as_json(), **change}))
    with pytest.raises(DamagedArtifactError, match=message) as caught:
        ScoreCalibration.read(file)
    assert str(file) in str(caught.value)


def test_a_file_of_a_later_release_is_refused_as_such(tmp_path):
    file = tmp_path / "scores.json"
    file.write_text(json.dumps({**fitted().as_json(), "format": 2}))
    with pytest.raises(ArtifactVersionError, match="format 2"):
        ScoreCalibration.read(file)


@given(
    st.lists(st.floats(0, 1) | st.just(float("nan")), max_size=12),
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_worth_reading_is_the_longest_prefix_with_the_expected_precision(values, least, precision):
    places = worth_reading(values, least, precision).tolist()
    if (least, precision) == (None, None):
        assert places == list(range(len(values)))
        return
    able = [i for i, p in enumerate(values) if p >= (least or 0.0)]
    lengths = [
        m for m in range(len(able) + 1) if m == 0 or np.mean([values[i] for i in able[:m]]) >= (precision or 0) - 1e-9
    ]
    assert places == able[: max(lengths)]


def test_limits_are_shares():
    for wrong in ({"min_score": 1.5}, {"precision": -0.1}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            worth_reading([0.5], **wrong)
