"""Write the pages of the API reference: one a package, from its `__all__`. Other names are internal."""

from __future__ import annotations

import inspect
import pkgutil
import shutil
from importlib import import_module
from typing import TYPE_CHECKING

import thresher

if TYPE_CHECKING:
    from pathlib import Path

NOT_FOR_CALLERS = {"cli", "_lazy", "_version", "__main__"}


def public() -> dict[str, list[str]]:
    """The public names of each package and module, in the order of the table in `architecture.md`; `thresher` first."""
    names = {"thresher": list(thresher.__all__)}
    for module in sorted(pkgutil.iter_modules(thresher.__path__), key=lambda module: module.name):
        if module.name not in NOT_FOR_CALLERS:
            found = getattr(import_module(f"thresher.{module.name}"), "__all__", [])
            names |= {f"thresher.{module.name}": list(found)} if found else {}
    return names


def write_reference(target: Path) -> None:
    """Replace the folder by one page a package, and an index of them."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    names = public()
    elsewhere = {name for package, found in names.items() if package != "thresher" for name in found}
    for package, found in names.items():
        shown = [name for name in found if package != "thresher" or name not in elsewhere]
        shown = [name for name in shown if not name.startswith("__")]
        lines = [f"# {package}", "", "```{eval-rst}", f".. automodule:: {package}", "   :no-members:", ""]
        for name in sorted(shown):
            lines.append(f".. {directive(package, name)}:: {package}.{name}")
            lines += inherited(package, name, {*elsewhere, *thresher.__all__})
        (target / f"{package}.md").write_text("\n".join([*lines, "```", ""]), encoding="utf-8")
    rows = [f"| [`{package}`]({package}.md) | {links(package, found)} |" for package, found in names.items()]
    head = [
        "# API reference",
        "",
        "A name that is listed here is public; everything else may change in any release.",
        "",
    ]
    tree = ["", "```{toctree}", ":hidden:", "", *names, "```", ""]
    text = "\n".join([*head, "| package | public names |", "|---|---|", *rows, *tree])
    (target / "index.md").write_text(text, encoding="utf-8")


def links(package: str, names: list[str]) -> str:
    """The names of a package, separated by commas."""
    return ", ".join(f"`{name}`" for name in sorted(names) if not name.startswith("__"))


def inherited(package: str, name: str, public: set[str]) -> list[str]:
    """The option that shows, with a class, what it has from classes of thresher that have no page; none for others."""
    try:
        value = getattr(import_module(package), name)
    except ImportError:
        return []
    bases = value.__mro__[1:] if inspect.isclass(value) else ()
    internal = [b for b in bases if b.__module__.startswith("thresher.") and b.__name__ not in public]
    others = dict.fromkeys(base.__name__ for base in bases if base not in internal)
    return [f"   :inherited-members: {', '.join(others)}"] if internal else []


def directive(package: str, name: str) -> str:
    """The autodoc directive for a name; by its spelling where the package that it needs is not installed."""
    try:
        value = getattr(import_module(package), name)
    except ImportError:
        return "autoclass" if name[:1].isupper() else "autofunction"
    if inspect.isclass(value):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if callable(value) else "autodata"
