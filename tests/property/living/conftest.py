"""Lets the tests here import what they share, and gives them a process that forks children."""

import sys
from pathlib import Path

import pytest

from eval.forker import Forker
from tests.word_pairs import registered

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="module", autouse=True)
def installed():
    """The encoder that one of the variants names; children that the forker makes have it as well."""
    with pytest.MonkeyPatch.context() as patch:
        registered(patch)
        yield


@pytest.fixture(scope="session")
def forker():
    """A warm process that forks a child for each job of `living_jobs`."""
    with Forker("living_jobs:warm_up") as process:
        yield process
