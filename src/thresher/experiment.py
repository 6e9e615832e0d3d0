"""Run an experiment: index a collection by a recipe, search for its queries, evaluate the run.

An experiment is a TOML file (`eval/*.toml`, or a shipped name): which collection, which recipe, how deep, which
measures, and the published figures to print beside ours.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from thresher.build.recipe import Recipe, load_recipe, load_toml
from thresher.build.stream import build_index
from thresher.errors import ConfigError
from thresher.evaluate import collections, evaluate, untied, write_run
from thresher.evaluate.measures import parse_measures
from thresher.prune.plan import Settings
from thresher.ranking import Run
from thresher.search import Index

if TYPE_CHECKING:
    from thresher.build.report import BuildReport
    from thresher.evaluate.collections import Collection
    from thresher.ranking import Ranking
    from thresher.records import Query


class Experiment(BaseModel, metaclass=Settings):
    """What to measure, as an experiment file says."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    description: str = ""
    collection: str
    recipe: str = "bm25"
    k: int = Field(default=1000, ge=1)
    measures: list[str]
    published: dict[str, str | float] = Field(default_factory=dict)
    """Figures measured elsewhere, by measure, with `source` saying where."""


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    """What an experiment found.

    Attributes:
        experiment: what was measured.
        plan: what was done, or, in a dry run, would be.
        measured: means by measure; empty in a dry run.
        per_query: measure to qid to value; empty in a dry run.
        build: what the build made and took; None in a dry run.
        queries: judged queries searched for.
        query_ms: mean milliseconds a query.
        nuggets: topics with nuggets, nuggets and vital ones, where the collection has them. They are for answers; a
            ranking is not measured by them.
    """

    experiment: Experiment
    plan: dict[str, Any]
    measured: dict[str, float] = field(default_factory=dict)
    per_query: dict[str, dict[str, float]] = field(default_factory=dict)
    build: BuildReport | None = None
    queries: int = 0
    query_ms: float = 0.0
    nuggets: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, without the values of each query."""
        document: dict[str, Any] = {
            "description": self.experiment.description,
            "plan": self.plan,
            "published": dict(self.experiment.published),
        }
        if self.build is not None:
            document |= {
                "measured": self.measured,
                "queries": self.queries,
                "query_ms": self.query_ms,
                "counts": self.build.counts,
                "skipped": self.build.skipped,
                **({"nuggets": self.nuggets} if self.nuggets else {}),
                "usage": [stage.as_json() for stage in self.build.usage.stages],
            }
        return document

    def rows(self) -> list[dict[str, Any]]:
        """One flat row a measure: measured, published, difference."""
        published = self.experiment.published
        return [
            {
                "collection": self.experiment.collection,
                "recipe": self.experiment.recipe,
                "measure": measure,
                "measured": value,
                "published": published.get(measure),
                "difference": value - float(published[measure]) if measure in published else None,
            }
            for measure, value in self.measured.items()
        ]


def load_experiment(source: str | Path) -> tuple[Experiment, Recipe]:
    """Read and check an experiment and the recipe it names, without touching any data.

    Raises:
        ConfigError: a file that is not there, an unknown key, collection or measure, a wrong type.
    """
    experiment = load_toml(source, Experiment, folder="eval")
    collections.locate(experiment.collection)
    parse_measures(" ".join(experiment.measures))
    strange = [key for key in experiment.published if key != "source" and key not in experiment.measures]
    if strange:
        raise ConfigError(f"{source}: published gives {strange[0]!r}, which is not among the measures")
    beside = Path(source).parent / experiment.recipe
    return experiment, load_recipe(beside if beside.is_file() else experiment.recipe)


def run_experiment(
    source: str | Path,
    *,
    dry_run: bool = False,
    output: str | Path | None = None,
    index: str | Path | None = None,
    progress: bool = False,
) -> ExperimentReport:
    """Carry out an experiment: build, search, evaluate.

    Args:
        source: a TOML file or a shipped name.
        dry_run: check everything that can be checked without reading the corpus, and stop.
        output: write the run here, in TREC format.
        index: keep the index here; by default it is built in a temporary directory and removed.
        progress: show progress bars.

    Raises:
        ConfigError: the experiment or its recipe is wrong.
        DataNotFoundError: the collection is not on this machine.
    """
    experiment, recipe = load_experiment(source)
    location = collections.locate(experiment.collection)
    plan = {
        "collection": experiment.collection,
        "data": location.corpus or f"ir_datasets:{location.ir_datasets}",
        "recipe": experiment.recipe,
        "encoder": recipe.encode.encoder,
        "k": experiment.k,
        "measures": list(experiment.measures),
    }
    if dry_run:
        return ExperimentReport(experiment, plan | collections.needs(experiment.collection))
    opened = collections.load(experiment.collection)
    with ExitStack() as stack:
        target = Path(index or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "index")
        build = build_index(target, opened.corpus, recipe, overwrite=True, progress=progress)
        opened_index = stack.enter_context(Index.open(target))
        judged = [query for query in opened.queries if query.qid in opened.qrels.judgments]
        started = time.perf_counter()
        rankings = {
            query.qid: _without(opened_index, query, opened.excluded.get(query.qid, frozenset()), experiment.k)
            for query in judged
        }
        seconds = time.perf_counter() - started
    run = untied(Run(rankings, tag=experiment.recipe))
    if output is not None:
        write_run(run, output)
    evaluation = evaluate(run, opened.qrels, " ".join(experiment.measures))
    return ExperimentReport(
        experiment,
        plan,
        dict(evaluation.mean),
        {measure: dict(values) for measure, values in evaluation.per_query.items()},
        build,
        len(judged),
        1000 * seconds / max(len(judged), 1),
        _nuggets(opened),
    )


def _without(index: Index, query: Query, excluded: frozenset[str], k: int) -> Ranking:
    """The first k results that are not excluded."""
    found = index.search(query, k + len(excluded))
    if not excluded:
        return found
    kept = np.array([place for place, docno in enumerate(found.docnos) if docno not in excluded][:k], dtype=np.int64)
    return found.take(kept, found.scores[kept])


def _nuggets(collection: Collection) -> dict[str, int]:
    """How many nuggets the collection has; nothing where it has none."""
    every = [one for nuggets in collection.nuggets.values() for one in nuggets]
    if not every:
        return {}
    return {"topics": len(collection.nuggets), "nuggets": len(every), "vital": sum(one.vital for one in every)}
