"""Technical documents that machines have: docstrings, topics of the language, manual pages, files under /usr/share/doc.

Text is taken as it stands, with its headings, underlines, tables, code and indentation. Each document names its
*family* (a package or module: what must not be parted between training and measuring) and the licence that its
package states. Only what is under a permissive licence may be trained on.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.corpus.installed import InstalledDocumentation

if TYPE_CHECKING:
    from collections.abc import Iterator

PERMISSIVE = re.compile(
    r"(?:Expat|MIT|BSD|Apache|ISC|Zlib|PSF|Python|Artistic|public[- ]domain|Unlicense|CC0|curl|X11|Boost|BSL|0BSD"
    r"|NCSA|HPND|Historical Permission|bzip2|OpenSSL|\dBSD)",
    re.IGNORECASE,
)
_NOT = re.compile(r"GPL|Affero|Proprietary|NonCommercial|-NC|MPL|CC-BY", re.IGNORECASE)
LARGEST = 400_000
"""Files of more characters are cut: documentation has many short texts and a few endless ones."""
DOCSTRINGS = 0.15
"""The share of docstrings that is read: there are tens of thousands."""
FILES = 12
"""Files of a family that are read."""
_MARKUP = (".md", ".rst", ".txt", ".adoc", ".md.gz", ".rst.gz", ".txt.gz")
_PLAIN = re.compile(r"(?:README|NEWS|FAQ|CHANGES|CHANGELOG|TODO|HACKING|INSTALL)[\w.-]*?(?:\.gz)?$", re.IGNORECASE)
_LEFT_OUT = re.compile(
    r"google-cloud|/copyright|LICENSE|COPYING|AUTHORS|/tests?/|top_level|entry_points|SOURCES|RECORD"
)


@dataclass(frozen=True, slots=True)
class Document:
    """A text.

    Attributes:
        name: of what it describes, as people would say it: `statistics.median`, `git commit`.
        source: `docstring`, `topic`, `manual` or `file`.
        family: package or module.
        licence: as the package states it; empty where it does not.
        text: the text.
    """

    name: str
    source: str
    family: str
    licence: str
    text: str

    @property
    def may_train(self) -> bool:
        """Whether the licence is known to permit whatever one likes."""
        return PERMISSIVE.search(self.licence) is not None and not _NOT.search(self.licence)


def documents(manuals: int = 400) -> Iterator[Document]:
    """All of them, in an order that hangs on this machine's packages alone; of manual pages at most `manuals`."""
    yield from _docstrings()
    yield from _manuals(manuals)
    yield from _files()


def _docstrings() -> Iterator[Document]:
    """Docstrings and topics; a module of the standard library or a package is a family."""
    reader = InstalledDocumentation()
    for docno, _, text in reader.documents(Counter()):
        top, _, rest = docno.partition(".")
        if top != "topics" and sha256(docno.encode()).digest()[0] >= 256 * DOCSTRINGS:
            continue
        if top == "topics":
            yield Document(f"python {rest}", "topic", f"topics.{rest}", "PSF-2.0", text)
        elif top in sys.stdlib_module_names:
            yield Document(docno, "docstring", docno if top == "email" else top, "PSF-2.0", text)
        else:
            # the parts of a large package are families: scipy.stats, sklearn.linear_model
            family = ".".join(docno.split(".")[:2]) if rest.count(".") else top
            yield Document(docno, "docstring", family, _licence_of_module(top), text)


@cache
def _modules() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


@cache
def _licence_of_module(module: str) -> str:
    """Licence of the distribution that a module comes from."""
    for name in _modules().get(module, ()):
        return _licence_of_metadata(importlib.metadata.metadata(name))
    return ""


def _licence_of_metadata(said: Any) -> str:
    """The expression, else the classifiers, else the first line of the free text."""
    expression = said.get("License-Expression") or ""
    classifiers = " and ".join(
        line.rpartition("::")[2].strip() for line in said.get_all("Classifier") or () if line.startswith("License ::")
    )
    return expression or classifiers or (said.get("License") or "").strip().partition("\n")[0]


