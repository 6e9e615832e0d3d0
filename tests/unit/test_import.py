"""Importing thresher loads the standard library only; modules import earlier rooms only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import thresher

HEAVY = ("numpy", "numba", "torch", "pandas", "pydantic", "typer", "scipy", "tqdm")

FLOORS = [
    ["_version"],
    ["_lazy"],
    ["errors"],
    ["checks"],
    ["records"],
    ["argument_types"],
    ["arguments"],
    ["texts"],
    ["fusion"],
    ["ranking"],
    ["registry"],
    ["files"],
    ["durable"],
    ["publish"],
    ["mapping"],
    ["manifest"],
    ["artifact"],
    ["text"],
    ["corpus"],
    ["models"],
    ["llm"],
    ["evaluate"],
    ["encode"],
    ["index"],
    ["vectors"],
    ["quality"],
    ["prune"],
    ["build"],
    ["search"],
    ["rerank"],
    ["context"],
    ["pipeline"],
    ["certify"],
    ["experiment"],
    ["report"],
    ["compress"],
    ["distributed"],
    ["serve"],
    ["integrations"],
    ["cli"],
    ["__main__"],
]
ORDER = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
SOURCE = Path(thresher.__file__).parent


def loaded_after(statement: str) -> set[str]:
    script = f"{statement}; import sys; print(' '.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return {name.partition(".")[0] for name in out.split()}


def test_importing_thresher_loads_nothing_heavy():
    assert loaded_after("import thresher").isdisjoint(HEAVY)


def test_help_loads_no_numerics():
    lines = [
        "import sys",
        "from thresher.cli import main",
        "sys.argv = ['thresher', '--help']",
        "sys.stdout, out = sys.stderr, sys.stdout",
        "try: main()",
        "except SystemExit: sys.stdout = out",
    ]
    loaded = loaded_after("\n".join(lines) + "\npass")
    assert loaded.isdisjoint({"numpy", "numba", "torch", "pydantic", "scipy"})


def test_public_names_exist():
    for name in thresher.__all__:
        assert getattr(thresher, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = thresher.nonsense


def imports_of(file: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [f"thresher.{a.name}" for a in node.names] if node.module == "thresher" else [node.module]
        elif isinstance(node, ast.Import):
            modules = [a.name for a in node.names]
        rooms |= {m.split(".")[1] for m in modules if m.startswith("thresher.") and m.count(".") >= 1}
    return rooms


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda f: f.relative_to(SOURCE).as_posix())
def test_nothing_imports_upward(file):
    room = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    assert room in ORDER, f"{room} has no floor: add it to the plan"
    for other in imports_of(file) - {room}:
        if other in ORDER:
            assert ORDER[other] < ORDER[room], f"{file.name} imports {other}, which stands above {room}"
