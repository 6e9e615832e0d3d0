"""What a recipe's `[states]` table adds to a build: the states of passages below the join of the model that reads them.

They are made of the first tier's passages, in the order of their numbers, and kept in `states/` inside a segment; those
of an added segment are made by the same model, and those of merged segments are copied.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from thresher.errors import ConfigError
from thresher.index.commit import SEGMENTS
from thresher.models.early import EarlyStates
from thresher.records import StageUsage
from thresher.vectors.states import FOLDER, StateStore, StateWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from thresher.build.recipe import StatesStep
    from thresher.corpus.spool import Spool
    from thresher.index.collection import Collection

_CHUNK = 64
"""Passages whose states are held at a time."""


def store_states(
    directory: Path,
    step: StatesStep,
    spool: Spool,
    numbers: NDArray[np.int64],
    collection: Collection | None = None,
    *,
    progress: bool = False,
) -> StageUsage:
    """Write `states/` into the segment being built; returns what it took.

    Args:
        directory: the segment being built.
        step: the recipe's table.
        spool: the corpus.
        numbers: numbers of the first tier's passages.
        collection: the index that the segment is added to.
        progress: show a bar.

    Raises:
        ConfigError: the index's states are of another model than the recipe's is now.
    """
    started, maker = time.perf_counter(), EarlyStates(step.model)
    stores = {} if collection is None else stores_of(collection)
    other = next((store.model for store in stores.values() if store.model != maker.name), "")
    if other:
        raise ConfigError(
            f"the index's states were made by {other}, but {step.model} is {maker.name} here; restore that model, or "
            "build the index again"
        )
    bar: tqdm[None] = tqdm(desc="states", total=len(numbers), unit=" passages", disable=not progress, mininterval=0.5)
    with bar, StateWriter(directory / FOLDER, maker.name, maker.width) as writer:
        for chunk in spool.rows(numbers).chunks(_CHUNK):
            for windows in maker.encode(chunk):
                writer.add(windows)
            bar.update(len(chunk))
    return _usage(StateStore.open(directory / FOLDER), started, maker.backend.name)


def merge_states(
    directory: Path, stores: dict[str, StateStore], chunks: Sequence[tuple[str, NDArray[np.int64]]]
) -> StageUsage:
    """Write `states/` into a segment that others are merged into; returns what it took.

    Args:
        directory: the segment being built.
        stores: of the index's segments, by name; at least one.
        chunks: names of segments and which of their passages come next, int64[n].

    Raises:
        ConfigError: the stores are of different models.
    """
    started, first = time.perf_counter(), next(iter(stores.values()))
    with StateWriter(directory / FOLDER, first.model, first.codes.shape[1]) as writer:
        for name, numbers in chunks:
            writer.copy(stores.get(name), numbers)
    return _usage(StateStore.open(directory / FOLDER), started)


def stores_of(collection: Collection) -> dict[str, StateStore]:
    """The states of an open index's segments, by the segments' names; none where it was built without."""
    folders = {entry.name: collection.path / SEGMENTS / entry.name / FOLDER for entry in collection.commit.segments}
    return {name: StateStore.open(folder) for name, folder in folders.items() if folder.is_dir()}


def _usage(store: StateStore, started: float, engine: str = "") -> StageUsage:
    counts = {name: int(store.manifest.fields[name]) for name in ("passages", "windows", "tokens")}
    return StageUsage("states", time.perf_counter() - started, {**counts, "bytes": store.bytes}, engine)
