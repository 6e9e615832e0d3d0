"""Asks several shards at once: replicas in turn, hedged requests, and no longer than a deadline.

A shard that takes longer than 95 of 100 of its own last answers, or so long that there is not time for its other
replicas, is asked again at another one, and the first answer counts (hedged requests: Dean and Barroso, The Tail at
Scale, CACM 2013). A replica that fails or does not answer is asked last for a while.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, wait
from typing import TYPE_CHECKING, NamedTuple

from thresher.distributed.messages import CommitGoneError, TopRequest
from thresher.errors import InputError, ShardError, ThresherError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from thresher.distributed.messages import Message
    from thresher.distributed.replicas import Replica

    Watch = Callable[[str, float], object]

_SAMPLES = 512
"""Last times of a shard that its quantile is of."""
_ENOUGH = 20
"""Times from which on requests are hedged."""
_QUANTILE = 0.95
_REST = 5.0
"""Seconds for which a replica that failed is the last one asked."""
_PATIENCE = 0.1
"""Seconds after which another shard is asked for what all can say."""
_SOONEST = 0.001
"""Seconds after which a request is hedged at the earliest."""


class ShardReplicas:
    """One shard: its replicas, and how long it takes to answer.

    Args:
        replicas: at least one.
        patience: seconds after which an answer is slow while too few times are known.

    Attributes:
        name: of the shard: its first replica's.
        hedged: requests that were sent a second time since they took long.
    """

    def __init__(self, replicas: Sequence[Replica], patience: float = math.inf) -> None:
        self.replicas, self.name = tuple(replicas), replicas[0].name
        self.hedged = 0
        self._patience = patience
        self._times: deque[float] = deque(maxlen=_SAMPLES)
        self._resting = [0.0] * len(self.replicas)
        self._next, self._lock = 0, threading.Lock()

    def order(self) -> list[int]:
        """The replicas in the order in which they are asked: in turn, those that failed of late last."""
        n = len(self.replicas)
        if n == 1:
            return [0]
        with self._lock:
            first, self._next = self._next, (self._next + 1) % n
        now = time.monotonic()
        return sorted(((first + i) % n for i in range(n)), key=lambda at: self._resting[at] > now)

    def learn(self, seconds: float) -> None:
        """Take note of how long an answer took."""
        self._times.append(seconds)

    def rest(self, replica: int) -> None:
        """Ask this replica last for a while."""
        self._resting[replica] = time.monotonic() + _REST

    def slow(self) -> float:
        """Seconds after which an answer is slow."""
        times = sorted(self._times)
        if len(times) < _ENOUGH:
            return self._patience
        return max(_SOONEST, times[int(_QUANTILE * (len(times) - 1))])

    def close(self) -> None:
        """Close the replicas."""
        for replica in self.replicas:
            replica.close()


class Gathered(NamedTuple):
    """What shards answered, by shard; and why others did not."""

    answers: dict[int, Message]
    failed: dict[int, Exception]


class _Attempt(NamedTuple):
    shard: int
    replica: int
    began: float


class _Waiting:
    """The requests of one `gather`."""

    def __init__(
        self, shards: Sequence[ShardReplicas], asks: Mapping[int, Message], due: float, hedge: bool, watch: Watch | None
    ) -> None:
        self.shards, self.asks, self.due, self.hedge, self.watch = shards, asks, due, hedge, watch
        self.orders = {shard: shards[shard].order() for shard in asks}
        self.tried = dict.fromkeys(asks, 0)
        self.pending: dict[Future[Message], _Attempt] = {}
        self.open = dict.fromkeys(asks, 0.0)  # when each was asked last
        self.result = Gathered({}, {})

    def ask(self, shard: int) -> None:
        """Ask the shard's next replica."""
        replica = self.orders[shard][self.tried[shard]]
        self.tried[shard] += 1
        now = time.monotonic()
        future = self.shards[shard].replicas[replica].submit(self.asks[shard], max(self.due - now, 0.001))
        self.pending[future] = _Attempt(shard, replica, now)
        self.open[shard] = now

    def take(self, future: Future[Message]) -> None:
        """Take an answer, or ask another replica where it is an error."""
        shard, replica, began = self.pending.pop(future)
        if shard not in self.open:
            return
        one = self.shards[shard]
        error = future.exception()
        if error is None:
            self.result.answers[shard] = future.result()
            del self.open[shard]
            self.result.failed.pop(shard, None)
            if isinstance(self.asks[shard], TopRequest):
                seconds = time.monotonic() - began
                one.learn(seconds)
                if self.watch is not None:
                    self.watch(one.name, seconds)
            return
        if isinstance(error, InputError) or not isinstance(error, ThresherError | OSError):
            raise error
        one.rest(replica)
        if not isinstance(self.result.failed.get(shard), CommitGoneError):
            self.result.failed[shard] = error
        if self.tried[shard] < len(self.orders[shard]):
            self.ask(shard)
        elif not any(attempt.shard == shard for attempt in self.pending.values()):
            del self.open[shard]

    def next_hedge(self) -> float:
        """When the next request is slow that can be sent again."""
        if not self.hedge:
            return math.inf
        return min((self.hedge_at(shard) for shard in self.open), default=math.inf)

    def hedge_at(self, shard: int) -> float:
        """When another replica of a shard is asked: once an answer is slow, and while there is time for all of them."""
        left = len(self.orders[shard]) - self.tried[shard]
        if not left:
            return math.inf
        asked = self.open[shard]
        return asked + min(self.shards[shard].slow(), (self.due - asked) / (left + 1))

    def send_again(self) -> None:
        """Send what is slow to another replica."""
        now = time.monotonic()
        for shard in [shard for shard in self.open if self.hedge_at(shard) <= now]:
            self.shards[shard].hedged += 1
            self.ask(shard)

    def give_up(self) -> None:
        """Take note of those that did not answer in time."""
        for attempt in self.pending.values():
            if attempt.shard in self.open:
                self.shards[attempt.shard].rest(attempt.replica)
        for shard in self.open:
            self.result.failed.setdefault(
                shard, ShardError(f"the shard {self.shards[shard].name} did not answer by the deadline")
            )