def _manuals(most: int) -> Iterator[Document]:
    """Manual pages as a terminal shows them."""
    if shutil.which("groff") is None:
        return
    files = [
        file
        for section in ("man1", "man5", "man7", "man8")
        for file in Path("/usr/share/man", section).glob("*.gz")
        if not file.name.startswith(("gcloud", "g++-", "x86_64", "kubectl")) and not file.is_symlink()
    ]
    ranked = sorted(files, key=lambda file: sha256(file.name.encode()).digest())
    for file in sorted(ranked[:most]):
        with gzip.open(file) as stream:
            source = stream.read()
        if source.count(b"\n") < 40 or len(source) > LARGEST:
            continue
        command = ["groff", "-mandoc", "-Tutf8", "-P-cbou", "-rLL=84n", "-rHY=0"]
        made = subprocess.run(command, input=source, capture_output=True, check=False)
        text = re.sub(r"\n{3,}", "\n\n", made.stdout.decode("utf-8", "replace")).strip("\n")
        name = file.name.partition(".")[0]
        package = _owners().get(str(file), "")
        yield Document(name.replace("-", " "), "manual", f"manual:{package or name}", _licence_of_debian(package), text)


@cache
def _owners() -> dict[str, str]:
    """The Debian package of each file under /usr/share."""
    found = {}
    for file in sorted(Path("/var/lib/dpkg/info").glob("*.list")):
        package = file.name.removesuffix(".list").partition(":")[0]
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("/usr/share/"):
                found[line] = package
    return found


@cache
def _licence_of_debian(package: str) -> str:
    """Licence of `Files: *` in a package's machine-readable copyright file."""
    file = Path("/usr/share/doc", package, "copyright")
    if not package or not file.is_file():
        return ""
    for stanza in file.read_text(encoding="utf-8", errors="replace").split("\n\n"):
        if re.search(r"^Files:\s*\*\s*$", stanza, re.MULTILINE):
            found = re.search(r"^License:[ \t]*(\S[^\n]*)", stanza, re.MULTILINE)
            return found[1] if found else ""
    return ""


def _files() -> Iterator[Document]:
    """Markdown, reStructuredText and plain text that packages bring."""
    roots = [Path("/usr/share/doc"), *sorted(Path("/usr/share").glob("cmake-*/Help"))]
    roots += [Path("/usr/lib/node_modules"), Path("/usr/local/lib/node_modules")]
    roots += sorted({Path(sysconfig.get_paths()["purelib"]), *Path(sys.base_prefix).glob("lib/python3*/site-packages")})
    seen: set[bytes] = set()
    taken: Counter[str] = Counter()
    for root in roots:
        for file in sorted(root.rglob("*")):
            fits = file.name.endswith(_MARKUP) or _PLAIN.match(file.name)
            if not fits or _LEFT_OUT.search(str(file)) or file.is_symlink() or not file.is_file():
                continue
            text = _read(file)
            digest = sha256(text.encode()).digest()
            if len(text) < 400 or digest in seen:
                continue
            seen.add(digest)
            family, licence = _family(root, file)
            taken[family] += 1
            if taken[family] > FILES:
                continue
            stem = file.name.removesuffix(".gz").rpartition(".")[0] or file.name
            named = stem if family in stem or stem.isupper() else f"{family.rpartition('/')[2]} {stem}"
            name = f"{family} {stem.lower()}" if stem.isupper() else named
            yield Document(re.sub(r"[-_/]", " ", name), "file", f"file:{family}", licence, text)


def _read(file: Path) -> str:
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        return content[:LARGEST].decode("utf-8", "ignore").replace("\r\n", "\n")
    except (OSError, EOFError):
        return ""


def _family(root: Path, file: Path) -> tuple[str, str]:
    """(package, licence) of a file."""
    inside = file.relative_to(root).parts
    if root.name == "node_modules":
        described = root / inside[0]
        manifest = described / "package.json"
        said = json.loads(manifest.read_text(encoding="utf-8")).get("license", "") if manifest.is_file() else ""
        return inside[0] if len(inside) < 4 else f"{inside[0]}/{inside[-2]}", str(said)
    if root.name == "site-packages":
        top = inside[0].partition("-")[0].lower()
        family = f"{top}/{inside[2]}" if len(inside) > 3 else top
        for place in root.glob("*.dist-info"):
            if place.name.partition("-")[0].lower() == top:
                said = importlib.metadata.PathDistribution(place).metadata
                return family, _licence_of_metadata(said)
        return family, ""
    if root.name == "Help":
        return f"cmake/{file.stem[:12]}", _licence_of_debian("cmake-data")
    return inside[0], _licence_of_debian(inside[0])
