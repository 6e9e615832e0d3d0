"""Lets the tests here import what they share, and gives them a process that forks children."""

import sys
from pathlib import Path

import pytest

from eval.forker import Forker

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session")
def forker():
    """A warm process that forks a child for each job of `living_jobs`."""
    with Forker("living_jobs:warm_up") as process:
        yield process
