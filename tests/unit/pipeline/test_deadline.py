"""Costs are learnt, kept, and predicted with caution; a deadline only shrinks."""

import json

import pytest

from thresher.pipeline.deadline import Costs, Deadline, part_that_fits


def test_what_was_never_seen_costs_nothing_and_what_was_is_predicted_a_unit():
    costs = Costs()
    assert costs.predict("rank", 10) == 0
    costs.observe("rank", 50, 10)
    assert costs.known("rank")
    assert costs.predict("rank", 4) == pytest.approx(20)


def test_uneven_costs_are_predicted_with_caution_and_follow_a_machine_that_slows_down():
    even, uneven = Costs(), Costs()
    for i in range(40):
        even.observe("rank", 10)
        uneven.observe("rank", 5 if i % 2 else 15)
    assert even.predict("rank") == pytest.approx(10)
    assert uneven.predict("rank") > 20
    for _ in range(60):
        even.observe("rank", 30)
    assert even.predict("rank") == pytest.approx(30, rel=0.1)


def test_rates_are_kept_by_name_and_a_damaged_file_counts_as_none(tmp_path):
    costs, file = Costs(), tmp_path / "deep" / "costs.json"
    costs.observe("rank", 8, 2)
    costs.save(file, "a")
    again = Costs()
    assert again.load(file, "a")
    assert again.predict("rank") == 4
    assert not Costs().load(file, "b")
    for damage in ("", "[]", '{"a": 3}', json.dumps({"a": {"rank": [1, -1, 3, 1]}}), '{"a": {"rank": [1, 2]}}'):
        file.write_text(damage)
        assert not Costs().load(file, "a")
    costs.save(file, "a")
    assert Costs().load(file, "a")


def test_a_cache_that_may_not_be_written_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("")
    assert not Costs().save(tmp_path / "file" / "costs.json", "a")


def test_time_runs_out():
    now = [5.0]
    deadline = Deadline(100, 5.0, lambda: now[0])
    assert deadline.left() == pytest.approx(100)
    now[0] = 5.2
    assert deadline.left() == pytest.approx(-100)
    deadline.reserved = 50
    assert deadline.left() == pytest.approx(-150)
    now[0] = 5.0
    assert deadline.refuses(40) == ""
    assert deadline.refuses(60) == "predicted to take 60 ms, 50 ms left"
    assert Deadline(None, 5.0, lambda: now[0]).left() == float("inf")


def test_a_stage_left_out_is_tried_again_after_a_slow_hour_but_not_where_it_was_never_faster():
    costs = Costs()
    costs.observe("rank", 10)
    for _ in range(40):
        costs.observe("rank", 100)
    assert costs.predict("rank") > 90
    for _ in range(60):
        costs.relax("rank")
    assert costs.predict("rank") == pytest.approx(10, rel=0.1)
    for _ in range(60):
        costs.relax("rank")
    assert costs.predict("rank") >= 10


def test_a_burst_of_slow_queries_does_not_lock_a_stage_out():
    costs = Costs()
    for _ in range(20):
        costs.observe("interpolate", 11)
    for _ in range(8):
        costs.observe("interpolate", 1255)
    costs.relax("interpolate")
    costs.relax("interpolate")
    assert costs.predict("interpolate") <= 250


def test_a_first_call_that_loads_a_model_does_not_lock_a_stage_out():
    costs = Costs()
    costs.observe("rerank", 4000)
    for _ in range(3):
        costs.relax("rerank")
    assert costs.predict("rerank") <= 250


@pytest.mark.parametrize("milliseconds", [None, 0.5, 10, 35, 64, 1000])
def test_batches_cover_a_prefix_and_end_in_time(milliseconds):
    now = [0.0]
    deadline = Deadline(milliseconds, 0.0, lambda: now[0])
    done = 0
    while part := part_that_fits(20 - done, lambda count: 3.0 * count, deadline):
        now[0] += 3.0 * part / 1000
        done += part
    if milliseconds is None or milliseconds >= 60:
        assert done == 20
    else:
        assert done == int(milliseconds // 3)
        assert deadline.left() >= -1e-9
