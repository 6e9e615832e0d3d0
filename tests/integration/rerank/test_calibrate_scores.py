"""`thresher calibrate scores`, from a reranked run and in an index, and what uses the calibration."""

import json
import random

import pytest
from typer.testing import CliRunner

from thresher.build.writer import IndexWriter
from thresher.cli.calibrate import app
from thresher.errors import ConfigError, InputError
from thresher.evaluate.trec import write_run
from thresher.index.commit import CALIBRATION
from thresher.ranking import Ranking, Run
from thresher.records import Query
from thresher.rerank.calibration import ScoreCalibration
from thresher.rerank.run_settings import RunSettings


def command(*arguments):
    return CliRunner().invoke(app, ["scores", *map(str, arguments)])


def words(done):
    """What was said, without the box around it."""
    return " ".join(done.output.replace("│", " ").split())


@pytest.fixture
def ran(tmp_path):
    """A run of 40 queries, whose passages are relevant the more often the higher they score; its judgments."""
    rng = random.Random(1)
    rankings, lines = {}, []
    for q in range(40):
        scores = sorted((rng.gauss(0, 2) for _ in range(20)), reverse=True)
        rankings[f"q{q}"] = Ranking.from_pairs([(f"d{i}", score) for i, score in enumerate(scores)])
        for i, score in enumerate(scores):
            lines.append(f"q{q} 0 d{i} {2 * (rng.random() < 1 / (1 + 2.718**-score))}\n")
    write_run(Run(rankings, "t"), tmp_path / "out.run")
    (tmp_path / "qrels").write_text("".join(lines))
    return tmp_path


def test_a_run_is_calibrated_for_the_judge_and_plan_beside_it(ran):
    RunSettings("judge-1", "pointwise", 10, "score", "abc").save(ran / "out.run")
    done = command(ran / "out.run", "--qrels", ran / "qrels", "--relevant", 2, "-o", ran / "scores.json", "--json")
    assert done.exit_code == 0, done.output
    made, told = ScoreCalibration.read(ran / "scores.json"), json.loads(done.stdout)
    assert (made.judge, made.plan, made.model, made.relevant) == ("judge-1", "pointwise", "abc", 2)
    assert (made.pairs, made.topics, made.signal) == (400, 40, "score")  # the first 10 of each were reranked
    assert told["held_out"]["ece"] == made.held_out.ece < 0.1
    assert "grade 2 or higher" in told["meaning"]
    said = command(ran / "out.run", "--qrels", ran / "qrels", "--relevant", 2, "-o", ran / "scores.json").stdout
    assert f"error on held-out topics {made.held_out.ece:.3f} (95 % interval" in " ".join(said.split())


def test_a_run_of_ranks_is_calibrated_by_rank(ran):
    RunSettings("judge-1", "sliding", 20, "rank").save(ran / "out.run")
    done = command(ran / "out.run", "--qrels", ran / "qrels", "-o", ran / "scores.json")
    assert done.exit_code == 0, done.output
    assert ScoreCalibration.read(ran / "scores.json").signal == "rank"


def test_what_a_calibration_needs_is_asked_for(ran):
    plain = [ran / "out.run", "--qrels", ran / "qrels"]
    assert "the file to write" in words(command(*plain))
    assert "--judge and --plan" in words(command(*plain, "-o", ran / "s.json"))
    given = command(*plain, "-o", ran / "s.json", "--judge", "j", "--plan", "pointwise")
    assert given.exit_code == 0, given.output
    RunSettings("judge-1", "pointwise", 20, "probability").save(ran / "out.run")
    assert "are probabilities" in words(command(*plain, "-o", ran / "s.json"))
    assert not (ran / "missing.json").exists()


WORDS = "grain chaff straw wheat barley oats mill stone water wind field plough".split()


@pytest.fixture(scope="module")
def harvest(tmp_path_factory):
    """An index of passages with three words each, and judgments: those with all words of a query are relevant."""
    folder = tmp_path_factory.mktemp("harvest")
    rng = random.Random(2)
    rows = [{"docno": f"d{i}", "text": " ".join(rng.sample(WORDS, 3)) + "."} for i in range(60)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    from thresher.build.recipe import load_recipe
    from thresher.build.stream import build_index
    from thresher.corpus import open_corpus

    build_index(folder / "idx", open_corpus(folder / "corpus.jsonl"), load_recipe("bm25"))
    pairs = [WORDS[i : i + 2] for i in range(8)]
    (folder / "queries.tsv").write_text("".join(f"q{i}\t{' '.join(pair)}\n" for i, pair in enumerate(pairs)))
    (folder / "qrels").write_text("".join(
        f"q{i} 0 {row['docno']} {int(all(word in row['text'] for word in pair))}\n"
        for i, pair in enumerate(pairs) for row in rows if any(word in row["text"] for word in pair)
    ))  # fmt: skip
    return folder


def test_an_index_keeps_its_calibration_through_changes_and_the_pipeline_uses_it(harvest):
    pytest.importorskip("torch", reason="the shipped ranker needs torch")
    from thresher.pipeline import Pipeline
    from thresher.search import Index

    done = command(
        harvest / "idx", "--queries", harvest / "queries.tsv", "--qrels", harvest / "qrels", "--depth", 12, "--json"
    )
    assert done.exit_code == 0, done.output
    made = ScoreCalibration.read(harvest / "idx" / CALIBRATION)
    assert made.judge.startswith("thresher-context")
    assert (made.plan, made.unjudged, made.topics) == ("pointwise", "not relevant", 8)
    with IndexWriter.open(harvest / "idx") as writer:
        writer.delete(docnos=["d0"])
    assert ScoreCalibration.read(harvest / "idx" / CALIBRATION) == made
    with Index.open(harvest / "idx") as index:
        settings = index.recipe.ask.model_copy(update={"rerank": "thresher-context", "context": ""})
        pipeline = Pipeline.open(index, settings=settings)
        answer = pipeline.ask("grain chaff", 10)
        told = {one.docno: one.probability for one in answer.passages}
        relevance = {one.docno: one.scores["relevance"] for one in answer.passages}
        assert list(told.values()) == pytest.approx(list(made.probability(list(relevance.values()))))
        middle = sorted(told.values())[len(told) // 2]
        kept = pipeline.ask("grain chaff", 10, min_score=middle)
        assert {one.docno for one in kept.passages} == {docno for docno, p in told.items() if p >= middle}
        assert kept.stages[1].counts["left_out"] == len(told) - len(kept.passages)
        assert not pipeline.ask("grain chaff", 10, min_score=1.0).passages
        prefix = [one.probability for one in pipeline.ask("grain chaff", 10, precision=middle).passages]
        assert sum(prefix) / len(prefix) >= middle
        with pytest.raises(InputError, match="min_score"):
            pipeline.ask("grain chaff", min_score=7.0)
        with pytest.raises(ConfigError, match="no stage of the pipeline knows"):
            pipeline.without("rerank").ask(Query("q", "grain"), min_score=0.5)


def test_an_index_needs_queries_that_are_judged(harvest):
    pytest.importorskip("torch", reason="the shipped ranker needs torch")
    assert "--queries" in command(harvest / "idx", "--qrels", harvest / "qrels").output
    (harvest / "other").write_text("x9 0 d1 1\n")
    done = command(harvest / "idx", "--queries", harvest / "queries.tsv", "--qrels", harvest / "other")
    assert isinstance(done.exception, InputError)
