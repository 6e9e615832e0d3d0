"""Under which terms the weights of a model come, as its card on this machine says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.errors import ThresherError
from thresher.files import read_text
from thresher.models.files import resolve

if TYPE_CHECKING:
    from pathlib import Path

CARD = "README.md"
UNKNOWN = "unknown: the model is not on this machine"
UNSTATED = "unknown: its card does not say"
_OTHER = "other"
"""What a card says where the licence has a name that the hub does not know; `license_name` has it then."""


@dataclass(frozen=True, slots=True)
class Licence:
    """The licence of a model's weights.

    Attributes:
        model: the name of the model.
        name: the licence as the card names it, or `unknown` with the reason.
        terms: what the card says of its use in a sentence, "" where it says nothing.
        base: the model that it was made from, "" where the card names none.
        path: where the model is; None where it is not on this machine.
    """

    model: str
    name: str
    terms: str = ""
    base: str = ""
    path: Path | None = None

    def as_json(self) -> dict[str, str]:
        """Plain JSON."""
        return {"model": self.model, "licence": self.name, "terms": self.terms, "base": self.base}


def licence_of(model: str | Path) -> Licence:
    """The licence of the model of this name, from the YAML at the head of its card.

    Args:
        model: what `thresher.models.files.resolve` finds.
    """
    try:
        folder = resolve(model).path
        card = folder / CARD
        said = front_matter(read_text(card)) if card.is_file() else {}
    except ThresherError:
        return Licence(str(model), UNKNOWN)
    name = said.get("license", UNSTATED)
    if name == _OTHER:
        name = said.get("license_name", UNSTATED)
    return Licence(str(model), name, said.get("license_terms", ""), said.get("base_model", ""), folder)


def front_matter(card: str) -> dict[str, str]:
    """The keys at the head of a model card that have a plain value; lists and nested keys are left out."""
    lines = card.splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    found = {}
    for line in lines[1:]:
        if line.strip() == "---":
            break
        key, colon, value = line.partition(":")
        if colon and value.strip() and key == key.strip() and not key.startswith(("-", "#")):
            found[key] = value.strip().strip("\"'")
    return found
