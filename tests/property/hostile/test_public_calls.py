"""What every public call does with values it does not expect: an error of thresher's own, or of the file system.

Each exported callable and each public method of what the exported classes open is called with valid arguments of which
some are replaced. A call may succeed, raise a `ThresherError`, an `OSError`, or, for a wrong signature, a `TypeError`.
THRESHER_HOSTILE_CALLS sets the calls to each; the nightly profile makes 200.
"""

import asyncio
import importlib
import inspect
import os
import pkgutil
import random
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from traceback import extract_tb

import numpy as np
import pytest
from hostile_place import TEXTS, VALUES, damage, hostile, listing
from limits import Hang, bounded

import thresher
from tests.indexes import segment_of
from thresher.errors import ThresherError
from thresher.index.collection import open_collection

NIGHTLY = os.environ.get("THRESHER_PROFILE") == "nightly"
CALLS = int(os.environ.get("THRESHER_HOSTILE_CALLS") or (200 if NIGHTLY else 3))
SECONDS = 10
MODELS = {
    "thresher.ContextPruner",
    "thresher.DenseEncoder.from_name",
    "thresher.QualityEstimator.from_name",
    "thresher.Reranker.from_name",
    "thresher.SparseEncoder.from_name",
    "thresher.VectorStore.open_encoder",
    "thresher.compress.compress",
    "thresher.context.SentenceScorer.from_name",
    "thresher.encode.Bm25Encoder.from_name",
    "thresher.llm.TransformersModel",
    "thresher.rerank.CrossEncoderJudge",
}
"""Calls that may import torch, which takes longer than all others together: only the nightly profile makes them."""
ELSEWHERE = {
    "thresher.cli.app": "the command line has its own test",
    "thresher.cli.main": "the command line has its own test",
}


def exported() -> Iterator[tuple[str, object]]:
    """Every public name of the package and of its packages, once."""
    packages = ["thresher", *(f"thresher.{module.name}" for module in pkgutil.iter_modules(thresher.__path__))]
    seen = set()
    for package in packages:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if id(value) not in seen and callable(value) and f"{package}.{name}" not in ELSEWHERE:
                seen.add(id(value))
                yield f"{package}.{name}", value


def subjects() -> Iterator[str]:
    """Labels of the calls: `thresher.Index.search`."""
    for label, value in exported():
        if not inspect.isclass(value):
            yield label
            continue
        if issubclass(value, BaseException):
            continue
        if not inspect.isabstract(value) and not getattr(value, "_is_protocol", False):
            yield label
        for name, member in inspect.getmembers(value, callable):
            ours = (getattr(member, "__module__", None) or "").startswith("thresher")
            if not name.startswith("_") and ours and not getattr(value, "_is_protocol", False):
                yield f"{label}.{name}"


LABELS = tuple(subjects())


