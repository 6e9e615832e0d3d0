"""The card of thresher-mini, from `card.md` and `chosen.json`: settings and held-out figures of the run that ships.

python -m training.encode.card
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thresher.models.files import shipped_weights

CHOSEN = Path(__file__).parent / "chosen.json"
COLUMNS = ("alone", "bm25+0.5", "mixed", "bm25+dense", "R@100", "terms", "query terms")
TEXT = Path(__file__).with_name("card.md")


def card(chosen: dict[str, Any]) -> str:
    """The text of the card."""
    names = {"start": "SPLADE-tiny", f"{chosen['share']}": "**thresher-mini**", "1.0": "end of training"}
    rows = [
        f"| {label} | {name} | " + " | ".join(_shown(key, row[key]) for key in COLUMNS) + " |"
        for key, label in names.items()
        for name, row in chosen["figures"][key].items()
    ]
    settings, teacher = chosen["settings"], chosen["teacher"]
    seen = chosen["steps"] * settings["batch"] / 52_580
    return TEXT.read_text(encoding="utf-8").format(
        **{name: settings[name] for name in ("batch", "candidates", "rate", "seed", "alone")},
        **{name: teacher[name] for name in ("lexical", "dense", "mpnet", "start")},
        steps=chosen["steps"],
        share=chosen["share"],
        seen=seen,
        table="\n".join(rows),
    )


def _shown(key: str, value: float) -> str:
    return f"{value:.0f}" if "terms" in key else f"{value:.4f}" if key != "R@100" else f"{value:.3f}"


if __name__ == "__main__":
    text = card(json.loads(CHOSEN.read_text(encoding="utf-8")))
    (shipped_weights() / "thresher-mini" / "README.md").write_text(text, encoding="utf-8")
