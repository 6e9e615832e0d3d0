import pytest

from thresher.errors import InputError
from thresher.evaluate.front import Point, cheapest, front, plot
from thresher.evaluate.holes import Hole, find_holes
from thresher.ranking import Ranking, Run
from thresher.records import Qrels

RUN = Run({"1": Ranking.from_pairs([("a", 1.0), ("b", 1.0), ("c", 0.5)]), "9": Ranking.from_pairs([("x", 1.0)])})
QRELS = Qrels({"1": {"a": 0, "n": 1}, "2": {"a": 1}})


def test_holes_are_the_unjudged_documents_of_the_top():
    found = find_holes(RUN, QRELS, k=2)
    assert found.found == (Hole("1", "b", 1),)  # b before a: ties go to the larger docno
    assert found.per_query == {"1": 1, "2": 0}
    assert (found.retrieved, found.rate) == (2, 0.5)
    assert find_holes(RUN, QRELS).found == (Hole("1", "b", 1), Hole("1", "c", 3))
    assert find_holes(Run({}), QRELS).rate == 0.0
    with pytest.raises(InputError, match="k must be at least 1, got 0"):
        find_holes(RUN, QRELS, k=0)


def test_the_front_is_what_no_point_beats():
    a, b, c, d = Point("a", 1, 0.3), Point("b", 2, 0.3), Point("c", 2, 0.5), Point("d", 4, 0.6)
    assert front([d, c, b, a, Point("a again", 1, 0.3), Point("e", 5, 0.6)]) == (a, c, d)
    assert front([]) == ()


def test_the_cheapest_good_enough_point_is_found():
    points = [Point("a", 1, 0.3), Point("b", 2, 0.5), Point("c", 2, 0.6), Point("d", 9, 0.9)]
    assert cheapest(points, at_least=0.5).name == "c"
    assert cheapest(points, at_least=0.95) is None


def test_points_are_finite():
    with pytest.raises(InputError, match="point 'a' has cost inf"):
        Point("a", float("inf"), 0.5)


def test_a_curve_can_be_drawn():
    pytest.importorskip("altair", reason="the eval extra is not installed")
    chart = plot([Point("a", 1, 0.3, "s"), Point("b", 2, 0.5, "s")], cost="ms", effect="nDCG@10", log_cost=True)
    assert [layer["mark"]["type"] for layer in chart.to_dict()["layer"]] == ["line", "point", "text"]
