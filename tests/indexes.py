"""Where the files of a small index are, for tests that look at them or damage them."""

from pathlib import Path

from thresher.index.commit import read_commit


def segment_of(index: Path, number: int = 0) -> Path:
    """The folder of one segment of an index."""
    return index / read_commit(index).segments[number].folder


def encoder_of(index: Path) -> Path:
    """The folder of the only query encoder of an index."""
    (folder,) = (index / "encoders").iterdir()
    return folder
