"""Making a model smaller from start to end: choose a level, measure it, compare it with random removal, write it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from thresher.arguments import checked_call
from thresher.compress.curve import MAIN, Curve, Kept, Level, quick_enough, rows_of, smallest_equivalent
from thresher.compress.data import Task
from thresher.compress.depth import layer_cut
from thresher.compress.methods import method_from_name
from thresher.compress.ranker import NO_FORMAT, Ranker
from thresher.compress.saving import check_target, write_model
from thresher.errors import ConfigError, InputError
from thresher.models.files import directory_fingerprint
from thresher.publish import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from thresher.compress.methods import Cut

NO_DATA = Task((), (), "none")
_BLIND = ("last", "random-layers")
"""Methods that look at no data."""


@checked_call(drop_layers=1)
@dataclass(frozen=True, slots=True)
class Wanted:
    """How far to go; at most one of these is set, and with none the smallest level proven equivalent is chosen.

    Attributes:
        keep_layers: exactly these layers, from 0.
        drop_layers: this many, chosen by the method.
        remove: this share of what the method removes, above 0 and below 1.
        speedup: the best level that is at least this many times as fast.

    Raises:
        ConfigError: two are set.
        InputError: a value is of another type, or out of range.
    """

    keep_layers: tuple[int, ...] = ()
    drop_layers: int | None = None
    remove: float | None = None
    speedup: float | None = None

    def __post_init__(self) -> None:
        given = [
            bool(self.keep_layers),
            self.drop_layers is not None,
            self.remove is not None,
            self.speedup is not None,
        ]
        if sum(given) > 1:
            raise ConfigError("give one of the layers to keep, the layers to drop, the share to remove and the speedup")
        if self.remove is not None and not 0 < self.remove < 1:
            raise InputError(f"the share to remove must be above 0 and below 1, got {self.remove:g}")
        if self.speedup is not None and not self.speedup > 0:
            raise InputError(f"the speedup must be above 0, got {self.speedup:g}")


@dataclass(frozen=True, slots=True)
class Compression:
    """What was found, and done.

    Attributes:
        whole: the model as it was.
        chosen: the level that was chosen; None where only the curve was wanted, or no level was equivalent.
        levels: every level measured, random removal included.
        report: plain JSON, as in `compression.json`.
    """

    whole: Level
    chosen: Level | None
    levels: tuple[Level, ...]
    report: dict[str, Any]


@checked_call(heal=0, baselines=0)
def compress(
    model: str | Path | Ranker,
    output: Path | None,
    *,
    task: Task = NO_DATA,
    method: str = "block-influence",
    wanted: Wanted = Wanted(),
    margin: float = 0.02,
    heal: int = 0,
    baselines: int = 3,
    curve_only: bool = False,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Compression:
    """Compress a model and write it with its card; an interrupted run resumes, by what is kept beside `output`.

    Args:
        model: the whole model, loaded or by name; `Ranker.load` takes a kind, a device and a dtype.
        output: the directory to write; None keeps nothing.
        task: what calibrates and what measures.
        method: how parts are chosen (`METHODS`).
        wanted: how far to go.
        margin: the largest difference of nDCG@10 that does not matter.
        heal: steps of low-rank training on the whole model's scores after a removal.
        baselines: seeds of random removal of as much, for comparison.
        curve_only: measure every level, and write no model.
        overwrite: replace an earlier result of this function.
        tell: called with a line for each finished step.

    Raises:
        ConfigError: the method is unknown, or settings do not go together.
        InputError: data are missing for what is asked, or no level is equivalent or quick enough.
        ArtifactError: there is something at `output` that may not be replaced.
        OSError: the disk failed.
    """
    if not curve_only:
        _check_output(output, method, overwrite)
    _check(method, task, wanted, heal, margin)
    ranker = model if isinstance(model, Ranker) else Ranker.load(model)
    curve = Curve(ranker, task, _kept(ranker, output, task), tell)
    whole = curve.whole()
    if wanted.keep_layers:
        method = "given layers"
        levels = [curve.level(method, layer_cut(wanted.keep_layers, len(ranker.layers)), heal)]
        chosen: Level | None = levels[0]
    else:
        levels, chosen = _levels(curve, whole, method, wanted, margin, heal, curve_only)
    against = levels if curve_only or chosen is None else [chosen]
    randoms = [one for level in against for one in _random(curve, level, baselines, heal)]
    report = _report(curve, whole, chosen, [*levels, *randoms], method, wanted, margin, heal)
    if chosen is not None and chosen.cut is not None and output is not None and not curve_only:
        made = curve.compressed(chosen.cut, heal)
        write_model(made, output, report, base=ranker.path, overwrite=overwrite)
        if curve.kept.file is not None:
            curve.kept.file.unlink(missing_ok=True)
    return Compression(whole, chosen, (*levels, *randoms), report)


def _check_output(output: Path | None, method: str, overwrite: bool) -> None:
    if output is None:
        raise ConfigError("give a directory to write the compressed model to")
    if method in ("int4", "int8"):
        raise ConfigError(NO_FORMAT.format(method))
    check_target(output, overwrite=overwrite)


def _check(method: str, task: Task, wanted: Wanted, heal: int, margin: float) -> None:
    method_from_name(method)  # before minutes go into the whole model
    if not 0 < margin < 1:
        raise InputError(f"the margin must be above 0 and below 1, got {margin:g}")
    if heal < 0:
        raise InputError(f"the steps of healing must be at least 0, got {heal}")
    if not task.calibration and (heal or not (wanted.keep_layers or method.partition(":")[0] in _BLIND)):
        raise InputError(
            f"the method {method!r} looks at data: give queries with a run and their corpus, or a corpus to sample "
            "from; without data, name the layers to keep, or use the method `last`"
        )


def _kept(ranker: Ranker, output: Path | None, task: Task) -> Kept:
    if output is None:
        return Kept(None, "")
    place = place_of(output)
    key = f"{directory_fingerprint(ranker.path)} {task.fingerprint()} {ranker.kind} {ranker.dtype}"
    place.parent.mkdir(parents=True, exist_ok=True)
    return Kept(place.parent / f".{place.name}.levels.json", key)


def _levels(
    curve: Curve, whole: Level, method: str, wanted: Wanted, margin: float, heal: int, every: bool
) -> tuple[list[Level], Level | None]:
    """The levels that had to be measured, and the one chosen."""
    cuts = curve.cuts(method)
    if not cuts:
        raise InputError(f"{curve.ranker.name} has too few parts for the method {method!r} to remove any")
    one = _named(cuts, method, wanted)
    if one is not None and not every:
        level = curve.level(method, one, heal)
        return [level], level
    levels = [curve.level(method, cut, heal) for cut in cuts]
    if one is not None:
        return levels, next(level for level in levels if level.label == one.label)
    if wanted.speedup is not None:
        return levels, quick_enough(levels, wanted.speedup)
    if not whole.values:
        if every:
            return levels, None
        raise InputError(
            "nothing is judged, so no level can be shown to be equivalent; give judgments, or say how far to go"
        )
    found = smallest_equivalent(levels, whole, margin)
    if found is None and not every:
        least = min(levels, key=lambda level: level.removed)
        lost = whole.evaluation().mean[MAIN] - least.evaluation().mean[MAIN]
        raise InputError(
            f"no level of {method!r} is proven equivalent within {margin:g} {MAIN} on {len(curve.task.measured)} "
            f"queries ({least.label}: {-lost:+.4f}); use more queries, a wider margin or healing, or say how far to go"
        )
    return levels, found


def _named(cuts: Sequence[Cut], method: str, wanted: Wanted) -> Cut | None:
    """The cut that `wanted` names by its size; None where it does not.

    Raises:
        InputError: the method plans none of that size.
    """
    if wanted.drop_layers is not None:
        found = [cut for cut in cuts if cut.axis == "layers" and _dropped(cut) == wanted.drop_layers]
        told = ", ".join(str(_dropped(cut)) for cut in cuts if cut.axis == "layers") or "none"
        asked = f"dropping {wanted.drop_layers} layers"
    elif wanted.remove is not None:
        found = [cut for cut in cuts if abs(cut.removed - wanted.remove) < 0.005]
        told, asked = ", ".join(f"{cut.removed:.2f}" for cut in cuts), f"removing {wanted.remove:g}"
    else:
        return None
    if not found:
        raise InputError(f"the method {method!r} has no level for {asked}; it has: {told}")
    return found[0]


def _dropped(cut: Cut) -> int:
    return round(len(cut.spec["kept"]) * cut.removed / (1.0 - cut.removed))


def _random(curve: Curve, level: Level, seeds: int, heal: int) -> list[Level]:
    """Random removal of as much as in `level`, healed as long, one level a seed."""
    if level.cut is None or not level.values or "stored" in level.cut.spec:
        return []
    found = []
    for seed in range(seeds):
        name = f"random-{level.cut.axis}:{seed}"
        cuts = [cut for cut in curve.cuts(name) if abs(cut.removed - level.removed) < 0.005]
        found += [curve.level(name, cut, heal) for cut in cuts[:1]]
    return found


def _report(
    curve: Curve,
    whole: Level,
    chosen: Level | None,
    levels: Sequence[Level],
    method: str,
    wanted: Wanted,
    margin: float,
    heal: int,
) -> dict[str, Any]:
    judged = bool(whole.values)
    rows = (
        [row for one in [whole, *levels] for row in rows_of(one, whole, curve.task.measured, margin)] if judged else []
    )
    cut = None if chosen is None or chosen.cut is None else chosen.cut
    return {
        "model": curve.ranker.name,
        "kind": curve.ranker.kind,
        "method": method,
        "why": _why(wanted, margin),
        "data": curve.task.about,
        "dtype": curve.ranker.dtype,
        "device": f"{curve.ranker.network.device} in {curve.ranker.dtype}",
        "margin": margin,
        "healed": heal,
        "whole": {"bytes": whole.bytes, "ms": whole.ms},
        "chosen": None if cut is None or chosen is None else {
            **asdict(cut), "bytes": chosen.bytes, "ms": chosen.ms, "speedup": chosen.speedup,
        },
        "rows": rows,
    }  # fmt: skip


def _why(wanted: Wanted, margin: float) -> str:
    if wanted.keep_layers or wanted.drop_layers is not None or wanted.remove is not None:
        return "The level was given."
    if wanted.speedup is not None:
        return f"The level is the best of those at least {wanted.speedup:g} times as fast as the whole model."
    return f"The level removes most of those proven equivalent to the whole model within {margin:g} nDCG@10."
