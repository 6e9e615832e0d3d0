"""Queries in several threads share batches of a model, and give up when their deadline is over."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from thresher.context.scorers import LexicalScorer, SplitPassage
from thresher.pipeline.deadline import Deadline
from thresher.pipeline.shared import Reading, encoded, read
from thresher.records import Span


class Held:
    """A model whose first batch waits until it is let go; it notes the sizes of its batches."""

    def __init__(self):
        self.begun, self.released, self.sizes = threading.Event(), threading.Event(), []

    def hold(self, size):
        self.sizes.append(size)
        if len(self.sizes) == 1:
            self.begun.set()
            assert self.released.wait(20)


class Encoder(Held):
    def encode_queries(self, texts):
        self.hold(len(texts))
        return np.array([[float(len(text))] for text in texts])


class Scorer(Held, LexicalScorer):
    def __init__(self):
        Held.__init__(self)
        LexicalScorer.__init__(self)

    def score(self, pairs):
        self.hold(len(pairs))
        return LexicalScorer.score(self, pairs)


def no_limit():
    return Deadline(None, time.perf_counter())


def reading(scorer, query, fitting=lambda *_: 2, observed=None, deadline=None):
    pairs = [(query, SplitPassage(text, (Span(0, len(text)),))) for text in ("grain is kept", "chaff is light")]
    return Reading(
        scorer,
        pairs,
        [3, 3],
        fitting,
        lambda ms, tokens: None if observed is None else observed.append((ms, tokens)),
        deadline or no_limit(),
    )


def shared_by(model, call, others):
    """The results of calls of which the others wait while the model is busy with the first."""
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(call, 0)
        assert model.begun.wait(20)
        rest = [pool.submit(call, number) for number in range(1, others + 1)]
        time.sleep(0.2)
        model.released.set()
        return [one.result() for one in (first, *rest)]


def test_queries_that_come_while_a_batch_runs_are_encoded_as_one():
    model = Encoder()
    found = shared_by(model, lambda n: encoded(model, "x" * n, no_limit()), 6)
    assert [vector.tolist() for vector in found] == [[float(n)] for n in range(7)]
    assert model.sizes == [1, 6]


def test_passages_of_several_queries_are_read_as_one_batch_with_the_scores_each_gets_alone():
    model, queries = Scorer(), ["grain", "chaff", "is light", "kept grain"]
    found = shared_by(model, lambda n: read(reading(model, queries[n]), no_limit()), 3)
    assert found == [LexicalScorer().score(reading(model, query).pairs) for query in queries]
    assert model.sizes == [2, 6]


def test_what_fits_is_decided_when_the_batch_begins_by_how_many_share_it():
    model, sharing = Scorer(), []

    def fitting(number, _):
        sharing.append(number)
        return 1

    found = shared_by(model, lambda _: read(reading(model, "grain", fitting), no_limit()), 2)
    assert sharing == [1, 2, 2]
    assert [len(scores) for scores in found] == [1, 1, 1]


def test_a_batch_ends_in_time_for_the_first_deadline_that_it_can_meet():
    model, limits = Scorer(), {}

    def asked(number):
        deadline = [no_limit(), Deadline(90_000, time.perf_counter()), Deadline(60_000, time.perf_counter())][number]

        def fitting(_, limit):
            limits[number] = limit
            return 1

        return read(reading(model, "grain", fitting, deadline=deadline), no_limit())

    shared_by(model, asked, 2)
    assert limits[2] == math.inf  # the first deadline of its batch
    assert 0 < limits[1] <= 60_000


def test_the_cost_of_a_batch_is_noted_once_with_the_tokens_of_all_its_passages():
    model, observed = Scorer(), []
    shared_by(model, lambda _: read(reading(model, "grain", observed=observed), no_limit()), 2)
    assert [tokens for _, tokens in observed] == [[3, 3], [3, 3, 3, 3]]


@pytest.mark.parametrize("model", [Encoder(), Scorer()])
def test_waiting_for_a_model_is_bounded_by_the_deadline_and_is_not_work(model):
    def asked(deadline, **options):
        if isinstance(model, Encoder):
            return encoded(model, "x", deadline, **options)
        return read(reading(model, "grain"), deadline) or None

    other = threading.Thread(target=asked, args=(no_limit(),))
    other.start()
    try:
        assert model.begun.wait(20)
        deadline = Deadline(30, time.perf_counter())
        assert asked(deadline) is None
        assert deadline.left() <= 0
        assert 0 < deadline.waited <= deadline.spent()
    finally:
        model.released.set()
        other.join()
    if isinstance(model, Encoder):
        assert asked(Deadline(0.001, time.perf_counter() - 1), patient=True).tolist() == [1.0]
