"""The command line as a person uses it: what is printed, what is written, and how it fails."""

import json
import re
import subprocess
import sys

import pytest

from thresher import __version__
from thresher.cli.quickstart import QUERIES

CORPUS = [
    {"docid": "wheat", "title": "Wheat", "body": "Threshing separates grain from chaff."},
    {"docid": "mill", "body": "A mill grinds grain into flour.\x1b[31m"},
]


def thresher(*arguments, cwd):
    command = [sys.executable, "-c", "from thresher.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in CORPUS))
    (folder / "queries.tsv").write_text("1\tgrain and chaff\n2\tflour\n3\tnothing known\n")
    (folder / "qrels.txt").write_text("1 0 wheat 2\n2 0 mill 1\n3 0 mill 1\n")
    built = thresher("build", "corpus.jsonl", "--recipe", "bm25", "-o", "index", "--text-field", "body", cwd=folder)
    assert built.returncode == 0, built.stderr
    assert "2 passages" in built.stdout
    return folder


def test_the_version_is_printed(tmp_path):
    result = thresher("--version", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, f"thresher {__version__}\n")


@pytest.mark.parametrize(
    "command", ["ask", "build", "encode", "eval", "export", "info", "quickstart", "rerank", "search", "verify"]
)
def test_every_command_has_help_with_an_example(tmp_path, command):
    result = thresher(command, "--help", cwd=tmp_path)
    assert result.returncode == 0
    examples = re.search(r"\n  Examples?:\n((?:    .*\n)+)", result.stdout)
    assert examples is not None
    assert examples[1].startswith(f"    thresher {command}")


def test_search_prints_hits_for_people_without_obeying_them(place):
    result = thresher("search", "index", "grain", cwd=place)
    assert result.returncode == 0
    assert "wheat" in result.stdout
    assert "\x1b" not in result.stdout
    assert "2 passages, exact" in result.stdout


def test_search_prints_json_for_programs(place):
    document = json.loads(
        thresher("search", "index", "chaff", "grain", "-k", "1", "--json", "--explain", cwd=place).stdout
    )
    assert document["exact"] is True
    assert [hit["docno"] for hit in document["hits"]] == ["wheat"]
    assert document["explanations"][0]["terms"] == 2


def test_queries_may_be_json_lines_of_texts_or_of_weights(place):
    (place / "beir.jsonl").write_text('{"_id": "q1", "text": "grain"}\n{"_id": 2, "text": "chaff"}\n')
    (place / "weighted.jsonl").write_text('{"id": "q1", "contents": "", "vector": {"grain": 2.5}}\n')
    (place / "same.tsv").write_text("q1\tgrain\n2\tchaff\n")
    runs = {}
    for name in ("beir.jsonl", "same.tsv", "weighted.jsonl"):
        made = thresher("search", "index", "--queries", name, "--run", f"{name}.run", cwd=place)
        assert made.returncode == 0, made.stderr
        runs[name] = (place / f"{name}.run").read_text()
    assert runs["beir.jsonl"] == runs["same.tsv"]
    texts, weights = (
        {docno: float(score) for qid, _, docno, _, score, _ in map(str.split, runs[name].splitlines()) if qid == "q1"}
        for name in ("same.tsv", "weighted.jsonl")
    )
    assert weights == pytest.approx({docno: 2.5 * score for docno, score in texts.items()}, rel=1e-5)
    (place / "bad.jsonl").write_text('{"_id": "q1", "text": "grain"}\n{"_id": "q2"}\n')
    failed = thresher("search", "index", "--queries", "bad.jsonl", "--run", "bad.run", cwd=place)
    assert failed.returncode == 1
    assert "bad.jsonl:2" in failed.stderr
    assert "text or query or contents" in failed.stderr


def test_a_run_is_written_and_measured(place):
    written = thresher(
        "search", "index", "--queries", "queries.tsv", "--run", "out.run", "-k", "5", "--json", cwd=place
    )
    assert json.loads(written.stdout)["without_results"] == 1
    measured = thresher(
        "eval", "--run", "out.run", "--qrels", "qrels.txt", "--measures", "nDCG@10 RR@10", "--json", cwd=place
    )
    assert measured.returncode == 0, measured.stderr
    assert "0.66" in measured.stdout


def test_info_and_verify_describe_the_index(place):
    facts = json.loads(thresher("info", "index", "--json", cwd=place).stdout)
    assert facts["kind"] == "index"
    assert facts["counts"]["passages"] == 2
    assert (facts["commit"], facts["live"], facts["deleted"]) == (1, 2, 0)
    assert [entry["passages"] for entry in facts["segments"]] == [[2]]
    assert facts["bytes"] == sum(
        e["bytes"]
        for name, e in facts["files"].items()
        if name.count("/") > 1 and name.startswith("segments/") and not name.endswith("manifest.json")
    )
    assert "bm25" in thresher("info", "index", cwd=place).stdout
    assert "all as written" in thresher("verify", "index", cwd=place).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["search", "nowhere", "grain"], 1, "not a thresher artifact"),
        (["build", "nowhere.jsonl", "-o", "x"], 1, "no such file"),
        (["build", "corpus.jsonl", "--recipe", "bm25", "-o", "index", "--text-field", "body"], 1, "exists already"),
        (["build", "corpus.jsonl", "--recipe", "bm25", "-o", "x", "--text-field", "prose"], 1, "corpus.jsonl:1"),
        (["build", "bm25", "-o", "x"], 1, "names no corpus"),
        (["eval", "no-such-experiment"], 1, "no such file, and no shipped one"),
        (["search", "index"], 2, "give a query"),
        (["search", "index", "grain", "-k", "0"], 2, "greater than or equal to 1"),
        (["search", "index", "grain", "--tiers", "always"], 2, "is not one of"),
        (["ask", "nowhere", "grain"], 1, "not a thresher artifact"),
        (["search", "index", "grain", "--by", "dense"], 1, "has no vectors"),
        (["ask", "index", "grain", "--threshold", "tight"], 2, "tight"),
        (["ask", "index", "grain", "--recipe", "bm52"], 1, "no such file"),
        (["no-such-command"], 2, "No such command"),
    ],
)
def test_mistakes_are_one_message_and_an_exit_code(place, arguments, code, message):
    result = thresher(*arguments, cwd=place)
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_quickstart_answers_and_opens_what_it_built(tmp_path):
    (tmp_path / "light.toml").write_text(
        '[prune]\nkeep = 0.9\nestimator = "length"\n[ask]\nrerank = "lexical"\ncontext = "lexical"\n'
    )
    first = thresher("quickstart", "--recipe", "light.toml", "--limit", "1200", "-o", "qs", "--json", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    everything, pruned = document["known_item"]["rows"]
    assert everything["passages"] == 1200 > pruned["passages"]
    assert 1000 < document["counts"]["passages"] < 1200
    for row in (everything, pruned):
        assert 0 < row["RR@10"] <= row["Success@10"] <= 1
    assert pruned["bytes"] < everything["bytes"]
    assert len(document["answers"]) == len(QUERIES)
    assert all(answer["passages"] for answer in document["answers"])
    second = thresher("quickstart", "-o", "qs", cwd=tmp_path)
    assert "which exists" in second.stdout
    assert "your query" in second.stdout


def test_ask_answers_for_people_and_programs_and_says_which_stage_is_missing(place):
    person = thresher("ask", "index", "what separates grain from chaff", "--no-rerank", "--no-context", cwd=place)
    assert person.returncode == 0, person.stderr
    assert "wheat" in person.stdout
    assert "search" in person.stdout
    assert "\x1b" not in person.stdout
    assert "without interpolate: the index has no vectors" in person.stderr
    assert "without rerank" not in person.stderr, "what was turned off needs no explanation"
    program = thresher(
        "ask",
        "index",
        "grain",
        "-k",
        "1",
        "--no-rerank",
        "--no-context",
        "--max-context-tokens",
        "3",
        "--json",
        cwd=place,
    )
    document = json.loads(program.stdout)
    assert [stage["outcome"] for stage in document["stages"]] == ["done"]
    assert document["tokens"] <= 3
    assert document["open_seconds"] >= 0


def test_quiet_prints_results_and_no_summaries(place):
    quiet = thresher(
        "-q", "build", "corpus.jsonl", "--recipe", "bm25", "-o", "quiet", "--text-field", "body", cwd=place
    )
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    found = thresher("-q", "search", "quiet", "chaff", cwd=place)
    assert "wheat" in found.stdout
    assert "passages" not in found.stdout
    assert thresher("-q", "verify", "quiet", cwd=place).stdout == ""


def test_an_index_with_two_tiers_is_searched_through_both(tmp_path):
    lines = [{"id": f"d{i}", "text": " ".join(f"w{(i * j) % 7}" for j in range(1, 4 + i))} for i in range(20)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = '[prune]\nkeep = 0.5\nestimator = "length"\nfold = false\n'
    (tmp_path / "half.toml").write_text(recipe)
    built = thresher("build", "half.toml", "--corpus", "corpus.jsonl", "-o", "index", "--json", cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    document = json.loads(thresher("search", "index", "w1", "-k", "20", "--json", cwd=tmp_path).stdout)
    assert document["escalated"] is True
    assert {hit["tier"] for hit in document["hits"]} == {1, 2}
    first = thresher("search", "index", "w1", "-k", "20", "--tiers", "first", "--json", cwd=tmp_path)
    assert {hit["tier"] for hit in json.loads(first.stdout)["hits"]} == {1}
    (tmp_path / "q.tsv").write_text("1\tw1\n")
    run = thresher("search", "index", "--queries", "q.tsv", "--run", "out.run", "-k", "20", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert len((tmp_path / "out.run").read_text().splitlines()) == len(document["hits"])
    calibrated = thresher("calibrate", "tiers", "index", "--queries", "q.tsv", "--rate", "0", "--json", cwd=tmp_path)
    assert calibrated.returncode == 0, calibrated.stderr
    assert json.loads(calibrated.stdout)["queries"] == 1
    settled = thresher("search", "index", "w1", "-k", "1", cwd=tmp_path)
    assert "first tier searched" in settled.stdout
