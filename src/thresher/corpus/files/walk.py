"""The files of a folder that are read as documents, in order of their paths, and what is passed over.

Passed over without a word, folders and files alike: what is hidden (a name that begins with a dot), what a `.gitignore`
in the folder names, `node_modules`, `__pycache__`, `_build`, `_static`, `_sources`, folders with a `pyvenv.cfg`
(environments) or a `CACHEDIR.TAG` (caches, build output), and what thresher wrote. Passed over and counted: files of
other formats, formats whose extra is not installed, links that lead nowhere or back into the folder. A link to a file
or folder elsewhere is followed. A file that is named itself is read whatever its folder says.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from thresher.corpus.files.gitignore import is_ignored, rules_of
from thresher.files import COMPRESSED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thresher.corpus.files.gitignore import Rule

Reads = Literal["markdown", "html", "rst", "text", "source", "pdf", "docx"]
_SUFFIXES: dict[Reads, str] = {
    "markdown": "md markdown mdown mkd mkdn mdx qmd rmd",
    "html": "html htm xhtml",
    "rst": "rst rest",
    "text": "txt text adoc asciidoc org textile pod",
    "pdf": "pdf",
    "docx": "docx",
}
_LANGUAGES = {
    "python": "py pyi", "javascript": "js mjs cjs jsx", "typescript": "ts tsx mts", "java": "java", "kotlin": "kt kts",
    "c": "c h", "c++": "cc cpp cxx hh hpp hxx", "c#": "cs", "go": "go", "rust": "rs", "ruby": "rb", "php": "php",
    "swift": "swift", "scala": "scala", "shell": "sh bash zsh fish", "perl": "pl pm", "lua": "lua", "r": "r",
    "julia": "jl", "sql": "sql", "haskell": "hs", "elixir": "ex exs", "erlang": "erl", "clojure": "clj cljs",
    "lisp": "el lisp scm", "dart": "dart", "zig": "zig", "nim": "nim", "ocaml": "ml mli", "fortran": "f90 f95",
    "proto": "proto", "graphql": "graphql", "terraform": "tf",
}  # fmt: skip
KINDS: dict[str, tuple[Reads, str]] = {
    **{f".{suffix}": (reads, reads) for reads, suffixes in _SUFFIXES.items() for suffix in suffixes.split()},
    **{f".{suffix}": ("source", name) for name, suffixes in _LANGUAGES.items() for suffix in suffixes.split()},
}
"""How a file is read, and its `file_type`, by suffix."""
NEEDS = {"pdf": "pypdf", "docx": "docx"}
"""Packages of the extra `files`, by what they read."""
_NAMED = re.compile(
    r"(?:readme|licen[cs]e|copying|copyright|changelog|changes|news|authors|contributing|contributors|install|todo|faq"
    r"|history|thanks|notice|hacking|release[-_]?notes)(?:[._-](?:debian|old|v?\d[\d.]*))*",
    re.IGNORECASE,
)
"""Names of text files that have no suffix."""
_FOLDERS = frozenset({"node_modules", "bower_components", "__pycache__", "_build", "_static", "_sources", "_downloads"})
_MARKS = ("pyvenv.cfg", "CACHEDIR.TAG")
_GENERATED = re.compile(r"(?:genindex(?:-.*)?|py-modindex|search|searchindex|modindex)\.html?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class File:
    """A file to read.

    Attributes:
        path: where it is.
        name: its path from the folder, with `/`.
        reads: which reader it needs.
        kind: its `file_type`.
    """

    path: Path
    name: str
    reads: Reads
    kind: str


@dataclass(slots=True)
class Walk:
    """What a walk met beside the files to read.

    Attributes:
        left_out: counts by reason.
        suffixes: counts of the files of other formats, and of those that need an extra, by suffix.
        lacking: counts of the files that need an extra, by suffix.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    suffixes: Counter[str] = field(default_factory=Counter)
    lacking: Counter[str] = field(default_factory=Counter)


def kind_of(name: str) -> tuple[Reads, str] | None:
    """How a file of this name is read, and its `file_type`; None for other files."""
    suffix = Path(name).suffix
    if suffix.lower() in COMPRESSED:
        inner = kind_of(name.removesuffix(suffix))
        return inner if inner is not None and inner[0] not in NEEDS else None
    if found := KINDS.get(suffix.lower()):
        return found
    return ("text", "text") if _NAMED.fullmatch(name) else None


