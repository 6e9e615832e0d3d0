"""Limits on the size and the shape of the package. Each failure lists what is over its limit."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

import thresher

MODULES = 480
FUNCTION_LINES = 60
LONG_FUNCTIONS = 0
LINES_WITH_ANY = 200
NAMES_AT_TOP_LEVEL = 20
PUBLIC_NAMES = 150
KERNEL_PARAMETERS = 8
WIDE_KERNELS = 0
REPEATED_BASE_NAMES = 0
MODULES_WITH_ALL = 0
CIRCLES = 0

SOURCE = Path(thresher.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
NAMES = {file: ".".join(("thresher", *file.relative_to(SOURCE).with_suffix("").parts)) for file in FILES}
NAMES = {file: name.removesuffix(".__init__") for file, name in NAMES.items()}
TREES = {NAMES[file]: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}
HOMES = ("thresher.errors", "thresher.records")
"""Modules whose `__all__` is public beside those of the packages."""


def listed(offenders: list[str], limit: int, goal: str) -> str:
    return "\n".join([f"{len(offenders)} {goal}, at most {limit} are allowed:", *offenders])


def functions() -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [(f"{m}.{n.name}", n) for m, tree in TREES.items() for n in ast.walk(tree) if isinstance(n, kinds)]


def public_of(tree: ast.Module) -> list[str] | None:
    """The names in a module's `__all__`, None where it has none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def test_there_are_few_modules():
    offenders = [f"{count:4} {package}" for package, count in Counter(
        file.relative_to(SOURCE).parts[0] for file in FILES
    ).most_common()]  # fmt: skip
    assert len(FILES) <= MODULES, "\n".join([f"{len(FILES)} modules, at most {MODULES} are allowed:", *offenders])


def test_functions_are_short():
    sizes = [(node.end_lineno - node.lineno + 1, name) for name, node in functions()]
    offenders = [f"{size:4} lines: {name}" for size, name in sorted(sizes, reverse=True) if size > FUNCTION_LINES]
    assert len(offenders) <= LONG_FUNCTIONS, listed(offenders, LONG_FUNCTIONS, f"functions over {FUNCTION_LINES} lines")


def test_kernels_take_structures_and_not_a_row_of_arrays():
    def compiled(node: ast.expr) -> bool:
        call = node.func if isinstance(node, ast.Call) else node
        return isinstance(call, ast.Name | ast.Attribute) and ast.unparse(call).split(".")[-1] in {"njit", "jit"}

    offenders = []
    for name, node in functions():
        count = len(node.args.args) + len(node.args.posonlyargs) + len(node.args.kwonlyargs)
        if count > KERNEL_PARAMETERS and any(map(compiled, node.decorator_list)):
            offenders.append(f"{count:3} parameters: {name}")
    goal = f"compiled functions with more than {KERNEL_PARAMETERS} parameters"
    assert len(offenders) <= WIDE_KERNELS, listed(sorted(offenders, reverse=True), WIDE_KERNELS, goal)


def test_no_base_name_comes_twice_in_a_package():
    by_package: dict[str, list[Path]] = {}
    for file in FILES:
        parts = file.relative_to(SOURCE).parts
        if len(parts) > 1 and file.name != "__init__.py":
            by_package.setdefault(f"{parts[0]}/**/{file.name}", []).append(file)
    offenders = [where for where, files in by_package.items() if len(files) > 1]
    assert len(offenders) <= REPEATED_BASE_NAMES, listed(offenders, REPEATED_BASE_NAMES, "base names that come twice")


def test_types_are_named():
    counts = Counter({
        NAMES[file]: sum(bool(re.search(r"\bAny\b", line)) for line in file.read_text(encoding="utf-8").splitlines())
        for file in FILES
    })  # fmt: skip
    offenders = [f"{count:4} {name}" for name, count in counts.most_common() if count]
    goal = f"lines that hold `Any`, at most {LINES_WITH_ANY} are allowed:"
    assert counts.total() <= LINES_WITH_ANY, "\n".join([f"{counts.total()} {goal}", *offenders])


def test_few_names_are_public():
    top = public_of(TREES["thresher"]) or []
    assert len(top) <= NAMES_AT_TOP_LEVEL, listed(top, NAMES_AT_TOP_LEVEL, "names at top level")
    packages = {NAMES[file] for file in FILES if file.name == "__init__.py"}
    by_module = {name: public_of(tree) for name, tree in TREES.items()}
    public = {name for module in (*packages, *HOMES) for name in by_module[module] or ()}
    per_module = [f"{len(by_module[m] or ()):4} {m}" for m in sorted(packages | set(HOMES)) if by_module[m]]
    assert len(public) <= PUBLIC_NAMES, "\n".join(
        [f"{len(public)} public names, at most {PUBLIC_NAMES} are allowed:", *per_module]
    )
    others = [name for name, names in by_module.items() if names is not None and name not in packages | set(HOMES)]
    assert len(others) <= MODULES_WITH_ALL, listed(others, MODULES_WITH_ALL, "internal modules with __all__")


def imported_at_module_level(module: str, tree: ast.Module) -> set[str]:
    """The modules of thresher that importing `module` imports; what only type checkers see is left out."""
    found: set[str] = set()
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If):
            pending += node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else [*node.body, *node.orelse]
        elif isinstance(node, ast.Try):
            pending += [*node.body, *node.orelse, *node.finalbody, *(s for h in node.handlers for s in h.body)]
        elif isinstance(node, ast.With | ast.ClassDef):
            pending += node.body
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in TREES else node.module)
    return {name for name in found if name in TREES and not module.startswith(f"{name}.") and name != module}


def test_no_module_imports_itself_through_others():
    graph = {module: imported_at_module_level(module, tree) for module, tree in TREES.items()}
    circles: list[str] = []
    state: dict[str, int] = {}

    def visit(module: str, path: list[str]) -> None:
        state[module] = 1
        for other in sorted(graph[module]):
            if state.get(other) == 1:
                circles.append(" -> ".join([*path[path.index(other) :], other]))
            elif other not in state:
                visit(other, [*path, other])
        state[module] = 2

    for module in graph:
        if module not in state:
            visit(module, [module])
    assert len(circles) <= CIRCLES, listed(circles, CIRCLES, "import circles")


def test_an_error_about_a_missing_package_names_an_extra_that_exists():
    document = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    extras = set(document["project"]["optional-dependencies"])
    named = {
        (module, keyword.value.value)
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require"
        for keyword in node.keywords
        if keyword.arg == "extra" and isinstance(keyword.value, ast.Constant)
    }
    assert named
    assert [f"{module}: {extra}" for module, extra in sorted(named) if extra not in extras] == []
