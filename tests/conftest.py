"""What every test may ask for: the research collections where they are, and quiet, repeatable Hypothesis."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "thresher",
    deadline=None,  # the first example of a kernel compiles it
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=True,
    max_examples=int(os.environ.get("THRESHER_EXAMPLES", "50")),
)
settings.load_profile("thresher")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of research collections that THRESHER_DATA names; the test is skipped where there is none."""
    value = os.environ.get("THRESHER_DATA")
    if not value:
        pytest.skip("THRESHER_DATA is not set: the research collections are not on this machine")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"THRESHER_DATA={value} is not a directory")
    return path
