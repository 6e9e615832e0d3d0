"""How often answers of a random grammar are read as they are meant: right, unreadable, or as another order.

`training.rerank.answer_grammar` writes answers whose order is known: in chains, lists, tables, JSON, sentences, with
thoughts, lead-ins, corrections and closing remarks around them, in several scripts. It was written before the parser
was looked at; the parser was then mended on the seeds 1, 11 and 12. This draws another seed. Answers that a reader may
decline (worst first, scores alone) and answers without an order must not be read as another order.

Writes eval/results/answer-grammar.json.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from random import Random
from typing import TYPE_CHECKING

from eval.bench import Bench, Row, options
from thresher.rerank.parsing import get_parser, read_order
from training.rerank.answer_grammar import verdict, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.rerank.plans.plan import Answer
    from training.rerank.answer_grammar import Class

SEED = 4
DRAWS: tuple[tuple[Class, int], ...] = (("plain", 10_000), ("hard", 2_000), ("orderless", 2_000))


def read(text: str, shown: tuple[int, ...], labels: tuple[str, ...]) -> Answer | None:
    """As the default parser reads."""
    return read_order(text, shown, get_parser("brackets-v1"), labels)


def rows_of(kind: Class, count: int) -> list[Row]:
    """The counts of one class: of all answers, and of those with each part."""
    rng = Random(SEED)  # noqa: S311  # draws test cases
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for _ in range(count):
        written = write(rng, kind)
        found = verdict(written, read)
        for part in ("all", *sorted(set(written.parts))):
            counts[part][found] += 1
    return [
        {
            "class": kind,
            "part": part,
            "answers": sum(found.values()),
            **{name: found[name] for name in ("right", "unreadable", "wrong")},
            "right_share": found["right"] / sum(found.values()),
        }
        for part, found in counts.items()
    ]


def main(arguments: Sequence[str]) -> None:
    """Draw, read, count and write."""
    bench = Bench.of(options("answer-grammar", __doc__).parse_args(arguments))
    rows = [row for draw in DRAWS for row in rows_of(*draw)]
    bench.write(
        "answer-grammar",
        [row for row in rows if row["part"] == "all"],
        seed=SEED,
        title="Generated answers with a known order, read",
        note="`hard` answers name the worst first or give scores alone; a reader may decline them. `orderless` answers "
        "rank nothing; they are right if nothing is read.",
        details=rows,
    )
