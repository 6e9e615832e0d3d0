"""Which of the rankings that an answer states is its final one.

The answer is the last plain chain that names every label, provided no later statement contradicts it. Without one, all
complete chains must agree; then the same for lists, plain ones only. An incomplete statement is the answer only if it
is plain and no label stands outside it. Everything else is unreadable: a wrong order is worse than none. An answer that
says it begins with the worst, or that joins labels by `<`, is unreadable; so is one that counts from zero.

`thresher.rerank.statements` says what a statement is, and when it is plain or doubtful.
"""

from __future__ import annotations

import re
from itertools import chain, islice
from typing import TYPE_CHECKING

from thresher.rerank.statements import MOST, LabelTiers, Reader, Statement
from thresher.rerank.wording import SETTLES, WORST_FIRST

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
    reader = Reader(re.sub(r"[^\S\n]+", " ", text), letters=not labels[0].isdigit())
    known = frozenset(labels)
    found = (reader.arrays(), reader.inline_lists(), reader.line_lists())
    chains = list(islice(reader.chains(), MOST))
    lists = sorted(chain.from_iterable(islice(one, MOST) for one in found), key=lambda one: one.end)
    if reader.turned() or len(chains) == MOST or len(lists) >= MOST:
        return ()
    if any(known.issubset(one.labels) and not one.doubtful for one in chains):
        chosen = _last_complete(chains, known, lists=False)
    elif any(known.issubset(one.labels) and not one.doubtful for one in lists):
        chosen = _last_complete(lists, known, lists=True)
    else:
        chosen = _only_partial([*chains, *lists], known, reader)
    if chosen is None or ("0" in chosen.labels and "0" not in known):
        return ()
    order = _distinct(chosen, known)
    for other in lists:
        later = other.start >= chosen.end and not other.doubtful and SETTLES.search(other.said)
        if later and known.issubset(other.labels) and _distinct(other, known) != order:
            return ()
    return chosen.tiers


def _last_complete(statements: Sequence[Statement], known: frozenset[str], *, lists: bool) -> Statement | None:
    """The statement that counts among those that name every label; see the module."""
    usable = [one for one in statements if not one.doubtful]
    complete = [one for one in usable if known.issubset(one.labels)]
    plain = [one for one in complete if one.plain]
    if not plain:
        if lists or len({_distinct(one, known) for one in complete}) != 1:
            return None
        plain = complete
    chosen = plain[-1]
    order = _distinct(chosen, known)
    if lists and any(_distinct(one, known) != order for one in plain):
        return None
    place = {label: rank for rank, tier in enumerate(order) for label in tier}
    for other in usable:
        if other.start < chosen.end or (lists and not other.plain):
            continue
        ranks = [place[label] for tier in _distinct(other, known) for label in tier]
        cut_off = other.plain and len(ranks) < len(known) and len(ranks) > 1
        if ranks != sorted(ranks) or cut_off:
            return None
    return chosen


def _only_partial(statements: Sequence[Statement], known: frozenset[str], reader: Reader) -> Statement | None:
    """The only statement of an answer that names some labels, if nothing is said about the others."""
    usable = [one for one in statements if known.intersection(one.labels) or not one.tiers]
    if len(usable) != 1 or usable[0].doubtful or not usable[0].plain or (usable[0].bare and not usable[0].chain):
        return None
    (one,) = usable
    named = set(one.labels)
    if len(named & known) < 2:
        return None
    outside = {label for label, start in reader.mentions() if not one.start <= start < one.end}
    return None if (outside & known) - named else one


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
