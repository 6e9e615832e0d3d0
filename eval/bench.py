"""`Bench`: where an experiment keeps what it has computed, and how it writes what it measured."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from eval.collections import embeddings, passages_name
from thresher.durable import replacing, write_atomic
from thresher.evaluate.results import write_results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import altair as alt
    from numpy.typing import NDArray

    from eval.known import KnownVectors
    from thresher.build.recipe import Recipe
    from thresher.encode.dense import MiniLMEncoder
    from thresher.evaluate.collections import Collection
    from thresher.vectors.store import VectorStore

RESULTS = Path(__file__).parent / "results"
VECTORS = "vectors"
"""Folder of the vectors inside an index."""
WORK_VARIABLE = "THRESHER_WORK"

Row = dict[str, Any]
T = TypeVar("T")


def options(name: str, doc: str | None) -> argparse.ArgumentParser:
    """The options that every experiment has; `doc` is its module's docstring."""
    parser = argparse.ArgumentParser(
        prog=f"python -m eval {name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, help=f"folder for indexes and finished parts (default: {WORK_VARIABLE}, or temporary)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result files")
    parser.add_argument(
        "--allow-dirty", action="store_true", help="write results although the code has uncommitted changes"
    )
    return parser


@dataclass(frozen=True, slots=True)
class Bench:
    """One experiment's work directory and output.

    Attributes:
        work: what can be computed again: indexes, vectors, finished parts of a measurement.
        out: where result files are written.
        allow_dirty: write results although the code has uncommitted changes; the file is then marked.
    """

    work: Path
    out: Path = RESULTS
    allow_dirty: bool = False

    @classmethod
    def of(cls, given: argparse.Namespace) -> Bench:
        """The bench that parsed `options` ask for; its work directory is made."""
        default = os.environ.get(WORK_VARIABLE) or Path(tempfile.gettempdir()) / "thresher-eval"
        work = Path(given.work or default)
        work.mkdir(parents=True, exist_ok=True)
        return cls(work, given.out, given.allow_dirty)

    def kept(self, name: str, make: Callable[[], T]) -> T:
        """What `make` returned, now or in an earlier run; kept as `name`.json, so it must be plain JSON."""
        file = self.work / f"{name}.json"
        if not file.is_file():
            write_atomic(file, json.dumps(make()))
            print(f"{name} done", flush=True)
        found: T = json.loads(file.read_text(encoding="utf-8"))
        return found

    def kept_array(self, name: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array that `make` returned, now or in an earlier run; kept as `name`.npy."""
        file = self.work / f"{name}.npy"
        if not file.is_file():
            made = make()
            with replacing(file) as stream:
                np.save(stream, made)
        found: NDArray[Any] = np.load(file)
        return found

    def index(self, collection: Collection, recipe: Recipe, dense: KnownVectors | None = None) -> Path:
        """The index of a collection's passages by a recipe, built if it is not in the work directory.

        What a learned encoder makes of the passages is kept too, for other indexes of the same passages.
        """
        from thresher.build.stream import build_index
        from thresher.encode.hybrid import learned_part

        learned = learned_part(recipe.encode.encoder)
        weights = fingerprint_of(learned) if learned else ""
        vectors = dense.fingerprint if dense is not None else ""
        key = key_of(recipe.model_dump(mode="json", exclude={"ask", "recall"}), weights, vectors)
        target = self.work / f"index-{passages_name(collection.name)}-{key}"
        if not target.is_dir():
            made = recipe.using(encoded=self.encoded(collection, learned)) if learned else recipe
            build_index(target, collection.corpus, made, dense=dense)
        return target

    def encoded(self, collection: Collection, encoder: str) -> Path:
        """A collection's passages as the learned encoder weighs their terms, encoded once."""
        from thresher.encode import SparseEncoder
        from thresher.encode.encoded import encode_corpus

        name = passages_name(collection.name)
        target = self.work / f"encoded-{name}-{key_of(encoder)}-{fingerprint_of(encoder)[:12]}"
        if not target.is_dir():
            counts = encode_corpus(collection.corpus, SparseEncoder.from_name(encoder, device="cpu"), target)
            print(f"{name}: encoded {counts['passages']:,} passages in {counts['seconds']:.0f} s", flush=True)
        return target

    def embedded(self, collection: Collection, light: MiniLMEncoder) -> NDArray[np.float32]:
        """float32[n, 384]: MiniLM's vectors of a collection's passages, from THRESHER_DATA/embeddings.

        Those were made of what the model reads at once; a passage that is longer is encoded here, of windows.
        """
        stored = embeddings(collection)
        texts = [passage.contents for passage in collection.corpus]
        pieces = light.count_tokens(texts)
        long = [row for row, count in enumerate(pieces) if count > light.window]
        if long:
            name = f"windows-{passages_name(collection.name)}-{light.fingerprint[:12]}"
            stored[long] = self.kept_array(name, lambda: light.encode_passages([texts[row] for row in long]))
        return stored

    def vectors(self, collection: Collection, light: MiniLMEncoder) -> VectorStore:
        """MiniLM's vectors of a collection's passages in float16, by docno."""
        from thresher.vectors.store import VectorStore

        target = self.work / f"vectors-{passages_name(collection.name)}-{light.fingerprint[:12]}"
        if not target.is_dir():
            docnos = [passage.docno for passage in collection.corpus]
            batches = [self.embedded(collection, light)]
            VectorStore.build(
                target, batches, docnos=docnos, sketch=48, encoder=light.fingerprint, encoder_name=light.name
            )
        return VectorStore.open(target)

    def write(
        self,
        name: str,
        rows: Iterable[Mapping[str, Any]],
        *,
        seed: int | None = None,
        plot: alt.Chart | Any | None = None,
        columns: Sequence[str] | Mapping[str, str] | None = None,
        packages: Iterable[str] = (),
        title: str = "",
        note: str = "",
        details: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Write the result file NAME.json with its table and plot, as `thresher.evaluate.results.write_results`."""
        write_results(
            self.out / f"{name}.json",
            rows,
            seed=seed,
            plot=plot,
            columns=columns,
            packages=packages,
            title=title,
            note=note,
            details=details,
            allow_dirty=self.allow_dirty,
        )


@cache
def fingerprint_of(encoder: str) -> str:
    """The fingerprint of a learned sparse encoder by its name."""
    from thresher.encode import SparseEncoder

    return SparseEncoder.from_name(encoder, device="cpu").fingerprint


def key_of(*parts: object) -> str:
    """Twelve hexadecimal digits that depend on `parts`, plain JSON."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:12]


def by_hash(items: Sequence[T], key: Callable[[T], str]) -> list[T]:
    """Items in an order that depends only on a hash of their key: a fixed random order."""
    return sorted(items, key=lambda item: hashlib.sha256(key(item).encode()).hexdigest())


def index_bytes(directory: Path, *, vectors: bool) -> int:
    """Bytes of an index's files without the passages' texts, and with its vectors if `vectors`."""
    total = 0
    for file in directory.rglob("*"):
        place = file.relative_to(directory)
        if file.is_file() and not place.name.startswith("passages.") and (vectors or VECTORS not in place.parts):
            total += file.stat().st_size
    return total