class Place:
    """Valid arguments: by the parameter's name, and for some by the call's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, object] = {}

    def once(self, name):
        if name not in self.made:
            self.made[name] = getattr(self, f"make_{name}")()
        return self.made[name]

    def make_index(self):
        return thresher.Index.open(self.folder / "index")

    def make_run(self):
        from thresher.evaluate import read_run

        return read_run(self.folder / "a.run")

    def make_qrels(self):
        from thresher.evaluate import read_qrels

        return read_qrels(self.folder / "qrels.txt")

    def make_evaluation(self):
        from thresher.evaluate import evaluate

        return evaluate(self.once("run"), self.once("qrels"), "nDCG@10 AP")

    def make_encoder(self):
        from thresher.encode import Bm25Encoder

        return Bm25Encoder.fit(TEXTS)

    def make_batch(self):
        return self.once("encoder").encode_passages(TEXTS[:2])

    def make_estimator(self):
        return thresher.QualityEstimator.from_name("length")

    def make_vectors(self):
        return thresher.VectorStore.open(self.folder / "vectors")

    def make_ranking(self):
        return self.once("index").search("grain", k=5)

    def make_passages(self):
        return [thresher.Passage(f"p{i}", text) for i, text in enumerate(TEXTS)]

    def make_hits(self):
        return list(self.once("ranking"))

    def make_scorer(self):
        from thresher.context import SentenceScorer

        return SentenceScorer.from_name("lexical")

    def make_pruner(self):
        return thresher.ContextPruner(self.once("scorer"))

    def make_scores(self):
        return self.once("pruner").score("grain", list(TEXTS))

    def make_split(self):
        from thresher.context import SplitPassage
        from thresher.records import Span

        return SplitPassage(TEXTS[1], (Span(0, len(TEXTS[1])),))

    def make_pruned(self):
        return self.once("pruner").prune("grain", list(TEXTS))[0]

    def make_judge(self):
        class Judge:
            """Leaves the order alone."""

            name = "same"
            comparisons_per_call = 1

            async def answer(self, query, candidates, comparisons, client):
                from thresher.rerank import Answer

                return [Answer(tuple((item,) for item in comparison.items)) for comparison in comparisons]

        return Judge()

    def make_reranker(self):
        return thresher.Reranker.from_name("lexical") if False else thresher.Reranker(self.once("judge"))

    def make_pipeline(self):
        return thresher.Pipeline.open(self.folder / "index", vectors=None, rerank=None, context="lexical")

    def make_policy(self):
        from thresher.prune import Policy

        return Policy(keep=0.5)

    def make_decision(self):
        from thresher.prune import decide

        return decide(self.once("policy"), [f"d{i}" for i in range(6)], np.arange(6, dtype=np.float32))

    def make_state(self):
        from thresher.pipeline.deadline import Costs, Deadline
        from thresher.pipeline.stage import State

        return State(thresher.Query("", "grain"), 3, None, Deadline(None, 0.0), Costs())

    def made_folder(self, name):
        Path(name).mkdir(exist_ok=True)
        return Path(name)

    def argument(self, label: str, name: str):
        """A valid value of the parameter `name`; a hostile one where none is known."""
        key = f"{label.rpartition('.')[2]}.{name}"
        for known in (key, name):
            if known in ARGUMENTS:
                return ARGUMENTS[known](self)
        return None

    def instance(self, label: str):
        """An object of the class that `label` names."""
        maker = INSTANCES.get(label)
        return None if maker is None else maker(self)


def of(module):
    return importlib.import_module(f"thresher.{module}")


def _text(value):
    return lambda place: value


ARGUMENTS = {
    "path": lambda p: p.folder / "index",
    "read_run.path": lambda p: p.folder / "a.run",
    "read_qrels.path": lambda p: p.folder / "qrels.txt",
    "read_queries.path": lambda p: p.folder / "queries.tsv",
    "write_run.path": lambda p: Path("written.run"),
    "write_qrels.path": lambda p: Path("written.txt"),
    "write_scores.path": lambda p: Path("written-scores"),
    "write_decision.path": lambda p: Path("written-decision"),
    "ResponseCache.path": lambda p: Path("cache.sqlite"),
    "ScoreStore.path": lambda p: p.folder / "scores",
    "open_corpus.source": lambda p: p.folder / "corpus.jsonl",
    "build_index.source": lambda p: p.folder / "corpus.jsonl",
    "load_recipe.source": lambda p: p.folder / "recipe.toml",
    "build_index.recipe": lambda p: p.folder / "recipe.toml",
    "target": lambda p: Path("target"),
    "directory": lambda p: Path("saved"),
    "corpus": lambda p: p.once("passages"),
    "encoder": lambda p: p.once("encoder"),
    "VectorStore.build.encoder": _text(""),
    "build.encoder": _text(""),
    "query": _text("grain"),
    "queries": lambda p: ["grain", "flour"],
    "measure": _text("nDCG@10"),
    "measures": _text("nDCG@10 AP(rel=2)"),
    "run": lambda p: p.once("run"),
    "qrels": lambda p: p.once("qrels"),
    "system": lambda p: p.once("evaluation"),
    "baseline": lambda p: p.once("evaluation"),
    "k": _text(3),
    "texts": lambda p: list(TEXTS),
    "text": _text(TEXTS[0]),
    "docno": _text("d1"),
    "docnos": lambda p: [f"d{i}" for i in range(6)],
    "write_decision.docnos": lambda p: [f"d{i}" for i in range(6)],
    "Ranking.scores": lambda p: [6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
    "scores": lambda p: np.arange(6, dtype=np.float32),
    "select.scores": lambda p: p.once("scores"),
    "take.scores": lambda p: None,
    "places": lambda p: [0, 1],
    "numbers": lambda p: np.array([0, 1]),
    "index": lambda p: p.once("index"),
    "ranking": lambda p: p.once("ranking"),
    "hits": lambda p: p.once("hits"),
    "pairs": lambda p: [("a", 2.0), ("b", 1.0)],
    "score.pairs": lambda p: [("grain", p.once("split"))],
    "passages": lambda p: p.once("passages"),
    "prune.passages": lambda p: list(TEXTS),
    "score.passages": lambda p: list(TEXTS),
    "with_passages.passages": lambda p: p.once("index"),
    "Ranking.passages": lambda p: None,
    "asked": lambda p: [("grain", list(TEXTS[:2]))],
    "candidates": lambda p: None,
    "rank_batch.candidates": lambda p: [("grain", p.once("ranking"))],
    "arank_batch.candidates": lambda p: [("grain", p.once("ranking"))],
    "judge": lambda p: p.once("judge"),
    "scorer": lambda p: p.once("scorer"),
    "from_name.name": _text("length"),
    "plan_from_name.name": _text("sliding"),
    "name": _text("bm25"),
    "vectors": lambda p: None,
    "store": lambda p: p.once("vectors"),
    "positions": lambda p: np.array([0, 1]),
    "interpolate.positions": lambda p: None,
    "interpolate.query": lambda p: np.ones(8, np.float32),
    "scores.query": lambda p: np.ones(8, np.float32),
    "checked_query.query": lambda p: np.ones(8, np.float32),
    "allowed": lambda p: np.ones(len(p.once("vectors")), bool),
    "earlier": lambda p: None,
    "batches": lambda p: [np.eye(6, 8, dtype=np.float32)],
    "DenseIndex.search.queries": lambda p: np.ones((1, 8), np.float32),
    "batch": lambda p: p.once("batch"),
    "policy": lambda p: p.once("policy"),
    "write_decision.policy": lambda p: {"keep": 0.5},
    "decision": lambda p: p.once("decision"),
    "build_index.decision": lambda p: None,
    "rules": lambda p: of("prune").VectorPruning(),
    "estimator": lambda p: p.once("estimator"),
    "write_decision.estimator": _text("length"),
    "corpus_fingerprint": _text("0" * 64),
    "keep": _text(0.5),
    "state": lambda p: p.once("state"),
    "Pipeline.index": lambda p: p.once("index"),
    "open.index": lambda p: p.folder / "index",
    "open.rerank": _text(None),
    "open.context": _text("lexical"),
    "open.vectors": _text(None),
    "SearchStage.index": lambda p: p.once("index"),
    "Index.collection": lambda p: open_collection(p.folder / "index"),
    "Index.model": lambda p: None,
    "with_routing.model": lambda p: None,
    "writer.dense": lambda p: None,
    "field": _text("lang"),
    "where": _text("lang = en"),
    "allow": lambda p: None,
    "RerankerStage.reranker": lambda p: p.once("reranker"),
    "document_frequencies": lambda p: {"grain": 3},
    "Bm25Encoder.passages": _text(6),
    "tokens": _text(40),
    "recording": lambda p: "list.json",
    "base_url": _text("http://127.0.0.1:9/v1"),
    "model": _text("missing-model"),
    "rankings": lambda p: {"q1": p.once("ranking")},
    "judgments": lambda p: {"q1": {"d1": 1}},
    "vocabulary": lambda p: ["chaff", "grain"],
    "build_index.vectors": lambda p: None,
    "build_index.encoded": lambda p: None,
    "others": lambda p: p.once("ranking"),
    "qid": _text("q1"),
    "items": lambda p: (0, 1),
    "tiers": lambda p: ((0,), (1,)),
    "search.tiers": _text("auto"),
    "search_batch.tiers": _text("auto"),
    "order": lambda p: [0, 1],
    "plan": _text("sliding"),
    "drive.answer": lambda p: lambda comparison: None,
    "n": _text(5),
    "key": _text("key"),
    "reply": lambda p: {"text": "x"},
    "read.document": lambda p: {},
    "threshold": _text("balanced"),
    "wanted": _text("balanced"),
    "relevance": _text(0.5),
    "sentences": lambda p: (),
    "original": _text(TEXTS[0]),
    "stage": _text("search"),
    "stages": lambda p: (),
    "seconds": _text(0.5),
    "start": _text(0),
    "end": _text(1),
}

INSTANCES = {
    "thresher.ContextPruner": lambda p: p.once("pruner"),
    "thresher.Index": lambda p: p.make_index(),
    "thresher.Pipeline": lambda p: p.make_pipeline(),
    "thresher.QualityEstimator": lambda p: p.once("estimator"),
    "thresher.Ranking": lambda p: p.once("ranking"),
    "thresher.Reranker": lambda p: p.make_reranker(),
    "thresher.Run": lambda p: p.once("run"),
    "thresher.SparseEncoder": lambda p: p.once("encoder"),
    "thresher.VectorStore": lambda p: p.make_vectors(),
    "thresher.build.Recipe": lambda p: of("build").Recipe(),
    "thresher.context.Scores": lambda p: p.once("scores"),
    "thresher.context.SentenceScorer": lambda p: p.once("scorer"),
    "thresher.context.PrunedPassage": lambda p: p.once("pruned"),
    "thresher.corpus.MemoryCorpus": lambda p: of("corpus").MemoryCorpus(p.once("passages")),
    "thresher.encode.Bm25Encoder": lambda p: p.once("encoder"),
    "thresher.evaluate.Evaluation": lambda p: p.once("evaluation"),
    "thresher.index.IndexBuilder": lambda p: of("index").IndexBuilder(p.made_folder("built"), ["a"]),
    "thresher.index.Layout": lambda p: of("index").open_layout(segment_of(p.folder / "index")),
    "thresher.llm.OpenAIServer": lambda p: of("llm").OpenAIServer("m", "http://127.0.0.1:9/v1", timeout=1.0),
    "thresher.llm.ResponseCache": lambda p: of("llm").ResponseCache(Path("cache.sqlite")),
    "thresher.llm.Request": lambda p: of("llm").Request((of("llm.model").Message("user", "x"),)),
    "thresher.llm.Completion": lambda p: of("llm").Completion("x"),
    "thresher.pipeline.State": lambda p: p.make_state(),
    "thresher.pipeline.Answer": lambda p: p.once("pipeline").ask("grain"),
    "thresher.pipeline.SearchStage": lambda p: of("pipeline").SearchStage(p.once("index")),
    "thresher.prune.Decision": lambda p: p.once("decision"),
    "thresher.quality.JunkRules": lambda p: of("quality").JunkRules(),
    "thresher.quality.ScoreStore": lambda p: of("quality").ScoreStore.open(p.folder / "scores"),
    "thresher.records.Usage": lambda p: of("records").Usage(),
    "thresher.rerank.Answer": lambda p: of("rerank").Answer(((0,), (1,))),
    "thresher.rerank.Placement": lambda p: of("rerank").Placement(((0,), (1,))),
    "thresher.rerank.Price": lambda p: of("rerank").Price(1.0, 2.0),
    "thresher.rerank.RetryPolicy": lambda p: of("rerank").RetryPolicy(),
    "thresher.rerank.RerankServer": lambda p: of("rerank").RerankServer("http://127.0.0.1:9", timeout=1.0),
    "thresher.search.SearchRanking": lambda p: p.once("ranking"),
    "thresher.vectors.DenseIndex": lambda p: of("vectors").DenseIndex.over(p.once("vectors")),
}  # fmt: skip


def find(label: str) -> tuple[object, object, str]:
    """(what to call or the class that has it, its class or None, the method's name)."""
    for known, value in exported():
        if label == known:
            return value, None, ""
        if label.startswith(f"{known}.") and inspect.isclass(value):
            return getattr(value, label[len(known) + 1 :]), value, known
    raise AssertionError(label)


def arguments(rng, place, label, parameters) -> tuple[list, dict]:
    """Positional and keyword arguments: valid ones, of which one or two are replaced, or most."""
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if rng.random() < 0.8:
        bad = set(rng.sample(range(len(named)), min(len(named), rng.choice((1, 1, 1, 2)))))
    else:
        bad = {i for i in range(len(named)) if rng.random() < 0.7}
    keywords = {}
    for i, parameter in enumerate(named):
        required = parameter.default is parameter.empty
        if i in bad:
            keywords[parameter.name] = hostile(rng, str(parameter.annotation))
        elif required or rng.random() < 0.3:
            value = place.argument(label, parameter.name)
            if required or value is not None:
                keywords[parameter.name] = value
    positional = []
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        positional = [rng.choice(VALUES) for _ in range(rng.randint(0, 2))]
    if any(p.kind is p.VAR_KEYWORD for p in parameters) and rng.random() < 0.3:
        keywords["setting"] = rng.choice(VALUES)
    if rng.random() < 0.03:
        keywords["unknown_keyword"] = 1
    if keywords and rng.random() < 0.03:
        keywords.pop(rng.choice(list(keywords)))
    return positional, keywords


def use_up(result: object) -> None:
    """Run what a call only began."""
    if inspect.iscoroutine(result):
        asyncio.run(result)
    elif isinstance(result, Iterator):
        list(islice(result, 50))


def outcome(call, positional, keywords) -> str:
    """What was wrong with how the call ended; empty where nothing was."""
    try:
        inspect.signature(call).bind(*positional, **keywords)
    except TypeError:
        return ""
    try:
        with bounded():
            use_up(call(*positional, **keywords))
    except ThresherError as err:
        str(err)
        return ""
    except OSError:
        return ""
    except Hang:
        return f"took over {SECONDS} seconds"
    except Exception as err:
        frames = [f for f in extract_tb(err.__traceback__) if "/thresher/" in f.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "the call"
        return f"{type(err).__name__} at {where}: {str(err)[:120]!r}"
    return ""


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # of builders
@pytest.mark.parametrize("label", LABELS)
def test_a_public_call_raises_no_foreign_error(label, place, scratch, tmp_path):
    if label in MODELS:
        if not NIGHTLY:
            pytest.skip("may import torch")
        for library in ("torch", "transformers", "sentence_transformers"):
            importlib.import_module(library)
    here = Place(place)
    rng = random.Random(f"{label} {os.environ.get('THRESHER_HOSTILE_SEED', '')}")
    call, owner, known = find(label)
    method = owner is not None and not inspect.ismethod(call)
    if method and known not in INSTANCES:
        pytest.skip(f"no instance of {known}")
    before = listing(tmp_path, scratch)
    problems: dict[str, str] = {}
    for n in range(CALLS):
        if n % 25 == 24:
            damage(scratch)
        if method:
            bound = getattr(here.instance(known), label.rpartition(".")[2])
        else:
            bound = call
        positional, keywords = arguments(rng, here, label, list(inspect.signature(bound).parameters.values()))
        problem = outcome(bound, positional, keywords)
        if problem:
            shown = ", ".join(f"{name}={ascii(value)[:80]}" for name, value in keywords.items())
            problems.setdefault(problem.partition(": ")[0], f"{problem}\n    {label}({shown})")
    assert not problems, "\n".join(problems.values())
    home = tmp_path / "inside" / "home"
    shutil.rmtree(home, ignore_errors=True)
    assert {p for p in listing(tmp_path, scratch) - before if not Path(p).is_relative_to(home)} == set()
