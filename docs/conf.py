"""Sphinx configuration: the pages of this folder, the result tables, and the API reference from the docstrings.

Docstrings are plain text with backticks and indented examples, in the Google layout. Result tables of `eval/results`
are copied into the site, so that links to them work. `reference.py` writes the pages of the API reference.
"""

import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from thresher import __version__

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from reference import write_reference  # noqa: E402

RESULTS = HERE.parent / "eval" / "results"
LONGEST = 80
"""Rows of a table on a page, its head included."""

project = "thresher"
author = "the thresher authors"
release = version = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
default_role = "code"
html_theme = "furo"
html_title = f"thresher {version}"
html_copy_source = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
suppress_warnings = [
    "misc.highlighting_failure",
    "ref.python",  # two packages may use one name for different things
]

autodoc_mock_imports = [name for name in ("torch", "transformers", "sentence_transformers") if find_spec(name) is None]
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

_SECTION = re.compile(r"^\s*(Args|Attributes|Raises|Returns|Yields):\s*$")
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def as_restructured_text(app, what, name, obj, options, lines):
    """Turn plain text into reStructuredText: what is indented after a blank line is code, and so are backticks."""
    if what == "data" and obj.__doc__ == type(obj).__doc__:
        lines.clear()  # the docstring of tuple or dict
    out, literal, section = [], None, False
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.strip():
            section = bool(_SECTION.match(line)) or (section and indent > 0)
            if literal is not None and indent < literal:
                literal = None
            if literal is None and not section and indent >= 4 and number and not lines[number - 1].strip():
                out += ["::", ""]
                literal = indent
        out.append(line if literal is not None else _escaped(line))
    lines[:] = out


def _escaped(line):
    parts = _CODE.split(line)
    for place, part in enumerate(parts):
        if place % 2:
            follows = parts[place + 1][:1]
            parts[place] = f"``{part.strip()}``" + ("\\ " if follows.isalnum() else "")
        else:
            parts[place] = re.sub(r"([|*])", r"\\\1", part)
    return "".join(parts)


def _shortened(file):
    """A page of results; of a table too long for a page, the first rows."""
    lines = file.read_text(encoding="utf-8").splitlines()
    rows = [number for number, line in enumerate(lines) if line.startswith("|")]
    if len(rows) > LONGEST:
        cut = rows[LONGEST]
        left = f"The first {LONGEST - 2} of {len(rows) - 2} rows; `eval/results/{file.stem}.json` has them all."
        lines = [*lines[:cut], "", left, *(line for line in lines[cut:] if not line.startswith("|"))]
    return "\n".join(lines) + "\n"


def copy_results(app):
    """Bring tables and plots of `eval/results` into the source folder, where Sphinx finds them."""
    target = HERE / "results"
    if not RESULTS.is_dir():
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    names = []
    for file in sorted([*RESULTS.glob("*.md"), *RESULTS.glob("*.svg"), *RESULTS.glob("*.png")]):
        if file.suffix != ".md":
            shutil.copyfile(file, target / file.name)
            continue
        (target / file.name).write_text(_shortened(file), encoding="utf-8")
        names.append(file.stem)
    contents = "\n".join(names)
    text = f"# Results\n\nEach table says how it was made.\n\n```{{toctree}}\n:maxdepth: 1\n\n{contents}\n```\n"
    (target / "index.md").write_text(text, encoding="utf-8")


def link_results(app, docname, source):
    """Point links to `eval/results` at the copies."""
    up = "../" * docname.count("/")
    source[0] = re.sub(r"\((?:\.\./)+eval/results/", f"({up}results/", source[0])


def setup(app):
    """Connect the above."""
    app.connect("builder-inited", copy_results)
    app.connect("builder-inited", lambda _: write_reference(HERE / "api"))
    app.connect("source-read", link_results)
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)