def documents(root: Path, met: Walk, *, skip: bool = False) -> Iterator[File]:
    """The documents of a folder, or the one file that `root` is; counts the rest in `met`.

    Args:
        root: a folder or a file.
        met: takes the counts.
        skip: count folders that cannot be listed, in place of the error.

    Raises:
        OSError: a folder cannot be listed; names it.
    """
    if not root.is_dir():
        reads, kind = kind_of(root.name) or ("text", "text")
        yield from _readable(File(root, root.name, reads, kind), met)
        return
    walker = _Walker(root, met, skip=skip)
    yield from walker.folder(root, "", [], (_identity(root.stat()),))


def _readable(file: File, met: Walk) -> Iterator[File]:
    """The file, unless the extra that reads it is missing."""
    if file.reads in NEEDS and find_spec(NEEDS[file.reads]) is None:
        met.left_out["needs-extra-files"] += 1
        met.lacking[file.path.suffix.lower()] += 1
    else:
        yield file


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


class _Walker:
    def __init__(self, root: Path, met: Walk, *, skip: bool) -> None:
        self._real = Path(os.path.realpath(root))
        self._met, self._skip = met, skip
        self._followed: set[tuple[int, int]] = set()

    def folder(
        self, place: Path, name: str, levels: list[tuple[str, list[Rule]]], above: tuple[tuple[int, int], ...]
    ) -> Iterator[File]:
        """The documents below a folder of this name (relative, with a `/` at its end)."""
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:
            if not self._skip:
                raise
            self._met.left_out["unreadable-folder"] += 1
            return
        names = {entry.name for entry in entries}
        if name and (not names.isdisjoint(_MARKS) or ("manifest.json" in names and _is_artifact(place))):
            return
        if ".gitignore" in names:
            levels = [*levels, (name, _rules(place / ".gitignore"))]
        for entry in entries:
            if entry.name.startswith(".") or entry.name.endswith("~") or entry.name in _FOLDERS:
                continue
            yield from self._entry(entry, name, levels, above)

    def _entry(
        self,
        entry: os.DirEntry[str],
        name: str,
        levels: list[tuple[str, list[Rule]]],
        above: tuple[tuple[int, int], ...],
    ) -> Iterator[File]:
        """The documents of one entry of a folder."""
        path, full = Path(entry.path), name + entry.name
        try:
            status = entry.stat()
        except FileNotFoundError:
            self._met.left_out["broken-link"] += 1
            return
        except OSError as err:  # a link to itself
            if not entry.is_symlink():
                raise
            self._met.left_out["symlink-loop" if err.errno in _LOOPS else "broken-link"] += 1
            return
        folder = stat.S_ISDIR(status.st_mode)
        if is_ignored(full, levels, folder=folder):
            return
        if entry.is_symlink() and not self._leads_elsewhere(path, status, above, folder=folder):
            return
        if folder:
            yield from self.folder(path, f"{full}/", levels, (*above, _identity(status)))
        elif stat.S_ISREG(status.st_mode):
            yield from self._file(path, full)

    def _leads_elsewhere(
        self, path: Path, status: os.stat_result, above: tuple[tuple[int, int], ...], *, folder: bool
    ) -> bool:
        """Whether a link leads to what is not read under another name; counts it if not."""
        target = Path(os.path.realpath(path))
        if folder and (_identity(status) in above or self._real.is_relative_to(target)):
            self._met.left_out["symlink-loop"] += 1
            return False
        if target.is_relative_to(self._real) or _identity(status) in self._followed:
            self._met.left_out["linked-twice"] += 1
            return False
        self._followed.add(_identity(status))
        return True

    def _file(self, path: Path, name: str) -> Iterator[File]:
        found = kind_of(path.name)
        if found is None:
            self._met.left_out["other-format-file"] += 1
            self._met.suffixes[path.suffix.lower() or "no suffix"] += 1
        elif found[0] == "html" and _GENERATED.fullmatch(path.name):
            self._met.left_out["generated-file"] += 1
        else:
            yield from _readable(File(path, name, *found), self._met)


_LOOPS = (40, 62)
"""ELOOP of Linux and of macOS."""


def _is_artifact(folder: Path) -> bool:
    """Whether thresher wrote a folder: an index within the folder that it is built from is not a part of it."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and {"kind", "format", "version"} <= manifest.keys()


def _rules(path: Path) -> list[Rule]:
    try:
        return rules_of(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return []
