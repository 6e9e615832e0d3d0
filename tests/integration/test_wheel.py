"""What the wheel holds: the package, its weights and its recipes, and nothing of the repository around them."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("hatchling", reason="builds the wheel")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = target.glob("*.whl")
    with zipfile.ZipFile(file) as packed:
        yield packed


def relative(folder: str, pattern: str) -> set[str]:
    files = (ROOT / folder).rglob(pattern)
    return {f.relative_to(ROOT / folder).as_posix() for f in files if f.is_file() and "__pycache__" not in f.parts}


def test_the_wheel_holds_the_package_whole(wheel):
    held = {name.removeprefix("thresher/") for name in wheel.namelist() if name.startswith("thresher/")}
    assert relative("src/thresher", "*") <= held
    weights = {name for name in held if name.startswith("models/weights/")}
    for model in ("quality-embedded", "thresher-context", "thresher-mini"):
        assert any(name.startswith(f"models/weights/{model}/") for name in weights)


def test_the_wheel_holds_every_recipe_that_ships(wheel):
    from thresher.build.recipe import shipped

    held = {name.removeprefix("thresher/recipes/") for name in wheel.namelist() if name.startswith("thresher/recipes/")}
    wanted = {f"{folder}/{name}.toml" for folder in ("indexes", "eval") for name in shipped(folder)}
    assert "indexes/bm25.toml" in wanted
    assert held == wanted


def test_the_wheel_holds_nothing_of_training_evaluation_and_tests(wheel):
    names = wheel.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"thresher"}
    assert not [name for name in names if name.startswith("thresher/recipes/") and not name.endswith(".toml")]
    assert not [name for name in names if "/tests/" in name or "__pycache__" in name or "/training/" in name]


def test_the_metadata_names_every_extra_and_where_the_project_lives(wheel):
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    text = wheel.read(metadata).decode()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in project["optional-dependencies"]:
        assert f"Provides-Extra: {extra}\n" in text
    for label in ("Documentation", "Source", "Changelog"):
        assert f"Project-URL: {label}, https://" in text
