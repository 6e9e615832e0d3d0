"""The score store: one quality score a passage, aligned to a corpus, in a directory artifact.

    scores.f4     float32, little-endian, one a passage in corpus order, no header: read as a memory map
    docnos.txt    the docnos in the same order, one a line (a docno holds no white space)
    estimator/    the estimator, if it can be saved, to score passages that are added later

The manifest names the estimator, its fingerprint, and the fingerprint of the corpus (sha256 over docno, title and text
of every passage in order). Scores of another corpus or of another estimator are refused, not reused.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.artifact import read_manifest, writing
from thresher.corpus import fingerprint_of
from thresher.durable import write_names
from thresher.errors import ArtifactError, DamagedArtifactError, InputError
from thresher.files import read_names
from thresher.quality.estimator import QualityEstimator, quantiles
from thresher.records import StageUsage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.corpus import Corpus
    from thresher.records import Passage

KIND = "quality-scores"
FORMAT = 1
_BATCH = 4096


class ScoreStore:
    """Scores of a corpus, read from disk as they are asked for.

    Attributes:
        path: the artifact's directory.
        scores: float32[n], in corpus order; a read-only memory map.
        docnos: the docnos, in corpus order.
        estimator: name of the estimator.
        estimator_fingerprint: sha256 of what determined the scores.
        corpus_fingerprint: sha256 of the passages scored; empty where it is not known (an imported cache).
    """

    @checked_call
    def __init__(
        self, path: Path, scores: NDArray[np.float32], docnos: Sequence[str], fields: Mapping[str, object]
    ) -> None:
        self.path = path
        self.scores = scores
        self.docnos = docnos
        lacking = {"estimator", "estimator_fingerprint", "corpus_fingerprint"} - fields.keys()
        if lacking:
            raise InputError(f"a score store has the fields {', '.join(sorted(lacking))}, which were not given")
        self.estimator = str(fields["estimator"])
        self.estimator_fingerprint = str(fields["estimator_fingerprint"])
        self.corpus_fingerprint = str(fields["corpus_fingerprint"])

    @classmethod
    @checked_call
    def open(cls, path: str | Path, *, corpus: str = "", estimator: QualityEstimator | str | None = None) -> ScoreStore:
        """Open the store at `path`.

        Args:
            path: the artifact's directory.
            corpus: fingerprint of the corpus the scores must belong to.
            estimator: the estimator (or its fingerprint) the scores must come from.

        Raises:
            ArtifactError: there is no store, or it holds the scores of another corpus or estimator.
            DamagedArtifactError: its files disagree.
        """
        path = Path(path)
        manifest = read_manifest(path, kind=KIND, format=FORMAT)
        count = int(manifest.fields["passages"])
        docnos = read_names(path / "docnos.txt")
        file = path / "scores.f4"
        if file.stat().st_size != 4 * count or len(docnos) != count:
            raise DamagedArtifactError(
                str(file), f"holds {file.stat().st_size} bytes and {len(docnos)} docnos for {count} scores"
            )
        scores = np.memmap(file, "<f4", "r") if count else np.zeros(0, np.float32)
        store = cls(path, scores, docnos, manifest.fields)
        store.check(corpus=corpus, estimator=estimator)
        return store

    @checked_call
    def check(self, *, corpus: str = "", estimator: QualityEstimator | str | None = None) -> None:
        """Refuse scores that are not the ones wanted.

        Raises:
            ArtifactError: the store was made for another corpus, or by another estimator.
        """
        if corpus and corpus != self.corpus_fingerprint:
            raise ArtifactError(
                f"{self.path} scores the corpus {self.corpus_fingerprint[:12] or 'unknown'}, not {corpus[:12]}: the "
                "passages have changed. Score them again, or extend the store where passages were only added"
            )
        wanted = estimator if isinstance(estimator, str) or estimator is None else estimator.fingerprint
        if wanted and wanted != self.estimator_fingerprint:
            raise ArtifactError(
                f"{self.path} holds scores of {self.estimator} ({self.estimator_fingerprint[:12]}), not of "
                f"{wanted[:12]}. Score the corpus with the estimator you want"
            )

    def __len__(self) -> int:
        return len(self.docnos)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {docno: row for row, docno in enumerate(self.docnos)}

    @checked_call
    def score_of(self, docno: str) -> float:
        """The score of one passage.

        Raises:
            InputError: the store does not know `docno`.
        """
        return float(self.scores[self._row(docno)])

    @checked_call
    def scores_of(self, docnos: Iterable[str]) -> NDArray[np.float32]:
        """Scores of passages in the order asked for, float32[n].

        Raises:
            InputError: the store does not know one of them.
        """
        rows = np.fromiter((self._row(docno) for docno in docnos), np.int64)
        return np.asarray(self.scores[rows], np.float32)

    def _row(self, docno: str) -> int:
        row = self._positions.get(docno, -1)
        if row < 0:
            raise InputError(f"docno {docno!r} has no score in {self.path}; score the corpus it belongs to")
        return row

    @checked_call
    def stream(self, passages: Iterable[Passage]) -> Iterator[tuple[Passage, float]]:
        """Each passage with its score, in corpus order; every docno is checked on the way.

        Raises:
            InputError: the passages are not the store's, in its order, from first to last.
        """
        row = -1
        for row, passage in enumerate(passages):
            if row >= len(self) or passage.docno != self.docnos[row]:
                expected = repr(self.docnos[row]) if row < len(self) else "the end"
                raise InputError(f"passage {row + 1} is {passage.docno!r} where {self.path} has {expected}")
            yield passage, float(self.scores[row])
        if row + 1 != len(self):
            raise InputError(f"the corpus ends after {row + 1:,} passages; {self.path} has scores of {len(self):,}")

    def quantiles(self) -> NDArray[np.float32]:
        """The share of passages below each one, ties in the middle, float32[n]."""
        return quantiles(np.asarray(self.scores))


@checked_call
def write_scores(
    path: str | Path,
    docnos: Sequence[str],
    scores: NDArray[np.float32],
    *,
    estimator: QualityEstimator,
    corpus_fingerprint: str,
    overwrite: bool = False,
) -> ScoreStore:
    """Write a score store.

    Args:
        path: its directory.
        docnos: in corpus order.
        scores: float32[n], one a docno, finite.
        estimator: whose scores they are; kept with them where it can be, so that passages added later score alike.
        corpus_fingerprint: `Corpus.fingerprint()` of the corpus.
        overwrite: replace an existing store.

    Raises:
        InputError: docnos and scores differ in number, a docno occurs twice, or a score is not finite.
        ArtifactError: there is something at `path` that may not be replaced.
    """
    scores = np.ascontiguousarray(scores, "<f4")
    _check(docnos, scores)
    with writing(path, kind=KIND, format=FORMAT, overwrite=overwrite) as draft:
        scores.tofile(draft.path / "scores.f4")
        write_names(draft.path / "docnos.txt", docnos)
        _keep_estimator(estimator, draft.path / "estimator")
        draft.fields |= {
            "estimator": estimator.name,
            "estimator_fingerprint": estimator.fingerprint,
            "corpus_fingerprint": corpus_fingerprint,
            "passages": len(docnos),
        }
    return ScoreStore.open(path)


def _check(docnos: Sequence[str] | range, scores: NDArray[np.float32]) -> None:
    if scores.shape != (len(docnos),):
        raise InputError(f"{len(docnos)} docnos cannot go with scores of shape {scores.shape}")
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        raise InputError(f"the score of {docnos[bad[0]]!r} is {scores[bad[0]]}, not a finite number")
    if len(set(docnos)) != len(docnos):
        seen: set[str | int] = set()
        twice = next(d for d in docnos if d in seen or seen.add(d))  # type: ignore[func-returns-value]
        raise InputError(f"docno {twice!r} occurs twice; scores are looked up by docno, so docnos must be unique")


def _keep_estimator(estimator: QualityEstimator, directory: Path) -> None:
    if getattr(estimator, "can_save", False):  # an estimator of another package may have no such property
        directory.mkdir()
        estimator.save(directory)


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of a corpus in memory, and what they took."""

    docnos: list[str]
    scores: NDArray[np.float32]
    usage: StageUsage


