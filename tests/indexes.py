"""Where the files of a small index are, for tests that look at them or damage them."""

from pathlib import Path

from thresher.artifact import load_manifest
from thresher.index.commit import read_commit


def segment_of(index: Path, number: int = 0) -> Path:
    """The folder of one segment of an index."""
    return index / read_commit(index).segments[number].folder


def encoder_of(index: Path) -> Path:
    """The folder of the only query encoder of an index."""
    (folder,) = (index / "encoders").iterdir()
    return folder


def files_of(index: Path) -> dict[str, str]:
    """The sha256 of every file of an index with one segment: names within the segment, or within the index."""
    commit = read_commit(index)
    inner = load_manifest(segment_of(index)).files
    outer = {name: entry for name, entry in commit.files.items() if not name.startswith("segments/")}
    return {name: entry["sha256"] for name, entry in {**inner, **outer}.items()}
