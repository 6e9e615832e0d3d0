"""The pages agree with the code: packages and their order, where things are, public names; no build warning."""

import ast
import importlib
import importlib.util
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import thresher

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
SOURCE = Path(thresher.__file__).parent

if not DOCS.is_dir():
    pytest.skip("the documentation is in the checkout only", allow_module_level=True)


def first_column(page, heading):
    """The names in backquotes in the first column of the table under a heading."""
    text = (DOCS / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\|([^|]*)\|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_the_architecture_page_lists_every_package_in_the_order_of_imports():
    listed = first_column("architecture.md", "Packages and their order")
    tree = ast.parse((ROOT / "tests/unit/test_import.py").read_text(encoding="utf-8"))
    named = {n.targets[0].id: n.value for n in tree.body if isinstance(n, ast.Assign)}
    floors = ast.literal_eval(named["FLOORS"])
    place = {package: floor for floor, packages in enumerate(floors) for package in packages}
    there = {p.stem for p in SOURCE.iterdir() if p.suffix == ".py" or (p.is_dir() and (p / "__init__.py").is_file())}
    assert set(listed) == there - {"__init__", "__main__", "_lazy", "_version"}
    assert [place[name] for name in listed] == sorted(place[name] for name in listed)


def test_the_places_to_add_things_are_there():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8").split("## Where to add things")[1]
    for name in re.findall(r"`([a-z_]+/[a-z_/]*(?:\.py)?)`", text):
        assert (SOURCE / name).exists() or (ROOT / name).exists(), name


def test_what_the_architecture_page_locates_is_there():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8").split("\n## Where is what\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| [^|]+ \| `([^`]+)`[^|]* \|(?: `(\w+)`)? \|$", text, re.MULTILINE)
    assert len(rows) == text.count("\n| ") - 1
    for file, name in rows:
        path = SOURCE / file if (SOURCE / file).exists() else ROOT / file
        assert path.exists(), file
        if name:
            defined = {getattr(node, "name", "") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))}
            assert name in defined, f"{file} has no {name}"


def test_the_page_on_the_format_lists_every_file_of_the_layout():
    from thresher.index import FORMAT, layout

    wanted = re.findall(r"^\| `([\w./`, ]+)` \|", layout.__doc__, re.MULTILINE)
    listed = first_column("index-format.md", "A segment")
    missing = [name for row in wanted for name in row.replace("`", "").split(", ") if name not in listed]
    assert not missing
    assert f"| `index`, `segment` | {FORMAT} |" in (DOCS / "index-format.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """What Sphinx printed, and the names that the reference describes."""
    if importlib.util.find_spec("sphinx") is None or importlib.util.find_spec("myst_parser") is None:
        pytest.skip("the extra docs is not installed")
    place = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-b", "dummy", "-W", "--keep-going", "-q", "-d", place / "trees"]
    done = subprocess.run([*command, DOCS, place / "out"], capture_output=True, text=True, check=False)
    environment = pickle.loads((place / "trees" / "environment.pickle").read_bytes())  # noqa: S301  (made just now)
    return done, set(environment.domaindata["py"]["objects"])


def test_the_documentation_builds_without_a_warning(built):
    done, _ = built
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_in_the_reference(built):
    _, described = built
    short = {name.rpartition(".")[2] for name in described}
    for package in ("thresher", *(f"thresher.{p.parent.name}" for p in SOURCE.glob("*/__init__.py"))):
        if package == "thresher.cli":
            continue
        names = set(getattr(importlib.import_module(package), "__all__", ())) - {"__version__"}
        missing = {name for name in names if f"{package}.{name}" not in described}
        missing -= short if package == "thresher" else set()
        assert not missing, f"the reference lacks {sorted(missing)} of {package}"
