"""What the words around a ranking say of it: that it is the final one, a draft, an example, or worst first."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ANNOUNCES = re.compile(
    r"\b(?:final|answer|rank\w*|order\w*|result\w*|respon\w+|output|conclusion|therefore|thus|verdict|revised|"
    r"corrected|correction|actually|updated|permutation|sequence|solution|sorted|(?:most relevant|best) (?:first|to)|"
    r"most to least|better(?=:)|rang\w*|reihenfolge|antwort|korrektur|second thought|in short|once more|"
    r"classement|ordre|réponse|clasificaci\w+|orden|respuesta|classifica\w*|ordine|risposta|ordem|resposta|"
    r"ранжирован\w+|порядок|ответ)\b|排序|排名|顺序|順序|答案|順位|順に|ランキング|回答|순위|"
    r"순서|الترتيب|क्रम|順[:：]",
    re.IGNORECASE,
)
DENIES = re.compile(
    r"\b(?:not|never|no longer|wrong|incorrect|invalid|cannot|unable|impossible|refuse\w*|example|instance|such as|"
    r"draft|guess|tentative\w*|at first|initially|instead of|rather than|unlike|contrast|compared|if|whether|please|"
    r"received|alternativ\w*|another|reverse\w*|opposite|(?:input|initial|original|given|default|current|existing|previous|"
    r"earlier|old|presented|listed|shown|baseline|bm25|other) (?:order|rank|list|sequence)\w*|"
    r"(?:they|passages|documents) (?:were|are) (?:given|shown|presented|listed|provided))\b|n['\u2019]t\b",
    re.IGNORECASE,
)
LEADS_IN = re.compile(r"(?::|=|\b(?:is|are|be|as|with|order|follows|rank))\W*\Z", re.IGNORECASE)
WITHDRAWS = re.compile(
    r"[\s*_`\"')]{0,4}(?:\?|\((?:an? |the )?(?:example|draft|format|input|initial|original|wrong|tentative)\b)",
    re.IGNORECASE,
)
_QUOTES = re.compile(r"\b(?:says|said|states|reads|mentions|contains|claims|quotes|writes)\W*\Z", re.IGNORECASE)
_ASPECT = re.compile(
    r"\b(?:length|size|chronolog\w+|alphabet\w+|dates?|recency|random\w*|publication)(?: order)?\W*\Z|"
    r"\A\W*(?:if|assuming|suppos\w+|had)\b",
    re.IGNORECASE,
)
_GRADE = re.compile(
    r"(?P<number>(?<![\w.])\d{1,3}(?:\.\d{1,6})?(?=\s?(?:%|/\s?\d|[)\s]*\Z)))|"
    r"(?P<low>\b(?:irrelevant|not (?:\w+ )?relevant|off[- ]topic|unrelated|least relevant|worst)\b|\A\W*low\b)|"
    r"(?P<middle>\b(?:partly|partially|somewhat|moderately) relevant\b|\A\W*(?:medium|moderate)\b)|"
    r"(?P<high>\b(?:highly |very |most )?relevant\b|\A\W*(?:high|best)\b)",
    re.IGNORECASE,
)
_PARENTHESES = re.compile(r"\([^()\n]{1,40}\)")
_FORM = re.compile(r"\b(?:form|format|formatted|template|syntax|style)\b", re.IGNORECASE)
_FORM_OF_RANKING = re.compile(r"\b(?:rank\w*|order|answer)\b[^\n]*:\W*\Z", re.IGNORECASE)
MEASURES = re.compile(
    r"\b(?:scores?|ratings?|grades?|points|confidences?|probabilit\w+|"
    r"(?<!by )(?<!of )relevances?(?! (?:rank|order|to\b))|ranks|places|positions)\b",
    re.IGNORECASE,
)
WORST_FIRST = re.compile(
    r"\b(?:least|less|worst|lowest|weakest)\b[^.:\n]{0,30}?\b(?:first|to (?:the )?(?:most|more|best|highest|strongest))"
    r"\b|"
    r"\b(?:start|begin)\w*\b[^.\n]{0,20}\b(?:least|worst|lowest|weakest)\b|\bascending\b|\bincreasing\b|"
    r"\b(?:most|best|highest)\b(?:(?!first|least|worst|lowest)[^.\n]){0,25}\b(?:last|at the (?:end|bottom))\b|"
    r"\b(?:last|final) (?:one|passage|item) (?:is|being) the (?:most|best)\b|\bbottom (?:to|up)\b|\blast to first\b|"
    r"\brevers\w+ order\b|[从由]低[到至]高|升序|昇順|低い順|오름차순|낮은|\baufsteigend\w*\b|\b(?:un|am wenigsten )\w+ "
    r"zu[mr]?\b|\bcroissant\w*\b|\b(?:moins|menos|meno)\b[^.\n]{0,25}\b(?:au|à la|a|al) (?:plus|más|mais|più)\b|"
    r"\b(?:ascendente|creciente|crescente)\b|\bпо возрастанию\b|\bот наименее\b|"
    r"\((?:the )?(?:worst|least)\b[^()\n]{0,30}\)[^\n]{0,200}\((?:the )?(?:best|most)\b",
    re.IGNORECASE,
)
COURTESY = re.compile(
    r"\b(?:sure|certainly|of course|okay|here (?:it is|you go|(?:is|are) (?:the|my|your) (?:json|list|output)))\b",
    re.IGNORECASE,
)
SETTLES = re.compile(
    r"\b(?:final\w*|answer|revised|correct(?:ed|ion)|updated|actually|second thought|korrektur|"
    r"better(?=:))\b|最终|最終",
    re.IGNORECASE,
)


def doubts(before: str, following: str) -> bool:
    """Whether a sentence denies the statement in it, or gives it as an example or as an order of something else."""
    said = f"{before} {following}"
    if (
        DENIES.search(said)
        or _ASPECT.search(before)
        or _QUOTES.search(before)
        or re.search(r"\bor\W*\Z", before)
        or re.match(r"\W*or\b", following)
    ):
        return True
    return bool(_FORM.search(said)) and not _FORM_OF_RANKING.search(before)


def grades(remarks: Sequence[str]) -> list[float] | None:
    """What remarks on labels are worth, each by its score or by its words; None unless all are measured alike."""
    found = [_GRADE.search(remark.strip()[:200]) for remark in remarks]
    words = ("low", "middle", "high")
    kinds = {None if one is None else one.lastgroup == "number" for one in found}
    if len(kinds) != 1 or None in kinds:
        return None
    return [float(one["number"] or words.index(str(one.lastgroup))) for one in found if one is not None]


def rises(remarks: Sequence[str]) -> bool:
    """Whether remarks on labels, best first, call a later one better than an earlier one."""
    values = grades(remarks)
    places = list(range(1, len(remarks) + 1))
    return values is not None and values != sorted(values, reverse=True) and values != places


def in_parentheses(text: str, count: int) -> list[str]:
    """The first `count` remarks in parentheses; empty if there are fewer."""
    found = [one[0] for one in islice(_PARENTHESES.finditer(text), count)]
    return found if len(found) == count > 1 else []
