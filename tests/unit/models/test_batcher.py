"""Callers of a batcher get their own results, whatever the others do."""

import asyncio
import os
import pickle
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.errors import BudgetExhaustedError, ModelError
from thresher.models.batcher import Batcher


class Gate:
    """Squares, which waits in its first call until it is told to go on, and remembers its calls."""

    def __init__(self):
        self.calls, self.running, self.release = [], threading.Event(), threading.Event()

    def __call__(self, items):
        self.calls.append(list(items))
        self.running.set()
        self.release.wait()
        return [item * item for item in items]


def waits_for(batcher, count):
    """Until `count` requests wait."""
    while len(batcher._waiting) < count:
        os.sched_yield()


def in_thread(function, *args, **named):
    """A started thread, and where its outcome will be."""
    found = {}

    def run():
        try:
            found["result"] = function(*args, **named)
        except Exception as err:
            found["error"] = err

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def inverses(items):
    return [1 / item for item in items]


REQUESTS = st.lists(st.lists(st.integers(-2, 9), max_size=4), min_size=1, max_size=12)


@settings(max_examples=30, deadline=None)
@given(blocking=REQUESTS, asynchronous=REQUESTS, limit=st.integers(1, 6))
def test_every_caller_gets_its_own_results_or_its_own_error(blocking, asynchronous, limit):
    largest = []

    def function(items):
        largest.append(len(items))
        return inverses(items)

    batcher = Batcher(function, limit)

    async def together():
        return await asyncio.gather(*map(batcher.asubmit, asynchronous), return_exceptions=True)

    started = [in_thread(batcher.submit, items) for items in blocking]
    loop, of_loop = in_thread(asyncio.run, together())
    for thread in (loop, *(thread for thread, _ in started)):
        thread.join()
    batcher.close()
    found = [outcome.get("result", outcome.get("error")) for _, outcome in started]
    for items, result in zip(blocking + asynchronous, found + of_loop["result"], strict=True):
        if 0 in items:
            assert isinstance(result, ZeroDivisionError)
        else:
            assert result == [1 / item for item in items]
    assert max(largest, default=0) <= max(limit, *map(len, blocking + asynchronous))


def test_what_comes_while_the_function_runs_is_one_batch():
    gate = Gate()
    batcher = Batcher(gate, 6)
    started = [in_thread(batcher.submit, [0, 1])]
    gate.running.wait()
    started += [in_thread(batcher.submit, [n, n + 1]) for n in range(10, 50, 10)]
    waits_for(batcher, 4)
    gate.release.set()
    for thread, _ in started:
        thread.join()
    assert [outcome["result"] for _, outcome in started] == [[n * n, (n + 1) ** 2] for n in range(0, 50, 10)]
    assert [len(call) for call in gate.calls] == [2, 6, 2]


def test_the_tasks_of_an_event_loop_share_batches():
    sizes = []

    def double(items):
        sizes.append(len(items))
        return [item * 2 for item in items]

    batcher = Batcher(double, 4)

    async def twice(item):
        (once,) = await batcher.asubmit([item])
        return await batcher.asubmit([once])

    async def run():
        return await asyncio.gather(*map(twice, range(4)))

    assert asyncio.run(run()) == [[4 * item] for item in range(4)]
    assert sizes == [4, 4]
    batcher.close()


def test_the_nearest_deadline_goes_first():
    gate = Gate()
    batcher = Batcher(gate, 1)
    started = [in_thread(batcher.submit, [0])]
    gate.running.wait()
    for count, (item, seconds) in enumerate([(1, 900.0), (2, 600.0), (3, None)], start=1):
        started.append(in_thread(batcher.submit, [item], seconds=seconds))
        waits_for(batcher, count)
    gate.release.set()
    for thread, _ in started:
        thread.join()
    assert gate.calls == [[0], [3], [2], [1]]


def test_nothing_is_computed_for_a_caller_who_has_gone():
    gate = Gate()
    batcher = Batcher(gate, 9)
    first, _ = in_thread(batcher.submit, [0])
    gate.running.wait()

    async def cancelled():
        task = asyncio.ensure_future(batcher.asubmit([1]))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    with pytest.raises(BudgetExhaustedError, match=r"deadline of 0\.001 seconds"):
        batcher.submit([2], seconds=0.001)
    with pytest.raises(BudgetExhaustedError, match="deadline of 0 seconds"):
        asyncio.run(batcher.asubmit([3], seconds=0))
    last, outcome = in_thread(batcher.submit, [4])
    waits_for(batcher, 4)
    gate.release.set()
    for thread in (first, last):
        thread.join()
    assert outcome["result"] == [16]
    assert gate.calls == [[0], [4]]


def test_a_caller_whose_time_is_over_does_not_wait_for_the_function():
    gate = Gate()
    batcher = Batcher(gate, 9)
    with pytest.raises(BudgetExhaustedError):
        batcher.submit([1], seconds=0.01)
    other, outcome = in_thread(batcher.submit, [2])
    gate.release.set()
    other.join()
    assert outcome["result"] == [4]


def test_a_closed_batcher_refuses_what_waits_and_finishes_what_runs():
    gate = Gate()
    batcher = Batcher(gate, 1)
    running, ran = in_thread(batcher.submit, [3])
    gate.running.wait()
    waiting, refused = in_thread(batcher.submit, [4])
    task, of_task = in_thread(lambda: asyncio.run(batcher.asubmit([5])))
    waits_for(batcher, 2)
    batcher.close()
    waiting.join()
    task.join()
    gate.release.set()
    running.join()
    assert ran["result"] == [9]
    for outcome in (refused, of_task):
        assert isinstance(outcome["error"], ModelError)
    with pytest.raises(ModelError, match="closed"):
        batcher.submit([6])
    assert gate.calls == [[3]]


def test_a_function_must_give_one_result_for_each_item():
    batcher = Batcher(lambda items: items[1:], 4)
    with pytest.raises(ModelError, match="0 results for 1 items"):
        batcher.submit([1])
    assert batcher.submit([]) == []


def test_a_batcher_can_be_pickled_and_used_after_a_fork():
    batcher = Batcher(inverses, 3)
    assert batcher.submit([2]) == [0.5]
    assert pickle.loads(pickle.dumps(batcher)).submit([4]) == [0.25]  # noqa: S301
    if hasattr(os, "fork"):
        child = os.fork()
        if not child:
            os._exit(0 if batcher.submit([5]) == [0.2] else 1)
        assert os.waitpid(child, 0)[1] == 0
