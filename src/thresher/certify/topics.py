"""Which queries count: those with judgments and something relevant to lose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.errors import InputError
from thresher.evaluate.trec import read_qrels, read_queries
from thresher.records import Qrels, Query

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Topics:
    """The queries that count, and their judgments.

    Attributes:
        queries: in the order they came.
        qrels: of these queries; None without judgments.
        source: where they came from.
        notes: what was left out, in words.
    """

    queries: tuple[Query, ...]
    qrels: Qrels | None
    source: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, queries: str | Path | Sequence[Query], qrels: str | Path | Qrels | None, *, least: int) -> Topics:
        """Those with judgments and at least `least` relevant passages (of a grade above 0).

        Raises:
            InputError: fewer than two are left.
        """
        source = str(queries) if isinstance(queries, str | Path) else ""
        given = read_queries(queries) if isinstance(queries, str | Path) else tuple(queries)
        given = tuple({query.qid: query for query in given}.values())
        if qrels is None:
            _check_number(len(given), len(given), 0, source)
            return cls(given, None, source)
        judgments = (read_qrels(qrels) if isinstance(qrels, str | Path) else qrels).judgments
        judged = [query for query in given if query.qid in judgments]
        chosen = [query for query in judged if sum(grade > 0 for grade in judgments[query.qid].values()) >= least]
        _check_number(len(chosen), len(given), len(judged), source)
        notes = []
        if len(judged) < len(given):
            notes.append(f"Left out, without judgments: {len(given) - len(judged):,} of {len(given):,} queries.")
        if len(chosen) < len(judged):
            few = "without a relevant passage" if least == 1 else f"with fewer than {least:,} relevant passages"
            notes.append(f"Left out, {few}: {len(judged) - len(chosen):,} of {len(judged):,} judged queries.")
        return cls(tuple(chosen), Qrels({one.qid: judgments[one.qid] for one in chosen}), source, tuple(notes))


def _check_number(left: int, given: int, judged: int, source: str) -> None:
    if left < 2:
        cause = "" if left == given else f" ({judged} have judgments); are qrels and queries of the same topics?"
        raise InputError(f"a test needs two queries or more, and {left} of {given} can be used{cause}", source)
