"""The arithmetic and the simulation of full-size collections."""

import numpy as np
import pytest

from eval.scaling import A_SHARD, COLLECTIONS, builds, waits

RATES = {
    "read": 5000.0,
    "score": 8000.0,
    "fold": 15_000.0,
    "encode": 100.0,
    "index": 60_000.0,
    "bytes_per_posting": 3.6,
}


def test_a_build_costs_in_proportion_to_its_passages_and_pruning_first_saves_encoding():
    rows = {(row["collection"], row["kept"]): row for row in builds(RATES)}
    small, large = rows["MS MARCO v1", 1.0], rows["10 billion passages", 1.0]
    growth = COLLECTIONS["10 billion passages"] / COLLECTIONS["MS MARCO v1"]
    assert large["core_hours"] == pytest.approx(small["core_hours"] * growth)
    assert small["encode_core_hours"] == pytest.approx(8_841_823 / 100 / 3600)
    pruned = rows["MS MARCO v1", 0.8]
    assert pruned["core_hours"] < small["core_hours"] and pruned["score_core_hours"] > 0
    assert large["shards"] == -(-(10**10) // A_SHARD)


def test_the_slowest_of_more_shards_is_slower_and_hedging_cuts_the_tail():
    rng = np.random.default_rng(1)
    times = 1.0 + 0.1 * rng.random((30, 40))
    times[rng.random(times.shape) < 0.01] = 50.0
    one, ten, hundred = (waits(times, shards, 1.0, np.random.default_rng(2)) for shards in (1, 10, 100))
    assert one[0]["p50_ms"] < ten[0]["p99_ms"] <= hundred[0]["p99_ms"]
    assert one[0]["p50_ms"] >= 2.0  # a search and what HTTP adds
    assert ten[1]["p99_ms"] < ten[0]["p99_ms"] and 0 < ten[1]["more_requests"] < 0.06
    assert hundred[0]["complete"] < ten[0]["complete"] < one[0]["complete"] <= 1


def test_times_that_never_differ_are_the_answer_for_any_number_of_shards():
    plain, hedged = waits(np.full((5, 10), 3.0), 200, 0.5, np.random.default_rng(3))
    assert plain["p50_ms"] == plain["p99.9_ms"] == hedged["p99_ms"] == 3.5
    assert plain["complete"] == 1.0 and hedged["more_requests"] == 0.0
