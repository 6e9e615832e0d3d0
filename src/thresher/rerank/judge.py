"""Who answers asks: a language model through prompts, a rerank server, a cross-encoder, a recording, a simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.records import Hit
    from thresher.rerank.asks import Answer, Ask
    from thresher.rerank.limiter import Gate


@dataclass(frozen=True, slots=True)
class Question:
    """A query and its candidates, whose positions asks speak of.

    Attributes:
        qid: its identifier; it seeds the plan's chance.
        text: what was asked.
        hits: the candidates in first-stage order.
    """

    qid: str
    text: str
    hits: tuple[Hit, ...]


class Judge(Protocol):
    """Answers asks about the candidates of one query.

    Everything that costs goes out through the gate, which holds budget, cache, journal, connections and retries.
    """

    @property
    def name(self) -> str:
        """Model and settings, for the record."""

    @property
    def asks_per_call(self) -> int:
        """How many asks of a batch the driver may hand over together; 1 unless one request answers several."""

    async def answer(self, query: Question, asks: Sequence[Ask], gate: Gate) -> list[Answer | None]:
        """One answer an ask, None where what the model said could not be read.

        Raises:
            ModelError: the model cannot be reached, or fails for good.
            BudgetExhaustedError: a call did not fit the budget.
        """
