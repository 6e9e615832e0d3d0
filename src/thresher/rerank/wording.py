"""What the words around a ranking say of it: that it is the final one, a draft, an example, or worst first."""

from __future__ import annotations

import re
from itertools import islice

ANNOUNCES = re.compile(
    r"\b(?:final|answer|rank\w*|order\w*|result\w*|respon\w+|output|conclusion|therefore|thus|verdict|revised|"
    r"corrected|correction|actually|updated|permutation|sequence|solution|sorted|(?:most relevant|best) (?:first|to)|"
    r"rang\w*|reihenfolge|antwort|"
    r"classement|ordre|réponse|clasificaci\w+|orden|respuesta|classifica\w*|ordine|risposta|ordem|resposta|"
    r"ранжирован\w+|порядок|ответ)\b|排序|排名|顺序|順序|答案|順位|順に|ランキング|回答|순위|순서|الترتيب",
    re.IGNORECASE,
)
DENIES = re.compile(
    r"\b(?:not|never|no longer|wrong|incorrect|invalid|cannot|unable|impossible|refuse\w*|example|instance|such as|"
    r"draft|guess|tentative\w*|at first|initially|instead of|rather than|unlike|contrast|compared|if|whether|please|"
    r"alternativ\w*|another|reverse\w*|opposite|(?:input|initial|original|given|default|current|existing|previous|"
    r"earlier|old|presented|listed|shown|baseline|bm25|other) (?:order|rank|list|sequence)\w*|"
    r"(?:they|passages|documents) (?:were|are) (?:given|shown|presented|listed|provided))\b|n['\u2019]t\b",
    re.IGNORECASE,
)
LEADS_IN = re.compile(r"(?::|\b(?:is|are|be|as|with|order|follows|rank))\W*\Z", re.IGNORECASE)
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
_REMARK = re.compile(
    r"\((?:[a-z]{1,12}[ :=]{1,3}){0,2}(?:(?P<number>\d{1,3}(?:\.\d{1,6})?)\s?(?:%|/\s?\d+)?|"
    r"(?P<low>irrelevant|not relevant|off[- ]topic|low|least relevant|worst)|"
    r"(?P<middle>(?:partly|partially|somewhat|moderately) relevant|medium|moderate)|"
    r"(?P<high>(?:highly |very |most )?relevant|high|best))\)",
    re.IGNORECASE,
)
_FORM = re.compile(r"\b(?:form|format|formatted|template|syntax|style)\b", re.IGNORECASE)
_FORM_OF_RANKING = re.compile(r"\b(?:rank\w*|order|answer)\b[^\n]*:\W*\Z", re.IGNORECASE)
MEASURES = re.compile(
    r"\b(?:scores?|ratings?|grades?|points|confidences?|probabilit\w+|relevances?|ranks|places|positions)\b",
    re.IGNORECASE,
)
WORST_FIRST = re.compile(
    r"\b(?:least|less|worst|lowest|weakest)\b[^.\n]{0,30}?\b(?:first|to (?:the )?(?:most|more|best|highest|strongest))"
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
SETTLES = re.compile(r"\b(?:final\w*|answer|revised|corrected|updated)\b", re.IGNORECASE)


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


def rises(text: str, count: int) -> bool:
    """Whether each label is followed by a score or grade in parentheses, and a later one is better than an earlier."""
    found = list(islice(_REMARK.finditer(text), count + 1))
    if len(found) < max(count, 2):
        return False
    grades = ("low", "middle", "high")
    values = [float(one["number"] or grades.index(str(one.lastgroup))) for one in found[:count]]
    return values != sorted(values, reverse=True) and values != list(range(1, count + 1))
