"""Quality caches as QualT5's publishers lay them out, read and written.

A directory with `quality.f4` (float32, little-endian, corpus order), `docno.npids` (see `npids`) and `pt_meta.json`
(type `quality_score_cache`, format `numpy`). The layout names neither the estimator nor the corpus, so an imported
cache has the estimator `qualt5-cache` with the sha256 of its scores as fingerprint, and no corpus fingerprint unless
the caller knows it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import ArtifactError, DamagedArtifactError, ModelError
from thresher.quality.estimator import digest
from thresher.quality.npids import read_npids, write_npids
from thresher.quality.store import ScoreStore, write_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Stands for the unknown estimator of an imported cache; it has scores, and scores nothing more."""

    name: str
    fingerprint: str

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise ModelError(f"{self.name} is a record of scores, not a model: it cannot score {len(texts)} more texts")


def export_cache(store: ScoreStore, directory: str | Path) -> None:
    """Write the scores of `store` as a quality cache.

    Raises:
        ArtifactError: `directory` exists and is not empty.
    """
    directory = Path(directory)
    if directory.exists() and any(directory.iterdir()):
        raise ArtifactError(f"{directory} is not empty; choose another place for the cache")
    directory.mkdir(parents=True, exist_ok=True)
    np.asarray(store.scores, "<f4").tofile(directory / "quality.f4")
    write_npids(store.docnos, directory / "docno.npids")
    meta = {
        "type": "quality_score_cache",
        "format": "numpy",
        "package_hint": "pyterrier-quality",
        "count": len(store),
    }
    (directory / "pt_meta.json").write_text(json.dumps(meta) + "\n", encoding="utf-8")


def read_cache(directory: str | Path) -> tuple[list[str], NDArray[np.float32]]:
    """Docnos and scores (float32[n]) of a quality cache, in corpus order.

    Raises:
        ArtifactError: there is no quality cache at `directory`.
        DamagedArtifactError: its parts disagree.
    """
    directory = Path(directory)
    file = directory / "pt_meta.json"
    try:
        meta = json.loads(file.read_bytes())
        found = (meta["type"], meta["format"])
    except OSError as err:
        raise ArtifactError(f"{directory} is not a quality cache: there is no pt_meta.json in it") from err
    except (ValueError, KeyError, TypeError) as err:
        raise DamagedArtifactError(str(file), f"not the description of a quality cache: {err}") from err
    if found != ("quality_score_cache", "numpy"):
        raise ArtifactError(f"{directory} holds {found[0]!r} in format {found[1]!r}, not a numpy quality_score_cache")
    for name in ("quality.f4", "docno.npids"):
        if not (directory / name).is_file():
            raise DamagedArtifactError(str(directory / name), "the file is missing; fetch the cache again")
    scores = np.fromfile(directory / "quality.f4", "<f4")
    docnos = read_npids(directory / "docno.npids")
    if len(docnos) != len(scores) or len(docnos) != meta.get("count", len(docnos)):
        raise DamagedArtifactError(
            str(directory), f"{len(scores)} scores, {len(docnos)} docnos and a stated count of {meta.get('count')}"
        )
    return docnos, scores


def import_cache(
    directory: str | Path, target: str | Path, *, corpus_fingerprint: str = "", overwrite: bool = False
) -> ScoreStore:
    """Make a score store of a quality cache.

    Raises:
        ArtifactError: as `read_cache`, or `target` may not be replaced.
    """
    docnos, scores = read_cache(directory)
    recorded = _Recorded("qualt5-cache", digest("qualt5-cache", scores))
    return write_scores(
        target, docnos, scores, estimator=recorded, corpus_fingerprint=corpus_fingerprint, overwrite=overwrite
    )
