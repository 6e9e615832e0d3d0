"""`thresher calibrate context` at the command line."""

import json

import pytest
from typer.testing import CliRunner

from thresher.cli.calibrate import app
from thresher.context import ContextPruner

TEXT = "Radium was found in 1898. Marie Curie found radium in Paris. It glows faintly blue."
QUERY = "who found radium in paris"


def invoke(*args):
    return CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)


@pytest.fixture
def labelled(tmp_path):
    """Five queries answered by the second sentence, one by the first, four by nothing."""
    rows = [{"query": QUERY, "passage": TEXT, "answers": [[26, 37]]}] * 5
    rows += [{"query": QUERY, "passage": TEXT, "answers": [[0, 6]]}]
    rows += [{"query": QUERY, "passage": "Caves are blue. Moss is green.", "answers": []}] * 4
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_calibration_finds_the_threshold_at_which_the_goal_is_kept(labelled):
    first, second, _ = ContextPruner("lexical").score(QUERY, [TEXT]).passages[0].scores
    assert 0 < first < second
    strict = json.loads(invoke("context", labelled, "--goal", "0.8", "-m", "lexical", "--json").stdout)
    assert second - 1e-4 < strict["threshold"] <= second
    assert strict["answer_kept"] == pytest.approx(5 / 6)
    lenient = json.loads(invoke("context", labelled, "--goal", "1", "-m", "lexical", "--json").stdout)
    assert first - 1e-4 < lenient["threshold"] <= first
    assert lenient["answer_kept"] == 1.0
    assert 0 < lenient["pruned"] < strict["pruned"]
    assert lenient["queries"] == 6
    for document in (strict, lenient):
        assert second - 1e-4 < document["confidence"]["min_confidence"] <= second
        assert (document["confidence"]["answered"], document["confidence"]["withheld"]) == (1.0, 1.0)


def test_what_is_found_is_printed_as_keys_of_a_recipe(labelled):
    out = invoke("context", labelled, "-m", "lexical").stdout
    assert "threshold = 0." in out and "of the answers of 6 queries" in out
    assert "min_confidence = 0." in out and "withholds 100% of the 4 without" in out
