"""Names of measures, in the grammar of ir_measures: `nDCG@10`, `AP(rel=2)`, `R(rel=2)@1000`, `Bpref(rel=2)`.

    NAME [ "(" PARAMETER "=" VALUE { "," ... } ")" ] [ "@" CUTOFF ]

A measure has one canonical spelling (`str(measure)`), under which its values are reported; `MAP`, `MRR`, `NDCG`,
`Recall`, `Precision` and `BPref` are understood as the names ir_measures gives them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class _Form:
    """What may be said about a measure: which parameters, and whether `@k` must, may or cannot follow."""

    parameters: tuple[str, ...]
    cutoff: str
    example: str


KNOWN = {
    "nDCG": _Form(("judged_only",), "may", "nDCG@10"),
    "AP": _Form(("rel", "judged_only"), "may", "AP(rel=2)"),
    "RR": _Form(("rel", "judged_only"), "may", "RR(rel=2)@10"),
    "R": _Form(("rel", "judged_only"), "must", "R(rel=2)@1000"),
    "P": _Form(("rel", "judged_only"), "must", "P(rel=2)@10"),
    "Success": _Form(("rel", "judged_only"), "must", "Success(rel=2)@5"),
    "Judged": _Form((), "may", "Judged@10"),
    "Bpref": _Form(("rel",), "cannot", "Bpref(rel=2)"),
}
_ALIASES = {"NDCG": "nDCG", "MAP": "AP", "MRR": "RR", "Recall": "R", "Precision": "P", "BPref": "Bpref"}
_GRAMMAR = re.compile(r"(?P<name>[^\W\d]\w*)(?:\((?P<parameters>[^()]*)\))?(?:@(?P<cutoff>[^@]*))?")


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of a ranking against judgments.

    Attributes:
        name: one of `KNOWN`.
        cutoff: only this many rows count; None is the whole ranking.
        rel: lowest grade that counts as relevant (nDCG and Judged have no such line).
        judged_only: leave unjudged documents out of the ranking first (a condensed list).

    Raises:
        InputError: there is no such measure, or it has no such parameter.
    """

    name: str
    cutoff: int | None = None
    rel: int = 1
    judged_only: bool = False

    def __post_init__(self) -> None:
        form = KNOWN.get(self.name)
        if form is None:
            raise InputError(f"unknown measure {self.name!r}; there are: {_existing()}")
        if self.cutoff is None and form.cutoff == "must":
            raise InputError(f"{self.name} needs a cutoff, as in {form.example}")
        if self.cutoff is not None and form.cutoff == "cannot":
            raise InputError(f"{self.name} takes no cutoff; write it as in {form.example}")
        if self.cutoff is not None and self.cutoff < 1:
            raise InputError(f"the cutoff of {self.name} is {self.cutoff}, and must be 1 or more")
        if self.rel < 1:
            raise InputError(f"{self.name}(rel={self.rel}): the lowest relevant grade must be 1 or more")
        for parameter, given in (("rel", self.rel != 1), ("judged_only", self.judged_only)):
            if given and parameter not in form.parameters:
                raise InputError(_no_parameter(self.name, parameter))

    def __str__(self) -> str:
        said = [f"rel={self.rel}"] if self.rel != 1 else []
        said += ["judged_only=True"] if self.judged_only else []
        return self.name + (f"({','.join(said)})" if said else "") + ("" if self.cutoff is None else f"@{self.cutoff}")


def parse_measure(text: str) -> Measure:
    """The measure that `text` names.

    Raises:
        InputError: `text` is not in the grammar, or names a measure or parameter that does not exist.
    """
    match = _GRAMMAR.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{text!r} is not a measure; write, for instance: {_existing()}")
    name = _ALIASES.get(match["name"], match["name"])
    if name not in KNOWN:
        raise InputError(f"unknown measure {match['name']!r}; there are: {_existing()}")
    cutoff = None if match["cutoff"] is None else _whole(text, "cutoff", match["cutoff"])
    rel, judged_only = 1, False
    for part in filter(None, (part.strip() for part in (match["parameters"] or "").split(","))):
        parameter, _, value = (side.strip() for side in part.partition("="))
        if parameter not in KNOWN[name].parameters:
            raise InputError(_no_parameter(name, parameter))
        if parameter == "rel":
            rel = _whole(text, "rel", value)
        elif value in ("True", "False"):
            judged_only = value == "True"
        else:
            raise InputError(f"{text!r}: judged_only is {value!r}, and must be True or False")
    return Measure(name, cutoff, rel, judged_only)


def parse_measures(measures: str | Measure | Iterable[str | Measure]) -> tuple[Measure, ...]:
    """Measures from a string (separated by blanks or commas), a measure, or any mixture; each once, in order.

    Raises:
        InputError: as `parse_measure`, or none is named.
    """
    if isinstance(measures, str | Measure):
        measures = [measures]
    found: dict[Measure, None] = {}
    for item in measures:
        if isinstance(item, Measure):
            found[item] = None
        else:
            found.update((parse_measure(part), None) for part in _split(item))
    if not found:
        raise InputError(f"no measure is named; write, for instance: {_existing()}")
    return tuple(found)


def _split(text: str) -> list[str]:
    """Cut at blanks and commas that stand outside parentheses."""
    return re.findall(r"(?:\([^()]*\)|[^\s,])+", text)


def _whole(text: str, what: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InputError(f"{text!r}: {what} is {value!r}, and must be a whole number") from None


def _existing() -> str:
    return ", ".join(form.example for form in KNOWN.values())


def _no_parameter(name: str, parameter: str) -> str:
    known = ", ".join(KNOWN[name].parameters) or "none"
    more = "; gain is linear and every grade counts" if name == "nDCG" else ""
    return f"{name} has no parameter {parameter!r}; it has: {known}{more}"
