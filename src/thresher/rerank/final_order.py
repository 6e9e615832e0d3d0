"""Which of the rankings that an answer states is its final one.

The answer is the last plain statement that names every label, provided no later one contradicts it; a list that differs
from an earlier statement counts only if it is announced as final or as a correction. Without a plain statement, all
complete chains must agree. An incomplete statement is the answer only if it is plain and no label stands outside it;
before an announced one, passages may be discussed. Everything else is unreadable: a wrong order is worse than none. An
answer that says it begins with the worst, or that joins labels by `<`, is unreadable; so is one that counts from zero.

`thresher.rerank.statements` says what a statement is, and when it is plain or doubtful.
"""

from __future__ import annotations

import re
from itertools import chain, islice
from typing import TYPE_CHECKING

from thresher.rerank.labelled_text import LabelTiers, Statement, natural
from thresher.rerank.normal_forms import normal_form
from thresher.rerank.statements import MOST, Reader
from thresher.rerank.wording import ANNOUNCES, SETTLES, WORST_FIRST

if TYPE_CHECKING:
    from collections.abc import Sequence


def stated_order(text: str, labels: Sequence[str]) -> LabelTiers:
    """The ranking that the text states, empty if it states none.

    Args:
        text: an answer without reasoning and wrappers, in ASCII digits and signs.
        labels: the labels shown, numbers or capital letters.
    """
    if WORST_FIRST.search(text):
        return ()
    text = re.sub(r"\b(?:e\.g|i\.e)\.?", "for example", text, flags=re.IGNORECASE)
    if labels[0].isdigit():
        text = re.sub(r"\AA: ", "", text)  # "answer"
    text = normal_form(re.sub(r"[^\S\n]+", " ", text), labels)
    reader = Reader(text, letters=not labels[0].isdigit())
    known = frozenset(labels)
    found = (reader.arrays(), reader.inline_lists(), reader.line_lists())
    chains = list(islice(reader.chains(), MOST))
    lists = list(chain.from_iterable(islice(one, MOST) for one in found))
    if reader.turned() or len(chains) == MOST or len(lists) >= MOST:
        return ()
    statements = sorted([*chains, *lists], key=lambda one: one.end)
    complete = [one for one in statements if known.issubset(one.labels) and not one.doubtful]
    chosen = _last_complete(complete, statements, known) if complete else _only_partial(statements, known, reader)
    return () if chosen is None or ("0" in chosen.labels and "0" not in known) else chosen.tiers


def _last_complete(
    complete: Sequence[Statement], statements: Sequence[Statement], known: frozenset[str]
) -> Statement | None:
    """The statement that counts among those that name every label; see the module."""
    plain = [one for one in complete if one.plain]
    orders = {_distinct(one, known) for one in plain or complete}
    if not plain and (len(orders) != 1 or not complete[-1].chain):
        return None
    chosen = (plain or complete)[-1]
    if len(orders) != 1 and not chosen.chain and SETTLES.search(chosen.said) is None:
        return None
    order = _distinct(chosen, known)
    place = {label: rank for rank, tier in enumerate(order) for label in tier}
    for other in statements:
        if other.doubtful or other.start < chosen.end or not (other.plain or other.chain):
            continue
        ranks = [place[label] for tier in _distinct(other, known) for label in tier]
        cut_off = other.plain and 1 < len(ranks) < len(known)
        if ranks != sorted(ranks) or cut_off:
            return None
    return chosen


def _only_partial(statements: Sequence[Statement], known: frozenset[str], reader: Reader) -> Statement | None:
    """The statement of an answer that names some labels, corrected or not, if nothing is said about the others."""
    naming = [one for one in statements if known.intersection(one.labels) or not one.tiers]
    usable = [one for one in naming if (one.plain or one.chain) and not any(_within(one, other) for other in naming)]
    if usable and SETTLES.search(usable[-1].said) and all(set(one.labels) <= set(usable[-1].labels) for one in usable):
        usable = [one for one in usable if one.plain and not one.doubtful]
    if not usable or any(one.doubtful or not one.plain for one in usable):
        return None
    one = usable[-1]
    named = known.intersection(one.labels)
    if any(known.intersection(other.labels) != named for other in usable) or len(named) < 2:
        return None
    if len(usable) > 1 and len({_distinct(other, known) for other in usable}) > 1 and not SETTLES.search(one.said):
        return None
    if one.bare and not one.chain and (len(named) < 3 or list(one.labels) == sorted(one.labels, key=natural)):
        return None
    first = one.start if ANNOUNCES.search(one.said) else 0  # what is said of passages before an announced ranking
    outside = {
        label
        for label, start in reader.mentions()
        if start >= first and not any(other.start <= start < other.end for other in usable)
    }
    return None if (outside & known) - named else one


def _within(inner: Statement, outer: Statement) -> bool:
    """Whether a statement is a part of a longer one: lines of a chain, or a chain in the text beside a listed label."""
    contained = outer.start <= inner.start and inner.end <= outer.end and inner is not outer
    return contained and outer.plain and not outer.doubtful and (outer.chain or inner.doubtful)


def _distinct(statement: Statement, known: frozenset[str]) -> LabelTiers:
    """The tiers of a statement, without repeated and unknown labels."""
    seen: set[str] = set()
    tiers = []
    for tier in statement.tiers:
        kept = sorted((known & set(tier)) - seen)
        seen.update(kept)
        if kept:
            tiers.append(tuple(kept))
    return tuple(tiers)
