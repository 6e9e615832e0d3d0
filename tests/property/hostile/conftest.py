"""Lets the tests here import what they share, and keeps their calls off the network."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with one small file or artifact of every kind."""
    from hostile_place import fill

    return fill(tmp_path_factory.mktemp("hostile-place"))


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """An empty working directory inside `tmp_path`, with damaged files in it; home and cache are beside it."""
    from hostile_place import damage

    folder = tmp_path / "inside" / "scratch"
    damage(folder)
    monkeypatch.chdir(folder)
    for name in ("HOME", "XDG_CACHE_HOME", "THRESHER_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "inside" / "home"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("THRESHER_DATA", raising=False)
    return folder
