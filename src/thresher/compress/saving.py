"""A compressed model on disk: the files that the input had, a card, and `compression.json` with the curve."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from thresher._version import __version__
from thresher.durable import sync_path
from thresher.errors import ArtifactError
from thresher.evaluate.results import markdown_table
from thresher.publish import claimed, place_of, publish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from thresher.compress.ranker import Ranker

RECORD = "compression.json"
_COLUMNS = {
    "method": "", "level": "", "group": "", "queries": "d", "bytes": "d", "ms": ".2f", "speedup": ".2f",
    "nDCG@10": ".4f", "lo": ".4f", "hi": ".4f", "R@10": ".4f", "difference": "+.4f", "equivalent": "",
}  # fmt: skip


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse to replace anything but a model that this command wrote, and that only if asked.

    Raises:
        ArtifactError: there is something else, or `overwrite` is not set.
    """
    place = place_of(target)
    if not os.path.lexists(place) or (place.is_dir() and not any(place.iterdir())):
        return
    if not (place.is_dir() and (place / RECORD).is_file()):
        raise ArtifactError(f"{target} exists and was not written by `thresher compress`; choose another place")
    if not overwrite:
        raise ArtifactError(f"{target} exists; replace it with --overwrite, or choose another place")


def write_model(
    ranker: Ranker, target: Path, report: Mapping[str, Any], *, base: Path, overwrite: bool = False
) -> None:
    """Write the compressed model to `target`, which holds a complete model or nothing at any moment.

    Args:
        ranker: the compressed model.
        target: the directory to make.
        report: plain JSON: what was done, and under `rows` the curve.
        base: the directory of the model it was made of; may not be the target.
        overwrite: replace an earlier result of this command.

    Raises:
        ArtifactError: there is something that may not be replaced.
        OSError: the disk failed.
    """
    check_target(target, overwrite=overwrite)
    place = place_of(target)
    if place == place_of(base):
        raise ArtifactError(f"{target} is the model itself; choose another place for the compressed one")
    with claimed(place) as partial:
        ranker.save(partial)
        (partial / RECORD).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (partial / "README.md").write_text(card(report), encoding="utf-8")
        for file in [*partial.rglob("*"), partial]:
            sync_path(file)
        publish(partial, place)


def card(report: Mapping[str, Any]) -> str:
    """The model's card, in Markdown."""
    chosen = report["chosen"]
    lines = [
        f"# {report['model']}, compressed",
        "",
        f"Made by `thresher compress` (thresher {__version__}) of the {report['kind']} model `{report['model']}`; its "
        "licence and terms are those of that model.",
        "",
        f"- Kept: {_kept(chosen)}",
        f"- Chosen by: {report['method']}. {report['why']}",
        f"- Data: {report['data']}",
        f"- Healing: {report['healed']} steps on the whole model's scores" if report["healed"] else "- Healing: none",
        "",
    ]
    rows: Sequence[Mapping[str, Any]] = report["rows"]
    if rows:
        lines += [
            "## Curve",
            "",
            f"nDCG@10 with 95 % t intervals (lo, hi); difference from the whole model; equivalent: within "
            f"{report['margin']:g} either way, by two one-sided tests at .05 for that level alone. Milliseconds a "
            f"passage: the quickest of three batches of four on {report['device']}; speedup: of batches by turns with "
            "the whole model, so that it depends less on what else the machine did.",
            "",
            markdown_table(rows, _COLUMNS),
            "",
        ]
    return "\n".join(lines)


def _kept(chosen: Mapping[str, Any]) -> str:
    """What is left, and of layers which."""
    spec = chosen["spec"]
    if "stored" in spec:
        return f"all weights, as {spec['stored']}"
    label = str(chosen["label"])
    return f"{label}: {', '.join(map(str, spec['kept']))}" if chosen["axis"] == "layers" else label
