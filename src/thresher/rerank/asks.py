"""What a plan may ask about the candidates of one query, and what it is told.

Candidates are known by position, 0-based, in first-stage order; text and prompts are the judge's business. An answer
is a list of tiers, best first, over the positions asked about; positions in one tier are tied. Where the judge has
a number (a rating, the probability that the first of two wins), the answer carries it too.

`None` in the place of an answer means *no information*: the model failed, its answer could not be read, or the budget
did not reach that far. It is never replaced by the order the passages were shown in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from thresher.errors import InputError

Tiers = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Order:
    """Order these candidates, best first. They are shown in the order given."""

    items: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Best:
    """Which of these candidates is the best? The first one shown is the incumbent."""

    items: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prefer:
    """Which of these two candidates is better? They are shown in the order given."""

    items: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rate:
    """How relevant is this one candidate?"""

    items: tuple[int]


Ask = Order | Best | Prefer | Rate


@dataclass(frozen=True, slots=True)
class Answer:
    """What a judge said to one ask.

    Attributes:
        tiers: the asked positions, best first, ties together. `Best` needs only its first tier to be right: a judge
            that knows no more puts the rest into one second tier.
        score: the rating (`Rate`) or the probability that the first of the two is better (`Prefer`); None if unknown.
        named: how many positions, counted from the head, the judge placed itself; the rest were appended by the
            repair rule and are no evidence about each other.
        repairs: the kinds of repair that were needed to read the answer, empty for a well-formed one.
    """

    tiers: Tiers
    score: float | None = None
    named: int = -1
    repairs: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.named < 0:
            object.__setattr__(self, "named", sum(map(len, self.tiers)))

    @property
    def order(self) -> tuple[int, ...]:
        """The tiers laid out in a row."""
        return flatten(self.tiers)

    def check(self, ask: Ask) -> None:
        """Refuse an answer that is not about exactly the positions asked for.

        Raises:
            InputError: a position is missing, repeated or strange: the judge is broken.
        """
        if sorted(self.order) != sorted(ask.items):
            raise InputError(
                f"a judge answered {type(ask).__name__}{ask.items} with the positions {self.order}; "
                "an answer must hold exactly the positions asked about, each once"
            )


def flatten(tiers: Tiers) -> tuple[int, ...]:
    """The items of all tiers in a row, best first."""
    return tuple(item for tier in tiers for item in tier)