@checked_call
def score_corpus(passages: Iterable[Passage], estimator: QualityEstimator, *, batch_size: int = _BATCH) -> Scored:
    """Score every passage by its contents (title and text), batch after batch.

    Raises:
        InputError: the estimator did not return one finite score a passage.
    """
    started = time.perf_counter()
    docnos: list[str] = []
    parts: list[NDArray[np.float32]] = []
    remaining = iter(passages)
    while batch := list(islice(remaining, batch_size)):
        scores = np.asarray(estimator.score([p.contents for p in batch]), np.float32)
        batch_docnos = [p.docno for p in batch]
        _check(batch_docnos, scores)
        docnos += batch_docnos
        parts.append(scores)
    scores = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    usage = StageUsage("quality", time.perf_counter() - started, {"passages": len(docnos)})
    return Scored(docnos, scores, usage)


def score_texts(texts: Iterable[str], estimator: QualityEstimator, *, batch_size: int = _BATCH) -> NDArray[np.float32]:
    """Score texts, batch after batch: float32[n].

    Raises:
        InputError: the estimator did not return one finite score a text.
    """
    parts = [np.zeros(0, np.float32)]
    remaining = iter(texts)
    first = 1
    while batch := list(islice(remaining, batch_size)):
        scores = np.asarray(estimator.score(batch), np.float32)
        _check(range(first, first + len(batch)), scores)
        parts.append(scores)
        first += len(batch)
    return np.concatenate(parts)


def extend_scores(path: str | Path, corpus: Corpus, estimator: QualityEstimator | None = None) -> ScoreStore:
    """Score the passages that were added at the end of a corpus, with the estimator the store keeps.

    The store is replaced atomically. The passages it has scores of must still be the first ones of the corpus,
    unchanged; that is checked by fingerprint.

    Args:
        path: the store to extend.
        corpus: the corpus with the new passages at its end.
        estimator: the estimator, where the store could not keep it; its fingerprint must be the store's.

    Raises:
        ArtifactError: the known passages have changed, or the estimator is not the one that scored them.
    """
    store = ScoreStore.open(path)
    if estimator is None:
        if not (store.path / "estimator").is_dir():
            raise ArtifactError(f"{path} keeps no estimator; give the one that scored it ({store.estimator})")
        estimator = QualityEstimator.load(store.path / "estimator")
    store.check(estimator=estimator)
    known = fingerprint_of(islice(iter(corpus), len(store)))
    if known != store.corpus_fingerprint:
        raise ArtifactError(
            f"the first {len(store):,} passages of {corpus.name} are not those that {path} scored; "
            "score the corpus again"
        )
    added = score_corpus(islice(iter(corpus), len(store), None), estimator)
    return write_scores(
        path,
        [*store.docnos, *added.docnos],
        np.concatenate([np.asarray(store.scores), added.scores]),
        estimator=estimator,
        corpus_fingerprint=fingerprint_of(iter(corpus)),
        overwrite=True,
    )