def gather(
    shards: Sequence[ShardReplicas],
    asks: Mapping[int, Message],
    *,
    due: float = math.inf,
    hedge: bool = True,
    watch: Watch | None = None,
) -> Gathered:
    """The answers of several shards.

    Args:
        shards: all shards.
        asks: what is asked of some, by their place.
        due: when to stop waiting, by `time.monotonic`.
        hedge: send requests a second time where there are replicas.
        watch: called with a shard's name and the seconds of each answer to a `TopRequest`.

    Raises:
        InputError: a shard says that the request is wrong.
    """
    waiting = _Waiting(shards, asks, due, hedge, watch)
    for shard in asks:
        waiting.ask(shard)
    while waiting.open:
        for future in [future for future in waiting.pending if future.done()]:
            waiting.take(future)
        if not waiting.open or not waiting.pending:
            break
        now, next_ = time.monotonic(), waiting.next_hedge() if hedge else math.inf
        if now >= due:
            break
        if next_ <= now:
            waiting.send_again()
            continue
        until = min(due, next_)
        wait(waiting.pending, None if until == math.inf else until - now, FIRST_COMPLETED)
    waiting.give_up()
    return waiting.result


def first_of(shards: Sequence[ShardReplicas], request: Message, due: float = math.inf) -> Message:
    """The answer of whichever shard answers, all of which would say the same.

    Raises:
        ShardError: none answered by then.
        ThresherError: what the last one said.
    """
    every = ShardReplicas([replica for shard in shards for replica in shard.replicas], _PATIENCE)
    found = gather([every], {0: request}, due=due)
    if 0 in found.answers:
        return found.answers[0]
    raise found.failed[0]
